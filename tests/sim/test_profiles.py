"""Profiles: the whole numbers that events depend on, and what the built-in ones promise."""

from __future__ import annotations

import msgspec
import pytest

from edgecoder_sim.profiles import DEVICES, NETWORKS, Cdn, Device, Network
from edgecoder_sim.radio_model import SYSTEMS, Ble, Radio, agreed


def test_networks_become_whole_numbers() -> None:
    network = Network(latency_ms=0.5, jitter_ms=0.0015, up_mbit_per_s=0.001, down_mbit_per_s=941)
    assert (network.latency_us, network.jitter_us) == (500, 2)
    assert (network.up_bytes_per_s, network.down_bytes_per_s) == (125, 117_625_000)


def test_the_cdn_becomes_whole_numbers() -> None:
    cdn, limited = Cdn(), Cdn(egress_mbit_per_s=0.001, ttfb_ms=0.5)
    assert (cdn.egress_bytes_per_s, cdn.per_connection_bytes_per_s, cdn.ttfb_us) == (None, 50_000_000, 100_000)
    assert (limited.egress_bytes_per_s, limited.ttfb_us) == (125, 500)


def test_device_times_follow_their_formulas() -> None:
    phone = DEVICES["phone_high"]
    size = 1_117_320_768
    assert phone.load_us(size) == 300_000 + 744_881  # 0.3 s + 1.117 GB at 1.5 GB/s, rounded up
    assert phone.load_us(size, warm=True) == 300_000 + 186_221
    assert phone.load_us(size, warm=True, slow=True) == 300_000 + 3_724_403
    assert phone.token_us(size) == 21_823  # 1.117 GB ÷ (0.8 · 64 GB/s)
    assert phone.tokens_per_s(size) == 45
    assert phone.prefill_us(size, 0) == 0
    assert phone.prefill_us(size, 4001) == -(-1001 * 21_823 // 8)
    assert phone.tokens_per_s(10**15) == 1
    assert phone.hash_us(size) == 446_929  # 1.117 GB at 2.5 GB/s, rounded up
    assert phone.hash_us(0) == 0


@pytest.mark.parametrize(
    ("file_size_bytes", "tokens_per_s"), [(491400064, 100), (1117320768, 45), (2104932800, 25), (4683073536, 11)]
)
def test_a_good_phone_decodes_as_phones_do(file_size_bytes: int, tokens_per_s: int) -> None:
    assert DEVICES["phone_high"].tokens_per_s(file_size_bytes) == pytest.approx(tokens_per_s, rel=0.1)


def test_the_radio_fades() -> None:
    radio = Radio()
    assert [radio.rssi_dbm(distance) for distance in (0.0, 0.1, 1.0, 10.0, 15.0)] == [-29, -29, -59, -89, -94]


@pytest.mark.parametrize("profile", [*DEVICES.values(), *NETWORKS.values()])
def test_built_in_profiles_keep_their_own_rules(profile: Device | Network) -> None:
    assert msgspec.convert(msgspec.to_builtins(profile), type(profile)) == profile


@pytest.mark.parametrize(
    ("pair", "interval_us", "size_bytes", "kbit_per_s"),
    [
        (("ios", "ios"), 30_000, 182, (200, 300)),
        (("android", "ios"), 30_000, 182, (200, 300)),
        (("android", "android"), 30_000, 512, (1000, 1402)),
        (("desktop", "ios"), 30_000, 182, (200, 300)),
    ],
)
def test_the_weaker_end_decides_a_link(
    pair: tuple[str, str], interval_us: int, size_bytes: int, kbit_per_s: tuple[int, int]
) -> None:
    for first, second in (pair, pair[::-1]):
        timing = agreed(Ble(), SYSTEMS[first], SYSTEMS[second])
        assert (timing.interval_us, timing.value_bytes) == (interval_us, size_bytes)
        assert kbit_per_s[0] <= timing.goodput_kbit_per_s <= kbit_per_s[1]


def test_an_interval_is_one_that_both_grant() -> None:
    for asked_ms, of_ios, of_android in ((7.5, 30_000, 7_500), (31.0, 45_000, 31_250), (100.0, 105_000, 100_000)):
        ble = Ble(interval_ms=asked_ms)
        assert agreed(ble, SYSTEMS["android"], SYSTEMS["ios"]).interval_us == of_ios
        assert agreed(ble, SYSTEMS["android"], SYSTEMS["android"]).interval_us == of_android
