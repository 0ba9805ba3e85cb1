"""What one coordinator hands to another runs at most once there, whatever is lost, repeated or late on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgecoder.config import NodeConfig
from edgecoder.core.effects import RunTask
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.wire.messages import Cancel, Message, ResponseStatus, TaskRequest, TaskResponse
from tests.catalogs import SMALL
from tests.harness import Cluster
from tests.hosts import Outcome
from tests.strategies import TASK_ID, examples, task_request

AGENTS = 3
LOSSES = st.lists(st.tuples(st.sampled_from([TaskRequest, TaskResponse, Cancel]), st.integers(1, 3)), max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.just(0)),
        st.tuples(st.just("cancel"), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([5, 50, 400, 2_100, 30_000])),
        st.tuples(st.just("lose a link"), st.integers(0, AGENTS - 1)),
    ),
    min_size=1,
    max_size=12,
)


@examples(4)
@given(STEPS, LOSSES, st.integers(0, 3_000))
def test_a_forwarded_task_runs_at_most_once(
    steps: list[tuple[str, int]], losses: list[tuple[type[Message], int]], work_ms: int
) -> None:
    cluster = Cluster()
    away, home = cluster.add("away", Role.COORDINATOR), cluster.puppet("home", Role.COORDINATOR)
    config = NodeConfig(has_radio=False)
    agents = [
        cluster.add(f"agent-{number}", Role.AGENT, config=config, installed=[SMALL], active=SMALL)
        for number in range(AGENTS)
    ]
    links = [cluster.link(agent, away) for agent in agents]
    cluster.drive()
    for agent in agents:
        agent.plan(RunTask, *[Outcome(after_us=work_ms * 1000)] * 4)
    to_home = cluster.link(home, away)
    cluster.run_for(25)
    for kind, times in losses:
        cluster.drop(kind, times)
    for what, value in steps:
        match what:
            case "ask":
                home.say(to_home, task_request(hops=1, deadline_ms=20_000))
            case "cancel":
                home.say(to_home, Cancel(task_id=TASK_ID, reason=Reason.NO_ANSWER))
            case "lose a link" if links[value] in cluster.cables:
                cluster.unlink(links[value])
            case "wait":
                cluster.run_for(value)
    cluster.run_for(60_000)
    runs = sum(len(agent.did(RunTask)) for agent in agents)
    assert runs <= 1
    done = [answer for answer in home.all(TaskResponse) if answer.status is ResponseStatus.DONE]
    assert len(done) <= runs
    assert len(away.hub.relays) == 0


def test_one_that_ended_unanswered_may_be_handed_over_again() -> None:
    cluster = Cluster()
    away, home = cluster.add("away", Role.COORDINATOR), cluster.puppet("home", Role.COORDINATOR)
    agent = cluster.add("agent", Role.AGENT, config=NodeConfig(has_radio=False), installed=[SMALL], active=SMALL)
    cluster.link(agent, away)
    cluster.drive()
    link = cluster.link(home, away)
    cluster.run_for(25)
    agent.plan(RunTask, Outcome(reason=Reason.OUT_OF_MEMORY))
    for _ in range(3):
        home.say(link, task_request(hops=1))
        cluster.run_for(1_000)
    ends = [answer for answer in home.all(TaskResponse) if answer.status is not ResponseStatus.CHUNK]
    assert [(answer.status, answer.reason) for answer in ends if answer.status is not ResponseStatus.ACCEPTED] == [
        (ResponseStatus.FAILED, Reason.OUT_OF_MEMORY),
        (ResponseStatus.DONE, None),
        (ResponseStatus.REFUSED, Reason.DUPLICATE),
    ]
    assert len(agent.did(RunTask)) == 2


ASKS = st.lists(
    st.one_of(
        st.just(("ask", 0)),
        st.just(("cancel", 0)),
        st.tuples(st.just("wait"), st.sampled_from([5, 50, 400, 2_100, 30_000])),
        st.tuples(st.just("lose an agent"), st.integers(0, AGENTS - 1)),
        st.tuples(st.just("lose a coordinator"), st.integers(0, AGENTS - 1)),
    ),
    min_size=1,
    max_size=12,
)


@examples(4)
@given(ASKS, LOSSES, st.integers(0, 3_000))
def test_of_several_coordinators_one_runs_a_task(
    steps: list[tuple[str, int]], losses: list[tuple[type[Message], int]], work_ms: int
) -> None:
    cluster = Cluster()
    home = cluster.add("home", Role.COORDINATOR)
    away = [cluster.add(f"away-{number}", Role.COORDINATOR) for number in range(AGENTS)]
    config = NodeConfig(has_radio=False)
    agents = [
        cluster.add(f"agent-{number}", Role.AGENT, config=config, installed=[SMALL], active=SMALL)
        for number in range(AGENTS)
    ]
    to_agents = [cluster.link(agent, hub) for agent, hub in zip(agents, away, strict=True)]
    cluster.drive()
    for agent in agents:
        agent.plan(RunTask, *[Outcome(after_us=work_ms * 1000)] * 4)
    to_hubs = [cluster.link(home, hub) for hub in away]
    asker = cluster.puppet("asker")
    link = cluster.link(asker, home)
    cluster.run_for(61_000)
    for kind, times in losses:
        cluster.drop(kind, times)
    attempt = 0
    for what, value in steps:
        match what:
            case "ask":
                asker.say(link, task_request(deadline_ms=20_000, attempt=attempt))
                attempt += 1
            case "cancel":
                asker.say(link, Cancel(task_id=TASK_ID, reason=Reason.NO_ANSWER, attempt=attempt))
            case "lose an agent" if to_agents[value] in cluster.cables:
                cluster.unlink(to_agents[value])
            case "lose a coordinator" if to_hubs[value] in cluster.cables:
                cluster.unlink(to_hubs[value])
            case "wait":
                cluster.run_for(value)
    cluster.run_for(60_000)
    assert sum(len(agent.did(RunTask)) for agent in agents) <= 1
    assert len(home.hub.relays) == 0
