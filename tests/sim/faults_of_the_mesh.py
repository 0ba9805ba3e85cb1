"""Faults to plant in routing, registries, heartbeats, tasks, and in the host. See `planted`.

Those of the first EdgeCoder are among them (a loading peer preferred, expired and loading agents counted, an older
summary over a newer), and those that the checkers found in this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import msgspec
import pytest

from edgecoder.coordinator.registry import AgentRow, Registry, summarise
from edgecoder.coordinator.relay import Relays
from edgecoder.coordinator.summaries import Summaries, SummaryRow
from edgecoder.core.context import Context
from edgecoder.core.effects import RunTask
from edgecoder.core.timers import Name, TimerTable
from edgecoder.errors import Reason
from edgecoder.mesh import heartbeat
from edgecoder.mesh.announcer import Announcer
from edgecoder.mesh.executor import Executor
from edgecoder.mesh.heartbeat import HeartbeatSender
from edgecoder.mesh.origin import Origin
from edgecoder.mesh.peers import Peers
from edgecoder.mesh.prober import Prober
from edgecoder.mesh.reservations import Reservations
from edgecoder.mesh.router import Candidate, Why
from edgecoder.models.swap import Swap
from edgecoder.trace import SummaryLearned
from edgecoder.wire.messages import Heartbeat, Load, Probe, ResponseStatus, TaskResponse
from edgecoder_sim.host import SimNode
from edgecoder_sim.kernel import Kernel
from tests.sim.eventful import run, run_alone
from tests.sim.planted import Faults

FAULTS: Final = Faults()
fault = FAULTS.enter


# -- routing -----------------------------------------------------------------------------------------------------------


@fault("routed to a fitting peer")
def prefer_who_is_loading(patch: pytest.MonkeyPatch) -> None:
    """The -1 of a loading peer lowers its cost (a fault of the first EdgeCoder)."""
    candidates = Peers.candidates

    def lured(self: Peers, *args: Any, **how: Any) -> Iterator[Candidate]:
        for candidate in candidates(self, *args, **how):
            if candidate.excluded is Why.IS_LOADING:
                yield msgspec.structs.replace(candidate, excluded=None, load=Load.of(0), param_size=7.0)
            else:
                yield candidate

    patch.setattr(Peers, "candidates", lured)


@fault("relayed to a fitting agent")
def relay_to_who_expired(patch: pytest.MonkeyPatch) -> None:
    """Rows of agents that were not heard of for long stay in the registry."""
    patch.setattr(Registry, "is_alive", lambda self, row: True)


@fault("summaries are true")
def count_who_expired(patch: pytest.MonkeyPatch) -> None:
    """Agents that were not heard of for long stay in the summary (a fault of the first EdgeCoder)."""
    patch.setattr(Registry, "alive", lambda self: iter(self.rows.values()))


@fault("summaries are true")
def count_who_is_loading(patch: pytest.MonkeyPatch) -> None:
    """Agents that are changing their model count as available (a fault of the first EdgeCoder)."""

    def all_of_them(self: Registry) -> dict[str, Any]:
        by_model: dict[str, list[AgentRow]] = {}
        for row in self.alive():
            by_model.setdefault(row.heartbeat.active_model or "", []).append(row)
        return {model: summarise(rows) for model, rows in by_model.items() if model}

    patch.setattr(Registry, "availability", all_of_them)


@fault("answers are fresh")
def let_older_summaries_win(patch: pytest.MonkeyPatch) -> None:
    """A summary that was overtaken replaces the newer one (a fault of the first EdgeCoder)."""

    def learn(self: Summaries, link: Any, header: Any, summary: Any) -> None:
        expires_at = self._context.in_ms(min(header.ttl_ms, self._lifetime_ms))
        row = SummaryRow(header.epoch, header.seq, self._context.now, expires_at, link, summary)
        self.rows[header.sender] = row
        self._context.trace(SummaryLearned(header.sender, header.epoch, header.seq))

    patch.setattr(Summaries, "learn", learn)


@fault("summaries are true")
def let_older_heartbeats_win(patch: pytest.MonkeyPatch) -> None:
    """A heartbeat that was overtaken replaces the newer one."""
    learn = Registry.learn

    def forgetful(self: Registry, link: Any, header: Any, message: Heartbeat) -> bool:
        row = self.rows.get(header.sender)
        if row is not None:
            row.epoch, row.seq = 0, 0
        return learn(self, link, header, message)

    patch.setattr(Registry, "learn", forgetful)


# -- heartbeats --------------------------------------------------------------------------------------------------------


@fault("heartbeats")
def leave_news_out(patch: pytest.MonkeyPatch) -> None:
    """A heartbeat in part never brings the power."""

    def poor(**fields: Any) -> Heartbeat:
        return Heartbeat(**{**fields, "power": fields["power"] if fields["full"] else None})

    patch.setattr(heartbeat, "Heartbeat", poor)


@fault("heartbeats")
def forget_news_that_was_not_acknowledged(patch: pytest.MonkeyPatch) -> None:
    """A charge that went back to what was acknowledged is left out, though the coordinator may have heard otherwise."""
    send = HeartbeatSender._send

    def sure(self: HeartbeatSender) -> None:
        self._is_news_open = False
        send(self)

    patch.setattr(HeartbeatSender, "_send", sure)


@fault("heartbeats")
def beat_at_half_the_rate(patch: pytest.MonkeyPatch) -> None:
    """The period is twice as long as the cluster has agreed."""
    start = HeartbeatSender.start

    def slow(self: HeartbeatSender) -> None:
        self._period *= 2
        start(self)

    patch.setattr(HeartbeatSender, "start", slow)


# -- tasks -------------------------------------------------------------------------------------------------------------


@fault("tasks run once")
def run_a_task_twice(patch: pytest.MonkeyPatch) -> None:
    """The engine is asked twice."""
    run = Executor._run

    def stutter(self: Executor, work: Any) -> None:
        run(self, work)
        again = self._context.ops.begin(lambda _: None)
        self._context.out.append(RunTask(again, work.request.task_id, work.request.prompt, work.request.max_tokens))

    patch.setattr(Executor, "_run", stutter)


@fault("tasks run once")
def look_again_for_a_task_that_runs_here(patch: pytest.MonkeyPatch) -> None:
    """The timer of a waiting task goes on when the task has found its place on this node."""
    ask = Origin._ask

    def keep(self: Origin, task: Any, node: Any, link: Any, request: Any) -> None:
        if link is None:
            self._retry_later(task)
            with pytest.MonkeyPatch.context() as deaf:
                deaf.setattr(self._context.timers.__class__, "cancel", lambda *_: None)
                ask(self, task, node, link, request)
        else:
            ask(self, task, node, link, request)

    patch.setattr(Origin, "_ask", keep)


@fault("tasks run once", run_alone)
def run_on_an_empty_engine(patch: pytest.MonkeyPatch) -> None:
    """Tasks that wait are run although the engine has lost its model."""
    failed = Swap.engine_failed

    def heedless(self: Swap, reason: Reason) -> None:
        with pytest.MonkeyPatch.context() as busy:
            busy.setattr(type(self._around), "drain_tasks", lambda *_: None)
            failed(self, reason)

    patch.setattr(Swap, "engine_failed", heedless)


@fault("bounds", partial(run, "config.phones.routing=cost", "config.phones.task_queue_max=1"))
def queue_without_end(patch: pytest.MonkeyPatch) -> None:
    """Nobody is refused as busy."""
    judged = Executor._judge

    def judge(self: Executor, request: Any, prompt_bytes: int, *, is_own: bool) -> Any:
        if type(request) is Probe:
            return judged(self, request, prompt_bytes, is_own=is_own)
        known = request.task_id in self._known or request.task_id in self._work
        return Reason.DUPLICATE if known else self._model_for(request)

    patch.setattr(Executor, "_judge", judge)


@fault("places are bounded")
def promise_one_place_to_many(patch: pytest.MonkeyPatch) -> None:
    """Places that are kept do not count when the next one is asked for."""
    patch.setattr(Reservations, "__len__", lambda _: 0)


@fault("places are taken or released", partial(run, "radio.scanning=false"))
def forget_to_release(patch: pytest.MonkeyPatch) -> None:
    """Those who were probed and not chosen are not told."""
    patch.setattr(Prober, "release", lambda *_: None)


@fault("one end")
def count_the_last_attempt_twice(patch: pytest.MonkeyPatch) -> None:
    """A task that failed everywhere was tried once more often than it may be."""
    trace = Context.trace

    def more(self: Context, record: Any) -> None:
        if type(record).__name__ == "TaskEnded" and record.reason is not None:
            record = msgspec.structs.replace(record, attempts=record.attempts + 4)
        trace(self, record)

    patch.setattr(Context, "trace", more)


@fault("asked one at a time")
def ask_the_next_and_leave_the_first(patch: pytest.MonkeyPatch) -> None:
    """Who does not answer in time is not told that the task has gone elsewhere."""
    patch.setattr(Origin, "_withdraw", lambda self, task, ask, reason: None)


@fault("requests are answered once")
def keep_the_end_of_a_relayed_task(patch: pytest.MonkeyPatch) -> None:
    """A coordinator does not pass `done` back."""
    back = Relays._pass_back

    def swallow(self: Relays, relay: Any, response: TaskResponse) -> None:
        if response.status is not ResponseStatus.DONE:
            back(self, relay, response)

    patch.setattr(Relays, "_pass_back", swallow)


@fault("requests are answered once")
def keep_a_cancellation(patch: pytest.MonkeyPatch) -> None:
    """A coordinator does not tell the agent that a task is not wanted any more."""
    patch.setattr(Relays, "_withdraw", lambda self, relay, reason: None)


@fault("requests are answered once")
def say_done_too_early(patch: pytest.MonkeyPatch) -> None:
    """A part of an answer is taken for the whole."""
    say = Executor._say

    def hasten(self: Executor, work: Any, status: ResponseStatus, *rest: Any) -> None:
        say(self, work, ResponseStatus.DONE if status is ResponseStatus.CHUNK else status, *rest)

    patch.setattr(Executor, "_say", hasten)


@fault("load is advertised")
def lose_a_timer_that_is_set_again(patch: pytest.MonkeyPatch) -> None:
    """A timer that is moved is forgotten."""
    set_ = TimerTable.set

    def forget(self: TimerTable, name: Name, deadline: int, action: Callable[[], None]) -> None:
        if name in self._actions:
            self.cancel(name)
        else:
            set_(self, name, deadline, action)

    patch.setattr(TimerTable, "set", forget)


@fault("load is advertised")
def forget_to_say_idle(patch: pytest.MonkeyPatch) -> None:
    """News that has to wait for its turn is forgotten."""
    patch.setattr(Announcer, "_announce_if_changed", lambda self: None)


@fault("one home")
def report_to_whoever_comes(patch: pytest.MonkeyPatch) -> None:
    """A node reports to every coordinator that identifies itself."""
    patch.setattr(HeartbeatSender, "link_bound", lambda self, link: self._report_to(link))


@fault("one home")
def stay_without_a_home(patch: pytest.MonkeyPatch) -> None:
    """A node that loses its home keeps its spares for later."""

    def forget(self: HeartbeatSender, link: int) -> None:
        self.link = None if link == self.link else self.link

    patch.setattr(HeartbeatSender, "link_down", forget)


# -- the host ----------------------------------------------------------------------------------------------------------


@fault("woken in time")
def round_ticks_down(patch: pytest.MonkeyPatch) -> None:
    """What is due within a tick happens at its beginning."""
    call_at = Kernel.call_at

    def early(self: Kernel, at_us: int, fn: Any, a: Any = None, b: Any = None) -> None:
        call_at(self, max(self.now, at_us - at_us % self.tick_us), fn, a, b)

    patch.setattr(Kernel, "call_at", early)


@fault("woken in time")
def forget_to_wake(patch: pytest.MonkeyPatch) -> None:
    """A host that wakes no coordinator."""
    wake = SimNode._wake

    def sleep(self: SimNode, deadline_us: int, _: object) -> None:
        if not self.name.startswith("coordinator"):
            wake(self, deadline_us, _)

    patch.setattr(SimNode, "_wake", sleep)
