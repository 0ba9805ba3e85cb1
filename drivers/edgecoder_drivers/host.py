"""The asyncio host: one inbox, one task that calls `handle`, one dispatcher of effects, one timer.

A host is one life of a node. What drivers and users have to say goes into the inbox; the task takes one event after
the other, gives it to the core at the loop's time and carries out what comes back, in order. Operations run beside it
as tasks of their own, each of which ends as exactly one completion. What the node keeps (`Persist`) goes to the driver
that has a store; its writes end before the host does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import structlog

from edgecoder.core.effects import CancelOp, Effect, Operation, Persist, Progress, Reply, Result, Trace, WakeAt
from edgecoder.core.events import (
    Command,
    Completion,
    Event,
    FetchProgressed,
    FrameReceived,
    PeersHeard,
    ShutDown,
    SignalMeasured,
    Started,
    Wake,
)
from edgecoder.core.failures import FAILURES
from edgecoder.core.ids import CommandId, Micros, OpId
from edgecoder.core.node import Node
from edgecoder.errors import Reason
from edgecoder.trace import Record
from edgecoder_drivers.driver import Driver, Operate, Perform, Refused

SECOND_US = 1_000_000
INBOX_MAX = 65_536
"""Events that may wait. Of those of `MAY_GET_LOST` one more is dropped, and the log says so; a command is refused."""
MAY_GET_LOST = (FrameReceived, SignalMeasured, PeersHeard, FetchProgressed)
"""What comes again, or is lost on the way too: whoever needs it, copes. All else is owed to the core."""
BACKLOG_MAX = 1024
"""While more wait nobody who asks for `room` goes on."""
TURN_EVENTS = 64
"""Events that are taken before everybody else on the loop gets a turn."""
_log = structlog.get_logger("edgecoder.host")
C = TypeVar("C", bound=Command)


class Journal(Protocol):
    """Who keeps what a life was told and what it answered."""

    def note(self, now: Micros, event: Event, effects: Sequence[Effect] | None) -> None:
        """One event has been handled; without effects: it ended the node."""
        ...


class Observer(Protocol):
    """Who looks at the trace: metrics, logs."""

    def record(self, now: Micros, record: Record) -> None:
        """Something happened."""
        ...


class _Asked:
    """A command whose reply is awaited."""

    __slots__ = ("on_progress", "reply")

    def __init__(self, reply: asyncio.Future[Result], on_progress: Callable[[Progress], None] | None) -> None:
        self.reply = reply
        self.on_progress = on_progress


class AsyncHost:
    """One life of a node on the running loop."""

    def __init__(
        self,
        node: Node,
        drivers: Sequence[Driver],
        *,
        journal: Journal | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Raises ValueError where two drivers carry out one type of effect."""
        self._node = node
        self._drivers = drivers
        self._journal = journal
        self._observers = observers
        self._operations: dict[type[Operation], Operate] = {}
        self._effects: dict[type[Effect], Perform] = {}
        for driver in drivers:
            self._enter(self._operations, driver.operations())
            self._enter(self._effects, driver.effects())
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._has_room = asyncio.Event()
        self._now: Micros = 0
        self._began = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: dict[OpId, asyncio.Task[Completion]] = {}
        self._writes: set[asyncio.Task[Completion]] = set()
        self._asked: dict[CommandId, _Asked] = {}
        self._commands = 0
        self._task: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    @staticmethod
    def _enter(table: dict[Any, Any], more: Mapping[Any, Any]) -> None:
        twice = table.keys() & more.keys()
        if twice:
            raise ValueError(f"two drivers carry out {', '.join(sorted(kind.__name__ for kind in twice))}")
        table.update(more)

    # -- a life --------------------------------------------------------------------------------------------------------

    def start(self, snapshot: Mapping[str, bytes]) -> None:
        """Begin the life with what earlier ones kept."""
        for driver in self._drivers:
            driver.open(self.post)
        self.post(Started(snapshot, time.time_ns() // 1_000_000))
        self._task = self._loop.create_task(self._run(), name="edgecoder node")
        self._task.add_done_callback(lambda _: self._answer_open())

    async def wait(self) -> None:
        """Until the life ends. Raises what ended it, if it did not end by `stop`."""
        assert self._task is not None
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()

    async def drain(self) -> None:
        """Take no more work and end what runs, then stop; stop as well where the life ends meanwhile (see `wait`)."""
        await self.ask(ShutDown)
        await self.stop()

    async def stop(self) -> None:
        """End the life: what runs is cancelled, what is being written is written. All who call it wait for the end."""
        if self._stopping is None:
            self._stopping = self._loop.create_task(self._stop(), name="edgecoder stop")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        self._has_room.set()
        while self._writes:
            await asyncio.wait(self._writes)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._under_way.values()):
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way.values())
        self._answer_open()
        for driver in self._drivers:
            try:
                await driver.close()
            except Exception:  # noqa: BLE001 - the others are to be closed all the same
                _log.exception("driver not closed", driver=type(driver).__name__)

    def _answer_open(self) -> None:
        """Whoever waits for a reply gets one: the node gives none any more."""
        for asked in self._asked.values():
            if not asked.reply.done():
                asked.reply.set_result(Reason.RESTARTED)

    # -- events in -----------------------------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Put an event into the inbox."""
        if isinstance(event, MAY_GET_LOST) and self._inbox.qsize() >= INBOX_MAX:
            _log.warning("inbox full", dropped=type(event).__name__)
        else:
            self._inbox.put_nowait(event)

    async def room(self) -> None:
        """Until few enough events wait: who takes bytes from others takes no more before."""
        while self._inbox.qsize() > BACKLOG_MAX and self._stopping is None:
            self._has_room.clear()
            await self._has_room.wait()

    async def ask(
        self, kind: type[C], *, on_progress: Callable[[Progress], None] | None = None, **fields: Any
    ) -> Result:
        """Give the node a command and wait for its reply; `on_progress` hears of it meanwhile. Who stops waiting calls
        nothing off."""
        _, reply = self.begin(kind, on_progress=on_progress, **fields)
        return await asyncio.shield(reply)

    def begin(
        self, kind: type[C], *, on_progress: Callable[[Progress], None] | None = None, **fields: Any
    ) -> tuple[CommandId, asyncio.Future[Result]]:
        """Give the node a command. Its id, and its reply when there is one."""
        self._commands += 1
        command = self._commands
        reply: asyncio.Future[Result] = self._loop.create_future()
        is_over = self._stopping is not None or (self._task is not None and self._task.done())
        if is_over or (self._inbox.qsize() >= INBOX_MAX and kind is not ShutDown):
            reply.set_result(Reason.RESTARTED if is_over else Reason.OVERFLOW)
            return command, reply
        self._asked[command] = _Asked(reply, on_progress)
        self.post(kind(command, **fields))
        return command, reply

    async def _run(self) -> None:
        while True:
            for _ in range(TURN_EVENTS):
                self._take(await self._inbox.get())
            if self._inbox.qsize() <= BACKLOG_MAX:
                self._has_room.set()
            await asyncio.sleep(0)  # a full inbox must not keep the drivers from the loop

    def _take(self, event: Event) -> None:
        self._now = max(self._now, int((self._loop.time() - self._began) * SECOND_US))
        effects: list[Effect] | None = None
        try:
            effects = self._node.handle(self._now, event)
        finally:
            if self._journal is not None:
                self._journal.note(self._now, event, effects)
        for effect in effects:
            try:
                self._carry_out(effect)
            except Exception:  # noqa: BLE001 - a fault of who is told is not the end of the node
                _log.exception("effect failed", what=type(effect).__name__)

    # -- effects out ---------------------------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Trace(record=record):
                for observer in self._observers:
                    self._show(observer, record)
            case WakeAt(deadline=deadline):
                self._wake_at(deadline)
            case Progress(command=command):
                asked = self._asked.get(command)
                if asked is not None and asked.on_progress is not None:
                    asked.on_progress(effect)
            case Reply(command=command, result=result):
                reply = self._asked.pop(command).reply
                if not reply.done():  # whoever asked may have stopped waiting
                    reply.set_result(result)
            case CancelOp(op=op) if op in self._under_way:
                self._under_way[op].cancel()
            case Operation():
                self._begin(effect)
            case _:
                self._effects.get(type(effect), _nothing)(effect)

    def _show(self, observer: Observer, record: Record) -> None:
        try:
            observer.record(self._now, record)
        except Exception:  # noqa: BLE001 - who looks on ends nothing
            _log.exception("observer failed", observer=type(observer).__name__)

    def _wake_at(self, deadline: Micros) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._began + deadline / SECOND_US, self.post, Wake())

    def _begin(self, effect: Operation) -> None:
        task = self._loop.create_task(self._operate(effect), name=f"{type(effect).__name__} {effect.op}")
        self._under_way[effect.op] = task
        if isinstance(effect, Persist):
            self._writes.add(task)
        # not in the coroutine: one that is cancelled before its first step never runs
        task.add_done_callback(lambda task: self._end(effect, task))

    def _end(self, effect: Operation, task: asyncio.Task[Completion]) -> None:
        """The one completion of an operation. A driver's fault is a failed operation, not the end of the node."""
        del self._under_way[effect.op]
        self._writes.discard(task)
        fails, what = FAILURES[type(effect)], type(effect).__name__
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            self.post(fails(effect.op, Reason.CANCELLED))
        elif error is None:
            self.post(task.result())
        elif isinstance(error, Refused):
            self.post(fails(effect.op, error.reason))
            _log.info("refused", what=what, reason=error.reason.value, detail=str(error))
        else:
            self.post(fails(effect.op, Reason.UNAVAILABLE))
            _log.error("driver failed", what=what, exc_info=error)

    async def _operate(self, effect: Operation) -> Completion:
        operate = self._operations.get(type(effect))
        if operate is None:
            raise Refused(Reason.UNAVAILABLE, "no driver carries it out")
        return await operate(effect)


def _nothing(effect: Effect) -> None:
    """What no driver carries out, such as a frame for a link that is gone."""
