"""Profiles: the whole numbers that events depend on, and what the built-in ones promise."""

from __future__ import annotations

import msgspec
import pytest

from edgecoder_sim.profiles import DEVICES, NETWORKS, Cdn, Device, Network, Radio


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
    assert (radio.latency_us, radio.bytes_per_s) == (15_000, 43_750)
    assert [radio.rssi_dbm(distance) for distance in (0.0, 0.1, 1.0, 10.0, 15.0)] == [-29, -29, -59, -89, -94]


@pytest.mark.parametrize("profile", [*DEVICES.values(), *NETWORKS.values()])
def test_built_in_profiles_keep_their_own_rules(profile: Device | Network) -> None:
    assert msgspec.convert(msgspec.to_builtins(profile), type(profile)) == profile
