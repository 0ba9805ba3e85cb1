"""The envelope around every message: who sent it, in which order, for how long it holds, and the signature over it.

Bytes: a msgpack array of two binaries, `signed` and `signature`. `signed` is the msgpack array `[version, type,
networkId, sender, epoch, seq, ttlMs, body]`; the signature is over SIGNATURE_TAG and the received bytes of `signed`,
never over something encoded anew. A host that passes messages by reference uses `Envelope` in place of the bytes,
with the size that the bytes would have. Handlers take only `Verified` messages, which only a `Verifier` makes;
replays are the node's to judge (`replay`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from edgecoder.core.ids import NodeId
from edgecoder.errors import UNREADABLE, Reason, RemoteProtocolError
from edgecoder.protocol import (
    EPOCH_MAX,
    FRAME_BYTES_MAX,
    NODE_ID_BYTES,
    PROTOCOL_VERSION,
    PROTOCOL_VERSION_MIN,
    SIGNATURE_BYTES,
    SIGNATURE_TAG,
    TTL_MS_MAX,
)
from edgecoder.wire.codec import decode_body, encode_body
from edgecoder.wire.messages import NAMES, Message


class Header(msgspec.Struct, frozen=True, gc=False):
    """What stands in an envelope beside the body. `ttl_ms` runs on the receiver's clock from the arrival."""

    network_id: str
    sender: NodeId
    epoch: int
    seq: int
    ttl_ms: int


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A sealed message passed by reference; `signer` is who really sealed it, which only an ideal verifier can see."""

    header: Header
    message: Message
    signer: NodeId
    size_bytes: int
    body: bytes
    """The encoded message, which a trace digest covers."""


Frame = Envelope | bytes
"""What a link carries."""


MessageT_co = TypeVar("MessageT_co", bound=Message, covariant=True)


class Verified(msgspec.Struct, Generic[MessageT_co], frozen=True, gc=False):
    """A message whose envelope was signed by `header.sender`. Only a `Verifier` makes one; handlers take no other."""

    header: Header
    message: MessageT_co
    size_bytes: int


class Signer(Protocol):
    """Seals messages as one node."""

    node_id: NodeId
    public_key: bytes
    """32 bytes that hash to the id; empty where signatures are ideal."""

    def seal(self, header: Header, message: Message) -> Frame:
        """The frame for a message."""
        ...

    def sign(self, statement: bytes) -> bytes:
        """64 bytes over something that outlives its envelope; it begins with a domain tag."""
        ...


class Verifier(Protocol):
    """Opens frames."""

    def open(self, frame: Frame) -> Verified[Message]:
        """The message in a frame. Raises RemoteProtocolError: bad_frame, bad_signature, version_mismatch,
        unknown_type, wrong_network."""
        ...

    def vouches(self, signer: NodeId, statement: bytes, signature: bytes, public_key: bytes = b"") -> bool:
        """Whether `signature` is the signer's over such a statement. `public_key` came with it: of a signer who is not
        known it will do, if it hashes to the id."""
        ...

    def knows(self, signer: NodeId) -> bool:
        """Whether the signer's key is known: only then does it mean anything that a signature is not its own."""
        ...


class SigningKey(Protocol):
    """A private key: Ed25519 on devices, an ideal one in the simulator."""

    node_id: NodeId
    public_bytes: bytes

    def sign(self, data: bytes) -> bytes:
        """64 bytes over `data`."""
        ...


class VerifyingKeys(Protocol):
    """The public keys of the senders that are known."""

    def verify(self, sender: NodeId, data: bytes, signature: bytes, public_key: bytes = b"") -> bool:
        """Whether `signature` is the sender's over `data`; `public_key` as in `Verifier.vouches`."""
        ...

    def knows(self, sender: NodeId) -> bool:
        """Whether its key is among them."""
        ...


class _Signed(msgspec.Struct, frozen=True, array_like=True):
    version: int
    type: str
    network_id: str
    sender: bytes
    epoch: int
    seq: int
    ttl_ms: int
    body: msgspec.Raw


class _Outer(msgspec.Struct, frozen=True, array_like=True):
    signed: bytes
    signature: bytes


_encoder = msgspec.msgpack.Encoder()
_outer_decoder = msgspec.msgpack.Decoder(_Outer)
_signed_decoder = msgspec.msgpack.Decoder(_Signed)
_any_decoder = msgspec.msgpack.Decoder(list[Any], ext_hook=lambda code, data: None)


class ByteSigner:
    """Seals into bytes with a private key."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self.node_id = key.node_id
        self.public_key = key.public_bytes

    def seal(self, header: Header, message: Message) -> bytes:
        """The envelope's bytes."""
        signed = _encoder.encode(
            _Signed(
                PROTOCOL_VERSION,
                NAMES[type(message)],
                header.network_id,
                header.sender,
                header.epoch,
                header.seq,
                header.ttl_ms,
                msgspec.Raw(encode_body(message)),
            )
        )
        return _encoder.encode(_Outer(signed, self._key.sign(SIGNATURE_TAG + signed)))

    def sign(self, statement: bytes) -> bytes:
        """See `Signer`."""
        return self._key.sign(statement)


class ByteVerifier:
    """Opens bytes with the public keys of the network."""

    def __init__(self, keys: VerifyingKeys, network_id: str) -> None:
        self._keys = keys
        self._network_id = network_id

    def open(self, frame: Frame) -> Verified[Message]:
        """The message in the bytes; see `Verifier`. The signature is checked before the body is looked at."""
        if not isinstance(frame, bytes):
            raise RemoteProtocolError(Reason.BAD_FRAME, "not bytes")
        if len(frame) > FRAME_BYTES_MAX:
            raise RemoteProtocolError(Reason.TOO_LARGE, f"{len(frame)} bytes")
        try:
            outer = _outer_decoder.decode(frame)
            signed = _signed_decoder.decode(outer.signed)
        except UNREADABLE as error:
            raise RemoteProtocolError(_why_unreadable(frame), str(error)) from None
        if not PROTOCOL_VERSION_MIN <= signed.version <= PROTOCOL_VERSION:
            raise RemoteProtocolError(Reason.VERSION_MISMATCH, f"version {signed.version}")
        if signed.network_id != self._network_id:
            raise RemoteProtocolError(Reason.WRONG_NETWORK, signed.network_id[:32])
        _check_header(signed, outer)
        if not self._keys.verify(signed.sender, SIGNATURE_TAG + outer.signed, outer.signature):
            raise RemoteProtocolError(Reason.BAD_SIGNATURE, signed.sender.hex())
        header = Header(signed.network_id, signed.sender, signed.epoch, signed.seq, signed.ttl_ms)
        return Verified(header, decode_body(signed.type, signed.body), len(frame))

    def vouches(self, signer: NodeId, statement: bytes, signature: bytes, public_key: bytes = b"") -> bool:
        """See `Verifier`."""
        return self._keys.verify(signer, statement, signature, public_key)

    def knows(self, signer: NodeId) -> bool:
        """See `Verifier`."""
        return self._keys.knows(signer)


def _check_header(signed: _Signed, outer: _Outer) -> None:
    if len(signed.sender) != NODE_ID_BYTES or len(outer.signature) != SIGNATURE_BYTES:
        raise RemoteProtocolError(Reason.BAD_FRAME, "sender or signature has the wrong length")
    if not (0 <= signed.epoch <= EPOCH_MAX and 0 <= signed.seq < 1 << 63 and 0 <= signed.ttl_ms <= TTL_MS_MAX):
        raise RemoteProtocolError(Reason.BAD_FRAME, "epoch, seq or ttlMs is out of range")


def _why_unreadable(frame: bytes) -> Reason:
    """A frame of another version may have another shape; its version still stands first."""
    try:
        version = _any_decoder.decode(_outer_decoder.decode(frame).signed)[0]
    except (IndexError, *UNREADABLE):
        return Reason.BAD_FRAME
    known = not isinstance(version, int) or PROTOCOL_VERSION_MIN <= version <= PROTOCOL_VERSION
    return Reason.BAD_FRAME if known else Reason.VERSION_MISMATCH


_OUTER_BYTES = 3 + SIGNATURE_BYTES
"""What `_Outer` takes beside `signed` and the head of it."""


def encoded_size(header: Header, type_name: str, body_bytes: int) -> int:
    """Bytes of the envelope that `ByteSigner` would make, without making it."""
    seq = header.seq
    signed = _fixed_size(type_name, header.network_id, header.epoch, header.ttl_ms) + body_bytes
    signed += 3 if 255 < seq < 1 << 16 else _uint_size(seq)  # the usual width first: this runs for every envelope
    return signed + _OUTER_BYTES + (2 if signed < 1 << 8 else 3 if signed < 1 << 16 else 5)


@lru_cache(maxsize=1024)
def _fixed_size(type_name: str, network_id: str, epoch: int, ttl_ms: int) -> int:
    """What the fields of `signed` take that most envelopes of one type share."""
    texts = sum(len(msgspec.msgpack.encode(text)) for text in (type_name, network_id))
    return 4 + NODE_ID_BYTES + texts + _uint_size(epoch) + _uint_size(ttl_ms)


def _uint_size(value: int) -> int:
    return 1 if value < 128 else 2 if value < 1 << 8 else 3 if value < 1 << 16 else 5 if value < 1 << 32 else 9


def peek(frame: bytes) -> tuple[str, Header, bytes]:
    """Type name, header and encoded body of a frame that this network made, unverified: for observers, never for
    handlers."""
    signed = _signed_decoder.decode(_outer_decoder.decode(frame).signed)
    header = Header(signed.network_id, signed.sender, signed.epoch, signed.seq, signed.ttl_ms)
    return signed.type, header, bytes(signed.body)
