"""Rounds of probes at a node that asks, with peers that a test plays."""

from __future__ import annotations

import pytest

from edgecoder.config import Routing
from edgecoder.core.effects import RunTask
from edgecoder.core.events import CancelTask
from edgecoder.core.ids import Medium, Role
from edgecoder.errors import Reason
from edgecoder.mesh.router import Why
from edgecoder.trace import TaskRouted
from edgecoder.wire.messages import Load, Probe, Release, ResponseStatus, TaskRequest
from tests.catalogs import SMALL
from tests.harness import Cluster
from tests.hosts import Outcome
from tests.invariants import assert_nothing_left
from tests.scenes import Scene
from tests.strategies import capabilities

ACCEPTED, CHUNK, DONE, REFUSED, FAILED = ResponseStatus


@pytest.fixture
def scene(cluster: Cluster) -> Scene:
    """The phone, which probes, and nobody yet."""
    return Scene(cluster, routing=Routing.PROBE)


def test_the_soonest_is_asked_and_the_others_are_released(scene: Scene) -> None:
    late, soon = scene.peer("late"), scene.peer("soon")
    scene.ask(model="small", min_param_size=1.0, max_tokens=7, prompt="größer")
    (probe,) = soon.all(Probe)
    assert (probe.model, probe.min_param_size, probe.max_tokens, probe.prompt_bytes) == ("small", 1.0, 7, 8)
    assert not soon.all(TaskRequest), "nobody is asked before the answers are there"
    scene.offer(late, queue_ms=900)
    assert not late.all(TaskRequest)
    scene.offer(soon, queue_ms=100)
    assert soon.all(TaskRequest)
    assert not soon.all(Release)
    assert late.last(Release).task_id == probe.task_id
    (routed,) = scene.phone.traced(TaskRouted)
    assert (routed.why, routed.to, routed.probes, routed.answered) == (Why.SOONEST.value, soon.node_id, 2, 2)


def test_three_of_many_are_probed(scene: Scene) -> None:
    peers = [scene.peer(f"peer {number}") for number in range(6)]
    scene.ask()
    assert sum(len(peer.all(Probe)) for peer in peers) == 3


def test_who_cannot_be_beaten_is_asked_at_once(scene: Scene) -> None:
    """An idle node that is as fast as the others say they are: their answers can change nothing."""
    first, second = scene.peer("first"), scene.peer("second", tokens_per_s=1)
    scene.ask()
    scene.offer(first)
    assert first.all(TaskRequest)
    scene.offer(second, tokens_per_s=1)
    assert second.all(Release), "a place that was offered too late is given back"


def test_a_node_that_is_idle_and_fastest_asks_nobody(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL], active=SMALL)
    laptop = cluster.add("laptop", Role.AGENT, installed=[SMALL], active=SMALL)
    cluster.link(phone, laptop)
    cluster.drive()
    command = phone.submit()
    cluster.drive()
    assert phone.task(command).served_by == phone.node_id
    assert not laptop.did(RunTask)
    assert not cluster.sent(Probe)
    assert [record.why for record in phone.traced(TaskRouted)] == [Why.HERE.value]


def test_a_busy_node_finds_who_is_free(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL], active=SMALL)
    laptop = cluster.add("laptop", Role.AGENT, installed=[SMALL], active=SMALL)
    cluster.link(phone, laptop)
    cluster.drive()
    phone.plan(RunTask, Outcome(after_us=60_000_000))
    phone.submit()
    command = phone.submit()
    cluster.drive()
    assert phone.task(command).served_by == laptop.node_id
    assert len(laptop.did(RunTask)) == 1
    for host in (phone, laptop):
        assert_nothing_left(host.alive)
        assert not host.member.executor.reservations


def test_a_silent_peer_does_not_hold_a_task_up(scene: Scene) -> None:
    silent, other = scene.peer("silent"), scene.peer("other")
    scene.ask()
    scene.offer(other, queue_ms=300)
    assert not other.all(TaskRequest)
    scene.cluster.run_for(scene.phone.setup.config.probe_timeout_ms)
    assert other.all(TaskRequest)
    assert scene.phone.member.peers.rows[silent.node_id].stats.unanswered == 1
    assert scene.phone.traced(TaskRouted)[0].excluded[Why.SILENT.value] == 1


@pytest.mark.parametrize("how", ["silent", "refusing"])
def test_then_the_next_sample_then_the_coordinator(how: str, scene: Scene) -> None:
    hub, peers = scene.coordinator(), [scene.peer(f"peer {number}") for number in range(9)]
    scene.ask()
    for _ in range(2):
        asked = [peer for peer in peers if peer.all(Probe)]
        if how == "refusing":
            for peer in asked:
                scene.offer(peer, reason=Reason.LOADING)
        scene.cluster.run_for(scene.phone.setup.config.probe_timeout_ms + 15)
    assert sum(len(peer.all(Probe)) for peer in peers) == 6, "two samples of three, and never the same"
    assert len(hub.all(TaskRequest)) == 1
    assert not any(peer.all(TaskRequest) for peer in peers)


def test_a_long_queue_nearby_is_the_coordinators_turn(scene: Scene) -> None:
    hub, peer = scene.coordinator(), scene.peer("peer")
    scene.ask()
    scene.offer(peer, queue_ms=scene.phone.setup.config.local_wait_max_ms + 1)
    scene.offer(hub, tokens_per_s=0, hold_ms=0)
    assert hub.all(TaskRequest)
    assert peer.all(Release)
    scene.say(hub, REFUSED, 0, reason=Reason.NO_ROUTE)
    scene.offer(peer, queue_ms=5_000)
    assert peer.all(TaskRequest), "late is better than not at all"


def test_who_would_be_too_late_is_the_coordinators_turn(scene: Scene) -> None:
    hub, peer = scene.coordinator(), scene.peer("peer")
    scene.ask(max_tokens=1_000, deadline_ms=5_000)
    scene.offer(peer, tokens_per_s=10)
    scene.offer(hub, tokens_per_s=0, hold_ms=0)
    assert hub.all(TaskRequest)
    assert not peer.all(TaskRequest)


def test_without_anybody_it_waits_and_asks_again(scene: Scene) -> None:
    peer = scene.peer("peer")
    scene.ask(model="small")
    scene.offer(peer, reason=Reason.BUSY)
    other = scene.peer("other", active_model="large")
    assert len(peer.all(Probe)) == 1, "news of others do not set off the next round: it has its time"
    assert not other.all(Probe)
    scene.cluster.run_for(scene.phone.setup.config.task_retry_ms)
    assert len(peer.all(Probe)) == 2
    scene.offer(peer)
    assert peer.all(TaskRequest)


def test_a_peer_that_is_loading_is_not_probed(scene: Scene) -> None:
    loading, peer = scene.peer("loading", Load.LOADING), scene.peer("peer")
    scene.ask()
    assert not loading.all(Probe)
    assert peer.all(Probe)


def test_what_a_peer_promised_is_void_once_it_is_loading(scene: Scene) -> None:
    """It changes its model while the answer of another is awaited."""
    changing, other = scene.peer("changing"), scene.peer("other")
    scene.ask()
    scene.offer(changing, queue_ms=100)
    news = capabilities(changing.node_id, 1 << 40, Load.LOADING)
    changing.say(scene.links["changing"], news)
    scene.cluster.run_for(25)
    scene.offer(other, queue_ms=900)
    assert other.all(TaskRequest)
    assert not changing.all(TaskRequest)
    assert changing.all(Release)


def test_a_place_that_has_run_out_is_not_taken(scene: Scene) -> None:
    brief, silent = scene.peer("brief"), scene.peer("silent")
    scene.ask()
    scene.offer(brief, hold_ms=60, queue_ms=1)
    assert silent.all(Probe)
    scene.cluster.run_for(scene.phone.setup.config.probe_timeout_ms)
    assert not brief.all(TaskRequest)


def test_a_task_that_ends_meanwhile_gives_its_places_back(scene: Scene) -> None:
    first, second = scene.peer("first"), scene.peer("second")
    task = scene.ask()
    scene.offer(first, queue_ms=10)
    scene.phone.ask(CancelTask, task=task)
    scene.cluster.run_for(15)
    assert first.all(Release)
    assert_nothing_left(scene.phone.alive)
    scene.offer(second)
    assert second.all(Release)
    assert len(scene.phone.member.origin._prober or ()) == 0


@pytest.mark.parametrize("answered", [False, True])
def test_a_link_that_goes_down_takes_its_offer_with_it(answered: bool, scene: Scene) -> None:
    gone, other = scene.peer("gone"), scene.peer("other")
    scene.ask()
    if answered:
        scene.offer(gone, queue_ms=1)
    scene.cluster.unlink(scene.links["gone"])
    scene.offer(other, queue_ms=500)
    assert other.all(TaskRequest)


def test_an_answer_over_another_link_is_not_believed(scene: Scene) -> None:
    peer, liar = scene.peer("peer"), scene.peer("liar", active_model="large")
    scene.ask(model="small")
    liar.heard.extend(peer.all(Probe))
    scene.offer(liar)
    assert not liar.all(TaskRequest)
    assert not peer.all(TaskRequest)


def test_the_prompt_takes_its_time_over_bluetooth(cluster: Cluster) -> None:
    scene = Scene(cluster, routing=Routing.PROBE)
    wired, radio = scene.peer("wired", tokens_per_s=299), scene.peer("radio", tokens_per_s=300)
    cluster.unlink(scene.links["radio"])
    scene.links["radio"] = cluster.link(radio, scene.phone, Medium.BLE)
    cluster.run_for(15)
    scene.ask(prompt="x" * 30_000, max_tokens=128)
    scene.offer(radio, tokens_per_s=300)
    scene.offer(wired, tokens_per_s=299)
    assert wired.all(TaskRequest)
    assert radio.all(Release)
