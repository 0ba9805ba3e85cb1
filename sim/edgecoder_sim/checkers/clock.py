"""Time: nodes are woken when they asked for it, not before, and none asks again and again for the present."""

from __future__ import annotations

from typing import Final

from edgecoder.core.effects import WakeAt
from edgecoder.core.events import Wake
from edgecoder_sim.checkers.panel import GRACE_US, Book, Rule

WAKES_MAX: Final = 1000
"""Wake-ups of one node at one time: more is a chain of timers that holds it for ever."""


class Wakes(Rule):
    """A node is woken at its deadline or soon after; a deadline lies in the past only where its timer was late."""

    name = "woken in time"

    def enter(self) -> None:
        """See `Rule`."""
        self.panel.on(Wake, self._woken)
        self.panel.on(WakeAt, self._wake_at)

    def finish(self) -> None:
        """See `Rule`."""
        for book in self.panel.books.values():
            if book.wake is not None and self.panel.now > book.wake + GRACE_US and not book.is_slow():
                self.fail(book, f"asked to be woken at {book.wake} µs and was not")

    def _woken(self, book: Book, _: Wake) -> None:
        now_us = self.panel.now
        if book.wake is not None and now_us < book.wake:
            self.fail(book, f"was woken {book.wake - now_us} µs before its deadline")
        book.wake_late_us = 0 if book.wake is None else now_us - book.wake
        book.wake = None
        if now_us != book.woken:
            book.woken, book.wakes = now_us, 1
        else:
            book.wakes += 1
            if book.wakes > WAKES_MAX:
                self.fail(book, f"was woken {book.wakes} times at one time: its timers chase each other")

    def _wake_at(self, book: Book, effect: WakeAt) -> None:
        if effect.deadline < self.panel.now - GRACE_US - book.wake_late_us:
            late_us = self.panel.now - effect.deadline
            self.fail(book, f"asks to be woken {late_us} µs ago")
        book.wake = effect.deadline
