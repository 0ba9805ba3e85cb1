"""Who is at the other end of a socket: what both ends say before the first envelope.

Four binary messages. The one that dials says who it is and whom it wants (`Hello`); the one that was dialled says who
it is and signs (`Challenge`); the first signs too (`Proof`); the second answers with WELCOME. Both signatures are over
one digest: of the network, both keys, both roles, both nonces, whom was meant, and the certificate under the socket.
So nothing of it is worth anything in another conversation, in the other direction, or behind somebody in between.

No I/O, no randomness, no clock: bytes in, bytes out, or `Unwelcome`. Who may come is a `Door`'s to say.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple, Protocol, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edgecoder.core.ids import NodeId, Role
from edgecoder.errors import UNREADABLE, Reason
from edgecoder.protocol import NODE_ID_BYTES, SIGNATURE_BYTES

T = TypeVar("T")
VERSION: Final = 1
NONCE_BYTES: Final = 32
MESSAGE_BYTES_MAX: Final = 1024
"""More than any message of a handshake has."""
TOKENS_MAX: Final = 16
"""As many as a node may have coordinators."""
WELCOME: Final = b"\x01"
_DIGEST_TAG: Final = b"edgecoder/link/1\x00"
_CHALLENGE_TAG: Final = b"edgecoder/link/dialled/1\x00"
_PROOF_TAG: Final = b"edgecoder/link/dials/1\x00"
_JOIN_TAG: Final = b"edgecoder/link/joins/1\x00"

_Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Signature = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
_Name = Annotated[str, msgspec.Meta(max_length=32)]

CLOSE_CODES: Final[dict[Reason, int]] = {
    Reason.BAD_FRAME: 4400,
    Reason.BAD_SIGNATURE: 4401,
    Reason.UNKNOWN_SENDER: 4403,
    Reason.NO_ANSWER: 4408,
    Reason.WRONG_NETWORK: 4421,
    Reason.INVALID: 4422,
    Reason.VERSION_MISMATCH: 4426,
    Reason.OVERFLOW: 4503,
}
"""The WebSocket close code that tells the other end why."""
REASONS_BY_CODE: Final = {code: reason for reason, code in CLOSE_CODES.items()}


class Unwelcome(Exception):
    """The other end is not let in, or not trusted."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or reason.value)
        self.reason = reason


class _Hello(msgspec.Struct, frozen=True, array_like=True):
    version: int
    network_id: _Name
    role: Role
    public: _Bytes32
    nonce: _Bytes32
    wanted: _Bytes32
    """The node id of whom it dials."""
    is_joining: bool


class _Statement(msgspec.Struct, frozen=True, array_like=True):
    version: int
    network_id: _Name
    role: Role
    public: _Bytes32
    nonce: _Bytes32


class _Challenge(msgspec.Struct, frozen=True, array_like=True):
    statement: Annotated[bytes, msgspec.Meta(max_length=MESSAGE_BYTES_MAX)]
    signature: _Signature


class _Proof(msgspec.Struct, frozen=True, array_like=True):
    signature: _Signature
    joining: Annotated[tuple[_Bytes32, ...], msgspec.Meta(max_length=TOKENS_MAX)] = ()
    """Shows which join tokens the sender has."""


class _Versioned(msgspec.Struct, frozen=True, array_like=True):
    version: int


class SigningIdentity(Protocol):
    """A node's key."""

    node_id: NodeId
    public_bytes: bytes

    def sign(self, data: bytes) -> bytes:
        """64 bytes over `data`."""
        ...


class Self(NamedTuple):
    """Who this end is."""

    identity: SigningIdentity
    role: Role
    network_id: str


class Peer(NamedTuple):
    """Who the other end has proved to be."""

    node: NodeId
    role: Role
    public: bytes


class Guest(NamedTuple):
    """Who wants to come in: a proved key, and what it can show of a join token."""

    peer: Peer
    digest: bytes
    joining: tuple[bytes, ...]

    def has(self, token: str) -> bool:
        """Whether it has this token."""
        expected = joining(token, self.digest)
        return any(hmac.compare_digest(expected, shown) for shown in self.joining)


class Door(Protocol):
    """Who may link to this node."""

    def admits(self, guest: Guest) -> bool:
        """Whether a node is let in; a join token that it shows is used up. May block."""
        ...


class Caller:
    """The end that dials."""

    def __init__(self, me: Self, wanted: NodeId, nonce: bytes, binding: bytes, tokens: Sequence[str] = ()) -> None:
        """`binding` is the SHA-256 of the certificate under the socket, empty where there is none."""
        self._me = me
        self._wanted = wanted
        self._binding = binding
        self._tokens = tokens[:TOKENS_MAX]
        self._hello = _encode(
            _Hello(VERSION, me.network_id, me.role, me.identity.public_bytes, nonce, wanted, bool(tokens))
        )

    def hello(self) -> bytes:
        """The first message."""
        return self._hello

    def prove(self, message: bytes) -> tuple[bytes, Peer]:
        """The answer to a challenge, and who gave it. Raises Unwelcome."""
        challenge = _decode(_Challenge, message)
        statement = _decode(_Statement, challenge.statement)
        _check(self._me, statement.version, statement.network_id)
        peer = Peer(_node_of(statement.public), statement.role, statement.public)
        if peer.node != self._wanted:
            raise Unwelcome(Reason.BAD_SIGNATURE, f"{peer.node.hex()[:8]} listens there")
        if peer.role is not Role.COORDINATOR:
            raise Unwelcome(Reason.INVALID, f"a {peer.role.value} listens there")
        digest = _digest(self._binding, self._hello, challenge.statement)
        _verify(statement.public, challenge.signature, _CHALLENGE_TAG + digest)
        shown = tuple(joining(token, digest) for token in self._tokens)
        signature = self._me.identity.sign(_PROOF_TAG + digest + b"".join(shown))
        return _encode(_Proof(signature, shown)), peer


class Answerer:
    """The end that was dialled."""

    def __init__(self, me: Self, nonce: bytes, binding: bytes) -> None:
        """As in `Caller`."""
        self._me = me
        self._nonce = nonce
        self._binding = binding
        self._peer: Peer | None = None
        self._is_joining = False
        self._digest = b""

    def challenge(self, message: bytes) -> bytes:
        """The answer to a hello. Raises Unwelcome."""
        hello = _decode(_Hello, message)
        _check(self._me, hello.version, hello.network_id)
        identity = self._me.identity
        if hello.wanted != identity.node_id:
            raise Unwelcome(Reason.UNKNOWN_SENDER, "another node was dialled")
        if hello.public == identity.public_bytes:
            raise Unwelcome(Reason.UNKNOWN_SENDER, "it has this node's own key")
        self._peer, self._is_joining = Peer(_node_of(hello.public), hello.role, hello.public), hello.is_joining
        statement = _encode(_Statement(VERSION, self._me.network_id, self._me.role, identity.public_bytes, self._nonce))
        self._digest = _digest(self._binding, message, statement)
        return _encode(_Challenge(statement, identity.sign(_CHALLENGE_TAG + self._digest)))

    def guest(self, message: bytes) -> Guest:
        """Who has proved what it said. Raises Unwelcome."""
        peer = self._peer
        assert peer is not None, "a hello comes first"
        proof = _decode(_Proof, message)
        _verify(peer.public, proof.signature, _PROOF_TAG + self._digest + b"".join(proof.joining))
        return Guest(peer, self._digest, proof.joining if self._is_joining else ())


def _check(me: Self, version: int, network_id: str) -> None:
    if version != VERSION:
        raise Unwelcome(Reason.VERSION_MISMATCH, f"it speaks {version}, this node {VERSION}")
    if network_id != me.network_id:
        raise Unwelcome(Reason.WRONG_NETWORK, f"it is of {network_id!r}, this node of {me.network_id!r}")


def _node_of(public: bytes) -> NodeId:
    node = hashlib.sha256(public).digest()
    assert len(node) == NODE_ID_BYTES
    return node


def _digest(binding: bytes, hello: bytes, statement: bytes) -> bytes:
    parts = b"".join(len(part).to_bytes(4, "big") + part for part in (binding, hello, statement))
    return hashlib.sha256(_DIGEST_TAG + parts).digest()


def joining(token: str, digest: bytes) -> bytes:
    """What shows that somebody has a token, in this one handshake."""
    return hmac.digest(token.encode(), _JOIN_TAG + digest, "sha256")


def _verify(public: bytes, signature: bytes, data: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        raise Unwelcome(Reason.BAD_SIGNATURE, "it does not have the key that it names") from None


_encode = msgspec.msgpack.Encoder().encode


def _decode(kind: type[T], message: bytes) -> T:
    if len(message) > MESSAGE_BYTES_MAX:
        raise Unwelcome(Reason.BAD_FRAME, f"{len(message)} bytes")
    try:
        version = msgspec.msgpack.decode(message, type=_Versioned).version if kind is _Hello else VERSION
        if version != VERSION:
            raise Unwelcome(Reason.VERSION_MISMATCH, f"it speaks {version}, this node {VERSION}")
        return msgspec.msgpack.decode(message, type=kind)
    except UNREADABLE as error:
        raise Unwelcome(Reason.BAD_FRAME, str(error)[:100]) from None
