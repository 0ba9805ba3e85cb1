"""Pieces in a row as their bytes come: a leaf is checked before it is written, a piece synced before it counts."""

from __future__ import annotations

from edgecoder.models.catalog import CatalogEntry
from edgecoder.seeding.merkle import LeafCheck, Verdict
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder_drivers.store.blobs import Writer


class CorruptError(Exception):
    """A leaf is not the file's."""


class PieceRow:
    """`count` pieces from one on, the first of them on from one of its leaves. Blocks."""

    def __init__(self, entry: CatalogEntry, piece: int, first_leaf: int, count: int, hashes: list[bytes]) -> None:
        """`hashes` are those of all leaves that are to come."""
        self._layout = entry.layout
        self._end_piece = piece + count
        self._hashes = hashes
        self._pending = bytearray()
        self._kept = 0
        self.piece = piece
        """The one that comes now; the one after the last when all have come."""
        self.leaves = first_leaf
        """How many leaves of it are verified and synced, from its first one on."""
        self._begin()

    @property
    def is_done(self) -> bool:
        """Whether all pieces have come."""
        return self.piece == self._end_piece

    @property
    def pending_bytes(self) -> int:
        """Bytes that came and were not written: a leaf that is not whole or not the file's, and what came after it."""
        return len(self._pending)

    @property
    def first_byte(self) -> int:
        """Where in the file the bytes begin that are missing."""
        return self._layout.leaves_of(self.piece).start * LEAF_BYTES + self.leaves * LEAF_BYTES

    @property
    def end_byte(self) -> int:
        """Where they end."""
        last = self._end_piece - 1
        return self._layout.piece_offset(last) + self._layout.piece_bytes(last)

    def take(self, data: bytes, writer: Writer) -> None:
        """Take the next bytes; a piece that is whole is synced. Raises CorruptError, and OSError; then no more can be
        taken."""
        view = memoryview(data)
        while view:
            part = view[: self._left_bytes]
            view = view[len(part) :]
            verdict = self._check.feed(part)
            self._pending += part
            self._left_bytes -= len(part)
            self._write(writer)
            if verdict is Verdict.MISMATCH:
                self._pending += view
                raise CorruptError
            if verdict is Verdict.GOOD:
                self.settle(writer)
                self.piece, self.leaves = self.piece + 1, 0
                if self.is_done:
                    break
                self._begin()

    def settle(self, writer: Writer) -> None:
        """Sync the leaves that were written. They do not count where that fails, nor would they after another try."""
        fresh, self._kept = self._kept, 0
        if fresh:
            writer.sync()
            self.leaves += fresh

    def _begin(self) -> None:
        count = len(self._layout.leaves_of(self.piece)) - self.leaves
        first = self._layout.leaves_of(self.piece).start + self.leaves
        self._check = LeafCheck(self._layout, first, self._hashes[:count])
        del self._hashes[:count]
        self._left_bytes = self._layout.run_bytes(first, count)
        self._offset = first * LEAF_BYTES
        self._kept = 0

    def _write(self, writer: Writer) -> None:
        """Write the leaves that are good."""
        size = min((self._check.good_leaves - self._kept) * LEAF_BYTES, len(self._pending))
        if size:
            writer.write(bytes(self._pending[:size]), self._offset)
            del self._pending[:size]
            self._offset += size
            self._kept = self._check.good_leaves
