"""What a driver is to the host: the effects that it carries out, and how it says that it could not.

A driver handles operations and plain effects of some types. An operation is a coroutine that returns the completion;
the host cancels it where the core does (`CancelOp`) and turns what it raises into the operation's failure. What happens
meanwhile, and what happens unasked, a driver posts as events. Drivers know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from edgecoder.core.effects import Effect, Operation
from edgecoder.core.events import Completion, Event
from edgecoder.errors import Reason

Post = Callable[[Event], None]
"""Put an event into the host's inbox; from the loop's own thread."""
Operate = Callable[[Any], Awaitable[Completion]]
"""Carry out one operation. Raises Refused, and whatever else: then it has failed as unavailable."""
Perform = Callable[[Any], None]
"""Carry out one effect that has no completion."""


class Numbers:
    """The handles that the drivers of one node give to what others ask of it and offer it. All of them share one, so
    none is given twice."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """One that was never given."""
        self._last += 1
        return self._last


class Refused(Exception):
    """An operation that failed, for a reason that the core knows."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or reason.value)
        self.reason = reason


class Driver(Protocol):
    """The adapter to one real thing."""

    def open(self, post: Post) -> None:
        """A life begins: this is where events go."""
        ...

    def operations(self) -> Mapping[type[Operation], Operate]:
        """The operations that it carries out."""
        ...

    def effects(self) -> Mapping[type[Effect], Perform]:
        """The other effects that it carries out."""
        ...

    async def close(self) -> None:
        """The life is over: let go of everything. What is under way has been cancelled."""
        ...
