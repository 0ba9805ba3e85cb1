"""Pieces over links from device to device: Bluetooth and Wi-Fi Direct.

A request is said over the link, and what is served is given to it part by part, each behind what the link or its
channel carries then: so pieces share the air with frames and with each other, at the link's own goodput. What is on its
way while the two ends cannot hear each other is sent again when they can; when the link ends, so does the request, with
the leaves that came.

Fidelity boundary: the hashes that prove a leaf cost nothing (32 bytes a level and piece, under 1 %), and faults that
lose, double or change frames leave pieces alone; partitions do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgecoder.core.effects import FetchPiece, RefusePiece, ServePiece
from edgecoder.core.events import PieceFailed, PieceFetched
from edgecoder.core.giving import AskWithdrawn, PieceAsked, PieceServed, ServeFailed
from edgecoder.core.ids import LinkId, OpId, RequestId
from edgecoder.errors import Reason
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder_sim.bandwidth import SECOND_US
from edgecoder_sim.conduct import Conducts
from edgecoder_sim.host import SimNode
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.radio import NEVER_US, AirLink

REQUEST_BYTES: Final = 120
"""A request: digest 32, piece and leaf 8, header and tag of the session 80 (I)."""
REFUSAL_BYTES: Final = 60
"""An answer that says why not; what the peer has goes along (I)."""
PARTS_AHEAD: Final = 2
"""Parts of a piece that the link has at once: with a second one it is never idle between two."""


class _Fetch:
    """One request over one link."""

    __slots__ = ("bad_leaf", "came", "effect", "link", "node", "request", "sender", "sent", "serve_op", "size_bytes")

    def __init__(self, node: SimNode, effect: FetchPiece, link: AirLink, sender: SimNode, request: RequestId) -> None:
        self.node, self.sender = node, sender
        self.effect = effect
        self.link = link
        self.request = request
        self.serve_op: OpId | None = None
        """The sender's operation, once it serves."""
        self.bad_leaf: int | None = None
        """The leaf that does not fit the tree: the last that comes."""
        self.size_bytes = effect.entry.layout.piece_bytes(effect.piece) - effect.first_leaf * LEAF_BYTES
        self.sent = self.came = 0
        """Bytes that the link was given, and that have arrived."""

    @property
    def leaves(self) -> int:
        """Leaves of the piece that are there, from its first one on."""
        return self.effect.first_leaf + self.came // LEAF_BYTES

    def ended(self, bad_leaf: int | None) -> PieceFetched | PieceFailed:
        """What its receiver is told when all has come; a bad leaf is waste, and what follows it."""
        if bad_leaf is None:
            return PieceFetched(self.effect.op)
        wasted = self.came - (bad_leaf - self.effect.first_leaf) * LEAF_BYTES
        return PieceFailed(self.effect.op, Reason.PIECE_CORRUPT, bad_leaf, wasted)

    def broken_off(self, reason: Reason) -> PieceFailed:
        """What its receiver is told; the leaf that has not come whole is waste."""
        return PieceFailed(self.effect.op, reason, self.leaves, self.came % LEAF_BYTES)


class AirPieces:
    """The pieces on the links from device to device."""

    def __init__(self, kernel: Kernel, conducts: Conducts) -> None:
        self._kernel = kernel
        self._conducts = conducts
        self._of_op: dict[tuple[int, OpId], _Fetch] = {}
        self._of_request: dict[RequestId, _Fetch] = {}
        self._of_link: dict[LinkId, list[_Fetch]] = {}

    # -- receivers -----------------------------------------------------------------------------------------------------

    def fetch(self, node: SimNode, effect: FetchPiece, request: RequestId) -> None:
        """Ask whoever is at the other end of a link."""
        link = None if effect.link is None else node.links.get(effect.link)
        if not isinstance(link, AirLink):
            node.post(PieceFailed(effect.op, Reason.PEER_LOST))
            return
        sender = link.second if link.first is node else link.first
        if sender.node_id != effect.peer:
            node.post(PieceFailed(effect.op, Reason.UNKNOWN_SENDER))
            return
        fetch = _Fetch(node, effect, link, sender, request)
        self._of_op[node.index, effect.op] = self._of_request[request] = fetch
        self._of_link.setdefault(link.id, []).append(fetch)
        link.on_end = self._link_ended
        self._say(fetch, node, REQUEST_BYTES, self._ask)

    def _ask(self, fetch: _Fetch, _: object) -> None:
        effect = fetch.effect
        file = bytes.fromhex(effect.entry.sha256)
        asked = (fetch.node.node_id, file, effect.piece, effect.first_leaf, effect.ticket, fetch.link.id)
        if self._is_open(fetch) and fetch.sender.is_up:
            fetch.sender.post(PieceAsked(fetch.request, *asked))

    def cancel(self, node: SimNode, op: OpId) -> None:
        """A node does not wait any more; what has come stays."""
        fetch = self._of_op.get((node.index, op))
        if fetch is not None:
            self._forget(fetch)
            node.post(fetch.broken_off(Reason.CANCELLED))
            self._let_go(fetch, self._kernel.now + fetch.link.ack_us)

    def _let_go(self, fetch: _Fetch, at_us: int) -> None:
        """Tell the sender that nobody waits."""
        if not fetch.sender.is_up:
            return
        if fetch.serve_op is not None:
            fetch.sender.post_at(at_us, ServeFailed(fetch.serve_op, Reason.PEER_LOST))
        else:
            fetch.sender.post_at(at_us, AskWithdrawn(fetch.request))

    # -- senders -------------------------------------------------------------------------------------------------------

    def serve(self, node: SimNode, effect: ServePiece) -> bool:
        """A node sends what it was asked for; False where that was not over a link, or nobody waits."""
        fetch = self._of_request.get(effect.request)
        if fetch is None or fetch.sender is not node:
            return False
        layout, conducts = effect.entry.layout, self._conducts
        if conducts.keeps(node.index, is_last_piece=effect.piece == layout.piece_count - 1):
            node.post(PieceServed(effect.op))  # as it tells its own core
            excuse = conducts.excuse(node.index)
            if excuse is not None:
                self.refuse(node, RefusePiece(effect.request, excuse))
            return True
        fetch.serve_op = effect.op
        fetch.bad_leaf = conducts.bad_leaf(node.index, effect.first_leaf, fetch.size_bytes)
        if fetch.bad_leaf is not None:
            fetch.size_bytes = min(fetch.size_bytes, (fetch.bad_leaf + 1 - effect.first_leaf) * LEAF_BYTES)
        for _ in range(PARTS_AHEAD if conducts.bytes_per_s(node.index) is None else 1):
            self._send(fetch)
        return True

    def refuse(self, node: SimNode, effect: RefusePiece) -> None:
        """A node gives nothing."""
        fetch = self._of_request.get(effect.request)
        if fetch is None or fetch.sender is not node:
            return

        def refused(fetch: _Fetch, _: object) -> None:
            if self._is_open(fetch):
                self._forget(fetch)
                fetch.node.post(fetch.broken_off(effect.reason))

        self._say(fetch, node, REFUSAL_BYTES, refused)

    def _send(self, fetch: _Fetch, _: object = None) -> None:
        """Give the link the next part of a piece."""
        most = self._conducts.bytes_per_s(fetch.sender.index) or fetch.link.bulk_bytes
        size = min(most, fetch.link.bulk_bytes, fetch.size_bytes - fetch.sent)
        if size <= 0 or not self._is_open(fetch):
            return
        at_us = fetch.link.carry(fetch.sender, size, self._kernel.now)
        if at_us == NEVER_US:
            fetch.link.waiting.append(lambda: self._send(fetch))
            return
        fetch.sent += size
        self._kernel.call_at(at_us, self._arrived, fetch, size)

    def _arrived(self, fetch: _Fetch, size: int) -> None:
        if not self._is_open(fetch):
            return
        if fetch.link.held is not None:  # it did not: the two have parted meanwhile
            fetch.sent -= size
            fetch.link.waiting.append(lambda: self._send(fetch))
            return
        fetch.came += size
        if fetch.came < fetch.size_bytes:
            slow = self._conducts.bytes_per_s(fetch.sender.index)
            if slow is None:
                self._send(fetch)
            else:
                self._kernel.call_at(self._kernel.now + size * SECOND_US // slow, self._send, fetch)
            return
        self._forget(fetch)
        is_accused = self._conducts.accuses(fetch.node.index)
        fetch.node.post(fetch.ended(fetch.effect.first_leaf if is_accused else fetch.bad_leaf))
        if fetch.serve_op is not None:
            fetch.sender.post(PieceServed(fetch.serve_op))

    # -- links ---------------------------------------------------------------------------------------------------------

    def _say(self, fetch: _Fetch, speaker: SimNode, size: int, then: Callable[[_Fetch, object], None]) -> None:
        """Carry a few bytes, then do something; when the two hear each other, if they do not now."""
        if not self._is_open(fetch):
            return
        at_us = fetch.link.carry(speaker, size, self._kernel.now)
        if at_us == NEVER_US:
            fetch.link.waiting.append(lambda: self._say(fetch, speaker, size, then))
        else:
            self._kernel.call_at(at_us, then, fetch)

    def _link_ended(self, link: AirLink, at_us: int) -> None:
        """A link is gone; who is still there is told when they notice."""
        for fetch in self._of_link.get(link.id, [])[:]:
            self._forget(fetch)
            if fetch.node.is_up:
                fetch.node.post_at(at_us, fetch.broken_off(Reason.PEER_LOST))
            self._let_go(fetch, at_us)

    def _is_open(self, fetch: _Fetch) -> bool:
        return fetch.request in self._of_request

    def _forget(self, fetch: _Fetch) -> None:
        del self._of_op[fetch.node.index, fetch.effect.op]
        del self._of_request[fetch.request]
        rest = self._of_link[fetch.link.id]
        rest.remove(fetch)
        if not rest:
            del self._of_link[fetch.link.id]
