"""Named deadlines of one node. The host sees only the earliest.

Setting a name again moves its deadline. Due timers come out in the order of their deadlines, ties in the order in which
they were set, so that a late or a spurious wake-up never changes what happens.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from edgecoder.core.ids import Micros

Name = tuple[str, bytes | int]
"""Purpose and key, such as ("deadline", task_id)."""
_Entry = tuple[Micros, int, Name]
_GONE = (0, None)


def next_turn(turn: Micros, period: Micros, now: Micros) -> Micros:
    """The first turn after `turn` that is still to come: k periods on, and no burst for those that a late wake-up
    missed."""
    return turn + period * (1 + max(0, now - turn) // period)


class TimerTable:
    """Deadlines by name. Moved and cancelled entries stay in the heap until they surface or outnumber the live ones."""

    __slots__ = ("_actions", "_heap", "_order", "is_changed")

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._actions: dict[Name, tuple[int, Callable[[], None]]] = {}
        self._order = 0
        self.is_changed = False
        """Whether a timer was set or has fired since the node last looked at `next_deadline`."""

    def __len__(self) -> int:
        return len(self._actions)

    def set(self, name: Name, deadline: Micros, action: Callable[[], None]) -> None:
        """Call `action` once when `deadline` has passed."""
        self.is_changed = True
        order = self._order = self._order + 1
        self._actions[name] = (order, action)
        heap = self._heap
        heappush(heap, (deadline, order, name))
        if len(heap) > 64 and len(heap) > 4 * len(self._actions):
            heap[:] = [entry for entry in heap if self._actions.get(entry[2], _GONE)[0] == entry[1]]
            heapify(heap)

    def cancel(self, name: Name) -> None:
        """Forget a timer; one that is not set is no error."""
        self._actions.pop(name, None)

    def is_idle(self, name: Name) -> bool:
        """Whether no timer of this name is set."""
        return name not in self._actions

    @property
    def next_deadline(self) -> Micros | None:
        """The earliest deadline, None without timers."""
        heap = self._heap
        while heap:
            deadline, order, name = heap[0]
            live = self._actions.get(name)
            if live is not None and live[0] == order:
                return deadline
            heappop(heap)
        return None

    def fire_due(self, now: Micros) -> None:
        """Run every action whose deadline is `now` or earlier. A timer that an action sets waits for the next wake-up,
        so that no chain of timers can hold the node for ever."""
        self.is_changed = True
        newest = self._order
        heap, actions = self._heap, self._actions
        while heap:
            deadline, order, name = heap[0]
            live = actions.get(name)
            if live is None or live[0] != order:
                heappop(heap)
                continue
            if deadline > now or order > newest:
                return
            heappop(heap)
            del actions[name]
            live[1]()
