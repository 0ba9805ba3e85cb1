"""Pieces on their way: from node to node and from the CDN, and what the two ends are told of it.

What goes over a link from device to device is `air_pieces`'; here is what goes over access networks.

A request reaches its sender after the latency of both access networks. What the sender serves is a flow over its uplink
and the receiver's downlink, which it shares fairly with everything else that flows there; the receiver has the piece
one way later. Who serves whom, and in what order, is the core's.

Fidelity boundary: there is no TCP, so a flow has its share at once and a request costs no bytes; leaves are verified
and synced as they come, at no cost of time; disks take bytes as fast as they come.
"""

from __future__ import annotations

from edgecoder.core.effects import (
    AllocateFile,
    CloseChannel,
    DialPeer,
    FetchPiece,
    RefusePiece,
    ServePiece,
    Source,
    TakeChannel,
)
from edgecoder.core.events import AllocateFailed, FileAllocated, PieceArrived, PieceFailed, PieceFetched
from edgecoder.core.giving import AskWithdrawn, PieceAsked, PieceServed, ServeFailed
from edgecoder.core.ids import NodeId, OpId, RequestId
from edgecoder.errors import Reason
from edgecoder.seeding.pieces import LEAF_BYTES, Layout
from edgecoder_sim.air_pieces import AirPieces
from edgecoder_sim.bandwidth import UNCAPPED, Flow
from edgecoder_sim.cdn import CdnService
from edgecoder_sim.channels import NO_WAY_US, Channels, is_dialable
from edgecoder_sim.conduct import Conduct, Conducts
from edgecoder_sim.host import PERSIST_US, SimNode
from edgecoder_sim.kernel import Kernel


class _Fetch:
    """One request of one node."""

    __slots__ = (
        "bad_leaf",
        "began_leaf",
        "effect",
        "flow",
        "layout",
        "node",
        "piece",
        "request",
        "sender",
        "sender_have",
        "serve_op",
    )

    def __init__(self, node: SimNode, effect: FetchPiece, layout: Layout, request: RequestId) -> None:
        self.node = node
        self.effect = effect
        self.layout = layout
        self.request = request
        self.piece = effect.piece
        """The one that flows now."""
        self.began_leaf = effect.first_leaf
        self.flow: Flow | None = None
        self.sender: SimNode | None = None
        self.serve_op: OpId | None = None
        """The sender's operation, once it serves."""
        self.sender_have = 0
        """What the sender says that it has."""
        self.bad_leaf: int | None = None
        """The leaf of the piece that does not fit the tree."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the piece that flows now, from where it begins; a bad leaf is the last that comes."""
        end = self.layout.piece_bytes(self.piece)
        if self.bad_leaf is not None:
            end = min(end, (self.bad_leaf + 1) * LEAF_BYTES)
        return end - self.began_leaf * LEAF_BYTES


class PieceService:
    """The pieces of a world."""

    def __init__(self, kernel: Kernel, cdn: CdnService) -> None:
        self._kernel = kernel
        self._cdn = cdn
        self._flows = cdn.flows
        self._of_op: dict[tuple[int, OpId], _Fetch] = {}
        self._of_request: dict[RequestId, _Fetch] = {}
        self._nodes: dict[NodeId, SimNode] = {}
        self._requests = 0
        self._conducts = Conducts()
        self._air = AirPieces(kernel, self._conducts)
        self._channels = Channels(kernel, self._nodes, self._between_us)
        cdn.on_outage(self._break_off_cdn)

    def connect(self, node: SimNode, conduct: Conduct = Conduct.HONEST) -> None:
        """A node that others may fetch from, and how it behaves."""
        self._nodes[node.node_id] = node
        if conduct is not Conduct.HONEST:
            self._conducts.add(node.index, conduct, node.stream("conduct"))

    # -- receivers -----------------------------------------------------------------------------------------------------

    def allocate(self, node: SimNode, effect: AllocateFile) -> None:
        """Keep room for a file, if there is some."""
        has_room = node.storage.take(effect.entry)
        completion = FileAllocated(effect.op) if has_room else AllocateFailed(effect.op, Reason.DISK_FULL)
        node.post_at(self._kernel.now + PERSIST_US, completion)

    def fetch(self, node: SimNode, effect: FetchPiece) -> None:
        """Ask the CDN or a peer."""
        self._requests += 1
        if effect.link is not None:
            self._air.fetch(node, effect, self._requests)
            return
        fetch = _Fetch(node, effect, effect.entry.layout, self._requests)
        self._of_op[node.index, effect.op] = fetch
        self._of_request[fetch.request] = fetch
        if effect.source is Source.CDN:
            self._kernel.call_at(self._kernel.now + self._cdn.ttfb_us, self._first_byte, fetch)
            return
        if effect.channel is not None:
            sender = fetch.sender = self._channels.sender_of(effect.channel, node)
        else:
            sender = fetch.sender = None if effect.peer is None else self._nodes.get(effect.peer)
        if sender is None:
            self._fail(fetch, Reason.PEER_LOST if effect.channel is not None else Reason.UNKNOWN_SENDER)
            return
        if effect.channel is not None:
            self._channels.begun(effect.channel)
        elif not is_dialable(sender):
            fetch.sender = None
            self._kernel.call_at(self._kernel.now + NO_WAY_US, self._unreachable, fetch)
            return
        self._kernel.call_at(self._kernel.now + self._flight_us(fetch), self._ask, fetch)

    def _flight_us(self, fetch: _Fetch) -> int:
        assert fetch.sender is not None
        return self._between_us(fetch.node, fetch.sender)

    def _between_us(self, one: SimNode, other: SimNode) -> int:
        return self._cdn.latency_us(one) + self._cdn.latency_us(other)

    def _ask(self, fetch: _Fetch, _: object) -> None:
        sender, effect = fetch.sender, fetch.effect
        if fetch.request not in self._of_request or sender is None:
            return
        if not sender.is_up:
            self._kernel.call_at(self._kernel.now + self._flight_us(fetch), self._unreachable, fetch)
            return
        file = bytes.fromhex(effect.entry.sha256)
        asked = PieceAsked(
            fetch.request, fetch.node.node_id, file, effect.piece, effect.first_leaf, effect.ticket, effect.link
        )
        sender.post(asked)

    def _unreachable(self, fetch: _Fetch, _: object) -> None:
        if fetch.request in self._of_request:
            self._fail(fetch, Reason.PEER_LOST)

    def cancel(self, node: SimNode, op: OpId) -> None:
        """A node does not wait any more; what has come stays."""
        self._air.cancel(node, op)
        self._channels.cancel(node, op)
        fetch = self._of_op.get((node.index, op))
        if fetch is not None:
            self._abandon(fetch)
            self._fail(fetch, Reason.CANCELLED)

    def _abandon(self, fetch: _Fetch) -> None:
        """The receiver goes: tell the sender."""
        sender = fetch.sender
        if sender is None or not sender.is_up:
            return
        at_us = self._kernel.now + self._flight_us(fetch)
        if fetch.serve_op is not None:
            sender.post_at(at_us, ServeFailed(fetch.serve_op, Reason.PEER_LOST))
            fetch.serve_op = None
        else:
            sender.post_at(at_us, AskWithdrawn(fetch.request))

    def _fail(self, fetch: _Fetch, reason: Reason) -> None:
        """End a request; what came of the piece that flows now stays, in whole leaves."""
        self._forget(fetch)
        leaves = wasted = 0
        if fetch.flow is not None:
            whole, wasted = divmod(self._flows.cancel(fetch.flow), LEAF_BYTES)
            leaves = fetch.began_leaf + whole
            if leaves - 1 == fetch.bad_leaf:  # all was sent, up to the one that does not fit
                leaves, wasted = leaves - 1, LEAF_BYTES
        fetch.node.post(PieceFailed(fetch.effect.op, reason, leaves, wasted, fetch.sender_have))

    def _forget(self, fetch: _Fetch) -> None:
        del self._of_op[fetch.node.index, fetch.effect.op]
        del self._of_request[fetch.request]
        if fetch.effect.channel is not None and fetch.sender is not None:
            self._channels.ended(fetch.effect.channel)

    def channel(self, node: SimNode, effect: DialPeer | TakeChannel | CloseChannel) -> None:
        """Dial a peer, or decide on a connection that one has offered."""
        self._channels.carry_out(node, effect)

    # -- senders -------------------------------------------------------------------------------------------------------

    def serve(self, node: SimNode, effect: ServePiece) -> None:
        """A node sends what it was asked for."""
        if self._air.serve(node, effect):
            return
        fetch = self._of_request.get(effect.request)
        if fetch is None or fetch.sender is not node:
            node.post(ServeFailed(effect.op, Reason.PEER_LOST))
            return
        fetch.serve_op, fetch.sender_have = effect.op, effect.have
        conducts, is_last = self._conducts, fetch.piece == fetch.layout.piece_count - 1
        if conducts.keeps(node.index, is_last_piece=is_last):
            self._keep(fetch)
            return
        fetch.bad_leaf = conducts.bad_leaf(node.index, fetch.began_leaf, fetch.size_bytes)
        ports, cap = (self._cdn.port(node), self._cdn.port(fetch.node)), conducts.bytes_per_s(node.index)
        fetch.flow = self._flows.start(*ports, fetch.size_bytes, lambda _: self._served(fetch), cap or UNCAPPED)

    def _keep(self, fetch: _Fetch) -> None:
        """A node keeps to itself what it was to send, and tells its own core that it has sent it."""
        sender, op = fetch.sender, fetch.serve_op
        assert sender is not None
        assert op is not None
        fetch.serve_op = None
        sender.post(PieceServed(op))
        excuse = self._conducts.excuse(sender.index)
        if excuse is not None:
            at_us = self._kernel.now + self._flight_us(fetch)
            self._kernel.call_at(at_us, self._refused, fetch, RefusePiece(fetch.request, excuse, fetch.sender_have))

    def _served(self, fetch: _Fetch) -> None:
        sender, op = fetch.sender, fetch.serve_op
        assert sender is not None
        assert op is not None
        fetch.serve_op = None
        sender.post(PieceServed(op))
        self._kernel.call_at(self._kernel.now + self._flight_us(fetch), self._fetched, fetch)

    def _fetched(self, fetch: _Fetch, _: object) -> None:
        if fetch.request not in self._of_request:
            return
        self._forget(fetch)
        op, bad_leaf = fetch.effect.op, fetch.bad_leaf
        if self._conducts.accuses(fetch.node.index):
            bad_leaf = fetch.began_leaf
        if bad_leaf is None:
            fetch.node.post(PieceFetched(op, fetch.sender_have))
        else:
            wasted = fetch.size_bytes - (bad_leaf - fetch.began_leaf) * LEAF_BYTES
            fetch.node.post(PieceFailed(op, Reason.PIECE_CORRUPT, bad_leaf, wasted))

    def refuse(self, node: SimNode, effect: RefusePiece) -> None:
        """A node gives nothing."""
        self._air.refuse(node, effect)
        fetch = self._of_request.get(effect.request)
        if fetch is not None and fetch.sender is node:
            self._kernel.call_at(self._kernel.now + self._flight_us(fetch), self._refused, fetch, effect)

    def _refused(self, fetch: _Fetch, effect: RefusePiece) -> None:
        if fetch.request in self._of_request:
            fetch.sender_have = effect.have
            self._fail(fetch, effect.reason)

    # -- the CDN -------------------------------------------------------------------------------------------------------

    def _first_byte(self, fetch: _Fetch, _: object) -> None:
        if fetch.request not in self._of_request:
            return
        if self._cdn.is_down:
            self._fail(fetch, Reason.NO_SOURCE)
        else:
            self._flow_from_cdn(fetch)

    def _flow_from_cdn(self, fetch: _Fetch) -> None:
        cap, port = self._cdn.per_connection_bytes_per_s, self._cdn.port(fetch.node)
        fetch.flow = self._flows.start(self._cdn.origin, port, fetch.size_bytes, lambda _: self._piece_done(fetch), cap)

    def _piece_done(self, fetch: _Fetch) -> None:
        effect = fetch.effect
        if fetch.piece == effect.piece + effect.count - 1:
            self._forget(fetch)
            fetch.node.post(PieceFetched(effect.op))
            return
        fetch.node.post(PieceArrived(effect.op, fetch.piece))
        fetch.piece, fetch.began_leaf = fetch.piece + 1, 0
        self._flow_from_cdn(fetch)

    def _break_off_cdn(self) -> None:
        for fetch in [fetch for fetch in self._of_request.values() if fetch.effect.source is Source.CDN]:
            if fetch.flow is not None:
                self._fail(fetch, Reason.NO_SOURCE)

    # -- lives ---------------------------------------------------------------------------------------------------------

    def died(self, node: SimNode) -> None:
        """A node is gone: what it asked for ends without a word, and who waits for it is told."""
        self._channels.died(node)
        for fetch in list(self._of_request.values()):
            if fetch.node is node:
                self._abandon(fetch)
                self._forget(fetch)
                if fetch.flow is not None:
                    self._flows.cancel(fetch.flow)
            elif fetch.sender is node:
                if fetch.flow is not None and fetch.flow.row < 0:
                    continue  # its last byte had left
                self._fail(fetch, Reason.PEER_LOST)
