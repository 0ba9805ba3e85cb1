"""How requests for pieces look in HTTP: addresses, tickets, ranges, have-maps and refusals, for both ends.

`GET /blobs/sha256:<hex>` is a file, with `.leaves` behind it the SHA-256 of each of its leaves, one after the other. A
ticket comes with every request, as the credentials of a scheme of its own. All that reads is total on what a stranger
sends.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Final, NamedTuple

import msgspec

from edgecoder.core.ids import FileId, NodeId
from edgecoder.errors import REASONS, UNREADABLE, Reason, RemoteProtocolError
from edgecoder.models.catalog import CatalogEntry
from edgecoder.protocol import SIGNATURE_BYTES
from edgecoder.seeding.merkle import HASH_BYTES
from edgecoder.seeding.pieces import LEAF_BYTES, Layout, bitmap_to_bytes, bytes_to_bitmap
from edgecoder.seeding.uploads import REFUSALS
from edgecoder.wire.fields import Counter, WireNodeId
from edgecoder.wire.messages import Ticket
from edgecoder_drivers.bare.heads import problem_of

PORT: Final = 4303
SCHEME: Final = "EdgeCoder"
REVERSE: Final = "edgecoder-reverse"
"""The protocol to which a connection is upgraded that is offered: HTTP, in which who has dialled answers."""
HAVE: Final = "edgecoder-have"
"""Header with the pieces that the sender has, as in messages, in base64."""
REASON: Final = "edgecoder-reason"
"""Header with the reason of a refusal."""
LEAVES: Final = ".leaves"
_TARGET: Final = re.compile(rb"/blobs/sha256:([0-9a-f]{64})(\.leaves)?")
_OFFER: Final = re.compile(rb"/offers/sha256:([0-9a-f]{64})")
_ENDPOINT: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252}):(\d{1,5})")


class Target(NamedTuple):
    """What an address names."""

    sha256: str
    is_hashes: bool


class Pass(msgspec.Struct, frozen=True, array_like=True):
    """A ticket, and who shows it."""

    node: WireNodeId
    broker: WireNodeId
    broker_epoch: Counter
    expires_ms: Counter
    signature: Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]

    @property
    def ticket(self) -> Ticket:
        """The ticket alone."""
        return Ticket(self.broker, self.broker_epoch, self.expires_ms, self.signature)


_pass_decoder = msgspec.msgpack.Decoder(Pass)


def target_of(target: bytes) -> Target | None:
    """What a request asks for; None where there is no such thing here."""
    found = _TARGET.fullmatch(target)
    return None if found is None else Target(found[1].decode(), found[2] is not None)


def path_of(entry: CatalogEntry, *, is_hashes: bool = False) -> str:
    """The address of a file, or of its leaf hashes, at a sender."""
    return f"/blobs/sha256:{entry.sha256}{LEAVES if is_hashes else ''}"


def offer_of(target: bytes) -> str | None:
    """The file of which a connection is offered, by its SHA-256; None where this is no offer."""
    found = _OFFER.fullmatch(target)
    return None if found is None else found[1].decode()


def offer_path(file: FileId) -> str:
    """The address at which pieces of a file are offered to a receiver."""
    return f"/offers/sha256:{file.hex()}"


def size_of(layout: Layout, *, is_hashes: bool) -> int:
    """How long what an address names is, bytes."""
    return layout.leaf_count * HASH_BYTES if is_hashes else layout.file_size_bytes


def write_pass(node: NodeId, ticket: Ticket) -> str:
    """The Authorization header of a request, or of an offer."""
    shown = Pass(node, ticket.broker, ticket.broker_epoch, ticket.expires_ms, ticket.signature)
    return f"{SCHEME} {base64.urlsafe_b64encode(msgspec.msgpack.encode(shown)).decode()}"


def read_pass(header: str | None) -> Pass | None:
    """Who asks and on what ticket; None where nobody can tell. Whether the ticket holds is the core's to judge."""
    scheme, _, text = (header or "").partition(" ")
    if scheme.lower() != SCHEME.lower():
        return None
    try:
        return _pass_decoder.decode(base64.b64decode(text, altchars=b"-_", validate=True))
    except UNREADABLE:  # binascii.Error is a ValueError
        return None


def place_of(layout: Layout, byte: int) -> tuple[int, int]:
    """The piece of a file that a byte is in, and the leaf of that piece."""
    piece, inside = divmod(byte, layout.piece_size_bytes)
    return piece, inside // LEAF_BYTES


def write_have(have: int, piece_count: int) -> str:
    """The header that tells what is here."""
    return base64.b64encode(bitmap_to_bytes(have, piece_count)).decode()


def read_have(header: str | None, piece_count: int) -> int:
    """What a sender says that it has; nothing where it does not say so as it should."""
    try:
        return bytes_to_bitmap(base64.b64decode(header or "", validate=True), piece_count)
    except (ValueError, binascii.Error, RemoteProtocolError):
        return 0


def refusal_of(header: str | None) -> Reason:
    """Why a sender gives nothing. What no sender can know, or what is no reason, is an invalid answer."""
    try:
        reason = Reason(header)
    except ValueError:
        return Reason.INVALID
    return reason if reason in REFUSALS else Reason.INVALID


def reason_of(header: str | None) -> Reason:
    """Why a receiver does not take a connection."""
    try:
        return Reason(header)
    except ValueError:
        return Reason.PEER_LOST


def problem_of_reason(reason: Reason) -> tuple[int, bytes]:
    """Status and body of a refusal by the core."""
    info = REASONS[reason]
    return info.http_status, problem_of(info.http_status, reason.value, info.message, info.hint)


def endpoint_of(text: str) -> tuple[str, int] | None:
    """Host, without brackets, and port of where a node is fetched from, as it was announced; None where that is no such
    place."""
    found = _ENDPOINT.fullmatch(text)
    if found is None or not 0 < int(found[2]) < 65_536:
        return None
    return found[1].strip("[]"), int(found[2])
