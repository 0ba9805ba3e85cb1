"""The checkers judge hand-made rounds of probes. See `test_checkers`."""

from __future__ import annotations

import pytest

from edgecoder.core.events import LinkDown
from edgecoder.core.ids import TaskId
from edgecoder.errors import Reason
from edgecoder.wire.messages import Load, Probe, ProbeReply, Release
from tests.catalogs import LARGE
from tests.sim.stage import NEWS, Office, Stage, breach, request


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
    stage.wait(12)
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
