"""Planners: which sources a file comes from, and why the CDN is asked for a part of it.

`PortfolioPlanner` takes what costs least among what is in time. In time is what is there by the deadline, a little
after the CDN alone would have been done: of 200 random worlds the slowest download takes 1.04 times what it takes
without peers (`benchmarks/never_slower_than_cdn.py`). A kind of peer is left alone while a cheaper one brings all by
then: the mesh over a metered network beside a fast radio, Bluetooth on battery beside a fast mesh. The CDN, the
dearest, is asked where the rest of the file, fetched from it alone, would only just be there by the deadline.
`LadderPlanner` takes the next source where the one before it gives nothing (seed).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, Protocol

from edgecoder.config import Distribution
from edgecoder.core.context import SECOND_US
from edgecoder.core.effects import Source
from edgecoder.core.ids import Micros
from edgecoder.seeding.prices import Prices, is_cheaper

SLACK_PCT = 3
"""So much longer than with the CDN alone a download may take, percent."""
SHARED_SLACK_PCT = 1
"""The same, where the CDN is divided among those who want the file: who is later leaves others their share later."""
GRACE_PCT = 1
"""Peers get so much of the CDN's time to give a sign, percent,"""
AHEAD_PCT = 5
"""and so much where the download is as far ahead of the CDN alone, percent: it can afford to wait for them."""
DOUBLED_PCT = 2
"""The last so much of a file is asked of a second source where the first is late, percent."""
_LOOK_US_MIN = 10_000
_LOOK_US_MAX = 30 * SECOND_US


class Why(Enum):
    """Why a source was asked for a piece: the reason codes of `edgecoder why`."""

    GRANTED = "granted"
    """The broker said so."""
    NEAR = "near"
    """A peer over a radio link has it."""
    RAREST = "rarest"
    """There is no broker; of what known peers have, the fewest have it."""
    ALONE = "alone"
    """No peer has given a sign within the grace."""
    BEHIND = "behind"
    """The CDN can only just bring the rest by the deadline."""
    LATE = "late"
    """It was asked of a peer, which would be late with it."""
    NEXT_RUNG = "next_rung"
    """The sources before it on the ladder give nothing."""


class View(NamedTuple):
    """How a download stands."""

    now: Micros
    began: Micros
    """When it was asked for, in this life."""
    alone_ends: Micros
    """When the CDN alone would be done, or would have been."""
    bytes_begun: int
    """What it lacked at first."""
    bytes_left: int
    """What it lacks now, what is on its way included."""
    bytes_free: int
    """Of that, what nobody has been asked for."""
    peers_asked: int
    """Requests to peers that are under way."""
    peer_sign_at: Micros
    """When peers gave something last, or a broker said that they will; when the download began, else."""
    cdn_bytes_per_s: int
    """What the CDN would give this node alone, at least 1."""
    cdn_first_byte: Micros
    """How long the CDN takes to its first byte."""
    is_cdn_shared: bool
    """Whether it gives less because there are others."""
    is_cdn_up: bool
    """Whether it gave something when it was asked last, or has not been asked."""
    rtt: Micros
    """To the broker and back."""
    peers_end: Micros
    """When the last request to a peer should be done."""
    prices: Prices
    alone_end: Mapping[Source, Micros]
    """Of those kinds of peers that were asked for something: when one kind alone would bring all that is left."""


class Plan(NamedTuple):
    """What to do about the CDN."""

    why: Why | None
    """Ask it, for this reason; None: do not."""
    look_again: Micros
    """Judge anew by then, if nothing happens before."""
    doubles: bool = False
    """Whether it may be asked for what is on its way from peers."""
    grace: Micros = 0
    """Judge anew as well when nobody is asked any more and peers have given no sign for so long."""


class Planner(Protocol):
    """A policy."""

    def plan(self, view: View) -> Plan:
        """Whether the CDN is asked now."""
        ...

    def takes_near(self, view: View, source: Source, takes: Micros) -> bool:
        """Whether a peer over a radio link is asked for a piece that takes it so long."""
        ...

    def takes_mesh(self, view: View) -> bool:
        """Whether brokers hear that more is wanted, and those whom they have named are asked."""
        ...


class PortfolioPlanner:
    """Fewest bytes from the CDN, with a finish no later than SLACK_PCT after the CDN alone."""

    def plan(self, view: View) -> Plan:
        """See `Planner`."""
        now, rate, alone = view.now, view.cdn_bytes_per_s, _alone(view)
        deadline = _deadline(view)
        rest = view.cdn_first_byte + view.bytes_left * SECOND_US // rate
        is_ahead = (view.alone_ends - now - rest) * 100 >= AHEAD_PCT * alone
        grace = max(2 * view.rtt, alone * (AHEAD_PCT if is_ahead else GRACE_PCT) // 100)
        if not view.peers_asked and now >= view.peer_sign_at + grace:
            return Plan(Why.ALONE, now + _LOOK_US_MAX)
        latest = deadline - rest  # then the CDN must be asked for all that is left
        is_end = view.bytes_left * 100 <= view.bytes_begun * DOUBLED_PCT
        if now >= latest:
            return Plan(Why.BEHIND, now + _LOOK_US_MAX, doubles=is_end or not view.bytes_free)
        if is_end and not view.bytes_free and view.peers_end > max(deadline, now + 2 * rest):
            return Plan(Why.LATE, now + _LOOK_US_MAX, doubles=True)
        again = latest if view.peers_asked else min(latest, view.peer_sign_at + grace)
        return Plan(None, min(max(again, now + _LOOK_US_MIN), now + _LOOK_US_MAX), grace=grace)

    def takes_near(self, view: View, source: Source, takes: Micros) -> bool:
        """See `Planner`: what comes after the deadline the CDN brings anyhow, and two radios have worked in vain,
        unless the CDN is down or the access has its price."""
        late = view.now + takes > _deadline(view)
        if late and view.is_cdn_up and not view.prices[Source.MESH]:
            return False
        return not _is_served_cheaper(view, source)

    def takes_mesh(self, view: View) -> bool:
        """See `Planner`."""
        return not _is_served_cheaper(view, Source.MESH)


class LadderPlanner:
    """The seed's order: a source is asked only where the one before it gives nothing."""

    def plan(self, view: View) -> Plan:
        """See `Planner`."""
        grace = max(2 * view.rtt, SECOND_US)
        if not view.peers_asked and view.now >= view.peer_sign_at + grace:
            return Plan(Why.NEXT_RUNG, view.now + _LOOK_US_MAX)
        if view.peers_asked:  # who is asked says so when it has given, or has been too slow
            return Plan(None, view.now + _LOOK_US_MAX, grace=grace)
        return Plan(None, max(view.peer_sign_at + grace, view.now + _LOOK_US_MIN), grace=grace)

    def takes_near(self, view: View, source: Source, takes: Micros) -> bool:  # noqa: ARG002
        """See `Planner`: the seed takes a peer over Bluetooth for the fastest source."""
        return True

    def takes_mesh(self, view: View) -> bool:
        """See `Planner`: where nobody near gives anything."""
        return not view.alone_end.keys() - {Source.MESH}


def _is_served_cheaper(view: View, source: Source) -> bool:
    """Whether a kind of peer that costs less, ties aside, would bring all that is left by the deadline."""
    prices, deadline = view.prices, _deadline(view)
    return any(end <= deadline and is_cheaper(prices[other], prices[source]) for other, end in view.alone_end.items())


def _deadline(view: View) -> Micros:
    """By when it is no slower than from the CDN alone."""
    alone = _alone(view)
    return view.began + alone + alone * (SHARED_SLACK_PCT if view.is_cdn_shared else SLACK_PCT) // 100


def _alone(view: View) -> Micros:
    """How long the whole takes from the CDN alone."""
    return view.alone_ends - view.began


def make_planner(distribution: Distribution) -> Planner:
    """The policy that a configuration names."""
    return LadderPlanner() if distribution is Distribution.LADDER else PortfolioPlanner()
