"""Files on the wire: flows that share access links max-min fairly, in whole bytes.

A flow crosses its sender's uplink and its receiver's downlink and may have a cap of its own. Shares are bytes a
quantum, found by progressive filling in integers (Bertsekas and Gallager, Data Networks, 6.5.2), so no float decides
when a file is there. `FlowNetwork` runs on the kernel; `exact_finishes` is the oracle for small cases.

Fidelity boundary: shares change at multiples of the quantum only. A flow that starts within a quantum begins to move
at its end, and what a flow leaves over in the quantum in which it ends is lost. There is no TCP: a flow has its share
from its first byte, and nothing but access links is ever full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from heapq import heapify, heappop
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecoder_sim.kernel import Kernel

QUANTUM_US: Final = 50_000
"""Fine against transfers of seconds: a share is at most this late."""
UNCAPPED: Final = (1 << 62) // 1_000_000
"""Bytes a second that no link has."""
SECOND_US: Final = 1_000_000
Ints = NDArray[np.int64]
OnDone = Callable[["Flow"], object]


def progressive_filling(src: Ints, dst: Ints, cap: Ints, up: Ints, down: Ints) -> Ints:
    """Max-min fair shares in whole bytes a quantum.

    Flow i goes from node `src[i]` to `dst[i]` and takes at most `cap[i]`; node n sends at most `up[n]` and receives at
    most `down[n]`. All are int64; `cap`, `up` and `down` are bytes a quantum.

    Every round finds the lowest level at which a link, divided evenly over its unfrozen flows, or a cap is used up, and
    freezes the flows there. Bytes that even division leaves over go one by one to the flows in their order, round
    after round, while both links and the cap allow it; so no flow can be raised at all without lowering another, and
    flows that meet at the same bottleneck differ by what such rounds gave."""
    share = np.zeros(len(src), dtype=np.int64)
    left_up, left_down = up.copy(), down.copy()
    active = np.ones(len(src), dtype=bool)
    while active.any():
        level_up = _level(left_up, src[active])
        level_down = _level(left_down, dst[active])
        level = np.minimum(np.minimum(level_up[src], level_down[dst]), cap)
        lowest = level[active].min()
        frozen = active & (level == lowest)
        share[frozen] = lowest
        np.subtract.at(left_up, src[frozen], lowest)
        np.subtract.at(left_down, dst[frozen], lowest)
        active &= ~frozen
    _hand_out(share, src, dst, cap, left_up, left_down)
    return share


def _level(left: Ints, users: Ints) -> Ints:
    """What each link has for each of its unfrozen flows; links without any have plenty."""
    counts = np.bincount(users, minlength=len(left))
    return np.where(counts > 0, left // np.maximum(counts, 1), np.iinfo(np.int64).max)


def _hand_out(share: Ints, src: Ints, dst: Ints, cap: Ints, left_up: Ints, left_down: Ints) -> None:
    """Give away the bytes that are left over, in place."""
    while True:
        raisable = np.flatnonzero((left_up[src] > 0) & (left_down[dst] > 0) & (share < cap))
        if not len(raisable):
            return
        for flow in raisable.tolist():
            if left_up[src[flow]] > 0 and left_down[dst[flow]] > 0:
                share[flow] += 1
                left_up[src[flow]] -= 1
                left_down[dst[flow]] -= 1


class Flow:
    """A file on its way. `done_bytes` is what had arrived when its share last changed; see `FlowNetwork.progress`."""

    __slots__ = ("cap", "done_bytes", "dst", "on_done", "order", "share", "size_bytes", "src")

    def __init__(self, order: int, src: int, dst: int, size_bytes: int, cap: int, on_done: OnDone) -> None:
        self.order = order
        self.src = src
        self.dst = dst
        self.size_bytes = size_bytes
        self.cap = cap
        self.on_done = on_done
        self.done_bytes = 0
        self.share = 0
        """Bytes a quantum."""


class FlowNetwork:
    """The flows of a world. It sleeps while nothing flows, and wakes only where something ends or changes."""

    def __init__(self, kernel: Kernel, quantum_us: int = QUANTUM_US) -> None:
        self._kernel = kernel
        self._quantum_us = quantum_us
        self._up: list[int] = []
        self._down: list[int] = []
        self._flows: dict[int, Flow] = {}
        self._order = 0
        self._base_us = 0
        """The quantum's begin at which the shares in force were set."""
        self._ends: list[tuple[int, int]] = []
        self._is_changed = False
        self._alarm_us: int | None = None

    def __len__(self) -> int:
        return len(self._flows)

    def add_node(self, up_bytes_per_s: int, down_bytes_per_s: int) -> int:
        """A node with its access link; the number that flows name it by."""
        self._up.append(self._per_quantum(up_bytes_per_s))
        self._down.append(self._per_quantum(down_bytes_per_s))
        return len(self._up) - 1

    def set_capacity(self, node: int, up_bytes_per_s: int, down_bytes_per_s: int) -> None:
        """Change an access link; shares follow at the end of the quantum."""
        self._up[node] = self._per_quantum(up_bytes_per_s)
        self._down[node] = self._per_quantum(down_bytes_per_s)
        self._change()

    def start(self, src: int, dst: int, size_bytes: int, on_done: OnDone, cap_bytes_per_s: int = UNCAPPED) -> Flow:
        """Send `size_bytes` (1 or more); `on_done(flow)` is called when the last of them has arrived."""
        if size_bytes < 1:
            raise ValueError(f"size_bytes is {size_bytes}; a flow has 1 byte or more")
        self._order += 1
        flow = self._flows[self._order] = Flow(
            self._order, src, dst, size_bytes, self._per_quantum(cap_bytes_per_s), on_done
        )
        self._change()
        return flow

    def cancel(self, flow: Flow) -> int:
        """End a flow early; `on_done` is not called. Returns the bytes that have arrived."""
        arrived = self.progress(flow)
        if self._flows.pop(flow.order, None) is not None:
            self._change()
        return arrived

    def progress(self, flow: Flow) -> int:
        """Bytes of a flow that have arrived by now."""
        if flow.order not in self._flows:
            return flow.done_bytes
        elapsed_us = max(0, self._kernel.now - self._base_us)
        return min(flow.size_bytes, flow.done_bytes + flow.share * elapsed_us // self._quantum_us)

    def _per_quantum(self, bytes_per_s: int) -> int:
        return bytes_per_s * self._quantum_us // SECOND_US

    def _change(self) -> None:
        """Something changed: new shares from the next quantum on."""
        self._is_changed = True
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Wake up when the next flow ends, and at the end of the quantum after a change."""
        while self._ends and self._ends[0][1] not in self._flows:
            heappop(self._ends)
        at_us = self._ends[0][0] if self._ends else None
        if self._is_changed:
            boundary_us = -(-self._kernel.now // self._quantum_us) * self._quantum_us
            at_us = boundary_us if at_us is None else min(at_us, boundary_us)
        if at_us is not None and at_us != self._alarm_us:
            self._alarm_us = at_us
            self._kernel.call_at(max(at_us, self._kernel.now), self._wake, at_us)

    def _wake(self, alarm_us: int, _: object) -> None:
        if alarm_us != self._alarm_us:
            return
        self._alarm_us = None
        now_us = self._kernel.now
        while self._ends and self._ends[0][0] <= now_us:
            flow = self._flows.pop(heappop(self._ends)[1], None)
            if flow is not None:
                flow.done_bytes = flow.size_bytes
                self._is_changed = True
                flow.on_done(flow)
        boundary_us = now_us // self._quantum_us * self._quantum_us
        if self._is_changed and now_us - boundary_us < self._kernel.tick_us:
            self._share_anew(boundary_us)
        self._set_alarm()

    def _share_anew(self, boundary_us: int) -> None:
        """Settle the quanta since the last shares, and set new ones from this boundary on."""
        quanta = (boundary_us - self._base_us) // self._quantum_us
        flows = list(self._flows.values())
        for flow in flows:
            flow.done_bytes += flow.share * quanta
        self._base_us, self._is_changed = boundary_us, False
        src, dst, cap = np.array([(flow.src, flow.dst, flow.cap) for flow in flows], dtype=np.int64).reshape(-1, 3).T
        up, down = np.array(self._up, dtype=np.int64), np.array(self._down, dtype=np.int64)
        shares = progressive_filling(src, dst, cap, up, down)
        self._ends = []
        for flow, share in zip(flows, shares.tolist(), strict=True):
            flow.share = share
            if share:
                left = flow.size_bytes - flow.done_bytes
                self._ends.append((boundary_us - (-left * self._quantum_us // share), flow.order))
        heapify(self._ends)


class Transfer(NamedTuple):
    """A flow as the oracle takes it: seconds, bytes, bytes a second."""

    start_s: Fraction
    src: int
    dst: int
    size_bytes: int
    cap_bytes_per_s: int = UNCAPPED


def exact_finishes(transfers: Sequence[Transfer], up: Sequence[int], down: Sequence[int]) -> list[Fraction]:
    """When each transfer ends, in seconds: fluid max-min from event to event in rationals. `up` and `down` are bytes a
    second. It costs a whole filling an event: for small cases only."""
    left = [Fraction(transfer.size_bytes) for transfer in transfers]
    finishes: list[Fraction | None] = [None] * len(transfers)
    now = min((transfer.start_s for transfer in transfers), default=Fraction(0))
    while None in finishes:
        running = [i for i, transfer in enumerate(transfers) if finishes[i] is None and transfer.start_s <= now]
        starts = [transfer.start_s for transfer in transfers if transfer.start_s > now]
        rates = exact_rates([transfers[i] for i in running], up, down)
        ends = [now + left[i] / rate for i, rate in zip(running, rates, strict=True) if rate]
        following = min(starts + ends)
        for i, rate in zip(running, rates, strict=True):
            left[i] -= rate * (following - now)
            if not left[i]:
                finishes[i] = following
        now = following
    return [finish for finish in finishes if finish is not None]


def exact_rates(transfers: Sequence[Transfer], up: Sequence[int], down: Sequence[int]) -> list[Fraction]:
    """Max-min rates of the running transfers."""
    left_up, left_down = [Fraction(rate) for rate in up], [Fraction(rate) for rate in down]
    rates = [Fraction(0)] * len(transfers)
    active = list(range(len(transfers)))
    while active:
        senders = [transfers[i].src for i in active]
        receivers = [transfers[i].dst for i in active]
        levels = {
            i: min(
                left_up[transfers[i].src] / senders.count(transfers[i].src),
                left_down[transfers[i].dst] / receivers.count(transfers[i].dst),
                Fraction(transfers[i].cap_bytes_per_s),
            )
            for i in active
        }
        lowest = min(levels.values())
        for i in [i for i in active if levels[i] == lowest]:
            rates[i] = lowest
            left_up[transfers[i].src] -= lowest
            left_down[transfers[i].dst] -= lowest
            active.remove(i)
    return rates
