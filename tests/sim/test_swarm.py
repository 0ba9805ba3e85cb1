"""The swarm as a whole: closed forms, bounds, conservation of bytes, determinism, and the slots over time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecoder_sim.swarm.fetcher import FIRST_QUEUE
from edgecoder_sim.swarm.settings import DEFAULT, TUNED, Settings, Torrent
from edgecoder_sim.swarm.swarm import Outcome, Swarm

MIB = 1 << 20
PIECE_BYTES = 256 * 1024
RATE = 2 * MIB
START_S = 3.0
"""Connecting, greeting and the first requests take their ticks."""
TICK_S = 0.5


def outcome(
    mib: float, limits: list[int], seed: int = 1, tuning: Settings = DEFAULT, link: int = 1_000_000_000
) -> Outcome:
    return Swarm(Torrent(round(mib * MIB), PIECE_BYTES), limits, seed, tuning, link_bytes_per_s=link).run()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_peer_takes_the_time_of_the_bytes(seed: int) -> None:
    (short,), (long,) = (outcome(mib, [RATE, RATE], seed).finishes_s for mib in (16, 48))
    assert 8 <= short <= 8 + START_S
    assert abs(long - short - 16) <= TICK_S


@pytest.mark.parametrize("limit", [0, RATE])
def test_the_link_may_be_the_bottleneck(limit: int) -> None:
    (finish,) = outcome(16, [limit, limit], link=MIB).finishes_s
    assert 16 <= finish <= 16 + START_S


def test_peers_that_send_nothing_share_the_source() -> None:
    free_riders = outcome(8, [RATE, 5000, 5000, 5000])
    assert 3 * 4 <= free_riders.finishes_s[-1] <= 3 * 4 + 2 * START_S
    assert free_riders.source_copies >= 3 - 0.1


def test_two_peers_are_between_the_fluid_bound_and_the_source_alone() -> None:
    pair = outcome(16, [RATE, RATE, RATE])
    assert 8 <= pair.finishes_s[-1] < 16
    assert 1 <= pair.source_copies < 2


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 8), st.integers(1, 10**6), st.integers(0, 1000), st.sampled_from([DEFAULT, TUNED]))
def test_no_bound_is_beaten_and_no_byte_lost(peers: int, extra: int, seed: int, tuning: Settings) -> None:
    size = 2 * MIB + extra
    swarm = Swarm(Torrent(size, PIECE_BYTES), [RATE] * (peers + 1), seed, tuning)
    result = swarm.run()
    assert len(result.finishes_s) == peers
    assert result.finishes_s[-1] >= max(size / RATE, peers * size / (RATE * (peers + 1)))
    assert result.source_copies >= 1
    assert result.got_bytes == (0, *[size] * peers)
    received = sum(result.got_bytes) + sum(result.wasted_bytes)
    # Beside what arrived, at most a block on each connection was cut short.
    assert 0 <= sum(result.sent_bytes) - received <= peers * (peers + 1) * 16 * 1024


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    first, again, other = (outcome(4, [RATE] * 9, seed) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_a_run_that_is_cut_short_says_who_finished() -> None:
    result = Swarm(Torrent(64 * MIB, PIECE_BYTES), [RATE] * 3, 1).run(limit_s=5)
    assert result.finishes_s == ()
    assert result.half_s is None


@pytest.mark.parametrize("slots", [1, 2, 4, 8])
def test_no_more_peers_than_slots_are_unchoked_once_a_round_has_been(slots: int) -> None:
    """Optimistic ones may come on top for a second."""
    tuning = Settings(unchoke_slots_limit=slots, unchoke_interval_s=2, optimistic_unchoke_interval_s=3)
    swarm = Swarm(Torrent(8 * MIB, PIECE_BYTES), [RATE] * 13, 1, tuning)
    most = 0
    for second in range(2, 12):
        swarm._kernel.run(second * 1_000_000)
        most = max(most, *(peer.unchoked for peer in swarm.peers))
    assert slots <= most <= slots + 1


def test_an_optimistic_slot_goes_to_who_waited_the_longest() -> None:
    tuning = Settings(unchoke_slots_limit=1, unchoke_interval_s=1, optimistic_unchoke_interval_s=3)
    swarm = Swarm(Torrent(64 * MIB, PIECE_BYTES), [RATE, 5000, 5000, 5000], 1, tuning)
    turns = []
    for second in range(8, 40):
        swarm._kernel.run(second * 1_000_000)
        turns += [c.other for c in swarm.peers[0].connections if not c.is_choking]
    changes = [turn for turn, before in zip(turns[1:], turns, strict=False) if turn != before]
    assert len(changes) >= 8
    assert all(len({*changes[place : place + 3]}) == 3 for place in range(len(changes) - 2))


def test_a_source_that_is_silent_for_long_is_snubbed_and_asked_for_little() -> None:
    swarm = Swarm(Torrent(MIB, PIECE_BYTES), [100, RATE], 1)
    swarm._kernel.run(60_000_000)
    (connection,) = swarm.peers[1].connections
    before = connection.fetcher.is_snubbed, len(connection.fetcher.asked)
    swarm._kernel.run(80_000_000)
    assert before == (False, FIRST_QUEUE)
    assert (connection.fetcher.is_snubbed, connection.fetcher.desired) == (True, 1)
