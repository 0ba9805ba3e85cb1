"""Merkle trees: roots that are known, proofs that hold, and bytes that are told as bad when they arrive."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libtorrent
import pytest

from edgecoder.seeding.merkle import (
    ZEROS,
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
from edgecoder.seeding.pieces import BLOCK_BYTES_MAX, LEAF_BYTES, Layout, layout_of
from tests.files import content, file_rows, hashes_of, piece_rows, plain_root, run

PIECE = 4 * LEAF_BYTES
SIZES = [
    1,
    LEAF_BYTES - 1,
    LEAF_BYTES,
    LEAF_BYTES + 1,
    3 * LEAF_BYTES,
    PIECE,
    PIECE + 1,
    2 * PIECE,
    3 * PIECE - 1,
    4 * PIECE + LEAF_BYTES,
    11 * PIECE + 2 * LEAF_BYTES + 5,
    33 * PIECE,
]
GOLDEN = {
    1: "5a6e7a4754af8e7f47fc9493040d853e7b01e39d537cb1dd353c93b7ae58eb3d",
    16384: "a92a5e562fdff15481452660ec3235ec0eb1d4ee0a607819a2192815d58c6715",
    16385: "8d0e4d1c523c2f953976c7f2531d04ddc42b183c3e511006e1e3949783990a69",
    65537: "d41c701ee30cad2f4099949aa6ad0863458d0e1157ba6f71c5e81a9e1f8ad3c9",
    1000003: "734b56cbe442d84341445c5a79fc921484003a7240e82516f282b60941b14829",
    40000000: "577b5a42333cb3892cd5beb462c5295d328adb24bdb921f47d7215d0493f56a3",
}
"""Roots of made-up files by size, bytes."""
SEVEN = Layout(7 * PIECE + 3 * LEAF_BYTES + 9, PIECE)
"""Eight pieces; the last one has four leaves, the last of them nine bytes."""


@pytest.mark.parametrize("size", GOLDEN)
def test_golden_roots(size: int) -> None:
    assert hashes_of(layout_of(size)).root.hex() == GOLDEN[size]


@pytest.mark.parametrize("size", SIZES)
def test_roots_are_those_of_the_plain_tree(size: int) -> None:
    leaves = [hashlib.sha256(part).digest() for part in content(size)]
    got = hashes_of(Layout(size, PIECE))
    assert got.root == plain_root(leaves)
    assert got.sha256 == hashlib.sha256(b"".join(content(size))).digest()


@pytest.mark.parametrize("size", SIZES)
def test_a_root_does_not_depend_on_the_piece_size(size: int) -> None:
    assert len({hashes_of(Layout(size, LEAF_BYTES << shift)).root for shift in range(7)}) == 1


def torrent_of(folder: Path, parts: Iterator[bytes], piece_size_bytes: int) -> tuple[bytes, bytes]:
    """The root and the piece layer that libtorrent finds for a file; it tells no layer of a file of one piece."""
    path = folder / "model.gguf"
    with path.open("wb") as file:
        file.writelines(parts)
    flags = libtorrent.create_torrent.v2_only
    listed = [libtorrent.create_file_entry(path.name, path.stat().st_size)]
    torrent = libtorrent.create_torrent(listed, piece_size_bytes, flags)
    libtorrent.set_piece_hashes(torrent, str(folder))
    found: dict[bytes, Any] = dict(torrent.generate())
    root: bytes = found[b"info"][b"file tree"][path.name.encode()][b""][b"pieces root"]
    return root, found.get(b"piece layers", {}).get(root, b"")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece_size_bytes", [LEAF_BYTES, PIECE])
def test_trees_are_those_of_libtorrent(size: int, piece_size_bytes: int, tmp_path: Path) -> None:
    got = hashes_of(Layout(size, piece_size_bytes))
    root, layer = torrent_of(tmp_path, content(size), piece_size_bytes)
    assert got.root == root
    if size > piece_size_bytes:
        assert b"".join(got.pieces) == layer
    else:
        assert (got.pieces, layer) == ((root,), b"")


def test_the_tree_of_a_file_cut_by_the_rule_is_that_of_libtorrent(tmp_path: Path) -> None:
    layout = layout_of(300 * 128 * 1024 + 12_345)
    got = hashes_of(layout)
    root, layer = torrent_of(tmp_path, content(layout.file_size_bytes), layout.piece_size_bytes)
    assert layout.piece_size_bytes == 128 * 1024
    assert (got.root, b"".join(got.pieces)) == (root, layer)


def test_a_hasher_takes_the_files_bytes_and_no_more() -> None:
    hasher = TreeHasher(Layout(LEAF_BYTES + 1, PIECE))
    hasher.update(bytes(LEAF_BYTES))
    with pytest.raises(ValueError, match="16384 of 16385 bytes"):
        hasher.finish()
    with pytest.raises(ValueError, match="more than"):
        hasher.update(b"ab")
    hasher.update(memoryview(b"a"))
    assert hasher.finish().sha256 == hashlib.sha256(bytes(LEAF_BYTES) + b"a").digest()


def test_a_hasher_keeps_one_hash_a_level_beside_the_piece_layer() -> None:
    layout = Layout(64 * LEAF_BYTES, 32 * LEAF_BYTES)
    hasher = TreeHasher(layout)
    kept = []
    for part in content(layout.file_size_bytes):
        hasher.update(part)
        kept.append(len(hasher._open))
    assert max(kept) == layout.piece_height


@pytest.mark.parametrize("size", SIZES)
def test_every_run_is_proved(size: int) -> None:
    layout = Layout(size, PIECE)
    root, file = hashes_of(layout).root, file_rows(layout)
    runs = 0
    for index in range(layout.piece_count):
        piece = piece_rows(layout, index)
        for first in layout.leaves_of(index):
            for count in range(1, 5):
                if run_height(layout, first, count) is None:
                    continue
                proof = prove(layout, file, piece, first, count)
                assert verify_block(root, layout, first, run(layout, first, count), proof) is Verdict.GOOD
                runs += 1
    assert runs >= layout.leaf_count


def test_what_is_a_run() -> None:
    layout = Layout(7 * LEAF_BYTES, PIECE)
    runs = {
        (first, count) for first in range(-1, 9) for count in range(9) if run_height(layout, first, count) is not None
    }
    single = {(first, 1) for first in range(7)}
    assert runs == single | {(0, 2), (2, 2), (4, 2), (0, 4), (4, 3)}
    with pytest.raises(ValueError, match="no run"):
        prove(layout, file_rows(layout), piece_rows(layout, 0), 1, 2)


def seven() -> tuple[bytes, bytes, tuple[bytes, ...]]:
    """The root of SEVEN, its leaves 4 and 5, and their proof."""
    proof = prove(SEVEN, file_rows(SEVEN), piece_rows(SEVEN, 1), 4, 2)
    return hashes_of(SEVEN).root, run(SEVEN, 4, 2), proof


def test_what_is_no_answer_is_malformed() -> None:
    root, data, proof = seven()
    assert len(proof) == 4
    for first, sent, hashes in (
        (5, data, proof),
        (-4, data, proof),
        (1 << 70, data, proof),
        (4, data[:-1], proof),
        (4, data + b"x", proof),
        (4, b"", proof),
        (4, data, proof[:-1]),
        (4, data, (*proof, ZEROS[0])),
        (4, data, (*proof[:-1], proof[-1][:-1])),
        (4, data, ()),
        (30, run(SEVEN, 30, 2) + bytes(LEAF_BYTES - 9), proof),
    ):
        assert verify_block(root, SEVEN, first, sent, hashes) is Verdict.MALFORMED
    assert verify_hashes(root, SEVEN, 4, (), proof) is Verdict.MALFORMED
    assert verify_hashes(root, SEVEN, 4, (b"short", b"hash"), proof) is Verdict.MALFORMED


def test_a_block_longer_than_a_request_may_be_is_malformed() -> None:
    layout = Layout(4 * BLOCK_BYTES_MAX, 2 * BLOCK_BYTES_MAX)
    count = 2 * BLOCK_BYTES_MAX // LEAF_BYTES
    data, file, piece = run(layout, 0, count), file_rows(layout), piece_rows(layout, 0)
    proof = prove(layout, file, piece, 0, count)
    assert verify_block(file.root, layout, 0, data, proof) is Verdict.MALFORMED
    assert verify_hashes(file.root, layout, 0, leaf_hashes(data), proof) is Verdict.GOOD


def test_bytes_or_proofs_that_are_not_the_files_mismatch() -> None:
    root, data, proof = seven()
    other = run(SEVEN, 6, 2)
    assert verify_block(root, SEVEN, 4, other, proof) is Verdict.MISMATCH
    assert verify_block(root, SEVEN, 6, data, proof) is Verdict.MISMATCH
    assert verify_block(root, SEVEN, 4, data, proof[::-1]) is Verdict.MISMATCH
    assert verify_block(bytes(32), SEVEN, 4, data, proof) is Verdict.MISMATCH


def test_a_root_that_is_no_hash_is_our_mistake() -> None:
    _, data, proof = seven()
    with pytest.raises(ValueError, match="root of 31 bytes"):
        verify_block(bytes(31), SEVEN, 4, data, proof)


def test_rows_are_a_trees() -> None:
    hashes = leaf_hashes(run(SEVEN, 0, 3))
    assert Rows(hashes, 0, 2).root == plain_root(hashes)
    for bad in ((), hashes * 2):
        with pytest.raises(ValueError, match="no top"):
            Rows(bad, 0, 2)
    with pytest.raises(ValueError, match="no top"):
        Rows(hashes, 3, 2)
    for index, level in ((3, 0), (-1, 0), (2, 1), (0, 3), (0, -1)):
        with pytest.raises(IndexError):
            Rows(hashes, 0, 2).siblings(index, level)


def test_a_bad_leaf_is_told_with_its_last_byte() -> None:
    leaves = SEVEN.leaves_of(7)
    good = run(SEVEN, leaves.start, 4)
    bad = bytearray(good)
    bad[2 * LEAF_BYTES + 100] ^= 1
    check = LeafCheck(SEVEN, leaves.start, leaf_hashes(good))
    assert check.feed(bad[: 3 * LEAF_BYTES - 1]) is None
    assert check.good_leaves == 2
    assert check.feed(bad[3 * LEAF_BYTES - 1 : 3 * LEAF_BYTES]) is Verdict.MISMATCH
    assert check.feed(good) is Verdict.MISMATCH
    assert check.good_leaves == 2


def test_a_run_that_is_checked_ends_with_its_last_byte() -> None:
    good = run(SEVEN, 28, 4)
    check = LeafCheck(SEVEN, 28, leaf_hashes(good))
    assert check.feed(good[:-1]) is None
    assert check.feed(b"") is None
    assert check.feed(good[-1:]) is Verdict.GOOD
    assert check.good_leaves == 4
    assert check.feed(b"") is Verdict.GOOD
    assert check.feed(b"x") is Verdict.MALFORMED
    assert LeafCheck(SEVEN, 28, leaf_hashes(good)).feed(good + b"x") is Verdict.MALFORMED
    for count in (0, 5):
        with pytest.raises(IndexError):
            LeafCheck(SEVEN, 28, [bytes(32)] * count)
