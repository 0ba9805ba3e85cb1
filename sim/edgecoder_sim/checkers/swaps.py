"""The discipline of a swap: journalled, told to peers and coordinator, then done; taken back where it fails; ended."""

from __future__ import annotations

from typing import Final

import msgspec

from edgecoder.core.effects import Advertise, LoadModel, Persist, UnloadModel
from edgecoder.core.events import (
    Advertised,
    AdvertiseFailed,
    EngineFailed,
    ModelLoaded,
    ModelLoadFailed,
    Persisted,
    PersistFailed,
    ShutDown,
    Started,
)
from edgecoder.core.ids import OpId
from edgecoder.models.catalog import CatalogEntry
from edgecoder.models.swap import KEY as SWAP_KEY
from edgecoder.models.swap import SwapJournal, SwapState
from edgecoder.trace import CapabilitiesChanged, SwapEnded, SwapPhase
from edgecoder_sim.checkers.panel import GRACE_US, Book, Rule
from edgecoder_sim.checkers.replies import swap_us

SETTLED: Final = frozenset(state.value for state in (SwapState.EMPTY, SwapState.READY, SwapState.FAILED))
"""States in which no change is under way."""


class SwapEnds(Rule):
    """Every swap reaches a settled state, and its end is recorded once."""

    name = "swaps end"

    def enter(self) -> None:
        """See `Rule`."""
        self._phase: dict[int, SwapPhase] = {}
        self._ended: dict[int, int] = {}
        self.panel.on(SwapPhase, self._entered)
        self.panel.on(SwapEnded, self._end)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._phase.pop(book.index, None)
        self._ended[book.index] = 0

    def _entered(self, book: Book, record: SwapPhase) -> None:
        before = self._phase.get(book.index)
        is_new = before is None or before.swap != record.swap
        if book.is_changing and is_new and before is not None:
            self.fail(book, f"begins swap {record.swap} while swap {before.swap} is {before.phase}")
        self._phase[book.index] = record
        book.is_changing = record.phase not in SETTLED
        if is_new and book.is_changing:
            key = (book.life, record.swap)
            self.panel.alarm(self.panel.now + swap_us(book) + GRACE_US, self._overdue, book, key)

    def _end(self, book: Book, record: SwapEnded) -> None:
        if record.swap == 0:
            return
        if record.swap <= self._ended[book.index]:
            self.fail(book, f"ends swap {record.swap} after swap {self._ended[book.index]}")
        self._ended[book.index] = record.swap

    def _overdue(self, book: Book, key: tuple[int, int]) -> None:
        life, swap = key
        phase = self._phase.get(book.index)
        if book.is_changing and phase is not None and (book.life, phase.swap) == (life, swap):
            self.fail(book, f"has not ended swap {swap} to {phase.model}, which is still {phase.phase}")


class Journal(Rule):
    """The intent is durable before anything is unloaded, only what the journal names is loaded, and where the target
    does not load the old model comes back."""

    name = "intent is journalled"

    def enter(self) -> None:
        """See `Rule`."""
        self._writing: dict[int, dict[OpId, SwapJournal]] = {}
        self._loading: dict[int, tuple[OpId, CatalogEntry]] = {}
        self._old: dict[int, CatalogEntry] = {}
        """What was unloaded and is to come back if its successor does not load."""
        self._expected: dict[int, CatalogEntry] = {}
        self.panel.on(Started, self._started)
        self.panel.on(Persist, self._persist)
        self.panel.on((Persisted, PersistFailed), self._persist_ended)
        self.panel.on(UnloadModel, self._unload)
        self.panel.on(LoadModel, self._load)
        self.panel.on((ModelLoaded, EngineFailed), self._forget_old)
        self.panel.on(ModelLoadFailed, self._load_failed)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._writing[book.index] = {}
        for memory in (self._loading, self._old, self._expected):
            memory.pop(book.index, None)

    def _started(self, book: Book, event: Started) -> None:
        kept = event.snapshot.get(SWAP_KEY)
        book.journal = _decode(kept) if kept else SwapJournal()

    def _persist(self, book: Book, effect: Persist) -> None:
        if effect.key == SWAP_KEY:
            self._writing[book.index][effect.op] = _decode(effect.value)

    def _persist_ended(self, book: Book, event: Persisted | PersistFailed) -> None:
        journal = self._writing[book.index].pop(event.op, None)
        if journal is not None and type(event) is Persisted:
            book.journal = journal

    def _unload(self, book: Book, _: UnloadModel) -> None:
        if book.journal.intent is None:
            self.fail(book, "unloads its model before the intent of the swap is durable")
        if book.loaded is not None:
            self._old[book.index] = book.loaded

    def _load(self, book: Book, effect: LoadModel) -> None:
        entry = effect.entry
        expected = self._expected.pop(book.index, None)
        if expected is not None and entry is not expected:
            self.fail(book, f"loads {entry.model_id} where {expected.model_id} has to come back")
        if entry.sha256 not in (book.journal.active, book.journal.intent):
            self.fail(book, f"loads {entry.model_id}, which its durable journal does not name")
        self._loading[book.index] = (effect.op, entry)

    def _forget_old(self, book: Book, _: ModelLoaded | EngineFailed) -> None:
        self._old.pop(book.index, None)

    def _load_failed(self, book: Book, event: ModelLoadFailed) -> None:
        op, entry = self._loading.get(book.index, (0, None))
        old = self._old.pop(book.index, None)
        if op == event.op and old is not None and entry is not old:
            self._expected[book.index] = old
            self.panel.alarm(self.panel.now, self._not_back, book, old)

    def _not_back(self, book: Book, old: CatalogEntry) -> None:
        if self._expected.get(book.index) is old:
            self.fail(book, f"could not load the new model and did not load {old.model_id} again")


class _Told:
    """What a node has said of a change of its model."""

    __slots__ = ("is_leaving", "open", "settled", "spread", "swap")

    def __init__(self) -> None:
        self.open: set[OpId] = set()
        """Advertisements of loading, made after the intent was durable, that are not complete."""
        self.spread = False
        """Whether one of them is complete and nothing else was said since."""
        self.swap = 0
        """The newest swap that is known."""
        self.settled = 0
        """The newest swap after which the node said what it offers now."""
        self.is_leaving = False
        """Whether it is shutting down: it says "loading" from then on, which is how the wire says "not available"."""


class Told(Rule):
    """Peers and coordinator know that a node is changing its model before the old one is unloaded, and what it offers
    once the change is over; nobody is told that a changing node serves, or that a serving one is changing."""

    name = "told before unload"

    def enter(self) -> None:
        """See `Rule`."""
        self._of: dict[int, _Told] = {}
        self.panel.on(SwapPhase, self._phase)
        self.panel.on(CapabilitiesChanged, self._changed)
        self.panel.on(Advertise, self._advertise)
        self.panel.on((Advertised, AdvertiseFailed), self._advertised)
        self.panel.on(UnloadModel, self._unload)
        self.panel.on(SwapEnded, self._ended)
        self.panel.on(ShutDown, self._leaves)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._of[book.index] = _Told()

    def _leaves(self, book: Book, _: ShutDown) -> None:
        self._of[book.index].is_leaving = True

    def _phase(self, book: Book, record: SwapPhase) -> None:
        self._of[book.index].swap = record.swap

    def _changed(self, book: Book, record: CapabilitiesChanged) -> None:
        if not book.config.has_radio:
            self._said(book, record.loading)

    def _advertise(self, book: Book, effect: Advertise) -> None:
        loading = effect.capabilities.current_load.is_loading
        self._said(book, loading)
        if loading and book.journal.intent is not None:
            self._of[book.index].open.add(effect.op)

    def _said(self, book: Book, loading: bool) -> None:
        told = self._of[book.index]
        if told.is_leaving:
            if not loading:
                self.fail(book, "advertises that it serves while it is shutting down")
            return
        if loading and not book.is_changing:
            self.fail(book, f"advertises that it is loading; swap {told.swap} has settled")
        if not loading:
            if book.is_changing:
                self.fail(book, f"advertises that it serves while swap {told.swap} is under way")
            told.open.clear()
            told.spread = False
            told.settled = told.swap

    def _advertised(self, book: Book, event: Advertised | AdvertiseFailed) -> None:
        told = self._of[book.index]
        if event.op in told.open:
            told.spread = True

    def _unload(self, book: Book, _: UnloadModel) -> None:
        told = self._of[book.index]
        if book.config.has_radio and not told.spread:
            self.fail(book, "unloads its model before an advertisement that says so is complete")
        if book.coordinator_link is not None and not book.coordinator_told:
            self.fail(book, "unloads its model before a heartbeat has told its coordinator")

    def _ended(self, book: Book, record: SwapEnded) -> None:
        told = self._of[book.index]
        if record.swap > told.settled and not told.is_leaving:
            self.fail(book, f"ended swap {record.swap} to {record.model} and did not advertise what it serves now")


def _decode(journal: bytes) -> SwapJournal:
    return msgspec.msgpack.decode(journal, type=SwapJournal)
