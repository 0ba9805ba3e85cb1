"""The checkers judge hand-made conversations: tasks, relays, bounds. See `test_checkers`."""

from __future__ import annotations

from typing import Any

import pytest

from edgecoder.core.effects import Reply, Send, TaskResult, Trace
from edgecoder.core.events import (
    LinkDown,
    Started,
    SubmitTask,
    TaskChunk,
    TaskDone,
    TaskFailed,
)
from edgecoder.core.ids import Medium, Role, TaskId
from edgecoder.errors import Reason
from edgecoder.trace import (
    AgentExpired,
    AgentLearned,
    PeerForgotten,
    PeerLearned,
    SummaryExpired,
    SummaryLearned,
    TaskEnded,
    TaskSubmitted,
)
from edgecoder.wire.messages import (
    Cancel,
    Load,
    ResponseStatus,
)
from tests.sim.stage import NEWS, Actor, Office, Stage, breach, relay, request, response

ACCEPTED, CHUNK, DONE = ResponseStatus.ACCEPTED, ResponseStatus.CHUNK, ResponseStatus.DONE
FAILED, REFUSED = ResponseStatus.FAILED, ResponseStatus.REFUSED


@pytest.fixture
def stage() -> Stage:
    """An empty stage."""
    return Stage()


@pytest.fixture
def office(stage: Stage) -> Office:
    """An office in which nobody has said anything but his name."""
    return Office(stage)


# -- tasks of a user ---------------------------------------------------------------------------------------------------


def submitted(phone: Actor, number: int = 1) -> TaskId:
    """The user of a phone asks."""
    task = phone.task(number)
    phone.sees(SubmitTask(number, "why?"), Trace(TaskSubmitted(task, number, None, 0.0, 4)))
    return task


def end(task: TaskId, reason: Reason | None = Reason.DEADLINE, attempts: int = 1) -> Trace:
    """The record of a task's end."""
    return Trace(TaskEnded(task, reason, None, None, 0, attempts))


def result(number: int = 1) -> Reply:
    """The reply to a task's command."""
    return Reply(number, TaskResult("", 0, None, None))


def test_a_task_ends_once_with_its_reply(office: Office) -> None:
    phone = office.phone
    task = submitted(phone)
    with breach("one end", "phone-0 ends task .* without a reply to command 1"):
        phone.sees(NEWS, end(task))
    task = submitted(phone, 2)
    phone.sees(NEWS, result(2), end(task))
    with breach("one end", "phone-0 ends task .*, which is not open"):
        phone.sees(NEWS, end(task))


def test_a_reply_ends_its_task(stage: Stage, office: Office) -> None:
    submitted(office.phone)
    office.phone.sees(NEWS, result())
    stage.wait(1)
    with breach("one end", "phone-0 replied to command 1 and did not end its task"):
        office.phone.sees(NEWS)


def test_a_task_is_answered_by_its_deadline(stage: Stage, office: Office) -> None:
    submitted(office.phone)
    stage.wait(129)
    office.phone.sees(NEWS)
    stage.wait(2)
    with breach("one reply", "phone-0 has not replied to SubmitTask 1, which is overdue"):
        office.phone.sees(NEWS)


def test_done_is_said_of_what_was_done(office: Office) -> None:
    phone = office.phone
    task = submitted(phone)
    with breach("requests are answered once", "phone-0 says task .* is done, but neither its engine nor anybody"):
        phone.sees(NEWS, result(), end(task, None))
    task = submitted(phone, 2)
    run = phone.runs(task)
    phone.sees(NEWS, run)
    phone.sees(TaskDone(run.op, 3), result(2), end(task, None))


def test_a_task_is_not_tried_for_ever(office: Office) -> None:
    task = submitted(office.phone)
    with breach("one end", "phone-0 tried task .* 5 times; task_attempts_max is 4"):
        office.phone.sees(NEWS, result(), end(task, attempts=5))


def test_a_task_that_ends_is_withdrawn(office: Office) -> None:
    phone, agent, link = office.phone, office.agent, office.radio
    phone.hears(link, agent, agent.capabilities())
    task = submitted(phone)
    phone.sees(NEWS, phone.sends(link, request(task)))
    with breach("asked one at a time", f"phone-0 ended task .* and did not tell who works on it over link {link}"):
        phone.sees(NEWS, result(), end(task))
    task = submitted(phone, 2)
    phone.sees(NEWS, phone.sends(link, request(task)))
    cancel = phone.sends(link, Cancel(task_id=task, reason=Reason.DEADLINE))
    phone.sees(NEWS, cancel, result(2), end(task))


@pytest.mark.parametrize("before", ["nothing", "cancel", "refusal", "failure", "link down"])
def test_a_task_is_at_one_node_at_a_time(office: Office, before: str) -> None:
    phone, agent, link = office.phone, office.agent, office.radio
    phone.hears(link, agent, agent.capabilities())
    task = submitted(phone)
    phone.sees(NEWS, phone.sends(link, request(task)))
    match before:
        case "cancel":
            phone.sees(NEWS, phone.sends(link, Cancel(task_id=task, reason=Reason.NO_ANSWER)))
        case "refusal":
            phone.hears(link, agent, response(task, REFUSED, reason=Reason.BUSY))
        case "failure":
            phone.hears(link, agent, response(task, FAILED, 1, reason=Reason.DRAINED))
        case "link down":
            phone.sees(LinkDown(link))
    again = phone.sends(office.to_phone, request(task))
    if before == "nothing":
        with breach("asked one at a time", f"over link {office.to_phone} while it is open over link {link}"):
            phone.sees(NEWS, again)
    else:
        phone.sees(NEWS, again)


# -- tasks of others ---------------------------------------------------------------------------------------------------


def asked(office: Office, number: int = 1) -> TaskId:
    """The agent is asked by the phone."""
    task = office.phone.task(number)
    office.agent.hears(office.radio, office.phone, request(task))
    return task


def answers(office: Office, task: TaskId, status: ResponseStatus, index: int = 0, **fields: Any) -> Send:
    """The agent's answer."""
    return office.agent.sends(office.radio, response(task, status, index, **fields))


def test_a_right_answer_passes(stage: Stage, office: Office) -> None:
    agent, task = office.agent, asked(office)
    run = agent.runs(task)
    agent.sees(NEWS, answers(office, task, ACCEPTED), run, agent.changes(Load.of(1)))
    agent.sees(TaskChunk(run.op, "be", 1), answers(office, task, CHUNK, 1))
    agent.sees(TaskDone(run.op, 1), answers(office, task, DONE, 2), agent.changes())
    stage.wait(100)
    with breach("requests are answered once", "agent-0 answers done to task .* where it is not open"):
        agent.sees(NEWS, answers(office, task, DONE, 3))


def test_nobody_answers_who_was_not_asked(office: Office) -> None:
    with breach("requests are answered once", "agent-0 answers refused to task"):
        office.agent.sees(NEWS, answers(office, office.phone.task(), REFUSED))


@pytest.mark.parametrize(
    ("first", "then", "why"),
    [
        ((CHUNK, 0), None, "answers chunk to task .* without having accepted it"),
        ((DONE, 0), None, "answers done to task .* without having accepted it"),
        ((ACCEPTED, 1), None, "numbers a response to task .* 1; the next is 0"),
        ((ACCEPTED, 0), (CHUNK, 0), "numbers a response to task .* 0; the next is 1"),
        ((ACCEPTED, 0), (REFUSED, 0), "refuses task .* after it was accepted"),
        ((ACCEPTED, 0), (DONE, 1), "says task .* is done, but neither its engine"),
    ],
)
def test_answers_keep_their_order(
    office: Office, first: tuple[ResponseStatus, int], then: tuple[ResponseStatus, int] | None, why: str
) -> None:
    task = asked(office)
    if then is not None:
        office.agent.sees(NEWS, answers(office, task, *first))
        first = then
    with breach("requests are answered once", "agent-0", why):
        office.agent.sees(NEWS, answers(office, task, *first, reason=Reason.BUSY))


@pytest.mark.parametrize(
    ("indices", "why"),
    [
        ((0, 2, 5), None),
        ((3,), None),
        ((0, 2, 1), "numbers a response to task .* 1; the next is 3"),
        ((0, 2, 2), "numbers a response to task .* 2; the next is 3"),
    ],
)
def test_a_coordinator_leaves_out_what_was_lost_and_goes_never_back(
    office: Office, indices: tuple[int, ...], why: str | None
) -> None:
    phone, agent, hub = office.phone, office.agent, office.hub
    office.beat(agent, office.to_agent)
    task = phone.task()
    hub.hears(office.to_phone, phone, request(task), relay(office))
    *before, last = [
        hub.sends(office.to_phone, response(task, CHUNK if index else ACCEPTED, index)) for index in indices
    ]
    hub.sees(NEWS, *before)
    if why is None:
        hub.sees(NEWS, last)
    else:
        with breach("requests are answered once", "hub-0", why):
            hub.sees(NEWS, last)


def test_a_repeated_request_is_refused_beside_the_first(office: Office) -> None:
    task = asked(office)
    office.agent.sees(NEWS, answers(office, task, ACCEPTED))
    asked(office)
    office.agent.sees(NEWS, answers(office, task, REFUSED, reason=Reason.DUPLICATE))
    office.agent.sees(NEWS, answers(office, task, FAILED, 1, reason=Reason.DEADLINE))


def test_every_request_is_answered(stage: Stage, office: Office) -> None:
    task = asked(office)
    office.agent.sees(NEWS, answers(office, task, ACCEPTED))
    stage.wait(21)
    with breach("requests are answered once", f"agent-0 has not ended task {task.hex()}", "in time"):
        office.agent.sees(NEWS)


@pytest.mark.parametrize("misfortune", ["link down", "restart"])
def test_nobody_is_answered_who_is_gone(stage: Stage, office: Office, misfortune: str) -> None:
    asked(office)
    if misfortune == "link down":
        office.agent.sees(LinkDown(office.radio))
    else:
        office.agent.sees(Started({}))
    stage.wait(30)
    stage.finish()


def test_a_cancelled_task_ends_soon(stage: Stage, office: Office) -> None:
    task = office.phone.task()
    office.agent.hears(office.radio, office.phone, request(task, deadline_ms=600_000))
    office.agent.sees(NEWS, answers(office, task, ACCEPTED))
    office.agent.hears(office.radio, office.phone, Cancel(task_id=task, reason=Reason.CANCELLED))
    stage.wait(11)
    with breach("requests are answered once", "agent-0 has not ended task"):
        office.agent.sees(NEWS)


def test_a_task_runs_once(office: Office) -> None:
    agent = office.agent
    task = asked(office)
    run = agent.runs(task)
    agent.sees(NEWS, run)
    with breach("tasks run once", "agent-0 runs task .* twice at once"):
        agent.sees(NEWS, agent.runs(task))
    agent.sees(TaskFailed(run.op, Reason.DRAINED))
    again = agent.runs(task)
    agent.sees(NEWS, again)
    agent.sees(TaskDone(again.op, 1))
    with breach("tasks run once", "agent-0 runs task .* again, which it has done"):
        agent.sees(NEWS, agent.runs(task))


def test_a_task_runs_in_one_place(stage: Stage, office: Office) -> None:
    agent, phone = office.agent, office.phone
    task = phone.task()
    agent.sees(NEWS, agent.runs(task))
    with breach("tasks run once", "phone-0 runs task .*, which still runs on agent-0: nobody was told to stop it"):
        phone.sees(NEWS, phone.runs(task))
    stage.wait(0.1)
    phone.sees(NEWS, phone.sends(office.radio, Cancel(task_id=task, reason=Reason.NO_ANSWER)))
    phone.sees(NEWS, phone.runs(task))


def test_a_lost_link_calls_off_what_was_asked_over_it(stage: Stage, office: Office) -> None:
    agent, phone = office.agent, office.phone
    other = stage.link(phone, stage.actor("phone-1"))
    task = phone.task()
    phone.hears(office.radio, agent, agent.capabilities())
    phone.sees(SubmitTask(1, "why?"), Trace(TaskSubmitted(task, 1, None, 0.0, 4)))
    phone.sees(NEWS, phone.sends(office.radio, request(task)))
    agent.sees(NEWS, agent.runs(task))
    stage.wait(0.1)
    phone.sees(LinkDown(other))
    with breach("tasks run once", "phone-0 runs task .*, which still runs on agent-0: nobody was told to stop it"):
        phone.sees(NEWS, phone.runs(task))
    phone.sees(LinkDown(office.radio), phone.runs(task))


def test_a_task_needs_a_slot_and_a_model(stage: Stage, office: Office) -> None:
    agent = office.agent
    agent.sees(NEWS, agent.runs(agent.task(1)), agent.runs(agent.task(2)))
    with breach("tasks run once", "agent-0 runs task .* beside 2 others: it has 2 slots"):
        agent.sees(NEWS, agent.runs(agent.task(3)))
    empty = stage.actor("agent-1")
    with breach("tasks run once", "agent-1 runs task .* without a model"):
        empty.sees(NEWS, empty.runs(empty.task()))


# -- relays ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def relayed(office: Office) -> TaskId:
    """The phone asks the coordinator, which asks the agent, which accepts."""
    office.beat(office.agent, office.to_agent)
    task = office.phone.task()
    office.hub.hears(office.to_phone, office.phone, request(task), relay(office))
    office.hub.hears(office.to_agent, office.agent, response(task, ACCEPTED), back(office, task, ACCEPTED))
    return task


def back(office: Office, task: TaskId, status: ResponseStatus, index: int = 0) -> Send:
    """The coordinator passes an answer back."""
    return office.hub.sends(office.to_phone, response(task, status, index))


def test_a_right_relay_passes(stage: Stage, office: Office, relayed: TaskId) -> None:
    done = response(relayed, DONE, 1)
    office.hub.hears(office.to_agent, office.agent, done, back(office, relayed, DONE, 1))
    stage.wait(1)
    stage.finish()


def test_the_end_is_passed_back(stage: Stage, office: Office, relayed: TaskId) -> None:
    office.hub.hears(office.to_agent, office.agent, response(relayed, FAILED, 1))
    stage.wait(0.001)
    with breach("requests are answered once", "hub-0 has not ended task"):
        office.hub.sees(NEWS)


def test_a_relay_does_not_make_up_an_end(office: Office, relayed: TaskId) -> None:
    with breach("requests are answered once", "hub-0 says task .* is done, but neither"):
        office.hub.sees(NEWS, back(office, relayed, DONE, 1))


def test_a_cancellation_is_passed_on(stage: Stage, office: Office, relayed: TaskId) -> None:
    cancel = Cancel(task_id=relayed, reason=Reason.CANCELLED)
    office.hub.hears(office.to_phone, office.phone, cancel)
    stage.wait(0.001)
    with breach("requests are answered once", "hub-0 was told to cancel task .* and did not tell"):
        office.hub.sees(NEWS)


def test_a_cancellation_that_is_passed_on_passes(stage: Stage, office: Office, relayed: TaskId) -> None:
    cancel = Cancel(task_id=relayed, reason=Reason.CANCELLED)
    office.hub.hears(office.to_phone, office.phone, cancel, office.hub.sends(office.to_agent, cancel))
    stage.wait(12)
    stage.finish()


# -- bounds ------------------------------------------------------------------------------------------------------------


def learn(kind: str, number: int) -> Trace:
    """A coordinator or a phone learns of somebody."""
    who = bytes([number]) * 32
    return Trace(
        {
            "peers": PeerLearned(who, 1, loading=False, medium=Medium.BLE),
            "agents": AgentLearned(who, 1, None, loading=False),
            "summaries": SummaryLearned(who, 1, 1),
        }[kind]
    )


def forget(kind: str, number: int) -> Trace:
    """And forgets him."""
    who = bytes([number]) * 32
    return Trace({"peers": PeerForgotten, "agents": AgentExpired, "summaries": SummaryExpired}[kind](who))


@pytest.mark.parametrize(
    ("kind", "bound"), [("peers", "peers_max"), ("agents", "agents_max"), ("summaries", "coordinators_max")]
)
def test_what_is_remembered_is_bounded(stage: Stage, kind: str, bound: str) -> None:
    actor = stage.actor("node", Role.COORDINATOR, start=True, **{bound: 2})
    actor.sees(NEWS, *(learn(kind, number) for number in (1, 2, 1)), forget(kind, 1), learn(kind, 3))
    with breach("bounds", f"node has 3 {kind}; {bound} is 2"):
        actor.sees(NEWS, learn(kind, 4))


def test_links_are_bounded(stage: Stage) -> None:
    actor = stage.actor("node", links_max=2)
    actor.sees(NEWS, actor.sends(1, actor.identity()), actor.sends(2, actor.identity()))
    with breach("bounds", "node has 3 links; links_max is 2"):
        actor.sees(NEWS, actor.sends(3, actor.identity()))


def test_the_queue_is_bounded(stage: Stage) -> None:
    actor = stage.actor("node", slots=1, task_queue_max=2)
    actor.sees(NEWS, actor.changes(Load.of(3)))
    with breach("bounds", "node has 4 accepted tasks; slots . task_queue_max is 3"):
        actor.sees(NEWS, actor.changes(Load.of(4)))


def test_own_tasks_and_relays_are_bounded(stage: Stage, office: Office) -> None:
    actor = stage.actor("node", origin_tasks_max=1)
    submitted(actor)
    with breach("one end", "node has 2 open tasks of its user; origin_tasks_max is 1"):
        submitted(actor, 2)
    hub = stage.actor("hub-2", Role.COORDINATOR, relayed_tasks_max=1)
    link = stage.link(hub, office.agent)
    hub.hears(link, office.agent, office.agent.heartbeat())
    hub.sees(NEWS, hub.sends(link, request(actor.task(1))))
    with breach("asked one at a time", "hub-2 carries 2 tasks; relayed_tasks_max is 1"):
        hub.sees(NEWS, hub.sends(link, request(actor.task(2))))


def test_prompts_are_bounded_in_bytes(stage: Stage) -> None:
    a, b = stage.actor("a", prompt_bytes_max=8), stage.actor("b")
    link = stage.link(a, b)
    a.hears(link, b, b.capabilities(active_model="small"))
    with breach("bounds", "a has 9 bytes in a prompt; prompt_bytes_max is 8"):
        a.sees(NEWS, a.sends(link, request(a.task(), prompt="µµµµx")))


def test_the_load_is_advertised(stage: Stage, office: Office) -> None:
    agent = office.agent
    agent.sees(NEWS, agent.runs(agent.task()))
    stage.wait(10)
    agent.sees(NEWS)
    stage.wait(2)
    with breach("load is advertised", "agent-0 still advertises 0 tasks of generation .*; it runs 1"):
        agent.sees(NEWS)


def test_a_load_that_was_advertised_passes(stage: Stage, office: Office) -> None:
    agent = office.agent
    run = agent.runs(agent.task())
    agent.sees(NEWS, run, agent.changes(Load.of(1)))
    stage.wait(5)
    agent.sees(TaskDone(run.op, 1))
    stage.wait(1)
    agent.sees(NEWS, agent.changes())
    stage.wait(100)
    agent.sees(NEWS)
