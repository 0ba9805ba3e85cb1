"""The power policy: what a node takes on for others on its battery, and that routers see it."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig, Routing
from edgecoder.core.effects import Advertise, RunTask
from edgecoder.core.events import PowerChanged
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.mesh.power import PowerPolicy
from edgecoder.mesh.router import Why
from edgecoder.protocol import WORK_TOKENS_ANY
from edgecoder.trace import TaskRouted
from edgecoder.wire.messages import Heartbeat, Probe, ProbeReply, ResponseStatus, TaskRequest, TaskResponse
from tests.catalogs import SMALL
from tests.harness import Cluster
from tests.hosts import Host
from tests.scenes import Scene
from tests.strategies import task_request

CONFIG = NodeConfig()
SMALL_WORK = CONFIG.small_work_tokens


@pytest.mark.parametrize(
    ("battery_pct", "on_external_power", "low_power", "tokens"),
    [
        (100, False, False, WORK_TOKENS_ANY),
        (41, False, False, WORK_TOKENS_ANY),
        (40, False, False, SMALL_WORK),
        (21, False, False, SMALL_WORK),
        (20, False, False, 0),
        (0, False, False, 0),
        (5, True, False, WORK_TOKENS_ANY),
        (90, False, True, 0),
        (90, True, True, 0),
    ],
)
def test_how_much_a_node_takes_on(battery_pct: int, on_external_power: bool, low_power: bool, tokens: int) -> None:
    policy = PowerPolicy(CONFIG)
    policy.changed(PowerChanged(battery_pct, on_external_power, low_power))
    assert policy.work_tokens_max == tokens


def phone_at(cluster: Cluster, battery_pct: int) -> Host:
    """A phone that serves, at this charge."""
    phone = cluster.add("phone", installed=[SMALL], active=SMALL)
    cluster.drive()
    phone.take(PowerChanged(battery_pct, on_external_power=False))
    cluster.run_for(1_100)
    return phone


def test_it_is_advertised_and_in_the_heartbeat(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR)
    phone = phone_at(cluster, 30)
    cluster.link(phone, hub)
    cluster.drive()
    assert phone.did(Advertise)[-1].capabilities.work_tokens_max == SMALL_WORK
    assert cluster.sent(Heartbeat)[-1].work_tokens_max == SMALL_WORK
    phone.take(PowerChanged(15, on_external_power=False))
    cluster.run_for(1_100)
    assert cluster.sent(Heartbeat)[-1].work_tokens_max == 0


@pytest.mark.parametrize(("battery_pct", "tokens", "taken"), [(30, 128, True), (30, 129, False), (15, 1, False)])
def test_more_than_that_is_refused(battery_pct: int, tokens: int, taken: bool, cluster: Cluster) -> None:
    phone, asker = phone_at(cluster, battery_pct), cluster.puppet("asker")
    link = cluster.link(asker, phone)
    cluster.run_for(25)
    request = task_request(max_tokens=tokens)
    asker.say(link, Probe(task_id=request.task_id, model=None, min_param_size=0.0, max_tokens=tokens, prompt_bytes=4))
    asker.say(link, request)
    cluster.run_for(25)
    assert asker.last(ProbeReply).reason is (None if taken else Reason.LOW_POWER)
    assert (asker.all(TaskResponse)[0].status is ResponseStatus.ACCEPTED) is taken


def test_its_own_user_is_never_refused(cluster: Cluster) -> None:
    phone = phone_at(cluster, 3)
    command = phone.submit(max_tokens=1_000)
    cluster.drive()
    assert phone.task(command).served_by == phone.node_id


@pytest.mark.parametrize("routing", Routing)
def test_a_peer_that_saves_its_battery_is_passed_over(routing: Routing, cluster: Cluster) -> None:
    scene = Scene(cluster, routing=routing)
    saving, large = scene.peer("saving", work_tokens_max=0), scene.peer("small", work_tokens_max=SMALL_WORK)
    scene.ask(max_tokens=SMALL_WORK + 1)
    assert not any(peer.all(kind) for peer in (saving, large) for kind in (Probe, TaskRequest))
    assert scene.phone.traced(TaskRouted)[0].excluded[Why.LOW_POWER.value] == 2
    scene.ask(max_tokens=SMALL_WORK)
    assert large.all(Probe if routing is Routing.PROBE else TaskRequest)


def test_a_coordinator_counts_and_asks_only_who_works(cluster: Cluster) -> None:
    hub, phone = cluster.add("hub", Role.COORDINATOR), phone_at(cluster, 10)
    asker = cluster.add("asker")
    for node in (phone, asker):
        cluster.link(node, hub)
    cluster.drive()
    assert hub.hub.registry.agent_count() == 2
    assert hub.hub.registry.availability() == {}
    command = asker.submit(deadline_ms=500)
    cluster.drive()
    assert asker.task(command).reason is Reason.NO_ROUTE
    assert not phone.did(RunTask)
