"""The swap: how a node changes the one model that it holds.

The intent is journalled, peers are told before anything is unloaded, running tasks drain, the old model is freed
before the new one is loaded, and a load that fails brings the old one back. `TABLE` says what follows what; the
methods say what is done. Which file a name means and whether it fits is judged before a request gets here; how peers
are told and how tasks drain is left to `mesh`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import msgspec

from edgecoder.core.context import Context
from edgecoder.core.effects import CancelOp, LoadModel, SwapResult, UnloadModel
from edgecoder.core.events import (
    Advertised,
    AdvertiseFailed,
    ModelLoaded,
    ModelLoadFailed,
    ModelUnloaded,
    Persisted,
    PersistFailed,
    SwapCause,
    UnloadFailed,
)
from edgecoder.core.ids import CommandId, Micros, OpId
from edgecoder.core.labels import Label
from edgecoder.errors import UNREADABLE, Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.models.inventory import Inventory
from edgecoder.trace import SwapEnded, SwapPhase

KEY = "swap"
_LOAD_TIMER = ("swap.load", 0)
_IN_TIME = frozenset((Reason.INSUFFICIENT_MEMORY, Reason.NOT_INSTALLED))
"""Why an engine does not free the old model: the new one could not be loaded."""
_CRASHES = frozenset((Reason.ENGINE_CRASHED, Reason.OUT_OF_MEMORY))


class SwapState(Label):
    """States of the active model."""

    EMPTY = "empty"
    READY = "ready"
    ANNOUNCING = "announcing"
    DRAINING = "draining"
    UNLOADING = "unloading"
    LOADING = "loading"
    ROLLING_BACK = "rollingBack"
    FAILED = "failed"


class SwapStep(Label):
    """What can happen to a swap. `_BARE`: no model is in the engine, or none is there to go back to. `_TAKEN`: other
    programs want the engine's memory for themselves."""

    REQUESTED = "requested"
    BOOTED = "booted"
    INTENT_KEPT = "intentKept"
    INTENT_LOST = "intentLost"
    INTENT_LOST_BARE = "intentLostBare"
    ANNOUNCED = "announced"
    DRAINED = "drained"
    DRAINED_BARE = "drainedBare"
    UNLOADED = "unloaded"
    UNLOAD_FAILED = "unloadFailed"
    LOADED = "loaded"
    LOAD_FAILED = "loadFailed"
    LOAD_FAILED_BARE = "loadFailedBare"
    ENGINE_FAILED = "engineFailed"
    ENGINE_FAILED_BARE = "engineFailedBare"
    ENGINE_TAKEN = "engineTaken"


class SwapJournal(msgspec.Struct, frozen=True):
    """What survives a crash: the SHA-256 of the model that served last, and of the one that is about to be loaded."""

    active: str | None = None
    intent: str | None = None


class Surroundings(Protocol):
    """What a swap needs of the rest of the node."""

    def advertise_loading(self, on_completion: Callable[[Advertised | AdvertiseFailed], None]) -> None:
        """Tell the peers that this node is unavailable; complete when they know."""
        ...

    def advertise_settled(self) -> None:
        """Tell peers and coordinator what is active now."""
        ...

    def drain_tasks(self, on_drained: Callable[[], None]) -> None:
        """Let running tasks end, to the drain deadline; then call back. Waiting ones are refused at once."""
        ...


class Request(msgspec.Struct):
    """A model that somebody wants, and every command that waits for it."""

    entry: CatalogEntry
    cause: SwapCause
    commands: list[CommandId]


class Swap:
    """The active model of one node and its change."""

    def __init__(
        self,
        context: Context,
        inventory: Inventory,
        admits: Callable[[CatalogEntry], Reason | None],
        surroundings: Surroundings,
    ) -> None:
        """`admits` says why a file cannot be loaded now."""
        self._context = context
        self._inventory = inventory
        self._admits = admits
        self._around = surroundings
        self.state = SwapState.EMPTY
        self.active: CatalogEntry | None = None
        """The model that serves, or to which a failed swap goes back."""
        self.tokens_per_s = 0
        self._last: str | None = None
        """SHA-256 of the model that served last: a start takes it up again, also after a load that failed."""
        self._in_engine = False
        self._current: Request | None = None
        self._waiting: Request | None = None
        self._failure: Reason | None = None
        self._previous: CatalogEntry | None = None
        self._number = 0
        self._ready_since: Micros = 0
        self._load_op: OpId | None = None
        self._loading: CatalogEntry | None = None
        """What is being loaded, or was last."""
        self._timed_out = False
        self._is_away = False
        """Whether the engine was unavailable when a model was to be loaded last."""
        self._reloaded_at: Micros | None = None
        """When a model was last loaded again that others had taken out."""

    @property
    def serving(self) -> CatalogEntry | None:
        """The model that answers tasks now or did until this swap unloads it."""
        return self.active if self._in_engine else None

    @property
    def failure(self) -> Reason | None:
        """Why the last change did not come to what was asked for; None while one is under way."""
        return self._failure if self.is_settled else None

    @property
    def is_settled(self) -> bool:
        """Whether no change is under way."""
        state = self.state
        return state is SwapState.READY or state is SwapState.EMPTY or state is SwapState.FAILED

    def needs(self, entry: CatalogEntry) -> bool:
        """Whether a file is in the engine, on its way there, or what a swap would go back to."""
        wanted = [request.entry for request in (self._current, self._waiting) if request is not None]
        return any(entry.sha256 == other.sha256 for other in (self.active, *wanted) if other is not None)

    def catalog_changed(self, find: Callable[[str], CatalogEntry | None]) -> None:
        """A newer edition may call files otherwise: say so, where that is one that serves."""
        before = self._name(self.active)
        self.active = None if self.active is None else find(self.active.sha256) or self.active
        for request in filter(None, (self._current, self._waiting)):
            request.entry = find(request.entry.sha256) or request.entry
        if self.is_settled and self._name(self.active) != before:
            self._around.advertise_settled()

    # -- requests ------------------------------------------------------------------------------------------------------

    def request(self, entry: CatalogEntry, cause: SwapCause, command: CommandId | None) -> bool:
        """Make `entry` active. The command gets one SwapResult, now or later. False where it is refused at once."""
        return self._take(Request(entry, cause, [] if command is None else [command]))

    def missed(self, reason: Reason) -> None:
        """A user's swap ended before it could be requested: its file did not come."""
        if self.is_settled:
            self._failure = reason

    def boot(self, journal: bytes | None, find: Callable[[str], CatalogEntry | None]) -> None:
        """Load the model that served before this life. An intent that a crash cut off is not taken up again: whoever
        asked is gone, and the target may be what crashed; that is counted against it."""
        try:
            kept = msgspec.msgpack.decode(journal, type=SwapJournal) if journal else SwapJournal()
        except UNREADABLE:
            kept = SwapJournal()
            self._context.drop(KEY, Reason.STORE_FAILED)
        self._last = kept.active
        suspect = find(kept.intent) if kept.intent else None
        if suspect is not None:
            self._inventory.note_death(suspect)
        self._load_last(find)

    def engine_returned(self, find: Callable[[str], CatalogEntry | None]) -> None:
        """The engine can be used again. What served last is loaded if that could not be done while it was away."""
        if self._is_away and self.is_settled:
            self._load_last(find)

    def _load_last(self, find: Callable[[str], CatalogEntry | None]) -> None:
        entry = find(self._last) if self._last else None
        if entry is None or self._admits(entry) is not None:
            return
        self._current, self._number, self._failure = Request(entry, SwapCause.USER, []), self._number + 1, None
        self._step(SwapStep.BOOTED)

    def engine_failed(self, reason: Reason) -> None:
        """The engine lost its model without being asked."""
        if not self._in_engine or self.active is None:
            return
        self._in_engine = False
        quarantined = reason in _CRASHES and self._inventory.note_crash(self.active)
        if self.is_settled:
            self._previous, self._failure = self.active, reason
            self._number += 1
            self._step(SwapStep.ENGINE_FAILED_BARE if quarantined else self._how_it_failed(reason))
        elif quarantined:
            self.active = None
        self._around.drain_tasks(lambda: None)  # what waits must not be run on an empty engine

    def _how_it_failed(self, reason: Reason) -> SwapStep:
        """What was taken out by others is loaded again once in a while only."""
        if reason is not Reason.NO_MODEL:
            return SwapStep.ENGINE_FAILED
        now, last = self._context.now, self._reloaded_at
        if last is not None and now - last < self._context.config.engine_reload_ms * 1000:
            return SwapStep.ENGINE_TAKEN
        self._reloaded_at = now
        return SwapStep.ENGINE_FAILED

    def _take(self, request: Request) -> bool:
        refusal = self._refusal(request.entry, request.cause)
        is_active = self.state is SwapState.READY and request.entry.is_file_of(self.active)
        if refusal is not None or is_active:
            if request.cause is SwapCause.USER and self.is_settled:
                self._failure = refusal
            self._answer(request.commands, refusal)
            self._trace_end(0, request, refusal)
        elif self.is_settled:
            self._begin(request)
        else:
            return self._join(request)
        return refusal is None

    def _refusal(self, entry: CatalogEntry, cause: SwapCause) -> Reason | None:
        if refusal := self._admits(entry):
            return refusal
        served = self._context.now - self._ready_since
        is_young = self.state is SwapState.READY and served < self._context.config.min_residency_ms * 1000
        return Reason.RESIDENT if cause is SwapCause.TASK and is_young and not entry.is_file_of(self.active) else None

    def _join(self, request: Request) -> bool:
        """A change is under way: join it, or wait behind it in place of whoever waited. The latest wish of a user wins;
        what a task wishes joins or is refused, because the model that comes is to stay for a while."""
        is_current = self._current is not None and self._current.entry.is_file_of(request.entry)
        if self._waiting is not None and self._waiting.entry.is_file_of(request.entry):
            self._add(self._waiting, request)
        elif request.cause is SwapCause.TASK and not is_current:
            self._answer(request.commands, Reason.RESIDENT)
            self._trace_end(0, request, Reason.RESIDENT)
            return False
        else:
            if self._waiting is not None and request.cause is SwapCause.USER:
                superseded, self._waiting = self._waiting, None
                self._answer(superseded.commands, Reason.SUPERSEDED)
                self._trace_end(0, superseded, Reason.SUPERSEDED)
            if is_current:
                assert self._current is not None
                self._add(self._current, request)
            else:
                self._waiting = request
        return True

    def _add(self, to: Request, request: Request) -> None:
        """Let commands wait for a request that is there already, as many as may."""
        if len(to.commands) + len(request.commands) > self._context.config.joined_commands_max:
            self._answer(request.commands, Reason.OVERFLOW)
        else:
            to.commands += request.commands

    # -- the machine ---------------------------------------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        self._current, self._previous, self._failure = request, self.active, None
        self._number += 1
        self._step(SwapStep.REQUESTED)

    def _step(self, step: SwapStep) -> None:
        """Follow the table. A step that has no row is no news here: a late completion, or one that lost its race."""
        row = TABLE.get((self.state, step))
        if row is None:
            return
        entered = row[0] is not self.state
        self.state = row[0]
        if entered:
            self._trace_phase()
        row[1](self)

    def write_intent(self) -> None:
        """Journal what is about to happen."""
        self._persist(self._persisted_intent, intent=self._target().sha256)

    def note_intent(self) -> None:
        """The same at a start, which goes on without it: to serve counts more than to know what it died of."""
        self._persist(lambda _: self._step(SwapStep.INTENT_KEPT), intent=self._target().sha256)

    def announce(self) -> None:
        """Tell the peers that this node is about to be unavailable."""
        self._around.advertise_loading(self._announced)

    def abandon(self) -> None:
        """The journal could not be written: change nothing."""
        self._settle()

    def drain(self) -> None:
        """Let running tasks end."""
        self._around.drain_tasks(self._drained)

    def unload(self) -> None:
        """Free the old model."""
        self._context.out.append(UnloadModel(self._context.ops.begin(self._unloaded), self._target()))

    def keep_old(self) -> None:
        """The old model was not freed, so it goes on serving."""
        self._settle()

    def load(self) -> None:
        """Load the target into the empty engine."""
        self._load(self._target())

    def commit(self) -> None:
        """The target serves."""
        self.active = self._target()
        self._settle()

    def reload(self) -> None:
        """Load the old model again."""
        assert self.active is not None, "the table sends nobody here without a model to go back to"
        self._load(self.active)

    def recover(self) -> None:
        """The engine lost the model: say so, and load it again. Its tasks failed with it."""
        self._around.advertise_loading(lambda _: None)
        self.reload()

    def give_up(self) -> None:
        """Nothing serves."""
        self.active = None
        self._settle()

    def settle(self) -> None:
        """The swap is over."""
        self._settle()

    # -- completions ---------------------------------------------------------------------------------------------------

    def _persisted_intent(self, completion: Persisted | PersistFailed) -> None:
        if isinstance(completion, Persisted):
            self._step(SwapStep.INTENT_KEPT)
            return
        self._failure = completion.reason
        if self._in_engine:
            self._step(SwapStep.INTENT_LOST)
        else:
            self._step(SwapStep.INTENT_LOST_BARE if self.active is None else SwapStep.ENGINE_FAILED)

    def _announced(self, _: Advertised | AdvertiseFailed) -> None:
        self._step(SwapStep.ANNOUNCED)

    def _drained(self) -> None:
        self._step(SwapStep.DRAINED if self._in_engine else SwapStep.DRAINED_BARE)

    def _unloaded(self, completion: ModelUnloaded | UnloadFailed) -> None:
        if isinstance(completion, UnloadFailed) and self._in_engine:
            self._failure = completion.reason if completion.reason in _IN_TIME else Reason.UNLOAD_FAILED
            self._step(SwapStep.UNLOAD_FAILED)
        else:
            self._in_engine = False
            self._step(SwapStep.UNLOADED)

    def _loaded(self, completion: ModelLoaded | ModelLoadFailed) -> None:
        self._context.timers.cancel(_LOAD_TIMER)
        assert self._loading is not None, "a load that nobody began"
        self._load_op, loading = None, self._loading
        self._is_away = isinstance(completion, ModelLoadFailed) and completion.reason is Reason.UNAVAILABLE
        if isinstance(completion, ModelLoaded):
            self._in_engine = True
            self._ready_since = self._context.now
            self.tokens_per_s = completion.tokens_per_s
            self._inventory.note_loaded(loading)
            self._step(SwapStep.LOADED)
            return
        if completion.reason in _CRASHES:
            self._inventory.note_crash(loading)
        self._failure = self._failure or (Reason.LOAD_TIMEOUT if self._timed_out else completion.reason)
        self._step(SwapStep.LOAD_FAILED if self.active is not None else SwapStep.LOAD_FAILED_BARE)

    def _load(self, entry: CatalogEntry) -> None:
        self._timed_out, self._loading = False, entry
        self._load_op = self._context.ops.begin(self._loaded)
        self._context.out.append(LoadModel(self._load_op, entry, self._context.config.context_tokens))
        deadline = self._context.in_ms(self._context.config.load_timeout_ms)
        self._context.timers.set(_LOAD_TIMER, deadline, self._load_timed_out)

    def _load_timed_out(self) -> None:
        if self._load_op is not None:
            self._timed_out = True
            self._context.out.append(CancelOp(self._load_op))

    # -- the end -------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Journal what is active now, advertise it, answer when it is durable, and take up what waited."""
        request, self._current, number = self._current, None, self._number
        result = SwapResult(self._name(self._previous), self._name(self.serving), self._param_size(), self._failure)

        def persisted(completion: Persisted | PersistFailed) -> None:
            if request is None:
                return
            lost = completion.reason if isinstance(completion, PersistFailed) else None
            final = msgspec.structs.replace(result, reason=result.reason or lost)
            for command in request.commands:
                self._context.reply(command, final)
            self._trace_end(number, request, final.reason)

        self._persist(persisted, intent=None)
        self._around.advertise_settled()
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._take(waiting)  # judged again: much may have changed while it waited

    def _persist(self, on_completion: Callable[[Persisted | PersistFailed], None], intent: str | None) -> None:
        if self.active is not None:
            self._last = self.active.sha256
        journal = SwapJournal(self._last, intent)
        self._context.persist(KEY, msgspec.msgpack.encode(journal), on_completion)

    def _answer(self, commands: list[CommandId], reason: Reason | None) -> None:
        name = self._name(self.serving)
        for command in commands:
            self._context.reply(command, SwapResult(name, name, self._param_size(), reason))

    def _target(self) -> CatalogEntry:
        assert self._current is not None, "a swap without a target"
        return self._current.entry

    def _name(self, entry: CatalogEntry | None) -> str | None:
        return None if entry is None else entry.model_id

    def _param_size(self) -> float | None:
        return None if self.serving is None else self.serving.param_size

    def _trace_phase(self) -> None:
        model = self._current.entry if self._current is not None else self.active
        name = "" if model is None else model.model_id
        self._context.trace(SwapPhase(self._number, self.state.value, name, self._name(self._previous)))

    def _trace_end(self, number: int, request: Request, reason: Reason | None) -> None:
        active = self._name(self.serving)
        self._context.trace(
            SwapEnded(number, request.entry.model_id, active, reason, len(request.commands), request.cause.value)
        )


_Row = tuple[SwapState, Callable[[Swap], None]]
TABLE: Mapping[tuple[SwapState, SwapStep], _Row] = MappingProxyType(
    {
        (SwapState.EMPTY, SwapStep.BOOTED): (SwapState.ANNOUNCING, Swap.note_intent),
        (SwapState.FAILED, SwapStep.BOOTED): (SwapState.ANNOUNCING, Swap.note_intent),
        (SwapState.EMPTY, SwapStep.REQUESTED): (SwapState.ANNOUNCING, Swap.write_intent),
        (SwapState.READY, SwapStep.REQUESTED): (SwapState.ANNOUNCING, Swap.write_intent),
        (SwapState.FAILED, SwapStep.REQUESTED): (SwapState.ANNOUNCING, Swap.write_intent),
        (SwapState.ANNOUNCING, SwapStep.INTENT_KEPT): (SwapState.ANNOUNCING, Swap.announce),
        (SwapState.ANNOUNCING, SwapStep.INTENT_LOST): (SwapState.READY, Swap.abandon),
        (SwapState.ANNOUNCING, SwapStep.INTENT_LOST_BARE): (SwapState.EMPTY, Swap.abandon),
        (SwapState.ANNOUNCING, SwapStep.ENGINE_FAILED): (SwapState.ROLLING_BACK, Swap.recover),
        (SwapState.ANNOUNCING, SwapStep.ANNOUNCED): (SwapState.DRAINING, Swap.drain),
        (SwapState.DRAINING, SwapStep.DRAINED): (SwapState.UNLOADING, Swap.unload),
        (SwapState.DRAINING, SwapStep.DRAINED_BARE): (SwapState.LOADING, Swap.load),
        (SwapState.UNLOADING, SwapStep.UNLOADED): (SwapState.LOADING, Swap.load),
        (SwapState.UNLOADING, SwapStep.UNLOAD_FAILED): (SwapState.READY, Swap.keep_old),
        (SwapState.LOADING, SwapStep.LOADED): (SwapState.READY, Swap.commit),
        (SwapState.LOADING, SwapStep.LOAD_FAILED): (SwapState.ROLLING_BACK, Swap.reload),
        (SwapState.LOADING, SwapStep.LOAD_FAILED_BARE): (SwapState.EMPTY, Swap.settle),
        (SwapState.ROLLING_BACK, SwapStep.LOADED): (SwapState.READY, Swap.settle),
        (SwapState.ROLLING_BACK, SwapStep.LOAD_FAILED): (SwapState.FAILED, Swap.give_up),
        (SwapState.READY, SwapStep.ENGINE_FAILED): (SwapState.ROLLING_BACK, Swap.recover),
        (SwapState.READY, SwapStep.ENGINE_FAILED_BARE): (SwapState.FAILED, Swap.give_up),
        (SwapState.READY, SwapStep.ENGINE_TAKEN): (SwapState.EMPTY, Swap.give_up),
    }
)
