"""The wire under fire: everything round-trips, and nothing from outside raises anything but the one error."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.core.events import FrameReceived
from edgecoder.core.ids import Role
from edgecoder.errors import RemoteProtocolError
from edgecoder.protocol import FRAME_BYTES_MAX
from edgecoder.wire.codec import decode_body, encode_body
from edgecoder.wire.envelope import ByteSigner, ByteVerifier, Header, Verified, encoded_size
from edgecoder.wire.messages import NAMES, TYPES, Message
from edgecoder_sim.crypto import IdealKey, IdealKeys
from tests import strategies
from tests.golden.messages import MESSAGES, SENDER, envelope
from tests.harness import Cluster

GOLDEN = {name: envelope(message, seq) for seq, (name, message) in enumerate(MESSAGES.items(), start=1)}
VERIFIER = ByteVerifier(IdealKeys(), "edgecoder")


def opened(frame: bytes) -> Verified[Message] | None:
    """What the verifier makes of a frame; None where it refuses it in the one way it may."""
    try:
        return VERIFIER.open(frame)
    except RemoteProtocolError:
        return None


@given(strategies.messages)
def test_messages_round_trip(message: Message) -> None:
    assert decode_body(NAMES[type(message)], encode_body(message)) == message


@given(strategies.messages, strategies.headers)
def test_envelopes_round_trip_and_have_the_size_that_was_charged(message: Message, header: Header) -> None:
    header = msgspec.structs.replace(header, network_id="edgecoder")
    frame = ByteSigner(IdealKey(header.sender)).seal(header, message)
    assert VERIFIER.open(frame) == Verified(header, message, len(frame))
    assert encoded_size(header, NAMES[type(message)], len(encode_body(message))) == len(frame)


@given(strategies.headers)
def test_the_size_counts_every_network_name(header: Header) -> None:
    message = MESSAGES["cancel"]
    frame = ByteSigner(IdealKey(header.sender)).seal(header, message)
    assert encoded_size(header, "cancel", len(encode_body(message))) == len(frame)


@pytest.mark.parametrize("name", GOLDEN)
def test_every_truncation_is_refused(name: str) -> None:
    frame = GOLDEN[name]
    assert all(opened(frame[:length]) is None for length in range(len(frame)))


@pytest.mark.parametrize("name", GOLDEN)
def test_every_changed_byte_is_refused(name: str) -> None:
    frame = GOLDEN[name]
    for position in range(len(frame)):
        for mask in (0x01, 0x80, 0xFF):
            changed = bytearray(frame)
            changed[position] ^= mask
            assert opened(bytes(changed)) is None, f"byte {position} xor {mask:#x}"


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(frame: bytes) -> None:
    assert opened(frame) is None


@given(st.sampled_from(sorted(TYPES)), st.binary(max_size=400))
def test_arbitrary_bodies_are_a_message_or_the_one_error(type_name: str, body: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert isinstance(decode_body(type_name, body), TYPES[type_name])


@given(st.sampled_from(sorted(TYPES)), st.dictionaries(st.text(max_size=12), st.integers() | st.text() | st.floats()))
def test_well_formed_bodies_of_wrong_shape_are_a_message_or_the_one_error(
    type_name: str, body: dict[str, object]
) -> None:
    in_range = {key: value for key, value in body.items() if not isinstance(value, int) or abs(value) < 1 << 63}
    with contextlib.suppress(RemoteProtocolError):
        assert isinstance(decode_body(type_name, msgspec.msgpack.encode(in_range)), TYPES[type_name])


@pytest.mark.parametrize("deep", [b"\x91" * 5000 + b"\xc0", b"\x81\xa1x" * 5000 + b"\xc0"])
def test_nesting_without_end_is_refused(deep: bytes) -> None:
    assert opened(deep) is None
    with pytest.raises(RemoteProtocolError):
        decode_body("heartbeat", deep)


def test_a_frame_over_the_limit_is_refused_unread() -> None:
    assert opened(GOLDEN["cancel"] + bytes(FRAME_BYTES_MAX)) is None


@given(st.lists(st.binary(max_size=200) | st.sampled_from(list(GOLDEN.values())), max_size=12), st.data())
def test_a_node_takes_any_frame(frames: list[bytes], data: st.DataObject) -> None:
    """Hostile frames change nothing but what is traced, in any order, from any sender, on links that are up or not."""
    role = data.draw(st.sampled_from([Role.PHONE, Role.COORDINATOR]))
    cluster = Cluster(encoded=True)
    host = cluster.add("target", role)
    stranger = cluster.puppet("stranger")
    link = cluster.link(host, stranger)
    cluster.run_for(1000)
    for frame in frames:
        host.take(FrameReceived(data.draw(st.sampled_from([link, link + 1])), frame))
    cluster.run_for(1000)
    assert host.alive.context.epoch == 1
    assert all(known.peer in (None, SENDER, stranger.node_id) for known in host.alive.gate.links.values())
