"""Answering tasks: this node's engine, its slots and its queue.

A task is accepted or refused at once; an accepted one ends in exactly one `done` or `failed`. A probe is told when a
task could begin, and a place is kept for it. Who asked is behind a `Sink`, so that a task of this node's own user and
one that came over a link are the same here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heapify, heapreplace
from types import MappingProxyType
from typing import Protocol

import msgspec

from edgecoder.core.context import MILLI, Context
from edgecoder.core.effects import CancelOp, RunTask
from edgecoder.core.events import TaskChunk, TaskDone, TaskFailed
from edgecoder.core.ids import LinkId, Micros, OpId, TaskId
from edgecoder.core.labels import Label
from edgecoder.errors import Reason
from edgecoder.mesh.reservations import Reservations
from edgecoder.mesh.soonest import work_ms
from edgecoder.trace import TaskStarted, TaskStopped
from edgecoder.wire.codec import is_text
from edgecoder.wire.messages import Probe, ProbeReply, ResponseStatus, TaskRequest, TaskResponse

SIGNS_PER_SILENCE = 3
"""An accepted task gives so many signs of life in the time after which its origin takes it as lost."""
_SIGNS = ("work.signs", 0)
Sink = Callable[[TaskResponse], None]
"""Takes the responses to one task, in order."""


class WorkState(Label):
    """Where an accepted task stands."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class WorkStep(Label):
    """What can happen to it."""

    SLOT_FREE = "slotFree"
    CHUNK = "chunk"
    STOP = "stop"
    DONE = "done"
    FAILED = "failed"


class _Work(msgspec.Struct):
    request: TaskRequest
    sink: Sink
    link: LinkId | None
    """Where the request came from; None: this node's own user."""
    model: str
    state: WorkState = WorkState.WAITING
    op: OpId = 0
    index: int = 0
    tokens: int = 0
    parts: list[str] = msgspec.field(default_factory=list)
    """What was written so far and not sent: the whole answer goes with `done` where nothing is streamed."""
    text_size: int = 0
    """Characters written so far."""
    said_at: Micros = 0
    """When its sink heard of it last."""
    stopped_for: Reason | None = None
    """Why it is being stopped: the reason that its sink gets."""


class Able(Protocol):
    """What the node can do now."""

    def tokens_per_s(self) -> int:
        """Decoding speed of the active model."""
        ...

    def work_tokens_max(self) -> int:
        """The longest answer that it takes on for others."""
        ...


class Executor:
    """The tasks that this node has accepted."""

    def __init__(
        self,
        context: Context,
        model_for: Callable[[TaskRequest | Probe], str | Reason],
        on_load: Callable[[], None],
        able: Able,
    ) -> None:
        """`model_for` names the active model if it may answer the request now, else says why not; `on_load` is called
        when the count of tasks has changed."""
        self._context = context
        self._model_for = model_for
        self._on_load = on_load
        self._able = able
        self.reservations = Reservations(context)
        self._work: dict[TaskId, _Work] = {}
        self._by_op: dict[OpId, _Work] = {}
        self._known: dict[TaskId, None] = {}
        self._on_drained: list[Callable[[], None]] = []

    @property
    def tasks(self) -> int:
        """Running and waiting tasks."""
        return len(self._work)

    def runs(self, task_id: TaskId) -> bool:
        """Whether the engine is at a task."""
        work = self._work.get(task_id)
        return work is not None and work.state is WorkState.RUNNING

    def has_done(self, task_id: TaskId) -> bool:
        """Whether a task was answered here, of those that are remembered."""
        return task_id in self._known and task_id not in self._work

    def offer(self, request: TaskRequest, sink: Sink, link: LinkId | None) -> None:
        """Accept or refuse a task: the sink hears at once which, then what comes of it."""
        self.reservations.take(link, request.task_id)
        verdict = self._judge(request, len(request.prompt.encode()), is_own=link is None)
        if isinstance(verdict, Reason):
            response = TaskResponse(
                task_id=request.task_id,
                status=ResponseStatus.REFUSED,
                index=0,
                reason=verdict,
                served_by=self._me,
                attempt=request.attempt,
            )
            sink(response)
            return
        self._remember(request.task_id)
        work = self._work[request.task_id] = _Work(request, sink, link, verdict)
        deadline = self._context.in_ms(request.deadline_ms)
        self._context.timers.set(
            ("work.deadline", request.task_id), deadline, lambda: self._stop(work, Reason.DEADLINE)
        )
        self._say(work, ResponseStatus.ACCEPTED)
        if link is not None and self._context.timers.is_idle(_SIGNS):
            self._schedule_signs()
        self._fill_slots()
        self._on_load()

    def probe(self, probe: Probe, link: LinkId) -> ProbeReply:
        """Say when a task could begin, and keep a place for it."""
        self.reservations.take(link, probe.task_id)
        reply = self.judge_probe(probe, is_own=False)
        if reply.reason is None:
            self.reservations.hold(link, probe.task_id, probe.max_tokens)
        return reply

    def judge_probe(self, probe: Probe, *, is_own: bool) -> ProbeReply:
        """The answer to a probe, one of this node's own user or another's; no place is kept."""
        verdict = self._judge(probe, probe.prompt_bytes, is_own=is_own)
        if isinstance(verdict, Reason):
            return ProbeReply(task_id=probe.task_id, reason=verdict)
        return ProbeReply(
            task_id=probe.task_id,
            queue_ms=self._queue_ms(),
            tokens_per_s=self._able.tokens_per_s(),
            hold_ms=self._context.config.probe_hold_ms,
        )

    def cancel(self, task_id: TaskId, reason: Reason, link: LinkId | None, attempt: int = 0) -> None:
        """Whoever asked over `link` does not want the task any more."""
        work = self._work.get(task_id)
        if work is not None and work.link == link and work.request.attempt == attempt:
            self._stop(work, reason)

    def uses(self, link: LinkId) -> bool:
        """Whether somebody waits for an answer over this link, or keeps a place."""
        return any(work.link == link for work in self._work.values()) or self.reservations.uses(link)

    def link_down(self, link: LinkId) -> None:
        """Nobody is there any more to take the answers that were asked for over this link."""
        self.reservations.link_down(link)
        for work in [work for work in self._work.values() if work.link == link]:
            self._stop(work, Reason.PEER_LOST)

    def drain(self, on_drained: Callable[[], None]) -> None:
        """Refuse what waits, let what runs end, to the drain deadline; then call back, at once if nothing runs."""
        self.reservations.clear()
        for work in [work for work in self._work.values() if work.state is WorkState.WAITING]:
            self._stop(work, Reason.LOADING)
        self._on_drained.append(on_drained)
        deadline = self._context.in_ms(self._context.config.drain_ms)
        self._context.timers.set(("work.drain", 0), deadline, self._drain_deadline)
        self._check_drained()

    def chunk(self, event: TaskChunk) -> None:
        """The engine wrote a part of an answer."""
        work = self._by_op.get(event.op)
        if work is not None and (work.state, WorkStep.CHUNK) in WORK_TABLE:
            text = event.text if is_text(event.text) else event.text.encode(errors="replace").decode()
            work.tokens += event.tokens
            work.text_size += len(text)
            if work.text_size > self._context.config.answer_chars_max:
                self._stop(work, Reason.TOO_LARGE)
            elif work.request.stream:
                self._say(work, ResponseStatus.CHUNK, event.tokens, text)
            else:
                work.parts.append(text)

    # -- the life of a task --------------------------------------------------------------------------------------------

    def _judge(self, request: TaskRequest | Probe, prompt_bytes: int, *, is_own: bool) -> str | Reason:
        config = self._context.config
        if request.task_id in self._known or request.task_id in self._work:
            return Reason.DUPLICATE
        if prompt_bytes > config.prompt_bytes_max:
            return Reason.TOO_LARGE
        if not is_own and request.max_tokens > self._able.work_tokens_max():
            return Reason.LOW_POWER
        if len(self._work) + len(self.reservations) >= config.slots + config.task_queue_max:
            return Reason.BUSY
        return self._model_for(request)

    def _queue_ms(self) -> int:
        """When a slot is free for one more task, if every answer here is as long as it may be: the running ones first,
        then those that wait, then the places that are kept, each in the slot that is free first."""
        slots, speed = self._context.config.slots, self._able.tokens_per_s()
        running = [work for work in self._work.values() if work.state is not WorkState.WAITING]
        free_ms = [work_ms(max(0, work.request.max_tokens - work.tokens), speed) for work in running]
        free_ms += [0] * (slots - len(free_ms))
        heapify(free_ms)
        waiting = [work.request.max_tokens for work in self._work.values() if work.state is WorkState.WAITING]
        for tokens in [*waiting, *self.reservations.tokens()]:
            heapreplace(free_ms, free_ms[0] + work_ms(tokens, speed))
        return free_ms[0]

    def _step(self, work: _Work, step: WorkStep) -> bool:
        following = WORK_TABLE.get((work.state, step))
        if following is None:
            return False
        work.state = following
        return True

    def _fill_slots(self) -> None:
        if self._on_drained:
            return
        while len(self._by_op) < self._context.config.slots:
            work = next((work for work in self._work.values() if work.state is WorkState.WAITING), None)
            if work is None:
                return
            self._step(work, WorkStep.SLOT_FREE)
            self._run(work)

    def _run(self, work: _Work) -> None:
        work.op = self._context.ops.begin(self._ended)
        self._by_op[work.op] = work
        self._context.trace(TaskStarted(work.request.task_id, work.model))
        request = work.request
        self._context.out.append(RunTask(work.op, request.task_id, request.prompt, request.max_tokens))

    def _stop(self, work: _Work, reason: Reason) -> None:
        if not self._step(work, WorkStep.STOP):
            return
        work.stopped_for = reason
        if work.state is WorkState.ENDED:
            self._finish(work, reason)
        else:
            self._context.out.append(CancelOp(work.op))

    def _ended(self, completion: TaskDone | TaskFailed) -> None:
        work = self._by_op.pop(completion.op)
        if isinstance(completion, TaskDone):
            work.tokens = completion.tokens
            self._step(work, WorkStep.DONE)
            self._finish(work, None)  # also when it was being stopped: the answer is whole
        else:
            self._step(work, WorkStep.FAILED)
            self._finish(work, work.stopped_for or completion.reason)

    def _finish(self, work: _Work, reason: Reason | None) -> None:
        task_id = work.request.task_id
        del self._work[task_id]
        if reason is not None:
            self._known.pop(task_id, None)  # nothing was answered: it may be asked again
        self._context.timers.cancel(("work.deadline", task_id))
        self._context.trace(TaskStopped(task_id, reason, work.tokens))
        status = ResponseStatus.DONE if reason is None else ResponseStatus.FAILED
        self._say(work, status, work.tokens, "".join(work.parts), reason)
        self._fill_slots()
        self._on_load()
        self._check_drained()

    def _say(
        self, work: _Work, status: ResponseStatus, tokens: int = 0, text: str = "", reason: Reason | None = None
    ) -> None:
        response = TaskResponse(
            task_id=work.request.task_id,
            status=status,
            index=work.index,
            text=text,
            tokens=tokens,
            reason=reason,
            served_by=None if status is ResponseStatus.CHUNK else self._me,
            model=None if status is ResponseStatus.CHUNK else work.model,
            attempt=work.request.attempt,
        )
        work.index += 1
        work.said_at = self._context.now
        work.sink(response)

    def _schedule_signs(self) -> None:
        self._context.timers.set(_SIGNS, self._context.in_ms(self._sign_ms), self._give_signs)

    def _give_signs(self) -> None:
        """Tell those who have waited for long, over a link, that their task is not lost: it waits for a slot, or it is
        not streamed. A sign is a part without text."""
        distant = [work for work in self._work.values() if work.link is not None]
        for work in distant:
            if work.said_at + self._sign_ms * MILLI <= self._context.now:
                self._say(work, ResponseStatus.CHUNK)
        if distant:
            self._schedule_signs()

    @property
    def _sign_ms(self) -> int:
        return max(1, self._context.config.task_silence_ms // SIGNS_PER_SILENCE)

    @property
    def _me(self) -> bytes:
        return self._context.node_id

    # -- draining ------------------------------------------------------------------------------------------------------

    def _drain_deadline(self) -> None:
        for work in [work for work in self._work.values() if work.state is WorkState.RUNNING]:
            self._stop(work, Reason.DRAINED)

    def _check_drained(self) -> None:
        """Tasks that wait came after the drain began, to a model that is back already: they need not end first."""
        if not self._on_drained or any(work.state is not WorkState.WAITING for work in self._work.values()):
            return
        waiting, self._on_drained = self._on_drained, []
        self._context.timers.cancel(("work.drain", 0))
        for on_drained in waiting:
            on_drained()
        self._fill_slots()

    def _remember(self, task_id: TaskId) -> None:
        while len(self._known) >= self._context.config.task_memory_max:
            del self._known[next(iter(self._known))]
        self._known[task_id] = None


WORK_TABLE: Mapping[tuple[WorkState, WorkStep], WorkState] = MappingProxyType(
    {
        (WorkState.WAITING, WorkStep.SLOT_FREE): WorkState.RUNNING,
        (WorkState.WAITING, WorkStep.STOP): WorkState.ENDED,
        (WorkState.RUNNING, WorkStep.CHUNK): WorkState.RUNNING,
        (WorkState.RUNNING, WorkStep.STOP): WorkState.STOPPING,
        (WorkState.RUNNING, WorkStep.DONE): WorkState.ENDED,
        (WorkState.RUNNING, WorkStep.FAILED): WorkState.ENDED,
        (WorkState.STOPPING, WorkStep.DONE): WorkState.ENDED,
        (WorkState.STOPPING, WorkStep.FAILED): WorkState.ENDED,
    }
)
