"""Relaying tasks: a coordinator finds the agent for a task, and passes the request there and the answers back.

It tries the next agent where one refuses or is lost before it answered, and hands a task that none of its own can
take, or for which they are too busy, to one other coordinator, which does not hand it on. A task is handed over again
only where it was refused or failed: a coordinator that falls silent may have run it. For the same reason what another
coordinator handed over runs at most once here: where an agent falls silent nobody else is asked, and a request that
comes again is refused. Prompts and answers pass through; nothing is kept of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from edgecoder.config import DeviceType
from edgecoder.coordinator.registry import Registry
from edgecoder.coordinator.summaries import Summaries
from edgecoder.core.context import Context
from edgecoder.core.ids import LinkId, Micros, NodeId, Role, TaskId
from edgecoder.core.labels import Label
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Link
from edgecoder.mesh.models import SameModel, fitting
from edgecoder.mesh.router import NOT_ITS_FAULT, Decision, Router, Why
from edgecoder.mesh.soonest import wait_ms
from edgecoder.protocol import ATTEMPT_MAX, HOPS_MAX, RESPONSE_INDEX_MAX, TTL_MS_MAX
from edgecoder.trace import TaskRouted
from edgecoder.wire.messages import Cancel, Probe, ProbeReply, ResponseStatus, TaskRequest, TaskResponse

BUSY_AGENTS_MAX = 2
"""So many agents may refuse a task as busy before another coordinator is asked."""
AGENTS_BELIEVED_MAX = 10_000
"""What a coordinator says of more is taken for so many."""
ATTEMPTS_EACH = 32
"""Room for the attempts of a coordinator between two of whoever asked it: more than `task_attempts_max`."""


_UNHEARD = frozenset((Reason.NO_ANSWER, Reason.PEER_LOST, Reason.DEADLINE, Reason.SHUTTING_DOWN))
"""Why a coordinator ends a task of which it does not know whether some agent has done it."""


class RelayState(Label):
    """Where a relayed task stands."""

    ROUTING = "routing"
    ASKED = "asked"
    ANSWERING = "answering"
    ENDED = "ended"


class RelayStep(Label):
    """What can happen to it."""

    ROUTED = "routed"
    NOBODY = "nobody"
    ANSWERED = "answered"
    REFUSED = "refused"
    LOST = "lost"
    FINISHED = "finished"
    GIVEN_UP = "givenUp"


RELAY_TABLE: Mapping[tuple[RelayState, RelayStep], RelayState] = MappingProxyType(
    {
        (RelayState.ROUTING, RelayStep.ROUTED): RelayState.ASKED,
        (RelayState.ROUTING, RelayStep.NOBODY): RelayState.ENDED,
        (RelayState.ASKED, RelayStep.ANSWERED): RelayState.ANSWERING,
        (RelayState.ASKED, RelayStep.REFUSED): RelayState.ROUTING,
        (RelayState.ASKED, RelayStep.LOST): RelayState.ROUTING,
        (RelayState.ASKED, RelayStep.GIVEN_UP): RelayState.ENDED,
        (RelayState.ANSWERING, RelayStep.ANSWERED): RelayState.ANSWERING,
        (RelayState.ANSWERING, RelayStep.LOST): RelayState.ENDED,
        (RelayState.ANSWERING, RelayStep.FINISHED): RelayState.ENDED,
        (RelayState.ANSWERING, RelayStep.GIVEN_UP): RelayState.ENDED,
    }
)


class _Relay(msgspec.Struct):
    request: TaskRequest
    origin: Link
    deadline: Micros
    state: RelayState = RelayState.ROUTING
    to: NodeId | None = None
    link: LinkId | None = None
    asked_at: Micros = 0
    attempts: int = 0
    attempt: int = 0
    """Of the request that was sent last."""
    index: int = 0
    busy: int = 0
    """Agents here that were too busy for it."""
    tried: set[NodeId] = msgspec.field(default_factory=set)

    @property
    def is_forwarded(self) -> bool:
        """Whether another coordinator handed it over."""
        return self.origin.role is Role.COORDINATOR


class Relays:
    """The tasks of others that are open here."""

    def __init__(
        self, context: Context, registry: Registry, summaries: Summaries, router: Router, same_model: SameModel
    ) -> None:
        self._context = context
        self._registry = registry
        self._summaries = summaries
        self._router = router
        self._same_model = same_model
        self._open: dict[TaskId, _Relay] = {}
        self._may_have_run: dict[TaskId, None] = {}
        """Tasks of other coordinators that some agent here has done, or may have done unheard; and tasks of here that
        were handed to another coordinator and may have been done there."""
        self._stream = context.stream("relay")
        self._is_draining = False
        self._on_drained: list[Callable[[], None]] = []
        """Who waits for the open tasks to end."""

    def __len__(self) -> int:
        return len(self._open)

    def request(self, link: Link, request: TaskRequest) -> None:
        """A node of this coordinator, or another coordinator, wants a task done."""
        reason = self._refusal(link, request)
        if reason is not None:
            self._send(
                link.id,
                TaskResponse(
                    task_id=request.task_id,
                    status=ResponseStatus.REFUSED,
                    index=0,
                    reason=reason,
                    attempt=request.attempt,
                ),
            )
            return
        deadline = self._context.in_ms(request.deadline_ms)
        relay = self._open[request.task_id] = _Relay(request, link, deadline)
        if link.peer is not None:
            relay.tried.add(link.peer)
        name = ("relay.deadline", request.task_id)
        self._context.timers.set(name, deadline, lambda: self._give_up(relay, Reason.DEADLINE))
        self._route(relay)

    def probe(self, link: Link, probe: Probe) -> None:
        """A node asks how soon its task would be done here: as soon as by the agent that would get it now. No place is
        kept. Of what only another coordinator could have done no speed is told."""
        fits = fitting(probe.model, probe.min_param_size, self._same_model)
        tried = set() if link.peer is None else {link.peer}
        candidates = list(self._registry.candidates(fits, tried, probe.max_tokens))
        node = self._router.choose(candidates, probe).node
        chosen = next((candidate for candidate in candidates if candidate.node == node), None)
        if self._is_draining:
            reply = ProbeReply(task_id=probe.task_id, reason=Reason.SHUTTING_DOWN)
        elif chosen is None:
            reason = None if self._elsewhere(probe, tried) else Reason.NO_ROUTE
            reply = ProbeReply(task_id=probe.task_id, reason=reason)
        else:
            reply = ProbeReply(
                task_id=probe.task_id,
                queue_ms=wait_ms(chosen, self._context.config),
                tokens_per_s=chosen.tokens_per_s,
                battery_pct=chosen.battery_pct,
                on_external_power=chosen.on_external_power or chosen.device_type is not DeviceType.PHONE,
            )
        self._context.send(link.id, reply, self._context.config.probe_hold_ms)

    def _refusal(self, link: Link, request: TaskRequest) -> Reason | None:
        if self._is_draining:
            return Reason.SHUTTING_DOWN
        if request.hops > HOPS_MAX:
            return Reason.INVALID
        if len(self._open) >= self._context.config.relayed_tasks_max:
            return Reason.BUSY
        before = self._open.get(request.task_id)
        if before is not None and before.origin.id == link.id and before.request.attempt < request.attempt:
            self._call_off(before, Reason.CANCELLED)  # whoever asked has given that one up; the word of it was lost
            before = None
        is_known = link.role is Role.COORDINATOR and request.task_id in self._may_have_run
        return Reason.DUPLICATE if is_known or before is not None else None

    def drain(self, on_drained: Callable[[], None]) -> None:
        """Take no more tasks, let those that are open end, to the drain deadline; then call back."""
        self._is_draining = True
        self._on_drained.append(on_drained)
        deadline = self._context.in_ms(self._context.config.drain_ms)
        self._context.timers.set(("relay.drain", 0), deadline, self._drain_deadline)
        self._check_drained()

    def _drain_deadline(self) -> None:
        for relay in list(self._open.values()):
            self._give_up(relay, Reason.SHUTTING_DOWN)

    def _check_drained(self) -> None:
        if self._open or not self._on_drained:
            return
        waiting, self._on_drained = self._on_drained, []
        self._context.timers.cancel(("relay.drain", 0))
        for on_drained in waiting:
            on_drained()

    def response(self, link: LinkId, response: TaskResponse) -> None:
        """A node that was asked answers."""
        relay = self._open.get(response.task_id)
        if relay is None or relay.link != link or relay.attempt != response.attempt:
            return
        if response.status is ResponseStatus.REFUSED:
            if self._step(relay, RelayStep.REFUSED):
                self._not_taken(relay)
                relay.busy += response.reason is Reason.BUSY
                self._may_have_run.pop(response.task_id, None)
                self._route_again(relay)
            return
        if response.index < relay.index:  # it was overtaken: the origin has seen the gap
            return
        if not self._step(relay, RelayStep.ANSWERED):
            return
        if response.status is ResponseStatus.ACCEPTED:
            self._note(relay, (self._context.now - relay.asked_at) // 1000)
            self._context.timers.cancel(("relay.answer", relay.request.task_id))
        self._pass_back(relay, response)
        if response.status in (ResponseStatus.DONE, ResponseStatus.FAILED):
            if response.status is ResponseStatus.FAILED:
                if response.reason not in _UNHEARD:  # it has ended unanswered: it may be asked again
                    self._may_have_run.pop(response.task_id, None)
                if response.reason not in NOT_ITS_FAULT:
                    self._note(relay, None)
            self._step(relay, RelayStep.FINISHED)
            self._forget(relay)

    def cancel(self, link: LinkId, message: Cancel) -> None:
        """Whoever asked does not want the task any more."""
        relay = self._open.get(message.task_id)
        if relay is not None and relay.origin.id == link and relay.request.attempt == message.attempt:
            self._call_off(relay, message.reason)

    def link_down(self, link: LinkId) -> None:
        """A node that asked, or one that was asked, is gone."""
        for relay in [relay for relay in self._open.values() if link in (relay.link, relay.origin.id)]:
            if relay.origin.id == link:
                self._call_off(relay, Reason.PEER_LOST)
            else:
                self._lost(relay, Reason.PEER_LOST)

    def _call_off(self, relay: _Relay, reason: Reason) -> None:
        """Nobody waits for it any more."""
        self._withdraw(relay, reason)
        self._step(relay, RelayStep.GIVEN_UP)
        self._forget(relay)

    # -- routing -------------------------------------------------------------------------------------------------------

    def _route(self, relay: _Relay) -> None:
        request = relay.request
        fits = fitting(request.model, request.min_param_size, self._same_model)
        decision = self._router.choose(self._registry.candidates(fits, relay.tried, request.max_tokens), request)
        other = None
        if decision.node is None or relay.busy >= BUSY_AGENTS_MAX:
            other = self._other_coordinator(relay)
        if other is not None:
            self._trace(relay, other[0], Why.FORWARDED, decision)
            self._ask(relay, *other, hands_on=True)
        elif decision.node is not None:
            self._trace(relay, decision.node, self._router.why, decision)
            row = self._registry.rows[decision.node]
            row.asked += 1
            self._ask(relay, decision.node, row.link.id)
        else:
            self._trace(relay, None, Why.NOBODY, decision)
            self._step(relay, RelayStep.NOBODY)
            self._end(relay, ResponseStatus.REFUSED, Reason.NO_ROUTE)

    def _other_coordinator(self, relay: _Relay) -> tuple[NodeId, LinkId] | None:
        """Another coordinator with nodes for the task, unless it was handed on already. It is drawn, by how many such
        nodes it has told of: how busy they are is old news, and the idlest would get the tasks of all."""
        if relay.request.hops >= HOPS_MAX or relay.is_forwarded or relay.request.task_id in self._may_have_run:
            return None
        options = self._elsewhere(relay.request, relay.tried)
        if not options:
            return None
        drawn = self._stream.below(options[-1][0])
        return next((node, link) for until, node, link in options if drawn < until)

    def _elsewhere(self, request: TaskRequest | Probe, tried: set[NodeId]) -> list[tuple[int, NodeId, LinkId]]:
        """The coordinators with nodes for a task, each with how many it and those before it have told of."""
        options: list[tuple[int, NodeId, LinkId]] = []
        total = 0
        for node, row in self._summaries.held().items():
            if row.link.id not in self._summaries.links or node in tried:
                continue
            models = self._summaries.fitting(row.summary.model_availability, request.model, request.min_param_size)
            count = min(AGENTS_BELIEVED_MAX, sum(model.agent_count for model in models.values()))
            if count:
                total += count
                options.append((total, node, row.link.id))
        return options

    def _trace(self, relay: _Relay, to: NodeId | None, why: Why, decision: Decision) -> None:
        cost = decision.cost if to == decision.node else None
        self._context.trace(
            TaskRouted(relay.request.task_id, to, why.value, cost, decision.eligible, decision.excluded)
        )

    def _ask(self, relay: _Relay, node: NodeId, link: LinkId, *, hands_on: bool = False) -> None:
        self._step(relay, RelayStep.ROUTED)
        if relay.is_forwarded or hands_on:
            self._remember(relay.request.task_id)
        relay.to, relay.link, relay.asked_at = node, link, self._context.now
        left_ms = min(max(1, (relay.deadline - self._context.now) // 1000), TTL_MS_MAX)
        relay.attempt = (relay.request.attempt * ATTEMPTS_EACH + relay.attempts) & ATTEMPT_MAX
        request = msgspec.structs.replace(
            relay.request, hops=relay.request.hops + 1, deadline_ms=left_ms, attempt=relay.attempt
        )
        self._context.send(link, request, left_ms)
        deadline = self._context.in_ms(self._context.config.relay_answer_ms)
        name = ("relay.answer", relay.request.task_id)
        self._context.timers.set(name, deadline, lambda: self._lost(relay, Reason.NO_ANSWER))

    def _route_again(self, relay: _Relay) -> None:
        assert relay.to is not None
        relay.tried.add(relay.to)
        relay.to, relay.link = None, None
        self._context.timers.cancel(("relay.answer", relay.request.task_id))
        relay.attempts += 1
        if relay.attempts < self._context.config.task_attempts_max:
            self._route(relay)
        else:
            self._step(relay, RelayStep.NOBODY)
            self._end(relay, ResponseStatus.REFUSED, Reason.NO_ROUTE)

    def _lost(self, relay: _Relay, reason: Reason) -> None:
        self._note(relay, None)
        if reason is not Reason.PEER_LOST:
            self._withdraw(relay, reason)
        if self._step(relay, RelayStep.GIVEN_UP if relay.is_forwarded else RelayStep.LOST):
            if relay.state is RelayState.ROUTING:
                self._route_again(relay)
            else:
                self._end(relay, ResponseStatus.FAILED, reason)

    def _give_up(self, relay: _Relay, reason: Reason) -> None:
        self._withdraw(relay, reason)
        if self._step(relay, RelayStep.GIVEN_UP):
            self._end(relay, ResponseStatus.FAILED, reason)

    # -- the ends ------------------------------------------------------------------------------------------------------

    def _step(self, relay: _Relay, step: RelayStep) -> bool:
        following = RELAY_TABLE.get((relay.state, step))
        if following is None:
            return False
        relay.state = following
        return True

    def _not_taken(self, relay: _Relay) -> None:
        """What was refused adds nothing to the agent's load."""
        row = self._registry.rows.get(relay.to) if relay.to is not None else None
        if row is not None:
            row.asked = max(0, row.asked - 1)

    def _note(self, relay: _Relay, latency_ms: int | None) -> None:
        row = self._registry.rows.get(relay.to) if relay.to is not None else None
        if row is None:
            return
        if latency_ms is None:
            row.stats.note_failure(self._context.now, self._context.config)
        else:
            row.stats.note_success(latency_ms)

    def _withdraw(self, relay: _Relay, reason: Reason) -> None:
        if relay.link is not None:
            cancel = Cancel(task_id=relay.request.task_id, reason=reason, attempt=relay.attempt)
            self._context.send(relay.link, cancel, self._context.config.task_answer_ms)

    def _pass_back(self, relay: _Relay, response: TaskResponse) -> None:
        """As it came, with its index: a response that was lost on the way here leaves a gap, which the origin sees."""
        self._send(relay.origin.id, msgspec.structs.replace(response, attempt=relay.request.attempt))
        relay.index = min(response.index + 1, RESPONSE_INDEX_MAX)

    def _end(self, relay: _Relay, status: ResponseStatus, reason: Reason) -> None:
        request = relay.request
        response = TaskResponse(
            task_id=request.task_id, status=status, index=relay.index, reason=reason, attempt=request.attempt
        )
        self._send(relay.origin.id, response)
        self._forget(relay)

    def _send(self, link: LinkId, response: TaskResponse) -> None:
        self._context.send(link, response, self._context.config.task_silence_ms)

    def _remember(self, task_id: TaskId) -> None:
        while len(self._may_have_run) >= self._context.config.task_memory_max:
            del self._may_have_run[next(iter(self._may_have_run))]
        self._may_have_run[task_id] = None

    def _forget(self, relay: _Relay) -> None:
        task_id = relay.request.task_id
        self._open.pop(task_id, None)
        self._check_drained()
        self._context.timers.cancel(("relay.deadline", task_id))
        self._context.timers.cancel(("relay.answer", task_id))
