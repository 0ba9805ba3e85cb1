"""What one life of a node has to tell: its journal is lived again, and what a scenario needs is noted.

Times are microseconds of the node's own clock, which runs from the begin of its host; `unix_us` says where they lie on
the clock on the wall. What passed between two nodes is taken from one journal alone wherever it can be, as a round
trip: then no two clocks are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from edgecoder.core.effects import (
    Effect,
    FetchFile,
    FetchPiece,
    HashFile,
    LoadModel,
    RunTask,
    Send,
    ServePiece,
    Source,
)
from edgecoder.core.events import (
    Completion,
    Event,
    FetchProgressed,
    FileFetched,
    FileHashed,
    FrameReceived,
    LinkDown,
    LinkUp,
    ModelLoaded,
    ModelLoadFailed,
    PieceArrived,
    PieceFetched,
    PowerChanged,
    PullModel,
    ShutDown,
    Started,
    SubmitTask,
    SwapModel,
    TaskChunk,
    TaskDone,
)
from edgecoder.core.giving import PieceServed
from edgecoder.core.ids import LinkId, Micros, NodeId, OpId, Wanted
from edgecoder.errors import UNREADABLE, RemoteProtocolError
from edgecoder.journal.format import Head
from edgecoder.journal.replay import Turn
from edgecoder.models.catalog import CatalogEntry
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, FileRow
from edgecoder.models.swap import KEY as SWAP_KEY
from edgecoder.models.swap import SwapJournal
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder.wire.codec import decode_body
from edgecoder.wire.envelope import Frame, Header, peek
from edgecoder.wire.messages import HeartbeatAck


class Fetch(msgspec.Struct, kw_only=True):
    """Bytes that a node asked for, or gave."""

    begin: Micros
    source: Source | None = None
    """None: it gave them."""
    pieces: tuple[int, ...]
    """Bytes of each piece, or of the whole."""
    arrivals: list[tuple[Micros, int]] = []
    """When so many bytes of it were there, in their order; those of a piece count when it is whole and synced."""
    end: Micros | None = None
    """When all was there; None: it did not come to that."""

    @property
    def size_bytes(self) -> int:
        """All of it."""
        return sum(self.pieces)


class Answer(msgspec.Struct, kw_only=True):
    """A task that the engine ran."""

    begin: Micros
    prompt_bytes: int
    file_bytes: int
    """Of the model."""
    first: Micros | None = None
    """When the first part of the answer came, and how many tokens it had."""
    first_tokens: int = 0
    end: Micros | None = None
    tokens: int = 0


class Span(msgspec.Struct, frozen=True):
    """How long something took with a file."""

    took_us: int
    file_bytes: int


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asked for."""

    at: Micros
    model: str | None
    prompt_bytes: int = 0
    tokens: int = 0


class Life:
    """What a life has told. Its own doors are `see`, and what it gathers."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.unix_us = 0
        """Unix time at moment 0 of its clock."""
        self.first: Micros | None = None
        self.last: Micros = 0
        self.was_shut_down = False
        self.installed: frozenset[str] = frozenset()
        """SHA-256 of the files that were there at its begin,"""
        self.active: str | None = None
        """and of the model that served last before it."""
        self.round_trips_us: list[int] = []
        """From a heartbeat to its acknowledgement. A probe would not do: who gets one may have to ask others."""
        self.taken: list[Fetch] = []
        self.given: list[Fetch] = []
        self.loads: list[Span] = []
        self.failed_loads = 0
        self.hashes: list[Span] = []
        self.answers: list[Answer] = []
        self.pulls: list[Asked] = []
        self.swaps: list[Asked] = []
        self.tasks: list[Asked] = []
        self.power: PowerChanged | None = None
        """What it ran on at first; None: nobody said, and the core took it to be a full battery."""
        self.peers: set[NodeId] = set()
        """Whom it had a link to,"""
        self.lost: dict[NodeId, Micros] = {}
        """and when it broke last."""
        self._peer_of: dict[LinkId, NodeId] = {}
        self._waiting: dict[tuple[int, int], Micros] = {}
        self._files: dict[OpId, Fetch] = {}
        self._timed: dict[OpId, tuple[Micros, int]] = {}
        self._running: dict[OpId, Answer] = {}
        self._loaded_bytes = 0

    def unix(self, at: Micros) -> int:
        """A moment of this life on the clock on the wall, µs."""
        return self.unix_us + at

    @property
    def begins(self) -> int:
        """The first event, Unix time in µs."""
        return self.unix(self.first or 0)

    @property
    def ends(self) -> int:
        """The last event, Unix time in µs."""
        return self.unix(self.last)

    def see(self, turn: Turn) -> None:
        """One event, and what the node answered."""
        if self.first is None:
            self.first = turn.now
        self.last = turn.now
        see = self._EVENTS.get(type(turn.event))
        if see is not None:
            see(self, turn.now, turn.event)
        for effect in turn.effects:
            note = self._EFFECTS.get(type(effect))
            if note is not None:
                note(self, turn.now, effect)
        if isinstance(turn.event, Completion):
            for table in (self._files, self._timed, self._running):
                table.pop(turn.event.op, None)

    # -- the life ------------------------------------------------------------------------------------------------------

    def _started(self, now: Micros, event: Started) -> None:
        self.unix_us = event.wall_ms * 1000 - now
        rows: dict[str, FileRow] = _decoded(event.snapshot.get(INVENTORY_KEY), dict[str, FileRow]) or {}
        self.installed = frozenset(sha256 for sha256, row in rows.items() if row.state is DownloadState.INSTALLED)
        swap: SwapJournal | None = _decoded(event.snapshot.get(SWAP_KEY), SwapJournal)
        self.active = None if swap is None else swap.active

    def _shut_down(self, _: Micros, __: ShutDown) -> None:
        self.was_shut_down = True

    def _powered(self, _: Micros, event: PowerChanged) -> None:
        self.power = self.power or event

    def _link_up(self, _: Micros, event: LinkUp) -> None:
        if event.peer is not None:
            self._peer_of[event.link] = event.peer
            self.peers.add(event.peer)

    def _link_down(self, now: Micros, event: LinkDown) -> None:
        peer = self._peer_of.pop(event.link, None)
        if peer is not None:
            self.lost[peer] = now

    # -- messages ------------------------------------------------------------------------------------------------------

    def _sent(self, now: Micros, effect: Send) -> None:
        named = _named(effect.frame, "heartbeat")
        if named is not None:
            self._waiting[named[0].epoch, named[0].seq] = now

    def _received(self, now: Micros, event: FrameReceived) -> None:
        if event.link not in self._peer_of and isinstance(event.frame, bytes):
            self._learn_peer(event.link, event.frame)
        named = _named(event.frame, "heartbeatAck")
        if named is None:
            return
        try:
            ack = decode_body("heartbeatAck", msgspec.Raw(named[1]))
        except RemoteProtocolError:
            return
        assert isinstance(ack, HeartbeatAck)
        sent = self._waiting.pop((ack.epoch, ack.seq), None)
        if sent is not None:
            self.round_trips_us.append(now - sent)

    def _learn_peer(self, link: LinkId, frame: bytes) -> None:
        """Where the host was not sure who is at the other end, the first frame says it."""
        named = _named(frame)
        if named is not None:
            self._peer_of[link] = named[0].sender
            self.peers.add(named[0].sender)

    # -- files ---------------------------------------------------------------------------------------------------------

    def _fetch_pieces(self, now: Micros, effect: FetchPiece) -> None:
        layout = effect.entry.layout
        sizes = [layout.piece_bytes(piece) for piece in range(effect.piece, effect.piece + effect.count)]
        sizes[0] -= effect.first_leaf * LEAF_BYTES
        self._take(effect.op, Fetch(begin=now, source=effect.source, pieces=tuple(sizes)))

    def _fetch_file(self, now: Micros, effect: FetchFile) -> None:
        size = effect.entry.file_size_bytes - effect.offset_bytes
        self._take(effect.op, Fetch(begin=now, source=Source.CDN, pieces=(size,)))
        self._timed[effect.op] = now, effect.offset_bytes

    def _take(self, op: OpId, fetch: Fetch) -> None:
        self.taken.append(fetch)
        self._files[op] = fetch

    def _piece_arrived(self, now: Micros, event: PieceArrived) -> None:
        fetch = self._files.get(event.op)
        if fetch is not None:
            fetch.arrivals.append((now, sum(fetch.pieces[: len(fetch.arrivals) + 1])))

    def _progressed(self, now: Micros, event: FetchProgressed) -> None:
        fetch, begun = self._files.get(event.op), self._timed.get(event.op)
        if fetch is not None and begun is not None:
            fetch.arrivals.append((now, event.bytes_done - begun[1]))

    def _fetched(self, now: Micros, event: PieceFetched | FileFetched | PieceServed) -> None:
        fetch = self._files.get(event.op)
        if fetch is not None:
            fetch.end = now
            fetch.arrivals.append((now, fetch.size_bytes))

    def _serve(self, now: Micros, effect: ServePiece) -> None:
        if effect.wanted is Wanted.BYTES:
            size = effect.entry.layout.piece_bytes(effect.piece) - effect.first_leaf * LEAF_BYTES
            fetch = self._files[effect.op] = Fetch(begin=now, pieces=(size,))
            self.given.append(fetch)

    # -- the engine ----------------------------------------------------------------------------------------------------

    def _load(self, now: Micros, effect: LoadModel) -> None:
        self._timed[effect.op] = now, effect.entry.file_size_bytes

    def _model_loaded(self, now: Micros, event: ModelLoaded) -> None:
        begun = self._timed.get(event.op)
        if begun is not None:
            self.loads.append(Span(now - begun[0], begun[1]))
            self._loaded_bytes = begun[1]

    def _load_failed(self, _: Micros, __: ModelLoadFailed) -> None:
        self.failed_loads += 1

    def _hash(self, now: Micros, effect: HashFile) -> None:
        self._timed[effect.op] = now, effect.entry.file_size_bytes

    def _hashed(self, now: Micros, event: FileHashed) -> None:
        begun = self._timed.get(event.op)
        if begun is not None:
            self.hashes.append(Span(now - begun[0], begun[1]))

    def _run(self, now: Micros, effect: RunTask) -> None:
        size = len(effect.prompt.encode("utf-8", "replace"))
        answer = Answer(begin=now, prompt_bytes=size, file_bytes=self._loaded_bytes)
        self._running[effect.op] = answer
        self.answers.append(answer)

    def _chunk(self, now: Micros, event: TaskChunk) -> None:
        answer = self._running.get(event.op)
        if answer is not None and answer.first is None:
            answer.first, answer.first_tokens = now, event.tokens

    def _done(self, now: Micros, event: TaskDone) -> None:
        answer = self._running.get(event.op)
        if answer is not None:
            answer.end, answer.tokens = now, event.tokens

    # -- users ---------------------------------------------------------------------------------------------------------

    def _pull(self, now: Micros, event: PullModel) -> None:
        self.pulls.append(Asked(at=now, model=event.model))

    def _swap(self, now: Micros, event: SwapModel) -> None:
        self.swaps.append(Asked(at=now, model=event.model))

    def _submit(self, now: Micros, event: SubmitTask) -> None:
        size = len(event.prompt.encode("utf-8", "replace"))
        self.tasks.append(Asked(at=now, model=event.model, prompt_bytes=size, tokens=event.max_tokens))

    _EVENTS: ClassVar[dict[type[Event], Callable[..., None]]] = {
        Started: _started,
        ShutDown: _shut_down,
        PowerChanged: _powered,
        LinkUp: _link_up,
        LinkDown: _link_down,
        FrameReceived: _received,
        PieceArrived: _piece_arrived,
        FetchProgressed: _progressed,
        PieceFetched: _fetched,
        FileFetched: _fetched,
        PieceServed: _fetched,
        ModelLoaded: _model_loaded,
        ModelLoadFailed: _load_failed,
        FileHashed: _hashed,
        TaskChunk: _chunk,
        TaskDone: _done,
        PullModel: _pull,
        SwapModel: _swap,
        SubmitTask: _submit,
    }
    _EFFECTS: ClassVar[dict[type[Effect], Callable[..., None]]] = {
        Send: _sent,
        FetchPiece: _fetch_pieces,
        FetchFile: _fetch_file,
        ServePiece: _serve,
        LoadModel: _load,
        HashFile: _hash,
        RunTask: _run,
    }


def files_of(life: Life, digests: frozenset[str]) -> list[CatalogEntry]:
    """The entries of the life's catalog that have these SHA-256."""
    return [entry for entry in life.head.catalog if entry.sha256 in digests]


def _decoded(data: bytes | None, kind: Any) -> Any:
    """What was kept, None where it is not there or cannot be read."""
    if data is None:
        return None
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except UNREADABLE:
        return None


def _named(frame: Frame, *names: str) -> tuple[Header, bytes] | None:
    """Header and body of a frame, if it has one of these names (any, where none is given); whoever sent it may have
    written anything."""
    if not isinstance(frame, bytes):
        return None
    try:
        name, header, body = peek(frame)
    except UNREADABLE:
        return None
    return (header, body) if not names or name in names else None
