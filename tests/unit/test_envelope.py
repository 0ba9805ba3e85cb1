"""The envelope's bytes: what is signed, what is checked in which order, and the size that is reckoned without them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgecoder.errors import Reason, RemoteProtocolError
from edgecoder.protocol import FRAME_BYTES_MAX, SIGNATURE_TAG, TTL_MS_MAX
from edgecoder.wire.envelope import ByteSigner, ByteVerifier, Header, encoded_size, peek
from edgecoder.wire.messages import NAMES, Versions
from edgecoder_sim.crypto import IdealKey, IdealKeys, ReferenceSigner, ReferenceVerifier, node_id
from tests.strategies import task_request

ANN = node_id("ann")
MESSAGE = Versions(version_min=1, version_max=2)
HEADER = Header("edgecoder", ANN, 3, 70_000, 60_000)
SIGNER, VERIFIER = ByteSigner(IdealKey(ANN)), ByteVerifier(IdealKeys(), "edgecoder")
FIELDS: dict[str, Any] = {
    "version": 1, "type": "versions", "network_id": "edgecoder", "sender": ANN, "epoch": 3, "seq": 70_000,
    "ttl_ms": 60_000, "body": {"versionMin": 1, "versionMax": 2},
}  # fmt: skip


def envelope(**changed: object) -> bytes:
    """A signed envelope with some of its fields changed."""
    signed = msgspec.msgpack.encode(list((FIELDS | changed).values()))
    sender = changed.get("sender", ANN)
    key = IdealKey(sender if isinstance(sender, bytes) and 0 < len(sender) <= 64 else ANN)
    return msgspec.msgpack.encode([signed, key.sign(SIGNATURE_TAG + signed)])


def refusal(frame: bytes) -> Reason:
    """Why a frame is refused."""
    with pytest.raises(RemoteProtocolError) as error:
        VERIFIER.open(frame)
    return error.value.reason


def test_what_was_sealed_is_opened() -> None:
    frame = SIGNER.seal(HEADER, MESSAGE)
    verified = VERIFIER.open(frame)
    assert (verified.header, verified.message, verified.size_bytes) == (HEADER, MESSAGE, len(frame))
    assert frame == envelope()


def test_the_layout() -> None:
    signed, signature = msgspec.msgpack.decode(SIGNER.seal(HEADER, MESSAGE))
    assert msgspec.msgpack.decode(signed) == list(FIELDS.values())
    assert signature == IdealKey(ANN).sign(SIGNATURE_TAG + signed)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"version": 0}, Reason.VERSION_MISMATCH),
        ({"version": 2}, Reason.VERSION_MISMATCH),
        ({"version": -1}, Reason.VERSION_MISMATCH),
        ({"version": "1"}, Reason.BAD_FRAME),
        ({"network_id": "Edgecoder"}, Reason.WRONG_NETWORK),
        ({"type": "nonsense"}, Reason.UNKNOWN_TYPE),
        ({"type": 5}, Reason.BAD_FRAME),
        ({"sender": ANN[:31]}, Reason.BAD_FRAME),
        ({"sender": b""}, Reason.BAD_FRAME),
        ({"epoch": -1}, Reason.BAD_FRAME),
        ({"epoch": 1 << 32}, Reason.BAD_FRAME),
        ({"seq": -1}, Reason.BAD_FRAME),
        ({"seq": 1 << 63}, Reason.BAD_FRAME),
        ({"ttl_ms": -1}, Reason.BAD_FRAME),
        ({"ttl_ms": TTL_MS_MAX + 1}, Reason.BAD_FRAME),
        ({"body": {"versionMin": -1, "versionMax": 2}}, Reason.BAD_FRAME),
        ({"body": None}, Reason.BAD_FRAME),
    ],
)
def test_refusals(changed: dict[str, object], reason: Reason) -> None:
    assert refusal(envelope(**changed)) is reason


def test_the_widest_header_passes() -> None:
    verified = VERIFIER.open(envelope(epoch=(1 << 32) - 1, seq=(1 << 63) - 1, ttl_ms=TTL_MS_MAX))
    assert (verified.header.epoch, verified.header.seq, verified.header.ttl_ms) == (
        (1 << 32) - 1,
        (1 << 63) - 1,
        TTL_MS_MAX,
    )


def test_later_fields_are_allowed() -> None:
    signed = msgspec.msgpack.encode([*FIELDS.values(), "later", [1, 2]])
    assert (
        VERIFIER.open(msgspec.msgpack.encode([signed, IdealKey(ANN).sign(SIGNATURE_TAG + signed)])).message == MESSAGE
    )


def test_the_signature_covers_the_received_bytes() -> None:
    """The same content in other bytes is not what was signed: 60000 as a 64-bit integer in place of a 16-bit one."""
    signed, signature = msgspec.msgpack.decode(SIGNER.seal(HEADER, MESSAGE))
    other = signed.replace(b"\xcd\xea\x60", b"\xcf" + (60_000).to_bytes(8, "big"))
    assert msgspec.msgpack.decode(other) == msgspec.msgpack.decode(signed)
    assert refusal(msgspec.msgpack.encode([other, signature])) is Reason.BAD_SIGNATURE
    assert VERIFIER.open(msgspec.msgpack.encode([other, IdealKey(ANN).sign(SIGNATURE_TAG + other)])).message == MESSAGE


def test_a_signature_without_the_domain_tag_does_not_count() -> None:
    signed, _ = msgspec.msgpack.decode(SIGNER.seal(HEADER, MESSAGE))
    assert refusal(msgspec.msgpack.encode([signed, IdealKey(ANN).sign(signed)])) is Reason.BAD_SIGNATURE


def test_the_signature_is_checked_before_the_body_is_looked_at() -> None:
    signed = msgspec.msgpack.encode(list((FIELDS | {"body": "nonsense", "type": "nonsense"}).values()))
    assert refusal(msgspec.msgpack.encode([signed, bytes(64)])) is Reason.BAD_SIGNATURE


def test_the_limit_of_a_frame() -> None:
    assert refusal(bytes(FRAME_BYTES_MAX + 1)) is Reason.TOO_LARGE
    assert refusal(bytes(FRAME_BYTES_MAX)) is Reason.BAD_FRAME


@pytest.mark.parametrize("length", [0, 30, 31, 32, 120, 127, 128, 250, 255, 256, 65_300, 65_535, 65_536, 100_000])
@pytest.mark.parametrize("seq", [0, 127, 128, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32])
def test_the_reckoned_size_is_the_real_one(length: int, seq: int) -> None:
    message, header = task_request(prompt="x" * length), Header("edgecoder", ANN, 1, seq, 300)
    frame = SIGNER.seal(header, message)
    name, found, body = peek(frame)
    assert (name, found) == (NAMES[type(message)], header)
    assert encoded_size(header, NAMES[type(message)], len(body)) == len(frame)


def test_by_reference_the_same_is_refused() -> None:
    reference = ReferenceSigner(ANN).seal(HEADER, MESSAGE)
    assert ReferenceVerifier("edgecoder").open(reference).message is MESSAGE
    for frame, reason in (
        (SIGNER.seal(HEADER, MESSAGE), Reason.BAD_FRAME),
        (ReferenceSigner(node_id("eve")).seal(HEADER, MESSAGE), Reason.BAD_SIGNATURE),
        (msgspec.structs.replace(reference, size_bytes=FRAME_BYTES_MAX + 1), Reason.TOO_LARGE),
    ):
        with pytest.raises(RemoteProtocolError) as error:
            ReferenceVerifier("edgecoder").open(frame)
        assert error.value.reason is reason
    with pytest.raises(RemoteProtocolError) as error:
        ReferenceVerifier("other").open(reference)
    assert error.value.reason is Reason.WRONG_NETWORK
