"""Merkle trees under any chunking, any flipped byte and whatever a peer may send."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from edgecoder.seeding.merkle import (
    LeafCheck,
    Rows,
    TreeHasher,
    Verdict,
    leaf_hashes,
    prove,
    run_height,
    verify_block,
    verify_hashes,
)
from edgecoder.seeding.pieces import LEAF_BYTES, Layout
from tests.files import content, file_rows, hashes_of, piece_rows, run

LAYOUT = Layout(11 * LEAF_BYTES + 77, 4 * LEAF_BYTES)
"""Three pieces, 12 leaves, a tree of height 4."""
WHOLE = b"".join(content(LAYOUT.file_size_bytes))
HASHES = hashes_of(LAYOUT)
FILE = file_rows(LAYOUT)
PIECES = [piece_rows(LAYOUT, index) for index in range(LAYOUT.piece_count)]
RUNS = [
    (first, count)
    for first in range(LAYOUT.leaf_count)
    for count in range(1, 5)
    if run_height(LAYOUT, first, count) is not None
]
ODD = st.integers(1, 255)
"""What a byte is changed by."""
cuts = st.lists(st.integers(0, len(WHOLE)), max_size=12)


def proof_of(first: int, count: int) -> tuple[bytes, ...]:
    """The proof of a run of the file."""
    return prove(LAYOUT, FILE, PIECES[first // LAYOUT.leaves_per_piece], first, count)


def chunks(data: bytes, at: list[int]) -> Iterator[bytes]:
    """The data, cut at some places."""
    ends = [*sorted(end for end in at if end < len(data)), len(data)]
    for start, end in zip([0, *ends], ends, strict=False):
        yield data[start:end]


def flipped(data: bytes, at: int, odd: int) -> bytes:
    """The data with one byte changed."""
    return data[:at] + bytes((data[at] ^ odd,)) + data[at + 1 :]


@given(cuts)
def test_any_chunking_gives_one_tree(cuts: list[int]) -> None:
    hasher = TreeHasher(LAYOUT)
    for chunk in chunks(WHOLE, cuts):
        hasher.update(chunk)
    assert hasher.finish() == HASHES


@given(st.integers(1, 70 * LEAF_BYTES), st.integers(0, 6))
def test_the_piece_layer_is_a_row_of_the_tree(size: int, shift: int) -> None:
    layout = Layout(size, LEAF_BYTES << shift)
    got = hashes_of(layout)
    rows = Rows([hashlib.sha256(part).digest() for part in content(size)], 0, layout.tree_height)
    assert got.root == rows.root
    assert got.pieces == tuple(piece_rows(layout, index).root for index in range(layout.piece_count))


@given(st.sampled_from(RUNS), st.data(), ODD)
def test_any_changed_byte_is_told(of: tuple[int, int], data: st.DataObject, odd: int) -> None:
    first, count = of
    good, proof = run(LAYOUT, first, count), proof_of(first, count)
    assert verify_block(HASHES.root, LAYOUT, first, good, proof) is Verdict.GOOD
    bad = flipped(good, data.draw(st.integers(0, len(good) - 1)), odd)
    assert verify_block(HASHES.root, LAYOUT, first, bad, proof) is Verdict.MISMATCH
    place = data.draw(st.integers(0, len(proof) - 1))
    liar = flipped(proof[place], data.draw(st.integers(0, 31)), odd)
    lies = (*proof[:place], liar, *proof[place + 1 :])
    assert verify_block(HASHES.root, LAYOUT, first, good, lies) is Verdict.MISMATCH
    root = flipped(HASHES.root, data.draw(st.integers(0, 31)), odd)
    assert verify_block(root, LAYOUT, first, good, proof) is Verdict.MISMATCH


@given(st.sampled_from(RUNS), st.integers(-2, LAYOUT.leaf_count + 2) | st.integers())
def test_a_run_is_good_in_its_place_alone(of: tuple[int, int], place: int) -> None:
    first, count = of
    verdict = verify_block(HASHES.root, LAYOUT, place, run(LAYOUT, first, count), proof_of(first, count))
    assert (verdict is Verdict.GOOD) == (place == first)


near_hashes = st.sampled_from([*HASHES.pieces, HASHES.root, bytes(32), b"", bytes(31)]) | st.binary(max_size=40)
hash_lists = st.lists(near_hashes, max_size=5) | st.lists(near_hashes, max_size=70)
pieces_of_it = st.builds(lambda start, size: WHOLE[start : start + size], *[st.integers(0, 99_999)] * 2)


@given(st.integers(-3, 20) | st.integers(), st.binary(max_size=100) | pieces_of_it, hash_lists, hash_lists)
def test_whatever_comes_has_a_verdict(first: int, data: bytes, hashes: list[bytes], proof: list[bytes]) -> None:
    assert verify_block(HASHES.root, LAYOUT, first, data, proof) is not Verdict.GOOD
    assert verify_hashes(HASHES.root, LAYOUT, first, hashes, proof) is not Verdict.GOOD


@given(st.sampled_from(RUNS), cuts, st.none() | st.tuples(st.integers(0, 4 * LEAF_BYTES), ODD), st.binary(max_size=3))
def test_a_check_tells_the_first_bad_leaf_under_any_chunking(
    of: tuple[int, int], cuts: list[int], flip: tuple[int, int] | None, beyond: bytes
) -> None:
    first, count = of
    sent = good = run(LAYOUT, first, count)
    good_leaves, expected = count, Verdict.MALFORMED if beyond else Verdict.GOOD
    if flip is not None and flip[0] < len(good):
        sent = flipped(good, *flip)
        good_leaves, expected = flip[0] // LEAF_BYTES, Verdict.MISMATCH
    check = LeafCheck(LAYOUT, first, leaf_hashes(good))
    arrived = 0
    for chunk in chunks(sent + beyond, cuts):
        verdict = check.feed(chunk)
        arrived += len(chunk)
        is_told = verdict is Verdict.MISMATCH
        assert is_told == (expected is Verdict.MISMATCH and arrived >= min((good_leaves + 1) * LEAF_BYTES, len(good)))
        assert check.good_leaves == min(good_leaves, count if arrived >= len(good) else arrived // LEAF_BYTES)
    assert check.verdict is expected
