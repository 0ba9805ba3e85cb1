"""Measured rates: bytes over the time in which something was under way, the newest counting most."""

from __future__ import annotations

import pytest

from edgecoder.core.effects import Source
from edgecoder.core.ids import Micros
from edgecoder.seeding.rates import Meter, Rates

SECOND: Micros = 1_000_000
MB = 1_000_000
PEERS = (Source.BLE, Source.WIFI_DIRECT, Source.MESH)


def test_nothing_measured_is_no_rate() -> None:
    meter = Meter()
    assert meter.bytes_per_s(SECOND) == 0
    meter.begin(SECOND)
    assert meter.bytes_per_s(SECOND, unnoted_bytes=MB) == 0
    assert meter.bytes_per_s(3 * SECOND) == 0
    assert meter.bytes_per_s(3 * SECOND, unnoted_bytes=2 * MB) == MB


def test_only_time_in_which_something_was_under_way_counts() -> None:
    meter = Meter()
    meter.begin(10 * SECOND)
    meter.note(2 * MB)
    meter.end(12 * SECOND)
    assert meter.bytes_per_s(100 * SECOND) == MB
    meter.begin(100 * SECOND)
    meter.note(2 * MB)
    assert meter.bytes_per_s(102 * SECOND) == MB
    assert meter.total_bytes == 4 * MB


def test_two_at_once_are_one_time() -> None:
    meter = Meter()
    meter.begin(0)
    meter.begin(SECOND)
    meter.note(3 * MB)
    meter.end(2 * SECOND)
    meter.end(3 * SECOND)
    assert meter.bytes_per_s(9 * SECOND) == MB


def test_a_first_byte_is_waited_for_where_nothing_else_is_under_way() -> None:
    meter = Meter()
    meter.begin(0, first_byte=SECOND)
    meter.begin(2 * SECOND, first_byte=SECOND)  # the other gives meanwhile
    meter.note(3 * MB)
    assert meter.bytes_per_s(4 * SECOND) == MB
    gone = Meter()
    gone.begin(0, first_byte=5 * SECOND)
    gone.end(SECOND)
    gone.note(MB)
    assert gone.bytes_per_s(9 * SECOND) == 0


def test_what_has_come_and_was_not_noted_counts_beside_what_was() -> None:
    meter = Meter()
    meter.begin(0)
    meter.note(MB)
    assert meter.bytes_per_s(2 * SECOND, unnoted_bytes=3 * MB) == 2 * MB


def test_a_new_rate_soon_outweighs_an_old_one() -> None:
    """After a minute at ten times the rate the old one is half forgotten, again and again."""
    meter = Meter()
    meter.begin(0)
    now = 0
    for rate, seconds in ((MB, 120), (10 * MB, 60)):
        for _ in range(seconds):
            now += SECOND
            meter.bytes_per_s(now)
            meter.note(rate)
    assert meter.bytes_per_s(now) > 7 * MB
    assert meter.total_bytes == 720 * MB


@pytest.mark.parametrize("source", PEERS)
def test_peers_are_measured_by_kind_and_together(source: Source) -> None:
    rates = Rates()
    rates.begin(source, 0)
    rates.note(source, MB)
    rates.end(source, SECOND)
    for other in Source:
        assert rates.bytes_per_s(other, SECOND) == (MB if other is source else 0)
        assert rates.total_bytes(other) == (MB if other is source else 0)
    assert rates.peers.bytes_per_s(SECOND) == MB


def test_the_cdn_is_no_peer() -> None:
    rates = Rates()
    rates.begin(Source.CDN, 0, first_byte=SECOND)
    rates.note(Source.CDN, MB)
    assert rates.bytes_per_s(Source.CDN, 2 * SECOND) == MB
    assert rates.peers.total_bytes == 0
