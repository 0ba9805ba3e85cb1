"""Peers over radio links: who is told what, who is asked for how much, who is called, and what keeps a link."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import Connect, FetchPiece, ServePiece, Source
from edgecoder.core.events import PeersSilent, PowerChanged, PullModel
from edgecoder.core.giving import PieceAsked
from edgecoder.core.ids import LinkId, Medium
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog
from edgecoder.seeding.pieces import bitmap_to_bytes
from edgecoder.wire.advertisement import Bits, short_generation
from edgecoder.wire.messages import Announce, Got, Have
from tests.catalogs import MIB, entry
from tests.harness import Cluster
from tests.hosts import HANGS, Host, Outcome, fails
from tests.neighbourhood import LATE_TAG, Speaker, bits, dials, hear, peer_at

PIECES = 32
FILE = entry("shared", 0.5, file_size_bytes=2 * MIB, piece_root="ab" * 32)
OTHER = entry("other", 0.5, file_size_bytes=2 * MIB, piece_root="cd" * 32)
ID = bytes.fromhex(FILE.sha256)
ALL = (1 << PIECES) - 1
OFFLINE = Outcome(reason=Reason.NO_SOURCE)


@pytest.fixture
def village() -> Cluster:
    return Cluster(catalog=Catalog((FILE, OTHER)))


def phone(cluster: Cluster, *, has: bool = False, **config: object) -> Host:
    """A phone of a place without internet: all that it asks the CDN for fails."""
    hour = 3_600_000
    waits = {"transfer_patience_ms": hour, "cdn_retry_ms": hour, "cdn_retry_max_ms": hour, "link_read_ms": 900}
    given = NodeConfig(**{**waits, **config})  # type: ignore[arg-type]  # by name
    host = cluster.add("phone", config=given, installed=[FILE] if has else [])
    cluster.drive()
    return host


def pulls(cluster: Cluster, host: Host) -> None:
    """Its user wants the file, and the CDN has been asked in vain."""
    host.plan(FetchPiece, OFFLINE, OFFLINE)
    host.ask(PullModel, model=FILE.model_id)
    cluster.run_for(1_000)
    assert {effect.source for effect in host.did(FetchPiece)} == {Source.CDN}


def announce(have: int, *, wants: bool = False, slots: int = 4) -> Announce:
    return Announce(file=ID, have=bitmap_to_bytes(have, PIECES), wants=wants, slots=slots)


def near(host: Host) -> list[FetchPiece]:
    """What it has asked peers for."""
    return [effect for effect in host.did(FetchPiece) if effect.source is not Source.CDN]


def met(cluster: Cluster, host: Host, address: int = 7, name: str = "peer") -> tuple[Speaker, LinkId]:
    """A peer whose device was heard, and the link over which it was read."""
    peer = peer_at(cluster, address, name)
    hear(host, address, bits())
    cluster.run_for(600)
    return peer, peer.links[-1]


def test_what_is_wanted_is_said_on_a_new_link_and_what_the_peer_has_is_asked_for(village: Cluster) -> None:
    host = phone(village)
    pulls(village, host)
    peer, link = met(village, host)
    said = peer.last(Announce)
    assert (said.file, said.wants, int.from_bytes(said.have)) == (ID, True, 0)
    host.plan(FetchPiece, HANGS, HANGS)
    peer.say(link, announce(0b1110))
    village.run_for(100)
    first, second = near(host)
    assert (first.source, first.peer, first.link) == (Source.BLE, peer.node_id, link)
    assert {first.piece, second.piece} < {1, 2, 3}


def test_all_pieces_come_over_one_link_and_the_link_is_let_go(village: Cluster) -> None:
    host = phone(village)
    pulls(village, host)
    peer, link = met(village, host)
    peer.say(link, announce(ALL))
    village.run_for(2_000)
    assert sorted(effect.piece for effect in near(host)) == list(range(PIECES))
    assert peer.last(Announce).wants is False
    village.run_for(15_000)
    assert host.alive.gate.links == {}


def test_only_who_wants_a_file_is_told_of_it_and_then_only_of_news(village: Cluster) -> None:
    host = phone(village)
    pulls(village, host)
    host.plan(FetchPiece, *[Outcome(after_us=400_000)] * PIECES)
    seed, from_seed = met(village, host, 7, "seed")
    seed.say(from_seed, announce(ALL))
    other, to_other = met(village, host, 8, "other")
    other.say(to_other, announce(0, wants=True))
    village.run_for(2_500)
    assert len(other.all(Announce)) == len(seed.all(Announce)) == 1
    assert not seed.all(Have)
    told = [got.piece for have in other.all(Have) for got in have.got]
    assert len(told) == len(set(told)) >= 4
    assert len(other.all(Have)) <= 3, "news of a second go together"
    village.run_for(8_000)
    assert {got.piece for have in other.all(Have) for got in have.got} < set(range(PIECES))
    assert other.last(Announce).wants is False, "at the end all is told"


def test_who_has_the_file_answers_who_wants_it_and_nobody_else(village: Cluster) -> None:
    host = phone(village, has=True)
    peer, link = met(village, host)
    assert not peer.all(Announce)
    peer.say(link, announce(0, wants=True))
    village.run_for(100)
    assert int.from_bytes(peer.last(Announce).have, "little") == ALL
    peer.say(link, announce(1, wants=True))
    village.run_for(100)
    assert len(peer.all(Announce)) == 1


def test_who_wanted_a_file_while_nothing_was_given_is_told_when_that_is_over(village: Cluster) -> None:
    host = phone(village, has=True)
    host.take(PowerChanged(5, on_external_power=False, low_power=True))
    peer, link = met(village, host)
    peer.say(link, announce(0b1, wants=True))
    village.run_for(100)
    assert not peer.all(Announce)
    host.take(PowerChanged(90, on_external_power=True))
    village.run_for(100)
    assert [(said.slots, int.from_bytes(said.have, "little")) for said in peer.all(Announce)] == [(4, ALL)]
    host.take(PowerChanged(5, on_external_power=False, low_power=True))
    village.run_for(100)
    assert peer.last(Announce).slots == 0


def test_news_of_pieces_that_there_are_not_change_nothing(village: Cluster) -> None:
    host = phone(village)
    pulls(village, host)
    peer, link = met(village, host)
    peer.say(link, announce(0, wants=True))
    peer.say(link, Have(file=ID, got=(Got(4_000, peer.node_id, 0),)))
    peer.say(link, Have(file=bytes(32), got=(Got(0, peer.node_id, 0),)))
    peer.say(link, Announce(file=ID, have=b"\\xff" * 9, wants=False, slots=4))
    village.run_for(200)
    assert near(host) == []


@pytest.mark.parametrize(
    ("reason", "asked"), [(Reason.BUSY, True), (Reason.NOT_HELD, False), (Reason.LOW_POWER, False)]
)
def test_who_is_busy_is_asked_again_and_who_gives_nothing_is_not(village: Cluster, reason: Reason, asked: bool) -> None:
    host = phone(village)
    pulls(village, host)
    peer, link = met(village, host)
    host.plan(FetchPiece, fails(reason))
    peer.say(link, announce(0b1))
    village.run_for(500)
    assert len(near(host)) == 1
    village.run_for(1_000)
    assert (len(near(host)) > 1) is asked


def test_a_link_over_which_a_peer_fetches_is_kept(village: Cluster) -> None:
    host = phone(village, has=True, upload_slots=1)
    peer, link = met(village, host)
    host.plan(ServePiece, Outcome(after_us=30_000_000))
    host.take(PieceAsked(1, peer.node_id, ID, 0, 0, None, link))
    village.run_for(25_000)
    assert link in host.alive.gate.links
    village.run_for(25_000)
    assert host.alive.gate.links == {}


def test_a_known_device_is_called_for_a_file_that_is_wanted_now(village: Cluster) -> None:
    host = phone(village)
    peer, _ = met(village, host)
    village.run_for(10_000)
    assert dials(host) == [7]
    pulls(village, host)
    village.run_for(5_000)
    assert dials(host) == [7, 7]
    assert peer.last(Announce).wants
    village.run_for(60_000)
    assert dials(host) == [7, 7], "it had nothing, and its files are the same"


def test_who_had_something_is_called_again_less_and_less_and_not_for_ever(village: Cluster) -> None:
    host = phone(village)
    pulls(village, host)
    peer, link = met(village, host)
    host.plan(FetchPiece, HANGS, HANGS)
    peer.say(link, announce(ALL))
    village.run_for(100)
    del village.at_address[7]
    village.unlink(link)
    for effect in near(host):
        host.end(effect, fails(Reason.PEER_LOST))
    village.run_for(120_000)
    calls = [at_us for at_us, _, effects in host.log for effect in effects if isinstance(effect, Connect)]
    assert len(calls) == 1 + NodeConfig().dial_tries_max
    gaps = [after - before for before, after in pairwise(calls[1:])]
    assert gaps == sorted(gaps)


def test_who_has_what_another_was_asked_for_is_called_when_that_one_does_not_give_it(village: Cluster) -> None:
    """The last piece of a file was asked of silent phones alone, while honest ones stood beside them."""
    host = phone(village)
    pulls(village, host)
    silent, to_silent = met(village, host, 7, "silent")
    host.plan(FetchPiece, HANGS)
    silent.say(to_silent, announce(0b1))
    village.run_for(100)
    honest, to_honest = met(village, host, 8, "honest")
    honest.say(to_honest, announce(0b1))
    village.run_for(100)
    village.unlink(to_honest)
    (asked,) = near(host)
    del village.at_address[7]
    village.unlink(to_silent)
    host.end(asked, fails(Reason.PEER_LOST))
    for _ in range(50):
        village.run_for(100)
        if honest.links[-1] != to_honest:
            break
    assert dials(host).count(8) == 2
    honest.say(honest.links[-1], announce(0b1))
    village.run_for(100)
    assert near(host)[-1].peer == honest.node_id


def test_much_is_called_over_wifi_direct_and_bluetooth_is_left(village: Cluster) -> None:
    host = phone(village, wifi_direct_links_max=2)
    pulls(village, host)
    peer = peer_at(village, 7)
    hear(host, 7, Bits(False, short_generation(1), LATE_TAG, wifi_direct=True))
    village.run_for(600)
    host.plan(Connect, Outcome(after_us=1_000_000))
    host.plan(FetchPiece, HANGS, HANGS, *[HANGS] * 8)
    peer.say(peer.links[-1], announce(ALL))
    village.run_for(1_200)
    assert host.did(Connect)[-1].medium is Medium.WIFI_DIRECT
    assert {effect.source for effect in near(host)} == {Source.BLE}
    peer.say(peer.links[-1], announce(ALL))
    village.run_for(200)
    over = [effect for effect in near(host) if effect.source is Source.WIFI_DIRECT]
    assert len(over) == NodeConfig().uploads_per_peer_max - 2
    assert all(effect.link == peer.links[-1] for effect in over)
    assert {effect.source for effect in host.opened(FetchPiece)} == {Source.WIFI_DIRECT}


def test_a_silent_device_is_not_called(village: Cluster) -> None:
    host = phone(village)
    met(village, host)
    village.run_for(10_000)
    host.take(PeersSilent((7,)))
    pulls(village, host)
    village.run_for(10_000)
    assert dials(host) == [7]
