"""The SHA-256 Merkle tree of a file, in BEP 52's shape: leaves of 16 KiB, absent ones 32 zero bytes, a power of two.

A root vouches for every leaf, so a bad one is told when it arrives and names who sent it. The root does not depend on
the piece size; the piece layer is the row of the tree whose nodes stand for pieces. Nothing here holds a file: a hasher
keeps the piece layer and one hash a level, a check the hashes of one run. What a verdict leads to is the transfer's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from edgecoder.seeding.pieces import BLOCK_BYTES_MAX, LEAF_BYTES, Layout

HASH_BYTES: Final = 32
_HEIGHT_MAX: Final = 64

Bytes = bytes | bytearray | memoryview
"""What holds file bytes. A memoryview has to be contiguous."""


def _zeros() -> tuple[bytes, ...]:
    row = [bytes(HASH_BYTES)]
    for _ in range(_HEIGHT_MAX):
        row.append(hashlib.sha256(row[-1] * 2).digest())
    return tuple(row)


ZEROS: Final = _zeros()
"""The node of each level that has only absent leaves below it."""


class Verdict(Enum):
    """What became of bytes that came with a proof."""

    GOOD = "good"
    MALFORMED = "malformed"
    """No such run of leaves, or too few or too many bytes or hashes: whatever was sent, it was no answer."""
    MISMATCH = "mismatch"
    """The bytes or the proof are not the file's. Which of them cannot be told, so both should come from one sender."""


class Hashes(NamedTuple):
    """What one pass over a file gives."""

    sha256: bytes
    """Of the whole file."""
    root: bytes
    """Of its tree."""
    pieces: tuple[bytes, ...]
    """The piece layer, one hash a piece."""


class Rows:
    """A tree, or the part of one below a node, from a row of it up: whatever is needed for proofs.

    `hashes` is the row at `level` above the leaves, without what is absent; the top is at `height`. Costs twice the
    row in memory. Raises ValueError where the row is empty or does not fit under the top."""

    def __init__(self, hashes: Sequence[bytes], level: int, height: int) -> None:
        if not 0 <= level <= height <= _HEIGHT_MAX or not 1 <= len(hashes) <= 1 << (height - level):
            raise ValueError(f"{len(hashes)} hashes at level {level} have no top at level {height}")
        self.level, self.height = level, height
        self._rows = [tuple(hashes)]
        for below in range(level, height):
            self._rows.append(_row_above(self._rows[-1], below))

    @property
    def root(self) -> bytes:
        """The top."""
        return self._rows[-1][0]

    def siblings(self, index: int, level: int) -> tuple[bytes, ...]:
        """The hashes beside the way from the `index`-th node of `level` to the top, lowest first. Raises IndexError."""
        if not self.level <= level <= self.height or not 0 <= index < len(self._rows[level - self.level]):
            raise IndexError(f"no node {index} at level {level}")
        found = []
        for at in range(level, self.height):
            row = self._rows[at - self.level]
            beside = (index >> (at - level)) ^ 1
            found.append(row[beside] if beside < len(row) else ZEROS[at])
        return tuple(found)


def _row_above(row: Sequence[bytes], level: int) -> tuple[bytes, ...]:
    """The parents of the nodes at `level`."""
    sha256 = hashlib.sha256
    full = len(row) & ~1
    parents = [sha256(row[at] + row[at + 1]).digest() for at in range(0, full, 2)]
    if full < len(row):
        parents.append(sha256(row[-1] + ZEROS[level]).digest())
    return tuple(parents)


def _node_over(hashes: Sequence[bytes], height: int) -> bytes:
    """The node `height` levels above the leaves `hashes`, absent ones at the end left out."""
    row = hashes
    for level in range(height):
        row = _row_above(row, level)
    return row[0]


def leaf_hashes(data: Bytes) -> tuple[bytes, ...]:
    """The hash of each leaf of `data`, which begins where a leaf does."""
    view = memoryview(data).cast("B")
    return tuple(hashlib.sha256(view[at : at + LEAF_BYTES]).digest() for at in range(0, len(view), LEAF_BYTES))


class TreeHasher:
    """Hashes a file in one pass, chunk by chunk: its SHA-256, its root and its piece layer.

    Keeps the piece layer and, within a piece, one hash a level."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._file = hashlib.sha256()
        self._leaf = hashlib.sha256()
        self._leaf_left_bytes = LEAF_BYTES
        self._bytes = 0
        self._leaves = 0
        self._open: list[tuple[int, bytes]] = []
        """Nodes of this piece that wait for the one on their right: (level, hash), highest first."""
        self._pieces: list[bytes] = []

    def update(self, data: Bytes) -> None:
        """Take the next bytes, as many as there are. Raises ValueError beyond the file's size."""
        view = memoryview(data).cast("B")
        if self._bytes + len(view) > self._layout.file_size_bytes:
            raise ValueError(f"more than the file's {self._layout.file_size_bytes} bytes")
        self._file.update(view)
        self._bytes += len(view)
        at = 0
        while at < len(view):
            part = view[at : at + self._leaf_left_bytes]
            self._leaf.update(part)
            at += len(part)
            self._leaf_left_bytes -= len(part)
            if not self._leaf_left_bytes:
                self._end_leaf()

    def finish(self) -> Hashes:
        """What the file hashes to. Raises ValueError before its last byte."""
        layout = self._layout
        if self._bytes < layout.file_size_bytes:
            raise ValueError(f"{self._bytes} of {layout.file_size_bytes} bytes")
        if self._leaf_left_bytes < LEAF_BYTES:
            self._end_leaf()
        if self._open:
            self._end_piece()
        pieces = tuple(self._pieces)
        root = Rows(pieces, layout.piece_height, layout.tree_height).root
        return Hashes(self._file.digest(), root, pieces)

    def _end_leaf(self) -> None:
        level, node = 0, self._leaf.digest()
        self._leaf, self._leaf_left_bytes = hashlib.sha256(), LEAF_BYTES
        while self._open and self._open[-1][0] == level:
            _, left = self._open.pop()
            level, node = level + 1, hashlib.sha256(left + node).digest()
        self._open.append((level, node))
        self._leaves += 1
        if self._leaves % self._layout.leaves_per_piece == 0:
            self._end_piece()

    def _end_piece(self) -> None:
        """Close the piece; leaves that it lacks are absent."""
        level, node = self._open.pop()
        while level < self._layout.piece_height:
            if self._open and self._open[-1][0] == level:
                _, left = self._open.pop()
                node = hashlib.sha256(left + node).digest()
            else:
                node = hashlib.sha256(node + ZEROS[level]).digest()
            level += 1
        self._pieces.append(node)


def run_height(layout: Layout, first_leaf: int, count: int) -> int | None:
    """The level of the node that stands for a run of leaves, or None where no one node does.

    A run is 2^k leaves that begin at a multiple of 2^k inside one piece, or what the file has left of them."""
    if not 0 <= first_leaf < layout.leaf_count or not 1 <= count <= layout.leaf_count - first_leaf:
        return None
    height = (count - 1).bit_length()
    is_aligned = first_leaf & ((1 << height) - 1) == 0
    is_whole = count == 1 << height or first_leaf + count == layout.leaf_count
    return height if is_aligned and is_whole and height <= layout.piece_height else None


def prove(layout: Layout, file: Rows, piece: Rows, first_leaf: int, count: int) -> tuple[bytes, ...]:
    """The hashes that lead from a run of leaves to the root, lowest first.

    `file` has the rows from the piece layer up, `piece` those of the run's piece from the leaves up. Raises ValueError
    where the leaves are no run."""
    height = run_height(layout, first_leaf, count)
    if height is None:
        raise ValueError(f"{count} leaves from {first_leaf} are no run of {layout}")
    index, inside = divmod(first_leaf, layout.leaves_per_piece)
    return piece.siblings(inside >> height, height) + file.siblings(index, layout.piece_height)


def verify_hashes(
    root: bytes, layout: Layout, first_leaf: int, hashes: Sequence[bytes], proof: Sequence[bytes]
) -> Verdict:
    """Whether `hashes` are those of the leaves from `first_leaf`, a run inside one piece. Total on what a peer sent;
    at most twice as many hashes are computed as came. Raises ValueError where `root`, which is ours, is no hash."""
    if len(root) != HASH_BYTES:
        raise ValueError(f"a root of {len(root)} bytes")
    height = run_height(layout, first_leaf, len(hashes))
    if height is None or len(proof) != layout.tree_height - height:
        return Verdict.MALFORMED
    if any(len(one) != HASH_BYTES for one in hashes) or any(len(one) != HASH_BYTES for one in proof):
        return Verdict.MALFORMED
    node, index = _node_over(hashes, height), first_leaf >> height
    for beside in proof:
        node = hashlib.sha256(beside + node if index & 1 else node + beside).digest()
        index >>= 1
    return Verdict.GOOD if node == root else Verdict.MISMATCH


def verify_block(root: bytes, layout: Layout, first_leaf: int, data: Bytes, proof: Sequence[bytes]) -> Verdict:
    """Whether `data`, a run of at most 256 KiB, is what the file has from `first_leaf` on. Total as `verify_hashes`."""
    view = memoryview(data).cast("B")
    count = -(-len(view) // LEAF_BYTES)
    if not 1 <= len(view) <= BLOCK_BYTES_MAX or run_height(layout, first_leaf, count) is None:
        return Verdict.MALFORMED
    if len(view) != layout.run_bytes(first_leaf, count):
        return Verdict.MALFORMED
    return verify_hashes(root, layout, first_leaf, leaf_hashes(view), proof)


class LeafCheck:
    """Checks the bytes of a run while they come in, leaf by leaf, against hashes that `verify_hashes` found good.

    A bad leaf is told with its last byte, and is its sender's. Keeps the hashes and the state of one leaf."""

    def __init__(self, layout: Layout, first_leaf: int, hashes: Sequence[bytes]) -> None:
        """Raises IndexError where the file has not so many leaves from `first_leaf` on."""
        self._left_bytes = layout.run_bytes(first_leaf, len(hashes))
        self._hashes = tuple(hashes)
        self._leaf = hashlib.sha256()
        self._leaf_left_bytes = min(LEAF_BYTES, self._left_bytes)
        self.good_leaves = 0
        """Leaves from the first that have arrived and are the file's."""
        self.verdict: Verdict | None = None
        """None while bytes are missing."""

    def feed(self, data: Bytes) -> Verdict | None:
        """Take the next bytes, as many as there are; the verdict so far. Bytes beyond the run make it malformed."""
        view = memoryview(data).cast("B")
        at = 0
        while at < len(view) and self.verdict is None:
            part = view[at : at + self._leaf_left_bytes]
            self._leaf.update(part)
            at += len(part)
            self._leaf_left_bytes -= len(part)
            self._left_bytes -= len(part)
            if not self._leaf_left_bytes:
                self._end_leaf()
        if at < len(view) and self.verdict is Verdict.GOOD:
            self.verdict = Verdict.MALFORMED
        return self.verdict

    def _end_leaf(self) -> None:
        if self._leaf.digest() != self._hashes[self.good_leaves]:
            self.verdict = Verdict.MISMATCH
            return
        self.good_leaves += 1
        self._leaf, self._leaf_left_bytes = hashlib.sha256(), min(LEAF_BYTES, self._left_bytes)
        if not self._left_bytes:
            self.verdict = Verdict.GOOD
