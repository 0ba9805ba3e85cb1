"""What sources cost, and which is left alone while a cheaper one is fast enough."""

from __future__ import annotations

import pytest

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import Source
from edgecoder.core.ids import Micros
from edgecoder.seeding.planner import LadderPlanner, PortfolioPlanner, View
from edgecoder.seeding.prices import Prices, is_cheaper, prices_of

SECOND: Micros = 1_000_000
ALONE = 100 * SECOND
"""What the CDN alone takes; 3 % more is the deadline."""
MAINS = prices_of(ClusterConfig(), NodeConfig(), is_metered=False, on_battery=False)
BATTERY = prices_of(ClusterConfig(), NodeConfig(), is_metered=False, on_battery=True)
METERED = prices_of(ClusterConfig(), NodeConfig(), is_metered=True, on_battery=True)


def view(prices: Prices, ends_s: dict[str, float] | None = None, *, is_cdn_up: bool = True) -> View:
    """A download at its beginning, of whose peers each kind would be done by itself after so long."""
    ends_s = ends_s or {}
    return View(
        now=0,
        began=0,
        alone_ends=ALONE,
        bytes_begun=1 << 30,
        bytes_left=1 << 30,
        bytes_free=1 << 30,
        peers_asked=len(ends_s),
        peer_sign_at=0,
        cdn_bytes_per_s=10_000_000,
        cdn_first_byte=0,
        rtt=0,
        peers_end=0,
        is_cdn_shared=False,
        is_cdn_up=is_cdn_up,
        prices=prices,
        alone_end={Source[kind.upper()]: round(end_s * SECOND) for kind, end_s in ends_s.items()},
    )


def test_the_network_costs_who_pays_for_it_and_the_cdn_its_operator() -> None:
    assert MAINS == {Source.BLE: 0, Source.WIFI_DIRECT: 0, Source.MESH: 0, Source.CDN: 85_000}
    assert BATTERY == {**MAINS, Source.BLE: 4_000}
    assert METERED == {Source.BLE: 4_000, Source.WIFI_DIRECT: 0, Source.MESH: 620_000, Source.CDN: 705_000}


@pytest.mark.parametrize(("one", "other", "cheaper"), [(0, 0, False), (0, 1, True), (95, 100, False), (94, 100, True)])
def test_about_the_same_is_a_tie(one: int, other: int, cheaper: bool) -> None:
    assert is_cheaper(one, other) is cheaper


@pytest.mark.parametrize(
    ("prices", "ends_s", "takes_mesh"),
    [
        (MAINS, {"wifi_direct": 10}, True),  # nothing costs anything: all at once
        (METERED, {}, True),
        (METERED, {"wifi_direct": 102}, False),
        (METERED, {"wifi_direct": 104}, True),  # it would be late
        (METERED, {"ble": 500, "wifi_direct": 50}, False),
        (METERED, {"ble": 500}, True),
        (METERED, {"mesh": 20}, True),
        (BATTERY, {"ble": 50}, True),
    ],
)
def test_the_mesh_rests_where_a_cheaper_radio_is_in_time(
    prices: Prices, ends_s: dict[str, float], takes_mesh: bool
) -> None:
    assert PortfolioPlanner().takes_mesh(view(prices, ends_s)) is takes_mesh


@pytest.mark.parametrize(
    ("prices", "ends_s", "takes_ble"),
    [
        (BATTERY, {"mesh": 50}, False),
        (BATTERY, {"mesh": 150}, True),
        (BATTERY, {"wifi_direct": 50}, False),
        (MAINS, {"mesh": 50}, True),
        (METERED, {"mesh": 50}, True),
    ],
)
def test_bluetooth_rests_on_battery_where_something_cheaper_is_in_time(
    prices: Prices, ends_s: dict[str, float], takes_ble: bool
) -> None:
    assert PortfolioPlanner().takes_near(view(prices, ends_s), Source.BLE, SECOND) is takes_ble


@pytest.mark.parametrize(
    ("prices", "is_cdn_up", "takes"), [(MAINS, True, False), (MAINS, False, True), (METERED, True, True)]
)
def test_what_a_radio_brings_after_the_deadline_is_for_those_who_pay_or_have_no_cdn(
    prices: Prices, is_cdn_up: bool, takes: bool
) -> None:
    late = view(prices, is_cdn_up=is_cdn_up)
    assert PortfolioPlanner().takes_near(late, Source.BLE, 104 * SECOND) is takes
    assert PortfolioPlanner().takes_near(late, Source.BLE, 102 * SECOND)


def test_the_ladder_asks_the_mesh_where_nobody_near_gives_anything_whatever_it_costs() -> None:
    ladder = LadderPlanner()
    assert ladder.takes_mesh(view(MAINS))
    assert ladder.takes_mesh(view(METERED, {"mesh": 10}))
    assert not ladder.takes_mesh(view(MAINS, {"ble": 10_000}))
    assert ladder.takes_near(view(METERED, {"mesh": 1}), Source.BLE, 10_000 * SECOND)
