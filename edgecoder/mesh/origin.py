"""Tasks of this node's own user: from the question to the one reply.

Each task is routed to this node itself, to a peer in reach, or to the coordinator, after a round of probes where that
is the policy. If it is refused there it is routed again, if nobody can take it it waits, and at its deadline it fails.
Parts of an answer that were already shown bind the task to who wrote them: then a lost peer ends it. A task that is
late to be taken up is asked of a second node too; whoever shows the first part keeps it, the other is called off. One
that is not streamed is late, once it is accepted, by the time that whole answers take.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edgecoder.core.context import MILLI, Context
from edgecoder.core.effects import Progress, TaskResult
from edgecoder.core.events import CancelTask, SubmitTask
from edgecoder.core.ids import LinkId, NodeId, TaskId, task_id
from edgecoder.errors import Reason
from edgecoder.mesh.open_task import DIALLING, Ask, OpenTask
from edgecoder.mesh.pace import Pace, Paces
from edgecoder.mesh.prober import Prober, Verdict
from edgecoder.mesh.reach import Reach
from edgecoder.mesh.router import NOT_ITS_FAULT, CostRouter, Decision, Why
from edgecoder.mesh.soonest import Offer, ProbeRouter
from edgecoder.mesh.task_table import TaskState, TaskStep
from edgecoder.models.catalog import is_model_name
from edgecoder.protocol import OUTPUT_TOKENS_MAX, PARAM_SIZE_MAX, TTL_MS_MAX
from edgecoder.trace import TaskEnded, TaskRouted, TaskSubmitted
from edgecoder.wire.codec import is_text
from edgecoder.wire.messages import Cancel, ProbeReply, ResponseStatus, TaskRequest, TaskResponse

_TIMER, _SECOND_TIMER, _HEDGE_TIMER = "task.answer", "task.answer.second", "task.hedge"


class Origin:
    """The open tasks of this node's user."""

    def __init__(self, context: Context, router: CostRouter | ProbeRouter, reach: Reach) -> None:
        self._context = context
        self._router = router
        self._prober = Prober(context, router, reach) if isinstance(router, ProbeRouter) else None
        self._reach = reach
        self._counter = 0
        self._tasks: dict[TaskId, OpenTask] = {}
        self._paces = Paces(context.config)
        self._is_closed = False

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
        task = self._tasks[identity] = OpenTask(spec.command, spec, identity, deadline)
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

    def close(self, runs_here: Callable[[TaskId], bool]) -> None:
        """The node is shutting down: what its own engine is at ends there, or with the drain; the rest ends now."""
        self._is_closed = True
        for task in list(self._tasks.values()):
            here = task.ask_of(None)
            if here is not None and runs_here(task.id):
                self._call_off_others(task, here)
            else:
                self._give_up(task, Reason.SHUTTING_DOWN)

    def reach_changed(self) -> None:
        """Somebody came, or became free: look again for what waits."""
        for task in list(self._tasks.values()):
            if task.state is TaskState.WAITING and not task.is_asked_out:
                self._route(task)

    def uses(self, link: LinkId) -> bool:
        """Whether an answer is to come over a link."""
        is_asked = any(ask.link == link for task in self._tasks.values() for ask in task.asked)
        return is_asked or (self._prober is not None and self._prober.uses(link))

    def link_down(self, link: LinkId) -> None:
        """Whoever worked on tasks over this link cannot answer any more."""
        if self._prober is not None:
            self._prober.link_down(link)
        lost = [(task, ask) for task in self._tasks.values() for ask in task.asked if ask.link == link]
        for task, ask in lost:
            self._lost(task, ask, Reason.PEER_LOST)

    def response(self, link: LinkId | None, response: TaskResponse) -> None:
        """A response came, over a link or from this node's own engine. A late one, from whom the task was taken
        away, is no news."""
        task = self._tasks.get(response.task_id)
        ask = None if task is None else task.ask_of(link)
        if task is None or ask is None or response.attempt != ask.attempt:
            return
        if response.index != ask.index:  # some response was lost on the way: the answer cannot become whole
            self._lost(task, ask, Reason.NO_ANSWER)
            return
        ask.index += 1
        match response.status:
            case ResponseStatus.ACCEPTED:
                self._accepted(task, ask)
            case ResponseStatus.CHUNK:
                self._chunk(task, ask, response)
            case ResponseStatus.DONE:
                if ask.is_accepted and task.step(TaskStep.DONE):
                    if not task.spec.stream:
                        self._measure(task, ask)
                    self._call_off_others(task, ask)
                    if link is not None:
                        self._reach.note_answer(ask.node, link, response, ask.asked_at)
                    self._end(task, None, response)
            case ResponseStatus.REFUSED:
                reason = response.reason or Reason.UNAVAILABLE
                self._drop(task, ask, TaskStep.REFUSED, reason, response)
            case ResponseStatus.FAILED:
                self._failed(task, ask, response)

    def peer_changed(self, node: NodeId, fits: Callable[[TaskRequest], bool]) -> None:
        """A peer has news of itself; `fits` says whether a request may still go there."""
        dialled = [(task, ask) for task in self._tasks.values() for ask in task.asked if ask.link == DIALLING]
        for task, ask in dialled:
            if ask.node == node and not fits(task.request(self._context.now)):
                self._drop(task, ask, TaskStep.REFUSED, Reason.UNAVAILABLE, None)
        if self._prober is not None:
            self._prober.peer_changed(node, fits)

    def probe_reply(self, link: LinkId, reply: ProbeReply) -> None:
        """A peer says how soon it could answer a task."""
        if self._prober is not None:
            self._prober.reply(link, reply)

    # -- routing -------------------------------------------------------------------------------------------------------

    def _route(self, task: OpenTask) -> None:
        request = task.request(self._context.now)
        candidates = self._reach.candidates(request, task.tried)
        if self._prober is not None:
            task.step(TaskStep.PROBED)
            self._context.timers.cancel((_TIMER, task.id))
            self._prober.begin(
                request, candidates, lambda verdict: self._probed(task, verdict), self._adviser(task.tried)
            )
            return
        decision = self._router.choose(candidates, request)
        is_good = decision.cost is not None and decision.cost <= self._context.config.local_cost_max
        self._settle(task, decision, is_good, self._router.why, None)

    def _probed(self, task: OpenTask, verdict: Verdict) -> NodeId | None:
        """What comes of a round of probes: the node that the task is bound to, if it is one of them."""
        best = verdict.best
        is_here = best is not None and best.node == self._context.node_id
        why = Why.HERE if is_here and not verdict.probes else Why.SOONEST
        node, cost = (None, None) if best is None else (best.node, float(best.finish_ms))
        task.is_asked_out = best is None and verdict.probes > 0
        decision = Decision(node, cost, verdict.eligible, verdict.excluded)
        is_good = self._heed(task, verdict) or self._is_soon(task, best)
        return self._settle(task, decision, is_good, why, verdict)

    def _settle(
        self, task: OpenTask, decision: Decision, is_good: bool, why: Why, verdict: Verdict | None
    ) -> NodeId | None:
        """Ask the node that was chosen, if it is good enough or there is no better way; else the coordinator; else
        wait. Whom was asked."""
        coordinator = self._adviser(task.tried)
        to: NodeId | None
        link: LinkId | None
        if coordinator is not None and decision.node == coordinator[0]:
            (to, link), why = coordinator, Why.COORDINATOR
        elif decision.node is not None and (is_good or coordinator is None):
            to = decision.node
            link = self._link_to(to, verdict)
        elif coordinator is not None:
            (to, link), why = coordinator, Why.COORDINATOR
        else:
            to, link, why = None, None, Why.NOBODY
        was_refused = bool(task.attempts or (task.tried and task.requests))
        if to is not None or not was_refused:  # who was refused a moment ago waits for that reason: no new decision
            self._trace_routed(task, to, why, decision, verdict)
        if to is not None:
            self._ask(task, to, link, task.request(self._context.now))
        else:
            task.step(TaskStep.NOBODY)
            self._retry_later(task)
        return to

    def _adviser(self, tried: set[NodeId]) -> tuple[NodeId, LinkId] | None:
        """The coordinator, if it is not among those that were tried."""
        coordinator = self._reach.coordinator()
        return None if coordinator is None or coordinator[0] in tried else coordinator

    def _heed(self, task: OpenTask, verdict: Verdict) -> bool:
        """Whether the coordinator said what it can do: then the best offer is the best there is. One that has nobody is
        not asked."""
        coordinator = self._reach.coordinator()
        if verdict.advice is False and coordinator is not None:
            task.tried.add(coordinator[0])
        return verdict.advice is not None

    def _is_soon(self, task: OpenTask, offer: Offer | None) -> bool:
        """Whether an offer is good enough to bother no coordinator."""
        if offer is None or offer.wait_ms > self._context.config.local_wait_max_ms:
            return False
        return self._context.in_ms(offer.finish_ms) <= task.deadline

    def _trace_routed(
        self, task: OpenTask, to: NodeId | None, why: Why, decision: Decision, verdict: Verdict | None
    ) -> None:
        cost = decision.cost if to == decision.node else None
        asked = (0, 0) if verdict is None else (verdict.probes, verdict.answered)
        record = TaskRouted(task.id, to, why.value, cost, decision.eligible, decision.excluded, *asked)
        self._context.trace(record)

    def _link_to(self, node: NodeId, verdict: Verdict | None) -> LinkId | None:
        """Where to ask a node: None, here. Who keeps a place is asked over the link for which it keeps it."""
        if node == self._context.node_id:
            return None
        kept_at = None if verdict is None else verdict.link
        return kept_at or self._reach.link_to(node) or DIALLING

    def _retry_later(self, task: OpenTask) -> None:
        def look_again() -> None:
            task.tried.clear()
            task.is_asked_out = False
            self._route(task)

        if task.retry_at <= self._context.now:  # news of others must not put it off for ever
            task.retry_at = self._context.in_ms(self._context.config.task_retry_ms)
        self._context.timers.set((_TIMER, task.id), task.retry_at, look_again)

    def _ask(self, task: OpenTask, node: NodeId, link: LinkId | None, request: TaskRequest) -> None:
        task.step(TaskStep.ROUTED)
        timer = _SECOND_TIMER if any(ask.timer[0] == _TIMER for ask in task.asked) else _TIMER
        ask = Ask(node, link, self._context.now, (timer, task.id), attempt=task.requests)
        task.requests += 1
        task.asked.append(ask)
        if link is None:
            self._context.timers.cancel(ask.timer)  # one that waited would be routed once more
            self._reach.run_here(request, lambda response: self.response(None, response))
            return
        config, size_bytes = self._context.config, len(request.prompt.encode())
        is_wide = self._reach.goes_wide(node, request)
        if is_wide:
            if self._prober is not None and link != DIALLING:  # the place is kept for the link that it was asked over
                self._prober.release(link, task.id)
            link = ask.link = DIALLING
        way_ms = config.dial_timeout_ms if is_wide else self._reach.upload_ms(link, request)
        self._expect_answer(task, ask, config.task_answer_ms + way_ms)
        if not is_wide:
            self._expect_soon(task, ask, self._paces.accepted)
        if link == DIALLING:
            self._reach.dial(node, lambda link: self._dialled(task, ask, link), size_bytes)
        else:
            self._context.send(link, request, request.deadline_ms)

    def _dialled(self, task: OpenTask, ask: Ask, link: LinkId | None) -> None:
        """The peer of a task that waits for a link was dialled."""
        if ask not in task.asked or ask.link != DIALLING:
            return
        if link is None:
            self._lost(task, ask, Reason.PEER_LOST)
            return
        ask.link, ask.asked_at = link, self._context.now
        request = msgspec.structs.replace(task.request(self._context.now), attempt=ask.attempt)
        self._expect_answer(task, ask, self._context.config.task_answer_ms + self._reach.upload_ms(link, request))
        self._expect_soon(task, ask, self._paces.accepted)
        self._context.send(link, request, request.deadline_ms)

    def _expect_answer(self, task: OpenTask, ask: Ask, within_ms: int) -> None:
        deadline = self._context.in_ms(within_ms)
        self._context.timers.set(ask.timer, deadline, lambda: self._lost(task, ask, Reason.NO_ANSWER))

    # -- a second node for what is late --------------------------------------------------------------------------------

    def _expect_soon(self, task: OpenTask, ask: Ask, pace: Pace) -> None:
        """Ask a second node when this step takes longer than it does as a rule."""
        late_ms = pace.late_ms() if self._context.config.hedging and not task.is_hedged else None
        if late_ms is not None and len(task.asked) == 1:
            due = max(self._context.now, ask.asked_at + late_ms * MILLI)
            self._context.timers.set((_HEDGE_TIMER, task.id), due, lambda: self._hedge(task))

    def _hedge(self, task: OpenTask) -> None:
        if task.state not in (TaskState.ASKED, TaskState.ACCEPTED) or len(task.asked) != 1:
            return
        task.is_hedged = True
        request, tried = task.request(self._context.now), task.tried | {task.asked[0].node}
        candidates = self._reach.candidates(request, tried)
        if self._prober is not None:
            self._prober.begin(
                request, candidates, lambda verdict: self._hedge_probed(task, verdict), self._adviser(tried)
            )
            return
        decision = self._router.choose(candidates, request)
        is_good = decision.cost is not None and decision.cost <= self._context.config.local_cost_max
        self._ask_second(task, decision, is_good, None)

    def _hedge_probed(self, task: OpenTask, verdict: Verdict) -> NodeId | None:
        best = verdict.best
        node, cost = (None, None) if best is None else (best.node, float(best.finish_ms))
        decision = Decision(node, cost, verdict.eligible, verdict.excluded)
        is_good = self._heed(task, verdict) or self._is_soon(task, best)
        return self._ask_second(task, decision, is_good, verdict)

    def _ask_second(self, task: OpenTask, decision: Decision, is_good: bool, verdict: Verdict | None) -> NodeId | None:
        """Ask the node that was chosen if it is good, else the coordinator if it has not been asked, else nobody."""
        coordinator = self._adviser(task.tried | {ask.node for ask in task.asked})
        to: NodeId | None
        if decision.node is not None and is_good and (coordinator is None or decision.node != coordinator[0]):
            to, link = decision.node, self._link_to(decision.node, verdict)
        elif coordinator is not None:
            to, link = coordinator
        else:
            return None
        self._trace_routed(task, to, Why.HEDGED, decision, verdict)
        task.hedge = to
        self._ask(task, to, link, task.request(self._context.now))
        return to

    def _call_off_others(self, task: OpenTask, winner: Ask) -> None:
        """One has begun: the others need not."""
        if self._prober is not None:
            self._prober.cancel(task.id)
        self._context.timers.cancel((_HEDGE_TIMER, task.id))
        for ask in [ask for ask in task.asked if ask is not winner]:
            self._measure(task, ask)
            self._remove(task, ask)  # first: this node's own engine answers within the next call
            self._withdraw(task, ask, Reason.CANCELLED)

    def _measure(self, task: OpenTask, ask: Ask) -> None:
        """Another node has shown what there is to wait for after it accepted a task, or was called off before."""
        if ask.link is not None:
            self._paces.after_acceptance(stream=task.spec.stream).add(ask.taken_ms(self._context.now))

    def _remove(self, task: OpenTask, ask: Ask) -> None:
        task.asked.remove(ask)
        self._context.timers.cancel(ask.timer)

    # -- answers -------------------------------------------------------------------------------------------------------

    def _accepted(self, task: OpenTask, ask: Ask) -> None:
        if ask.is_accepted:
            return
        ask.is_accepted = True
        task.step(TaskStep.ACCEPTED)
        taken_ms = ask.taken_ms(self._context.now)
        self._reach.note_outcome(ask.node, taken_ms)
        if ask.link is None:
            return
        self._paces.accepted.add(taken_ms)
        self._context.timers.cancel((_HEDGE_TIMER, task.id))
        self._expect_soon(task, ask, self._paces.after_acceptance(stream=task.spec.stream))
        self._patience(task, ask)

    def _patience(self, task: OpenTask, ask: Ask) -> None:
        if ask.link is not None:
            self._expect_answer(task, ask, self._context.config.task_silence_ms)

    def _chunk(self, task: OpenTask, ask: Ask, response: TaskResponse) -> None:
        if not ask.is_accepted:
            return
        if not response.text and not response.tokens:  # a sign of life: nothing is shown, nothing is bound
            self._patience(task, ask)
            return
        task.text_size += len(response.text)
        if task.text_size > self._context.config.answer_chars_max:
            self._lost(task, ask, Reason.TOO_LARGE)
            return
        is_first = task.state is TaskState.ACCEPTED
        if not task.step(TaskStep.CHUNK):
            return
        if is_first:
            self._measure(task, ask)
            self._call_off_others(task, ask)
        task.parts.append(response.text)
        task.tokens += response.tokens
        self._context.out.append(Progress(task.command, response.text, response.tokens))
        self._patience(task, ask)

    def _failed(self, task: OpenTask, ask: Ask, response: TaskResponse) -> None:
        reason = response.reason or Reason.UNAVAILABLE
        if reason not in NOT_ITS_FAULT:
            self._reach.note_outcome(ask.node, None)
        self._drop(task, ask, TaskStep.FAILED, reason, response)

    def _lost(self, task: OpenTask, ask: Ask, reason: Reason) -> None:
        self._reach.note_outcome(ask.node, None)
        if reason is not Reason.PEER_LOST:
            self._withdraw(task, ask, reason)
        self._drop(task, ask, TaskStep.LOST, reason, None)

    def _drop(self, task: OpenTask, ask: Ask, step: TaskStep, reason: Reason, response: TaskResponse | None) -> None:
        """One that was asked will not do it. Where it was the only one the task goes on elsewhere, unless parts of an
        answer were shown already, it was tried often enough, or the node shuts down."""
        if len(task.asked) > 1:
            self._remove(task, ask)
            task.tried.add(ask.node)
            return
        if not task.step(step):
            return
        self._remove(task, ask)
        if self._prober is not None:
            self._prober.cancel(task.id)
        self._context.timers.cancel((_HEDGE_TIMER, task.id))
        task.attempts += step is not TaskStep.REFUSED
        is_tried = task.attempts >= self._context.config.task_attempts_max
        if task.state is TaskState.ENDED or is_tried or self._is_closed:
            task.state = TaskState.ENDED
            self._end(task, reason, response)
            return
        coordinator = self._reach.coordinator()
        if step is not TaskStep.FAILED or coordinator is None or ask.node != coordinator[0]:
            task.tried.add(ask.node)  # a coordinator whose agent failed has others
        task.last = reason
        self._route(task)

    def _withdraw(self, task: OpenTask, ask: Ask, reason: Reason) -> None:
        """Tell whoever works on the task that it is not wanted any more."""
        if ask.link is None:
            self._reach.cancel_here(task.id, reason, ask.attempt)
        elif ask.link != DIALLING:
            cancel = Cancel(task_id=task.id, reason=reason, attempt=ask.attempt)
            self._context.send(ask.link, cancel, self._context.config.task_answer_ms)

    def _give_up(self, task: OpenTask, reason: Reason) -> None:
        if not task.step(TaskStep.GIVEN_UP):
            return
        asked, told = task.asked, reason
        if reason is Reason.DEADLINE and not asked:
            told = task.last
        for ask in list(asked):
            self._withdraw(task, ask, reason)
        self._end(task, told, None)

    def _end(self, task: OpenTask, reason: Reason | None, response: TaskResponse | None) -> None:
        del self._tasks[task.id]
        if self._prober is not None:
            self._prober.cancel(task.id)
        for timer in (_TIMER, _SECOND_TIMER, _HEDGE_TIMER, "task.deadline"):
            self._context.timers.cancel((timer, task.id))
        served_by, model = (response.served_by, response.model) if response is not None else (None, None)
        tokens = response.tokens if response is not None and reason is None else task.tokens
        text = "".join(task.parts)
        if response is not None and not task.spec.stream:
            text = response.text
        self._context.reply(task.command, TaskResult(text, tokens, served_by, model, reason))
        attempts = task.attempts + bool(task.asked)  # those that failed, and the one under way
        hedge_won = None if task.hedge is None else any(ask.node == task.hedge for ask in task.asked)
        self._context.trace(TaskEnded(task.id, reason, served_by, model, tokens, attempts, hedge_won))
