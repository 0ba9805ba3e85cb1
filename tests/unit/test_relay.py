"""Relaying tasks: the next agent on a refusal, one other coordinator at most, one run, and every way to end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgecoder.config import NodeConfig
from edgecoder.coordinator.relay import RELAY_TABLE, Relays, RelayState, RelayStep
from edgecoder.core.effects import RunTask
from edgecoder.core.events import CancelTask
from edgecoder.core.ids import Medium, Role
from edgecoder.errors import Reason
from edgecoder.mesh.router import Why
from edgecoder.protocol import RESPONSE_INDEX_MAX
from edgecoder.trace import TaskRouted
from edgecoder.wire.messages import (
    Cancel,
    Load,
    ResponseStatus,
    TaskRequest,
    TaskResponse,
)
from tests.catalogs import LARGE, SMALL
from tests.harness import Cluster
from tests.hosts import HANGS, Outcome, fails
from tests.invariants import assert_nothing_left
from tests.office import Office
from tests.steps import ids, missing, watch
from tests.strategies import TASK_ID, full_heartbeat, task_request

ACCEPTED, CHUNK, DONE, REFUSED, FAILED = ResponseStatus


@pytest.fixture
def office(cluster: Cluster) -> Office:
    """The coordinator, and nobody who could answer."""
    return Office(cluster)


def test_a_task_goes_to_the_cheapest_agent_and_its_answer_back(office: Office) -> None:
    busy, idle = office.agent("busy", load=1), office.agent("idle")
    office.ask(prompt="p", deadline_ms=9_000)
    assert not busy.all(TaskRequest)
    request = idle.last(TaskRequest)
    assert (request.task_id, request.prompt, request.hops) == (TASK_ID, "p", 1)
    assert request.deadline_ms <= 9_000
    office.say(idle, ACCEPTED, 0, served_by=idle.node_id, model="small")
    office.say(idle, CHUNK, 1, text="a", tokens=1)
    office.say(idle, DONE, 2, tokens=1, served_by=idle.node_id, model="small")
    assert [(answer.status, answer.index) for answer in office.answers] == [(ACCEPTED, 0), (CHUNK, 1), (DONE, 2)]
    assert office.answers[-1].served_by == idle.node_id
    assert len(office.hub.hub.relays) == 0


def test_the_deadline_that_is_passed_on_is_what_is_left(office: Office) -> None:
    first, second = office.agent("first"), office.agent("second", load=1)
    office.ask(deadline_ms=5_000)
    assert first.all(TaskRequest)
    office.cluster.run_for(1_000)
    office.say(first, REFUSED, 0, reason=Reason.BUSY)
    assert second.last(TaskRequest).deadline_ms < 4_000


def test_whoever_asks_is_not_asked_back(office: Office) -> None:
    office.asker.say(office.links["asker"], full_heartbeat())
    office.ask()
    assert office.asker.all(TaskRequest) == []
    assert office.answers[-1].reason is Reason.NO_ROUTE


def test_the_next_agent_is_tried_on_a_refusal(office: Office) -> None:
    first, second = office.agent("first"), office.agent("second", load=1)
    office.ask()
    office.say(first, REFUSED, 0, reason=Reason.LOADING)
    assert second.all(TaskRequest)
    assert office.answers == [], "a refusal is not passed back while somebody else can take it"


def test_the_next_agent_is_tried_when_one_is_lost(office: Office) -> None:
    first, second = office.agent("first"), office.agent("second", load=1)
    office.ask()
    office.cluster.unlink(office.links["first"])
    office.cluster.run_for(15)
    assert second.all(TaskRequest)
    assert not first.all(Cancel)


def test_the_next_agent_is_tried_when_one_does_not_answer(office: Office) -> None:
    silent, second = office.agent("silent"), office.agent("second", load=1)
    office.ask()
    office.cluster.run_for(office.hub.setup.config.relay_answer_ms + 15)
    assert silent.last(Cancel).reason is Reason.NO_ANSWER
    assert second.all(TaskRequest)
    assert office.hub.hub.registry.rows[silent.node_id].stats.failed == 1


def test_an_agent_that_accepted_may_take_its_time(office: Office) -> None:
    agent = office.agent("agent")
    office.ask()
    office.say(agent, ACCEPTED, 0)
    office.cluster.run_for(10 * office.hub.setup.config.relay_answer_ms)
    office.say(agent, DONE, 1)
    assert office.answers[-1].status is DONE


def test_an_agent_that_is_lost_after_it_accepted_ends_the_task(office: Office) -> None:
    first, second = office.agent("first"), office.agent("second", load=1)
    office.ask()
    office.say(first, ACCEPTED, 0)
    office.cluster.unlink(office.links["first"])
    office.cluster.run_for(15)
    last = office.answers[-1]
    assert (last.status, last.reason, last.index) == (FAILED, Reason.PEER_LOST, 1)
    assert not second.all(TaskRequest)


def test_a_failure_is_passed_back_and_held_against_the_agent(office: Office) -> None:
    agent = office.agent("agent")
    office.ask()
    office.say(agent, ACCEPTED, 0)
    office.say(agent, FAILED, 1, reason=Reason.ENGINE_CRASHED)
    assert (office.answers[-1].status, office.answers[-1].reason) == (FAILED, Reason.ENGINE_CRASHED)
    stats = office.hub.hub.registry.rows[agent.node_id].stats
    assert (stats.succeeded, stats.failed) == (1, 1)


def test_a_failure_that_is_not_its_fault_is_not_held_against_it(office: Office) -> None:
    agent = office.agent("agent")
    office.ask()
    office.say(agent, ACCEPTED, 0)
    office.say(agent, FAILED, 1, reason=Reason.DRAINED)
    assert office.hub.hub.registry.rows[agent.node_id].stats.failed == 0


def test_a_response_that_was_lost_on_the_way_leaves_a_gap(office: Office) -> None:
    """The origin sees by the index that the answer is not whole; a coordinator that numbered anew would hide it."""
    agent = office.agent("agent")
    office.ask()
    office.say(agent, ACCEPTED, 0)
    office.say(agent, CHUNK, 2, text="b", tokens=1)
    assert [answer.index for answer in office.answers] == [0, 2]


def test_the_last_index_has_no_successor(office: Office) -> None:
    agent = office.agent("agent")
    office.ask()
    office.say(agent, ACCEPTED, RESPONSE_INDEX_MAX)
    office.cluster.unlink(office.links["agent"])
    office.cluster.run_for(15)
    assert (office.answers[-1].status, office.answers[-1].index) == (FAILED, RESPONSE_INDEX_MAX)


def test_only_who_was_asked_answers(office: Office) -> None:
    office.agent("first")
    second = office.agent("second", load=1)
    office.ask()
    office.say(second, ACCEPTED, 0)
    assert office.answers == []


def test_a_loading_agent_is_not_asked(office: Office) -> None:
    agent = office.join(office.cluster.puppet("agent", Role.AGENT))
    agent.say(office.links["agent"], full_heartbeat(load=Load.LOADING))
    office.ask()
    assert not agent.all(TaskRequest)
    assert office.answers[-1].reason is Reason.NO_ROUTE


def test_nobody_fits(office: Office) -> None:
    office.agent("agent")
    office.ask(model="large")
    (refused,) = office.answers
    assert (refused.status, refused.reason, refused.index) == (REFUSED, Reason.NO_ROUTE, 0)
    (routed,) = office.hub.traced(TaskRouted)
    assert (routed.to, routed.why) == (None, Why.NOBODY.value)
    assert routed.excluded[Why.WRONG_MODEL.value] == 1


def test_agents_are_tried_so_often_and_no_more(cluster: Cluster) -> None:
    office = Office(cluster, task_attempts_max=2)
    agents = [office.agent(f"agent {number}", load=number) for number in range(3)]
    office.ask()
    for agent in agents[:2]:
        office.say(agent, REFUSED, 0, reason=Reason.BUSY)
    assert not agents[2].all(TaskRequest)
    assert (office.answers[-1].status, office.answers[-1].reason) == (REFUSED, Reason.NO_ROUTE)


# -- other coordinators ------------------------------------------------------------------------------------------------


def test_a_task_that_none_here_can_take_goes_to_another_coordinator(office: Office) -> None:
    has_it, other_model = office.coordinator("has it"), office.coordinator("other model", free=50, model="tiny")
    office.ask(model="small-coder:1.5b")
    assert has_it.last(TaskRequest).hops == 1
    assert not other_model.all(TaskRequest)
    assert office.hub.traced(TaskRouted)[-1].why == Why.FORWARDED.value


def test_own_agents_come_first(office: Office) -> None:
    other, agent = office.coordinator("other", free=50), office.agent("agent", load=7)
    office.ask()
    assert agent.all(TaskRequest)
    assert not other.all(TaskRequest)


def test_the_next_coordinator_is_asked_where_one_refuses(office: Office) -> None:
    hubs = [office.coordinator("one"), office.coordinator("another")]
    office.ask()
    (asked,) = [hub for hub in hubs if hub.all(TaskRequest)]
    office.say(asked, REFUSED, 0, reason=Reason.NO_ROUTE)
    assert all(len(hub.all(TaskRequest)) == 1 for hub in hubs)


def test_what_another_coordinator_passed_on_is_not_passed_on_again(office: Office) -> None:
    far, third = office.coordinator("far", free=1), office.coordinator("third", free=5)
    far.say(office.links["far"], task_request(hops=1))
    office.cluster.run_for(25)
    assert not third.all(TaskRequest)
    assert far.last(TaskResponse).reason is Reason.NO_ROUTE


def test_a_coordinator_that_hides_its_hops_is_not_believed(office: Office) -> None:
    far, third = office.coordinator("far", free=1), office.coordinator("third", free=5)
    far.say(office.links["far"], task_request(hops=0))
    office.cluster.run_for(25)
    assert not third.all(TaskRequest)


def test_an_expired_summary_draws_no_task(office: Office) -> None:
    other = office.coordinator("other")
    office.cluster.run_for(61_000)
    office.ask()
    assert not other.all(TaskRequest)


@pytest.mark.parametrize("encoded", [False, True])
def test_a_task_crosses_two_coordinators_and_runs_once(encoded: bool) -> None:
    cluster = Cluster(encoded=encoded)
    home, away = (cluster.add(name, Role.COORDINATOR) for name in ("home", "away"))
    phone = cluster.add("phone")
    agent = cluster.add("agent", Role.AGENT, config=NodeConfig(has_radio=False), installed=[LARGE], active=LARGE)
    cluster.drive()
    cluster.link(phone, home)
    cluster.link(agent, away)
    cluster.drive()
    cluster.link(home, away, Medium.WAN)
    cluster.drive()
    command = phone.submit(model="large-coder:7b")
    cluster.drive()
    result = phone.task(command)
    assert (result.text, result.served_by, result.model) == ("one two three", agent.node_id, "large")
    assert len(agent.did(RunTask)) == 1
    assert [request.hops for request in cluster.sent(TaskRequest)] == [0, 1, 2]
    assert len(home.hub.relays) == len(away.hub.relays) == 0


# -- ends --------------------------------------------------------------------------------------------------------------


def test_who_asked_may_cancel(office: Office) -> None:
    agent = office.agent("agent")
    office.ask()
    office.say(agent, ACCEPTED, 0)
    office.asker.say(office.links["asker"], Cancel(task_id=TASK_ID, reason=Reason.CANCELLED))
    office.cluster.run_for(25)
    assert agent.last(Cancel).reason is Reason.CANCELLED
    assert len(office.hub.hub.relays) == 0
    office.say(agent, FAILED, 1, reason=Reason.CANCELLED)
    assert len(office.answers) == 1


def test_a_task_that_was_cancelled_is_not_held_against_who_had_it(office: Office) -> None:
    agent = office.agent("agent")
    office.ask()
    office.asker.say(office.links["asker"], Cancel(task_id=TASK_ID, reason=Reason.CANCELLED))
    office.cluster.run_for(office.hub.setup.config.relay_answer_ms + 25)
    assert len(agent.all(Cancel)) == 1
    assert office.hub.hub.registry.rows[agent.node_id].stats.failed == 0
    assert_nothing_left(office.hub.alive)


def test_nobody_else_may_cancel(office: Office) -> None:
    agent = office.agent("agent")
    office.ask()
    agent.say(office.links["agent"], Cancel(task_id=TASK_ID, reason=Reason.CANCELLED))
    office.cluster.run_for(25)
    assert len(office.hub.hub.relays) == 1


def test_nobody_works_for_an_asker_that_is_gone(office: Office) -> None:
    agent = office.agent("agent")
    office.ask()
    office.cluster.unlink(office.links["asker"])
    office.cluster.run_for(15)
    assert agent.last(Cancel).reason is Reason.PEER_LOST
    assert len(office.hub.hub.relays) == 0


@pytest.mark.parametrize("accepted", [False, True])
def test_the_deadline_ends_a_relayed_task(accepted: bool, office: Office) -> None:
    agent = office.agent("agent")
    office.ask(deadline_ms=1_000)
    if accepted:
        office.say(agent, ACCEPTED, 0)
    office.cluster.run_for(1_050)
    assert (office.answers[-1].status, office.answers[-1].reason) == (FAILED, Reason.DEADLINE)
    assert agent.last(Cancel).reason is Reason.DEADLINE
    assert len(office.hub.hub.relays) == 0


def test_a_task_that_is_open_is_not_taken_twice(office: Office) -> None:
    agent = office.agent("agent")
    office.ask()
    office.ask()
    assert len(agent.all(TaskRequest)) == 1
    assert [(answer.status, answer.reason) for answer in office.answers] == [(REFUSED, Reason.DUPLICATE)]


def test_relayed_tasks_are_bounded(cluster: Cluster) -> None:
    office = Office(cluster, relayed_tasks_max=1)
    office.agent("agent")
    office.ask()
    office.ask(task_id=b"another" + bytes(9))
    assert [(answer.status, answer.reason) for answer in office.answers] == [(REFUSED, Reason.BUSY)]


@pytest.mark.parametrize("deadline_ms", [0, 1, (1 << 63) - 1])
def test_any_deadline_can_be_passed_on(deadline_ms: int, both: Cluster) -> None:
    """A deadline that no envelope can carry must not make the agent look dead."""
    office = Office(both)
    agent = office.agent("agent")
    office.ask(deadline_ms=deadline_ms)
    assert len(agent.all(TaskRequest)) == 1


def test_a_whole_life_through_one_coordinator(both: Cluster) -> None:
    hub, phone = both.add("hub", Role.COORDINATOR), both.add("phone")
    agents = [both.add(name, Role.AGENT, installed=[SMALL], active=SMALL) for name in ("a", "b")]
    for node in (phone, *agents):
        both.link(node, hub)
    both.drive()
    agents[0].plan(RunTask, fails(Reason.ENGINE_CRASHED), HANGS)
    agents[1].plan(RunTask, fails(Reason.ENGINE_CRASHED), Outcome(after_us=200_000))
    commands = [phone.submit() for _ in range(3)]
    both.run_for(400)
    (hanging,) = [command for command in commands if command not in phone.replies]
    phone.ask(CancelTask, task=hanging)
    both.drive()
    assert all(command in phone.replies for command in commands)
    assert phone.task(hanging).reason is Reason.CANCELLED
    both.run_for(130_000)
    assert all(agent.member.executor.tasks == 0 for agent in agents)
    for node in (hub, phone, *agents):
        assert_nothing_left(node.alive)


# -- the table ---------------------------------------------------------------------------------------------------------

S, T = RelayState, RelayStep


def routed(office: Office) -> None:
    office.agent("agent")
    office.ask()


def answering(office: Office) -> None:
    agent = office.agent("agent")
    office.ask()
    office.say(agent, ACCEPTED, 0)
    office.say(agent, CHUNK, 1)


def finished(office: Office) -> None:
    agent = office.agent("agent")
    office.ask()
    office.say(agent, ACCEPTED, 0)
    office.say(agent, DONE, 1)


def refused(office: Office) -> None:
    agent = office.agent("agent")
    office.ask()
    office.say(agent, REFUSED, 0, reason=Reason.BUSY)


def lost(office: Office) -> None:
    routed(office)
    office.cluster.unlink(office.links["agent"])


def lost_in_the_middle(office: Office) -> None:
    answering(office)
    office.cluster.unlink(office.links["agent"])


def given_up(office: Office) -> None:
    routed(office)
    office.cluster.unlink(office.links["asker"])


def given_up_in_the_middle(office: Office) -> None:
    answering(office)
    office.cluster.unlink(office.links["asker"])


ROWS: dict[tuple[RelayState, RelayStep], tuple[RelayState, Callable[[Office], None]]] = {
    (S.ROUTING, T.ROUTED): (S.ASKED, routed),
    (S.ROUTING, T.NOBODY): (S.ENDED, lambda office: office.ask()),
    (S.ASKED, T.ANSWERED): (S.ANSWERING, answering),
    (S.ASKED, T.REFUSED): (S.ROUTING, refused),
    (S.ASKED, T.LOST): (S.ROUTING, lost),
    (S.ASKED, T.GIVEN_UP): (S.ENDED, given_up),
    (S.ANSWERING, T.ANSWERED): (S.ANSWERING, answering),
    (S.ANSWERING, T.LOST): (S.ENDED, lost_in_the_middle),
    (S.ANSWERING, T.FINISHED): (S.ENDED, finished),
    (S.ANSWERING, T.GIVEN_UP): (S.ENDED, given_up_in_the_middle),
}


@pytest.mark.parametrize("row", RELAY_TABLE, ids=ids)
def test_row(row: tuple[RelayState, RelayStep], office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    following, scenario = ROWS[row]
    assert RELAY_TABLE[row] is following
    steps = watch(monkeypatch, Relays, RelayState, RelayStep)
    scenario(office)
    assert steps.following(*row) == {following}


@pytest.mark.parametrize("pair", missing(RELAY_TABLE, RelayState, RelayStep), ids=ids)
def test_without_a_row_nothing_changes(pair: tuple[RelayState, RelayStep], office: Office) -> None:
    routed(office)
    relays, out = office.hub.hub.relays, office.hub.alive.context.out
    (relay,) = relays._open.values()
    relay.state = pair[0]
    out.clear()
    assert not relays._step(relay, pair[1])
    assert (relay.state, out) == (pair[0], [])
