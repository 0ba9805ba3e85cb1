"""The checkers judge hand-made rounds of probes. See `test_checkers`."""

from __future__ import annotations

import pytest

from edgecoder.core.effects import Progress, Trace
from edgecoder.core.events import LinkDown, SubmitTask
from edgecoder.core.ids import TaskId
from edgecoder.errors import Reason
from edgecoder.mesh.router import Why
from edgecoder.trace import TaskRouted, TaskSubmitted
from edgecoder.wire.messages import Cancel, Load, Probe, ProbeReply, Release
from tests.catalogs import LARGE
from tests.sim.stage import NEWS, Office, Stage, breach, relay, request


@pytest.fixture
def stage() -> Stage:
    """An empty stage."""
    return Stage()


@pytest.fixture
def office(stage: Stage) -> Office:
    """An office in which the phone knows what the agent serves."""
    office = Office(stage)
    office.phone.hears(office.radio, office.agent, office.agent.capabilities())
    return office


def probe(task: TaskId) -> Probe:
    """A probe for a short answer of any model."""
    return Probe(task_id=task, model=None, min_param_size=0.0, max_tokens=10, prompt_bytes=4)


def offers(task: TaskId, hold_ms: int = 2_000) -> ProbeReply:
    """A place that is kept."""
    return ProbeReply(task_id=task, tokens_per_s=20, hold_ms=hold_ms)


def declines(task: TaskId) -> ProbeReply:
    """No place."""
    return ProbeReply(task_id=task, reason=Reason.BUSY)


def test_nobody_probes_who_is_loading(office: Office) -> None:
    phone, agent, link = office.phone, office.agent, office.radio
    phone.sees(NEWS, phone.sends(link, probe(phone.task())))
    phone.hears(link, agent, agent.capabilities(generation=agent.generation + 1, load=Load.LOADING))
    with breach("routed to a fitting peer", "phone-0 sends a probe .* to agent-0, whose newest row says loading"):
        phone.sees(NEWS, phone.sends(link, probe(phone.task(2))))


def test_a_row_is_believed_as_long_as_its_envelope_says(stage: Stage, office: Office) -> None:
    phone, agent, link = office.phone, office.agent, office.radio
    stage.wait(59)
    phone.sees(NEWS, phone.sends(link, probe(phone.task())))
    phone.hears(link, agent, agent.capabilities())
    stage.wait(59)
    phone.sees(NEWS, phone.sends(link, probe(phone.task(2))))
    stage.wait(2)
    with breach("routed to a fitting peer", "phone-0 sends a probe for task .* to agent-0, whose row has expired"):
        phone.sees(NEWS, phone.sends(link, probe(phone.task(3))))


@pytest.mark.parametrize("how", ["taken", "released", "run out", "link down"])
def test_places_come_free(how: str, stage: Stage, office: Office) -> None:
    phone, agent, link = office.phone, office.agent, office.radio
    places = agent.node.setup.config.slots + agent.node.setup.config.task_queue_max
    for number in range(places):
        agent.hears(link, phone, probe(phone.task(number)), agent.sends(link, offers(phone.task(number))))
    match how:
        case "taken":
            agent.hears(link, phone, request(phone.task(0)))
        case "released":
            agent.hears(link, phone, Release(task_id=phone.task(0)))
        case "run out":
            stage.wait(2)
        case _:
            agent.sees(LinkDown(link))
            link = stage.link(phone, agent)
    agent.hears(link, phone, probe(phone.task(99)), agent.sends(link, offers(phone.task(99))))
    with breach("places are bounded", f"agent-0 keeps {places + 1} places"):
        for number in range(100, 100 + places):
            agent.hears(link, phone, probe(phone.task(number)), agent.sends(link, offers(phone.task(number))))


def test_who_is_loading_promises_nothing(office: Office) -> None:
    phone, agent, link = office.phone, office.agent, office.radio
    agent.begins(LARGE)
    with breach("places are bounded", "agent-0 keeps a place for task .* while it says that it is loading"):
        agent.hears(link, phone, probe(phone.task()), agent.sends(link, offers(phone.task())))


def test_a_place_is_taken_or_given_back(stage: Stage, office: Office) -> None:
    phone, agent, link = office.phone, office.agent, office.radio
    for number, end in ((1, request(phone.task(1))), (2, Release(task_id=phone.task(2)))):
        phone.sees(NEWS, phone.sends(link, probe(phone.task(number))))
        phone.hears(link, agent, offers(phone.task(number)), phone.sends(link, end))
    phone.sees(NEWS, phone.sends(link, probe(phone.task(3))))
    phone.hears(link, agent, offers(phone.task(3)))
    stage.wait(20)
    with breach("places are taken or released", "phone-0 was offered a place .* and neither took nor released"):
        phone.hears(link, agent, declines(phone.task(4)))


def test_nobody_asks_who_has_declined(office: Office) -> None:
    phone, agent, link = office.phone, office.agent, office.radio
    phone.sees(NEWS, phone.sends(link, probe(phone.task())))
    phone.hears(link, agent, declines(phone.task()))
    with breach("places are taken or released", "phone-0 sends task .* over link .*, where it was declined just now"):
        phone.sees(NEWS, phone.sends(link, request(phone.task())))
    phone.sees(NEWS, phone.sends(link, probe(phone.task(2))))
    phone.hears(link, agent, declines(phone.task(2)))
    phone.sees(NEWS, phone.sends(link, probe(phone.task(2))))
    phone.hears(link, agent, offers(phone.task(2)), phone.sends(link, request(phone.task(2))))


# -- two at a time -----------------------------------------------------------------------------------------------------


def asked_of_two(office: Office, *, hedged: bool) -> TaskId:
    """The phone asks the agent and the coordinator for one task."""
    phone = office.phone
    task = phone.task()
    phone.sees(SubmitTask(1, "why?"), Trace(TaskSubmitted(task, 1, None, 0.0, 4)))
    phone.sees(NEWS, phone.sends(office.radio, request(task)))
    why = Why.HEDGED if hedged else Why.COORDINATOR
    phone.sees(
        NEWS,
        Trace(TaskRouted(task, office.hub.node_id, why.value, None, 0, {})),
        phone.sends(office.to_phone, request(task)),
    )
    return task


def test_only_what_is_hedged_is_at_two_nodes(office: Office) -> None:
    with breach("asked one at a time", "phone-0 sends task .* while it is open over link"):
        asked_of_two(office, hedged=False)


def test_a_task_is_hedged_once(office: Office) -> None:
    task = asked_of_two(office, hedged=True)
    with breach("asked one at a time", "phone-0 hedges task .* twice"):
        office.phone.sees(NEWS, Trace(TaskRouted(task, office.hub.node_id, Why.HEDGED.value, None, 0, {})))


def test_what_is_shown_comes_from_the_one_that_is_left(office: Office) -> None:
    task = asked_of_two(office, hedged=True)
    with breach("asked one at a time", "phone-0 shows a part of an answer to task .*, which two others work on"):
        office.phone.sees(NEWS, Progress(1, "a", 1))
    cancel = office.phone.sends(office.radio, Cancel(task_id=task, reason=Reason.CANCELLED))
    office.phone.sees(NEWS, cancel, Progress(1, "a", 1))


# -- batteries ---------------------------------------------------------------------------------------------------------


def test_who_saves_its_battery_is_not_asked_for_more_than_it_said(office: Office) -> None:
    phone, agent, link = office.phone, office.agent, office.radio
    phone.hears(link, agent, agent.capabilities(generation=agent.generation + 1, work_tokens_max=10))
    phone.sees(NEWS, phone.sends(link, probe(phone.task())))
    with breach("routed to a fitting peer", "phone-0 sends task .* to agent-0, which takes at most 10 tokens"):
        phone.sees(NEWS, phone.sends(link, request(phone.task(), max_tokens=11)))
    office.beat(agent, office.to_agent, work_tokens_max=9)
    with breach("relayed to a fitting agent", "hub-0 sends task .* its newest heartbeat says at most 9 tokens"):
        office.hub.sees(NEWS, relay(office))
