"""Random streams: known answers that may never change, independence of each other, and no bias."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.core.rng import Stream

KNOWN_WORDS = [
    0xE3BB0DEAF1C2DA8D,
    0x2D0199C883BE258C,
    0xF7D6C4AF78200755,
    0x71CF7787F1629699,
    0x1F8178DE93541C7E,
    0xCC71EF5FFB138B8A,
    0xF26D2846AD1C228E,
    0x4DA0793A3A8E0F3D,
    0x02DECF499777A7BC,
    0x683ECFD6683EC7BE,
]
seeds = st.integers(-(1 << 127), (1 << 127) - 1)


def words(rng_seed: int, node: bytes, purpose: str, count: int = 20) -> list[int]:
    """The first draws of a stream."""
    stream = Stream(rng_seed, node, purpose)
    return [stream.word() for _ in range(count)]


def test_known_words() -> None:
    assert words(1, b"node", "purpose", len(KNOWN_WORDS)) == KNOWN_WORDS


def test_known_draws() -> None:
    stream = Stream(1, b"node", "purpose")
    assert [stream.below(10) for _ in range(12)] == [8, 1, 9, 4, 1, 7, 9, 3, 0, 4, 2, 3]
    assert stream.shuffled(range(8)) == [2, 4, 0, 1, 6, 3, 7, 5]
    assert stream.uniform() == 0.6506200653696316
    assert stream.choice("abcdef") == "b"


@given(seeds, st.binary(max_size=40), st.text(max_size=20))
def test_a_stream_is_a_function_of_its_key(rng_seed: int, node: bytes, purpose: str) -> None:
    assert words(rng_seed, node, purpose) == words(rng_seed, node, purpose)


def test_each_part_of_the_key_counts() -> None:
    keys = [
        (1, b"node", "purpose"),
        (2, b"node", "purpose"),
        (-1, b"node", "purpose"),
        (1, b"node2", "purpose"),
        (1, b"node", "purposes"),
        (1, b"nodep", "urpose"),  # the border between node and purpose is part of the key
        (1, b"", "nodepurpose"),
    ]
    first = [words(*key, count=1)[0] for key in keys]
    assert len(set(first)) == len(keys)


def test_streams_do_not_disturb_each_other() -> None:
    alone = words(7, b"a", "routing")
    stream, others = Stream(7, b"a", "routing"), [Stream(7, b"b", "routing"), Stream(7, b"a", "heartbeat")]
    mixed = []
    for _ in range(20):
        mixed.append(stream.word())
        for other in others:
            other.word()
    assert mixed == alone


@given(seeds, st.integers(1, 1 << 64))
def test_below_is_below(rng_seed: int, bound: int) -> None:
    stream = Stream(rng_seed, b"n", "p")
    assert all(0 <= stream.below(bound) < bound for _ in range(5))


@pytest.mark.parametrize("bound", [0, -1, (1 << 64) + 1])
def test_below_refuses_other_bounds(bound: int) -> None:
    with pytest.raises(ValueError, match="from 1 to"):
        Stream(1, b"", "").below(bound)


def test_below_takes_the_widest_bound() -> None:
    assert Stream(1, b"node", "purpose").below(1 << 64) == KNOWN_WORDS[0]


@pytest.mark.parametrize("bound", [2, 3, 10, 16])
def test_below_is_uniform(bound: int) -> None:
    """Pearson's statistic over 6,000 draws stays below the value that chance exceeds once in a million runs."""
    stream = Stream(3, b"n", "p")
    counts = [0] * bound
    for _ in range(6_000):
        counts[stream.below(bound)] += 1
    expected = 6_000 / bound
    statistic = sum((count - expected) ** 2 / expected for count in counts)
    limits = {2: 23.9, 3: 27.6, 10: 45.1, 16: 57.5}  # chi-squared quantiles for bound - 1 degrees of freedom
    assert statistic < limits[bound]


def test_below_draws_again_where_a_word_would_bias() -> None:
    """With bound 2⁶³ + 1 nearly half of all words must be thrown away; the mean number of words shows that they are."""
    stream, draws = Stream(5, b"n", "p"), 400
    for _ in range(draws):
        stream.below((1 << 63) + 1)
    used = 8 * stream._counter - len(stream._words)
    assert 1.7 * draws < used < 2.3 * draws


@given(seeds, st.lists(st.integers(), max_size=30))
def test_shuffled_is_a_permutation(rng_seed: int, items: list[int]) -> None:
    before = list(items)
    assert sorted(Stream(rng_seed, b"n", "p").shuffled(items)) == sorted(items)
    assert items == before


def test_every_order_is_as_likely() -> None:
    stream = Stream(9, b"n", "p")
    counts: dict[tuple[str, ...], int] = {}
    for _ in range(3_000):
        order = tuple(stream.shuffled("abc"))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 35.9  # one in a million, 5 degrees of freedom


def test_uniform_is_in_the_unit_interval() -> None:
    stream = Stream(11, b"n", "p")
    draws = [stream.uniform() for _ in range(2_000)]
    assert all(0 <= draw < 1 for draw in draws)
    assert abs(sum(draws) / len(draws) - 0.5) < 0.033  # five standard errors
