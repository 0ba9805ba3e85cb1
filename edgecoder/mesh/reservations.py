"""Places that were offered to probes: each is kept until its task comes, it is released, or it expires.

They count as waiting tasks where a node judges whether it has room, so that two routers cannot be promised one place.
Expired ones are dropped whenever somebody looks; no timer runs for them.
"""

from __future__ import annotations

from edgecoder.core.context import Context
from edgecoder.core.ids import LinkId, Micros, TaskId

_Key = tuple[LinkId, TaskId]
"""A place belongs to the link that it was asked over: nobody can take or release another's."""


class Reservations:
    """The places that are kept now, in the order in which they were offered."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._held: dict[_Key, tuple[Micros, int]] = {}
        """Until when, and for an answer of how many tokens."""

    def __len__(self) -> int:
        self._expire()
        return len(self._held)

    def hold(self, link: LinkId, task: TaskId, tokens: int) -> None:
        """Keep a place; one that is asked for again is kept anew."""
        self._held.pop((link, task), None)
        self._held[link, task] = (self._context.in_ms(self._context.config.probe_hold_ms), tokens)

    def take(self, link: LinkId | None, task: TaskId) -> None:
        """The task came, or the place is not needed."""
        if link is not None:
            self._held.pop((link, task), None)

    def tokens(self) -> list[int]:
        """Lengths of the answers that places are kept for."""
        self._expire()
        return [tokens for _, tokens in self._held.values()]

    def uses(self, link: LinkId) -> bool:
        """Whether a place is kept for somebody at the other end."""
        self._expire()
        return any(key[0] == link for key in self._held)

    def link_down(self, link: LinkId) -> None:
        """Nobody will come over this link."""
        for key in [key for key in self._held if key[0] == link]:
            del self._held[key]

    def clear(self) -> None:
        """The node takes nothing now."""
        self._held.clear()

    def _expire(self) -> None:
        now = self._context.now
        if self._held:
            for key in [key for key, (until, _) in self._held.items() if until <= now]:
                del self._held[key]
