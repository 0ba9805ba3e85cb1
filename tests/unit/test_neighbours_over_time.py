"""Neighbours over time: what is read again, who is met again, and what is of the past."""

from __future__ import annotations

from edgecoder.core.effects import Connect
from edgecoder.core.events import PeersSilent
from edgecoder.trace import PeerLearned
from edgecoder.wire.advertisement import tag
from edgecoder.wire.messages import Probe
from tests.catalogs import SMALL
from tests.harness import Cluster
from tests.hosts import HANGS
from tests.neighbourhood import WINDOW, bits, dials, hear, peer_at, phone_of


def test_a_device_without_bits_is_read_again_in_time_though_nothing_new_is_heard(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster, reread_ms=60_000), peer_at(cluster, 7)
    hear(phone, 7, None)
    cluster.run_for(10_000)
    peer.generation = 5
    cluster.run_for(45_000)
    assert dials(phone) == [7]
    cluster.run_for(20_000)
    assert dials(phone) == [7, 7]
    assert [record.generation for record in phone.traced(PeerLearned)] == [1, 5]
    cluster.run_for(60_000)
    assert dials(phone) == [7, 7, 7]
    phone.take(PeersSilent((7,)))
    cluster.run_for(120_000)
    assert dials(phone) == [7, 7, 7]


def test_a_signal_counts_as_often_as_it_was_measured(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits(), -60)
    cluster.run_for(3_000)
    stats = phone.member.peers.rows[peer.node_id].stats
    at_the_link = stats.rssi_samples
    assert at_the_link <= 1
    hear(phone, 7, bits(), -80)
    cluster.run_for(60_000)
    assert stats.rssi_samples == at_the_link + 1


def test_who_was_passed_over_is_met_when_there_is_room(cluster: Cluster) -> None:
    phone = phone_of(cluster, peers_max=2)
    for address, rssi_dbm in ((1, -70), (2, -60), (3, -50), (4, -90)):
        peer_at(cluster, address, f"peer-{address}")
        hear(phone, address, bits(), rssi_dbm)
    assert list(phone.member.neighbours.rows) == [2, 3]
    phone.take(PeersSilent((3,)))
    assert list(phone.member.neighbours.rows) == [2, 1], "the nearest of those who still speak"
    phone.take(PeersSilent((4, 2)))
    assert list(phone.member.neighbours.rows) == [1]
    cluster.run_for(5_000)
    assert 1 in dials(phone)


def test_those_who_are_passed_over_are_counted_too(cluster: Cluster) -> None:
    phone = phone_of(cluster, peers_max=2)
    for address in range(1, 8):
        hear(phone, address, bits(), -50 - address)
    phone.take(PeersSilent((1, 2)))
    assert list(phone.member.neighbours.rows) == [3, 4]
    phone.take(PeersSilent((3, 4)))
    assert phone.member.neighbours.rows == {}


def test_whom_a_task_waits_for_may_change_its_address(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    phone.plan(Connect, HANGS)
    hear(phone, 8, bits())
    cluster.run_for(600)
    command = phone.submit(model="small", deadline_ms=20_000)
    cluster.put(peer, 17)
    hear(phone, 17, bits(of=tag(peer.node_id, WINDOW)))
    cluster.run_for(30_000)
    assert phone.task(command).reason is not None
    assert len(peer.all(Probe)) >= 1


def test_two_thousand_announcements_of_the_load_are_no_news(cluster: Cluster) -> None:
    """The advertisement holds twelve bits of the counter, and the reader has read a newer one."""
    speaks = cluster.add("speaks", installed=[SMALL], active=SMALL)
    cluster.run_for(1_000)
    cluster.put(speaks, 7)
    announcer = speaks.member.announcer
    for _ in range(2_100):
        announcer.model_changed()
    said = announcer._bits(announcer.current)  # type: ignore[arg-type]  # it has announced
    phone = phone_of(cluster)
    hear(phone, 7, said)
    cluster.run_for(60_000)
    assert dials(phone) == [7]
    assert phone.member.peers.rows[speaks.node_id].is_confirmed


def test_what_was_heard_of_a_life_that_is_over_is_no_news_to_who_has_read_the_next(cluster: Cluster) -> None:
    """Epochs are cut to four bits: an earlier one looks fifteen lives ahead."""
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    cluster.put(phone, 1)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    hear(phone, 7, bits(2, loading=True))
    peer.generation = (1 << 32) | 1
    cluster.connect(peer, 1)  # it has started anew, and calls first
    cluster.run_for(60_000)
    row = phone.member.peers.rows[peer.node_id]
    assert not row.says_loading
    assert not row.is_outdated
    assert dials(phone) == [7]
    assert max(record.generation for record in phone.traced(PeerLearned)) == peer.generation
    peer.generation += 1
    hear(phone, 7, bits(peer.generation))
    cluster.run_for(3_000)
    assert dials(phone) == [7, 7]
    assert row.is_confirmed
