"""One node under test: its lives, its disk, its engine, and everything that it did.

A `Host` carries out the effects of a `Node` on the clock and the links of its `World`. How an operation ends is
scripted by `plan`; without a script it succeeds after a millisecond. The disk outlives the node, and so do the records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeVar

import msgspec

from edgecoder.coordinator.hub import Hub
from edgecoder.core.effects import (
    Advertise,
    AllocateFile,
    Browse,
    CancelOp,
    Connect,
    DeleteFile,
    DialCoordinator,
    Disconnect,
    Effect,
    FetchFile,
    FetchPiece,
    HashFile,
    LoadModel,
    Operation,
    Persist,
    Progress,
    RefusePiece,
    Reply,
    Result,
    RunTask,
    Scan,
    Send,
    ServePiece,
    TaskResult,
    Trace,
    UnloadModel,
    WakeAt,
)
from edgecoder.core.events import (
    Advertised,
    Command,
    Completion,
    Connected,
    ConnectFailed,
    EngineFailed,
    Event,
    FetchProgressed,
    FileAllocated,
    FileDeleted,
    FileFetched,
    FileHashed,
    ModelLoaded,
    ModelUnloaded,
    Persisted,
    PieceFetched,
    Started,
    SubmitTask,
    SwapModel,
    TaskChunk,
    TaskDone,
    TaskFailed,
    Wake,
)
from edgecoder.core.failures import FAILURES
from edgecoder.core.giving import PieceServed
from edgecoder.core.ids import Address, CommandId, LinkId, Medium, Micros, NodeId, OpId
from edgecoder.core.node import Node, Setup
from edgecoder.errors import Reason
from edgecoder.mesh.member import Member
from edgecoder.models.catalog import CatalogEntry
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, FileRow, encode_rows
from edgecoder.models.swap import KEY as SWAP_KEY
from edgecoder.models.swap import SwapJournal
from edgecoder.trace import Record
from edgecoder.wire.envelope import Frame, Signer, Verifier
from tests.invariants import Answers, Frames, Growth, OneModel, assert_bounds

NEVER: Final[Micros] = 1 << 100
WALL_MS: Final = 1_700_000_000_000
TOKENS_PER_S: Final = 20
T = TypeVar("T")
R = TypeVar("R", bound=Record)
E = TypeVar("E", bound=Effect)

_PLAIN: Final[dict[type[Operation], Callable[[OpId], Completion]]] = {
    Persist: Persisted,
    UnloadModel: ModelUnloaded,
    DeleteFile: FileDeleted,
    AllocateFile: FileAllocated,
    FetchPiece: PieceFetched,
    ServePiece: PieceServed,
}
"""Successes that say nothing more."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an operation is to end."""

    reason: Reason | None = None
    """None: it succeeds."""
    after_us: Micros = 1_000
    hangs: bool = False
    """It ends only when it is cancelled."""
    ignores_cancel: bool = False
    """Its end overtakes the wish to cancel it."""
    parts: tuple[str, ...] = ("one ", "two ", "three")
    """What a task writes: a token a part, half a millisecond apart."""
    sha256: str = ""
    """What a hash finds; empty: what the catalog says."""


FINE: Final = Outcome()
HANGS: Final = Outcome(hangs=True)


def fails(reason: Reason, after_us: Micros = 1_000, parts: tuple[str, ...] = ()) -> Outcome:
    """A failure, for a task after so many parts."""
    return Outcome(reason=reason, after_us=after_us, parts=parts)


class World(Protocol):
    """What a host needs of its cluster."""

    now: Micros
    rng_seed: int

    def at(self, delay_us: Micros, action: Callable[[], None]) -> None:
        """Do something later."""
        ...

    def carry(self, source: Any, link: LinkId, frame: Frame) -> None:
        """Put a frame on a link."""
        ...

    def advertise(self, source: Any, frame: Frame) -> int:
        """Notify the peers in radio range; how many there are."""
        ...

    def connect(self, source: Any, address: Address, medium: Medium) -> LinkId | None:
        """Open a link over a medium to whoever stands at an address; None where nobody takes it."""
        ...

    def call(self, source: Any, coordinator: NodeId) -> LinkId | None:
        """Open a link to a coordinator; None where it does not listen."""
        ...

    def disconnect(self, link: LinkId) -> None:
        """Close a link when what is on its way has arrived."""
        ...


class Host:
    """A node, its machine, and what was seen of it."""

    def __init__(self, world: World, name: str, setup: Setup, keys: tuple[Signer, Verifier]) -> None:
        self._world = world
        self._signer, self._verifier = keys
        self._scripts: dict[type[Operation], deque[Outcome]] = {}
        self._commands = 0
        self._invariants = (OneModel(setup.config), Growth(), Frames())
        self.answers = Answers()
        self.name = name
        self.setup = setup
        self.node_id = self._signer.node_id
        self.node: Node | None = None
        self.life = 0
        self.wall_ms = 0
        """Unix time at the start of the world; 0: the host does not know the time."""
        self.disk: dict[str, bytes] = {}
        self.wake_at: Micros = NEVER
        self.open: dict[OpId, Operation] = {}
        self._deaf: set[OpId] = set()
        self.log: list[tuple[Micros, Event, list[Effect]]] = []
        self.effects: list[Effect] = []
        self.traces: list[Record] = []
        self.replies: dict[int, Result] = {}
        self.progress: list[Progress] = []

    def furnish(self, installed: Iterable[CatalogEntry], active: CatalogEntry | None) -> None:
        """Write to the disk what an earlier life would have: the installed files and the active one."""
        files = dict.fromkeys((*installed, *([active] if active else [])))
        rows = {entry.sha256: FileRow(DownloadState.INSTALLED, entry.file_size_bytes) for entry in files}
        if rows:
            self.disk[INVENTORY_KEY] = encode_rows(rows)
        if active:
            self.disk[SWAP_KEY] = msgspec.msgpack.encode(SwapJournal(active.sha256))

    # -- lives ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a life with what is on the disk."""
        assert self.node is None, f"{self.name} is up"
        self.life += 1
        self.node = Node(self.setup, self._signer, self._verifier, self._world.rng_seed)
        self.take(Started(dict(self.disk), self.wall_ms and self.wall_ms + self._world.now // 1000))

    def stop(self, *, keep_writes: bool = False) -> None:
        """Crash. Writes under way are lost, or with `keep_writes` reach the disk unheard. Scripts end here."""
        if keep_writes:
            for effect in self.open.values():
                if isinstance(effect, Persist):
                    self.disk[effect.key] = effect.value
        self.node = None
        self.open.clear()
        self._scripts.clear()
        self.wake_at = NEVER

    @property
    def alive(self) -> Node:
        """The node of this life."""
        assert self.node is not None, f"{self.name} is down"
        return self.node

    @property
    def member(self) -> Member:
        """Its part, where it is a phone or an agent."""
        assert isinstance(self.alive.part, Member)
        return self.alive.part

    @property
    def hub(self) -> Hub:
        """Its part, where it is a coordinator."""
        assert isinstance(self.alive.part, Hub)
        return self.alive.part

    @property
    def is_busy(self) -> bool:
        """Whether an operation is open or a command unanswered."""
        return self.node is not None and bool(self.open or self.answers.commands)

    # -- events in -----------------------------------------------------------------------------------------------------

    def take(self, event: Event) -> list[Effect]:
        """Hand an event to the node, if it is up, and carry out what it wants."""
        if self.node is None:
            return []
        for observer in (*self._invariants, self.answers):
            observer.saw_event(event)
        effects = self.node.handle(self._world.now, event)
        self.log.append((self._world.now, event, effects))
        for effect in effects:
            for observer in (*self._invariants, self.answers):
                observer.saw_effect(effect)
            self.effects.append(effect)
            self._carry_out(effect)
        assert_bounds(self.node)
        return effects

    def wake(self) -> None:
        """The deadline that the node asked for has come."""
        self.wake_at = NEVER
        self.take(Wake())

    def ask(self, kind: Callable[..., Command], **fields: Any) -> CommandId:
        """Give the node a command; its id."""
        self._commands += 1
        self.take(kind(command=self._commands, **fields))
        return self._commands

    def swap(self, model: str, **fields: Any) -> CommandId:
        """Ask for a swap."""
        return self.ask(SwapModel, model=model, **fields)

    def submit(self, prompt: str = "write a test", **fields: Any) -> CommandId:
        """Ask for an answer."""
        return self.ask(SubmitTask, prompt=prompt, **fields)

    def crash_engine(self, reason: Reason = Reason.ENGINE_CRASHED, *, tasks_fail: bool = True) -> None:
        """The engine loses its model, and with `tasks_fail` everything that runs on it."""
        for op, effect in list(self.open.items()):
            if tasks_fail and isinstance(effect, RunTask):
                self._complete(self.life, op, TaskFailed(op, reason))
        self.take(EngineFailed(reason))

    # -- what was seen -------------------------------------------------------------------------------------------------

    def result(self, command: CommandId, kind: type[T]) -> T:
        """The reply to a command, which is of this type."""
        reply = self.replies[command]
        assert isinstance(reply, kind), reply
        return reply

    def task(self, command: CommandId) -> TaskResult:
        """The reply to a task."""
        return self.result(command, TaskResult)

    def traced(self, kind: type[R]) -> list[R]:
        """The records of one type, in order."""
        return [record for record in self.traces if isinstance(record, kind)]

    def did(self, kind: type[E]) -> list[E]:
        """The effects of one type, in order."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def opened(self, kind: type[E]) -> list[E]:
        """The operations of one type that are open."""
        return [effect for effect in self.open.values() if isinstance(effect, kind)]

    # -- effects out ---------------------------------------------------------------------------------------------------

    def plan(self, kind: type[Operation], *outcomes: Outcome) -> None:
        """Script how the next operations of a kind end; those after them succeed."""
        self._scripts.setdefault(kind, deque()).extend(outcomes)

    def end(self, operation: Operation, outcome: Outcome = FINE) -> None:
        """End an open operation now."""
        self._complete(self.life, operation.op, _completion(operation, outcome))

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(link=link, frame=frame):
                self._world.carry(self, link, frame)
            case WakeAt(deadline=deadline):
                self.wake_at = deadline
            case Trace(record=record):
                self.traces.append(record)
            case Reply(command=command, result=result):
                self.replies[command] = result
            case Progress():
                self.progress.append(effect)
            case Scan() | RefusePiece() | Browse():
                pass
            case Disconnect(link=link):
                self._world.disconnect(link)
            case CancelOp(op=op):
                self._cancel(op)
            case Operation():
                self._begin(effect)
            case _:
                raise AssertionError(f"no host can carry out {effect}")

    def _begin(self, effect: Operation) -> None:
        script = self._scripts.get(type(effect))
        outcome = script.popleft() if script else FINE
        life, op = self.life, effect.op
        self.open[op] = effect
        if isinstance(effect, DialCoordinator):
            self._world.at(outcome.after_us, lambda: self._dial(life, effect, outcome))
            return
        if isinstance(effect, Connect):
            self._world.at(outcome.after_us, lambda: self._connect(life, effect, outcome))
            return
        completion = _completion(effect, outcome)
        if isinstance(effect, Advertise):
            reached = self._world.advertise(self, effect.frame)
            completion = completion if outcome.reason else Advertised(op, reached)
        for number, news in enumerate(_news(effect, outcome), start=1):
            self._world.at(500 * number, lambda news=news: self._tell(life, op, news))  # type: ignore[misc]
        assert not (outcome.hangs and outcome.ignores_cancel), "an operation that never ends breaks the contract"
        if outcome.ignores_cancel:
            self._deaf.add(op)
        if not outcome.hangs:
            streamed_us = 500 * len(outcome.parts) if isinstance(effect, RunTask) else 0
            self._world.at(max(outcome.after_us, streamed_us), lambda: self._complete(life, op, completion))

    def _connect(self, life: int, effect: Connect, outcome: Outcome) -> None:
        """End a dial: with a link to whoever stands at the address."""
        if life == self.life and effect.op in self.open and not outcome.hangs:
            link = None if outcome.reason else self._world.connect(self, effect.address, effect.medium)
            failed = ConnectFailed(effect.op, outcome.reason or Reason.UNAVAILABLE)
            self._complete(life, effect.op, failed if link is None else Connected(effect.op, link))

    def _dial(self, life: int, effect: DialCoordinator, outcome: Outcome) -> None:
        """End a dial: with a link to the coordinator, if it listens."""
        if life == self.life and effect.op in self.open and not outcome.hangs:
            link = None if outcome.reason else self._world.call(self, effect.coordinator)
            failed = ConnectFailed(effect.op, outcome.reason or Reason.UNAVAILABLE)
            self._complete(life, effect.op, failed if link is None else Connected(effect.op, link))

    def _cancel(self, op: OpId) -> None:
        effect = self.open.get(op)
        if effect is not None and op not in self._deaf:
            life, completion = self.life, FAILURES[type(effect)](op, Reason.CANCELLED)
            self._world.at(1_000, lambda: self._complete(life, op, completion))

    def _tell(self, life: int, op: OpId, news: Event) -> None:
        if life == self.life and op in self.open:
            self.take(news)

    def _complete(self, life: int, op: OpId, completion: Completion) -> None:
        """End an operation, if it is still open in the life in which it began."""
        if life != self.life or op not in self.open:
            return
        effect = self.open.pop(op)
        if isinstance(effect, Persist) and isinstance(completion, Persisted):
            self.disk[effect.key] = effect.value
        self.take(completion)


def _completion(effect: Operation, outcome: Outcome) -> Completion:
    op = effect.op
    if outcome.reason is not None:
        return FAILURES[type(effect)](op, outcome.reason)
    if type(effect) in _PLAIN:
        return _PLAIN[type(effect)](op)
    match effect:
        case Advertise():
            return Advertised(op, 0)
        case LoadModel():
            return ModelLoaded(op, TOKENS_PER_S)
        case RunTask():
            return TaskDone(op, len(outcome.parts))
        case FetchFile(entry=entry):
            return FileFetched(op, entry.file_size_bytes)
        case HashFile(entry=entry):
            return FileHashed(op, outcome.sha256 or entry.sha256)
    raise AssertionError(f"no completion for {effect}")


def _news(effect: Operation, outcome: Outcome) -> list[Event]:
    """What is heard of an operation while it is open."""
    match effect:
        case RunTask(op=op):
            return [TaskChunk(op, part, 1) for part in outcome.parts]
        case FetchFile(op=op, entry=entry):
            return [FetchProgressed(op, entry.file_size_bytes // 2)]
    return []
