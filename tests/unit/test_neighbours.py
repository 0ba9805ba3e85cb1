"""Neighbours: who is dialled, when, how often, and when a link is let go."""

from __future__ import annotations

from itertools import pairwise

from edgecoder.config import NodeConfig
from edgecoder.core.effects import CancelOp, Connect, Disconnect, Scan, ScanMode, Trace
from edgecoder.core.events import CancelTask, Heard, PeersHeard, PeersSilent
from edgecoder.core.ids import Medium, Role
from edgecoder.errors import Reason
from edgecoder.trace import PeerForgotten, PeerLearned
from edgecoder.wire.advertisement import tag
from edgecoder.wire.messages import Probe, ProbeReply, TaskRequest
from tests.catalogs import SMALL
from tests.harness import Cluster, Puppet
from tests.hosts import HANGS, Outcome, fails
from tests.neighbourhood import WINDOW, bits, dials, hear, peer_at, phone_of
from tests.strategies import capabilities


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


def test_a_task_that_waits_for_a_dial_goes_on_when_the_device_falls_silent(cluster: Cluster) -> None:
    phone = phone_of(cluster)
    peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    phone.plan(Connect, HANGS)
    hear(phone, 8, bits())
    cluster.run_for(600)
    command = phone.submit(model="small", deadline_ms=10_000)
    phone.take(PeersSilent((7,)))  # the dial to 8 is still being cancelled
    cluster.run_for(11_000)
    assert phone.task(command).reason is not None


def test_a_task_that_waits_for_a_dial_goes_on_when_the_device_makes_room(cluster: Cluster) -> None:
    phone = phone_of(cluster, peers_max=2)
    peer_at(cluster, 7)
    hear(phone, 7, bits(), -90)
    cluster.run_for(3_000)
    phone.plan(Connect, HANGS)
    hear(phone, 8, bits())
    cluster.run_for(600)
    command = phone.submit(model="small", deadline_ms=10_000)
    hear(phone, 9, bits(), -40)
    cluster.run_for(11_000)
    assert phone.task(command).reason is not None


def test_a_dial_may_end_after_its_task(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    phone.plan(Connect, HANGS)
    command = phone.submit(model="small", deadline_ms=60_000)
    cluster.run_for(300)
    phone.take(CancelTask(999, command))
    cluster.run_for(20_000)
    assert peer.all(Probe) == []


def offered_by_who_is_linked(cluster: Cluster, tokens_per_s: int) -> Puppet:
    """A peer with a link, of some speed, that has offered a place; another, without one, cannot be dialled."""
    phone, _ = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    near = cluster.puppet("near", Role.AGENT)
    link = cluster.link(near, phone)
    near.say(link, capabilities(near.node_id, 1, tokens_per_s=tokens_per_s))
    cluster.run_for(15)
    phone.plan(Connect, HANGS)
    phone.submit(model="small", max_tokens=100)
    cluster.run_for(15)
    hold_ms = NodeConfig().probe_hold_ms
    near.say(link, ProbeReply(task_id=near.last(Probe).task_id, tokens_per_s=tokens_per_s, hold_ms=hold_ms))
    return near


def test_a_dial_may_end_after_its_round(cluster: Cluster) -> None:
    """Nobody could beat the peer that has a link already, so the task goes there while another is being dialled."""
    near = offered_by_who_is_linked(cluster, 1000)
    cluster.run_for(100)
    assert len(near.all(TaskRequest)) == 1
    cluster.run_for(5_000)


def test_places_are_kept_for_as_long_as_a_round_that_dials_takes(cluster: Cluster) -> None:
    near = offered_by_who_is_linked(cluster, 10)
    cluster.run_for(3_100)
    assert len(near.all(TaskRequest)) == 1


def test_silence_takes_nobody_off_the_blacklist(cluster: Cluster) -> None:
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    stats = phone.member.peers.rows[peer.node_id].stats
    stats.blacklisted_until = until = phone.alive.context.now + 200_000_000
    phone.take(PeersSilent((7,)))
    assert peer.node_id not in phone.member.peers.rows
    hear(phone, 7, bits())
    cluster.run_for(5_000)
    assert phone.member.peers.rows[peer.node_id].stats.blacklisted_until == until


def test_a_device_that_was_passed_over_may_call(cluster: Cluster) -> None:
    phone, caller = phone_of(cluster, peers_max=2), peer_at(cluster, 3)
    cluster.put(phone, 1)
    phone.take(PeersHeard(tuple(Heard(address, -50, bits(loading=True)) for address in (5, 6))))
    hear(phone, 3, bits(), rssi_dbm=-90)
    cluster.connect(caller, 1)
    cluster.run_for(100)
    assert phone.member.neighbours.rows[3].is_heard
    phone.plan(Connect, HANGS)
    phone.take(PeersSilent((5, 6)))
    cluster.run_for(60_000)
    assert list(phone.member.neighbours.rows) == [3]
    phone.take(PeersSilent((3,)))
    cluster.run_for(60_000)
    assert list(phone.member.neighbours.rows) == []


def test_news_stays_news_until_it_is_read_though_a_third_life_looks_like_the_first(cluster: Cluster) -> None:
    """Advertisements carry four bits of the epoch: sixteen lives later they are the same again."""
    phone, peer = phone_of(cluster), peer_at(cluster, 7)
    hear(phone, 7, bits())
    cluster.run_for(3_000)
    row = phone.member.peers.rows[peer.node_id]
    hear(phone, 7, bits((5 << 32) | 1, loading=True))
    hear(phone, 7, bits((16 << 32) | 1, loading=True))
    assert row.says_loading
    read = len(dials(phone))
    hear(phone, 7, bits((16 << 32) | 1))
    assert row.is_outdated
    cluster.run_for(3_000)
    assert len(dials(phone)) == read + 1
