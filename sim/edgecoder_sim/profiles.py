"""What the machines, access networks and CDN of a scenario can do: their types, and the profiles built in.

Decides the numbers and their units; how they become events is left to the engines and links that use them. Every
default has the kind of its figure beside it: S read from a source, M measured, D derived, U well known and not
re-verified, I interpolated. A scenario may override any of them.

Fidelity boundary: a device is a handful of constants. There is no thermal throttling, no memory pressure from other
programs, and no slow-down of decoding by a long context; an access network has a fixed capacity that its node does not
share with the nodes around it; the CDN is one cache that always has every file.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from edgecoder.config import DeviceType
from edgecoder.models.catalog import Platform

PROFILE_NAME: Final = r"^[a-z0-9][a-z0-9_-]{0,63}$"
"""Grammar of the names of devices, networks, workloads and scenarios; a scenario's name becomes part of a path."""
PROMPT_BYTES_PER_TOKEN: Final = 4
"""UTF-8 bytes of source code a token stands for (U: the usual rule of thumb; tokenizers differ by a third)."""

_NAME_FORM: Final = "1 to 64 lower-case letters, digits, `_` and `-`, a letter or digit first"
ProfileName = Annotated[str, Meta(pattern=PROFILE_NAME, extra={"noun": "a name", "form": _NAME_FORM})]
Gigabytes = Annotated[float, Meta(ge=0, le=1_000_000, extra={"noun": "a size in GB"})]
Percent = Annotated[float, Meta(ge=0, le=100, extra={"noun": "a share in percent"})]
GigabytesPerS = Annotated[float, Meta(ge=0.001, le=100_000, extra={"noun": "a rate in GB/s"})]
MegabitsPerS = Annotated[float, Meta(ge=0.001, le=1_000_000, extra={"noun": "a rate in Mbit/s"})]
LatencyMs = Annotated[float, Meta(ge=0.001, le=600_000, extra={"noun": "a latency in ms"})]
JitterMs = Annotated[float, Meta(ge=0, le=600_000, extra={"noun": "a jitter in ms"})]
Weight = Annotated[float, Meta(ge=0, le=1e9, extra={"noun": "a weight"})]
CostUs = Annotated[int, Meta(ge=0, le=1_000_000, extra={"noun": "a cost in µs"})]


_DESKTOP: Final[dict[ProfileName, Weight]] = {"desktop": 1.0}


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a node reaches the IP network. A link between two nodes is the access of both, one after the other."""

    latency_ms: LatencyMs
    """One-way delay of this side, ms; a link has the sum of its two sides."""
    jitter_ms: JitterMs = 0.0
    """Further delay of each envelope on this side, ms, uniform from 0 to this. A link still delivers in order."""
    up_mbit_per_s: MegabitsPerS
    """Capacity from the node, Mbit/s; all its links share it."""
    down_mbit_per_s: MegabitsPerS
    """Capacity to the node, Mbit/s; all its links share it."""
    loss_pct: Percent = 0.0
    """Envelopes lost on this side, percent. Links are connection-oriented and repeat what IP loses, so it is 0 but for
    studies of the protocol under loss."""
    metered: bool = False
    """Whether its user pays for bytes; a node then gives others none, unless `seed_when_metered` is set."""

    @property
    def latency_us(self) -> int:
        """One-way delay of this side, µs."""
        return _whole(self.latency_ms * 1000)

    @property
    def jitter_us(self) -> int:
        """Largest further delay of this side, µs."""
        return _whole(self.jitter_ms * 1000)

    @property
    def up_bytes_per_s(self) -> int:
        """Capacity from the node, bytes a second."""
        return _whole(self.up_mbit_per_s * 125_000)

    @property
    def down_bytes_per_s(self) -> int:
        """Capacity to the node, bytes a second."""
        return _whole(self.down_mbit_per_s * 125_000)


class Cdn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where nodes pull model files from when nobody near has them; a pull is one connection."""

    egress_mbit_per_s: MegabitsPerS | None = None
    """Capacity of the whole CDN towards all nodes together, Mbit/s; null is unlimited (U: public CDNs carry more)."""
    per_connection_mbit_per_s: MegabitsPerS = 400.0
    """Most that one connection gets, Mbit/s (S: model files from Hugging Face came at 320 and at 500 a connection,
    huggingface_hub issue 2658 and oobabooga/textgen issue 2841; Amazon's guide for S3 counts on 700 in one region)."""
    ttfb_ms: LatencyMs = 100.0
    """Time from a request to the first byte of the answer, ms, both ways included (S: 100 to 200 from S3, by Amazon's
    guide; I: an edge cache is at the lower end)."""
    price_usd_per_gb: Annotated[float, Meta(ge=0, le=1000, extra={"noun": "a price in dollars a GB"})] = 0.085
    """What its operator pays for what it sends, dollars a GB (S: Amazon CloudFront, first 10 TB a month)."""
    reachable: bool = True
    """Whether nodes reach it at all; false is a place without internet."""
    is_told: bool = True
    """Whether nodes are told all this, as its operator would; false: they have what `config.cluster` says of it."""

    @property
    def egress_bytes_per_s(self) -> int | None:
        """Capacity of the whole CDN, bytes a second; None is unlimited."""
        return None if self.egress_mbit_per_s is None else _whole(self.egress_mbit_per_s * 125_000)

    @property
    def per_connection_bytes_per_s(self) -> int:
        """Most that one connection gets, bytes a second."""
        return _whole(self.per_connection_mbit_per_s * 125_000)

    @property
    def ttfb_us(self) -> int:
        """Time from a request to the first byte of the answer, µs."""
        return _whole(self.ttfb_ms * 1000)


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of machine."""

    device_type: DeviceType
    """What the node says that it is; the router charges phones for their battery. It also picks the preset of the
    node's configuration: phone, laptop, or server for a workstation."""
    platform: Platform
    """Which files run here: `ios` is any llama.cpp device, `node` is Ollama."""
    memory_mb: Annotated[int, Meta(ge=512, le=16_777_216, extra={"noun": "a memory in MB"})]
    """Memory of the machine, MB (of the card where a GPU holds the model). `memory_share_pct` of the configuration says
    how much of it a model may take."""
    slots: Annotated[int, Meta(ge=1, le=256, extra={"noun": "a number of slots"})] = 1
    """Tasks that run at once."""
    ble: bool = False
    """Whether it has a Bluetooth radio that takes part in the mesh."""
    wifi_direct: bool = False
    """Whether it has Wi-Fi Direct or Wi-Fi Aware, where `radio.wifi_direct` and its system let it be used."""
    systems: dict[ProfileName, Weight] = {}
    """Operating systems and how common each is, which decide how its Bluetooth behaves; weights need not add up to 1,
    and none is `desktop`. Which files run is `platform`'s to say."""
    load_base_ms: Annotated[float, Meta(ge=0, le=600_000, extra={"noun": "a time in ms"})] = 300.0
    """Part of a load that does not depend on the file, ms (I: 0.3 s)."""
    load_cold_gb_per_s: GigabytesPerS
    """Speed of a load from storage, GB/s (10⁹ bytes)."""
    load_warm_gb_per_s: GigabytesPerS
    """Speed of a load of a file that is still in memory's file cache, GB/s."""
    load_slow_gb_per_s: GigabytesPerS = 0.3
    """Speed of a load in the bad tail (storage busy, memory short), GB/s (I: 0.3)."""
    load_slow_pct: Percent = 0.0
    """How many loads are in the bad tail, percent."""
    load_failure_pct: Percent = 0.0
    """How many loads fail, percent; the node then rolls back."""
    memory_bandwidth_gb_per_s: GigabytesPerS
    """Memory bandwidth, GB/s. Decoding reads the whole file for a token, so it bounds tokens a second."""
    decode_efficiency_pct: Annotated[float, Meta(gt=0, le=100, extra={"noun": "a share in percent"})] = 80.0
    """Share of the bandwidth that decoding reaches, percent (I: 80; S: 86 on an M4 of 120 GB/s, Llama 3.1 8B Q4_K_M at
    20.9 tokens/s, brand-o/normiebench issue 3)."""
    prefill_per_decode: Annotated[float, Meta(gt=0, le=1000, extra={"noun": "a ratio"})]
    """Prompt tokens a second per decoded token a second. Both fall with the model's size, decoding because it reads the
    file, prompts because they are bound by arithmetic; so their ratio is the device's alone."""
    battery_pct: tuple[Percent, Percent] | None = None
    """Charge at the start, percent, uniform between the two; null is a machine on mains power."""
    battery_idle_pct_per_h: Percent = 0.0
    """Charge used while nothing runs, percentage points an hour."""
    battery_busy_pct_per_h: Annotated[float, Meta(ge=0, le=10_000, extra={"noun": "a drain"})] = 0.0
    """Charge used while the engine runs, percentage points an hour."""
    sign_us: CostUs = 40
    """CPU time of an Ed25519 signature, µs (D: 126 k cycles at 3 GHz; S: OpenSSL on Skylake, lib25519 doc/speed)."""
    verify_us: CostUs = 137
    """CPU time of an Ed25519 verification, µs (D: 410 k cycles at 3 GHz; same source)."""
    handle_us: CostUs = 10
    """CPU time of one event in the protocol core, µs (I: the goal of the core on a desktop machine)."""
    hash_gb_per_s: GigabytesPerS = 1.8
    """Speed of SHA-256 over a file on one core, GB/s (S: OpenSSL with the processor's SHA instructions, 1.8 on an EPYC
    7543P, 2.3 on an i7-13700H, 2.0 on a Cortex-A720, 2.5 and 3.0 on Apple's M1 and M3; lelegard/shabench)."""
    disk_free_gb: Gigabytes | None = None
    """Room for model files on its disk beside those that are there at first, GB (10⁹ bytes); null never ends. One for
    which there is none is refused. (I: an eighth of the storage that such machines are sold with, on phones, which are
    never empty, and a quarter on others)"""
    languages: tuple[str, ...] = ()
    """Programming languages that the node advertises; empty means those of its active model."""

    def __hash__(self) -> int:
        """Of what most devices differ in: a mapping has no hash of its own."""
        return hash((self.device_type, self.memory_mb, self.memory_bandwidth_gb_per_s))

    @property
    def system_weights(self) -> dict[ProfileName, Weight]:
        """The operating systems, which are never none."""
        return self.systems or _DESKTOP

    @property
    def disk_free_bytes(self) -> int | None:
        """Room for model files beside those that are there at first, bytes; None never ends."""
        return None if self.disk_free_gb is None else _whole(self.disk_free_gb * 1e9)

    def load_us(self, file_size_bytes: int, *, warm: bool = False, slow: bool = False) -> int:
        """How long a load of a file takes, µs: base + bytes ÷ rate. `slow` is the bad tail and wins over `warm`."""
        rate = self.load_slow_gb_per_s if slow else self.load_warm_gb_per_s if warm else self.load_cold_gb_per_s
        return _whole(self.load_base_ms * 1000) + -(-file_size_bytes * 1_000_000 // bytes_per_s(rate))

    def token_us(self, file_size_bytes: int) -> int:
        """How long one task alone waits for a decoded token, µs: file ÷ (efficiency · bandwidth)."""
        rate = bytes_per_s(self.memory_bandwidth_gb_per_s * self.decode_efficiency_pct / 100)
        return max(1, -(-file_size_bytes * 1_000_000 // rate))

    def prefill_us(self, file_size_bytes: int, prompt_bytes: int) -> int:
        """How long a prompt takes before the first token, µs."""
        tokens = -(-prompt_bytes // PROMPT_BYTES_PER_TOKEN)
        return -(-tokens * self.token_us(file_size_bytes) * 1000 // max(1, _whole(self.prefill_per_decode * 1000)))

    def hash_us(self, file_size_bytes: int) -> int:
        """How long the SHA-256 of a file takes, µs."""
        return -(-file_size_bytes * 1_000_000 // bytes_per_s(self.hash_gb_per_s))

    def tokens_per_s(self, file_size_bytes: int) -> int:
        """Tokens a second for one task alone, at least 1: what the node advertises."""
        return max(1, 1_000_000 // self.token_us(file_size_bytes))


def bytes_per_s(gb_per_s: float) -> int:
    """A rate in GB/s (10⁹ bytes) as whole bytes a second, at least 1."""
    return max(1, _whole(gb_per_s * 1e9))


def _whole(number: float) -> int:
    """The nearest whole number: where a figure somebody wrote becomes one that events may depend on."""
    return round(number)


NETWORKS: Final[dict[str, Network]] = {
    # Office Wi-Fi. A few ms on the air, more when it is busy (I); 802.11ac with two streams on 80 MHz has a PHY rate of
    # 867 Mbit/s (U), of which a client among others gets some 150 Mbit/s (I).
    "wifi": Network(latency_ms=2.0, jitter_ms=4.0, up_mbit_per_s=100, down_mbit_per_s=150),
    # Wired office LAN: 1 GbE carries 941 Mbit/s of TCP payload (D: 1448 of 1538 bytes on the wire). Half a millisecond
    # is mostly the program at this end (I).
    "lan": Network(latency_ms=0.5, jitter_ms=0.1, up_mbit_per_s=941, down_mbit_per_s=941),
    # A server in a data centre, on the company's WAN: its half of a path of some 3000 km of fibre (D: 5 µs a km), and
    # some equipment (I); 1 Gbit/s of uplink (I).
    "wan": Network(latency_ms=10.0, jitter_ms=1.0, up_mbit_per_s=1000, down_mbit_per_s=1000),
}
"""Access networks that a scenario may name without describing them."""

_PHONE_PREFILL: Final = 8.0
"""Prompt tokens per decoded token on a phone (I: below the 11 of a laptop's GPU, which has more arithmetic per byte of
bandwidth)."""

DEVICES: Final[dict[str, Device]] = {
    # 64-bit LPDDR4X-4266: 34.1 GB/s (D). Storage a step below the common phone, and often short of memory (I). Who runs
    # iOS is I; with a quarter, a half and a quarter of the three kinds it is 27 of 100 phones, as in the world (U:
    # StatCounter).
    "phone_low": Device(
        device_type=DeviceType.PHONE,
        platform=Platform.IOS,
        memory_mb=4096,
        ble=True,
        wifi_direct=True,
        systems={"android": 1.0},
        load_cold_gb_per_s=0.8,
        load_warm_gb_per_s=3.0,
        load_slow_pct=5.0,
        memory_bandwidth_gb_per_s=34.1,
        prefill_per_decode=_PHONE_PREFILL,
        battery_pct=(20.0, 100.0),
        battery_idle_pct_per_h=1.5,
        battery_busy_pct_per_h=40.0,  # I: 5 W of a 12 Wh battery
        sign_us=120,  # I: three times a desktop core
        verify_us=400,
        handle_us=60,
        hash_gb_per_s=1.2,  # D: 5.1 bits a cycle (S: as above, Neoverse N1, a Cortex-A76) at 2 GHz
        disk_free_gb=8.0,  # I: of 64 GB
    ),
    # 64-bit LPDDR5-6400: 51.2 GB/s (D). Loads 1.2 GB/s cold, 3 to 6 warm (I).
    "phone_mid": Device(
        device_type=DeviceType.PHONE,
        platform=Platform.IOS,
        memory_mb=6144,
        ble=True,
        wifi_direct=True,
        systems={"android": 0.75, "ios": 0.25},
        load_cold_gb_per_s=1.2,
        load_warm_gb_per_s=4.0,
        load_slow_pct=2.0,
        memory_bandwidth_gb_per_s=51.2,
        prefill_per_decode=_PHONE_PREFILL,
        battery_pct=(30.0, 100.0),
        battery_idle_pct_per_h=1.0,
        battery_busy_pct_per_h=35.0,  # I: 5 W of a 14 Wh battery
        sign_us=80,  # I: twice a desktop core
        verify_us=270,
        handle_us=30,
        hash_gb_per_s=1.6,  # D: the same at 2.5 GHz
        disk_free_gb=16.0,  # I: of 128 GB
    ),
    # 64 GB/s gives about 100, 45, 25 and 11 tokens/s for 0.5, 1.5, 3 and 7 B (I), and 1.5 GB/s loads a 2 B model cold
    # in 1.2 s (S: iPhone 17 Pro, 1.24 s cold, 39.6 tokens/s). 12 GB of memory (U).
    "phone_high": Device(
        device_type=DeviceType.PHONE,
        platform=Platform.IOS,
        memory_mb=12_288,
        ble=True,
        wifi_direct=True,
        systems={"android": 0.4, "ios": 0.6},
        load_cold_gb_per_s=1.5,
        load_warm_gb_per_s=6.0,
        load_slow_pct=1.0,
        memory_bandwidth_gb_per_s=64.0,
        prefill_per_decode=_PHONE_PREFILL,
        battery_pct=(40.0, 100.0),
        battery_idle_pct_per_h=1.0,
        battery_busy_pct_per_h=35.0,
        sign_us=50,
        verify_us=170,
        handle_us=20,
        hash_gb_per_s=2.5,  # S: as above, M1
        disk_free_gb=32.0,  # I: of 256 GB
    ),
    # 128-bit LPDDR5X-7500: 120 GB/s (D). Prompts 10.8 times as fast as decoding (S: M4, 224.8 against 20.9 tokens/s,
    # brand-o/normiebench issue 3). Loads 2 to 3 GB/s cold, 8 warm (I). Plugged in at the desk.
    "laptop": Device(
        device_type=DeviceType.LAPTOP,
        platform=Platform.NODE,
        memory_mb=16_384,
        slots=2,
        ble=True,
        load_cold_gb_per_s=2.5,
        load_warm_gb_per_s=8.0,
        memory_bandwidth_gb_per_s=120.0,
        prefill_per_decode=10.8,
        hash_gb_per_s=3.0,  # S: as above, M3
        disk_free_gb=128.0,  # I: of 512 GB
    ),
    # A machine with a card of 24 GB and 936 GB/s (D: 384 bit at 19.5 Gbit/s). Prompts 33 times as fast as decoding (S:
    # RTX 3090, 4744 against 145 tokens/s, calebcoffie.com/benchmarks). `memory_mb` is the card's.
    "workstation": Device(
        device_type=DeviceType.WORKSTATION,
        platform=Platform.NODE,
        memory_mb=24_576,
        slots=4,
        load_cold_gb_per_s=3.0,
        load_warm_gb_per_s=10.0,
        memory_bandwidth_gb_per_s=936.0,
        prefill_per_decode=33.0,
        hash_gb_per_s=2.3,  # S: as above, i7-13700H
        disk_free_gb=512.0,  # I: of 2 TB
    ),
    # A coordinator: runs no model, so only its CPU costs matter. Eight channels of DDR5-4800 are 307 GB/s (D).
    "server": Device(
        device_type=DeviceType.WORKSTATION,
        platform=Platform.NODE,
        memory_mb=65_536,
        slots=4,
        load_cold_gb_per_s=3.0,
        load_warm_gb_per_s=10.0,
        memory_bandwidth_gb_per_s=307.0,
        prefill_per_decode=10.0,
        disk_free_gb=512.0,  # I: of 2 TB
    ),
}
"""Devices that a scenario may name without describing them, and override in part."""
