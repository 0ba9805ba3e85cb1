"""Time on the air: ceilings that others have measured or derived, phones, writes, and the protocol's own framing."""

from __future__ import annotations

import pytest

from edgecoder_sim.ble_timing import (
    Phy,
    Timing,
    ceiling_kbit_per_s,
    exchange_us,
    packet_us,
    slower,
    value_bytes,
)

ALL = 251
"""Data length extension to its end."""


@pytest.mark.parametrize(
    ("phy", "size_bytes", "kbit_per_s"),
    [(Phy.LE_1M, 244, 791), (Phy.LE_2M, 244, 1402), (Phy.LE_1M, 20, 237)],
)
def test_one_packet_after_another_carries_as_much_as_is_known(phy: Phy, size_bytes: int, kbit_per_s: int) -> None:
    assert round(ceiling_kbit_per_s(phy, size_bytes)) == kbit_per_s


def test_the_coded_phy_is_two_or_eight_times_slower() -> None:
    uncoded = ceiling_kbit_per_s(Phy.LE_1M, 244)
    assert uncoded / ceiling_kbit_per_s(Phy.CODED_S2, 244) == pytest.approx(2, rel=0.1)
    assert uncoded / ceiling_kbit_per_s(Phy.CODED_S8, 244) == pytest.approx(8, rel=0.1)
    assert packet_us(Phy.CODED_S8, 255) == 17_040  # the longest that the specification allows
    assert [slower(Phy.LE_2M, phy) for phy in Phy] == [slower(phy, Phy.LE_2M) for phy in Phy] == list(Phy)


def test_long_events_come_near_to_the_ceiling() -> None:
    timing = Timing(Phy.LE_2M, 400_000, 244, ALL)
    assert timing.goodput_kbit_per_s == pytest.approx(ceiling_kbit_per_s(Phy.LE_2M, 244), rel=0.01)


def test_a_phone_carries_what_was_measured_of_it() -> None:
    iphone = Timing(Phy.LE_2M, 30_000, value_bytes(244), ALL, packets_max=5)
    android = Timing(Phy.LE_2M, 15_000, value_bytes(244), ALL)
    assert 300 <= iphone.goodput_kbit_per_s <= 400
    assert 1000 <= android.goodput_kbit_per_s <= 1402


def test_a_value_is_no_longer_than_an_attribute_and_is_cut_into_packets() -> None:
    assert [value_bytes(mtu) for mtu in (23, 185, 515, 517)] == [20, 182, 512, 512]
    timing = Timing(Phy.LE_2M, 30_000, 512, ALL)
    assert timing.value_cost(512) == (3, 2 * exchange_us(Phy.LE_2M, 251) + exchange_us(Phy.LE_2M, 17))
    assert Timing(Phy.LE_1M, 30_000, 182, 27).value_cost(182)[0] == 7  # without the extension
    assert timing.value_cost(244) == (1, exchange_us(Phy.LE_2M, 251))
    assert timing.value_cost(245)[0] == 2


def test_an_acknowledged_write_takes_two_intervals() -> None:
    timing = Timing(Phy.LE_2M, 30_000, 182, ALL, packets_max=5)
    assert timing.events_of_write(182) == 2
    assert timing.write_kbit_per_s == pytest.approx(182 * 8 / 60)
    assert Timing(Phy.LE_1M, 30_000, 512, 27, packets_max=5).events_of_write(512) == 5  # 20 packets, then the response


def test_the_first_part_of_an_envelope_has_the_longer_header() -> None:
    timing = Timing(Phy.LE_2M, 30_000, 182, ALL)
    parts = {size: timing.cost(size).values for size in (1, 170, 171, 170 + 179, 170 + 180, 170 + 10 * 179)}
    assert parts == {1: 1, 170: 1, 171: 2, 349: 2, 350: 3, 1960: 11}
    assert timing.cost(170) == (1, 1, exchange_us(Phy.LE_2M, 189))
    assert timing.cost(171) == (2, 2, exchange_us(Phy.LE_2M, 189) + exchange_us(Phy.LE_2M, 1 + 3 + 7))


def test_an_envelope_costs_more_than_its_bytes_and_grows_with_them() -> None:
    for mtu in (23, 185, 517):
        timing = Timing(Phy.LE_1M, 30_000, value_bytes(mtu), ALL)
        costs = [timing.cost(size) for size in range(1, 3000)]
        assert costs == sorted(costs, key=lambda cost: cost.packets)
        bare_us = [size * 8 for size in range(1, 3000)]
        assert all(cost.air_us > air_us for cost, air_us in zip(costs, bare_us, strict=True))


def test_a_rate_that_is_given_replaces_what_the_parts_lead_to() -> None:
    for mtu in (23, 185, 517):
        for kbit_per_s in (5.0, 350.0, 2000.0):
            timing = Timing(Phy.LE_2M, 30_000, value_bytes(mtu), ALL, 5, kbit_per_s)
            assert timing.goodput_kbit_per_s == pytest.approx(kbit_per_s, rel=0.01)
