"""Members that lie to the broker in what they say: about epochs, links, others, and what they fetch by themselves."""

from __future__ import annotations

from edgecoder.config import ClusterConfig
from edgecoder.coordinator.broker import EPOCH_AHEAD_MS
from edgecoder.coordinator.swarm import ORDER_US_MAX
from edgecoder.errors import Reason
from edgecoder.protocol import CDN_ID
from edgecoder.seeding.credits import SeedRule
from edgecoder.wire.messages import Got, Have, Lost
from edgecoder_sim.crypto import node_id
from tests.brokering import ALL, DIGEST, PIECES, SLOW, Bench


def test_no_member_can_push_the_epochs_farther_than_a_day() -> None:
    """One that named the last epoch that counted ended the grants of a file for good."""
    bench = Bench()
    for _ in range(5):
        for epoch in (2 * EPOCH_AHEAD_MS, (1 << 48) - 1, EPOCH_AHEAD_MS + bench.context.now // 1000):
            bench.announce(1, "liar", broker_epoch=epoch)
            bench.pass_s(40)
    newest = bench.broker.files[DIGEST].epoch
    assert newest <= EPOCH_AHEAD_MS + bench.context.now // 1000
    bench.sent()
    bench.announce(2, "ben", broker_epoch=newest)
    assert {grant.broker_epoch for _, grant in bench.grants()} == {newest}


def test_no_member_can_void_the_tickets_of_others_again_and_again() -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL)
    bench.announce(2, "ben")
    epochs = set()
    for _ in range(58):
        bench.pass_s(1)
        bench.announce(3, "liar", 1, broker_epoch=bench.broker.files[DIGEST].epoch + 1)
        epochs.add(bench.broker.files[DIGEST].epoch)
    assert len(epochs) == 2


def test_who_was_not_to_get_anything_of_a_sender_cannot_say_that_it_is_gone() -> None:
    """Two members said so of all seeds, and nobody was given anything."""
    bench = Bench()
    seeds = [node_id(f"seed-{number}") for number in range(5)]
    for number in range(5):
        bench.announce(10 + number, f"seed-{number}", ALL)
    for number, name in ((1, "ben"), (2, "cy")):
        bench.announce(number, name)
        ordered = {sender for link, _, sender in bench.granted() if link == number}
        lost = tuple(Lost(PIECES - 1, seed, Reason.PEER_LOST) for seed in seeds if seed not in ordered)
        bench.broker.have(bench.links[number], Have(file=DIGEST, lost=lost))
    bench.announce(3, "dora")
    assert bench.granted()
    assert all(sender in seeds for _, _, sender in bench.granted())
    swarm = bench.broker.files[DIGEST].swarm
    assert not any(swarm.peers[seed].is_doubted for seed in seeds)


def test_a_sender_that_two_could_not_reach_and_a_third_could_is_there() -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL)
    for number, name in ((2, "ben"), (3, "cy")):
        bench.announce(number, name)
        granted = [(piece, sender) for link, piece, sender in bench.granted() if link == number]
        lost = tuple(Lost(piece, sender, Reason.PEER_LOST) for piece, sender in granted if sender != CDN_ID)
        bench.broker.have(bench.links[number], Have(file=DIGEST, lost=lost))
    bench.granted()
    bench.announce(4, "dora", slots=0)
    for _ in range(62):
        bench.pass_s(1)
        bench.broker.have(bench.links[4], Have(file=DIGEST))
    ((link, piece),) = [(link, piece) for link, piece, sender in bench.granted() if sender == node_id("ada")][:1]
    bench.broker.have(bench.links[link], Have(file=DIGEST, got=(Got(piece, node_id("ada"), 65_536),)))
    assert not bench.broker.files[DIGEST].swarm.peers[node_id("ada")].is_doubted


def test_what_a_member_says_it_fetches_by_itself_counts_for_a_while() -> None:
    """One that said so of all pieces kept the others from being given any."""
    bench = Bench()
    bench.announce(1, "ben")
    bench.broker.have(bench.links[1], Have(file=DIGEST, taking=tuple(range(PIECES))))
    bench.sent()
    bench.announce(2, "cy")
    assert not bench.granted()
    for _ in range(60):
        bench.pass_s(1)
        bench.broker.have(bench.links[1], Have(file=DIGEST, taking=tuple(range(PIECES))))
    assert {(link, sender) for link, _, sender in bench.granted()} >= {(2, CDN_ID)}


def test_what_is_fetched_by_who_gives_nothing_does_not_count() -> None:
    bench = Bench()
    bench.announce(1, "ben", slots=0)
    bench.broker.have(bench.links[1], Have(file=DIGEST, taking=tuple(range(PIECES))))
    bench.sent()
    bench.announce(2, "cy")
    assert {(link, sender) for link, _, sender in bench.granted()} == {(2, CDN_ID)}


def test_what_comes_in_time_of_what_a_member_fetches_by_itself_keeps_the_rest() -> None:
    bench = Bench(cluster=ClusterConfig(cdn_kbit_per_s=SLOW))
    bench.announce(1, "ben")
    ordered = {piece for _, piece, _ in bench.granted()}
    taken = [piece for piece in range(PIECES) if piece not in ordered]
    bench.broker.have(bench.links[1], Have(file=DIGEST, taking=tuple(taken)))
    bench.announce(2, "cy")
    for piece in taken[:-1]:
        bench.pass_s(3)
        bench.broker.have(bench.links[1], Have(file=DIGEST, got=(Got(piece, CDN_ID, 65_536),)))
    assert {piece for _, piece, sender in bench.granted() if sender == CDN_ID} <= ordered


def test_no_order_is_waited_for_much_longer_than_two_minutes() -> None:
    """A silent member that claimed a kilobit a second held its receivers up for days."""
    bench = Bench()
    bench.announce(1, "ada", ALL, up_kbit_per_s=1)
    bench.announce(2, "ben", down_kbit_per_s=1)
    rows = [row for _, grant in bench.grants() for row in grant.pieces]
    assert rows
    assert all(row.expect_ms <= ORDER_US_MAX // 1000 + 1000 for row in rows)
    swarm = bench.broker.files[DIGEST].swarm
    first = set(swarm.orders.values())
    for _ in range(50):
        bench.pass_s(5)
        bench.broker.have(bench.links[2], Have(file=DIGEST))
    assert not first & set(swarm.orders.values())


def test_who_gives_nothing_is_no_seeder_by_whose_number_credits_are_reckoned() -> None:
    bench = Bench()
    for number in range(10):
        bench.announce(10 + number, f"rider-{number}", ALL, slots=0)
    bench.announce(1, "ada", ALL)
    bench.announce(2, "ben")
    bench.broker.have(bench.links[2], Have(file=DIGEST, got=(Got(0, node_id("ada"), 65_536),)))
    assert bench.broker.credits.micro_credits(node_id("ada")) == SeedRule().micro_credits(65_536, 1)
