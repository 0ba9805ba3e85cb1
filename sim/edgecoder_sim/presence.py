"""Who is there when: nodes that leave and come back, by drawn sessions or by the hours of a working day.

Leaving is a shut-down, after which the process has a few seconds to end, or nothing at all: then peers find out by
themselves. Whether a node runs in the end is decided in `uptime`.

Fidelity boundary: sessions and gaps are exponential and know no hour of the day (`by_day` knows nothing else); a node
comes back with its disk as it was; a phone keeps its place and its links' ends while it is off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from edgecoder.core.events import ShutDown
from edgecoder.core.ids import CommandId
from edgecoder.core.rng import Stream
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.people_model import Day, Stay
from edgecoder_sim.population import Place
from edgecoder_sim.uptime import Hold, Uptime
from edgecoder_sim.walks import hours

SECOND_US: Final = 1_000_000
GRACE_US: Final = 5 * SECOND_US
"""What an operating system gives a program that has to end (S: an iPhone's app has about 5 s in
`applicationWillTerminate`, by Apple's documentation)."""


class Presence:
    """Lets the nodes of a group come and go."""

    def __init__(self, kernel: Kernel, uptime: Uptime) -> None:
        self._kernel = kernel
        self._uptime = uptime
        self.next_command: Callable[[str], CommandId] | None = None
        """Numbers the shut-downs; without one nobody is told, as if all vanished."""

    def begin(self, places: Sequence[Place], stay: Stay, day: Day) -> None:
        """Draw who is there at first, and when each leaves or comes. Before the nodes' first life begins."""
        for place in places:
            stream = place.sim.stream("presence")
            if stay.by_day:
                _Days(self, place, stay, stream, day).begin()
            elif stay.session_s is not None:
                _Sessions(self, place, stay, stream, stay.session_s).begin()

    def come(self, place: Place) -> None:
        """A person switches their node on."""
        self._uptime.release(place.sim, Hold.AWAY)

    def leave(self, place: Place, *, silently: bool) -> None:
        """A person leaves with their node, or switches it off."""
        if silently or not place.sim.is_up or self.next_command is None:
            self._uptime.hold(place.sim, Hold.AWAY)
        else:
            place.sim.post(ShutDown(self.next_command("leave")))
            self._uptime.hold(place.sim, Hold.AWAY, after_us=GRACE_US)

    def at(self, at_us: int, call: Callable[[object, object], None]) -> None:
        """Call at a time."""
        self._kernel.call_at(max(at_us, self._kernel.now), call)

    @property
    def now_us(self) -> int:
        """The simulated time, µs."""
        return self._kernel.now


class _Sessions:
    """Sessions and gaps of one node."""

    def __init__(self, presence: Presence, place: Place, stay: Stay, stream: Stream, session_s: float) -> None:
        self._presence, self._place, self._stay, self._stream = presence, place, stay, stream
        self._session_s = session_s

    def begin(self) -> None:
        """Be there with the share of time that the node is there; exponential times have no memory."""
        if self._stream.uniform() < self._stay.gap_s / (self._session_s + self._stay.gap_s):
            self._presence.leave(self._place, silently=True)
            self._later(self._stay.gap_s, self._come)
        else:
            self._later(self._session_s, self._leave)

    def _come(self, _: object, __: object) -> None:
        self._presence.come(self._place)
        self._later(self._session_s, self._leave)

    def _leave(self, _: object, __: object) -> None:
        self._presence.leave(self._place, silently=_vanishes(self._stream, self._stay))
        self._later(self._stay.gap_s, self._come)

    def _later(self, mean_s: float, call: Callable[[object, object], None]) -> None:
        wait_us = max(1, round(-math.log(1.0 - self._stream.uniform()) * mean_s * SECOND_US))
        self._presence.at(self._presence.now_us + wait_us, call)


class _Days:
    """The days of one node, by the hours of its person."""

    def __init__(self, presence: Presence, place: Place, stay: Stay, stream: Stream, day: Day) -> None:
        self._presence, self._place, self._stay, self._stream, self._day = presence, place, stay, stream, day
        self._hours_stream = place.sim.stream("day")
        self._number = -1
        self._next()

    def begin(self) -> None:
        """Be away until the person arrives, unless they have."""
        while self._hours.leave_s <= 0:
            self._next()
        if self._hours.arrive_s > 0:
            self._presence.leave(self._place, silently=True)
            self._presence.at(round(self._hours.arrive_s * SECOND_US), self._come)
        else:
            self._presence.at(round(self._hours.leave_s * SECOND_US), self._leave)

    def _next(self) -> None:
        self._number += 1
        self._hours = hours(self._day, self._number, self._hours_stream)

    def _come(self, _: object, __: object) -> None:
        self._presence.come(self._place)
        self._presence.at(round(self._hours.leave_s * SECOND_US), self._leave)

    def _leave(self, _: object, __: object) -> None:
        self._presence.leave(self._place, silently=_vanishes(self._stream, self._stay))
        self._next()
        self._presence.at(round(self._hours.arrive_s * SECOND_US), self._come)


def _vanishes(stream: Stream, stay: Stay) -> bool:
    return stream.uniform() * 100 < stay.vanish_pct
