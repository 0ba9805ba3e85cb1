"""The checkers judge hand-made conversations: heartbeats, routes, registries. See `test_checkers`."""

from __future__ import annotations

from typing import Any

import pytest

from edgecoder.core.effects import CoordinatorRow, MeshCapabilities, Reply, Send, Trace
from edgecoder.core.events import (
    LinkDown,
    PowerChanged,
    QueryMesh,
)
from edgecoder.trace import (
    AgentExpired,
    PeerForgotten,
)
from edgecoder.wire.messages import (
    Load,
    ModelAvailability,
    Power,
    Summary,
)
from tests.catalogs import LARGE
from tests.sim.stage import NEWS, Actor, Office, Stage, breach, relay, request


@pytest.fixture
def stage() -> Stage:
    """An empty stage."""
    return Stage()


@pytest.fixture
def office(stage: Stage) -> Office:
    """An office in which nobody has said anything but his name."""
    return Office(stage)


# -- heartbeats --------------------------------------------------------------------------------------------------------


def test_right_heartbeats_pass(stage: Stage, office: Office) -> None:
    phone, link = office.phone, office.to_phone
    for beat in range(10):
        seq = office.beat(phone, link, full=beat == 0)
        office.acknowledge(phone, link, seq)
        stage.wait(15)
    stage.finish()


def test_heartbeats_go_on(stage: Stage, office: Office) -> None:
    office.beat(office.phone, office.to_phone)
    stage.wait(16.5)
    with breach("heartbeats", "phone-0 sent no heartbeat for 16.500 s; the interval is 15000 ms"):
        stage.finish()
    with breach("heartbeats", "phone-0 sent no heartbeat"):
        office.phone.sees(LinkDown(office.to_phone))


def test_a_node_without_a_coordinator_need_not_beat(stage: Stage, office: Office) -> None:
    office.beat(office.phone, office.to_phone)
    office.phone.sees(LinkDown(office.to_phone))
    stage.wait(100)
    stage.finish()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"generation": 1}, "generation"),
        ({"active_model": "large"}, "large"),
        ({"load": Load.of(1)}, "1"),
        ({"load": Load.LOADING}, "True"),
        ({"model_swap_in_progress": True}, "modelSwapInProgress True"),
    ],
)
def test_a_heartbeat_says_what_was_advertised(office: Office, fields: dict[str, Any], said: str) -> None:
    with breach("heartbeats", "phone-0 says", said, "in a heartbeat"):
        office.beat(office.phone, office.to_phone, **fields)


@pytest.mark.parametrize("field", ["power", "memory_mb", "cluster_config_hash"])
def test_a_full_heartbeat_is_full(office: Office, field: str) -> None:
    with breach("heartbeats", f"phone-0 sends a full heartbeat without {field}"):
        office.beat(office.phone, office.to_phone, **{field: None})


def test_a_part_needs_a_whole(office: Office) -> None:
    phone, link = office.phone, office.to_phone
    with breach("heartbeats", "phone-0 sends a heartbeat in part"):
        office.beat(phone, link, full=False)
    office.acknowledge(phone, link, office.beat(phone, link), known=False)
    with breach("heartbeats", "phone-0 sends a heartbeat in part"):
        office.beat(phone, link, full=False)


def test_the_word_that_nothing_is_known_may_be_of_an_earlier_heartbeat(office: Office) -> None:
    phone, link = office.phone, office.to_phone
    earlier, full = office.beat(phone, link), office.beat(phone, link)
    office.acknowledge(phone, link, earlier, known=False)
    office.acknowledge(phone, link, full)
    office.beat(phone, link, full=False)


def test_a_heartbeat_is_true(office: Office) -> None:
    phone, link = office.phone, office.to_phone
    with breach("heartbeats", "phone-0 tells its coordinator tokens_per_s 99; it is 20"):
        office.beat(phone, link, tokens_per_s=99)
    office.acknowledge(phone, link, office.beat(phone, link))
    phone.sees(PowerChanged(80, on_external_power=False))
    with breach("heartbeats", "phone-0 tells its coordinator power .*100.*; it is .*80"):
        office.beat(phone, link, full=False)
    office.beat(phone, link, full=False, power=Power(on_external_power=False, battery_pct=80))


def test_nothing_is_left_out_that_was_not_acknowledged(office: Office) -> None:
    phone, link = office.phone, office.to_phone
    high, low = (Power(on_external_power=False, battery_pct=pct) for pct in (100, 95))
    office.acknowledge(phone, link, office.beat(phone, link))
    phone.sees(PowerChanged(95, on_external_power=False))
    office.beat(phone, link, full=False, power=low)
    phone.sees(PowerChanged(100, on_external_power=False))
    with breach("heartbeats", "phone-0 leaves power out of a heartbeat, but since the last acknowledgement it was"):
        office.beat(phone, link, full=False)
    office.acknowledge(phone, link, office.beat(phone, link, full=False, power=high))
    office.beat(phone, link, full=False)


# -- routing by members ------------------------------------------------------------------------------------------------


def test_a_peer_that_serves_is_asked(office: Office) -> None:
    phone, agent, link = office.phone, office.agent, office.radio
    phone.hears(link, agent, agent.capabilities())
    phone.sees(NEWS, phone.sends(link, request(phone.task(), model="small", min_param_size=1.5)))


def test_a_peer_whose_newest_row_is_loading_is_not_asked(office: Office) -> None:
    phone, agent, link = office.phone, office.agent, office.radio
    phone.hears(link, agent, agent.capabilities(generation=99, load=Load.LOADING))
    phone.hears(link, agent, agent.capabilities(generation=98))
    with breach("routed to a fitting peer", "phone-0 sends task .* to agent-0, whose newest row says loading"):
        phone.sees(NEWS, phone.sends(link, request(phone.task())))


def test_a_peer_that_was_forgotten_or_is_gone_is_not_asked(office: Office) -> None:
    phone, agent, link = office.phone, office.agent, office.radio
    phone.hears(link, agent, agent.capabilities())
    phone.sees(NEWS, Trace(PeerForgotten(agent.node_id)))
    with breach("routed to a fitting peer", "phone-0 sends task .* to agent-0, whose row has expired"):
        phone.sees(NEWS, phone.sends(link, request(phone.task())))
    phone.sees(LinkDown(link))
    with breach("routed to a fitting peer", f"phone-0 sends task .* over link {link}, which is not open"):
        phone.sees(NEWS, phone.sends(link, request(phone.task(2))))


@pytest.mark.parametrize(
    ("fields", "wish", "why"),
    [
        ({"active_model": None}, {}, "has no model"),
        ({}, {"model": "large"}, "has small, not large"),
        ({}, {"min_param_size": 7.0}, "has 1.5 billion parameters, fewer than 7.0"),
    ],
)
def test_a_peer_with_another_model_is_not_asked(
    office: Office, fields: dict[str, Any], wish: dict[str, Any], why: str
) -> None:
    phone, agent, link = office.phone, office.agent, office.radio
    phone.hears(link, agent, agent.capabilities(**fields))
    with breach("routed to a fitting peer", "phone-0 sends task .* to agent-0: its newest row", why):
        phone.sees(NEWS, phone.sends(link, request(phone.task(), **wish)))


# -- routing by coordinators -------------------------------------------------------------------------------------------


def test_an_agent_that_serves_is_asked_until_it_expires(stage: Stage, office: Office) -> None:
    with breach("relayed to a fitting agent", "hub-0 sends task .* to agent-0: it is not registered"):
        office.hub.sees(NEWS, relay(office))
    office.beat(office.agent, office.to_agent)
    stage.wait(44)
    office.hub.sees(NEWS, relay(office, number=2))
    stage.wait(1)
    with breach("relayed to a fitting agent", "hub-0 .* to agent-0: its newest heartbeat is 45000 ms old"):
        office.hub.sees(NEWS, relay(office, number=3))


def test_the_newest_heartbeat_counts(office: Office) -> None:
    agent, link = office.agent, office.to_agent
    early = agent.heartbeat()
    office.beat(agent, link)
    agent.begins(LARGE)
    office.hub.hears(link, agent, agent.heartbeat(Load.LOADING))
    agent.seq, newest = 3, agent.seq
    office.hub.hears(link, agent, early)  # overtaken
    agent.seq = newest
    with breach("relayed to a fitting agent", "hub-0 .* to agent-0: its newest heartbeat says loading"):
        office.hub.sees(NEWS, relay(office))


def test_an_agent_with_another_model_is_not_asked(office: Office) -> None:
    office.beat(office.agent, office.to_agent)
    with breach("relayed to a fitting agent", "hub-0 .* to agent-0: its newest row has small, not large"):
        office.hub.sees(NEWS, relay(office, model="large"))


def summary(hub: Actor, agents: int = 1, **models: ModelAvailability) -> Summary:
    """What a coordinator says of so many agents."""
    return Summary(coordinator_id=hub.node_id, agent_count=agents, model_availability=models)


ONE_SMALL = ModelAvailability(1, 1.5, 0.0, 1)


def test_a_task_is_forwarded_while_the_newest_summary_offers_it(stage: Stage, office: Office) -> None:
    hub, other, link = office.hub, office.other, office.to_other

    def forward(number: int, **fields: Any) -> Send:
        return hub.sends(link, request(office.phone.task(number), **{"hops": 1, **fields}))

    with breach("relayed to a fitting agent", "hub-0 .* to hub-1: it has sent no summary"):
        hub.sees(NEWS, forward(1))
    hub.hears(link, other, summary(other, small=ONE_SMALL))
    hub.sees(NEWS, forward(2, model="small-coder:1.5b"))
    with breach("relayed to a fitting agent", "hub-0 .* to hub-1: its newest summary offers nothing that fits"):
        hub.sees(NEWS, forward(3, min_param_size=3.0))
    with breach("relayed to a fitting agent", "hub-0 .* it came from a coordinator"):
        hub.sees(NEWS, forward(4, hops=2))
    stage.wait(61)  # the envelopes of this stage hold for a minute
    with breach("relayed to a fitting agent", "hub-0 .* to hub-1: its newest summary expired 1000 ms ago"):
        hub.sees(NEWS, forward(5))


# -- what coordinators say ---------------------------------------------------------------------------------------------


def test_a_true_summary_passes(stage: Stage, office: Office) -> None:
    hub, link = office.hub, office.to_other
    office.beat(office.agent, office.to_agent)
    office.beat(office.phone, office.to_phone)
    two_small = ModelAvailability(2, 3.0, 0.0, 3)
    hub.sees(NEWS, hub.sends(link, summary(hub, 2, small=two_small)))
    stage.wait(46)
    hub.sees(NEWS, hub.sends(link, summary(hub, 0)))
    hub.sees(NEWS, Trace(AgentExpired(office.agent.node_id)))


def test_a_summary_counts_who_is_alive(stage: Stage, office: Office) -> None:
    hub, link = office.hub, office.to_other
    office.beat(office.agent, office.to_agent)
    stage.wait(46)
    with breach("summaries are true", "hub-0 counts 1 agents in its summary; 0 are alive"):
        hub.sees(NEWS, hub.sends(link, summary(hub, 1, small=ONE_SMALL)))


def test_a_summary_leaves_out_who_is_loading(office: Office) -> None:
    hub, link, agent = office.hub, office.to_other, office.agent
    office.beat(agent, office.to_agent)
    agent.begins(LARGE)
    office.hub.hears(office.to_agent, agent, agent.heartbeat(Load.LOADING))
    with breach("summaries are true", "hub-0 says .agents, load. of small are .1, 0.0. in its summary", "are None"):
        hub.sees(NEWS, hub.sends(link, summary(hub, 1, small=ONE_SMALL)))
    hub.sees(NEWS, hub.sends(link, summary(hub, 1)))


def test_a_summary_says_the_load(office: Office) -> None:
    hub, link, agent = office.hub, office.to_other, office.agent
    agent.sees(NEWS, *agent.advertises(Load.of(2)))
    office.beat(agent, office.to_agent, load=Load.of(2))
    with breach("summaries are true", "of small are .1, 0.0. in its summary", "are .1, 2.0"):
        hub.sees(NEWS, hub.sends(link, summary(hub, 1, small=ONE_SMALL)))


def test_answers_serve_the_newest_summaries(stage: Stage, office: Office) -> None:
    hub, other, link = office.hub, office.other, office.to_other

    def answer(command: int, agents: int, age_ms: int) -> None:
        row = CoordinatorRow(other.node_id, agents, {}, age_ms)
        own = CoordinatorRow(hub.node_id, 9, {}, 0)
        hub.sees(QueryMesh(command), Reply(command, MeshCapabilities((own, row))))

    with breach("answers are fresh", "hub-0 serves a summary of .*, which has sent none"):
        answer(1, 1, 0)
    hub.hears(link, other, summary(other, 1))
    stage.wait(10)
    answer(2, 1, 10_000)
    hub.hears(link, other, summary(other, 2))
    with breach("answers are fresh", "hub-0 serves a summary of .* of 10000 ms ago; the newest came 0 ms ago"):
        answer(3, 1, 10_000)
    answer(4, 2, 0)
    stage.wait(60)
    with breach("answers are fresh", "hub-0 serves a summary of .* that has expired"):
        answer(5, 2, 60_000)
