"""A broker and nodes that nobody can dial: who is granted to whom, and when a sender is asked to dial."""

from __future__ import annotations

from typing import Any

import pytest

from edgecoder.errors import Reason
from edgecoder.protocol import CDN_ID
from edgecoder.seeding.tickets import is_signed
from edgecoder.wire.messages import DialRequest, Grant, Have, Lost
from edgecoder_sim.crypto import node_id
from tests.brokering import ALL, DIGEST, Bench

HIDDEN = {"dialable": False}


def granted(bench: Bench) -> list[tuple[int, Grant]]:
    """Who is told to fetch something from a node."""
    return [(link, message) for link, message in bench.grants() if any(row.sender != CDN_ID for row in message.pieces)]


def dials(bench: Bench) -> list[tuple[int, DialRequest]]:
    return [(link, message) for link, message in bench.sent() if isinstance(message, DialRequest)]


@pytest.mark.parametrize(
    ("sender", "receiver", "pairs"), [({}, {}, 1), (HIDDEN, {}, 1), ({}, HIDDEN, 1), (HIDDEN, HIDDEN, 0)]
)
def test_only_pairs_are_granted_of_which_one_can_dial_the_other(
    sender: dict[str, Any], receiver: dict[str, Any], pairs: int
) -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL, **sender)
    bench.announce(2, "ben", **receiver)
    grants = granted(bench)
    assert len(grants) == pairs
    reverse = (node_id("ada"),) if sender else ()
    assert all(grant.reverse == reverse for _, grant in grants)


def test_who_cannot_be_dialled_is_given_whom_it_can_dial_in_place_of_others() -> None:
    """Its targets are drawn: they must not stay full of those that it cannot reach."""
    bench = Bench(swarm_degree_max=2)
    bench.announce(1, "ada", ALL, **HIDDEN)
    for number in range(2, 12):
        bench.announce(number, f"hidden {number}", **HIDDEN)
    bench.announce(12, "ben", endpoint="192.0.2.7:4303")
    bench.pass_s(10)
    assert {link for link, _ in granted(bench)} == {12}


def waiting() -> Bench:
    """One that is to dial another."""
    bench = Bench()
    bench.announce(1, "ada", ALL, **HIDDEN)
    bench.announce(2, "ben", endpoint="192.0.2.7:4303")
    assert granted(bench)
    bench.sent()
    return bench


def test_a_sender_is_asked_to_dial_with_a_leave_to_offer() -> None:
    bench = waiting()
    bench.broker.dial(bench.links[2], DialRequest(file=DIGEST, peer=node_id("ada")))
    ((link, request),) = dials(bench)
    assert (link, request.peer, request.endpoint) == (1, node_id("ben"), "192.0.2.7:4303")
    assert request.ticket is not None
    parties = (node_id("ben"), node_id("ada"), DIGEST)
    assert is_signed("edgecoder", bench.verifier, request.ticket, *parties, is_offer=True)
    assert not is_signed("edgecoder", bench.verifier, request.ticket, *parties)


def test_it_is_asked_again_but_not_at_once() -> None:
    bench = waiting()
    request = DialRequest(file=DIGEST, peer=node_id("ada"))
    for _ in range(5):
        bench.broker.dial(bench.links[2], request)
    assert len(dials(bench)) == 1
    bench.pass_s(1)
    bench.broker.dial(bench.links[2], request)
    assert len(dials(bench)) == 1


def lose(bench: Bench, piece: int) -> None:
    """A receiver says that it could not reach a sender."""
    lost = Lost(piece, node_id("ada"), Reason.PEER_LOST)
    bench.broker.have(bench.links[2], Have(file=DIGEST, lost=(lost,)))


def ordered(bench: Bench) -> tuple[set[int], set[tuple[bytes, ...]]]:
    """The pieces that come from a node, and which senders are to dial."""
    grants = [grant for _, grant in granted(bench)]
    pieces = {row.piece for grant in grants for row in grant.pieces if row.sender != CDN_ID}
    return pieces, {grant.reverse for grant in grants}


def test_who_does_not_know_that_it_cannot_be_reached_is_asked_to_dial_and_if_that_fails_is_dialled_again() -> None:
    """A laptop at home tells the address that it has there."""
    bench = Bench()
    bench.announce(1, "ada", ALL, endpoint="10.0.0.7:4303")
    bench.announce(2, "ben", endpoint="192.0.2.7:4303")
    said = []
    for _ in range(3):
        pieces, reverse = ordered(bench)
        said.append(reverse)
        bench.sent()
        for piece in pieces:
            lose(bench, piece)
            break
        bench.announce(1, "ada", ALL, endpoint="10.0.0.7:4303")
        bench.pass_s(6)
    assert said == [{()}, {(node_id("ada"),)}, {()}]


def test_who_cannot_be_dialled_itself_goes_on_dialling() -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL)
    bench.announce(2, "ben", **HIDDEN)
    pieces, _ = ordered(bench)
    bench.sent()
    lose(bench, min(pieces))
    bench.announce(1, "ada", ALL)
    bench.pass_s(6)
    assert ordered(bench)[1] == {()}


@pytest.mark.parametrize(
    ("link", "peer"),
    [
        (2, "ben"),  # itself
        (2, "nobody"),
        (1, "ben"),  # nothing is to come from there
        (3, "ada"),  # who was granted nothing
        (2, "dot"),  # who can be dialled
    ],
)
def test_nobody_is_made_to_dial_who_was_not_granted_to_them(link: int, peer: str) -> None:
    bench = waiting()
    bench.announce(4, "dot", ALL)
    bench.link(3, "cy")
    bench.sent()
    bench.broker.dial(bench.links[link], DialRequest(file=DIGEST, peer=node_id(peer)))
    bench.broker.dial(bench.links[link], DialRequest(file=bytes(32), peer=node_id(peer)))
    assert not dials(bench)
