"""When the CDN is asked, for which reason, and when it is judged again: under both policies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.config import Distribution
from edgecoder.core.effects import Source
from edgecoder.core.ids import Micros
from edgecoder.seeding.planner import LadderPlanner, Plan, Planner, PortfolioPlanner, View, Why, make_planner

SECOND: Micros = 1_000_000
MB = 1_000_000
BEGAN = 50 * SECOND
START = View(
    now=BEGAN,
    began=BEGAN,
    alone_ends=BEGAN + 100 * SECOND,
    bytes_begun=1000 * MB,
    bytes_left=1000 * MB,
    bytes_free=1000 * MB,
    peers_asked=0,
    peer_sign_at=BEGAN,
    cdn_bytes_per_s=10 * MB,
    cdn_first_byte=0,
    rtt=SECOND // 10,
    peers_end=BEGAN,
    is_cdn_shared=False,
    is_cdn_up=True,
    prices=dict.fromkeys(Source, 0),
    alone_end={},
)
"""A download that the CDN alone would bring in 100 s, so that the deadline is after 103; peers have 1 s for a sign."""
WITH_PEERS: dict[str, Any] = {"peers_asked": 1, "bytes_free": 0}
LATEST = 103 * SECOND
"""After this the rest has to be there."""


def portfolio(after: Micros, **view: Any) -> Plan:
    """What the portfolio says, so long after the beginning; the grace apart."""
    return PortfolioPlanner().plan(START._replace(now=BEGAN + after, **view))._replace(grace=0)


def ladder(after: Micros, **view: Any) -> Plan:
    """What the ladder says; the grace apart."""
    return LadderPlanner().plan(START._replace(now=BEGAN + after, **view))._replace(grace=0)


# -- the portfolio -----------------------------------------------------------------------------------------------------


def test_peers_have_a_hundredth_of_the_time_to_give_a_sign() -> None:
    assert portfolio(SECOND - 1) == Plan(None, BEGAN + SECOND + 9_999)
    assert portfolio(0) == Plan(None, BEGAN + SECOND)
    assert portfolio(SECOND).why is Why.ALONE
    assert portfolio(SECOND, peer_sign_at=BEGAN + 1).why is None


@pytest.mark.parametrize(("left_mb", "grace_s"), [(1000, 1), (960, 1), (800, 5)])
def test_peers_have_more_time_for_a_sign_where_the_download_is_ahead_of_the_cdn_alone(
    left_mb: int, grace_s: int
) -> None:
    left = {"bytes_left": left_mb * MB, "bytes_free": left_mb * MB}
    grace = grace_s * SECOND
    assert portfolio(grace - SECOND // 10, **left) == Plan(None, BEGAN + grace)
    assert portfolio(grace, **left).why is Why.ALONE


def test_there_is_less_slack_where_others_wait_for_their_share_of_the_cdn() -> None:
    """Those who come last were later by the slack of all before them."""
    asked = {"bytes_left": 400 * MB, "peers_asked": 1, "is_cdn_shared": True}
    assert portfolio(61 * SECOND - 1, **asked).why is None
    assert portfolio(61 * SECOND, **asked).why is Why.BEHIND


def test_the_grace_is_told_so_that_who_is_not_asked_any_more_can_be_waited_for() -> None:
    assert PortfolioPlanner().plan(START._replace(**WITH_PEERS)).grace == SECOND
    assert LadderPlanner().plan(START._replace(**WITH_PEERS)).grace == SECOND


def test_or_two_round_trips_where_those_take_longer() -> None:
    assert portfolio(SECOND, rtt=SECOND).why is None
    assert portfolio(2 * SECOND, rtt=SECOND).why is Why.ALONE


def test_who_is_asked_is_a_sign() -> None:
    assert portfolio(2 * SECOND, peers_asked=1).why is None


@pytest.mark.parametrize("first_byte", [0, SECOND])
def test_the_cdn_is_asked_when_it_can_only_just_bring_the_rest(first_byte: Micros) -> None:
    """Half is here after 40 s: the other half takes the CDN 50 s, and its first byte."""
    how: dict[str, Any] = {"bytes_left": 500 * MB, "bytes_free": 400 * MB, "peers_asked": 1}
    latest = LATEST - 50 * SECOND - first_byte
    assert portfolio(40 * SECOND, cdn_first_byte=first_byte, **how) == Plan(None, BEGAN + min(latest, 70 * SECOND))
    assert portfolio(latest - 1, cdn_first_byte=first_byte, **how).why is None
    assert portfolio(latest, cdn_first_byte=first_byte, **how) == Plan(Why.BEHIND, BEGAN + latest + 30 * SECOND)


def test_a_slower_cdn_is_asked_sooner() -> None:
    how: dict[str, Any] = {"bytes_left": 500 * MB, "peers_asked": 1}
    assert portfolio(10 * SECOND, **how).why is None
    assert portfolio(10 * SECOND, cdn_bytes_per_s=5 * MB, **how).why is Why.BEHIND


def test_what_is_on_its_way_is_doubled_where_nothing_else_is_left_or_at_the_end() -> None:
    late: dict[str, Any] = {"peers_asked": 3}
    assert not portfolio(LATEST, bytes_left=30 * MB, bytes_free=1 * MB, **late).doubles
    assert portfolio(LATEST, bytes_left=30 * MB, bytes_free=0, **late).doubles
    assert portfolio(LATEST, bytes_left=20 * MB, bytes_free=1 * MB, **late).doubles


def test_the_end_is_doubled_where_peers_would_be_late_with_it() -> None:
    """A fiftieth is left, which the CDN has in 2 s; the deadline is far."""
    end: dict[str, Any] = {"bytes_left": 20 * MB, "bytes_free": 0, "peers_asked": 1}
    assert portfolio(50 * SECOND, peers_end=BEGAN + LATEST, **end).why is None
    assert portfolio(50 * SECOND, peers_end=BEGAN + LATEST + 1, **end) == Plan(Why.LATE, BEGAN + 80 * SECOND, True)
    assert portfolio(50 * SECOND, peers_end=BEGAN + LATEST + 1, **end | {"bytes_free": 1}).why is None
    assert portfolio(50 * SECOND, peers_end=BEGAN + LATEST + 1, **end | {"bytes_left": 20 * MB + 1}).why is None


def test_late_is_what_the_cdn_would_have_in_half_the_time() -> None:
    """A little before the deadline two times the rest, 4 s, counts in its place."""
    end: dict[str, Any] = {"bytes_left": 20 * MB, "bytes_free": 0, "peers_asked": 1}
    now = 100 * SECOND
    assert portfolio(now, peers_end=BEGAN + now + 4 * SECOND, **end).why is None
    assert portfolio(now, peers_end=BEGAN + now + 4 * SECOND + 1, **end).why is Why.LATE


def test_it_is_judged_again_neither_at_once_nor_much_later() -> None:
    how: dict[str, Any] = {"bytes_left": 500 * MB, "peers_asked": 1}
    assert portfolio(53 * SECOND - 1, **how).look_again == BEGAN + 53 * SECOND + 9_999
    assert portfolio(10 * SECOND, **how).look_again == BEGAN + 40 * SECOND


# -- the ladder --------------------------------------------------------------------------------------------------------


def test_the_ladder_asks_the_cdn_where_peers_give_no_sign() -> None:
    assert ladder(0) == Plan(None, BEGAN + SECOND)
    assert ladder(SECOND - 1).why is None
    assert ladder(SECOND) == Plan(Why.NEXT_RUNG, BEGAN + 31 * SECOND)
    assert ladder(SECOND, rtt=SECOND).why is None
    assert ladder(2 * SECOND, rtt=SECOND).why is Why.NEXT_RUNG


def test_the_ladder_waits_for_peers_however_slow_they_are() -> None:
    assert ladder(10_000 * SECOND, **WITH_PEERS) == Plan(None, BEGAN + 10_030 * SECOND)


# -- both --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distribution", "kind"),
    [(Distribution.LADDER, LadderPlanner), (Distribution.PORTFOLIO, PortfolioPlanner)],
)
def test_a_configuration_names_a_policy(distribution: Distribution, kind: type[Planner]) -> None:
    assert isinstance(make_planner(distribution), kind)


@given(
    after=st.integers(0, 200 * SECOND),
    alone=st.integers(1, 1000 * SECOND),
    left=st.integers(1, 1000 * MB),
    free_pct=st.integers(0, 100),
    peers=st.integers(0, 5),
    sign=st.integers(0, 200 * SECOND),
    rate=st.integers(1, 100 * MB),
    peers_end=st.integers(-SECOND, 1000 * SECOND),
    is_ladder=st.booleans(),
)
def test_whatever_the_view_it_is_judged_again_later_and_soon(
    after: Micros,
    alone: Micros,
    left: int,
    free_pct: int,
    peers: int,
    sign: Micros,
    rate: int,
    peers_end: Micros,
    is_ladder: bool,
) -> None:
    now = BEGAN + after
    view = START._replace(
        now=now,
        alone_ends=BEGAN + alone,
        bytes_left=left,
        bytes_free=left * free_pct // 100,
        peers_asked=peers,
        peer_sign_at=BEGAN + min(sign, after),
        cdn_bytes_per_s=rate,
        peers_end=now + peers_end,
    )
    plan = (LadderPlanner() if is_ladder else PortfolioPlanner()).plan(view)
    assert now < plan.look_again <= now + 30 * SECOND
    assert plan.why is not None or not plan.doubles
    assert plan.why in ((None, Why.NEXT_RUNG) if is_ladder else (None, Why.ALONE, Why.BEHIND, Why.LATE))
