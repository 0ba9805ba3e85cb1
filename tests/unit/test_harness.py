"""The harness itself: what it refuses, what it loses, and that its clock jumps."""

from __future__ import annotations

import pytest

from edgecoder.core.effects import LoadModel, ModelStatus, Operation, Reply, SwapResult
from edgecoder.core.events import QueryStatus
from edgecoder.core.failures import FAILURES
from edgecoder.core.ids import Medium, Role
from edgecoder.errors import Reason
from edgecoder.wire.messages import Heartbeat, HeartbeatAck
from tests.catalogs import LARGE, SMALL
from tests.harness import Cluster, Livelock, Pair
from tests.hosts import HANGS, fails


def test_every_operation_can_fail() -> None:
    assert set(FAILURES) == set(Operation.__subclasses__())


def test_a_node_comes_to_rest_and_swaps(both: Cluster) -> None:
    phone = both.add("phone", installed=[SMALL, LARGE], active=SMALL)
    both.drive()
    command = phone.swap("large")
    both.drive()
    assert phone.result(command, SwapResult) == SwapResult("small", "large", 7.0)
    assert both.is_at_rest


def test_a_pair_is_linked_and_at_rest() -> None:
    pair = Pair(SMALL, medium=Medium.BLE)
    assert pair.is_at_rest
    assert pair.phone.member.peers.link_to(pair.laptop.node_id) == pair.between
    known = pair.phone.member.peers.rows[pair.laptop.node_id].capabilities
    assert known == pair.laptop.member.announcer.current
    pair.unlink(pair.between)
    assert pair.phone.member.peers.link_to(pair.laptop.node_id) is None


def test_driving_jumps_over_idle_time(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL], active=SMALL)
    phone.plan(LoadModel, HANGS)
    cluster.drive()
    assert cluster.now > phone.setup.config.load_timeout_ms * 1000
    assert cluster.events < 30


def test_a_livelock_is_refused(cluster: Cluster) -> None:
    phone = cluster.add("phone")
    phone.submit(deadline_ms=3_600_000)  # looks again every two seconds, for an hour
    with pytest.raises(Livelock, match="no rest after 100 events"):
        cluster.drive_bounded(100)


def test_what_is_owed_and_will_never_come_is_refused(cluster: Cluster) -> None:
    phone = cluster.add("phone", start=False)
    phone.start()
    phone.answers.commands.add(99)
    phone.alive.context.timers.cancel(("heartbeat", 0))
    with pytest.raises(Livelock):
        cluster.drive()


def test_a_second_reply_is_refused(cluster: Cluster) -> None:
    phone = cluster.add("phone")
    cluster.drive()
    command = phone.ask(QueryStatus)
    phone.result(command, ModelStatus)
    second = Reply(command, None)
    with pytest.raises(AssertionError, match="not owed"):
        phone.answers.saw_effect(second)


def test_dropped_frames_do_not_arrive(cluster: Cluster) -> None:
    phone, hub = cluster.add("phone"), cluster.add("hub", Role.COORDINATOR)
    cluster.link(phone, hub)
    lost = cluster.drop(HeartbeatAck, target=phone)
    cluster.drive()
    assert [carried.source for carried in lost] == ["hub"]
    assert not phone.member.heartbeat.is_online
    cluster.run_for(15_000)
    assert phone.member.heartbeat.is_online


def test_a_partition_loses_frames_and_keeps_links(cluster: Cluster) -> None:
    phone, hub = cluster.add("phone"), cluster.add("hub", Role.COORDINATOR)
    cluster.link(phone, hub)
    cluster.drive()
    cluster.partition(phone)
    before = len(cluster.sent(HeartbeatAck))
    cluster.run_for(16_000)
    assert cluster.sent(Heartbeat, phone)
    assert len(cluster.sent(HeartbeatAck)) == before
    cluster.heal()
    cluster.run_for(16_000)
    assert len(cluster.sent(HeartbeatAck)) > before


def test_a_restart_keeps_the_disk_and_loses_the_rest(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    cluster.drive()
    phone.swap("large")
    cluster.drive()
    unanswered = phone.swap("small")
    cluster.restart(phone)
    cluster.drive()
    assert phone.life == 2
    assert unanswered not in phone.replies
    assert phone.member.swap.active is LARGE


def test_scripts_are_used_in_order(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL, LARGE])
    cluster.drive()
    phone.plan(LoadModel, fails(Reason.LOAD_FAILED), fails(Reason.OUT_OF_MEMORY))
    reasons = []
    for _ in range(3):
        command = phone.swap("large")
        cluster.drive()
        reasons.append(phone.result(command, SwapResult).reason)
    assert reasons == [Reason.LOAD_FAILED, Reason.OUT_OF_MEMORY, None]
