"""The peers that a node asks when it has no broker: which piece, of whom, and how often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgecoder.core.ids import NodeId
from edgecoder.seeding.known import PEERS_MAX, KnownPeers, rarest
from edgecoder.wire.messages import Ticket
from edgecoder_sim.crypto import node_id

PIECES = 8
ALL = (1 << PIECES) - 1
ADA, BEN, CY = node_id("ada"), node_id("ben"), node_id("cy")
TICKET = Ticket(node_id("broker"), 1, 60_000, b"s" * 64)
SECOND = 1_000_000


def lowest(pieces: int) -> int:
    return (pieces & -pieces).bit_length() - 1


def known(**haves: int) -> KnownPeers:
    """Peers with tickets that have said what they have."""
    peers = KnownPeers(PIECES)
    for name, have in haves.items():
        peers.named(node_id(name), f"{name}:4303", TICKET, lowest(have))
        peers.gave(node_id(name), have)
    return peers


def choose(peers: KnownPeers, wanted: int = ALL, now: int = 0, busy: NodeId | None = None) -> tuple[NodeId, int] | None:
    return peers.choose(wanted, lambda peer: peer != busy, lowest, now)


def test_the_piece_that_the_fewest_have_comes_first() -> None:
    peers = known(ada=0b0111, ben=0b1011, cy=0b0011)
    assert choose(peers) == (ADA, 2)
    assert choose(peers, wanted=0b1011) == (BEN, 3)
    assert choose(peers, wanted=0b0011) == (CY, 0)  # all have it: the one that has least of what others want


def test_a_piece_is_as_rare_as_all_know_it_whether_they_are_free_or_not() -> None:
    peers = known(ada=0b110, ben=0b010)
    assert choose(peers, busy=BEN) == (ADA, 2)
    assert choose(peers, wanted=0b010, busy=BEN) == (ADA, 1)


def test_nobody_is_asked_who_is_busy_with_it_or_gave_no_ticket() -> None:
    peers = known(ada=1)
    assert choose(peers, busy=ADA) is None
    peers.named(BEN, "", None, 1)
    assert choose(peers, busy=ADA) is None
    assert peers.address(BEN) == (None, "")
    assert peers.address(ADA) == (TICKET, "ada:4303")


def test_nothing_wanted_is_nothing_asked() -> None:
    assert choose(known(ada=ALL), wanted=0) is None


def test_who_has_nothing_new_is_asked_for_anything_and_says_what_it_has() -> None:
    peers = known(ada=0b1)
    assert choose(peers, wanted=0b1100) == (ADA, 2)
    peers.failed(ADA, 2, 0b1001, now=0)
    assert choose(peers, wanted=0b1100, now=SECOND) == (ADA, 3)


def test_who_gives_nothing_is_asked_less_and_less_and_never_not_at_all() -> None:
    peers, now, waits = known(ada=ALL), 0, []
    for _ in range(8):
        peers.failed(ADA, 0, 0, now)
        again = peers.next_at(now)
        assert again is not None
        assert choose(peers, now=again - 1) is None
        assert choose(peers, now=again) is not None
        waits.append((again - now) // SECOND)
        now = again
    assert waits == [1, 2, 4, 8, 16, 32, 32, 32]
    peers.gave(ADA, ALL)
    assert choose(peers, now=now) is not None
    assert peers.next_at(now) is None


def test_what_a_peer_says_is_not_believed_of_the_piece_that_it_has_just_refused() -> None:
    peers = known(ada=ALL)
    asked = []
    for round_s in (0, 1, 3):
        choice = choose(peers, wanted=0b111, now=round_s * SECOND)
        assert choice is not None
        asked.append(choice[1])
        peers.failed(ADA, choice[1], ALL, round_s * SECOND)
    assert asked == [0, 1, 0]  # a liar is asked in vain less often, not for the same again and again


def test_pieces_that_the_file_does_not_have_are_no_pieces() -> None:
    peers = known(ada=0b1)
    peers.gave(ADA, 1 << 4000 | 0b10)
    assert choose(peers, wanted=0b10) == (ADA, 1)
    peers.failed(ADA, 1, 1 << 4000, now=0)
    assert choose(peers, wanted=0b1, now=SECOND) == (ADA, 0)


def test_those_who_were_named_first_are_forgotten_first() -> None:
    peers = known(ada=1)
    for number in range(PEERS_MAX):
        peers.named(node_id(f"other {number}"), "", TICKET, 1)
    assert peers.address(ADA) == (None, "")
    peers.gave(ADA, ALL)
    peers.failed(ADA, 0, ALL, now=0)
    assert peers.next_at(0) is None


def test_who_is_named_again_is_among_the_latest() -> None:
    peers = known(ada=1, ben=1)
    for number in range(PEERS_MAX - 2):
        peers.named(node_id(f"other {number}"), "", TICKET, 1)
    peers.named(ADA, "ada:4303", None, 2)
    peers.named(CY, "", TICKET, 1)
    assert peers.address(ADA) == (TICKET, "ada:4303")
    assert peers.address(BEN) == (None, "")


@given(st.lists(st.integers(1, ALL), min_size=1, max_size=12), st.integers(1, ALL))
def test_the_rarest_are_those_of_the_least_count(maps: list[int], pieces: int) -> None:
    offered = 0
    for have in maps:
        offered |= have
    pieces &= offered
    counts = {piece: sum(have >> piece & 1 for have in maps) for piece in range(PIECES) if pieces >> piece & 1}
    expected = sum(1 << piece for piece, count in counts.items() if count == min(counts.values()))
    assert rarest(pieces, maps) == expected
