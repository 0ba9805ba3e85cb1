"""Rates that are read from when bytes were asked for and when they were there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder_sim.fit.rates import Points, first_byte_us, mean_rate, origin_rates, stretches
from edgecoder_sim.fit.samples import Samples, number, quantile, samples_of

MIB = 1 << 20
SECOND = 1_000_000


def back_to_back(count: int, took_us: int, size: int = MIB) -> list[Points]:
    """Requests of which each begins when the one before it has ended."""
    return [[(index * took_us, 0), ((index + 1) * took_us, size)] for index in range(count)]


def shared(connections: int, pieces: int, rate: int) -> list[Points]:
    """Requests that all begin at once, and share a rate evenly."""
    took = MIB * connections * SECOND // rate
    return [[(0, 0), *((each * took, each * MIB) for each in range(1, pieces + 1))] for _ in range(connections)]


@given(st.integers(min_value=10, max_value=60), st.integers(min_value=100_000, max_value=2_000_000))
def test_who_always_sends_has_the_rate_that_it_sends_at(count: int, took_us: int) -> None:
    rate = mean_rate(stretches(back_to_back(count, took_us)))
    if count * took_us >= 1_500_000:
        assert rate == pytest.approx(MIB * SECOND / took_us, rel=1e-6)
    else:
        assert rate is None


def test_a_pause_is_not_counted() -> None:
    later = [[(at + 60 * SECOND, size) for at, size in points] for points in back_to_back(8, 500_000)]
    found = stretches([*back_to_back(8, 500_000), *later])
    assert len(found) == 2
    assert mean_rate(found) == pytest.approx(2 * MIB, rel=1e-6)


def test_requests_that_touch_nothing_say_nothing() -> None:
    apart = [[(index * SECOND, 0), (index * SECOND + 1000, MIB)] for index in range(20)]
    assert stretches(apart) == []
    assert mean_rate([]) is None


def test_an_origin_that_gives_no_more_to_more_is_limited_itself() -> None:
    alone = [[(at + 60 * SECOND, size) for at, size in points] for points in back_to_back(8, 500_000)]
    rates = origin_rates([*shared(4, 6, 2 * MIB), *alone])
    assert rates.egress == pytest.approx(2 * MIB, rel=0.02)
    assert not rates.is_connection_limit
    assert rates.most_at_once == 4


def test_an_origin_that_gives_more_to_more_limits_connections() -> None:
    alone = [[(at + 60 * SECOND, size) for at, size in points] for points in back_to_back(8, 500_000)]
    rates = origin_rates([*shared(4, 12, 8 * MIB), *alone])
    assert rates.egress is None
    assert rates.is_connection_limit
    assert rates.connection == pytest.approx(2 * MIB, rel=0.02)


def test_an_origin_of_which_nothing_came_has_no_rate() -> None:
    assert origin_rates([])[:2] == (None, None)
    assert first_byte_us([]) is None


def test_the_first_byte_is_what_is_left_of_a_request_that_was_alone() -> None:
    late = 70_000
    requests: list[Points] = []
    for index in range(6):
        begin = index * 2 * SECOND
        requests.append([(begin, 0), (begin + late + 500_000, MIB), (begin + late + SECOND, 2 * MIB)])
    found = first_byte_us(requests)
    assert found is not None
    assert found.count == 6
    assert found.median == pytest.approx(late, rel=0.05)


def test_requests_that_shared_the_origin_do_not_tell_its_first_byte() -> None:
    requests = shared(4, 6, 2 * MIB)
    assert first_byte_us(requests) is None


@given(st.lists(st.floats(min_value=0, max_value=1e9), min_size=1))
def test_percentiles_lie_in_their_order_within_the_values(values: list[float]) -> None:
    found = samples_of(values)
    assert found is not None
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    assert quantile(sorted(values), 1.0) == max(values)


def test_numbers_are_written_without_an_exponent() -> None:
    assert [number(value) for value in (0.0, 0.000012345, 1.0, 12.3456, 123456.7)] == [
        "0", "0.000012", "1", "12.35", "123457",
    ]  # fmt: skip
    assert Samples(count=3, low=1, median=2, high=3).text("ms") == "median of 3, 1 to 3 ms"
