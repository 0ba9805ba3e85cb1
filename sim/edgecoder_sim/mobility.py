"""Moving people: where each is at any moment, and who comes into whose range.

Positions between two waypoints are a straight line, so they are computed when somebody looks and cost no events. Every
`step_s` one event moves everybody, finds the pairs in range with a k-d tree, and tells of those that are new or gone.

Fidelity boundary: two who pass each other between two steps never met; a contact begins and ends at a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from edgecoder_sim.floor import Floor, Point
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.people_model import Day, Mobility, Moves
from edgecoder_sim.walks import Leg, Walk, WorkingDay, random_waypoint

if TYPE_CHECKING:
    from edgecoder_sim.contacts import Contacts
    from edgecoder_sim.host import SimNode

SECOND_US = 1_000_000
_AWAY = (np.nan, np.nan)


class Crowd:
    """Positions of people by their walks; a person without one stands still."""

    def __init__(self, stands: Sequence[Point], walks: dict[int, Walk]) -> None:
        """`walks` by place in `stands`; who walks starts where the walk says."""
        self._walks = walks
        count = len(stands)
        start = np.array(stands, dtype=np.float64).reshape(count, 2)
        self._start, self._end = start, start.copy()
        self._begin_s = np.zeros(count)
        self._end_s = np.full(count, np.inf)
        for person, walk in walks.items():
            self._take(person, next(walk))

    def at(self, now_s: float) -> NDArray[np.float64]:
        """Where everybody is, m, one row a person; NaN who is away. Time must not go back."""
        for person in np.flatnonzero(self._end_s <= now_s).tolist():
            leg = next(self._walks[person])
            while leg.end_s <= now_s:
                leg = next(self._walks[person])
            self._take(person, leg)
        length_s = self._end_s - self._begin_s
        with np.errstate(invalid="ignore"):  # 0 of a leg without an end is no number; such a leg has one place
            share = np.where(np.isinf(length_s), 0.0, (now_s - self._begin_s) / length_s)
        return self._start + share[:, None] * (self._end - self._start)

    def _take(self, person: int, leg: Leg) -> None:
        self._begin_s[person], self._end_s[person] = leg.begin_s, leg.end_s
        self._start[person] = _AWAY if leg.start is None else leg.start
        self._end[person] = _AWAY if leg.end is None else leg.end


class Meetings:
    """Tells of contacts as people move."""

    def __init__(self, nodes: Sequence[SimNode], crowd: Crowd, range_m: float, contacts: Contacts) -> None:
        self._nodes = nodes
        self._crowd = crowd
        self._range_m = range_m
        self._contacts = contacts
        self._pairs: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.positions: NDArray[np.float64] = np.empty((0, 2))
        """Where people were at the last step, m."""

    def start(self, kernel: Kernel, step_us: int | None) -> None:
        """Tell of those who are in range now, and look again at every step; None: nobody moves."""
        self.step(kernel)
        if step_us is not None:
            kernel.every(step_us, kernel.now + step_us, self.step, kernel)

    def step(self, kernel: Kernel, _: Any = None) -> None:
        """Move everybody, and tell of contacts that end, then of those that begin, nearest first."""
        positions = self.positions = self._crowd.at(kernel.now / SECOND_US)
        pairs = self._in_range(positions)
        count, nodes = len(self._nodes), self._nodes
        for first, second in zip(*np.divmod(np.setdiff1d(self._pairs, pairs, assume_unique=True), count), strict=True):
            self._contacts.contact_ends(nodes[first], nodes[second])
        firsts, seconds = np.divmod(np.setdiff1d(pairs, self._pairs, assume_unique=True), count)
        apart_m = np.linalg.norm(positions[firsts] - positions[seconds], axis=1)
        for new in np.lexsort((seconds, firsts, apart_m)).tolist():
            self._contacts.contact_begins(nodes[firsts[new]], nodes[seconds[new]], float(apart_m[new]))
        self._pairs = pairs

    def _in_range(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """The pairs in range as first·n + second, sorted."""
        there = np.flatnonzero(~np.isnan(positions[:, 0]))
        if len(there) < 2:
            return np.empty(0, dtype=np.int64)
        pairs = there[cKDTree(positions[there]).query_pairs(self._range_m, output_type="ndarray")]
        keys: NDArray[np.int64] = np.sort(pairs[:, 0] * len(self._nodes) + pairs[:, 1])
        return keys


def walk_of(moves: Moves, floor: Floor, mobility: Mobility, day: Day, node: SimNode) -> Walk | None:
    """The walk of a node; None where it stands still."""
    stream = node.stream("walk")
    if moves is Moves.RANDOM_WAYPOINT:
        return random_waypoint(floor, mobility, stream, node.index)
    if moves is Moves.WORKING_DAY:
        return WorkingDay(floor, mobility, day, stream, node.stream("day"), node.index).walk()
    return None
