"""Pieces: none counts as here or is given away before its bytes are synced, none is blamed on or asked of the wrong
one, and none earns what was not sent.

What is synced is known from the completions of the host and from what a life starts with.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgecoder.core.effects import DeleteFile, FetchPiece, HashFile, Persist, ServePiece
from edgecoder.core.events import (
    PieceArrived,
    PieceFailed,
    PieceFetched,
    Started,
)
from edgecoder.core.ids import LinkId, NodeId, OpId
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, FileRow
from edgecoder.seeding.holdings import KEY, decode
from edgecoder.seeding.pieces import LEAF_BYTES, bytes_to_bitmap
from edgecoder.trace import PieceKept, PieceLost, SeedCredited, SenderBanned, TransferBegan, TransferEnded
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Announce
from edgecoder_sim.checkers.panel import GRACE_US, Book, Rule

_rows = msgspec.msgpack.Decoder(dict[str, FileRow])


def installed_in(snapshot: Mapping[str, bytes], catalog: Catalog) -> list[CatalogEntry]:
    """The files that are whole at the begin of a life; none where the inventory cannot be read."""
    try:
        rows = _rows.decode(snapshot.get(INVENTORY_KEY, b"\x80"))
    except msgspec.DecodeError:
        return []
    installed = [digest for digest, row in rows.items() if row.state is DownloadState.INSTALLED]
    return [catalog.by_digest[digest] for digest in installed if digest in catalog.by_digest]


class Synced:
    """What of one file is on a disk for good."""

    __slots__ = ("have", "leaves")

    def __init__(self, have: int = 0, leaves: dict[int, int] | None = None) -> None:
        self.have = have
        self.leaves = leaves or {}


class KeptIsSynced(Rule):
    """What is written or told to be here has been verified and synced, a piece is given away when all of it is, and a
    file is hashed when all of that is."""

    name = "kept pieces are synced"

    def enter(self) -> None:
        """See `Rule`."""
        self._of: dict[int, dict[str, Synced]] = {}
        self._asked: dict[int, dict[OpId, FetchPiece]] = {}
        self.panel.on(Started, self._start)
        self.panel.on(FetchPiece, self._ask)
        self.panel.on(PieceArrived, self._arrived)
        self.panel.on((PieceFetched, PieceFailed), self._ended)
        self.panel.on(Persist, self._write)
        self.panel.on(HashFile, self._hash)
        self.panel.on(DeleteFile, self._delete)
        self.panel.on(ServePiece, self._serve)
        self.panel.on_sent(Announce, self._announce)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._of[book.index], self._asked[book.index] = {}, {}

    def _start(self, book: Book, event: Started) -> None:
        files = self._of[book.index]
        for name, value in event.snapshot.items():
            entry = book.catalog.by_digest.get(name.removeprefix(KEY))
            if name.startswith(KEY) and value and entry is not None:
                files[entry.sha256] = Synced(*decode(value, entry.layout))
        for entry in installed_in(event.snapshot, book.catalog):
            files[entry.sha256] = Synced(entry.layout.all_pieces)

    def _file(self, book: Book, entry: CatalogEntry) -> Synced:
        return self._of[book.index].setdefault(entry.sha256, Synced())

    def _ask(self, book: Book, effect: FetchPiece) -> None:
        self._asked[book.index][effect.op] = effect

    def _arrived(self, book: Book, event: PieceArrived) -> None:
        asked = self._asked[book.index].get(event.op)
        if asked is not None:
            self._file(book, asked.entry).have |= 1 << event.piece

    def _ended(self, book: Book, event: PieceFetched | PieceFailed) -> None:
        asked = self._asked[book.index].pop(event.op, None)
        if asked is None:
            return
        file = self._file(book, asked.entry)
        if isinstance(event, PieceFetched):
            file.have |= ((1 << asked.count) - 1) << asked.piece
            return
        for piece in range(asked.piece, asked.piece + asked.count):
            if not file.have >> piece & 1:
                file.leaves[piece] = max(file.leaves.get(piece, 0), event.leaves)
                return

    def _write(self, book: Book, effect: Persist) -> None:
        entry = book.catalog.by_digest.get(effect.key.removeprefix(KEY))
        if not effect.key.startswith(KEY) or not effect.value or entry is None:
            return
        have, leaves = decode(effect.value, entry.layout)
        file = self._file(book, entry)
        early = have & ~file.have
        if early:
            piece = early.bit_length() - 1
            self.fail(book, f"writes that piece {piece} of {entry.model_id} is here, which has not been synced")
        for piece, count in leaves.items():
            if not file.have >> piece & 1 and count > file.leaves.get(piece, 0):
                what = f"{count} leaves of piece {piece} of {entry.model_id}"
                self.fail(book, f"writes that {what} are here, of which {file.leaves.get(piece, 0)} have been synced")

    def _hash(self, book: Book, effect: HashFile) -> None:
        entry = effect.entry
        file = self._of[book.index].get(entry.sha256)
        missing = 0 if file is None else entry.layout.all_pieces & ~file.have
        if missing:
            self.fail(book, f"hashes {entry.model_id}, of which {missing.bit_count()} pieces are not here")

    def _delete(self, book: Book, effect: DeleteFile) -> None:
        self._of[book.index].pop(effect.entry.sha256, None)

    def _serve(self, book: Book, effect: ServePiece) -> None:
        if not self._file(book, effect.entry).have >> effect.piece & 1:
            self.fail(book, f"sends piece {effect.piece} of {effect.entry.model_id}, which it has not whole")
        self._tell(book, effect.entry, effect.have)

    def _announce(self, book: Book, _: LinkId, __: Header, message: Announce) -> None:
        entry = book.catalog.by_digest.get(message.file.hex())
        if entry is not None:
            self._tell(book, entry, bytes_to_bitmap(message.have, entry.layout.piece_count))

    def _tell(self, book: Book, entry: CatalogEntry, have: int) -> None:
        early = have & ~self._file(book, entry).have
        if early:
            self.fail(book, f"tells that piece {early.bit_length() - 1} of {entry.model_id} is here, which it is not")

    def bytes_of(self, book: Book, entry: CatalogEntry) -> int:
        """Bytes of a file that are synced at a node."""
        file = self._file(book, entry)
        leaves = sum(count for piece, count in file.leaves.items() if not file.have >> piece & 1)
        return min(entry.file_size_bytes, entry.layout.held_bytes(file.have) + leaves * LEAF_BYTES)


class Blame(Rule):
    """Only a sender whose bytes did not fit is banned, and who is banned is not asked again."""

    name = "blame is proven"

    def enter(self) -> None:
        """See `Rule`."""
        self._asked: dict[int, dict[OpId, FetchPiece]] = {}
        self._proven: dict[int, set[tuple[str, NodeId]]] = {}
        self._banned: dict[int, set[tuple[str, NodeId]]] = {}
        self.panel.on(FetchPiece, self._ask)
        self.panel.on((PieceFetched, PieceFailed), self._ended)
        self.panel.on(SenderBanned, self._ban)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._asked[book.index], self._proven[book.index], self._banned[book.index] = {}, set(), set()

    def _ask(self, book: Book, effect: FetchPiece) -> None:
        if effect.peer is None:
            return
        if (effect.entry.model_id, effect.peer) in self._banned[book.index]:
            self.fail(book, f"asks {effect.peer.hex()[:8]} for {effect.entry.model_id}, which it has banned for it")
        self._asked[book.index][effect.op] = effect

    def _ended(self, book: Book, event: PieceFetched | PieceFailed) -> None:
        asked = self._asked[book.index].pop(event.op, None)
        if asked is None or not isinstance(event, PieceFailed) or event.reason is not Reason.PIECE_CORRUPT:
            return
        assert asked.peer is not None, "only peers are looked at"
        self._proven[book.index].add((asked.entry.model_id, asked.peer))

    def _ban(self, book: Book, record: SenderBanned) -> None:
        if (record.model, record.peer) not in self._proven[book.index]:
            self.fail(book, f"bans {record.peer.hex()[:8]} for {record.model}, whose bytes have all fitted")
        self._banned[book.index].add((record.model, record.peer))


class Earned(Rule):
    """A sender has credit for no more bytes than its receiver has verified of it."""

    name = "credits are earned"

    def enter(self) -> None:
        """See `Rule`."""
        self._came: dict[tuple[str, NodeId, NodeId], int] = {}
        self._paid: dict[tuple[str, NodeId, NodeId], int] = {}
        self.panel.on((PieceKept, PieceLost), self._note)
        self.panel.on(SeedCredited, self._credit)

    def _note(self, book: Book, record: PieceKept | PieceLost) -> None:
        if record.peer is not None:
            key = (record.model, record.peer, book.node)
            self._came[key] = self._came.get(key, 0) + record.size_bytes

    def _credit(self, book: Book, record: SeedCredited) -> None:
        key = (record.model, record.sender, record.receiver)
        paid = self._paid[key] = self._paid.get(key, 0) + record.size_bytes
        came = self._came.get(key, 0)
        if paid > came:
            who = f"{record.sender.hex()[:8]} for {record.model}"
            self.fail(book, f"gives {who} credit for {paid} bytes, of which {came} came to {record.receiver.hex()[:8]}")


class WholeEnds(Rule):
    """A download of which all pieces are here ends soon."""

    name = "downloads end"

    def enter(self) -> None:
        """See `Rule`."""
        self._missing: dict[int, dict[str, int]] = {}
        """Pieces that open downloads lack, by model."""
        self.panel.on(TransferBegan, self._begin_transfer)
        self.panel.on(PieceKept, self._keep)
        self.panel.on(TransferEnded, self._end)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._missing[book.index] = {}

    def _begin_transfer(self, book: Book, record: TransferBegan) -> None:
        self._missing[book.index][record.model] = record.of - record.pieces

    def _keep(self, book: Book, record: PieceKept) -> None:
        missing = self._missing[book.index]
        if record.model in missing and record.is_new:
            missing[record.model] -= 1
            if not missing[record.model]:
                self.panel.alarm(self.panel.now + GRACE_US, self._overdue, book, (book.life, record.model))

    def _end(self, book: Book, record: TransferEnded) -> None:
        self._missing[book.index].pop(record.model, None)

    def _overdue(self, book: Book, key: tuple[int, str]) -> None:
        life, model = key
        if life == book.life and self._missing[book.index].get(model) == 0:
            self.fail(book, f"has all pieces of {model}, and goes on downloading it")
