"""How a file is cut: leaves that are proved and resumed, pieces that are held and granted, blocks that are asked for.

All of it follows from two sizes, so nodes need not agree on more than the catalog entry. What the bytes hash to is
`merkle`'s; who fetches which piece from whom is left to the planner and the broker. A have-map is a Python int, bit
`i` for piece `i`, since unions and differences of whole maps are what costs time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from edgecoder.errors import Reason, RemoteProtocolError
from edgecoder.protocol import PIECES_MAX

LEAF_BYTES: Final = 16_384
"""Unit of proof, blame and resume (BEP 52)."""
BLOCK_BYTES_MAX: Final = 262_144
"""Most that one request asks for."""
PIECE_BYTES_MIN: Final = 65_536
"""Smallest piece that the rule gives."""
PIECE_BYTES_MAX: Final = 16_777_216
"""Largest piece that the rule gives."""
PIECES_WANTED: Final = 266
"""With k = 20 log2 n pieces a swarm of n finishes near its bound; n = 10 000."""


def piece_size_bytes(file_size_bytes: int) -> int:
    """The piece size of a file by the rule: the largest power of two from 64 KiB to 16 MiB that gives at least 266
    pieces, else 64 KiB. `file_size_bytes` is 1 or more."""
    size = PIECE_BYTES_MAX
    while size > PIECE_BYTES_MIN and -(-file_size_bytes // size) < PIECES_WANTED:
        size //= 2
    return size


class Layout:
    """Where leaves and pieces of a file lie. Made by `layout_of`; two of the same sizes are equal.

    Each method takes constant time. An index that the file does not have is an IndexError: what comes from
    outside has to be compared with `piece_count` or `leaf_count` first."""

    __slots__ = (
        "all_pieces",
        "file_size_bytes",
        "last_piece_bytes",
        "leaf_count",
        "leaves_per_piece",
        "piece_count",
        "piece_height",
        "piece_size_bytes",
        "tree_height",
    )

    def __init__(self, file_size_bytes: int, piece_size_bytes: int) -> None:
        """Raises ValueError where a size is out of its range: a file has 1 byte or more, a piece a power of two of
        bytes and one leaf or more, and there are at most `PIECES_MAX` pieces."""
        if file_size_bytes < 1:
            raise ValueError(f"a file of {file_size_bytes} bytes has no pieces")
        if piece_size_bytes < LEAF_BYTES or piece_size_bytes & (piece_size_bytes - 1):
            raise ValueError(f"{piece_size_bytes} is no piece size; it is a power of two from {LEAF_BYTES} bytes")
        self.file_size_bytes = file_size_bytes
        self.piece_size_bytes = piece_size_bytes
        self.piece_count = -(-file_size_bytes // piece_size_bytes)
        if self.piece_count > PIECES_MAX:
            raise ValueError(f"{self.piece_count} pieces of {piece_size_bytes} bytes; there are at most {PIECES_MAX}")
        self.last_piece_bytes = file_size_bytes - (self.piece_count - 1) * piece_size_bytes
        self.all_pieces = (1 << self.piece_count) - 1
        """The have-map of a whole file."""
        self.leaf_count = -(-file_size_bytes // LEAF_BYTES)
        self.leaves_per_piece = piece_size_bytes // LEAF_BYTES
        self.tree_height = (self.leaf_count - 1).bit_length()
        """Levels of the tree above its leaves; a file of one leaf has none."""
        self.piece_height = min((self.leaves_per_piece - 1).bit_length(), self.tree_height)
        """The level whose nodes stand for pieces. That of a file of one piece is its root's."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Layout):
            return NotImplemented
        return self._sizes() == other._sizes()

    def __hash__(self) -> int:
        return self.file_size_bytes ^ self.piece_size_bytes

    def __repr__(self) -> str:
        return f"Layout(file_size_bytes={self.file_size_bytes}, piece_size_bytes={self.piece_size_bytes})"

    def _sizes(self) -> tuple[int, int]:
        return self.file_size_bytes, self.piece_size_bytes

    def piece_offset(self, index: int) -> int:
        """Where a piece begins in the file, bytes."""
        self._check(index, self.piece_count)
        return index * self.piece_size_bytes

    def piece_bytes(self, index: int) -> int:
        """How long a piece is, bytes: the last one may be short."""
        self._check(index, self.piece_count)
        return self.last_piece_bytes if index == self.piece_count - 1 else self.piece_size_bytes

    def leaves_of(self, index: int) -> range:
        """The leaves of a piece, numbered from the file's first."""
        self._check(index, self.piece_count)
        first = index * self.leaves_per_piece
        return range(first, min(first + self.leaves_per_piece, self.leaf_count))

    def run_bytes(self, first_leaf: int, count: int) -> int:
        """How long `count` leaves are together from `first_leaf`, bytes."""
        self._check(first_leaf, self.leaf_count)
        self._check(count - 1, self.leaf_count - first_leaf)
        return min(count * LEAF_BYTES, self.file_size_bytes - first_leaf * LEAF_BYTES)

    def held_bytes(self, have: int) -> int:
        """Bytes of the pieces in a have-map."""
        whole = have.bit_count() * self.piece_size_bytes
        has_last = have >> (self.piece_count - 1) & 1
        return whole - (self.piece_size_bytes - self.last_piece_bytes) if has_last else whole

    @staticmethod
    def _check(index: int, count: int) -> None:
        if not 0 <= index < count:
            raise IndexError(f"{index} is not from 0 to {count - 1}")


@lru_cache(maxsize=1024)
def layout_of(file_size_bytes: int, piece_size: int = 0) -> Layout:
    """The layout of a file, `piece_size` bytes a piece, 0 for that of the rule. Raises ValueError as `Layout` does."""
    return Layout(file_size_bytes, piece_size or piece_size_bytes(file_size_bytes))


def bitmap_to_bytes(have: int, piece_count: int) -> bytes:
    """A have-map for the wire and the disk: the least significant bit of the first byte is piece 0. Raises ValueError
    where `have` is negative or has a piece that the file does not have."""
    if have >> piece_count:
        raise ValueError(f"a have-map of {have.bit_length()} pieces for a file of {piece_count}")
    return have.to_bytes((piece_count + 7) // 8, "little")


def bytes_to_bitmap(data: bytes, piece_count: int) -> int:
    """The have-map in `data`. Raises RemoteProtocolError (invalid) unless it has the one length that a file of
    `piece_count` pieces gives, and no bit beyond the last piece: each map has one form."""
    if len(data) != (piece_count + 7) // 8:
        raise RemoteProtocolError(Reason.INVALID, f"a have-map of {len(data)} bytes for {piece_count} pieces")
    have = int.from_bytes(data, "little")
    if have >> piece_count:
        raise RemoteProtocolError(Reason.INVALID, f"piece {have.bit_length() - 1} of {piece_count}")
    return have


def bits(pieces: int) -> Iterator[int]:
    """The pieces of a map, lowest first."""
    while pieces:
        low = pieces & -pieces
        yield low.bit_length() - 1
        pieces ^= low


def first_from(pieces: int, start: int) -> int:
    """The first piece of a set from `start` on, or the first of all where there is none."""
    ahead = pieces >> start
    return start + (ahead & -ahead).bit_length() - 1 if ahead else (pieces & -pieces).bit_length() - 1


def row_starts(pieces: int, length: int) -> int:
    """The pieces of a set at which `length` of it follow each other, as a set; `length` is at least 1."""
    done = 1
    while done < length:
        step = min(done, length - done)
        pieces &= pieces >> step
        done += step
    return pieces


def row_from(pieces: int, start: int, limit: int) -> range:
    """Pieces of a set that follow each other, from `start` on where that may be: up to `limit`, at least half of that
    where there is such a row, else at least a quarter, and so on."""
    least, starts = limit, 0
    while not starts:
        starts = row_starts(pieces, least)
        least //= 2
    first = end = first_from(starts, start)
    while end < first + limit and pieces >> end & 1:
        end += 1
    return range(first, end)
