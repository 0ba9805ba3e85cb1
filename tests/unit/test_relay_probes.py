"""Probes at a coordinator: how soon the best of its nodes could do a task."""

from __future__ import annotations

import pytest

from edgecoder.core.events import ShutDown
from edgecoder.errors import Reason
from edgecoder.wire.messages import Load, Probe, ProbeReply
from tests.harness import Cluster
from tests.office import Office
from tests.strategies import TASK_ID, full_heartbeat


@pytest.fixture
def office(cluster: Cluster) -> Office:
    """The coordinator, and nobody who could answer."""
    return Office(cluster)


def probed(office: Office, **fields: object) -> ProbeReply:
    """What the coordinator answers to a probe."""
    wants: dict[str, object] = {"model": None, "min_param_size": 0.0, "max_tokens": 256} | fields
    probe = Probe(task_id=TASK_ID, prompt_bytes=10, **wants)  # type: ignore[arg-type]  # by name
    office.asker.say(office.links["asker"], probe)
    office.cluster.run_for(25)
    return office.asker.last(ProbeReply)


def test_a_coordinator_tells_how_soon_its_best_node_could_do_it(office: Office) -> None:
    office.agent("busy", load=4)
    assert probed(office) == ProbeReply(task_id=TASK_ID, queue_ms=6_399, tokens_per_s=30)
    office.agent("idle")
    assert probed(office) == ProbeReply(task_id=TASK_ID, queue_ms=0, tokens_per_s=30)
    assert len(office.hub.hub.relays) == 0


def test_of_what_only_another_coordinator_could_do_it_tells_no_speed(office: Office) -> None:
    assert probed(office, model="small").reason is Reason.NO_ROUTE
    office.coordinator("other")
    assert probed(office, model="small") == ProbeReply(task_id=TASK_ID, queue_ms=0, tokens_per_s=0)
    assert probed(office, model="large").reason is Reason.NO_ROUTE


def test_who_asks_is_not_offered_to_itself(office: Office) -> None:
    office.asker.say(office.links["asker"], full_heartbeat("small", 1.5, Load.of(0)))
    office.cluster.run_for(15)
    assert probed(office).reason is Reason.NO_ROUTE


def test_another_coordinator_gets_no_answer_to_a_probe(office: Office) -> None:
    other = office.coordinator("other")
    office.agent("agent")
    probe = Probe(task_id=TASK_ID, model=None, min_param_size=0.0, max_tokens=1, prompt_bytes=1)
    other.say(office.links["other"], probe)
    office.cluster.run_for(25)
    assert other.all(ProbeReply) == []


def test_a_coordinator_that_shuts_down_offers_nothing(office: Office) -> None:
    office.agent("agent")
    office.hub.ask(ShutDown)
    assert probed(office).reason is Reason.SHUTTING_DOWN
