"""Files with made-up bytes, had leaf by leaf and never whole, and the tree of BEP 52 in its plainest form."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from edgecoder.seeding.merkle import Hashes, Rows, TreeHasher, leaf_hashes
from edgecoder.seeding.pieces import LEAF_BYTES, Layout


def content(file_size_bytes: int, first_leaf: int = 0) -> Iterator[bytes]:
    """The bytes of a file of a size from one of its leaves on, a leaf at a time; no two leaves are the same."""
    for at in range(first_leaf * LEAF_BYTES, file_size_bytes, LEAF_BYTES):
        word = hashlib.sha256((at // LEAF_BYTES).to_bytes(8, "big")).digest()
        yield (word * (LEAF_BYTES // len(word)))[: file_size_bytes - at]


def run(layout: Layout, first_leaf: int, count: int) -> bytes:
    """The bytes of `count` leaves of a file."""
    return b"".join(part for part, _ in zip(content(layout.file_size_bytes, first_leaf), range(count), strict=False))


def hashes_of(layout: Layout, data: bytes | None = None) -> Hashes:
    """What a file of this layout hashes to; of `data`, if that is given."""
    hasher = TreeHasher(layout)
    for part in content(layout.file_size_bytes) if data is None else (data,):
        hasher.update(part)
    return hasher.finish()


def file_rows(layout: Layout) -> Rows:
    """The rows of a file from its piece layer up."""
    return Rows(hashes_of(layout).pieces, layout.piece_height, layout.tree_height)


def piece_rows(layout: Layout, index: int) -> Rows:
    """The rows of a piece from its leaves up."""
    leaves = layout.leaves_of(index)
    return Rows(leaf_hashes(run(layout, leaves.start, len(leaves))), 0, layout.piece_height)


def plain_root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes as BEP 52 tells it: zero hashes up to a power of two, then pair by pair."""
    row = list(leaves)
    while len(row) & (len(row) - 1):
        row.append(bytes(32))
    while len(row) > 1:
        row = [hashlib.sha256(row[at] + row[at + 1]).digest() for at in range(0, len(row), 2)]
    return row[0]
