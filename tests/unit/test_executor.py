"""Answering tasks: accepted or refused at once, slots and queue, streams, and every way in which a task can end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import CancelOp, LoadModel, RunTask
from edgecoder.core.events import LinkDown, TaskChunk
from edgecoder.core.ids import LinkId, Role
from edgecoder.errors import Reason
from edgecoder.mesh.executor import WORK_TABLE, Executor, WorkState, WorkStep
from edgecoder.trace import TaskStarted, TaskStopped
from edgecoder.wire.messages import Cancel, Probe, ProbeReply, Release, ResponseStatus, TaskResponse
from tests.catalogs import AGENT_ONLY, LARGE, LATEST, SMALL
from tests.harness import Cluster, Puppet
from tests.hosts import HANGS, Host, Outcome, fails
from tests.steps import ids, missing, watch
from tests.strategies import TASK_ID, task_request

ACCEPTED, CHUNK, DONE, REFUSED, FAILED = ResponseStatus


class Bench:
    """An agent with one slot and a queue of two, and a puppet that asks it."""

    def __init__(self, cluster: Cluster, **config: object) -> None:
        settings: dict[str, object] = {"slots": 1, "task_queue_max": 2, "has_radio": False} | config
        self.cluster = cluster
        self.agent: Host = cluster.add(
            "agent",
            Role.AGENT,
            config=NodeConfig(**settings),  # type: ignore[arg-type]  # fields by name
            installed=[SMALL, LARGE],
            active=SMALL,
        )
        self.asker: Puppet = cluster.puppet("asker")
        cluster.drive()
        self.link: LinkId = cluster.link(self.asker, self.agent)
        cluster.drive()

    def ask(self, number: int = 0, **fields: Any) -> bytes:
        """Send a request and let it be judged; its task id."""
        task_id = bytes([number]) * 16 if number else TASK_ID
        self.asker.say(self.link, task_request(task_id=task_id, **fields))
        self.cluster.run_for(25)
        return task_id

    def probe(self, number: int, **fields: Any) -> ProbeReply:
        """Send a probe; the answer."""
        wish: dict[str, Any] = {"model": None, "min_param_size": 0.0, "max_tokens": 256, "prompt_bytes": 10} | fields
        self.asker.say(self.link, Probe(task_id=bytes([number]) * 16, **wish))
        self.cluster.run_for(25)
        return self.asker.last(ProbeReply)

    def release(self, number: int) -> None:
        """Give a place back."""
        self.asker.say(self.link, Release(task_id=bytes([number]) * 16))
        self.cluster.run_for(25)

    def answers(self, task_id: bytes = TASK_ID) -> list[TaskResponse]:
        """What came back for a task."""
        return [message for message in self.asker.all(TaskResponse) if message.task_id == task_id]

    def end(self, task_id: bytes = TASK_ID) -> TaskResponse:
        """Let everything end; the last answer to a task."""
        self.cluster.run_for(1_000)
        return self.answers(task_id)[-1]


@pytest.fixture
def bench(cluster: Cluster) -> Bench:
    """The agent and who asks."""
    return Bench(cluster)


# -- answers -----------------------------------------------------------------------------------------------------------


def test_a_streamed_answer_comes_in_parts(bench: Bench) -> None:
    bench.ask(stream=True)
    bench.end()
    got = bench.answers()
    assert [message.status for message in got] == [ACCEPTED, CHUNK, CHUNK, CHUNK, DONE]
    assert [message.index for message in got] == [0, 1, 2, 3, 4]
    assert "".join(message.text for message in got) == "one two three"
    assert (got[-1].tokens, got[-1].text) == (3, "")
    assert (got[0].served_by, got[0].model) == (bench.agent.node_id, "small")


def test_an_answer_that_is_not_streamed_comes_whole(bench: Bench) -> None:
    bench.ask(stream=False)
    bench.end()
    accepted, done = bench.answers()
    assert (accepted.status, done.status) == (ACCEPTED, DONE)
    assert (done.text, done.tokens, done.index) == ("one two three", 3, 1)
    assert (done.served_by, done.model) == (bench.agent.node_id, "small")


def test_the_engine_gets_what_was_asked(bench: Bench) -> None:
    bench.ask(prompt="say hello", max_tokens=17)
    (run,) = bench.agent.did(RunTask)
    assert (run.task_id, run.prompt, run.max_tokens) == (TASK_ID, "say hello", 17)


def test_an_engine_that_fails_is_reported(bench: Bench) -> None:
    bench.agent.plan(RunTask, fails(Reason.OUT_OF_MEMORY, parts=("half",)))
    bench.ask()
    last = bench.end()
    assert (last.status, last.reason, last.tokens) == (FAILED, Reason.OUT_OF_MEMORY, 1)
    assert [message.text for message in bench.answers()] == ["", "half", ""]


def test_late_parts_are_no_news(bench: Bench) -> None:
    bench.ask()
    bench.end()
    op = bench.agent.did(RunTask)[0].op
    assert bench.agent.take(TaskChunk(op, "more", 1)) == []


# -- probes ------------------------------------------------------------------------------------------------------------


def test_a_probe_is_told_when_a_task_could_begin(bench: Bench) -> None:
    assert bench.probe(1) == ProbeReply(
        task_id=bytes([1]) * 16, queue_ms=0, tokens_per_s=20, battery_pct=100, on_external_power=False, hold_ms=4_000
    )
    bench.agent.plan(RunTask, HANGS)
    bench.ask(2, max_tokens=100)
    bench.ask(3, max_tokens=40)
    bench.cluster.run_for(4_000)
    assert bench.probe(4).queue_ms == (100 - 3 + 40) * 1_000 // 20, "three of the first are written"


def test_the_slot_that_is_free_first_counts(cluster: Cluster) -> None:
    bench = Bench(cluster, slots=2)
    bench.agent.plan(RunTask, HANGS, HANGS)
    bench.ask(1, max_tokens=100)
    assert bench.probe(9).queue_ms == 0
    bench.release(9)
    bench.ask(2, max_tokens=30)
    assert bench.probe(9).queue_ms == (30 - 3) * 1_000 // 20


def test_a_place_that_is_kept_is_in_the_way_of_others_until_its_task_comes(bench: Bench) -> None:
    replies = [bench.probe(number, max_tokens=20) for number in (1, 2, 3, 4)]
    assert [reply.queue_ms for reply in replies[:3]] == [0, 1_000, 2_000]
    assert replies[3].reason is Reason.BUSY
    bench.agent.plan(RunTask, HANGS)
    assert bench.answers(bench.ask(5))[-1].reason is Reason.BUSY, "who did not ask first finds no room"
    assert bench.answers(bench.ask(2))[0].status is ACCEPTED
    assert len(bench.agent.member.executor.reservations) == 2


@pytest.mark.parametrize("how", ["released", "expired", "gone", "asked again"])
def test_a_place_comes_free(how: str, bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.probe(number)
    if how == "released":
        bench.release(1)
    elif how == "expired":
        bench.cluster.run_for(4_000)
    elif how == "gone":
        bench.cluster.unlink(bench.link)
        bench.link = bench.cluster.link(bench.asker, bench.agent)
        bench.cluster.run_for(25)
    else:
        bench.probe(3)
    assert (bench.probe(4).reason is None) is (how != "asked again")


def test_nobody_releases_the_place_of_another(bench: Bench) -> None:
    bench.probe(1)
    other = bench.cluster.puppet("other")
    link = bench.cluster.link(other, bench.agent)
    bench.cluster.run_for(25)
    other.say(link, Release(task_id=bytes([1]) * 16))
    bench.cluster.run_for(25)
    assert len(bench.agent.member.executor.reservations) == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"model": "large"}, Reason.NO_MODEL), ({"prompt_bytes": 1 << 30}, Reason.TOO_LARGE)],
)
def test_a_probe_that_cannot_be_taken(fields: dict[str, Any], reason: Reason, bench: Bench) -> None:
    assert bench.probe(1, **fields).reason is reason
    assert len(bench.agent.member.executor.reservations) == 0


def test_while_it_loads_nothing_is_promised_or_kept(bench: Bench) -> None:
    bench.probe(1)
    bench.agent.plan(LoadModel, Outcome(after_us=1_000_000))
    bench.agent.swap("large")
    bench.cluster.run_for(25)
    assert bench.probe(2).reason is Reason.LOADING
    assert len(bench.agent.member.executor.reservations) == 0


def test_the_longest_answers_do_not_break_the_estimate(bench: Bench) -> None:
    assert bench.probe(1, max_tokens=1 << 20).queue_ms == 0
    assert bench.probe(2).queue_ms == (1 << 20) * 1_000 // 20


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model": "large"}, Reason.NO_MODEL),
        ({"model": "nobody"}, Reason.NO_MODEL),
        ({"min_param_size": 1.6}, Reason.NO_MODEL),
        ({"prompt": "x" * 262_145}, Reason.TOO_LARGE),
        ({"prompt": "é" * 131_073}, Reason.TOO_LARGE),
    ],
)
def test_refusals(fields: dict[str, Any], reason: Reason, bench: Bench) -> None:
    bench.ask(**fields)
    (refused,) = bench.answers()
    assert (refused.status, refused.reason, refused.served_by) == (REFUSED, reason, bench.agent.node_id)
    assert bench.agent.did(RunTask) == []


@pytest.mark.parametrize(
    "fields",
    [{"model": "small"}, {"model": "SMALL-coder:1.5b"}, {"min_param_size": 1.5}, {"prompt": "é" * 131_072}],
)
def test_what_just_fits(fields: dict[str, Any], bench: Bench) -> None:
    bench.ask(**fields)
    assert bench.end().status is DONE


def test_an_empty_node_refuses(cluster: Cluster) -> None:
    agent, asker = cluster.add("agent", Role.AGENT), cluster.puppet("asker")
    cluster.drive()
    asker.say(cluster.link(asker, agent), task_request())
    cluster.drive()
    assert asker.last(TaskResponse).reason is Reason.NO_MODEL


def test_a_node_that_is_loading_refuses(bench: Bench) -> None:
    bench.agent.plan(LoadModel, HANGS)
    bench.agent.swap("large")
    bench.ask()
    (refused,) = bench.answers()
    assert (refused.status, refused.reason) == (REFUSED, Reason.LOADING)


def test_queue_and_slots_are_bounded(bench: Bench) -> None:
    bench.agent.plan(RunTask, *[Outcome(after_us=200_000)] * 3)
    asked = [bench.ask(number) for number in (1, 2, 3, 4)]
    assert [bench.answers(task)[0].status for task in asked] == [ACCEPTED, ACCEPTED, ACCEPTED, REFUSED]
    assert bench.answers(asked[3])[0].reason is Reason.BUSY
    assert len(bench.agent.did(RunTask)) == 1
    assert bench.agent.member.executor.tasks == 3
    bench.cluster.run_for(1_000)
    assert [bench.answers(task)[-1].status for task in asked[:3]] == [DONE, DONE, DONE]
    assert [run.task_id for run in bench.agent.did(RunTask)] == asked[:3]


def test_slots_run_side_by_side(cluster: Cluster) -> None:
    bench = Bench(cluster, slots=2)
    bench.agent.plan(RunTask, HANGS, HANGS)
    for number in (1, 2, 3):
        bench.ask(number)
    assert len(bench.agent.opened(RunTask)) == 2


def test_a_task_that_is_open_is_not_run_twice(bench: Bench) -> None:
    bench.agent.plan(RunTask, Outcome(after_us=200_000, parts=()))
    bench.ask()
    bench.ask()
    assert [message.status for message in bench.answers()][:2] == [ACCEPTED, REFUSED]
    assert bench.answers()[1].reason is Reason.DUPLICATE
    assert bench.end().status is DONE
    assert len(bench.agent.did(RunTask)) == 1


def test_a_task_that_was_answered_is_not_run_again(bench: Bench) -> None:
    bench.ask()
    bench.end()
    bench.ask()
    assert bench.end().reason is Reason.DUPLICATE
    assert len(bench.agent.did(RunTask)) == 1


def test_a_task_that_was_not_answered_may_be_asked_again(bench: Bench) -> None:
    """Else one that a swap pushed out of the queue could never come back to this node."""
    bench.agent.plan(RunTask, fails(Reason.ENGINE_CRASHED))
    bench.ask()
    assert bench.end().status is FAILED
    bench.ask()
    assert bench.end().status is DONE


def test_the_memory_of_ended_tasks_is_bounded(cluster: Cluster) -> None:
    bench = Bench(cluster, task_memory_max=2)
    for number in (1, 2, 3):
        bench.ask(number)
        bench.end(bytes([number]) * 16)
    bench.ask(3)
    assert bench.end(b"\x03" * 16).reason is Reason.DUPLICATE
    bench.ask(1)
    assert bench.end(b"\x01" * 16).status is DONE


def test_an_open_task_is_remembered_however_many_come_after_it(cluster: Cluster) -> None:
    bench = Bench(cluster, task_memory_max=1)
    bench.agent.plan(RunTask, Outcome(after_us=100_000))
    first = bench.ask(1)
    bench.ask(2)
    bench.ask(1)
    assert bench.answers(first)[-1].reason is Reason.DUPLICATE
    assert bench.end(first).status is DONE
    assert bench.agent.member.executor.tasks == 0


# -- ends --------------------------------------------------------------------------------------------------------------


def test_cancelling_a_running_task(bench: Bench) -> None:
    bench.agent.plan(RunTask, HANGS)
    bench.ask()
    bench.asker.say(bench.link, Cancel(task_id=TASK_ID, reason=Reason.CANCELLED))
    last = bench.end()
    assert (last.status, last.reason) == (FAILED, Reason.CANCELLED)
    assert len(bench.agent.did(CancelOp)) == 1
    assert bench.agent.traced(TaskStopped)[-1].reason is Reason.CANCELLED


def test_cancelling_a_waiting_task(bench: Bench) -> None:
    bench.agent.plan(RunTask, HANGS)
    bench.ask(1)
    waiting = bench.ask(2)
    bench.asker.say(bench.link, Cancel(task_id=waiting, reason=Reason.CANCELLED))
    last = bench.end(waiting)
    assert (last.status, last.reason) == (FAILED, Reason.CANCELLED)
    assert bench.agent.did(CancelOp) == []


def test_only_who_asked_may_cancel(bench: Bench) -> None:
    other = bench.cluster.puppet("other")
    link = bench.cluster.link(other, bench.agent)
    bench.agent.plan(RunTask, Outcome(after_us=200_000))
    bench.ask()
    other.say(link, Cancel(task_id=TASK_ID, reason=Reason.CANCELLED))
    assert bench.end().status is DONE


def test_a_cancelled_task_stays_silent_until_it_ends(bench: Bench) -> None:
    bench.agent.plan(RunTask, HANGS)
    bench.ask()
    bench.asker.say(bench.link, Cancel(task_id=TASK_ID, reason=Reason.CANCELLED))
    bench.cluster.run_for(10)
    (run,) = bench.agent.did(RunTask)
    assert bench.agent.take(TaskChunk(run.op, "late", 1)) == []
    bench.end()
    assert CHUNK not in [message.status for message in bench.answers()[4:]]


@pytest.mark.parametrize("waits", [False, True])
def test_the_deadline_ends_a_task(waits: bool, bench: Bench) -> None:
    bench.agent.plan(RunTask, HANGS)
    if waits:
        bench.ask(1)
    task = bench.ask(2, deadline_ms=500)
    assert bench.answers(task)[-1].status in (ACCEPTED, CHUNK)
    last = bench.end(task)
    assert (last.status, last.reason) == (FAILED, Reason.DEADLINE)
    assert bench.agent.member.executor.tasks == int(waits)


def test_a_deadline_of_nothing_ends_a_task_at_once(bench: Bench) -> None:
    bench.agent.plan(RunTask, HANGS)
    bench.ask(deadline_ms=0)
    assert bench.end().reason is Reason.DEADLINE


def test_nobody_works_for_an_asker_that_is_gone(bench: Bench) -> None:
    bench.agent.plan(RunTask, HANGS)
    bench.ask(1)
    bench.ask(2)
    bench.cluster.unlink(bench.link)
    bench.cluster.run_for(100)
    assert bench.agent.member.executor.tasks == 0
    assert {record.reason for record in bench.agent.traced(TaskStopped)} == {Reason.PEER_LOST}


def test_another_link_that_goes_down_ends_nothing(bench: Bench) -> None:
    other = bench.cluster.link(bench.cluster.puppet("other"), bench.agent)
    bench.agent.plan(RunTask, Outcome(after_us=100_000))
    bench.ask()
    bench.agent.take(LinkDown(other))
    assert bench.end().status is DONE


def test_each_task_is_traced_from_start_to_stop(bench: Bench) -> None:
    bench.ask()
    bench.end()
    assert bench.agent.traced(TaskStarted) == [TaskStarted(TASK_ID, "small")]
    assert bench.agent.traced(TaskStopped) == [TaskStopped(TASK_ID, None, 3)]


def test_an_agent_answers_for_every_name_of_its_model(cluster: Cluster) -> None:
    agent = cluster.add("agent", Role.AGENT, installed=[LATEST, AGENT_ONLY], active=LATEST)
    asker = cluster.puppet("asker")
    cluster.drive()
    link = cluster.link(asker, agent)
    for number, name in enumerate(("newest", "newest:latest", "newest-gguf"), start=1):
        asker.say(link, task_request(task_id=bytes([number]) * 16, model=name))
    cluster.drive()
    assert [message.status for message in asker.all(TaskResponse)].count(DONE) == 3


# -- the table ---------------------------------------------------------------------------------------------------------

W, P = WorkState, WorkStep


def finished(bench: Bench) -> None:
    bench.ask()


def failing(bench: Bench) -> None:
    bench.agent.plan(RunTask, fails(Reason.ENGINE_CRASHED))
    bench.ask()


def stopped(bench: Bench) -> None:
    bench.agent.plan(RunTask, HANGS)
    bench.ask(deadline_ms=100)


def stopped_too_late(bench: Bench) -> None:
    bench.agent.plan(RunTask, Outcome(after_us=200_000, ignores_cancel=True))
    bench.ask(deadline_ms=100)


def stopped_before_it_ran(bench: Bench) -> None:
    bench.agent.plan(RunTask, Outcome(after_us=200_000))
    bench.ask(1)
    bench.ask(2, deadline_ms=100)


ROWS: dict[tuple[WorkState, WorkStep], tuple[WorkState, Callable[[Bench], None]]] = {
    (W.WAITING, P.SLOT_FREE): (W.RUNNING, finished),
    (W.WAITING, P.STOP): (W.ENDED, stopped_before_it_ran),
    (W.RUNNING, P.CHUNK): (W.RUNNING, finished),
    (W.RUNNING, P.STOP): (W.STOPPING, stopped),
    (W.RUNNING, P.DONE): (W.ENDED, finished),
    (W.RUNNING, P.FAILED): (W.ENDED, failing),
    (W.STOPPING, P.DONE): (W.ENDED, stopped_too_late),
    (W.STOPPING, P.FAILED): (W.ENDED, stopped),
}


@pytest.mark.parametrize("row", WORK_TABLE, ids=ids)
def test_row(row: tuple[WorkState, WorkStep], bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    following, scenario = ROWS[row]
    assert WORK_TABLE[row] is following
    steps = watch(monkeypatch, Executor, WorkState, WorkStep)
    scenario(bench)
    bench.cluster.run_for(1_000)
    if row == (W.RUNNING, P.CHUNK):  # asked of the table, and followed by no step
        assert CHUNK in [message.status for message in bench.answers()]
    else:
        assert steps.following(*row) == {following}


@pytest.mark.parametrize("pair", missing(WORK_TABLE, WorkState, WorkStep), ids=ids)
def test_without_a_row_nothing_changes(pair: tuple[WorkState, WorkStep], bench: Bench) -> None:
    bench.agent.plan(RunTask, HANGS)
    bench.ask()
    executor, out = bench.agent.member.executor, bench.agent.alive.context.out
    (work,) = executor._work.values()
    work.state = pair[0]
    tokens = work.tokens
    out.clear()
    assert not executor._step(work, pair[1])
    assert work.state is pair[0]
    if pair[1] is P.CHUNK:
        executor.chunk(TaskChunk(work.op, "late", 1))
    if pair[1] is P.STOP:
        executor.cancel(TASK_ID, Reason.CANCELLED, work.link)
    assert (out, work.tokens, work.stopped_for) == ([], tokens, None)
