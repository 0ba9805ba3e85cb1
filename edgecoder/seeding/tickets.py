"""Tickets: a broker's leave for one receiver to fetch one file from one sender.

They hold for a minute and are renewed while the pair is wanted: not renewing one is how it is revoked. Nothing is
signed per piece. A sender that nobody can dial gets one of another kind, an offer: leave to dial the receiver.
"""

from __future__ import annotations

from edgecoder.core.ids import FileId, NodeId
from edgecoder.protocol import OFFER_TAG, TICKET_TAG
from edgecoder.wire.envelope import Signer, Verifier
from edgecoder.wire.messages import Ticket


def _statement(
    tag: bytes, network_id: str, receiver: NodeId, sender: NodeId, file: FileId, broker_epoch: int, expires_ms: int
) -> bytes:
    """The bytes under the signature: all of fixed length but the network's name, which comes last."""
    numbers = broker_epoch.to_bytes(8, "big") + expires_ms.to_bytes(8, "big")
    return tag + receiver + sender + file + numbers + network_id.encode()


def issue(
    network_id: str,
    signer: Signer,
    receiver: NodeId,
    sender: NodeId,
    file: FileId,
    broker_epoch: int,
    expires_ms: int,
    *,
    is_offer: bool = False,
) -> Ticket:
    """A ticket, signed by a broker."""
    tag = OFFER_TAG if is_offer else TICKET_TAG
    statement = _statement(tag, network_id, receiver, sender, file, broker_epoch, expires_ms)
    return Ticket(signer.node_id, broker_epoch, expires_ms, signer.sign(statement))


def is_signed(
    network_id: str,
    verifier: Verifier,
    ticket: Ticket,
    receiver: NodeId,
    sender: NodeId,
    file: FileId,
    *,
    is_offer: bool = False,
) -> bool:
    """Whether its broker really gave it, for this receiver, sender and file."""
    tag = OFFER_TAG if is_offer else TICKET_TAG
    statement = _statement(tag, network_id, receiver, sender, file, ticket.broker_epoch, ticket.expires_ms)
    return verifier.vouches(ticket.broker, statement, ticket.signature)
