"""When a node tells the brokers of its files that it has nothing to do.

Orders and news are messages that may get lost, and nobody acknowledges them one by one. So whoever has nothing to send,
or lacks something and has nothing on its way, says so, and then less and less often; a broker that knows better repeats
what it has ordered. An uplink that rests is lost to all, so it speaks soon; that nothing comes is often nobody's fault.
"""

from __future__ import annotations

from collections.abc import Callable

from edgecoder.core.context import MILLI, Context
from edgecoder.core.ids import Micros

REST_MS = 250
"""Who has nothing to send says so after this, or after an order and its answer could have come twice,"""
LAST_MS = 8_000
"""and after twice as long each further time, up to this. Who gets nothing says so each time that this has passed."""


class Idle:
    """The time in which a node does nothing of one kind."""

    def __init__(
        self,
        context: Context,
        name: str,
        is_idle: Callable[[], bool],
        say: Callable[[], None],
        first: Callable[[], Micros] | None = None,
    ) -> None:
        """`say` tells the brokers, after the time that `first` gives the first time and not after LAST_MS; without it
        each LAST_MS as long as nothing is done."""
        self._context = context
        self._timer = (name, 0)
        self._is_idle = is_idle
        self._say = say
        self._first = first
        self._wait: Micros = 0
        """After which it says so the next time; 0: it is not idle."""

    def look(self) -> None:
        """Something has begun or ended."""
        if self._is_idle():
            if not self._wait:
                self._wait_for(LAST_MS * MILLI if self._first is None else self._first())
        elif self._wait:
            self._wait = 0
            self._context.timers.cancel(self._timer)

    def _wait_for(self, wait: Micros) -> None:
        self._wait = min(wait, LAST_MS * MILLI)
        self._context.timers.set(self._timer, self._context.now + self._wait, self._due)

    def _due(self) -> None:
        self._say()
        if self._first is None or self._wait < LAST_MS * MILLI:
            self._wait_for(2 * self._wait)
