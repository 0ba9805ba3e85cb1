"""Credits for model bytes: the seed's rule, and a book that no order and no cutting changes."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.core.ids import NodeId
from edgecoder.seeding.credits import SEEDERS_MAX, CreditBook, SeedRule, shown_credits

ANN, BOB, EVE = NodeId(b"a" * 32), NodeId(b"b" * 32), NodeId(b"e" * 32)
transfers = st.lists(
    st.tuples(st.sampled_from([ANN, BOB]), st.integers(0, 10**10), st.integers(-1, 12) | st.integers(0, 10**6)),
    max_size=12,
)


class RareRule:
    """A rule of another kind: 3 credits a TB of files with up to three seeders, 1 of others."""

    def counts_with(self, seeders: int) -> int:
        return 3 if seeders <= 3 else 1

    def micro_credits(self, total_bytes: int, counts_with: int) -> int:
        return total_bytes * counts_with // 10**6


def filled(parts: list[tuple[NodeId, int, int]]) -> CreditBook:
    book = CreditBook(SeedRule())
    for account, size, seeders in parts:
        book.add(account, size, seeders)
    return book


@given(st.integers(0, 10**13), st.integers(1, SEEDERS_MAX))
def test_the_seed_rule_is_the_formula_rounded_down(size: int, seeders: int) -> None:
    worth = Fraction(size, 10**9) * Fraction(1, 2) * (1 + Fraction(1, seeders))
    assert SeedRule().micro_credits(size, seeders) == worth * 10**6 // 1


@pytest.mark.parametrize(
    ("seeders", "alike"), [(-5, 1), (0, 1), (1, 1), (2, 2), (65_534, 65_534), (65_535, 65_535), (10**9, 65_535)]
)
def test_seeders_that_count_alike(seeders: int, alike: int) -> None:
    assert SeedRule().counts_with(seeders) == alike


@given(transfers, st.randoms(use_true_random=False), st.data())
def test_no_order_and_no_cutting_changes_a_balance(
    parts: list[tuple[NodeId, int, int]], random: Random, data: st.DataObject
) -> None:
    cut = []
    for account, size, seeders in parts:
        at = data.draw(st.integers(0, size))
        cut += [(account, at, seeders), (account, size - at, seeders)]
    random.shuffle(cut)
    whole, other = filled(parts), filled(cut)
    assert [whole.micro_credits(account) for account in (ANN, BOB)] == [
        other.micro_credits(account) for account in (ANN, BOB)
    ]


def test_many_small_parts_earn_what_the_whole_does() -> None:
    book = CreditBook(SeedRule())
    gained = [book.add(ANN, 1, 3) for _ in range(3000)]
    assert gained.count(1) == book.micro_credits(ANN) == 2
    assert gained.count(0) == 2998


def test_what_is_added_is_what_a_balance_grows_by() -> None:
    book = CreditBook(SeedRule())
    assert book.add(ANN, 1_000_000_000, 1) == 1_000_000
    assert book.add(ANN, 1_000_000_000, 5) == 600_000
    assert book.add(BOB, 500_000_000, 3) == 333_333
    assert (book.micro_credits(ANN), book.micro_credits(BOB), book.micro_credits(EVE)) == (1_600_000, 333_333, 0)
    assert len(book) == 2


def test_a_full_book_refuses_new_sums_and_keeps_the_old() -> None:
    book = CreditBook(SeedRule(), sums_max=2)
    book.add(ANN, 10**9, 1)
    book.add(ANN, 10**9, 2)
    assert book.add(ANN, 10**9, 3) is None
    assert book.add(BOB, 10**9, 1) is None
    assert (book.micro_credits(ANN), book.micro_credits(BOB), len(book)) == (1_750_000, 0, 1)
    assert book.add(ANN, 10**9, 2) == 750_000


def test_bytes_are_not_taken_back() -> None:
    book = CreditBook(SeedRule())
    with pytest.raises(ValueError, match="-1 bytes"):
        book.add(ANN, -1, 1)
    assert len(book) == 0


def test_another_rule_comes_beside() -> None:
    book = CreditBook(RareRule())
    book.add(ANN, 400_000, 1)
    assert book.add(ANN, 10**12 - 400_000, 2) == 2_999_999
    assert book.add(ANN, 10**12, 4) == 1_000_000
    assert book.micro_credits(ANN) == 4_000_000


@pytest.mark.parametrize(
    ("micro", "shown"),
    [
        (0, "0.000"),
        (499, "0.000"),
        (500, "0.001"),
        (333_333, "0.333"),
        (2_363_400, "2.363"),
        (999_500, "1.000"),
        (-499, "0.000"),
        (-500, "-0.001"),
        (-1_250_000, "-1.250"),
    ],
)
def test_credits_are_shown_with_three_decimals(micro: int, shown: str) -> None:
    assert shown_credits(micro) == shown
