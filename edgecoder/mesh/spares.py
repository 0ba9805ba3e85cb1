"""What a node hears of where coordinators are, and which of them it takes for its spares.

A row counts for a coordinator of the node's configuration whoever brings it, since it is signed by that coordinator.
One of which the configuration knows nothing is taken for a spare where a coordinator of the configuration names it:
that one hands tasks to the others of its federation as it is, so who trusts it with prompts trusts them too. What a
spare names itself counts for nothing. Of several spares a node links to `spares_max`, drawn by its own id and theirs,
so that the members of one coordinator spread over the others. A coordinator says all in every message: whom it no
longer names is a spare no longer. What is known is kept across lives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import msgspec

from edgecoder.core.context import Context
from edgecoder.core.ids import NodeId, Role
from edgecoder.errors import UNREADABLE, Reason
from edgecoder.mesh.gate import Link
from edgecoder.mesh.uplinks import Uplinks
from edgecoder.mesh.whereabouts import Book
from edgecoder.trace import CoordinatorTold
from edgecoder.wire.envelope import Verifier
from edgecoder.wire.messages import PeerExchange, Whereabouts

KEY = "whereabouts"
NAMED_MAX = 8
"""Spares of one coordinator that are remembered."""
_SAVE = ("whereabouts.save", 0)
_SWEEP = ("whereabouts.sweep", 0)
SAVE_MS = 1_000
"""News is written so long after the first of it, in one."""
SWEEP_MS = 3_600_000
"""How often it is looked whether a row has expired."""


class _Kept(msgspec.Struct, frozen=True):
    """What is on the disk."""

    rows: tuple[Whereabouts, ...]
    named: tuple[tuple[NodeId, tuple[NodeId, ...]], ...]
    """By coordinators of the configuration."""
    until_ms: dict[NodeId, int] = {}
    """When rows are forgotten."""


_decoder = msgspec.msgpack.Decoder(_Kept)


class Spares:
    """The rows that a node keeps for itself."""

    def __init__(
        self,
        context: Context,
        verifier: Verifier,
        uplinks: Uplinks,
        unix_ms: Callable[[], int],
        *,
        spares_max: int,
    ) -> None:
        """`unix_ms` is Unix time, by the coordinators' clock as well as it is known."""
        self._context = context
        self._uplinks = uplinks
        self._spares_max = spares_max
        self._book = Book(context, verifier, unix_ms)
        self._named: dict[NodeId, tuple[NodeId, ...]] = {}

    def restore(self, snapshot: Mapping[str, bytes]) -> None:
        """Take what earlier lives have written."""
        value = snapshot.get(KEY)
        if value is None:
            return
        try:
            kept = _decoder.decode(value)
        except UNREADABLE:
            self._context.drop(KEY, Reason.STORE_FAILED)
            return
        for row in kept.rows:
            self._book.learn(row, kept.until_ms.get(row.coordinator))
        self._named = {node: names[:NAMED_MAX] for node, names in kept.named if node in self._uplinks.configured}
        self._apply()

    def heard(self, link: Link, message: PeerExchange) -> None:
        """A coordinator says where it is, and who else is there."""
        teller = link.peer
        if link.role is not Role.COORDINATOR or teller is None:
            self._context.drop("peerExchange", Reason.UNKNOWN_SENDER)
            return
        is_trusted = teller in self._uplinks.configured
        named: list[NodeId] = []
        is_news = False
        for row in message.coordinators:
            node = row.coordinator
            is_configured = node in self._uplinks.configured
            if node == self._context.node_id or not (is_configured or is_trusted):
                continue
            if not is_configured and (self._spares_max == 0 or len(named) >= NAMED_MAX):
                continue
            learned = self._book.learn(row)
            if learned is None:
                self._context.drop("whereabouts", Reason.BAD_SIGNATURE)
            elif learned:
                is_news = True
                self._context.trace(CoordinatorTold(node, teller, row.endpoints[0]))
            if not is_configured and node in self._book.rows:
                named.append(node)
        if is_trusted and self._named.get(teller, ()) != tuple(named):
            self._named[teller] = tuple(named)
            is_news = True
        if is_news:
            self._apply()
            if self._context.timers.is_idle(_SAVE):
                self._context.timers.set(_SAVE, self._context.in_ms(SAVE_MS), self._save)

    def _apply(self) -> None:
        """Dial by what is known now."""
        self._book.forget_old()
        rows = self._book.rows
        names = [node for teller in self._uplinks.configured for node in self._named.get(teller, ())]
        for node in [node for node in rows if node not in names and node not in self._uplinks.configured]:
            self._book.drop(node)
        for node in self._uplinks.configured:
            if node in rows:
                self._uplinks.told(node, rows[node].endpoints)
        chosen = sorted({node for node in names if node in rows}, key=self._draw)[: self._spares_max]
        self._uplinks.set_spares({node: rows[node].endpoints for node in chosen})
        if rows:
            self._context.timers.set(_SWEEP, self._context.in_ms(SWEEP_MS), self._apply)

    def _draw(self, node: NodeId) -> bytes:
        """A rendezvous hash: another order at each node."""
        return hashlib.blake2b(self._context.node_id + node, digest_size=8).digest()

    def _save(self) -> None:
        kept = _Kept(tuple(self._book.rows.values()), tuple(self._named.items()), self._book.until_ms)
        self._context.persist(KEY, msgspec.msgpack.encode(kept))
