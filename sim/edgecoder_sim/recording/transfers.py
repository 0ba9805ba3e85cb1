"""The book of transfers: who got which file when, from whom, why, and what the origin sent.

It keeps sums: one row a download, one a pair of sender and receiver, one an interval and sender. Single pieces are
written only where the scenario asks for them. What the sums amount to is left to `recording.shares`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from edgecoder.core.ids import NodeId
from edgecoder.errors import Reason
from edgecoder.trace import (
    LifeEnded,
    PeerDialled,
    PieceKept,
    PieceLost,
    PieceRefused,
    PieceSought,
    SeedCredited,
    SenderBanned,
    SwarmChanged,
    TransferBegan,
    TransferEnded,
)
from edgecoder_sim.recording.histogram import Histogram

Handler = Callable[[int, int, Any], None]
AddRow = Callable[[tuple[Any, ...]], None]
CDN: Final = "cdn"
SOURCES: Final = ("ble", "wifi_direct", "mesh", CDN)


class TransferTables(NamedTuple):
    """Where the rows go."""

    transfers: AddRow
    uploads: AddRow
    sent: AddRow
    losses: AddRow
    pieces: AddRow | None
    """None: no row a piece."""
    timeline: AddRow


class _Open:
    """A download that is under way."""

    __slots__ = ("began_us", "bytes_of", "losses", "pieces_before", "wasted")

    def __init__(self, began_us: int, pieces_before: int) -> None:
        self.began_us = began_us
        self.pieces_before = pieces_before
        self.bytes_of = dict.fromkeys(SOURCES, 0)
        self.wasted = 0
        self.losses = 0


class Upload:
    """What went from one to another."""

    __slots__ = ("first_us", "last_us", "pieces", "size_bytes")

    def __init__(self, at_us: int) -> None:
        self.first_us = self.last_us = at_us
        self.pieces = self.size_bytes = 0


class Crowd:
    """The downloads of one file by all nodes."""

    __slots__ = ("done", "first_us", "had_pieces", "last_began_us", "last_done_us", "nodes")

    def __init__(self, at_us: int) -> None:
        self.first_us = self.last_began_us = self.last_done_us = at_us
        self.nodes: set[int] = set()
        self.done: set[int] = set()
        self.had_pieces = False
        """Whether some node had a part of it from before the run."""


class TransferBook:
    """Writes the tables of what comes piece by piece, and counts."""

    def __init__(self, index: Mapping[NodeId, int], tables: TransferTables) -> None:
        self._index = index
        self._tables = tables
        self._timeline = tables.timeline
        self._open: dict[tuple[int, str], _Open] = {}
        self.uploads: dict[tuple[int | None, int, str, str], Upload] = {}
        """By sender (None: the CDN), receiver, model and source."""
        self.crowds: dict[str, Crowd] = {}
        """By model."""
        self.bytes_of = dict.fromkeys(SOURCES, 0)
        self._sent: dict[tuple[int | None, str], int] = {}
        """Since the last sample."""
        self._lost: dict[tuple[str, str, str], list[int]] = {}
        """Requests, bytes and waste by model, source and reason."""
        self._whys: dict[str, int] = {}
        self._done = self._failed = self._bans = self._refusals = self._wasted = 0
        self._dials = dict.fromkeys(("reverse_dials", "reverse_dials_failed"), 0)
        self._took = Histogram()
        self._credits: dict[tuple[int, NodeId], int] = {}
        """By broker and sender."""
        self.is_used = False
        self.handlers: dict[type, Handler] = {
            TransferBegan: self._began,
            TransferEnded: self._ended,
            PieceSought: self._sought,
            PieceKept: self._kept,
            PieceLost: self._lost_one,
            PieceRefused: self._refused,
            SenderBanned: self._banned,
            PeerDialled: self._dialled,
            SwarmChanged: self._swarm,
            SeedCredited: self._credited,
            LifeEnded: self._died,
        }

    def sample(self, at_us: int) -> None:
        """Write what has come by now, by source, and what each gave since the last sample."""
        if not self.is_used:
            return
        for source, size in self.bytes_of.items():
            self._timeline((at_us / 1e6, "transfer_bytes", source, float(size)))
        self._timeline((at_us / 1e6, "transfers_open", "", float(len(self._open))))
        for (sender, source), size in self._sent.items():
            self._tables.sent((at_us / 1e6, sender, source, size))
        self._sent.clear()

    def close(self) -> None:
        """Write what is open, and the sums."""
        for node, model in list(self._open):
            self._write(node, model, None, None)
        for (sender, receiver, model, source), upload in self.uploads.items():
            times = (upload.first_us / 1e6, upload.last_us / 1e6)
            self._tables.uploads((sender, receiver, model, source, upload.pieces, upload.size_bytes, *times))
        for key, sums in self._lost.items():
            self._tables.losses((*key, *sums))

    def came_in_parts(self, model: str) -> bool:
        """Whether some piece of a file came from more than one, one after the other."""
        return any(size for (of, *_), (_, size, _) in self._lost.items() if of == model)

    def metrics(self) -> dict[str, float]:
        """The figures; nothing where no file came piece by piece."""
        if not self.is_used:
            return {}
        figures: dict[str, float] = {f"transfer_{source}_bytes": size for source, size in self.bytes_of.items()}
        figures |= {"transfers_done": self._done, "transfers_failed": self._failed, "senders_banned": self._bans}
        figures |= {"transfer_wasted_bytes": self._wasted, "pieces_refused": self._refusals}
        figures |= {f"pieces_sought_{why}": count for why, count in sorted(self._whys.items())}
        figures |= self._dials if any(self._dials.values()) else {}
        figures["seed_credits"] = sum(self._credits.values()) / 1e6
        if self._took.count:
            figures["transfer_p50_s"] = self._took.quantile(0.5) / 1e6
            figures["transfer_p99_s"] = self._took.quantile(0.99) / 1e6
        return figures

    # -- downloads -----------------------------------------------------------------------------------------------------

    def _began(self, at_us: int, node: int, record: TransferBegan) -> None:
        self.is_used = True
        self._open[node, record.model] = _Open(at_us, record.pieces)
        crowd = self.crowds.get(record.model)
        if crowd is None:
            crowd = self.crowds[record.model] = Crowd(at_us)
        if node not in crowd.nodes:
            crowd.nodes.add(node)
            crowd.last_began_us = at_us
            crowd.had_pieces |= record.pieces > 0

    def _ended(self, at_us: int, node: int, record: TransferEnded) -> None:
        reason = None if record.reason is None else record.reason.value
        row = self._open.get((node, record.model))
        if reason is None and row is not None:
            self._done += 1
            self._took.add(at_us - row.began_us)
            crowd = self.crowds[record.model]
            if node not in crowd.done:
                crowd.done.add(node)
                crowd.last_done_us = at_us
        else:
            self._failed += 1
        self._write(node, record.model, at_us, reason)

    def _write(self, node: int, model: str, at_us: int | None, reason: str | None) -> None:
        row = self._open.pop((node, model), None)
        if row is None:
            return
        ended_s = None if at_us is None else at_us / 1e6
        sums = (*row.bytes_of.values(), row.wasted, row.losses)
        self._tables.transfers((node, model, row.began_us / 1e6, ended_s, reason, row.pieces_before, *sums))

    def _died(self, at_us: int, node: int, _: LifeEnded) -> None:
        for key in [key for key in self._open if key[0] == node]:
            self._write(*key, at_us, "restarted")

    # -- pieces --------------------------------------------------------------------------------------------------------

    def _sought(self, at_us: int, node: int, record: PieceSought) -> None:
        self._whys[record.why] = self._whys.get(record.why, 0) + record.count
        if self._tables.pieces is not None:
            self._piece(at_us, node, record, "sought", record.why, 0, 0)

    def _kept(self, at_us: int, node: int, record: PieceKept) -> None:
        self._came(at_us, node, record, record.size_bytes)
        wasted = 0 if record.is_new else record.size_bytes
        if wasted:
            self._waste(node, record, Reason.DUPLICATE, 0, wasted)
        self._upload(at_us, node, record).pieces += 1
        if self._tables.pieces is not None:
            kept = "kept" if record.is_new else "twice"
            self._piece(at_us, node, record, kept, None, record.size_bytes - wasted, wasted)

    def _lost_one(self, at_us: int, node: int, record: PieceLost) -> None:
        row = self._open.get((node, record.model))
        if row is not None:
            row.losses += 1
        if record.size_bytes:
            self._came(at_us, node, record, record.size_bytes)
        self._waste(node, record, record.reason, record.size_bytes, record.wasted_bytes)
        if self._tables.pieces is not None:
            self._piece(at_us, node, record, "lost", record.reason.value, record.size_bytes, record.wasted_bytes)

    def _piece(
        self,
        at_us: int,
        node: int,
        record: PieceSought | PieceKept | PieceLost,
        event: str,
        why: str | None,
        size: int,
        wasted: int,
    ) -> None:
        assert self._tables.pieces is not None
        count = record.count if isinstance(record, PieceSought) else 1
        whose = (at_us / 1e6, node, record.model, record.piece, count)
        self._tables.pieces((*whose, event, record.source, self._sender(record), why, size, wasted))

    def _came(self, at_us: int, node: int, record: PieceKept | PieceLost, size: int) -> None:
        self.bytes_of[record.source] += size
        row = self._open.get((node, record.model))
        if row is not None:
            row.bytes_of[record.source] += size
        upload = self._upload(at_us, node, record)
        upload.size_bytes += size
        upload.last_us = at_us
        sent = (self._sender(record), record.source)
        self._sent[sent] = self._sent.get(sent, 0) + size

    def _upload(self, at_us: int, node: int, record: PieceKept | PieceLost) -> Upload:
        key = (self._sender(record), node, record.model, record.source)
        upload = self.uploads.get(key)
        if upload is None:
            upload = self.uploads[key] = Upload(at_us)
        return upload

    def _sender(self, record: PieceSought | PieceKept | PieceLost) -> int | None:
        return None if record.peer is None else self._index[record.peer]

    def _waste(self, node: int, record: PieceKept | PieceLost, reason: Reason, kept: int, wasted: int) -> None:
        self._wasted += wasted
        row = self._open.get((node, record.model))
        if row is not None:
            row.wasted += wasted
        sums = self._lost.setdefault((record.model, record.source, reason.value), [0, 0, 0])
        for position, more in enumerate((1, kept, wasted)):
            sums[position] += more

    # -- the others ----------------------------------------------------------------------------------------------------

    def _refused(self, _: int, __: int, ___: PieceRefused) -> None:
        self._refusals += 1

    def _banned(self, _: int, __: int, ___: SenderBanned) -> None:
        self._bans += 1

    def _dialled(self, _: int, __: int, record: PeerDialled) -> None:
        self._dials["reverse_dials" if record.reason is None else "reverse_dials_failed"] += 1

    def _swarm(self, at_us: int, _: int, record: SwarmChanged) -> None:
        self._timeline((at_us / 1e6, "seeders", record.model, float(record.seeders)))
        self._timeline((at_us / 1e6, "receivers", record.model, float(record.receivers)))

    def _credited(self, _: int, node: int, record: SeedCredited) -> None:
        self._credits[node, record.sender] = record.micro_credits
