"""Where a coordinator is reached, as it says itself: signed with its own key, so that nobody can send others elsewhere.

Rows travel through the hands of others (`peerExchange`). Of two rows of one coordinator the one with the greater
sequence holds, of two with one sequence the one whose bytes are greater, so that any order and any repetition give one
result. A row that has expired by this node's clock is as none; the clock of a node that has no time judges nothing.
"""

from __future__ import annotations

import msgspec

from edgecoder.config import is_endpoint
from edgecoder.core.context import Context
from edgecoder.core.ids import NodeId
from edgecoder.protocol import WHEREABOUTS_TAG
from edgecoder.wire.envelope import Verifier
from edgecoder.wire.messages import Whereabouts


def statement(network_id: str, row: Whereabouts) -> bytes:
    """What a row signs: its network and everything in it but the key and the signature."""
    facts = (network_id, row.coordinator, row.endpoints, row.sequence, row.expires_ms)
    return WHEREABOUTS_TAG + msgspec.msgpack.encode(facts)


def own(context: Context, endpoints: tuple[str, ...], sequence: int) -> Whereabouts:
    """A row of this node's, signed."""
    expires_ms = context.wall_ms + context.config.whereabouts_ms
    row = Whereabouts(context.node_id, context.signer.public_key, endpoints, sequence, expires_ms, bytes(64))
    signature = context.signer.sign(statement(context.cluster.network_id, row))
    return msgspec.structs.replace(row, signature=signature)


def is_valid(network_id: str, row: Whereabouts, verifier: Verifier) -> bool:
    """Whether its coordinator said so, and it can be dialled."""
    if not row.endpoints or not all(map(is_endpoint, row.endpoints)):
        return False
    return verifier.vouches(row.coordinator, statement(network_id, row), row.signature, row.public_key)


def is_newer(row: Whereabouts, held: Whereabouts | None) -> bool:
    """Whether a row holds in place of another of the same coordinator."""
    return held is None or _order(row) > _order(held)


def _order(row: Whereabouts) -> tuple[int, int, tuple[str, ...], bytes]:
    return row.sequence, row.expires_ms, row.endpoints, row.signature


def is_over(context: Context, row: Whereabouts) -> bool:
    """Whether a row has expired, by this node's clock and what clocks may differ."""
    return row.expires_ms + context.config.clock_skew_ms <= context.wall_ms


class Book:
    """The newest row of each coordinator that somebody wants to know of."""

    def __init__(self, context: Context, verifier: Verifier) -> None:
        self._context = context
        self._verifier = verifier
        self.rows: dict[NodeId, Whereabouts] = {}

    def learn(self, row: Whereabouts) -> bool | None:
        """Take a row. Whether it is news; None where it is none that its coordinator could have sent."""
        held = self.rows.get(row.coordinator)
        if not is_newer(row, held) or is_over(self._context, row):
            return False
        if not is_valid(self._context.cluster.network_id, row, self._verifier):
            return None
        self.rows[row.coordinator] = row
        return True

    def forget_old(self) -> None:
        """Drop what has expired."""
        for node in [node for node, row in self.rows.items() if is_over(self._context, row)]:
            del self.rows[node]
