"""Neighbours: who is dialled, when, how often, and when a link is let go."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import CancelOp, Connect, Disconnect, Scan, ScanMode, Trace
from edgecoder.core.events import Event, Heard, LinkUp, PeersHeard, PeersSilent
from edgecoder.core.ids import LinkId, Medium, Role
from edgecoder.errors import Reason
from edgecoder.trace import PeerForgotten, PeerLearned
from edgecoder.wire.advertisement import Bits, short_generation, tag
from edgecoder.wire.messages import Identity, Probe, ProbeReply, TaskRequest
from tests.catalogs import SMALL
from tests.harness import Cluster, Puppet
from tests.hosts import HANGS, Host, Outcome, fails
from tests.strategies import capabilities

WINDOW = 1
"""Of the clock of a test, which begins with Unix time."""
LATE_TAG = b"\xff\xff\xff"
"""A stranger with it is dialled at once, since no tag is smaller."""


def bits(generation: int = 1, *, loading: bool = False, of: bytes = LATE_TAG) -> Bits:
    return Bits(loading=loading, generation=short_generation(generation), tag=of)


def hear(phone: Host, address: int, said: Bits | None, rssi_dbm: int = -60) -> None:
    phone.take(PeersHeard((Heard(address, rssi_dbm, said),)))


def phone_of(cluster: Cluster, **config: object) -> Host:
    phone = cluster.add("phone", config=NodeConfig(**config))  # type: ignore[arg-type]  # by name
    cluster.drive()
    return phone


def peer_at(cluster: Cluster, address: int, name: str = "peer") -> Speaker:
    """A puppet that says who it is and what it offers on every link."""
    peer = Speaker(cluster, name, Role.PHONE)
    cluster.put(peer, address)
    return peer


class Speaker(Puppet):
    """A puppet that greets on every new link, and tells its capabilities."""

    def __init__(self, cluster: Cluster, name: str, role: Role) -> None:
        super().__init__(cluster, name, role)
        self.generation = 1
        self.offer: dict[str, Any] = {}
        self.says_offer = True
        self.links: list[LinkId] = []

    def take(self, event: Event) -> None:
        """Greet on a new link."""
        super().take(event)
        if isinstance(event, LinkUp):
            self.links.append(event.link)
            device, digest = NodeConfig().device_type, self.cluster.config.digest()
            self.say(event.link, Identity(role=self.role, device_type=device, cluster_config_hash=digest))
            if self.says_offer:
                self.say(event.link, capabilities(self.node_id, self.generation, **self.offer))


def dials(phone: Host) -> list[int]:
    return [effect.address for effect in phone.did(Connect)]


def test_a_node_with_a_radio_listens_and_more_so_without_a_coordinator(cluster: Cluster) -> None:
    phone = phone_of(cluster, radio_links_max=4)
    assert phone.did(Scan) == [Scan(ScanMode.LOW_LATENCY, 4, 60_000)]
    phone.member.neighbours.online_changed(True)
    assert phone.alive.context.out[-1] == Scan(ScanMode.LOW_POWER, 4, 60_000)
    assert cluster.add("deaf", config=NodeConfig(has_radio=False)).did(Scan) == []


def test_a_stranger_is_read_once_and_let_go(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(400)
    assert phone.traced(PeerLearned) == [PeerLearned(peer.node_id, 1, False, Medium.BLE)]
    cluster.run_for(2_000)
    assert phone.alive.gate.links == {}
    hear(phone, 7, bits())
    cluster.run_for(60_000)
    assert dials(phone) == [7]
    row = phone.member.peers.rows[peer.node_id]
    assert row.is_heard
    assert row.is_confirmed
    assert row.stats.drops == 0


def test_news_is_read_and_the_count_of_tasks_is_no_news(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    peer.generation = 5
    hear(phone, 7, bits(4))
    cluster.run_for(3_000)
    assert dials(phone) == [7, 7]
    assert [record.generation for record in phone.traced(PeerLearned)] == [1, 5]
    hear(phone, 7, bits(5))  # it was read already
    cluster.run_for(3_000)
    assert dials(phone) == [7, 7]


def test_loading_is_believed_at_once_and_read_when_it_is_over(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    hear(phone, 7, bits(2, loading=True))
    assert phone.traced(PeerLearned)[-1] == PeerLearned(peer.node_id, 2, True, Medium.BLE)
    assert phone.member.peers.rows[peer.node_id].says_loading
    cluster.run_for(30_000)
    assert dials(phone) == [7]
    peer.generation = 3
    hear(phone, 7, bits(3))
    cluster.run_for(3_000)
    assert dials(phone) == [7, 7]
    assert not phone.member.peers.rows[peer.node_id].says_loading


def test_of_two_strangers_the_smaller_tag_dials_first(cluster: Cluster) -> None:
    phone = phone_of(cluster, dial_courtesy_ms=3_000)
    peer_at(cluster, 7)
    hear(phone, 7, bits(of=b"\x00\x00\x00"))
    cluster.run_for(2_990)
    assert dials(phone) == []
    cluster.run_for(1_000)
    assert dials(phone) == [7]


def test_a_failed_dial_is_repeated_ever_later_and_not_for_ever(cluster: Cluster) -> None:
    phone = phone_of(cluster, dial_tries_max=4)
    hear(phone, 7, bits())
    cluster.run_for(120_000)
    times = [at for at, _, effects in phone.log for effect in effects if isinstance(effect, Connect)]
    waits = [(later - at) // 1000 for at, later in pairwise(times)]
    assert len(waits) == 3
    for wait, due in zip(waits, (500, 1_000, 2_000), strict=True):
        assert due * 0.9 <= wait - 1 <= due * 1.1 + 1
    peer_at(cluster, 7)
    hear(phone, 7, bits(2))  # it says something new
    cluster.run_for(2_000)
    assert len(phone.traced(PeerLearned)) == 1


def test_one_device_is_dialled_at_a_time_and_a_hanging_dial_is_cancelled(cluster: Cluster) -> None:
    phone = phone_of(cluster, dial_timeout_ms=4_000)
    phone.plan(Connect, HANGS)
    peer_at(cluster, 8)
    phone.take(PeersHeard((Heard(7, -50, bits()), Heard(8, -70, bits()))))
    cluster.run_for(3_000)
    assert len(dials(phone)) == 1
    cluster.run_for(3_000)
    assert len(phone.did(CancelOp)) == 1
    assert set(dials(phone)) == {7, 8}


def test_a_silent_peer_is_forgotten(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(90_000)
    assert phone.traced(PeerForgotten) == []
    phone.take(PeersSilent((7,)))
    assert phone.traced(PeerForgotten) == [PeerForgotten(peer.node_id)]
    assert phone.member.neighbours.rows == {}


def test_a_peer_with_another_address_and_tag_is_recognised(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    hear(phone, 9, bits(of=tag(peer.node_id, WINDOW + 1)))
    phone.take(PeersSilent((7,)))
    cluster.run_for(10_000)
    assert dials(phone) == [7]
    assert [row.node for row in phone.member.neighbours.rows.values()] == [peer.node_id]
    assert phone.traced(PeerForgotten) == []


def test_slots_are_shared_with_links_that_others_dialled(cluster: Cluster) -> None:
    phone = phone_of(cluster, radio_links_max=2)
    others = [peer_at(cluster, 10 + number, f"peer-{number}") for number in range(3)]
    cluster.put(phone, 7)
    for other in others:
        cluster.connect(other, 7)
    assert phone.did(Disconnect) == [Disconnect(others[2].links[0])]
    hear(phone, 20, bits())
    cluster.run_for(1_000)
    assert dials(phone) == []  # no slot is free
    cluster.run_for(8_000)
    assert dials(phone)[0] == 20


def test_whoever_did_not_dial_closes_an_idle_link_late(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 9)
    cluster.put(phone, 7)
    cluster.connect(peer, 7)
    cluster.run_for(4_000)
    assert len(phone.alive.gate.links) == 1
    cluster.run_for(2_000)
    assert phone.alive.gate.links == {}


def test_a_link_with_a_task_stays(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    phone.submit(model="small", deadline_ms=60_000)
    cluster.run_for(1_000)
    assert len(peer.all(Probe)) == 1
    assert len(phone.did(Connect)) == 2


def test_offline_two_phones_serve_each_other_by_dialling(cluster: Cluster) -> None:
    asks = phone_of(cluster)
    serves = cluster.add("serves", installed=[SMALL], active=SMALL)
    cluster.run_for(1_000)
    cluster.put(asks, 1)
    cluster.put(serves, 2)
    hear(asks, 2, bits((serves.alive.context.epoch << 32) | 2))
    cluster.run_for(5_000)
    assert asks.alive.gate.links == serves.alive.gate.links == {}
    command = asks.submit(model="small")
    cluster.run_for(5_000)
    assert asks.task(command).reason is None
    assert asks.task(command).served_by == serves.node_id
    cluster.run_for(10_000)
    assert asks.alive.gate.links == serves.alive.gate.links == {}
    assert cluster.sent(TaskRequest)


def test_a_task_whose_peer_cannot_be_dialled_ends(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    phone.plan(Connect, *[fails(Reason.UNAVAILABLE)] * 40)
    command = phone.submit(model="small", deadline_ms=10_000)
    cluster.run_for(11_000)
    assert phone.task(command).reason is not None
    assert peer.all(Probe) == []


def test_reading_makes_way_for_a_task(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    phone.plan(Connect, HANGS)
    hear(phone, 8, bits())
    cluster.run_for(1_000)
    phone.submit(model="small")
    cluster.run_for(500)
    assert dials(phone)[:3] == [7, 8, 7]
    assert len(peer.all(Probe)) == 1


def test_two_links_to_one_peer_become_one(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    cluster.put(phone, 1)
    hear(phone, 7, bits())
    cluster.run_for(510)
    cluster.connect(peer, 1)
    cluster.run_for(200)
    kept = list(phone.alive.gate.links)
    assert kept == [peer.links[0] if phone.node_id < peer.node_id else peer.links[1]]


def test_there_are_no_more_neighbours_than_peers_may_be(cluster: Cluster) -> None:
    phone = phone_of(cluster, peers_max=2)
    phone.take(PeersHeard(tuple(Heard(address, -80 + address, bits()) for address in (3, 1, 2))))
    assert list(phone.member.neighbours.rows) == [3, 2]


def test_a_device_that_has_no_room_for_bits_is_read_now_and_then(cluster: Cluster) -> None:
    phone = phone_of(cluster, reread_ms=60_000)
    peer_at(cluster, 7)
    hear(phone, 7, None)
    cluster.run_for(10_000)
    hear(phone, 7, None)
    cluster.run_for(10_000)
    assert dials(phone) == [7]
    cluster.run_for(60_000)
    hear(phone, 7, None)
    cluster.run_for(10_000)
    assert dials(phone) == [7, 7]


def test_a_device_without_bits_is_read_again_though_nothing_more_is_heard_of_it(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster, reread_ms=60_000), peer_at(cluster, 7)
    hear(phone, 7, None)
    cluster.run_for(30_000)
    peer.generation = 2
    assert len(dials(phone)) == 1
    cluster.run_for(40_000)
    assert len(dials(phone)) == 2
    assert phone.member.peers.rows[peer.node_id].capabilities.generation == 2  # type: ignore[union-attr]
    cluster.run_for(120_000)
    assert len(dials(phone)) == 4


def test_a_stranger_that_is_loading_is_read_when_it_is_ready(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits(loading=True))
    cluster.run_for(30_000)
    assert dials(phone) == []
    hear(phone, 7, bits(2))
    cluster.run_for(1_000)
    assert dials(phone) == [7]
    assert peer.node_id in phone.member.peers.rows


def test_a_link_that_was_dialled_to_read_is_closed_as_soon_as_it_was_read(cluster: Cluster) -> None:
    phone, _ = phone_of(cluster, link_read_ms=250), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    read_at = next(
        at for at, _, effects in phone.log for effect in effects if effect == Trace(phone.traced(PeerLearned)[0])
    )
    closed_at = next(at for at, _, effects in phone.log for effect in effects if isinstance(effect, Disconnect))
    assert closed_at - read_at == 250_000


def test_a_peer_is_probed_when_it_has_told_what_it_offers_now(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    peer.generation, peer.offer = 2, {"active_model": "other"}
    phone.submit(model="small", deadline_ms=5_000)
    cluster.run_for(6_000)
    assert len(dials(phone)) >= 2
    assert peer.all(Probe) == []


def test_a_peer_of_which_only_the_radio_says_that_nothing_is_new_is_read_before_it_is_probed(cluster: Cluster) -> None:
    phone = phone_of(cluster, capabilities_ttl_ms=10_000)
    peer = peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(20_000)
    row = phone.member.peers.rows[peer.node_id]
    assert row.holds_until < cluster.now
    peer.says_offer = False
    phone.submit(model="small", deadline_ms=20_000)
    cluster.run_for(800)
    assert len(dials(phone)) == 2
    assert peer.all(Probe) == []
    peer.say(peer.links[-1], capabilities(peer.node_id, 1))
    cluster.run_for(100)
    assert len(peer.all(Probe)) == 1


def test_a_dial_that_fails_when_the_round_is_over_changes_nothing(cluster: Cluster) -> None:
    phone = phone_of(cluster)
    peers = {address: peer_at(cluster, address, f"peer-{address}") for address in (7, 8)}
    for peer in peers.values():
        peer.offer = {"tokens_per_s": 10}
    for address in peers:
        hear(phone, address, bits())
        cluster.run_for(3_000)
    phone.plan(Connect, Outcome(), Outcome(after_us=1_000_000, reason=Reason.NO_ANSWER))
    phone.submit(model="small", deadline_ms=60_000)
    cluster.run_for(200)
    first, other = dials(phone)[2:]
    assert {first, other} == {7, 8}
    (probe,) = peers[first].all(Probe)
    peers[first].say(peers[first].links[-1], ProbeReply(task_id=probe.task_id, tokens_per_s=90, hold_ms=2_000))
    cluster.run_for(100)
    assert len(peers[first].all(TaskRequest)) == 1
    cluster.run_for(1_000)
    assert len(dials(phone)) == 4
    assert peers[other].all(TaskRequest) == []


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


@pytest.mark.parametrize("how", ["silent", "crowded out", "another address"])
def test_whom_a_task_waits_for_is_not_forgotten(cluster: Cluster, how: str) -> None:
    """A node that forgot it would look for it in vain, and raise."""
    phone, peer = phone_of(cluster, peers_max=2), peer_at(cluster, 7)
    hear(phone, 7, bits(), -90)
    cluster.run_for(3_000)
    phone.plan(Connect, HANGS)
    hear(phone, 8, bits())
    cluster.run_for(600)
    command = phone.submit(model="small", deadline_ms=20_000)
    if how == "silent":
        phone.take(PeersSilent((7,)))
    elif how == "crowded out":
        hear(phone, 9, bits(), -40)
    else:
        cluster.put(peer, 17)
        hear(phone, 17, bits(of=tag(peer.node_id, WINDOW)))
    cluster.run_for(30_000)
    assert phone.task(command).reason is not None
    assert len(peer.all(Probe)) >= 1
    assert len(phone.member.neighbours.rows) <= 2


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
