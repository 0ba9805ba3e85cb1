"""Tasks of this node's own user: from the question to the one reply.

Each task is routed to this node itself, to a peer in reach, or to the coordinator, after a round of probes where that
is the policy. If it is refused there it is routed again, if nobody can take it it waits, and at its deadline it fails.
Parts of an answer that were already shown bind the task to who wrote them: then a lost peer ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Protocol

import msgspec

from edgecoder.core.context import Context
from edgecoder.core.effects import Progress, TaskResult
from edgecoder.core.events import CancelTask, SubmitTask
from edgecoder.core.ids import CommandId, LinkId, Micros, NodeId, TaskId, task_id
from edgecoder.errors import Reason
from edgecoder.mesh.prober import Near, Prober, Verdict
from edgecoder.mesh.router import NOT_ITS_FAULT, Candidate, CostRouter, Decision, Why
from edgecoder.mesh.soonest import ProbeRouter
from edgecoder.models.catalog import is_model_name
from edgecoder.protocol import OUTPUT_TOKENS_MAX, PARAM_SIZE_MAX, TTL_MS_MAX
from edgecoder.trace import TaskEnded, TaskRouted, TaskSubmitted
from edgecoder.wire.codec import is_text
from edgecoder.wire.messages import Cancel, ProbeReply, ResponseStatus, TaskRequest, TaskResponse


class TaskState(Enum):
    """Where a task of the user stands."""

    WAITING = "waiting"
    PROBING = "probing"
    ASKED = "asked"
    ACCEPTED = "accepted"
    STREAMING = "streaming"
    ENDED = "ended"


class TaskStep(Enum):
    """What can happen to it."""

    PROBED = "probed"
    NOBODY = "nobody"
    ROUTED = "routed"
    ACCEPTED = "accepted"
    CHUNK = "chunk"
    REFUSED = "refused"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"
    GIVEN_UP = "givenUp"


class Reach(Near, Protocol):
    """Whom a task can be sent to."""

    def candidates(self, request: TaskRequest, tried: set[NodeId]) -> list[Candidate]:
        """This node and the peers in reach."""
        ...

    def coordinator(self) -> tuple[NodeId, LinkId] | None:
        """The home coordinator, if it answers."""
        ...

    def dial(self, node: NodeId, on_link: Callable[[LinkId | None], None]) -> None:
        """Get a link to a peer that is heard; None where there is none."""
        ...

    def run_here(self, request: TaskRequest, sink: Callable[[TaskResponse], None]) -> None:
        """Offer the task to this node's own engine."""
        ...

    def cancel_here(self, task: TaskId, reason: Reason) -> None:
        """Take it back from there."""
        ...

    def note_outcome(self, node: NodeId, latency_ms: int | None) -> None:
        """How a node did: the milliseconds to its acceptance, None for a failure."""
        ...


_DIALLING: LinkId = -1
"""The link of a task that waits for one: no link has this id."""


class _Task(msgspec.Struct):
    command: CommandId
    spec: SubmitTask
    id: TaskId
    deadline: Micros
    state: TaskState = TaskState.WAITING
    node: NodeId | None = None
    link: LinkId | None = None
    """None while this node runs it itself."""
    asked_at: Micros = 0
    attempts: int = 0
    tried: set[NodeId] = msgspec.field(default_factory=set)
    index: int = 0
    """Of the response that comes next."""
    retry_at: Micros = 0
    is_asked_out: bool = False
    """Whether those who were probed last had no room: then it waits for its next turn."""
    parts: list[str] = msgspec.field(default_factory=list)
    text_size: int = 0
    """Characters in `parts`."""
    tokens: int = 0
    last: Reason = Reason.NO_ROUTE


class Origin:
    """The open tasks of this node's user."""

    def __init__(self, context: Context, router: CostRouter | ProbeRouter, reach: Reach) -> None:
        self._context = context
        self._router = router
        self._prober = Prober(context, router, reach) if isinstance(router, ProbeRouter) else None
        self._reach = reach
        self._counter = 0
        self._tasks: dict[TaskId, _Task] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def submit(self, spec: SubmitTask) -> None:
        """Take a task of the user."""
        config = self._context.config
        refusal = self._judge(spec)
        if refusal is not None:
            self._context.reply(spec.command, refusal)
            return
        prompt_bytes = len(spec.prompt.encode())
        self._counter += 1
        identity = task_id(self._context.node_id, self._context.epoch, self._counter)
        deadline = self._context.in_ms(min(spec.deadline_ms or config.task_deadline_ms, TTL_MS_MAX))
        task = self._tasks[identity] = _Task(spec.command, spec, identity, deadline)
        self._context.trace(TaskSubmitted(identity, spec.command, spec.model, spec.min_param_size, prompt_bytes))
        self._context.timers.set(("task.deadline", identity), deadline, lambda: self._give_up(task, Reason.DEADLINE))
        self._route(task)

    def _judge(self, spec: SubmitTask) -> Reason | None:
        """Why a task cannot be taken. What no peer would take for a message is refused here, not blamed on the peer."""
        if not is_text(spec.prompt) or not (spec.model is None or is_model_name(spec.model.lower())):
            return Reason.INVALID
        in_range = 0 < spec.max_tokens <= OUTPUT_TOKENS_MAX and 0 <= spec.min_param_size <= PARAM_SIZE_MAX
        if not in_range or (spec.deadline_ms is not None and spec.deadline_ms < 1):
            return Reason.INVALID
        if len(spec.prompt.encode()) > self._context.config.prompt_bytes_max:
            return Reason.TOO_LARGE
        return Reason.OVERFLOW if len(self._tasks) >= self._context.config.origin_tasks_max else None

    def cancel(self, command: CancelTask) -> None:
        """The user does not want a task any more."""
        found = [task for task in self._tasks.values() if task.command == command.task]
        for task in found:
            self._give_up(task, Reason.CANCELLED)
        self._context.reply(command.command, bool(found))

    def give_up_all(self, reason: Reason) -> None:
        """End every open task: the node is shutting down."""
        for task in list(self._tasks.values()):
            self._give_up(task, reason)

    def reach_changed(self) -> None:
        """Somebody came, or became free: look again for what waits."""
        for task in list(self._tasks.values()):
            if task.state is TaskState.WAITING and not task.is_asked_out:
                self._route(task)

    def uses(self, link: LinkId) -> bool:
        """Whether an answer is to come over a link."""
        is_asked = any(task.link == link for task in self._tasks.values())
        return is_asked or (self._prober is not None and self._prober.uses(link))

    def link_down(self, link: LinkId) -> None:
        """Whoever worked on tasks over this link cannot answer any more."""
        if self._prober is not None:
            self._prober.link_down(link)
        for task in [task for task in self._tasks.values() if task.link == link]:
            self._lost(task, Reason.PEER_LOST)

    def response(self, link: LinkId | None, response: TaskResponse) -> None:
        """A response came, over a link or from this node's own engine. A late one, from whom the task was taken
        away, is no news."""
        task = self._tasks.get(response.task_id)
        if task is None or task.link != link or task.node is None:
            return
        if response.index != task.index:  # some response was lost on the way: the answer cannot become whole
            self._lost(task, Reason.NO_ANSWER)
            return
        task.index += 1
        match response.status:
            case ResponseStatus.ACCEPTED:
                self._accepted(task)
            case ResponseStatus.CHUNK:
                self._chunk(task, response)
            case ResponseStatus.DONE:
                if self._step(task, TaskStep.DONE):
                    self._end(task, None, response)
            case ResponseStatus.REFUSED:
                self._refused(task, response.reason or Reason.UNAVAILABLE)
            case ResponseStatus.FAILED:
                self._failed(task, response)

    def probe_reply(self, link: LinkId, reply: ProbeReply) -> None:
        """A peer says how soon it could answer a task."""
        if self._prober is not None:
            self._prober.reply(link, reply)

    # -- routing -------------------------------------------------------------------------------------------------------

    def _route(self, task: _Task) -> None:
        request = self._request(task)
        candidates = self._reach.candidates(request, task.tried)
        if self._prober is not None:
            self._step(task, TaskStep.PROBED)
            self._context.timers.cancel(("task.answer", task.id))
            self._prober.begin(request, candidates, lambda verdict: self._probed(task, verdict))
            return
        decision = self._router.choose(candidates, request)
        is_good = decision.cost is not None and decision.cost <= self._context.config.local_cost_max
        self._settle(task, decision, is_good, self._router.why, 0, 0)

    def _probed(self, task: _Task, verdict: Verdict) -> NodeId | None:
        """What comes of a round of probes: the node that the task is bound to, if it is one of them."""
        best, config = verdict.best, self._context.config
        why, is_good = Why.SOONEST, False
        if best is not None:
            is_in_time = self._context.in_ms(best.finish_ms) <= task.deadline
            is_good = best.wait_ms <= config.local_wait_max_ms and is_in_time
            if best.node == self._context.node_id and not verdict.probes:
                why = Why.HERE
        node, cost = (None, None) if best is None else (best.node, float(best.finish_ms))
        task.is_asked_out = best is None and verdict.probes > 0
        decision = Decision(node, cost, verdict.eligible, verdict.excluded)
        self._settle(task, decision, is_good, why, verdict.probes, verdict.answered)
        return task.node

    def _settle(self, task: _Task, decision: Decision, is_good: bool, why: Why, probes: int, answered: int) -> None:
        """Ask the node that was chosen, if it is good enough or there is no better way; else the coordinator; else
        wait."""
        coordinator = self._reach.coordinator()
        if coordinator is not None and coordinator[0] in task.tried:
            coordinator = None
        to: NodeId | None
        if decision.node is not None and (is_good or coordinator is None):
            to = decision.node
            link = None if to == self._context.node_id else (self._reach.link_to(to) or _DIALLING)
        elif coordinator is not None:
            (to, link), why = coordinator, Why.COORDINATOR
        else:
            to, link, why = None, None, Why.NOBODY
        if to is not None or (task.attempts == 0 and not task.tried):
            cost = decision.cost if to == decision.node else None
            record = TaskRouted(task.id, to, why.value, cost, decision.eligible, decision.excluded, probes, answered)
            self._context.trace(record)
        if to is not None:
            self._ask(task, to, link, self._request(task))
        else:
            self._step(task, TaskStep.NOBODY)
            self._retry_later(task)

    def _retry_later(self, task: _Task) -> None:
        def look_again() -> None:
            task.tried.clear()
            task.is_asked_out = False
            self._route(task)

        if task.retry_at <= self._context.now:  # news of others must not put it off for ever
            task.retry_at = self._context.in_ms(self._context.config.task_retry_ms)
        self._context.timers.set(("task.answer", task.id), task.retry_at, look_again)

    def _request(self, task: _Task) -> TaskRequest:
        spec = task.spec
        return TaskRequest(
            task_id=task.id,
            prompt=spec.prompt,
            model=spec.model,
            min_param_size=spec.min_param_size,
            max_tokens=spec.max_tokens,
            deadline_ms=max(1, (task.deadline - self._context.now) // 1000),
            stream=spec.stream,
        )

    def _ask(self, task: _Task, node: NodeId, link: LinkId | None, request: TaskRequest) -> None:
        self._step(task, TaskStep.ROUTED)
        task.node, task.link, task.asked_at, task.index = node, link, self._context.now, 0
        if link is None:
            self._context.timers.cancel(("task.answer", task.id))  # one that waited would be routed once more
            self._reach.run_here(request, lambda response: self.response(None, response))
            return
        self._expect_answer(task, self._context.config.task_answer_ms)
        if link == _DIALLING:
            self._reach.dial(node, lambda link: self._dialled(task, node, link))
        else:
            self._context.send(link, request, request.deadline_ms)

    def _dialled(self, task: _Task, node: NodeId, link: LinkId | None) -> None:
        """The peer of a task that waits for a link was dialled."""
        if task.link != _DIALLING or task.node != node or task.state is not TaskState.ASKED:
            return
        if link is None:
            self._lost(task, Reason.PEER_LOST)
            return
        task.link, task.asked_at = link, self._context.now
        request = self._request(task)
        self._expect_answer(task, self._context.config.task_answer_ms)
        self._context.send(link, request, request.deadline_ms)

    def _expect_answer(self, task: _Task, within_ms: int) -> None:
        deadline = self._context.in_ms(within_ms)
        self._context.timers.set(("task.answer", task.id), deadline, lambda: self._lost(task, Reason.NO_ANSWER))

    # -- answers -------------------------------------------------------------------------------------------------------

    def _step(self, task: _Task, step: TaskStep) -> bool:
        following = TASK_TABLE.get((task.state, step))
        if following is None:
            return False
        task.state = following
        return True

    def _accepted(self, task: _Task) -> None:
        if not self._step(task, TaskStep.ACCEPTED):
            return
        assert task.node is not None
        self._reach.note_outcome(task.node, (self._context.now - task.asked_at) // 1000)
        self._patience(task)

    def _patience(self, task: _Task) -> None:
        if task.link is not None:
            self._expect_answer(task, self._context.config.task_silence_ms)

    def _chunk(self, task: _Task, response: TaskResponse) -> None:
        if not response.text and not response.tokens:  # a sign of life: nothing is shown, nothing is bound
            if task.state is not TaskState.ASKED:
                self._patience(task)
            return
        task.text_size += len(response.text)
        if task.text_size > self._context.config.answer_chars_max:
            self._lost(task, Reason.TOO_LARGE)
            return
        if not self._step(task, TaskStep.CHUNK):
            return
        task.parts.append(response.text)
        task.tokens += response.tokens
        self._context.out.append(Progress(task.command, response.text, response.tokens))
        self._patience(task)

    def _refused(self, task: _Task, reason: Reason) -> None:
        if self._step(task, TaskStep.REFUSED):
            self._route_again(task, reason)

    def _failed(self, task: _Task, response: TaskResponse) -> None:
        reason = response.reason or Reason.UNAVAILABLE
        assert task.node is not None
        if reason not in NOT_ITS_FAULT:
            self._reach.note_outcome(task.node, None)
        if self._step(task, TaskStep.FAILED):
            self._after_failure(task, reason, response)

    def _lost(self, task: _Task, reason: Reason) -> None:
        assert task.node is not None
        self._reach.note_outcome(task.node, None)
        if reason is not Reason.PEER_LOST:
            self._withdraw(task, reason)
        if self._step(task, TaskStep.LOST):
            self._after_failure(task, reason, None)

    def _after_failure(self, task: _Task, reason: Reason, response: TaskResponse | None) -> None:
        """Try elsewhere, unless parts of an answer were shown already or it was tried often enough."""
        task.attempts += 1
        if task.state is TaskState.ENDED or task.attempts >= self._context.config.task_attempts_max:
            task.state, task.node = TaskState.ENDED, None
            self._end(task, reason, response)
        else:
            self._route_again(task, reason)

    def _route_again(self, task: _Task, reason: Reason) -> None:
        assert task.node is not None
        task.tried.add(task.node)
        task.last, task.node, task.link = reason, None, None
        self._context.timers.cancel(("task.answer", task.id))
        self._route(task)

    def _withdraw(self, task: _Task, reason: Reason) -> None:
        """Tell whoever works on the task that it is not wanted any more."""
        if task.link == _DIALLING:
            return
        if task.link is not None:
            self._context.send(task.link, Cancel(task_id=task.id, reason=reason), self._context.config.task_answer_ms)
        elif task.node is not None:
            self._reach.cancel_here(task.id, reason)

    def _give_up(self, task: _Task, reason: Reason) -> None:
        if not self._step(task, TaskStep.GIVEN_UP):
            return
        if self._prober is not None:
            self._prober.cancel(task.id)
        self._withdraw(task, reason)
        self._end(task, task.last if reason is Reason.DEADLINE and task.node is None else reason, None)

    def _end(self, task: _Task, reason: Reason | None, response: TaskResponse | None) -> None:
        del self._tasks[task.id]
        self._context.timers.cancel(("task.deadline", task.id))
        self._context.timers.cancel(("task.answer", task.id))
        served_by, model = (response.served_by, response.model) if response is not None else (None, None)
        tokens = response.tokens if response is not None and reason is None else task.tokens
        text = "".join(task.parts)
        if response is not None and not task.spec.stream:
            text = response.text
        self._context.reply(task.command, TaskResult(text, tokens, served_by, model, reason))
        attempts = task.attempts + (task.node is not None)  # those that failed, and the one under way
        self._context.trace(TaskEnded(task.id, reason, served_by, model, tokens, attempts))


TASK_TABLE: Mapping[tuple[TaskState, TaskStep], TaskState] = MappingProxyType(
    {
        (TaskState.WAITING, TaskStep.ROUTED): TaskState.ASKED,
        (TaskState.WAITING, TaskStep.GIVEN_UP): TaskState.ENDED,
        (TaskState.WAITING, TaskStep.PROBED): TaskState.PROBING,
        (TaskState.PROBING, TaskStep.ROUTED): TaskState.ASKED,
        (TaskState.PROBING, TaskStep.NOBODY): TaskState.WAITING,
        (TaskState.PROBING, TaskStep.GIVEN_UP): TaskState.ENDED,
        (TaskState.ASKED, TaskStep.ACCEPTED): TaskState.ACCEPTED,
        (TaskState.ASKED, TaskStep.REFUSED): TaskState.WAITING,
        (TaskState.ASKED, TaskStep.FAILED): TaskState.WAITING,
        (TaskState.ASKED, TaskStep.LOST): TaskState.WAITING,
        (TaskState.ASKED, TaskStep.GIVEN_UP): TaskState.ENDED,
        (TaskState.ACCEPTED, TaskStep.CHUNK): TaskState.STREAMING,
        (TaskState.ACCEPTED, TaskStep.DONE): TaskState.ENDED,
        (TaskState.ACCEPTED, TaskStep.FAILED): TaskState.WAITING,
        (TaskState.ACCEPTED, TaskStep.LOST): TaskState.WAITING,
        (TaskState.ACCEPTED, TaskStep.GIVEN_UP): TaskState.ENDED,
        (TaskState.STREAMING, TaskStep.CHUNK): TaskState.STREAMING,
        (TaskState.STREAMING, TaskStep.DONE): TaskState.ENDED,
        (TaskState.STREAMING, TaskStep.FAILED): TaskState.ENDED,
        (TaskState.STREAMING, TaskStep.LOST): TaskState.ENDED,
        (TaskState.STREAMING, TaskStep.GIVEN_UP): TaskState.ENDED,
    }
)
