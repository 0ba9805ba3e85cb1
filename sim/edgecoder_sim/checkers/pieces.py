"""Pieces: none counts as here before its bytes are synced, none is blamed on or asked of the wrong one, none is given
away without leave, none earns what was not sent, and none comes faster than links carry.

What is synced is known from the completions of the host and from what a life starts with.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edgecoder.core.effects import DeleteFile, FetchPiece, HashFile, Persist, ServePiece, Source
from edgecoder.core.events import (
    PieceArrived,
    PieceAsked,
    PieceFailed,
    PieceFetched,
    PieceServed,
    ServeFailed,
    Started,
)
from edgecoder.core.ids import Micros, NodeId, OpId, RequestId, Role
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, FileRow
from edgecoder.seeding.holdings import KEY, decode
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder.seeding.tickets import is_signed
from edgecoder.trace import PieceKept, PieceLost, SeedCredited, SenderBanned, TransferBegan, TransferEnded
from edgecoder.wire.envelope import ByteVerifier
from edgecoder_sim.checkers.panel import GRACE_US, Book, Rule
from edgecoder_sim.crypto import IdealKeys

SLACK_US: Final[Micros] = 100_000
"""Shares of links change at quanta of 50 ms, so that bytes may be early by one at each end."""
_rows = msgspec.msgpack.Decoder(dict[str, FileRow])


class Synced:
    """What of one file is on a disk for good."""

    __slots__ = ("have", "leaves")

    def __init__(self, have: int = 0, leaves: dict[int, int] | None = None) -> None:
        self.have = have
        self.leaves = leaves or {}


class KeptIsSynced(Rule):
    """What is written to be here has been verified and synced, and a file is hashed when all of it is."""

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

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._of[book.index], self._asked[book.index] = {}, {}

    def _start(self, book: Book, event: Started) -> None:
        files = self._of[book.index]
        for name, value in event.snapshot.items():
            entry = book.catalog.by_digest.get(name.removeprefix(KEY))
            if name.startswith(KEY) and value and entry is not None:
                files[entry.sha256] = Synced(*decode(value, entry.layout))
        try:
            rows = _rows.decode(event.snapshot.get(INVENTORY_KEY, b"\x80"))
        except msgspec.DecodeError:
            return
        for digest, row in rows.items():
            entry = book.catalog.by_digest.get(digest)
            if entry is not None and row.state is DownloadState.INSTALLED:
                files[digest] = Synced(entry.layout.all_pieces)

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


class Leave(Rule):
    """A piece goes to who asked for it, with a ticket for just that, or near by; and no more at once than there are
    slots."""

    name = "pieces need leave"

    def enter(self) -> None:
        """See `Rule`."""
        self._asked: dict[int, dict[RequestId, PieceAsked]] = {}
        self._serving: dict[int, set[OpId]] = {}
        self.panel.on(PieceAsked, self._take)
        self.panel.on(ServePiece, self._serve)
        self.panel.on((PieceServed, ServeFailed), self._served)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._asked[book.index], self._serving[book.index] = {}, set()

    def _take(self, book: Book, event: PieceAsked) -> None:
        self._asked[book.index][event.request] = event

    def _serve(self, book: Book, effect: ServePiece) -> None:
        asked = self._asked[book.index].pop(effect.request, None)
        what = f"piece {effect.piece} of {effect.entry.model_id}"
        if asked is None:
            self.fail(book, f"sends {what}, for which nobody asked")
        if (asked.file.hex(), asked.piece, asked.first_leaf) != (
            effect.entry.sha256,
            effect.piece,
            effect.first_leaf,
        ):
            self.fail(book, f"sends {what} in place of what was asked for")
        self._serving[book.index].add(effect.op)
        if len(self._serving[book.index]) > book.config.upload_slots:
            self.fail(book, f"sends {len(self._serving[book.index])} pieces at once, more than its slots")
        if asked.link is None:
            self._judge(book, asked, what)

    def _judge(self, book: Book, asked: PieceAsked, what: str) -> None:
        ticket, network = asked.ticket, book.cluster.network_id
        if ticket is None:
            self.fail(book, f"sends {what} to {asked.peer.hex()[:8]}, who has shown no ticket")
        verifier = ByteVerifier(IdealKeys(), network)
        if not is_signed(network, verifier, ticket, asked.peer, book.node, asked.file):
            self.fail(book, f"sends {what} to {asked.peer.hex()[:8]} on a ticket that is not for that")

    def _served(self, book: Book, event: PieceServed | ServeFailed) -> None:
        self._serving[book.index].discard(event.op)


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


class Bounds(Rule):
    """Nothing comes faster than links carry: not out of an uplink, not into a downlink, not from the origin. The fluid
    bound of a swarm follows."""

    name = "pieces keep to the bounds"

    def enter(self) -> None:
        """See `Rule`."""
        self._sent: dict[NodeId, list[int]] = {}
        """First request and bytes, by sender."""
        self._received: dict[NodeId, list[int]] = {}
        self._origin = [0, 0]
        self._up: dict[NodeId, int] = {}
        self.panel.on(Started, self._start)
        self.panel.on(FetchPiece, self._ask)
        self.panel.on((PieceKept, PieceLost), self._note)

    def _start(self, book: Book, _: Started) -> None:
        if book.role is not Role.COORDINATOR:
            self._up[book.node] = book.config.upload_kbit_per_s * 125

    def _ask(self, book: Book, effect: FetchPiece) -> None:
        if effect.source in (Source.BLE, Source.WIFI_DIRECT):
            return
        now = self.panel.now
        self._received.setdefault(book.node, [now, 0])
        if effect.peer is not None:
            self._sent.setdefault(effect.peer, [now, 0])
        elif not self._origin[0]:
            self._origin[0] = now

    def _note(self, book: Book, record: PieceKept | PieceLost) -> None:
        if record.source in (Source.BLE.value, Source.WIFI_DIRECT.value) or not record.size_bytes:
            return
        down = book.config.download_kbit_per_s * 125
        self._judge(book, self._received.get(book.node), record.size_bytes, down, "into its downlink")
        if record.peer is not None:
            sender = self._sent.get(record.peer)
            up = self._up.get(record.peer, 0)
            self._judge(book, sender, record.size_bytes, up, f"out of the uplink of {record.peer.hex()[:8]}")
        else:
            egress = book.cluster.cdn_egress_kbit_per_s * 125
            self._judge(book, self._origin, record.size_bytes, egress, "from the origin")

    def _judge(self, book: Book, flow: list[int] | None, size_bytes: int, bytes_per_s: int, where: str) -> None:
        if flow is None:
            return
        flow[1] += size_bytes
        most = bytes_per_s * (self.panel.now - flow[0] + SLACK_US) // 1_000_000 + LEAF_BYTES
        if bytes_per_s and flow[1] > most:
            self.fail(book, f"gets {flow[1]} bytes {where} where {most} fit")
