"""Where a coordinator is reached, as it says itself: signed with its own key, so that nobody can send others elsewhere.

Rows travel through the hands of others (`peerExchange`). Of two rows of one coordinator the one with the greater
sequence holds, of two with one sequence the one whose bytes are greater, so that any order and any repetition give one
result. A row that has expired is as none; the clock of a node that has no time judges nothing. Whatever it says, a row
is kept for no longer than `WHEREABOUTS_MS_MAX` after it was heard first.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edgecoder.config import is_endpoint
from edgecoder.core.context import Context
from edgecoder.core.ids import NodeId
from edgecoder.protocol import WHEREABOUTS_MS_MAX, WHEREABOUTS_TAG
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


class Book:
    """The newest row of each coordinator that somebody wants to know of."""

    def __init__(self, context: Context, verifier: Verifier, unix_ms: Callable[[], int]) -> None:
        """`unix_ms` is Unix time, by the coordinators' clock as well as it is known."""
        self._context = context
        self._verifier = verifier
        self._unix_ms = unix_ms
        self.rows: dict[NodeId, Whereabouts] = {}
        self.until_ms: dict[NodeId, int] = {}
        """When each of them is forgotten, Unix time."""

    def learn(self, row: Whereabouts, until_ms: int | None = None) -> bool | None:
        """Take a row, of an earlier life with when it was to be forgotten. Whether it is news; None where it is none
        that its coordinator could have sent."""
        until = min(row.expires_ms, self._unix_ms() + WHEREABOUTS_MS_MAX)
        if until_ms is not None:
            until = min(until, until_ms)
        if not is_newer(row, self.rows.get(row.coordinator)) or self._is_over(until):
            return False
        if not is_valid(self._context.cluster.network_id, row, self._verifier):
            return None
        self.rows[row.coordinator], self.until_ms[row.coordinator] = row, until
        return True

    def drop(self, node: NodeId) -> None:
        """Nobody wants to know of a coordinator any more."""
        del self.rows[node], self.until_ms[node]

    def forget_old(self) -> None:
        """Drop what has expired."""
        for node in [node for node, until in self.until_ms.items() if self._is_over(until)]:
            self.drop(node)

    def _is_over(self, until_ms: int) -> bool:
        """By this node's clock and what clocks may differ."""
        return until_ms + self._context.config.clock_skew_ms <= self._unix_ms()
