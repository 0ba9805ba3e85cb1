"""What people who meet can carry to each other: the maximal flow through the graph of their meetings, over time.

Time is cut into steps. In each step a pair that meets can carry so many bytes in either direction, and bytes may pass
through any number of meetings of one step: a bound must not know the order of what happens within it. Between steps a
node keeps what it has. What all seeds together can bring to one receiver by the end is a maximal flow; copying makes
no difference to it, since what reaches one receiver needs to reach it once.

Each receiver has the air to itself here: those who receive at once share it, so the sum over receivers is a bound that
need not be reached. A node's own radio is counted: in a step it sends no more than `node_bytes`, and receives no more.

Fidelity boundary: any byte may go anywhere (as if every byte were its own piece), nothing is said about who has what,
and a link costs `setup_s` once, at the beginning of a meeting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

UNIT_BYTES: Final = 1024
"""What flows are counted in: scipy has capacities of 32 bits. Capacities are rounded up."""
_UNLIMITED: Final = (1 << 31) - 1


class Meeting(msgspec.Struct, frozen=True):
    """A pair that is in reach of each other from `begin_s` to `end_s`."""

    begin_s: float
    end_s: float
    first: int
    second: int
    bytes_per_s: float
    """What a link between them carries in one direction."""
    setup_s: float = 0.0
    """What passes at least until it carries anything."""


class Step(msgspec.Struct, frozen=True):
    """What a pair can carry in one direction in one step."""

    number: int
    first: int
    second: int
    size_bytes: float


def steps_of(meetings: Iterable[Meeting], step_s: float, until_s: float) -> list[Step]:
    """The meetings by steps of `step_s`, up to `until_s`; in the order of the steps, then of the pairs."""
    carried: dict[tuple[int, int, int], float] = {}
    for meeting in meetings:
        begin_s, end_s = meeting.begin_s + meeting.setup_s, min(meeting.end_s, until_s)
        pair = (min(meeting.first, meeting.second), max(meeting.first, meeting.second))
        number = int(begin_s // step_s)
        while number * step_s < end_s:
            inside_s = min(end_s, (number + 1) * step_s) - max(begin_s, number * step_s)
            key = (number, *pair)
            carried[key] = carried.get(key, 0.0) + inside_s * meeting.bytes_per_s
            number += 1
    return [Step(*key, size) for key, size in sorted(carried.items()) if size > 0]


class MeetingGraph:
    """The graph of all steps, for as many receivers as are asked for.

    Vertices are a store, an exit and an entry for each step that a node takes part in, and beside them one source.
    """

    def __init__(self, steps: Sequence[Step], node_bytes: float = float("inf")) -> None:
        """`node_bytes`: what one node sends at most in a step, and what it receives at most."""
        self._of: dict[int, list[int]] = {}
        """Stores of a node, in the order of time."""
        self._edges: list[tuple[int, int, int]] = []
        self._count = 1  # the source
        latest: dict[int, int] = {}
        stores: dict[int, int] = {}
        limit = _units(node_bytes)
        for step in steps:
            for node in (step.first, step.second):
                if latest.get(node) != step.number:
                    self._open(node, stores, limit)
                    latest[node] = step.number
            size = _units(step.size_bytes)
            first, second = stores[step.first], stores[step.second]
            self._edges += [(first + 1, second + 2, size), (second + 1, first + 2, size)]

    def _open(self, node: int, stores: dict[int, int], limit: int) -> None:
        """A node takes part in a step: what it had it has still."""
        store = self._count
        self._count += 3
        if node in stores:
            self._edges.append((stores[node], store, _UNLIMITED))
        stores[node] = store
        self._of.setdefault(node, []).append(store)
        self._edges += [(store, store + 1, limit), (store + 2, store, limit)]

    def most_bytes(self, seeds: Iterable[int], receiver: int, wanted_bytes: int) -> int:
        """Most bytes that the seeds can bring to a receiver, at most what it wants."""
        if receiver not in self._of:
            return 0
        edges = self._edges + [(0, self._of[seed][0], _UNLIMITED) for seed in seeds if seed in self._of]
        table = np.array(edges, dtype=np.int64)
        shape = (self._count, self._count)
        graph = csr_array((table[:, 2].astype(np.int32), (table[:, 0], table[:, 1])), shape=shape)
        return min(wanted_bytes, int(maximum_flow(graph, 0, self._of[receiver][-1]).flow_value) * UNIT_BYTES)


def _units(size_bytes: float) -> int:
    return _UNLIMITED if size_bytes >= _UNLIMITED * UNIT_BYTES else -int(-size_bytes // UNIT_BYTES)
