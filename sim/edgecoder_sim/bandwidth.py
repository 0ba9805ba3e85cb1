"""Files on the wire: flows that share access links max-min fairly, in whole bytes a quantum.

It decides what share of its links each flow gets, and when its last byte arrives. Who sends what to whom, in which
pieces, is the business of the caller. `FlowNetwork` runs on the kernel.

Max-min fairness and progressive filling: Bertsekas and Gallager, Data Networks (2nd edition, 1992), 6.5.2.

Fidelity boundary: only access links are ever full, and a flow has its share from its first byte: no TCP. Shares change
at multiples of the quantum, and only where a link that was full lost or got a flow among others. Between two of them a
flow that starts gets what its two links have left over, first come, first served (so one that follows another on the
same links takes over its share at once); what a flow leaves over when it ends goes to such starters only. A link whose
capacity changes keeps its flows' shares until the next multiple.
Capacities are rounded down to whole bytes a quantum: below 20 B/s, at the default of 50 ms, there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgecoder_sim.kernel import Kernel

QUANTUM_US: Final = 50_000
"""What a change of shares is late by at most; short beside transfers of seconds."""
UNCAPPED: Final = (1 << 62) // 1_000_000
"""Bytes a second that no link has."""
SECOND_US: Final = 1_000_000
_SIZE_LIMIT: Final = 1 << 62
PLANNED_QUANTA: Final = 20
"""Finishes are planned for so many quanta at once, or up to the first one where that is later."""

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
OnDone = Callable[["Flow"], object]


def progressive_filling(src: Ints, dst: Ints, cap: Ints, up: Ints, down: Ints) -> Ints:
    """Max-min fair shares in whole bytes a quantum, of the same shape as `src`.

    Flow i goes from node `src[i]` to `dst[i]` and takes at most `cap[i]`; node n sends at most `up[n]` and receives at
    most `down[n]`. All are int64; `cap`, `up` and `down` are bytes a quantum, 0 to 2**62.

    No link is over its capacity. A flow below its cap crosses a link that is used to the last byte and on which no
    flow has over one byte more; that is max-min fairness in whole bytes. The bytes that even division leaves over on
    a link go one each to the first of its flows in the order of (src, dst, cap, position), so that the order of the
    arguments matters between equal flows only.
    """
    order = np.lexsort((cap, dst, src))
    ends = np.concatenate((src[order], dst[order] + len(up)))
    links, link_of_end = np.unique(ends, return_inverse=True)
    uplinks = int(np.searchsorted(links, len(up)))
    left = np.concatenate((up[links[:uplinks]], down[links[uplinks:] - len(up)]))
    share = np.empty(len(src), dtype=np.int64)
    share[order] = _fill(link_of_end[: len(src)], link_of_end[len(src) :], cap[order], left)
    return share


def _fill(first: Ints, second: Ints, cap: Ints, left: Ints) -> Ints:
    """The shares of flows in their final order; flow i crosses the links `first[i]` and `second[i]`. Uses up `left`.

    A link's level is what it has for each of its open flows. Levels never fall, because what freezes takes no more
    than its part. So every link that is the lowest for all its flows may freeze them now, not only the lowest of all.
    """
    share = np.zeros(len(cap), dtype=np.int64)
    open_flows = np.arange(len(cap))
    while len(open_flows):
        a, b, most = first[open_flows], second[open_flows], cap[open_flows]
        count = np.bincount(a, minlength=len(left)) + np.bincount(b, minlength=len(left))
        level = left // np.maximum(count, 1)
        part = np.minimum(level[a], level[b])
        frozen = most <= part
        if frozen.any():
            part = most
        else:
            tight = count > 0
            tight[a[part < level[a]]] = False
            tight[b[part < level[b]]] = False
            spare = left - count * level
            part = part + _hand_out(a, b, level[a] == part, level[b] == part, spare, tight[a] | tight[b])
            full = tight & (spare == 0)
            frozen = full[a] | full[b]
        share[open_flows[frozen]] = part[frozen]
        np.subtract.at(left, a[frozen], part[frozen])
        np.subtract.at(left, b[frozen], part[frozen])
        open_flows = open_flows[~frozen]
    return share


def _hand_out(a: Ints, b: Ints, binds_a: Flags, binds_b: Flags, spare: Ints, wants: Flags) -> Ints:
    """Give one byte to each flow that wants it, in order, while the links that bind it have `spare`, which is used up.

    This is the sequential rule, many flows at a time: who fits even if all before it are served is served; who finds
    a link empty is not; the others wait for the next round (Blelloch et al., Internally Deterministic Parallel
    Algorithms Can Be Fast, PPoPP 2012).
    """
    extra = np.zeros(len(a), dtype=np.int64)
    waiting = np.flatnonzero(wants)
    while len(waiting):
        wa, wb, bound_a, bound_b = a[waiting], b[waiting], binds_a[waiting], binds_b[waiting]
        served = (~bound_a | (_rank(wa, bound_a) < spare[wa])) & (~bound_b | (_rank(wb, bound_b) < spare[wb]))
        extra[waiting[served]] = 1
        np.subtract.at(spare, wa[served & bound_a], 1)
        np.subtract.at(spare, wb[served & bound_b], 1)
        refused = (bound_a & (spare[wa] == 0)) | (bound_b & (spare[wb] == 0))
        waiting = waiting[~served & ~refused]
    return extra


def _rank(links: Ints, counts: Flags) -> Ints:
    """How many earlier entries that count have the same link."""
    order = np.argsort(links, kind="stable")
    grouped = links[order]
    before: Ints = np.cumsum(counts[order]) - counts[order]
    starts = np.searchsorted(grouped, grouped)
    rank = np.empty(len(links), dtype=np.int64)
    rank[order] = before - before[starts]
    return rank


class Flow:
    """A file on its way from node `src` to node `dst`, made by `FlowNetwork.start`."""

    __slots__ = ("arrived_bytes", "dst", "on_done", "row", "size_bytes", "src")

    def __init__(self, row: int, src: int, dst: int, size_bytes: int, on_done: OnDone) -> None:
        self.row = row
        """Its place in the network's table; -1 once it has ended."""
        self.src = src
        self.dst = dst
        self.size_bytes = size_bytes
        self.on_done = on_done
        self.arrived_bytes = 0
        """Bytes that had arrived when it ended. Before that, ask `FlowNetwork.progress`."""


class FlowNetwork:
    """The flows of a world. It sleeps while nothing flows, and wakes only where something ends or changes.

    Bytes are counted in parts of 1/quantum_us, so that any share times any time is whole, nothing is lost to rounding,
    and a finish is the first microsecond at which all bytes are there, rounded up to the kernel's tick.
    """

    def __init__(self, kernel: Kernel, quantum_us: int = QUANTUM_US) -> None:
        """An empty network. `quantum_us` is a multiple of the kernel's tick."""
        if quantum_us < 1 or quantum_us % kernel.tick_us:
            raise ValueError(f"quantum_us is {quantum_us}; a quantum is a multiple of the tick, {kernel.tick_us} us")
        self._kernel = kernel
        self._quantum_us = quantum_us
        self._up: Ints = np.zeros(0, dtype=np.int64)
        self._down: Ints = np.zeros(0, dtype=np.int64)
        self._used_up: Ints = np.zeros(0, dtype=np.int64)
        self._used_down: Ints = np.zeros(0, dtype=np.int64)
        self._on_up: list[int] = []
        self._on_down: list[int] = []
        """Flows on each link."""
        self._nodes = 0
        # Rows of the table, in the order of their start. Ended flows leave a gap until the table is full.
        self._flows: list[Flow | None] = []
        table = np.zeros((7, 16), dtype=np.int64)
        self._src, self._dst, self._cap, self._share, self._left, self._since_us, self._planned_us = table
        self._is_live: Flags = np.zeros(16, dtype=np.bool_)
        self._live = 0
        self._wake_us = -1
        self._is_fair = True
        """Whether the shares are what sharing anew would give."""

    def __len__(self) -> int:
        return self._live

    def add_node(self, up_bytes_per_s: int, down_bytes_per_s: int) -> int:
        """A node with its access link. Returns the number that flows name it by."""
        if self._nodes == len(self._up):
            grown = [np.resize(old, max(16, 2 * self._nodes)) for old in self._per_node()]
            self._up, self._down, self._used_up, self._used_down = grown
        node = self._nodes
        self._nodes += 1
        self._up[node] = self._per_quantum(up_bytes_per_s)
        self._down[node] = self._per_quantum(down_bytes_per_s)
        self._used_up[node] = self._used_down[node] = 0
        self._on_up.append(0)
        self._on_down.append(0)
        return node

    def set_capacity(self, node: int, up_bytes_per_s: int, down_bytes_per_s: int) -> None:
        """Change an access link; shares follow at the next multiple of the quantum, or now if that is one."""
        self._require_node(node)
        self._up[node] = self._per_quantum(up_bytes_per_s)
        self._down[node] = self._per_quantum(down_bytes_per_s)
        self._change()

    def start(self, src: int, dst: int, size_bytes: int, on_done: OnDone, cap_bytes_per_s: int = UNCAPPED) -> Flow:
        """Send `size_bytes` (1 or more); `on_done(flow)` is called when the last of them has arrived."""
        if not 1 <= size_bytes <= _SIZE_LIMIT // self._quantum_us:
            most = _SIZE_LIMIT // self._quantum_us
            raise ValueError(f"size_bytes is {size_bytes}; a flow has 1 byte or more, at most {most}")
        self._require_node(src)
        self._require_node(dst)
        if len(self._flows) == len(self._src):
            self._make_room()
        row = len(self._flows)
        flow = Flow(row, src, dst, size_bytes, on_done)
        self._flows.append(flow)
        self._live += 1
        self._is_live[row] = True
        self._src[row], self._dst[row], self._cap[row] = src, dst, self._per_quantum(cap_bytes_per_s)
        self._left[row] = size_bytes * self._quantum_us
        self._since_us[row] = self._kernel.now
        self._share[row] = 0
        self._planned_us[row] = -1
        self._on_up[src] += 1
        self._on_down[dst] += 1
        if not self._take_left_over(flow):
            self._change()
        return flow

    def cancel(self, flow: Flow) -> int:
        """End a flow early; `on_done` is not called. Returns the bytes that have arrived."""
        arrived = self.progress(flow)
        if flow.row >= 0:
            self._end(flow, arrived)
        return arrived

    def progress(self, flow: Flow) -> int:
        """Whole bytes of a flow that have arrived by now, or had when it ended."""
        if flow.row < 0:
            return flow.arrived_bytes
        return flow.size_bytes - max(0, -(-self._left_now(flow.row) // self._quantum_us))

    def _per_quantum(self, bytes_per_s: int) -> int:
        if not 0 <= bytes_per_s <= UNCAPPED:
            raise ValueError(f"{bytes_per_s} bytes a second: a rate is 0 to {UNCAPPED}")
        return bytes_per_s * self._quantum_us // SECOND_US

    def _per_node(self) -> tuple[Ints, Ints, Ints, Ints]:
        return self._up, self._down, self._used_up, self._used_down

    def _require_node(self, node: int) -> None:
        if not 0 <= node < self._nodes:
            raise ValueError(f"node is {node}; there are {self._nodes}")

    def _left_now(self, row: int) -> int:
        return int(self._left[row]) - int(self._share[row]) * (self._kernel.now - int(self._since_us[row]))

    def _make_room(self) -> None:
        """Close the gaps of the table, and double it if that is not enough."""
        rows = self._rows()
        columns = (self._src, self._dst, self._cap, self._share, self._left, self._since_us, self._planned_us)
        size = len(self._src) if 2 * len(rows) <= len(self._src) else 2 * len(self._src)
        table = np.zeros((len(columns), size), dtype=np.int64)
        for column, old in zip(table, columns, strict=True):
            column[: len(rows)] = old[rows]
        self._src, self._dst, self._cap, self._share, self._left, self._since_us, self._planned_us = table
        self._is_live = np.arange(size) < len(rows)
        self._flows = [flow for flow in self._flows if flow is not None]
        for row, flow in enumerate(self._flows):
            if flow is not None:
                flow.row = row

    def _rows(self) -> NDArray[np.intp]:
        return np.flatnonzero(self._is_live)

    def _take_left_over(self, flow: Flow) -> bool:
        """Let a flow that starts have what its links do not use. Whether that is its fair share already: it has its
        cap, or all of a link that nobody else is on."""
        src, dst, row = flow.src, flow.dst, flow.row
        spare_up = int(self._up[src] - self._used_up[src])
        spare_down = int(self._down[dst] - self._used_down[dst])
        cap = int(self._cap[row])
        share = min(spare_up, spare_down, cap)
        if share <= 0:
            return False
        self._share[row] = share
        self._used_up[src] += share
        self._used_down[dst] += share
        end_us = self._kernel.now - (-int(self._left[row]) // share)
        if end_us <= self._wake_us or self._wake_us < self._kernel.now:
            self._planned_us[row] = end_us
            self._kernel.call_at(end_us, self._finish, flow)
        if share == cap:
            return True
        fills_up, fills_down = share == spare_up, share == spare_down
        return (fills_up and self._on_up[src] == 1) or (fills_down and self._on_down[dst] == 1)

    def _change(self) -> None:
        """Shares are not fair any more: share anew at the next multiple of the quantum."""
        self._is_fair = False
        next_us = -(-self._kernel.now // self._quantum_us) * self._quantum_us
        if self._live and not self._kernel.now <= self._wake_us <= next_us:
            self._wake_us = next_us
            self._kernel.call_at(next_us, self._wake)

    def _wake(self, _a: object, _b: object) -> None:
        # At the end of the tick, so that what else ends or starts in it is counted in.
        if self._wake_us == self._kernel.now:
            self._kernel.call_at(self._wake_us, self._share_anew)

    def _share_anew(self, _a: object, _b: object) -> None:
        """Give all flows new shares where those that they have are not fair, and plan what ends next."""
        if self._wake_us != self._kernel.now:
            return
        self._wake_us = -1
        rows = self._rows()
        if not self._is_fair:
            self._share_all(rows)
            self._is_fair = True
        rows = rows[self._share[rows] > 0]
        if len(rows):
            self._plan(rows)

    def _share_all(self, rows: NDArray[np.intp]) -> None:
        """Settle all flows, and share every link."""
        now_us = self._kernel.now
        left = self._left[rows] - self._share[rows] * (now_us - self._since_us[rows])
        self._left[rows], self._since_us[rows], self._share[rows] = left, now_us, 0
        rows = rows[left > 0]  # the others have their call to `_finish` in this very tick
        src, dst = self._src[rows], self._dst[rows]
        share = progressive_filling(src, dst, self._cap[rows], self._up[: self._nodes], self._down[: self._nodes])
        self._share[rows] = share
        self._used_up.fill(0)
        self._used_down.fill(0)
        np.add.at(self._used_up, src, share)
        np.add.at(self._used_down, dst, share)

    def _plan(self, rows: NDArray[np.intp]) -> None:
        """Plan the finishes of the next quanta, but for those that are planned, and wake when they are over."""
        quantum_us = self._quantum_us
        ends_us = self._since_us[rows] - (-self._left[rows] // self._share[rows])
        first_us = -(-int(ends_us.min()) // quantum_us) * quantum_us
        wake_us = max(first_us, (self._kernel.now // quantum_us + PLANNED_QUANTA) * quantum_us)
        for index in np.flatnonzero((ends_us <= wake_us) & (ends_us != self._planned_us[rows])).tolist():
            self._kernel.call_at(max(self._kernel.now, int(ends_us[index])), self._finish, self._flows[rows[index]])
        self._planned_us[rows] = np.where(ends_us <= wake_us, ends_us, self._planned_us[rows])
        self._wake_us = wake_us
        self._kernel.call_at(wake_us, self._wake)

    def _finish(self, flow: Flow, _: object) -> None:
        """End a flow whose bytes are all there; do nothing if its share fell since this call was planned."""
        if flow.row >= 0 and self._left_now(flow.row) <= 0:
            self._end(flow, flow.size_bytes)
            flow.on_done(flow)

    def _end(self, flow: Flow, arrived_bytes: int) -> None:
        row, src, dst = flow.row, flow.src, flow.dst
        self._on_up[src] -= 1
        self._on_down[dst] -= 1
        leaves_room = (self._on_up[src] and self._used_up[src] == self._up[src]) or (
            self._on_down[dst] and self._used_down[dst] == self._down[dst]
        )
        self._used_up[src] -= self._share[row]
        self._used_down[dst] -= self._share[row]
        self._flows[row] = None
        self._is_live[row] = False
        self._live -= 1
        flow.row, flow.arrived_bytes = -1, arrived_bytes
        if leaves_room:  # to others, who were held back by a full link
            self._change()
