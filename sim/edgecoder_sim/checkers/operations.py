"""Operations: every effect with an id gets exactly one completion, of its own kind and in time."""

from __future__ import annotations

from typing import Final

from edgecoder.core.effects import (
    Advertise,
    AllocateFile,
    CancelOp,
    Connect,
    DeleteFile,
    DialCoordinator,
    DialPeer,
    FetchFile,
    FetchPiece,
    HashFile,
    LoadModel,
    Operation,
    Persist,
    RunTask,
    ServePiece,
    UnloadModel,
)
from edgecoder.core.events import (
    Advertised,
    AdvertiseFailed,
    AllocateFailed,
    Completion,
    Connected,
    ConnectFailed,
    DeleteFailed,
    FetchFailed,
    FetchProgressed,
    FileAllocated,
    FileDeleted,
    FileFetched,
    FileHashed,
    HashFailed,
    ModelLoaded,
    ModelLoadFailed,
    ModelUnloaded,
    Persisted,
    PersistFailed,
    PieceArrived,
    PieceFailed,
    PieceFetched,
    TaskChunk,
    TaskDone,
    TaskFailed,
    UnloadFailed,
)
from edgecoder.core.giving import DialFailed, PeerDialled, PieceServed, ServeFailed
from edgecoder.core.ids import Micros, OpId
from edgecoder.trace import NodeReady
from edgecoder_sim.checkers.panel import GRACE_US, Book, Rule

COMPLETIONS: Final[dict[type[Operation], tuple[type[Completion], type[Completion]]]] = {
    Persist: (Persisted, PersistFailed),
    Advertise: (Advertised, AdvertiseFailed),
    Connect: (Connected, ConnectFailed),
    LoadModel: (ModelLoaded, ModelLoadFailed),
    UnloadModel: (ModelUnloaded, UnloadFailed),
    RunTask: (TaskDone, TaskFailed),
    FetchFile: (FileFetched, FetchFailed),
    HashFile: (FileHashed, HashFailed),
    DeleteFile: (FileDeleted, DeleteFailed),
    AllocateFile: (FileAllocated, AllocateFailed),
    FetchPiece: (PieceFetched, PieceFailed),
    ServePiece: (PieceServed, ServeFailed),
    DialCoordinator: (Connected, ConnectFailed),
    DialPeer: (PeerDialled, DialFailed),
}
"""How each operation may end."""
_OF_THE_DISK: Final = (Persist, DeleteFile)
UNLOAD_US: Final = 60_000_000
"""Freeing a model takes less, even where a driver has to kill a process."""


class _State:
    __slots__ = ("before", "is_ready", "newest", "open", "stale", "written_us")

    def __init__(self, stale: set[OpId], newest: OpId) -> None:
        self.open: dict[OpId, type[Operation]] = {}
        self.stale = stale
        """Operations of earlier lives, whose completions may still come and mean nothing."""
        self.newest = self.before = newest
        """The newest operation, and that of the lives before,"""
        self.is_ready = False
        """which counts where this one ends before its epoch is durable: then it leaves the epoch to the next."""
        self.written_us: Micros = -GRACE_US
        """When its disk was last done with something."""


class Operations(Rule):
    """Every operation gets exactly one completion, of its own kind and in time."""

    name = "one completion"

    def enter(self) -> None:
        """See `Rule`."""
        self._of: dict[int, _State] = {}
        self.panel.on(COMPLETIONS, self._begin_op)
        self.panel.on(list(dict.fromkeys(kind for pair in COMPLETIONS.values() for kind in pair)), self._complete)
        self.panel.on((TaskChunk, FetchProgressed, PieceArrived), self._progress)
        self.panel.on(CancelOp, self._cancel)
        self.panel.on(NodeReady, self._ready)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        before = self._of.get(book.index, _State(set(), 0))
        newest = before.newest if before.is_ready else before.before
        self._of[book.index] = _State(before.stale.union(before.open), -1 if book.is_behind else newest)

    def _ready(self, book: Book, _: NodeReady) -> None:
        self._of[book.index].is_ready = True

    def _begin_op(self, book: Book, effect: Operation) -> None:
        state, kind = self._of[book.index], type(effect)
        if effect.op <= state.newest:
            self.fail(book, f"gives {kind.__name__} the operation id {effect.op}, after {state.newest}")
        state.newest = effect.op
        state.open[effect.op] = kind
        due_us = self._due_us(book, effect)
        if due_us is not None:
            self.panel.alarm(due_us + GRACE_US, self._overdue, book, (book.life, effect.op))

    def _due_us(self, book: Book, effect: Operation) -> Micros | None:
        """When an operation has to be over; None where only a cancellation bounds it."""
        match effect:
            case Persist() | DeleteFile():
                return self.panel.now
            case Advertise():
                return effect.deadline
            case LoadModel():
                return self.panel.now + book.config.load_timeout_ms * 1000
            case UnloadModel():
                return self.panel.now + UNLOAD_US
        return None

    def _complete(self, book: Book, event: Completion) -> None:
        state, name = self._of[book.index], type(event).__name__
        kind = state.open.pop(event.op, None)
        if kind in _OF_THE_DISK:
            state.written_us = self.panel.now
        if kind is None:
            if event.op not in state.stale:
                self.fail(book, f"gets {name} for operation {event.op}, which is not open: it had its completion")
            state.stale.discard(event.op)
        elif type(event) not in COMPLETIONS[kind]:
            self.fail(book, f"gets {name} as the completion of {kind.__name__} {event.op}")

    def _progress(self, book: Book, event: TaskChunk | FetchProgressed | PieceArrived) -> None:
        state = self._of[book.index]
        if event.op not in state.open and event.op not in state.stale:
            self.fail(book, f"gets {type(event).__name__} of operation {event.op}, which is over")

    def _cancel(self, book: Book, effect: CancelOp) -> None:
        if effect.op not in self._of[book.index].open:
            self.fail(book, f"cancels operation {effect.op}, which is not open")
        self.panel.alarm(self.panel.now + GRACE_US, self._overdue, book, (book.life, effect.op))

    def _overdue(self, book: Book, key: tuple[int, OpId]) -> None:
        life, op = key
        state = self._of[book.index]
        kind = state.open.get(op)
        if kind is None or life != book.life:
            return
        if kind in _OF_THE_DISK and self.panel.now < state.written_us + GRACE_US:  # a slow one does what came before
            self.panel.alarm(state.written_us + GRACE_US, self._overdue, book, key)
        else:
            self.fail(book, f"has had no completion for {kind.__name__} {op}, which is overdue")
