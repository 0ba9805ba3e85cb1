"""How files are cut: the rule for piece sizes, layouts, and have-maps on the wire."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgecoder.errors import RemoteProtocolError
from edgecoder.protocol import PIECES_MAX
from edgecoder.seeding.pieces import (
    LEAF_BYTES,
    PIECE_BYTES_MAX,
    PIECE_BYTES_MIN,
    PIECES_WANTED,
    Layout,
    bitmap_to_bytes,
    bytes_to_bitmap,
    layout_of,
    piece_size_bytes,
    row_from,
    row_starts,
)
from tests.catalogs import SMALL, entry

KIB, MIB = 1 << 10, 1 << 20
SIZES = [1, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 64 * KIB, 64 * KIB + 1, 5 * 64 * KIB - 7, MIB]
file_sizes = st.integers(1, 1 << 40)
layouts = st.builds(Layout, st.integers(1, 4 * MIB), st.sampled_from([LEAF_BYTES << shift for shift in range(9)]))


@pytest.mark.parametrize(
    ("file_size_bytes", "piece_bytes", "pieces"),
    [
        (4_683_073_536, 16 * MIB, 280),
        (1_117_320_768, 4 * MIB, 267),
        (32 * MIB, 64 * KIB, 512),
        (265 * 128 * KIB, 64 * KIB, 530),
        (265 * 128 * KIB + 1, 128 * KIB, 266),
        (1, 64 * KIB, 1),
        (1 << 40, 16 * MIB, PIECES_MAX),
    ],
)
def test_piece_sizes_by_the_rule(file_size_bytes: int, piece_bytes: int, pieces: int) -> None:
    layout = layout_of(file_size_bytes)
    assert (layout.piece_size_bytes, layout.piece_count) == (piece_bytes, pieces)


@given(file_sizes)
def test_the_rule_takes_the_largest_that_gives_enough(file_size_bytes: int) -> None:
    size = piece_size_bytes(file_size_bytes)
    fitting = [
        1 << shift
        for shift in range(PIECE_BYTES_MIN.bit_length() - 1, PIECE_BYTES_MAX.bit_length())
        if -(-file_size_bytes // (1 << shift)) >= PIECES_WANTED
    ]
    assert size == max(fitting, default=PIECE_BYTES_MIN)


@given(layouts)
def test_pieces_and_leaves_cover_a_file_once(layout: Layout) -> None:
    pieces, leaves = range(layout.piece_count), range(layout.leaf_count)
    assert sum(layout.piece_bytes(index) for index in pieces) == layout.file_size_bytes
    assert sum(layout.run_bytes(leaf, 1) for leaf in leaves) == layout.file_size_bytes
    assert [leaf for index in pieces for leaf in layout.leaves_of(index)] == list(leaves)
    for index in pieces:
        of_piece = layout.leaves_of(index)
        assert layout.piece_offset(index) == of_piece.start * LEAF_BYTES
        assert layout.run_bytes(of_piece.start, len(of_piece)) == layout.piece_bytes(index)


@given(layouts, st.data())
def test_held_bytes_are_those_of_the_pieces(layout: Layout, data: st.DataObject) -> None:
    have = data.draw(st.integers(0, layout.all_pieces))
    held = [index for index in range(layout.piece_count) if have >> index & 1]
    assert layout.held_bytes(have) == sum(layout.piece_bytes(index) for index in held)
    assert layout.held_bytes(layout.all_pieces) == layout.file_size_bytes


@pytest.mark.parametrize("file_size_bytes", SIZES)
def test_an_index_that_the_file_lacks_is_refused(file_size_bytes: int) -> None:
    layout = layout_of(file_size_bytes)
    for index in (-1, layout.piece_count):
        for ask in (layout.piece_bytes, layout.piece_offset, layout.leaves_of):
            with pytest.raises(IndexError):
                ask(index)
    for leaf in (-1, layout.leaf_count):
        with pytest.raises(IndexError):
            layout.run_bytes(leaf, 1)
    for count in (0, -1, layout.leaf_count + 1):
        with pytest.raises(IndexError):
            layout.run_bytes(0, count)


@pytest.mark.parametrize(
    ("file_size_bytes", "piece_bytes"),
    [(0, 0), (-1, 0), (1000, -1), (1000, 8192), (1000, 40_000), ((1 << 40) + 1, 0), ((1 << 30) + 1, LEAF_BYTES)],
)
def test_sizes_out_of_range_are_refused(file_size_bytes: int, piece_bytes: int) -> None:
    with pytest.raises(ValueError, match="piece"):
        layout_of(file_size_bytes, piece_bytes)


def test_layouts_of_the_same_sizes_are_equal() -> None:
    assert {Layout(1000, LEAF_BYTES), Layout(1000, LEAF_BYTES)} == {layout_of(1000, LEAF_BYTES)}
    assert layout_of(1000, LEAF_BYTES) != layout_of(1000)
    assert repr(layout_of(1000)) == "Layout(file_size_bytes=1000, piece_size_bytes=65536)"


@given(st.integers(1, 300), st.data())
def test_have_maps_come_back_as_they_went(piece_count: int, data: st.DataObject) -> None:
    have = data.draw(st.integers(0, (1 << piece_count) - 1))
    sent = bitmap_to_bytes(have, piece_count)
    assert bytes_to_bitmap(sent, piece_count) == have
    assert [sent[at // 8] >> at % 8 & 1 for at in range(piece_count)] == [have >> at & 1 for at in range(piece_count)]


@given(st.binary(max_size=6), st.integers(1, 40))
def test_a_have_map_is_the_files_or_is_refused(data: bytes, piece_count: int) -> None:
    bits = "".join(f"{byte:08b}"[::-1] for byte in data)
    if len(data) == (piece_count + 7) // 8 and "1" not in bits[piece_count:]:
        assert bitmap_to_bytes(bytes_to_bitmap(data, piece_count), piece_count) == data
    else:
        with pytest.raises(RemoteProtocolError, match="invalid"):
            bytes_to_bitmap(data, piece_count)


@pytest.mark.parametrize("have", [-1, 1 << 9, 1 << 20])
def test_a_map_that_the_file_has_not_is_not_sent(have: int) -> None:
    with pytest.raises(ValueError, match="have-map"):
        bitmap_to_bytes(have, 9)


def test_an_entry_tells_its_layout() -> None:
    assert SMALL.layout == layout_of(SMALL.file_size_bytes)
    assert entry("cut", piece_size_bytes=MIB).layout == Layout(64 * MIB, MIB)


@pytest.mark.parametrize("root", ["0" * 63, "0" * 64 + "\n", "G" * 64, "A" * 64])
def test_an_entry_has_a_root_or_none(root: str) -> None:
    with pytest.raises(ValueError, match="Merkle"):
        entry("rooted", piece_root=root)
    assert entry("rooted", piece_root="a" * 64).piece_root == "a" * 64


@pytest.mark.parametrize("piece_bytes", [-1, 1, 16_383, 40_000])
def test_an_entry_has_a_piece_size_or_none(piece_bytes: int) -> None:
    with pytest.raises(ValueError, match=f"cut: {piece_bytes} is no piece size"):
        entry("cut", piece_size_bytes=piece_bytes)


@given(pieces=st.integers(0, (1 << 40) - 1), length=st.integers(1, 12))
def test_rows_are_found_where_pieces_follow_each_other(pieces: int, length: int) -> None:
    row = (1 << length) - 1
    assert row_starts(pieces, length) == sum(1 << start for start in range(40) if pieces >> start & row == row)


@given(pieces=st.integers(1, (1 << 40) - 1), start=st.integers(0, 39), limit=st.integers(1, 12))
@example(pieces=0b1111011, start=0, limit=5)
def test_a_row_is_as_long_as_there_are_such_rows(pieces: int, start: int, limit: int) -> None:
    row = row_from(pieces, start, limit)
    assert 1 <= len(row) <= limit
    assert all(pieces >> piece & 1 for piece in row)
    longest = max(len(part) for part in f"{pieces:b}".split("0"))
    assert 2 * len(row) >= min(limit, longest)
