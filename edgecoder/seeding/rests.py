"""When a node tells the brokers of its files that it has nothing to send.

Orders and news are messages that may get lost, and nobody acknowledges them one by one. An uplink that rests for want
of an order is lost to all, so its node speaks, soon and then less and less often, and a broker that knows better
repeats what it has ordered.
"""

from __future__ import annotations

from collections.abc import Callable

from edgecoder.core.context import MILLI, Context
from edgecoder.core.ids import Micros

_TIMER = ("seeding.rests", 0)
FIRST_MS = 250
"""It speaks after this, or after an order and its answer could have come twice,"""
LAST_MS = 8_000
"""and after twice as long each further time, up to this."""


class Rests:
    """The times in which an uplink rests."""

    def __init__(
        self, context: Context, is_resting: Callable[[], bool], say: Callable[[], None], rtt: Callable[[], Micros]
    ) -> None:
        """`say` tells the brokers; `rtt` is the time to them and back."""
        self._context = context
        self._is_resting = is_resting
        self._say = say
        self._rtt = rtt
        self._wait: Micros = 0
        """After which it speaks the next time; 0: it does not rest."""

    def look(self) -> None:
        """An upload has begun or ended."""
        if self._is_resting():
            if not self._wait:
                self._wait_for(max(2 * self._rtt(), FIRST_MS * MILLI))
        elif self._wait:
            self._wait = 0
            self._context.timers.cancel(_TIMER)

    def _wait_for(self, wait: Micros) -> None:
        self._wait = min(wait, LAST_MS * MILLI)
        self._context.timers.set(_TIMER, self._context.now + self._wait, self._due)

    def _due(self) -> None:
        self._say()
        if self._wait < LAST_MS * MILLI:
            self._wait_for(2 * self._wait)
