"""The cost router: what is excluded is excluded before any cost, the cheapest wins, ties are broken at random."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.config import DeviceType, NodeConfig
from edgecoder.core.rng import Stream
from edgecoder.errors import Reason
from edgecoder.mesh.models import fitting
from edgecoder.mesh.router import NOT_ITS_FAULT, Candidate, CostRouter, PeerStats, Why, cost
from edgecoder.wire.messages import Load
from tests.catalogs import CATALOG

CONFIG = NodeConfig()


def candidate(name: str = "n", **fields: object) -> Candidate:
    """A laptop with a 7B model and nothing to do."""
    base = Candidate(name.encode().ljust(32), 7.0, Load.of(0), DeviceType.LAPTOP, 100, None, 0.0, 100)
    return msgspec.structs.replace(base, **fields)


def router(rng_seed: int = 1) -> CostRouter:
    return CostRouter(CONFIG, Stream(rng_seed, b"n", "routing"))


def test_the_cheapest_wins() -> None:
    decision = router().choose(
        [candidate("a", load=Load.of(2)), candidate("b", load=Load.of(1)), candidate("c", load=Load.of(3))]
    )
    assert decision.node == candidate("b").node
    assert (decision.cost, decision.eligible, decision.excluded) == (20.0, 3, {})


def test_nobody_is_chosen_from_nobody() -> None:
    decision = router().choose([])
    assert (decision.node, decision.cost, decision.eligible, decision.excluded) == (None, None, 0, {})


def test_what_is_excluded_is_counted_by_reason() -> None:
    decision = router().choose(
        [
            candidate("a", excluded=Why.TRIED),
            candidate("b", excluded=Why.TRIED),
            candidate("c", load=Load.of(10)),
            candidate("d", load=Load.LOADING),
            candidate("e", load=Load.of(9)),
        ]
    )
    assert decision.node == candidate("e").node
    assert decision.excluded == {Why.TRIED.value: 2, Why.TOO_COSTLY.value: 1, Why.IS_LOADING.value: 1}
    assert decision.eligible == 1


loads = st.just(Load.LOADING) | st.integers(0, 12).map(Load.of)
candidates = st.builds(
    candidate,
    st.sampled_from("abcdefgh"),
    load=loads,
    param_size=st.none() | st.floats(0, 100),
    battery_pct=st.integers(0, 100),
    device_type=st.sampled_from(DeviceType),
    rssi_dbm=st.none() | st.floats(-120, 0),
    fail_rate=st.floats(0, 1),
    quality=st.integers(0, 100),
    excluded=st.none() | st.sampled_from(Why),
)


@given(st.lists(candidates, max_size=8, unique_by=lambda one: one.node), st.integers(0, 100))
def test_the_choice_is_the_least_cost_of_those_that_may_be_chosen(options: list[Candidate], rng_seed: int) -> None:
    decision = router(rng_seed).choose(options)
    allowed = [
        one for one in options if one.excluded is None and not one.load.is_loading and cost(one) < CONFIG.cost_max
    ]
    assert decision.eligible == len(allowed)
    assert decision.eligible + sum(decision.excluded.values()) == len(options)
    if allowed:
        least = min(cost(one) for one in allowed)
        assert decision.cost == least
        assert decision.node in [one.node for one in allowed if cost(one) == least]
    else:
        assert decision.node is None


@given(candidates)
def test_a_cost_is_never_negative(one: Candidate) -> None:
    assert cost(one) >= 0


def test_ties_are_spread() -> None:
    options, chosen = [candidate(name) for name in "abcd"], dict[bytes, int]()
    spread = router()
    for _ in range(400):
        node = spread.choose(options).node
        assert node is not None
        chosen[node] = chosen.get(node, 0) + 1
    assert len(chosen) == 4
    assert all(60 < count < 140 for count in chosen.values())


def test_a_single_choice_draws_nothing() -> None:
    """So that a node that comes or goes does not change the ties that others break."""
    stream = Stream(1, b"n", "routing")
    lonely = CostRouter(CONFIG, stream)
    for _ in range(10):
        lonely.choose([candidate()])
    assert stream.word() == Stream(1, b"n", "routing").word()


def test_a_wired_link_costs_no_signal() -> None:
    assert cost(candidate(rssi_dbm=None)) == 0.0
    assert cost(candidate(rssi_dbm=-90)) == 30.0


def test_only_phones_pay_for_their_battery() -> None:
    assert cost(candidate(battery_pct=20)) == 0.0
    assert cost(candidate(battery_pct=20, device_type=DeviceType.PHONE)) == 40.0


def test_a_model_of_unknown_size_costs_as_the_smallest() -> None:
    assert cost(candidate(param_size=None)) == cost(candidate(param_size=0.0)) == 56.0


# -- what is measured of a peer ----------------------------------------------------------------------------------------


def test_five_failures_in_a_row_blacklist_for_a_while() -> None:
    stats = PeerStats()
    for _ in range(4):
        stats.note_failure(1_000, CONFIG)
    stats.note_success(10)
    for _ in range(4):
        stats.note_failure(1_000, CONFIG)
    assert stats.blacklisted_until == 0
    stats.note_failure(1_000, CONFIG)
    assert stats.blacklisted_until == 1_000 + CONFIG.blacklist_ms * 1000
    stats.note_failure(2_000, CONFIG)
    assert stats.blacklisted_until == 1_000 + CONFIG.blacklist_ms * 1000, "counting begins anew"


@pytest.mark.parametrize(
    ("drops", "latency_ms", "failed", "quality"),
    [
        (0, 0, 0, 100),
        (4, 0, 0, 90),
        (10, 0, 0, 75),
        (20, 0, 0, 75),
        (0, 1_000, 0, 95),
        (0, 9_000, 0, 75),
        (0, 0, 1, 88),
    ],
)
def test_quality_has_four_parts(drops: int, latency_ms: int, failed: int, quality: int) -> None:
    stats = PeerStats(drops=drops)
    stats.note_success(latency_ms)
    for _ in range(failed):
        stats.note_failure(0, CONFIG)
    assert stats.quality() == quality


def test_signals_are_averaged() -> None:
    stats = PeerStats()
    assert stats.rssi_avg_dbm is None
    stats.note_rssi(-40)
    stats.note_rssi(-60)
    assert stats.rssi_avg_dbm == -50.0


def test_nobody_is_blamed_for_what_the_user_or_a_swap_did() -> None:
    assert {Reason.CANCELLED, Reason.DEADLINE, Reason.LOADING, Reason.DRAINED} <= NOT_ITS_FAULT
    assert Reason.ENGINE_CRASHED not in NOT_ITS_FAULT
    assert Reason.NO_ANSWER not in NOT_ITS_FAULT


# -- which models fit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "min_param_size", "active", "param_size", "why"),
    [
        (None, 0.0, "small", 1.5, None),
        (None, 0.0, "anything", None, None),
        (None, 0.0, None, None, Why.HAS_NO_MODEL),
        ("small", 0.0, "small-coder:1.5b", 1.5, None),
        ("SMALL:latest", 0.0, "small", 1.5, None),
        ("newest", 0.0, "newest:latest", 2.0, None),
        ("small", 0.0, "large", 7.0, Why.WRONG_MODEL),
        ("large", 7.0, "large", 7.0, None),
        (None, 7.1, "large", 7.0, Why.TOO_SMALL),
        (None, 1.0, "mine", None, Why.TOO_SMALL),
    ],
)
def test_fitting(
    wanted: str | None, min_param_size: float, active: str | None, param_size: float | None, why: Why | None
) -> None:
    assert fitting(wanted, min_param_size, CATALOG.same_model)(active, param_size) is why
