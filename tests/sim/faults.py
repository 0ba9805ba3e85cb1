"""Faults to plant: each a small patch of the core or the host, and the checker that has to see it in `eventful`.

The faults of the first EdgeCoder are among them (a loading peer preferred, a node left dark by a failed swap, expired
and loading agents counted, an older summary over a newer, replays), and those that the checkers found in this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
import pytest

from edgecoder.coordinator.registry import AgentRow, Registry, summarise
from edgecoder.coordinator.relay import Relays
from edgecoder.coordinator.summaries import Summaries, SummaryRow
from edgecoder.core.context import Context
from edgecoder.core.effects import Persist, Reply, RunTask, TaskResult
from edgecoder.core.events import Persisted, Started
from edgecoder.core.node import EPOCH_KEY, Node
from edgecoder.core.timers import Name, TimerTable
from edgecoder.errors import Reason
from edgecoder.mesh import heartbeat
from edgecoder.mesh.announcer import Announcer
from edgecoder.mesh.executor import Executor
from edgecoder.mesh.heartbeat import HeartbeatSender
from edgecoder.mesh.origin import Origin
from edgecoder.mesh.peers import Peers
from edgecoder.mesh.replay import ReplayWindow
from edgecoder.mesh.router import Candidate, Why
from edgecoder.models.swap import TABLE, Swap, SwapState, SwapStep
from edgecoder.trace import SummaryLearned
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Capabilities, Heartbeat, Load, ResponseStatus, TaskResponse
from edgecoder_sim.host import SimNode
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.world import World
from tests.sim.eventful import run, run_alone

Patch = Callable[[pytest.MonkeyPatch], None]


class Fault(NamedTuple):
    """A fault, who must see it, and where."""

    name: str
    checker: str
    plant: Patch
    run: Callable[..., World]


FAULTS: Final[list[Fault]] = []


def fault(checker: str, where: Callable[..., World] = run) -> Callable[[Patch], Patch]:
    """Enter a patch, which is called what its function is, with the checker that must see it."""

    def enter(plant: Patch) -> Patch:
        FAULTS.append(Fault(plant.__name__, checker, plant, where))
        return plant

    return enter


# -- swaps -------------------------------------------------------------------------------------------------------------


@fault("one model")
def load_beside_the_old_model(patch: pytest.MonkeyPatch) -> None:
    """The new model is loaded before the old one is freed."""
    patch.setitem(TABLE, (SwapState.DRAINING, SwapStep.DRAINED), (SwapState.LOADING, Swap.load))


@fault("one model")
def drain_nothing(patch: pytest.MonkeyPatch) -> None:
    """The old model is freed under the tasks that run on it."""
    patch.setattr(Executor, "drain", lambda self, on_drained: on_drained())


@fault("told before unload")
def unload_before_peers_know(patch: pytest.MonkeyPatch) -> None:
    """The loading advertisement is made, and nobody waits until it is out."""

    def hasten(swap: Swap) -> None:
        swap._around.advertise_loading(lambda _: None)
        swap._step(SwapStep.ANNOUNCED)

    patch.setitem(TABLE, (SwapState.ANNOUNCING, SwapStep.INTENT_KEPT), (SwapState.ANNOUNCING, hasten))


@fault("told before unload")
def coordinator_waits_for_the_gap(patch: pytest.MonkeyPatch) -> None:
    """A heartbeat that says loading waits like any other news, so that the unload can overtake it."""
    changed = HeartbeatSender.changed

    def wait(self: HeartbeatSender) -> None:
        current = self._announcer().current
        self._said_loading = current is not None and current.current_load.is_loading
        changed(self)

    patch.setattr(HeartbeatSender, "changed", wait)


@fault("told before unload")
def roll_back_without_a_word(patch: pytest.MonkeyPatch) -> None:
    """A failed swap leaves the node dark: the old model serves, and nobody is told (a fault of the first EdgeCoder)."""

    def settle(swap: Swap) -> None:
        with pytest.MonkeyPatch.context() as quiet:
            quiet.setattr(type(swap._around), "advertise_settled", lambda _: None)
            swap._settle()

    patch.setitem(TABLE, (SwapState.ROLLING_BACK, SwapStep.LOADED), (SwapState.READY, settle))


@fault("intent is journalled")
def swap_without_a_journal(patch: pytest.MonkeyPatch) -> None:
    """The intent is not written."""

    def skip(swap: Swap) -> None:
        swap._failure, swap._previous = None, swap.active
        swap._step(SwapStep.INTENT_KEPT)

    for state in (SwapState.READY, SwapState.EMPTY, SwapState.FAILED):
        patch.setitem(TABLE, (state, SwapStep.REQUESTED), (SwapState.ANNOUNCING, skip))


@fault("intent is journalled")
def give_up_at_the_first_failure(patch: pytest.MonkeyPatch) -> None:
    """A load that fails is not rolled back."""
    patch.setitem(TABLE, (SwapState.LOADING, SwapStep.LOAD_FAILED), (SwapState.FAILED, Swap.give_up))


@fault("swaps end")
def lose_a_load(patch: pytest.MonkeyPatch) -> None:
    """A failure of the second load is overlooked."""
    patch.delitem(TABLE, (SwapState.ROLLING_BACK, SwapStep.LOAD_FAILED))


@fault("one reply")
def forget_who_was_superseded(patch: pytest.MonkeyPatch) -> None:
    """A request that a later one replaced is dropped without a word."""
    answer = Swap._answer

    def some(self: Swap, commands: list[int], reason: Reason | None) -> None:
        if reason is not Reason.SUPERSEDED:
            answer(self, commands, reason)

    patch.setattr(Swap, "_answer", some)


# -- order -------------------------------------------------------------------------------------------------------------


@fault("envelopes are ordered")
def begin_again_with_the_first_number(patch: pytest.MonkeyPatch) -> None:
    """Every life seals with epoch 1, so that (epoch, seq) comes again."""

    def seal(self: Context, message: Any, ttl_ms: int) -> Any:
        self.seq += 1
        return self.signer.seal(Header(self.cluster.network_id, self.node_id, 1, self.seq, ttl_ms), message)

    patch.setattr(Context, "seal", seal)


@fault("generation grows")
def reuse_the_epoch(patch: pytest.MonkeyPatch) -> None:
    """A restart does not count the epoch up, so that all that it orders comes again."""

    def start(self: Node, event: Started) -> None:
        self._snapshot, self._wall_ms = event.snapshot, event.wall_ms
        kept = int.from_bytes(event.snapshot.get(EPOCH_KEY, b""), "big")
        self.context.epoch, self.context.ops.epoch = kept or 1, kept + 1 + (self.context.now > 0)
        self._persist_epoch()

    patch.setattr(Node, "_start", start)


@fault("envelopes are ordered")
def send_before_the_epoch_is_durable(patch: pytest.MonkeyPatch) -> None:
    """The epoch is written, and the node goes ahead."""

    def hasten(self: Node) -> None:
        self.context.persist(EPOCH_KEY, self.context.epoch.to_bytes(4, "big"), lambda _: None)
        self._epoch_persisted(Persisted(0))

    patch.setattr(Node, "_persist_epoch", hasten)


@fault("envelopes are ordered")
def seal_twice_with_one_number(patch: pytest.MonkeyPatch) -> None:
    """Every hundredth envelope does not count."""
    seal = Context.seal

    def stutter(self: Context, message: Any, ttl_ms: int) -> Any:
        if self.seq % 100 == 99:
            self.seq -= 1
        return seal(self, message, ttl_ms)

    patch.setattr(Context, "seal", stutter)


@fault("generation grows")
def generation_of_this_life_alone(patch: pytest.MonkeyPatch) -> None:
    """The generation begins anew with every life."""
    make = Announcer._capabilities

    def short(self: Announcer) -> Capabilities:
        made = make(self)
        return msgspec.structs.replace(made, generation=made.generation & 0xFFFF_FFFF)

    patch.setattr(Announcer, "_capabilities", short)


@fault("frames count once")
def accept_replays(patch: pytest.MonkeyPatch) -> None:
    """(epoch, seq) is not looked at."""
    patch.setattr(ReplayWindow, "accept", lambda self, epoch, seq: True)


# -- commands and operations -------------------------------------------------------------------------------------------


@fault("one reply")
def reply_twice(patch: pytest.MonkeyPatch) -> None:
    """Every answer to a task comes twice."""
    reply = Context.reply

    def stutter(self: Context, command: int, result: Any) -> None:
        reply(self, command, result)
        if isinstance(result, TaskResult):
            self.out.append(Reply(command, result))

    patch.setattr(Context, "reply", stutter)


@fault("one end")
def never_reply(patch: pytest.MonkeyPatch) -> None:
    """A task ends, and its user is not told."""
    reply = Context.reply

    def swallow(self: Context, command: int, result: Any) -> None:
        if not isinstance(result, TaskResult):
            reply(self, command, result)

    patch.setattr(Context, "reply", swallow)


@fault("one reply")
def lose_the_deadline(patch: pytest.MonkeyPatch) -> None:
    """A task that nobody can take waits for ever."""
    patch.setattr(Origin, "_give_up", lambda self, task, reason: None)


@fault("one completion")
def complete_twice(patch: pytest.MonkeyPatch) -> None:
    """The host's disk reports every write twice."""
    persisted = SimNode._persisted

    def stutter(self: SimNode, effect: Persist, _: object) -> None:
        persisted(self, effect, _)
        self.post(Persisted(effect.op))

    patch.setattr(SimNode, "_persisted", stutter)


@fault("one completion")
def lose_a_completion(patch: pytest.MonkeyPatch) -> None:
    """The host's disk forgets to report what it wrote of swaps."""
    persisted = SimNode._persisted

    def forget(self: SimNode, effect: Persist, _: object) -> None:
        if effect.key != "swap":
            persisted(self, effect, _)

    patch.setattr(SimNode, "_persisted", forget)


# -- routing -----------------------------------------------------------------------------------------------------------


@fault("routed to a fitting peer")
def prefer_who_is_loading(patch: pytest.MonkeyPatch) -> None:
    """The -1 of a loading peer lowers its cost (a fault of the first EdgeCoder)."""
    candidates = Peers.candidates

    def lured(self: Peers, *args: Any) -> Iterator[Candidate]:
        for candidate in candidates(self, *args):
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


@fault("bounds")
def queue_without_end(patch: pytest.MonkeyPatch) -> None:
    """Nobody is refused as busy."""

    def judge(self: Executor, request: Any) -> Any:
        known = request.task_id in self._known or request.task_id in self._work
        return Reason.DUPLICATE if known else self._model_for(request)

    patch.setattr(Executor, "_judge", judge)


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
    patch.setattr(Origin, "_withdraw", lambda self, task, reason: None)


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
