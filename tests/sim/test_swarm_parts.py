"""The parts of the swarm, rule by rule: the rate limiter, the averages, the choker, the picker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.core.rng import Stream
from edgecoder_sim.swarm.choker import QUOTA_TIME_US, Round, optimistic_slots, partition
from edgecoder_sim.swarm.limiter import PATIENCE_TICKS, RateLimiter
from edgecoder_sim.swarm.picker import PARTIALS, RAREST, REVERSE, Picker
from edgecoder_sim.swarm.rates import Rate, RequestTime
from edgecoder_sim.swarm.settings import BLOCK_BYTES, Settings, Torrent

LIMIT = 1000


class Asker:
    """Notes what it is assigned."""

    def __init__(self, name: str = "", log: list[str] | None = None) -> None:
        self.name = name
        self.assigned: list[int] = []
        self.log = [] if log is None else log

    def assign(self, quota_bytes: int) -> None:
        self.assigned.append(quota_bytes)
        self.log.append(self.name)


# -- limiter -----------------------------------------------------------------------------------------------------------


def test_without_a_limit_quota_is_granted_at_once() -> None:
    assert RateLimiter(0).request(Asker(), 10**9) == 10**9


def test_a_request_waits_for_ticks_until_it_has_all_it_asked_for() -> None:
    limiter, asker = RateLimiter(LIMIT), Asker()
    assert limiter.request(asker, 1200) == 0
    limiter.tick(500)
    limiter.tick(500)
    assert asker.assigned == []
    limiter.tick(500)
    assert asker.assigned == [1200]


def test_askers_share_a_tick_equally_and_the_last_is_served_first() -> None:
    limiter, log = RateLimiter(LIMIT), list[str]()
    small, large, same = Asker("small", log), Asker("large", log), Asker("same", log)
    for asker, size in ((small, 100), (large, 200), (same, 100)):
        limiter.request(asker, size)
    limiter.tick(500)
    assert (small.assigned, large.assigned, same.assigned) == ([100], [], [100])
    assert log == ["same", "small"]
    limiter.tick(500)
    assert large.assigned == [200]


def test_quota_of_a_tick_at_which_nobody_waits_is_lost() -> None:
    limiter, asker = RateLimiter(LIMIT), Asker()
    limiter.tick(500)
    limiter.request(asker, 501)
    limiter.tick(500)
    assert asker.assigned == []


def test_what_is_left_over_is_kept_and_granted_at_once_above_a_second_of_it() -> None:
    limiter = RateLimiter(LIMIT)
    for _ in range(3):
        limiter.request(Asker(), 1)
        limiter.tick(500)
    assert limiter.request(Asker(), 497) == 497
    assert limiter.request(Asker(), 1) == 0


def test_no_more_than_three_seconds_are_kept() -> None:
    limiter, asker = RateLimiter(LIMIT), Asker()
    limiter.request(Asker(), 1)
    limiter.tick(3000)
    limiter.request(asker, 2 * LIMIT)
    limiter.tick(3000)
    assert asker.assigned == [2 * LIMIT]
    assert limiter.request(Asker(), 1) == 0


def test_who_waits_for_long_gets_what_there_is() -> None:
    limiter, asker = RateLimiter(10), Asker()
    limiter.request(asker, 10_000)
    for _ in range(PATIENCE_TICKS):
        assert asker.assigned == []
        limiter.tick(1000)
    assert asker.assigned == [200]


# -- averages ----------------------------------------------------------------------------------------------------------


def test_a_rate_nears_what_flows_by_a_fifth_each_second() -> None:
    rate = Rate()
    seen = []
    for _ in range(3):
        rate.add(1000)
        rate.tick(1000)
        seen.append(rate.bytes_per_s)
    assert seen == [200, 360, 488]
    assert rate.total == 3000


@pytest.mark.parametrize(
    ("samples_ms", "timeout_s"),
    [([], 60), ([100], 2), ([5000], 6), ([5000, 5000], 5), ([1000, 9000], 37), ([100_000], 60)],
)
def test_a_request_is_late_after_four_deviations_within_bounds(samples_ms: list[int], timeout_s: int) -> None:
    times = RequestTime()
    for sample in samples_ms:
        times.add(sample)
    assert times.timeout_s(60) == timeout_s


# -- choker ------------------------------------------------------------------------------------------------------------

NOW_US = 200_000_000
LONG_AGO_US = NOW_US - QUOTA_TIME_US - 1


def _round(
    is_choked: bool = False, received: int = 10, sent: int = 10, since: int = 0, unchoked_us: int = NOW_US
) -> Round:
    return Round(is_choked, received, sent, since, unchoked_us)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (_round(received=11), _round(received=10, sent=99)),
        (_round(sent=11), _round(sent=10)),
        (_round(sent=1), _round(sent=99, is_choked=True)),
        (_round(sent=1), _round(sent=99, since=101, unchoked_us=LONG_AGO_US)),
        (_round(sent=99, since=101, unchoked_us=LONG_AGO_US + 1), _round(sent=1)),
        (_round(sent=99, since=100, unchoked_us=LONG_AGO_US), _round(sent=1)),
        (_round(is_choked=True, unchoked_us=5), _round(is_choked=True, unchoked_us=6)),
    ],
    ids=["reciprocates", "fastest", "choked counts as zero", "had its turn", "not a minute", "not its quota", "waited"],
)
def test_the_choker_prefers(better: Round, worse: Round) -> None:
    assert better.rank(NOW_US, 100) < worse.rank(NOW_US, 100)


@pytest.mark.parametrize(("slots", "configured", "optimistic"), [(1, 0, 1), (8, 0, 1), (10, 0, 2), (8, 3, 3)])
def test_optimistic_slots(slots: int, configured: int, optimistic: int) -> None:
    assert optimistic_slots(slots, configured) == optimistic


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 45))
def test_the_best_come_first(scores: list[int], count: int) -> None:
    ranks = [(score, False, 0, 0) for score in scores]
    order = partition(list(range(len(scores))), ranks, count)
    assert sorted(order) == list(range(len(scores)))
    front = [scores[index] for index in order[:count]]
    assert sorted(front) == sorted(scores)[:count]


# -- picker ------------------------------------------------------------------------------------------------------------

PER_PIECE = 4
PIECES = 6
EVERYTHING = (1 << PIECES) - 1


def picker(*counts: int, seeds: int = 0) -> Picker:
    """One that has heard of so many peers with each piece."""
    made = Picker(Torrent(PIECES * PER_PIECE * BLOCK_BYTES, PER_PIECE * BLOCK_BYTES), Stream(1, b"", "picker"))
    for _ in range(seeds):
        made.add_seed()
    for piece, count in enumerate(counts):
        for _ in range(count):
            made.add_piece(piece)
    return made


def blocks(*pieces: int) -> list[int]:
    return [piece * PER_PIECE + index for piece in pieces for index in range(PER_PIECE)]


def test_the_rarest_piece_comes_first_and_one_that_nobody_has_never() -> None:
    made = picker(3, 1, 2, 0)
    assert made.pick(EVERYTHING, 99, 0, 7, RAREST, 20) == blocks(1, 2, 0)
    assert made.pick(EVERYTHING, 99, 0, 7, RAREST | REVERSE, 20) == blocks(0, 2, 1)


def test_only_what_the_peer_has_is_picked() -> None:
    assert picker(3, 1, 2).pick(0b101, 99, 0, 7, RAREST, 20) == blocks(2, 0)


def test_a_piece_under_way_is_finished_before_another_as_rare_is_begun() -> None:
    made = picker(2, 2, 2, 1)
    made.mark(PER_PIECE, 7, RAREST)
    picked = made.pick(EVERYTHING, 99, 0, 8, RAREST, 20)
    assert picked[:7] == [*blocks(3), PER_PIECE + 1, PER_PIECE + 2, PER_PIECE + 3]


def test_partial_pieces_come_first_where_they_are_preferred() -> None:
    made = picker(2, 2, 2, 1)
    made.mark(PER_PIECE, 7, RAREST)
    assert made.pick(EVERYTHING, 4, 0, 8, RAREST | PARTIALS, 20) == [5, 6, 7, 12]


def test_too_many_partial_pieces_are_finished_first() -> None:
    made = picker(2, 2, 2, 1)
    made.mark(0, 7, RAREST)
    made.mark(PER_PIECE, 7, RAREST)
    assert made.pick(EVERYTHING, 1, 0, 8, RAREST, 2) == [12]
    assert set(made.pick(EVERYTHING, 6, 0, 8, RAREST, 1)) == {1, 2, 3, 5, 6, 7}


def test_a_fast_peer_gets_whole_pieces_in_a_row_and_more_than_was_asked_for() -> None:
    made = picker(*[1] * PIECES)
    picked = made.pick(EVERYTHING, 1, 2 * PER_PIECE, 7, RAREST, 20)
    assert picked == blocks(picked[0] // PER_PIECE, picked[0] // PER_PIECE + 1)


def test_a_fast_peer_does_not_join_in_a_piece_that_another_is_sending_unless_there_is_nothing_else() -> None:
    made = picker(1, 2)
    made.mark(0, 8, RAREST)
    assert made.pick(EVERYTHING, 1, PER_PIECE, 7, RAREST, 20) == blocks(1)
    assert made.pick(0b1, 2, PER_PIECE, 7, RAREST, 20) == [1, 2]
    assert made.pick(EVERYTHING, 1, PER_PIECE, 8, RAREST, 20) == [1, 2, 3]


def test_first_pieces_are_random() -> None:
    firsts = {Picker.pick(_with_seed(seed), EVERYTHING, 1, 0, 7, PARTIALS, 20)[0] // PER_PIECE for seed in range(50)}
    assert firsts == set(range(PIECES))


def _with_seed(seed: int) -> Picker:
    made = Picker(Torrent(PIECES * PER_PIECE * BLOCK_BYTES, PER_PIECE * BLOCK_BYTES), Stream(seed, b"", "picker"))
    made.add_seed()
    return made


def test_in_the_end_game_one_block_that_another_was_asked_for_is_picked() -> None:
    made = picker(1)
    for block in blocks(0):
        made.mark(block, 8 if block else 7, RAREST)
    picked = made.pick(EVERYTHING, 3, 0, 7, RAREST, 20)
    assert len(picked) == 1
    assert picked[0] in {1, 2, 3}
    assert made.askers(picked[0]) == 1
    assert made.pick(EVERYTHING, 3, 0, 8, RAREST, 20) == [0]


def test_an_aborted_block_is_free_once_nobody_is_asked_for_it() -> None:
    made = picker(1)
    made.mark(0, 7, RAREST)
    made.mark(0, 8, RAREST)
    made.abort(0, 7)
    assert made.askers(0) == 1
    made.abort(0, 8)
    assert made.askers(0) == 0
    assert made.started == 0
    assert made.pick(EVERYTHING, 1, 0, 8, RAREST, 20) == [0]


def test_a_piece_is_whole_with_its_last_block_and_counts_after_its_check() -> None:
    made = picker(1)
    assert [made.write(block, 7) for block in blocks(0)] == [False, False, False, True]
    assert (made.started, made.missing) == (1, PIECES)
    assert not made.mark(0, 7, RAREST)
    made.passed(0)
    assert (made.started, made.missing, made.have) == (0, PIECES - 1, 1)
    assert made.pick(EVERYTHING, 9, 0, 7, RAREST, 20) == []


def test_the_last_piece_may_be_short() -> None:
    made = Picker(Torrent(5 * BLOCK_BYTES + 1, 4 * BLOCK_BYTES), Stream(1, b"", "picker"))
    made.add_seed()
    assert sorted(made.pick(0b11, 99, 0, 7, RAREST, 20)) == [0, 1, 2, 3, 4, 5]


steps = st.lists(
    st.tuples(st.sampled_from(["fetch", "abort", "write", "have"]), st.integers(0, 99), st.integers(0, 3)), max_size=60
)


@given(steps, st.integers(1, EVERYTHING), st.sampled_from([0, PER_PIECE, 3 * PER_PIECE]), st.booleans())
def test_a_pick_is_of_what_is_wanted_and_exhausts_it(
    steps: list[tuple[str, int, int]], mask: int, contiguous: int, is_random: bool
) -> None:
    made = picker(*[1] * PIECES, seeds=1)
    for step, number, asker in steps:
        block = number % (PIECES * PER_PIECE)
        if step == "have":
            made.add_piece(number % PIECES)
        elif step == "abort":
            made.abort(block, asker)
        elif made.is_written(block):
            continue
        elif step == "fetch":
            made.mark(block, asker, RAREST)
        elif made.write(block, asker):
            made.passed(block // PER_PIECE)
    picked = made.pick(mask, 99, contiguous, 9, PARTIALS if is_random else RAREST, 20)
    free = [
        block
        for block in range(PIECES * PER_PIECE)
        if mask >> block // PER_PIECE & 1 and not made.is_written(block) and not made.askers(block)
    ]
    busy = [block for block in picked if made.askers(block)]
    assert sorted(set(picked) - set(busy)) == free
    assert len(picked) == len(set(picked))
    assert len(busy) <= 1


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_refuse_what_is_not_modelled() -> None:
    with pytest.raises(ValueError, match="unchoke_slots_limit is -1"):
        Settings(unchoke_slots_limit=-1)


@pytest.mark.parametrize(
    ("size", "piece", "hint"), [(0, BLOCK_BYTES, "1 byte"), (1, 1000, "multiple"), (1, 0, "multiple")]
)
def test_a_torrent_refuses_what_cannot_be_cut(size: int, piece: int, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        Torrent(size, piece)
