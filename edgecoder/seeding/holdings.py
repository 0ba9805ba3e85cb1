"""What this node has of each file, piece by piece, and what of that is durable.

A bit is set when the host says that the piece is verified and synced, and never before; it is durable soon after, with
as many others as came meanwhile. Of a piece that broke off the leaves from its first one on are kept. Where the bytes
come from is left to `transfer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from edgecoder.core.context import Context
from edgecoder.core.events import Persisted, PersistFailed
from edgecoder.core.ids import FileId
from edgecoder.core.ops import OnCompletion
from edgecoder.errors import UNREADABLE, Reason, RemoteProtocolError
from edgecoder.models.catalog import CatalogEntry
from edgecoder.seeding.pieces import Layout, bitmap_to_bytes, bytes_to_bitmap

KEY = "pieces/"


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """What stands on the disk."""

    have: bytes
    leaves: dict[int, int]
    """Leaves of pieces that are not whole."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Kept)


class Holding(msgspec.Struct):
    """One file. `have` is a bit a piece, the lowest one the first."""

    entry: CatalogEntry
    file: FileId
    layout: Layout
    have: int = 0
    leaves: dict[int, int] = msgspec.field(default_factory=dict)
    """Verified leaves from its first one on, of pieces that are not whole."""
    is_writing: bool = False
    is_dirty: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether all pieces are here."""
        return self.have == self.layout.all_pieces


def encode(have: int, piece_count: int, leaves: Mapping[int, int] | None = None) -> bytes:
    """The durable form of a holding."""
    return _encoder.encode(_Kept(bitmap_to_bytes(have, piece_count), dict(leaves or {})))


def decode(value: bytes, layout: Layout) -> tuple[int, dict[int, int]]:
    """A holding from its durable form: have-map, and leaves of pieces that are not whole. Leaves that the file does not
    have are left out. Raises ValueError."""
    try:
        kept = _decoder.decode(value)
        have = bytes_to_bitmap(kept.have, layout.piece_count)
    except (RemoteProtocolError, *UNREADABLE) as error:
        raise ValueError(str(error)) from None
    leaves = {
        piece: count
        for piece, count in kept.leaves.items()
        if 0 <= piece < layout.piece_count and 0 < count < len(layout.leaves_of(piece)) and not have >> piece & 1
    }
    return have, leaves


class Holdings:
    """The files of a node that have a tree."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.by_file: dict[FileId, Holding] = {}

    def restore(self, snapshot: Mapping[str, bytes], find: Callable[[str], CatalogEntry | None]) -> None:
        """Take what earlier lives made durable. What cannot be read counts as nothing."""
        for name, value in sorted(snapshot.items()):
            digest = name.removeprefix(KEY)
            entry = find(digest) if digest != name and value else None
            if entry is None or not entry.piece_root:
                continue
            try:
                have, leaves = decode(value, entry.layout)
            except ValueError:
                self._context.drop("pieces", Reason.STORE_FAILED)
                continue
            holding = self.begin(entry)
            holding.have, holding.leaves = have, leaves

    def begin(self, entry: CatalogEntry) -> Holding:
        """The holding of a file, an empty one where there was none."""
        file = bytes.fromhex(entry.sha256)
        holding = self.by_file.get(file)
        if holding is None:
            holding = self.by_file[file] = Holding(entry, file, entry.layout)
        return holding

    def installed(self, entry: CatalogEntry) -> Holding:
        """The whole file is here."""
        holding = self.begin(entry)
        holding.have, holding.leaves = holding.layout.all_pieces, {}
        return holding

    def keep(self, holding: Holding, piece: int) -> bool:
        """A piece is verified and synced. False where it was before."""
        bit = 1 << piece
        if holding.have & bit:
            return False
        holding.have |= bit
        holding.leaves.pop(piece, None)
        self._write(holding)
        return True

    def keep_leaves(self, holding: Holding, piece: int, leaves: int) -> int:
        """So many leaves of a piece, from its first one on, are verified and synced. How many are new."""
        before = holding.leaves.get(piece, 0)
        leaves = min(leaves, len(holding.layout.leaves_of(piece)) - 1)  # a whole piece would have been said to be one
        if holding.have >> piece & 1 or leaves <= before:
            return 0
        holding.leaves[piece] = leaves
        self._write(holding)
        return leaves - before

    def forget(self, entry: CatalogEntry) -> None:
        """The bytes are about to go."""
        self.by_file.pop(bytes.fromhex(entry.sha256), None)

    def drop_record(self, entry: CatalogEntry, on_durable: OnCompletion | None = None) -> None:
        """Take the record of a file's pieces off the disk."""
        self._context.persist(KEY + entry.sha256, b"", on_durable)

    def _write(self, holding: Holding) -> None:
        """Make the map durable; what comes while that is under way is written together, next."""
        if holding.is_writing:
            holding.is_dirty = True
            return
        holding.is_writing, holding.is_dirty = True, False

        def written(completion: Persisted | PersistFailed) -> None:
            holding.is_writing = False
            if isinstance(completion, PersistFailed):
                self._context.drop("pieces", completion.reason)
            if holding.is_dirty and self.by_file.get(holding.file) is holding:
                self._write(holding)

        value = encode(holding.have, holding.layout.piece_count, holding.leaves)
        self._context.persist(KEY + holding.entry.sha256, value, written)
