"""The coordinator is one of those who are probed: what it says, and what a node makes of it."""

from __future__ import annotations

import pytest

from edgecoder.config import Routing
from edgecoder.core.effects import Connect, RunTask
from edgecoder.core.events import Heard, PeersHeard
from edgecoder.core.ids import Medium
from edgecoder.errors import Reason
from edgecoder.mesh.router import Why
from edgecoder.trace import TaskRouted
from edgecoder.wire.advertisement import Bits, short_generation, tag
from edgecoder.wire.messages import Load, Probe, Release, ResponseStatus, TaskRequest
from tests.catalogs import SMALL
from tests.harness import Cluster
from tests.hosts import HANGS
from tests.scenes import Scene
from tests.strategies import capabilities

SPEED = 20
"""Of the engine of a test, tokens a second."""


@pytest.fixture
def scene(cluster: Cluster) -> Scene:
    """A phone that serves `small` itself."""
    return Scene(cluster, active=SMALL, routing=Routing.PROBE)


def test_a_slow_node_leaves_a_long_task_to_a_coordinator_with_a_faster_one(scene: Scene) -> None:
    hub = scene.coordinator()
    scene.ask(max_tokens=200)
    assert not scene.phone.did(RunTask)
    scene.offer(hub, tokens_per_s=4 * SPEED, hold_ms=0)
    assert hub.all(TaskRequest)
    assert not hub.all(Release), "a coordinator keeps no place"
    assert not scene.phone.did(RunTask)
    (routed,) = scene.phone.traced(TaskRouted)
    assert routed.why == Why.COORDINATOR.value
    assert routed.cost == pytest.approx(200 * 1000 / (4 * SPEED) + 20, abs=10)


@pytest.mark.parametrize("way", [{"tokens_per_s": SPEED}, {"tokens_per_s": 4 * SPEED, "queue_ms": 8_000}])
def test_a_coordinator_that_is_no_sooner_is_left_alone(way: dict[str, int], scene: Scene) -> None:
    hub = scene.coordinator()
    scene.ask(max_tokens=200)
    scene.offer(hub, hold_ms=0, **way)
    assert scene.phone.did(RunTask)
    assert not hub.all(TaskRequest)


def test_what_is_done_here_at_once_is_put_to_nobody(scene: Scene) -> None:
    hub = scene.coordinator()
    scene.ask(max_tokens=SPEED)
    assert scene.phone.did(RunTask)
    assert not hub.all(Probe)


def test_a_queue_here_is_weighed_against_the_coordinator(scene: Scene) -> None:
    hub = scene.coordinator()
    scene.phone.plan(RunTask, HANGS)
    scene.ask(max_tokens=SPEED)
    scene.ask(max_tokens=SPEED)
    scene.offer(hub, tokens_per_s=SPEED, queue_ms=100, hold_ms=0)
    assert len(hub.all(TaskRequest)) == 1


def test_a_faster_peer_is_preferred_to_a_slower_coordinator(scene: Scene) -> None:
    hub, peer = scene.coordinator(), scene.peer("peer", tokens_per_s=100)
    scene.ask(max_tokens=200)
    scene.offer(hub, tokens_per_s=2 * SPEED, hold_ms=0)
    scene.offer(peer, tokens_per_s=100)
    assert peer.all(TaskRequest)
    assert not hub.all(TaskRequest)


def test_a_coordinator_that_has_nobody_is_not_asked(cluster: Cluster) -> None:
    scene = Scene(cluster, routing=Routing.PROBE)
    hub = scene.coordinator()
    scene.ask(model="small", deadline_ms=30_000)
    scene.offer(hub, reason=Reason.NO_ROUTE)
    assert not hub.all(TaskRequest)
    assert scene.phone.traced(TaskRouted)[-1].why == Why.NOBODY.value
    scene.cluster.run_for(scene.phone.setup.config.task_retry_ms)
    assert len(hub.all(Probe)) == 2
    scene.offer(hub, tokens_per_s=10, hold_ms=0)
    assert hub.all(TaskRequest)


def test_a_coordinator_that_can_only_pass_it_on_is_asked_where_nobody_near_is_soon(cluster: Cluster) -> None:
    scene = Scene(cluster, routing=Routing.PROBE)
    hub = scene.coordinator()
    scene.ask(model="small")
    scene.offer(hub, tokens_per_s=0, hold_ms=0)
    assert hub.all(TaskRequest)


def test_a_silent_coordinator_holds_nothing_up_for_long(scene: Scene) -> None:
    hub = scene.coordinator()
    scene.ask(max_tokens=200)
    scene.cluster.run_for(scene.phone.setup.config.probe_timeout_ms + 10)
    assert scene.phone.did(RunTask)
    assert not hub.all(TaskRequest)


def test_what_the_coordinator_refuses_after_all_is_done_here(scene: Scene) -> None:
    hub = scene.coordinator()
    scene.ask(max_tokens=200)
    scene.offer(hub, tokens_per_s=4 * SPEED, hold_ms=0)
    scene.say(hub, ResponseStatus.REFUSED, 0, reason=Reason.NO_ROUTE)
    assert scene.phone.did(RunTask)
    assert len(hub.all(Probe)) == 1


def test_a_peer_that_is_loading_does_not_hide_the_coordinator(scene: Scene) -> None:
    hub, _ = scene.coordinator(), scene.peer("peer", Load.LOADING)
    scene.ask(max_tokens=200)
    scene.offer(hub, tokens_per_s=4 * SPEED, hold_ms=0)
    assert hub.all(TaskRequest)


def test_what_a_coordinator_says_late_counts_while_others_are_dialled(cluster: Cluster) -> None:
    scene = Scene(cluster, routing=Routing.PROBE)
    hub = scene.coordinator()
    far = cluster.puppet("far")
    link = cluster.link(far, scene.phone, Medium.BLE)
    far.say(link, capabilities(far.node_id, 1))
    cluster.put(far, 7)
    cluster.run_for(20)
    cluster.unlink(link)
    tag_of_far = tag(far.node_id, 1)
    scene.phone.take(PeersHeard((Heard(7, -60, Bits(loading=False, generation=short_generation(1), tag=tag_of_far)),)))
    scene.phone.plan(Connect, HANGS)
    scene.ask(model="small")
    cluster.run_for(scene.phone.setup.config.probe_timeout_ms)
    assert scene.phone.did(Connect)
    scene.offer(hub, reason=Reason.NO_ROUTE)
    cluster.run_for(scene.phone.setup.config.probe_dial_ms + 600)
    assert not hub.all(TaskRequest)


def test_an_estimate_that_comes_too_late_is_not_given_back(scene: Scene) -> None:
    hub = scene.coordinator()
    scene.ask(max_tokens=200)
    scene.cluster.run_for(scene.phone.setup.config.probe_timeout_ms + 10)
    scene.offer(hub, tokens_per_s=4 * SPEED, hold_ms=0)
    assert not hub.all(Release)
