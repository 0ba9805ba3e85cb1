"""Ideal signatures: nobody but the node can sign as the node, by construction.

Two ways to pass envelopes: by reference (`ReferenceSigner`), where an envelope is an object that carries the size its
bytes would have, and encoded (`ByteSigner` of the core with an `IdealKey`), where every envelope becomes bytes and is
decoded again. Both must give the same run.

Fidelity boundary: a signature cannot be forged or broken, and costs no time here; the host charges `sign_us` and
`verify_us` of the device on the node's CPU for envelopes, and nothing for receipts.
"""

from __future__ import annotations

import hashlib

from edgecoder.core.ids import NodeId
from edgecoder.errors import Reason, RemoteProtocolError
from edgecoder.protocol import FRAME_BYTES_MAX, SIGNATURE_BYTES
from edgecoder.wire.codec import encode_body
from edgecoder.wire.envelope import (
    ByteSigner,
    ByteVerifier,
    Envelope,
    Frame,
    Header,
    Signer,
    Verified,
    Verifier,
    encoded_size,
)
from edgecoder.wire.messages import NAMES, Message


def node_id(name: str) -> NodeId:
    """The id of a simulated node: SHA-256 of its name, in place of a public key."""
    return hashlib.sha256(name.encode()).digest()


class IdealKey:
    """Signs as one node: a keyed hash whose key nobody else uses."""

    public_bytes = b""

    def __init__(self, identity: NodeId) -> None:
        self.node_id = identity

    def sign(self, data: bytes) -> bytes:
        """64 bytes over `data`."""
        return hashlib.blake2b(data, key=self.node_id, digest_size=SIGNATURE_BYTES).digest()


class IdealKeys:
    """Verifies every node's signatures."""

    def verify(self, sender: NodeId, data: bytes, signature: bytes, public_key: bytes = b"") -> bool:  # noqa: ARG002
        """Whether the signature is the sender's over `data`; every sender is known."""
        return hashlib.blake2b(data, key=sender, digest_size=SIGNATURE_BYTES).digest() == signature

    def knows(self, sender: NodeId) -> bool:  # noqa: ARG002
        """See `VerifyingKeys`: an ideal key follows from the id."""
        return True


class ReferenceSigner:
    """Seals into envelope objects."""

    __slots__ = ("_body", "_message", "node_id", "public_key")

    def __init__(self, identity: NodeId) -> None:
        self.node_id = identity
        self.public_key = b""
        self._message: Message | None = None
        self._body = b""

    def seal(self, header: Header, message: Message) -> Envelope:
        """The envelope; its body is encoded for its size and for the trace digest, once where one message object is
        sealed several times in a row."""
        if message is not self._message:
            self._message, self._body = message, encode_body(message)
        body = self._body
        return Envelope(header, message, self.node_id, encoded_size(header, NAMES[type(message)], len(body)), body)

    def sign(self, statement: bytes) -> bytes:
        """See `Signer`."""
        return IdealKey(self.node_id).sign(statement)


class ReferenceVerifier:
    """Opens envelope objects, with the checks that bytes would get."""

    __slots__ = ("_network_id",)

    def __init__(self, network_id: str) -> None:
        self._network_id = network_id

    def open(self, frame: Frame) -> Verified[Message]:
        """The message in an envelope; see `Verifier`."""
        if type(frame) is not Envelope:
            raise RemoteProtocolError(Reason.BAD_FRAME, "not an envelope")
        header, size_bytes = frame.header, frame.size_bytes
        if size_bytes > FRAME_BYTES_MAX:
            raise RemoteProtocolError(Reason.TOO_LARGE, f"{size_bytes} bytes")
        if header.network_id != self._network_id:
            raise RemoteProtocolError(Reason.WRONG_NETWORK, header.network_id[:32])
        if frame.signer != header.sender:
            raise RemoteProtocolError(Reason.BAD_SIGNATURE, header.sender.hex())
        return Verified(header, frame.message, size_bytes)

    def vouches(self, signer: NodeId, statement: bytes, signature: bytes, public_key: bytes = b"") -> bool:
        """See `Verifier`."""
        return IdealKeys().verify(signer, statement, signature, public_key)

    def knows(self, signer: NodeId) -> bool:
        """See `Verifier`."""
        return IdealKeys().knows(signer)


def crypto(identity: NodeId, network_id: str, *, encoded: bool) -> tuple[Signer, Verifier]:
    """Signer and verifier of one node."""
    if encoded:
        return ByteSigner(IdealKey(identity)), ByteVerifier(IdealKeys(), network_id)
    return ReferenceSigner(identity), ReferenceVerifier(network_id)
