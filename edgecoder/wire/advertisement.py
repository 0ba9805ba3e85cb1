"""The BLE advertisement: ten bytes that tell scanners which are not connected what has changed.

Bytes, an AD structure of manufacturer data: length 9, type 0xFF, company (2, little endian), flags (1: bit 0 is
"loading", bit 1 "opens Wi-Fi Direct"), generation (2, big endian), rotating tag (3). With the flags (3 bytes) and the
service UUID (18) it fills the 31 bytes of a legacy advertisement.

The generation is (epoch mod 16) · 4096 + counter mod 4096, of the last change that scanners must know: of the model, or
of "loading"; after LAG_MAX other changes of one of these. Who holds capabilities of that generation or a later one need
not read again. The tag is a digest of the node's id and of the quarter of an hour, so that who knows the node finds it
again, and nobody else can follow it.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from edgecoder.core.ids import COUNTER_BITS, NodeId

COMPANY_ID = 0xFFFF
"""For tests and for those who have no number of their own (Bluetooth Assigned Numbers)."""
DATA_BYTES = 10
TAG_BYTES = 3
TAG_WINDOW_MS = 900_000
"""A tag lasts a quarter of an hour, like a resolvable private address (Bluetooth Core, Vol 3 Part C, App. A)."""
EPOCHS, _COUNTERS = 16, 4096
LAG_MAX = _COUNTERS // 4
"""The counter in an advertisement is behind the newest by less: half a turn behind looks like half a turn ahead."""
_HEAD = bytes((DATA_BYTES - 1, 0xFF)) + COMPANY_ID.to_bytes(2, "little")
_LOADING, _WIFI_DIRECT = 1, 2


class Bits(msgspec.Struct, frozen=True, gc=False):
    """What an advertisement says."""

    loading: bool
    generation: int
    """16 bits."""
    tag: bytes
    """TAG_BYTES."""
    wifi_direct: bool = False
    """Whether it can be dialled over Wi-Fi Direct."""


def short_generation(generation: int) -> int:
    """The 16 bits of a generation."""
    epoch, counter = generation >> COUNTER_BITS, generation & ((1 << COUNTER_BITS) - 1)
    return (epoch % EPOCHS) * _COUNTERS + counter % _COUNTERS


def is_later(heard: int, generation: int) -> bool:
    """Whether 16 bits that were heard tell of something later than a generation that is known: another epoch, or a
    counter at most half a turn ahead."""
    known = short_generation(generation)
    return heard // _COUNTERS != known // _COUNTERS or 0 < (heard - known) % _COUNTERS < _COUNTERS // 2


def heard_generation(heard: int, generation: int) -> int:
    """The whole generation that was heard of a node whose `generation` is known; an epoch is taken as the next that
    fits."""
    epoch, counter = generation >> COUNTER_BITS, generation & ((1 << COUNTER_BITS) - 1)
    ahead = (heard // _COUNTERS - epoch) % EPOCHS
    if ahead:
        return ((epoch + ahead) << COUNTER_BITS) | heard % _COUNTERS
    return (epoch << COUNTER_BITS) | (counter + (heard - counter) % _COUNTERS)


def tag(node: NodeId, window: int) -> bytes:
    """The tag of a node in the `window`-th quarter of an hour of Unix time."""
    return blake2b(node, digest_size=TAG_BYTES, salt=window.to_bytes(8, "big"), person=b"edgecoder.tag").digest()


def encode(bits: Bits) -> bytes:
    """The ten bytes."""
    flags = _LOADING * bits.loading + _WIFI_DIRECT * bits.wifi_direct
    return _HEAD + bytes((flags,)) + bits.generation.to_bytes(2, "big") + bits.tag


def decode(data: bytes) -> Bits | None:
    """What ten bytes say; None where they are not ours. Flags that are not known yet are passed over."""
    if len(data) != DATA_BYTES or not data.startswith(_HEAD):
        return None
    flags, generation = data[4], int.from_bytes(data[5:7], "big")
    return Bits(bool(flags & _LOADING), generation, data[7:], bool(flags & _WIFI_DIRECT))
