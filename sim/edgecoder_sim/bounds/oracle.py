"""The oracle: the fewest CDN bytes with which everybody finishes in time, by a linear program over discretised time.

It is the counterfactual beside a planner: it knows who comes and goes, and when, and splits every file at will. Nodes
that are equal form a class and are treated alike, which loses nothing in a linear program: whatever single nodes do,
their mean does it too. A class of one node is that node. Slots end where a node comes, leaves or must be done, so
what any schedule does, summed up by slots, is a solution of the program; hence no schedule needs fewer CDN bytes,
however wide the slots. Narrow ones come closer to what can be had.

Sources are the seed's: nodes in reach (`ble`), the mesh, and the CDN. The CDN and the mesh share a node's access link;
what a node has in reach is of its `group`, over a radio that divides its time between sending and receiving.

Fidelity boundary: everything flows, within a slot over any number of hops: no latency, pieces, requests or losses. Any
node of the mesh reaches any other, and any node of a group. Peers always have different bytes to offer each other, up
to what the CDN and the holders have given out so far. Who does not want a file does not carry it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, csc_matrix

SLACK: Final = 1.03
"""A planner may be that much slower than the CDN alone, where that takes fewer CDN bytes."""
TIERS: Final = ("ble", "mesh", "cdn")
GB: Final = 1e9
_INFEASIBLE: Final = 2
"""The solver's word for constraints that contradict each other (scipy's linprog)."""
_FINISHED: Final = 1 - 1e-6
"""The share of a file at which it counts as there; the solver's own tolerance is 1e-7."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Terms = Sequence[tuple[Ints, float]]
Ways = tuple[Ints, ...]


class Cdn(msgspec.Struct, frozen=True, kw_only=True):
    """The CDN."""

    egress_bytes_per_s: float = inf
    per_connection_bytes_per_s: float = inf
    price_per_gb: float = 0.0


class NodeClass(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that are equal. Capacities are of one node; files are meant by their number."""

    name: str
    count: int = 1
    come_s: float = 0.0
    leave_s: float = inf
    up_bytes_per_s: float = 0.0
    """To the mesh."""
    down_bytes_per_s: float
    """From the mesh and the CDN together."""
    near_bytes_per_s: float = 0.0
    """What its radio sends and receives together; 0 without one."""
    group: str = ""
    """Whom it has in reach: the other nodes with that group."""
    wants: tuple[int, ...] = ()
    holds: tuple[int, ...] = ()
    """Files that each node of the class has at first, whole."""


class Outcome(msgspec.Struct, frozen=True):
    """What the oracle would do."""

    cdn_bytes: float
    """The fewest possible."""
    cost: float
    """Their price."""
    slot_ends_s: tuple[float, ...]
    bytes_by_tier: dict[str, tuple[float, ...]]
    """By tier and slot, what all nodes receive. Of all ways with so few CDN bytes, the one that gives bytes soonest."""
    finish_s: dict[str, float]
    """By class, the end of the slot in which its nodes have all that they want; infinite where they never do."""


def cdn_alone_s(file_bytes: Sequence[float], classes: Sequence[NodeClass], cdn: Cdn) -> list[float]:
    """By class, when its nodes finish where the CDN serves all of them, sharing its egress max-min fairly.

    Infinite where nodes leave too soon; for who wants nothing, when they come.
    """
    left = [sum(file_bytes[file] for file in each.wants) for each in classes]
    finish_s = [each.come_s if not left[index] else inf for index, each in enumerate(classes)]
    now_s = 0.0
    while True:
        open_ = [index for index, size in enumerate(left) if size > 0 and now_s < classes[index].leave_s]
        if not open_:
            return finish_s
        there = [index for index in open_ if classes[index].come_s <= now_s]
        rates = _shares([classes[index] for index in there], cdn)
        moments_s = [now_s + left[index] / rate for index, rate in zip(there, rates, strict=True) if rate]
        changes_s = [moment for each in classes for moment in (each.come_s, each.leave_s) if now_s < moment < inf]
        if not moments_s and not changes_s:
            return finish_s
        next_s = min(moments_s + changes_s)
        for index, rate in zip(there, rates, strict=True):
            left[index] -= rate * (next_s - now_s)
            if left[index] <= 1e-9 * sum(file_bytes[file] for file in classes[index].wants):
                left[index], finish_s[index] = 0.0, next_s
        now_s = next_s


def deadlines_s(
    file_bytes: Sequence[float], classes: Sequence[NodeClass], cdn: Cdn, slack: float = SLACK
) -> list[float]:
    """By class, when it must be done: so much times what the CDN alone takes, counted from when its nodes come."""
    alone_s = cdn_alone_s(file_bytes, classes, cdn)
    return [each.come_s + slack * (at_s - each.come_s) for each, at_s in zip(classes, alone_s, strict=True)]


def _shares(there: Sequence[NodeClass], cdn: Cdn) -> list[float]:
    """Max-min fair rates of one node of each class."""
    limits = [min(cdn.per_connection_bytes_per_s, each.down_bytes_per_s) for each in there]
    rates = [0.0] * len(there)
    left, nodes = cdn.egress_bytes_per_s, sum(each.count for each in there)
    for index in sorted(range(len(there)), key=limits.__getitem__):
        rates[index] = min(limits[index], left / nodes)
        left -= rates[index] * there[index].count
        nodes -= there[index].count
    return rates


def fewest_cdn_bytes(
    file_bytes: Sequence[float],
    classes: Sequence[NodeClass],
    cdn: Cdn,
    deadline_s: Sequence[float] | None = None,
    slots: int = 100,
) -> Outcome:
    """What the oracle would do with these files, nodes and deadlines (`deadlines_s` if none are given).

    A class whose deadline is infinite need not finish. Time up to the last deadline is cut into `slots` equal parts,
    and at each moment when somebody comes, leaves or must be done. Raises ValueError where the deadlines cannot be
    met, or are over as soon as nodes come.
    """
    if deadline_s is None:
        deadline_s = deadlines_s(file_bytes, classes, cdn)
    for each, due_s in zip(classes, deadline_s, strict=True):
        if each.wants and due_s <= each.come_s:
            raise ValueError(f"{each.name} must be done at {due_s} s, when it comes; a transfer takes time")
    ends_s = _slot_ends_s(classes, deadline_s, slots)
    if not len(ends_s):
        return Outcome(0.0, 0.0, (), dict.fromkeys(TIERS, ()), {each.name: each.come_s for each in classes})
    swarm = _Swarm(file_bytes, classes, cdn, deadline_s, ends_s)
    return swarm.solve()


def _slot_ends_s(classes: Sequence[NodeClass], deadline_s: Sequence[float], slots: int) -> Floats:
    due_s = [due for each, due in zip(classes, deadline_s, strict=True) if each.wants and due < inf]
    if not due_s:
        return np.empty(0)
    horizon_s = max(due_s)
    moments_s = [*due_s, *(each.come_s for each in classes), *(each.leave_s for each in classes)]
    grid_s = np.linspace(0, horizon_s, slots + 1)[1:]
    ends_s = np.unique([*grid_s, *(moment for moment in moments_s if 0 < moment <= horizon_s)])
    keep = np.append(np.diff(ends_s) > 1e-9 * horizon_s, True)
    kept_s: Floats = ends_s[keep]
    return kept_s


class _Rows:
    """Rows of a sparse matrix with their right sides, many at a time."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ints, Ints, Floats]] = []
        self._right: list[Floats] = []
        self._height = 0

    def add(self, terms: Terms, right: Floats) -> None:
        """As many rows as `right` has items: the variables of each term, times its factor; negative ones are none."""
        rows = self._height + np.arange(len(right))
        for variables, factor in terms:
            there = variables >= 0
            self._parts.append((rows[there], variables[there], np.full(int(there.sum()), factor)))
        self._right.append(right)
        self._height += len(right)

    def matrix(self, width: int) -> tuple[csc_matrix[np.float64], Floats]:
        """The matrix and the right sides."""
        rows, columns, factors = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        entries = coo_array((factors, (rows, columns)), shape=(self._height, width))
        return csc_matrix(entries), np.concatenate(self._right)


class _Program:
    """A linear program that is built up, a variable for each slot at a time."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._low: list[Floats] = []
        self._high: list[Floats] = []
        self._equal = _Rows()
        self._at_most = _Rows()

    def variable(self, high: Floats | None = None, low: Floats | None = None) -> Ints:
        """A variable for each slot, 0 or more."""
        first = self._slots * len(self._low)
        self._low.append(np.zeros(self._slots) if low is None else low)
        self._high.append(np.full(self._slots, inf) if high is None else high)
        return np.arange(first, first + self._slots)

    def total(self, terms: Terms, begin: float = 0.0, high: Floats | None = None, low: Floats | None = None) -> Ints:
        """A variable for each slot: what the terms add up to from the beginning to its end."""
        total = self.variable(high, low)
        before = np.concatenate(([-1], total[:-1]))
        right = np.zeros(self._slots)
        right[0] = begin
        self._equal.add([(total, 1.0), (before, -1.0), *((each, -factor) for each, factor in terms)], right)
        return total

    def at_most(self, terms: Terms, limit: Floats | float) -> None:
        """Let the terms not exceed a limit in any slot."""
        if terms and not np.isinf(limit).any():
            self._at_most.add(terms, np.broadcast_to(np.asarray(limit, dtype=np.float64), self._slots))

    def at_most_in_all(self, objective: Floats, limit: float) -> None:
        """Let the sum over all variables, each times its factor, not exceed a limit."""
        there = np.flatnonzero(objective)
        self._at_most.add([(np.array([each]), float(objective[each])) for each in there], np.array([limit]))

    def least(self, objective: Floats) -> Floats | None:
        """The values for which the objective is least; None where there are none."""
        low, high = np.concatenate(self._low), np.concatenate(self._high)
        rows: list[Any] = [*self._at_most.matrix(self.width), *self._equal.matrix(self.width)]  # stubs: no sparse ones
        bounds = list(zip(low.tolist(), high.tolist(), strict=True))
        solved = linprog(objective, rows[0], rows[1], rows[2], rows[3], bounds, method="highs")
        if solved.status == _INFEASIBLE:
            return None
        if solved.status:
            raise RuntimeError(f"the solver gave up: {solved.message}")
        values: Floats | None = solved.x
        return values

    @property
    def width(self) -> int:
        """How many variables there are."""
        return self._slots * len(self._low)


class _Part(msgspec.Struct, frozen=True):
    """What a class does with a file: variables by slot, of one node; in units of the greatest file."""

    index: int
    file: int
    from_cdn: Ints
    from_mesh: Ints
    from_near: Ints
    to_mesh: Ints
    to_near: Ints
    held: Ints
    """What a node has at the end of the slot; none for who has the whole file at first."""


class _Swarm:
    """The program of a swarm."""

    def __init__(
        self,
        file_bytes: Sequence[float],
        classes: Sequence[NodeClass],
        cdn: Cdn,
        deadline_s: Sequence[float],
        ends_s: Floats,
    ) -> None:
        self._unit_bytes = max(file_bytes)
        self._sizes = [size / self._unit_bytes for size in file_bytes]
        self._classes = classes
        self._cdn = cdn
        self._deadline_s = deadline_s
        self._ends_s = ends_s
        self._begins_s: Floats = np.concatenate(([0.0], ends_s[:-1]))
        self._program = _Program(len(ends_s))
        self._none: Ints = np.full(len(ends_s), -1)
        self._parts = [self._part(index, file) for index, each in enumerate(classes) for file in self._files_of(each)]
        self._limit_links()
        self._conserve()

    def _files_of(self, each: NodeClass) -> list[int]:
        return sorted({*each.wants, *each.holds})

    def _there_s(self, index: int, until_s: float = inf) -> Floats:
        """How long nodes of a class are there in each slot, up to some time."""
        each = self._classes[index]
        there = np.minimum(self._ends_s, min(each.leave_s, until_s)) - np.maximum(self._begins_s, each.come_s)
        there_s: Floats = np.maximum(there, 0.0)
        return there_s

    def _part(self, index: int, file: int) -> _Part:
        each, program = self._classes[index], self._program
        size, gone = self._sizes[file], self._there_s(index) == 0
        absent = np.where(gone, 0.0, inf)
        is_near = each.near_bytes_per_s > 0
        to_mesh = program.variable(absent) if each.up_bytes_per_s else self._none
        to_near = program.variable(absent) if is_near else self._none
        receivers = sum(other.count for other in self._classes if file in other.wants and file not in other.holds)
        sent = program.total([(to_mesh, 1.0), (to_near, 1.0)])
        if file in each.holds:
            program.at_most([(sent, 1.0)], size * receivers)
            return _Part(index, file, self._none, self._none, self._none, to_mesh, to_near, self._none)
        late = np.where(self._there_s(index, self._deadline_s[index]) == 0, 0.0, inf)
        from_cdn, from_mesh = program.variable(late), program.variable(late)
        from_near = program.variable(late) if is_near else self._none
        due = self._deadline_s[index] - 1e-9 * self._ends_s[-1]
        held = program.total(
            [(from_cdn, 1.0), (from_mesh, 1.0), (from_near, 1.0)],
            high=np.full(len(self._ends_s), size),
            low=np.where(self._ends_s >= due, size, 0.0),
        )
        program.at_most([(sent, 1.0), (held, -(receivers - 1.0))], 0.0)
        return _Part(index, file, from_cdn, from_mesh, from_near, to_mesh, to_near, held)

    def _limit_links(self) -> None:
        """No link carries more than it can."""
        for index, each in enumerate(self._classes):
            mine = [part for part in self._parts if part.index == index]
            there = self._there_s(index) / self._unit_bytes
            receives = self._there_s(index, self._deadline_s[index]) / self._unit_bytes
            from_cdn = [(part.from_cdn, 1.0) for part in mine]
            from_mesh = [(part.from_mesh, 1.0) for part in mine]
            near = [(way, 1.0) for part in mine for way in (part.from_near, part.to_near)]
            self._program.at_most([*from_cdn, *from_mesh], receives * each.down_bytes_per_s)
            self._program.at_most([(part.to_mesh, 1.0) for part in mine], there * each.up_bytes_per_s)
            self._program.at_most(near, there * each.near_bytes_per_s)
            if self._cdn.per_connection_bytes_per_s < inf:
                self._program.at_most(from_cdn, receives * self._cdn.per_connection_bytes_per_s)
        if self._cdn.egress_bytes_per_s < inf:
            slots = (self._ends_s - self._begins_s) / self._unit_bytes
            given = [(part.from_cdn, self._count(part)) for part in self._parts]
            self._program.at_most(given, slots * self._cdn.egress_bytes_per_s)

    def _count(self, part: _Part) -> float:
        return float(self._classes[part.index].count)

    def _conserve(self) -> None:
        """What is received was sent, by somebody else, who had got it from somewhere."""
        groups = sorted({each.group for each in self._classes if each.near_bytes_per_s})
        for file in range(len(self._sizes)):
            mine = [part for part in self._parts if part.file == file]
            self._exchange(mine, [(part.from_mesh, part.to_mesh) for part in mine])
            self._limit_to_inflow(mine, lambda part: (part.from_cdn,), lambda part: (part.to_mesh, part.to_near))
            for group in groups:
                near = [part for part in mine if self._is_of(part, group)]
                self._exchange(near, [(part.from_near, part.to_near) for part in near])
                self._limit_to_inflow(near, lambda part: (part.from_cdn, part.from_mesh), lambda part: (part.to_near,))

    def _is_of(self, part: _Part, group: str) -> bool:
        each = self._classes[part.index]
        return each.near_bytes_per_s > 0 and each.group == group

    def _exchange(self, parts: Sequence[_Part], ways: Sequence[tuple[Ints, Ints]]) -> None:
        """All receive what all send, and one node no more than what all others send."""
        sent = [(sends, -self._count(part)) for part, (_, sends) in zip(parts, ways, strict=True)]
        received = [(receives, self._count(part)) for part, (receives, _) in zip(parts, ways, strict=True)]
        self._program.at_most([*received, *sent], 0.0)
        for part, (receives, sends) in zip(parts, ways, strict=True):
            if self._count(part) == 1:
                others = [each for each in sent if each[0] is not sends]
                self._program.at_most([(receives, 1.0), *others], 0.0)

    def _limit_to_inflow(
        self, parts: Sequence[_Part], receivers: Callable[[_Part], Ways], holders: Callable[[_Part], Ways]
    ) -> None:
        """Nobody has more of a file than has come to all of them from outside, or out of those who held it at first.

        The two functions say on which ways: of who receives the file, and of who holds it.
        """
        ways = [(part, holders(part) if part.held is self._none else receivers(part)) for part in parts]
        inflow = self._program.total([(way, self._count(part)) for part, each in ways for way in each])
        for part in parts:
            if part.held is not self._none:
                self._program.at_most([(part.held, 1.0), (inflow, -1.0)], 0.0)

    def solve(self) -> Outcome:
        """The fewest CDN bytes, and of all ways with so few the one that gives bytes soonest."""
        fewest = np.zeros(self._program.width)
        soonest = np.zeros(self._program.width)
        slots_s = self._ends_s - self._begins_s
        for part in self._parts:
            if part.held is not self._none:
                fewest[part.from_cdn] = self._count(part)
                soonest[part.held] = -self._count(part) * slots_s / self._ends_s[-1]
        values = self._program.least(fewest)
        if values is None:
            raise ValueError("the deadlines cannot be met, not even by the CDN and all peers together")
        cdn_units = float(fewest @ values)
        self._program.at_most_in_all(fewest, cdn_units + 1e-6)
        better = self._program.least(soonest)
        return self._outcome(cdn_units, values if better is None else better)

    def _outcome(self, cdn_units: float, values: Floats) -> Outcome:
        by_tier = dict.fromkeys(TIERS, np.zeros(len(self._ends_s)))
        finish_s = {each.name: each.come_s for each in self._classes}
        for part in self._parts:
            if part.held is self._none:
                continue
            for tier, way in zip(TIERS, (part.from_near, part.from_mesh, part.from_cdn), strict=True):
                if way is not self._none:
                    by_tier[tier] = by_tier[tier] + self._count(part) * self._unit_bytes * values[way]
            has_all = values[part.held] >= _FINISHED * self._sizes[part.file]
            name = self._classes[part.index].name
            at_s = float(self._ends_s[has_all.argmax()]) if has_all.any() else inf
            finish_s[name] = max(finish_s[name], at_s)
        cdn_bytes = cdn_units * self._unit_bytes
        return Outcome(
            cdn_bytes,
            cdn_bytes / GB * self._cdn.price_per_gb,
            tuple(self._ends_s.tolist()),
            {tier: tuple(given.tolist()) for tier, given in by_tier.items()},
            finish_s,
        )
