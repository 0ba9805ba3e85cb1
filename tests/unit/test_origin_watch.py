"""A broker whose origin gives nothing: who is sent there again, and when."""

from __future__ import annotations

import pytest

from edgecoder.coordinator.origin_watch import DOWN_BY, EXCUSED
from edgecoder.errors import Reason
from edgecoder.protocol import CDN_ID
from edgecoder.wire.messages import Got, Have, Lost
from edgecoder_sim.crypto import node_id
from tests.brokering import ALL, DIGEST, Bench

NOBODY_S = 1_800
"""For which the origin is down."""


class Outage(Bench):
    """Members that say at once that the origin gave them nothing."""

    def __init__(self, members: int, reason: Reason = Reason.NO_SOURCE) -> None:
        super().__init__()
        self.reason = reason
        for number in range(members):
            self.announce(1 + number, f"node-{number}")

    def lose(self, steps: int) -> dict[int, int]:
        """Let so many tenths of a second pass. Returns how often each was sent to the origin, for several pieces."""
        asked: dict[int, int] = {}
        for _ in range(steps):
            granted = self.granted()
            for link in {link for link, _, _ in granted}:
                asked[link] = asked.get(link, 0) + 1
            for link, piece, sender in granted:
                assert sender == CDN_ID
                lost = Lost(piece, CDN_ID, self.reason)
                self.broker.have(self.links[link], Have(file=DIGEST, lost=(lost,)))
            self.pass_s(0.1)
        return asked


def test_one_member_is_sent_there_less_and_less_often() -> None:
    """It was sent there again as soon as it had said that it got nothing."""
    bench = Outage(1)
    often = bench.lose(600)[1]
    seldom = bench.lose(600)[1]
    assert 1 <= seldom < often < 10


@pytest.mark.parametrize("members", [DOWN_BY, 40])
def test_many_are_sent_there_no_more_often_than_a_few(members: int) -> None:
    bench = Outage(members)
    first = sum(bench.lose(100).values())
    later = sum(bench.lose(10 * NOBODY_S).values())
    assert first <= 2 * members
    assert NOBODY_S / 60 - 5 <= later <= NOBODY_S / 60 + 5


def test_all_are_sent_there_again_when_one_has_got_something() -> None:
    bench = Outage(8)
    bench.lose(3_000)
    while not (granted := bench.granted()):
        bench.pass_s(1)
    ((link, piece, _),) = granted
    bench.broker.have(bench.links[link], Have(file=DIGEST, got=(Got(piece, CDN_ID, 65_536),)))
    assert len({link for link, _, sender in bench.granted() if sender == CDN_ID}) > 3


def test_a_member_that_says_so_without_end_keeps_nobody_else_from_it() -> None:
    bench = Outage(1)
    bench.lose(300)
    for number in (2, 3):
        bench.announce(number, f"node-{number}")
    assert {link for link, _, sender in bench.granted() if sender == CDN_ID} >= {2, 3}


@pytest.mark.parametrize("reason", sorted(EXCUSED, key=str), ids=str)
def test_what_says_nothing_of_the_origin_holds_nobody_back(reason: Reason) -> None:
    bench = Outage(1)
    ((_, piece, _), *_) = bench.granted()
    bench.broker.have(bench.links[1], Have(file=DIGEST, lost=(Lost(piece, CDN_ID, reason),)))
    assert CDN_ID not in bench.broker.files[DIGEST].swarm.peers[node_id("node-0")].refused


def test_members_give_while_the_origin_is_down() -> None:
    bench = Outage(4)
    bench.lose(100)
    bench.announce(9, "ada", ALL)
    assert {sender for _, _, sender in bench.granted()} == {node_id("ada")}
