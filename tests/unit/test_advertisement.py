"""The ten bytes of the advertisement: what stands where, and when 16 bits tell of something later."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgecoder.core.ids import COUNTER_BITS
from edgecoder.wire.advertisement import (
    DATA_BYTES,
    LAG_MAX,
    TAG_BYTES,
    Bits,
    decode,
    encode,
    heard_generation,
    is_later,
    short_generation,
    tag,
)

BITS = st.builds(
    Bits,
    loading=st.booleans(),
    generation=st.integers(0, 65_535),
    tag=st.binary(min_size=TAG_BYTES, max_size=TAG_BYTES),
    wifi_direct=st.booleans(),
)
NODE = bytes(range(32))


def whole(epoch: int, counter: int) -> int:
    return (epoch << COUNTER_BITS) | counter


def test_the_bytes_are_these() -> None:
    bits = Bits(loading=True, generation=short_generation(whole(3, 5)), tag=b"\xab\xcd\xef")
    assert encode(bits).hex() == "09ffffff013005abcdef"
    assert len(encode(bits)) == DATA_BYTES


@given(BITS)
def test_what_was_encoded_is_decoded(bits: Bits) -> None:
    assert decode(encode(bits)) == bits


@given(st.binary(max_size=40))
def test_foreign_bytes_are_nothing(data: bytes) -> None:
    bits = decode(data)
    assert bits is None or encode(bits)[:4] == data[:4]


def test_another_company_and_another_length_are_foreign() -> None:
    ours = encode(Bits(loading=False, generation=1, tag=b"tag"))
    assert decode(b"\x09\xff\x4c\x00" + ours[4:]) is None
    assert decode(ours + b"\x00") is None
    assert decode(ours[:4] + b"\xfe" + ours[5:]) == Bits(False, 1, b"tag", wifi_direct=True)  # flags of the future


@given(st.integers(1, 1 << 31), st.integers(0, 1 << 31), st.integers(0, 2047))
def test_a_generation_is_later_up_to_half_a_turn_ahead(epoch: int, counter: int, ahead: int) -> None:
    heard = short_generation(whole(epoch, counter + ahead))
    assert is_later(heard, whole(epoch, counter)) is (ahead > 0)
    assert heard_generation(heard, whole(epoch, counter)) == whole(epoch, counter + ahead)
    assert not is_later(short_generation(whole(epoch, counter)), whole(epoch, counter + ahead))


@given(st.integers(1, 1 << 31), st.integers(0, 1 << 31), st.integers(1, 15), st.integers(0, 4095))
def test_another_epoch_is_always_later(epoch: int, counter: int, lives: int, now: int) -> None:
    heard = short_generation(whole(epoch + lives, now))
    assert is_later(heard, whole(epoch, counter))
    assert heard_generation(heard, whole(epoch, counter)) == whole(epoch + lives, now)


@given(st.integers(1, 1 << 31), st.integers(0, 1 << 31), st.integers(0, LAG_MAX - 1), st.integers(1, LAG_MAX))
def test_who_read_since_the_last_change_knows_it_and_who_did_not_does_not(
    epoch: int, material: int, lag: int, before: int
) -> None:
    heard = short_generation(whole(epoch, material))
    assert not is_later(heard, whole(epoch, material + lag))
    assert is_later(heard, whole(epoch, max(0, material - before))) is (material > 0)


def test_a_tag_changes_with_the_window_and_the_node() -> None:
    assert len({tag(NODE, 1), tag(NODE, 2), tag(NODE[::-1], 1)}) == 3
    assert tag(NODE, 1) == tag(bytes(NODE), 1)
    assert len(tag(NODE, 1)) == TAG_BYTES
