"""Getting one file, piece by piece, from all sources at once.

What a broker grants is asked of that peer at once; a peer over a radio link is asked for what it has; the CDN for what
the planner says. A request that ends leaves its verified leaves here, whoever sent them. A sender whose bytes do not
fit the tree is not asked again; one that is slow or silent is asked less. Whether the whole file is what it should be,
is judged by its SHA-256 when all pieces are here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edgecoder.core.context import MILLI, Context
from edgecoder.core.effects import AllocateFile, CancelOp, FetchPiece, Source
from edgecoder.core.events import AllocateFailed, FileAllocated, PieceArrived, PieceFailed, PieceFetched
from edgecoder.core.ids import LinkId, Micros, NodeId, OpId
from edgecoder.errors import Reason
from edgecoder.protocol import CDN_ID
from edgecoder.seeding.holdings import Holding, Holdings
from edgecoder.seeding.known import KnownPeers
from edgecoder.seeding.losses import Losses
from edgecoder.seeding.outlook import CdnOutlook
from edgecoder.seeding.pieces import LEAF_BYTES, first_from, row_from
from edgecoder.seeding.planner import Planner, View, Why
from edgecoder.seeding.rates import Rates
from edgecoder.seeding.requests import Request, Requests, Swarm
from edgecoder.seeding.speeds import Speeds
from edgecoder.seeding.transfer_table import TRANSFER_TABLE, TransferState, TransferStep
from edgecoder.trace import PieceKept, PieceSought, TransferBegan, TransferEnded
from edgecoder.wire.messages import Grant, Granted

_LOOK = "transfer.look"
FAR_PARTS = 20
"""The end is near when less than one part of so many is left of what was to come."""
GAPS_FACTOR = 4
"""Where what the CDN is to be asked for lies in short rows, it is asked for so many times as many at once."""


class Transfer:
    """One file on its way here."""

    def __init__(
        self,
        context: Context,
        holdings: Holdings,
        holding: Holding,
        planner: Planner,
        swarm: Swarm,
        on_end: Callable[[Reason | None], None],
        on_progress: Callable[[int], None],
    ) -> None:
        """`on_end` is called once: None where all pieces are here, no_proofs where the CDN has the file and nobody what
        its pieces hash to; `on_progress` with the bytes that are here, now and then."""
        self._context = context
        self._holdings = holdings
        self.holding = holding
        self._layout = holding.layout
        self._planner = planner
        self._swarm = swarm
        self._on_end = on_end
        self._on_progress = on_progress
        self.state = TransferState.ALLOCATING
        self.requests = Requests()
        self._known = KnownPeers(self._layout.piece_count)
        self.losses = Losses(context, holding, self.requests, self._known, swarm)
        self._rates = Rates()
        self._sign_at = self._progress_at = self.began = context.now
        self._bytes_begun = self.bytes_left
        self._cdn = CdnOutlook(context, self._rates, self._layout.piece_size_bytes, self._bytes_begun)
        self._speeds = Speeds(context, self._rates, self._cdn, self.requests)
        self._start_piece = context.stream(f"transfer {holding.entry.sha256[:16]}").below(self._layout.piece_count)
        self._allocation: OpId | None = None
        """Until there is room, or there is none."""
        self.takes_mesh = True
        """Whether brokers are told that more is wanted."""
        self._reason: Reason | None = None
        """Why it ended; None: all pieces are here."""
        self._is_over = False
        self._has_peers = False
        """Whether a peer has given anything."""
        self._look_at: Micros = 0
        self._grace: Micros = 0
        """Peers may give no sign for so long while none is asked, as it was planned last."""

    @property
    def bytes_left(self) -> int:
        """Bytes that are not here in whole pieces."""
        return self._layout.file_size_bytes - self._layout.held_bytes(self.holding.have)

    @property
    def _timer(self) -> tuple[str, bytes]:
        return (_LOOK, self.holding.file)

    @property
    def bytes_done(self) -> int:
        """Bytes of whole pieces that are here."""
        return self._layout.file_size_bytes - self.bytes_left

    def start(self) -> None:
        """Keep room on the disk, then fetch."""
        self._context.trace(
            TransferBegan(self.holding.entry.model_id, self.holding.have.bit_count(), self._layout.piece_count)
        )
        self._allocation = self._context.ops.begin(self._allocated)
        self._context.out.append(AllocateFile(self._allocation, self.holding.entry))

    def _allocated(self, completion: FileAllocated | AllocateFailed) -> None:
        self._allocation = None
        if self.state is not TransferState.ALLOCATING:
            self._end_if_quiet()
            return
        if isinstance(completion, AllocateFailed):
            self._end(TransferStep.GAVE_UP, completion.reason)
            return
        self._step(TransferStep.ALLOCATED)
        self._sign_at = self._progress_at = self.began = self._context.now  # the disk took its time, not the sources
        self._swarm.ready(self.holding)
        self.look()

    def call_off(self, reason: Reason) -> None:
        """It is not wanted any more. What is under way ends by itself."""
        if (self.state, TransferStep.CALLED_OFF) in TRANSFER_TABLE:
            self._end(TransferStep.CALLED_OFF, reason)

    # -- sources -------------------------------------------------------------------------------------------------------

    def granted(self, grant: Grant) -> None:
        """The broker says whom to ask."""
        self._cdn.told(grant.receivers)
        reverse = frozenset(grant.reverse)
        for row in grant.pieces:
            if row.piece >= self._layout.piece_count:
                self._context.drop("grant", Reason.INVALID)
                continue
            if row.sender != CDN_ID:
                self._known.named(row.sender, row.endpoint, row.ticket, row.piece, is_reverse=row.sender in reverse)
            self._order(row)
        if any(row.sender != CDN_ID for row in grant.pieces):
            self._sign_at = self._context.now
        self._glance()

    def reached(self, rows: Iterable[Granted]) -> None:
        """The sender of granted pieces has dialled this node."""
        for row in rows:
            self._order(row)
        self._glance()

    def _order(self, row: Granted) -> None:
        """Do as the broker says, unless it does not know what is known here."""
        if self.state is not TransferState.FETCHING:
            self._swarm.lost(self.holding, row.piece, row.sender, Reason.CANCELLED)
            return
        bit = 1 << row.piece
        if row.sender in self.losses.banned:
            self._swarm.lost(self.holding, row.piece, row.sender, Reason.BANNED)
        elif self.holding.have & bit:  # the broker has not heard of it
            self._swarm.got(self.holding, row.piece, CDN_ID, 0)
        elif self.requests.is_asked(row.sender, row.piece):
            return  # the broker says it again, since it has not heard of it
        elif self.requests.flying & bit:
            self._swarm.lost(self.holding, row.piece, row.sender, Reason.DUPLICATE)
        elif row.sender == CDN_ID and self.losses.cdn_is_left_alone:
            self._swarm.lost(self.holding, row.piece, CDN_ID, Reason.NO_SOURCE)
        elif row.sender == CDN_ID:
            self._ask(Source.CDN, row.piece, 1, Why.GRANTED)
        elif not self._known.is_reverse(row.sender) or not self._swarm.awaits(self.holding, row):
            expect = row.expect_ms * MILLI
            self._ask(Source.MESH, row.piece, 1, Why.GRANTED, row.sender, expect=expect)

    def cdn_returned(self) -> None:
        """The CDN can be asked again, whatever it said last."""
        self.losses.cdn_failures, self.losses.cdn_waits_until = 0, self._context.now
        self.look()

    def broker_lost(self) -> None:
        """There is no broker any more: the peers that it has named are asked without one."""
        self._ask_known()
        self.look()

    def _ask_known(self) -> None:
        """Ask known peers for the rarest pieces, one each, where no broker says whom to ask."""
        if self.state is not TransferState.FETCHING or not self.takes_mesh or self._swarm.has_broker(self.holding.file):
            return
        requests, most = self.requests, self._context.config.swarm_inbound_max
        while requests.of_source(Source.MESH) < most:
            wanted = self._layout.all_pieces & ~self.holding.have & ~requests.flying
            choice = self._known.choose(wanted, self._is_free, self._first_of, self._context.now)
            if choice is None:
                return
            peer, piece = choice
            self._ask(Source.MESH, piece, 1, Why.RAREST, peer)

    def _is_free(self, peer: NodeId) -> bool:
        is_near = not self._known.is_reverse(peer) or self._swarm.channel_to(peer) is not None
        return is_near and peer not in self.losses.banned and not self.requests.of_peer(peer)

    def ask_near(self, source: Source, peer: NodeId, link: LinkId, have: int) -> bool:
        """Ask a peer over a radio link for a piece that it has. False: there is nothing to ask it for."""
        wanted = have & ~self.holding.have & ~self.requests.flying
        if not wanted or self.state is not TransferState.FETCHING or peer in self.losses.banned:
            return False
        takes = self._speeds.expected(source, self._layout.piece_size_bytes)
        if not self._planner.takes_near(self._view(self._context.now), source, takes):
            return False
        if not self.requests.of_source(source):  # others may be dearer
            self._context.timers.set(self._timer, self._context.now, self.look)
        begun = [piece for piece in self.holding.leaves if wanted >> piece & 1]
        piece = begun[0] if begun else self._first_of(wanted)
        self._ask(source, piece, 1, Why.NEAR, peer, link=link)
        return True

    def leave(self, link: LinkId) -> None:
        """There is a better link to a peer than this one."""
        for request in self.requests:
            if request.link == link and not request.is_given_up:
                request.is_given_up = request.gives_way = True
                self._context.out.append(CancelOp(request.op))

    def _first_of(self, wanted: int) -> int:
        """A piece of a set, from this node's own starting point on: others begin elsewhere."""
        return first_from(wanted, self._start_piece)

    def _ask(
        self,
        source: Source,
        piece: int,
        count: int,
        why: Why,
        peer: NodeId | None = None,
        link: LinkId | None = None,
        expect: Micros = 0,
    ) -> None:
        context, holding, now = self._context, self.holding, self._context.now
        first_leaf = holding.leaves.get(piece, 0)
        op = context.ops.begin(self._completed)
        if not expect:
            expect = self._speeds.expected(source, count * self._layout.piece_size_bytes)
        is_bulk = source is Source.CDN and why is not Why.GRANTED
        self.requests.add(
            Request(
                op, piece, count, source, peer, now, now + expect, first_leaf=first_leaf, link=link, is_bulk=is_bulk
            )
        )
        if is_bulk:
            self._cdn.under_way += 1
            self._rates.begin(source, now, self._cdn.first_byte)
        elif source is Source.CDN:
            self._cdn.granted += 1
        else:
            self._rates.begin(source, now)
        ticket, endpoint = (None, "") if peer is None or link is not None else self._known.address(peer)
        is_reverse = peer is not None and link is None and self._known.is_reverse(peer)
        channel = self._swarm.channel_to(peer) if peer is not None and is_reverse else None
        context.out.append(
            FetchPiece(op, holding.entry, piece, first_leaf, source, count, peer, endpoint, link, ticket, channel)
        )
        context.trace(PieceSought(holding.entry.model_id, piece, count, source.value, peer, why.value))

    # -- what comes ----------------------------------------------------------------------------------------------------

    def arrived(self, event: PieceArrived) -> None:
        """One of several pieces that the CDN was asked for."""
        request = self.requests.get(event.op)
        if request is not None and event.piece == request.piece + request.arrived < request.piece + request.count - 1:
            self._keep(request, event.piece)
            request.arrived += 1
            if self.holding.is_whole:
                self.look()

    def _completed(self, completion: PieceFetched | PieceFailed) -> None:
        request = self.requests.pop(completion.op)
        now = self._context.now
        if request.is_bulk:
            self._cdn.under_way -= 1
            self._rates.end(request.source, now)
        elif request.source is Source.CDN:
            self._cdn.granted -= 1
        else:
            self._rates.end(request.source, now)
        if self.state is not TransferState.FETCHING:
            self._keep_late(request, completion)
            self._end_if_quiet()
            return
        if isinstance(completion, PieceFetched):
            if request.source is Source.CDN:
                self.losses.cdn_failures, self.losses.cdn_has_proofs = 0, True
            if request.source is Source.MESH and request.peer is not None:
                self._known.gave(request.peer, completion.have)
            for piece in range(request.piece + request.arrived, request.piece + request.count):
                self._keep(request, piece)
                request.arrived += 1
        else:
            self._failed(request, completion)
        if self.state is TransferState.FETCHING:
            if self.holding.is_whole:
                self._end(TransferStep.WHOLE, None)
            else:
                self._ask_known()
                if request.link is not None:
                    self._swarm.freed()
                self._glance() if isinstance(completion, PieceFetched) else self.look()

    def _keep_late(self, request: Request, completion: PieceFetched | PieceFailed) -> None:
        """What comes after the end stays; nobody is to blame for what does not."""
        if isinstance(completion, PieceFetched):
            for piece in range(request.piece + request.arrived, request.piece + request.count):
                self._keep(request, piece)
        else:
            piece = request.piece + request.arrived
            self._holdings.keep_leaves(self.holding, piece, completion.leaves)

    def _keep(self, request: Request, piece: int) -> None:
        holding, layout = self.holding, self._layout
        size = layout.piece_bytes(piece)
        came = size - (request.first_leaf * LEAF_BYTES if piece == request.piece else 0)
        is_new = self._holdings.keep(holding, piece)
        self._note_bytes(request, came)
        if is_new:
            self._swarm.got(holding, piece, request.peer or CDN_ID, came)
            if self.state is TransferState.FETCHING:
                self._on_progress(self.bytes_done)
            self._drop_doubles(request, piece)
        self._context.trace(PieceKept(holding.entry.model_id, piece, request.source.value, request.peer, came, is_new))

    def _note_bytes(self, request: Request, came: int) -> None:
        self._progress_at = self._context.now
        if request.is_bulk or self._cdn.under_way or request.source is not Source.CDN:
            self._rates.note(request.source, came)
        if request.source is not Source.CDN:
            self._sign_at = self._context.now
            self._has_peers = True

    def _drop_doubles(self, done: Request, piece: int) -> None:
        """Whoever else was asked for this piece alone need not send it."""
        for request in self.requests:
            if request is not done and request.piece == piece and request.count == 1 and not request.is_given_up:
                request.is_given_up = True
                self._context.out.append(CancelOp(request.op))

    def _failed(self, request: Request, completion: PieceFailed) -> None:
        piece = request.piece + request.arrived
        first = request.first_leaf if request.arrived == 0 else 0
        came = max(0, completion.leaves - first) * LEAF_BYTES
        new = self._holdings.keep_leaves(self.holding, piece, completion.leaves)
        if new:
            self._note_bytes(request, came)
        self.losses.note(request, completion, new * LEAF_BYTES, came)
        is_alone = not self._has_peers and not self.requests.peers
        if completion.reason is Reason.DISK_FULL or (completion.reason is Reason.NO_PROOFS and is_alone):
            self._end(TransferStep.GAVE_UP, completion.reason)

    # -- looking -------------------------------------------------------------------------------------------------------

    def _glance(self) -> None:
        """Look, unless it will be soon enough when it is time: the CDN is not busy with it, and the end is far."""
        is_far = self.bytes_left * FAR_PARTS > self._bytes_begun
        if not is_far or self._cdn.under_way or self._context.now >= self._look_at:
            self.look()
        elif not self.requests.peers and self._sign_at + self._grace < self._look_at:
            self._look_by(self._sign_at + self._grace)

    def look(self) -> None:
        """Judge whether somebody is too slow, whether the CDN is to be asked, and whether to give up."""
        if self.state is not TransferState.FETCHING:
            return
        now = self._context.now
        if self.holding.is_whole:
            self._end(TransferStep.WHOLE, None)
            return
        patience = self._context.config.transfer_patience_ms * MILLI
        if not self.requests and now >= self._progress_at + patience:
            self._end(TransferStep.GAVE_UP, Reason.NO_SOURCE if self.losses.cdn_has_proofs else Reason.NO_PROOFS)
            return
        again = min(
            self.losses.call_off_slow(now), self._progress_at + patience if not self.requests else now + patience
        )
        self._ask_known()
        if not self._swarm.has_broker(self.holding.file):
            again = min(again, self._known.next_at(now) or again)
        view = self._view(now)
        if self._planner.takes_mesh(view) is not self.takes_mesh:
            self.takes_mesh = not self.takes_mesh
            self._swarm.wish_changed(self.holding)
        plan = self._planner.plan(view)
        if plan.why is not None:
            if now >= self.losses.cdn_waits_until:
                self._ask_cdn(plan.why, doubles=plan.doubles)
            else:
                again = min(again, self.losses.cdn_waits_until)
        self._grace = plan.grace
        self._look_by(min(again, plan.look_again))

    def _look_by(self, at: Micros) -> None:
        self._look_at = max(self._context.now + MILLI, at)
        self._context.timers.set(self._timer, self._look_at, self.look)

    def _view(self, now: Micros) -> View:
        free = self._layout.held_bytes(self._layout.all_pieces & ~self.holding.have & ~self.requests.flying)
        return View(
            now=now,
            began=self.began,
            alone_ends=self._cdn.alone_ends(),
            bytes_begun=self._bytes_begun,
            bytes_left=self.bytes_left,
            bytes_free=free,
            peers_asked=self.requests.peers,
            peer_sign_at=max(self._sign_at, self._swarm.asked_since(self.holding.file)),
            cdn_bytes_per_s=self._cdn.bytes_per_s(),
            cdn_first_byte=self._cdn.first_byte,
            rtt=self._swarm.rtt(),
            peers_end=self.requests.peers_end(now),
            is_cdn_shared=self._cdn.is_shared,
            is_cdn_up=not self.losses.cdn_failures,
            prices=self._swarm.prices(),
            alone_end=self._speeds.alone_end(self.bytes_left),
        )

    def _ask_cdn(self, why: Why, *, doubles: bool) -> None:
        layout, config = self._layout, self._context.config
        most, at_once = self._cdn.pieces_per_request(), config.cdn_requests_max
        if self.losses.cdn_failures:  # one piece tells whether it is there again
            most = at_once = 1
        asked = self.requests.bulk_pieces
        while self._cdn.under_way < at_once or (asked < most and self._cdn.under_way < GAPS_FACTOR * at_once):
            wanted = layout.all_pieces & ~self.holding.have & ~self.requests.flying
            if not wanted and doubles and self._cdn.under_way < at_once:
                wanted, most = self.requests.latest_of_peers(self.holding.have), 1
            if not wanted:
                return
            limit = most if self._cdn.under_way else -(-most // 2)  # so that two requests never end at the same time
            row = row_from(wanted, self._start_piece, limit)
            self._ask(Source.CDN, row.start, len(row), why)
            self._swarm.taking(self.holding, row)
            asked += len(row)

    # -- the end -------------------------------------------------------------------------------------------------------

    def _step(self, step: TransferStep) -> None:
        self.state = TRANSFER_TABLE[self.state, step]

    def _end(self, step: TransferStep, reason: Reason | None) -> None:
        self._step(step)
        self._reason = reason
        self._context.timers.cancel(self._timer)
        for request in self.requests:
            if not request.is_given_up:
                request.is_given_up = True
                self._context.out.append(CancelOp(request.op))
        if self._allocation is not None:
            self._context.out.append(CancelOp(self._allocation))
        self._context.trace(TransferEnded(self.holding.entry.model_id, reason))
        self._end_if_quiet()

    def _end_if_quiet(self) -> None:
        """Say that it is over, when nothing writes to the file any more."""
        if not self.requests and self._allocation is None and not self._is_over:
            self._is_over = True
            self._on_end(self._reason)
