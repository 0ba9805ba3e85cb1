"""The book of transfers: who got which file when, from whom, and what the origin sent.

It keeps sums, not pieces: one row a download, and one a pair of sender and receiver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgecoder.core.ids import NodeId
from edgecoder.trace import (
    LifeEnded,
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
SOURCES = ("ble", "wifi_direct", "mesh", "cdn")


class _Open:
    """A download that is under way."""

    __slots__ = ("began_us", "bytes_of", "losses", "pieces_before", "wasted")

    def __init__(self, began_us: int, pieces_before: int) -> None:
        self.began_us = began_us
        self.pieces_before = pieces_before
        self.bytes_of = dict.fromkeys(SOURCES, 0)
        self.wasted = 0
        self.losses = 0


class _Flow:
    """What went from one to another."""

    __slots__ = ("first_us", "last_us", "pieces", "size_bytes")

    def __init__(self, at_us: int) -> None:
        self.first_us = self.last_us = at_us
        self.pieces = self.size_bytes = 0


class TransferBook:
    """Writes the tables of transfers and uploads, and counts."""

    def __init__(self, index: Mapping[NodeId, int], add_transfer: AddRow, add_upload: AddRow, timeline: AddRow) -> None:
        self._index = index
        self._add_transfer = add_transfer
        self._add_upload = add_upload
        self._timeline = timeline
        self._open: dict[tuple[int, str], _Open] = {}
        self._flows: dict[tuple[int | None, int, str, str], _Flow] = {}
        self._bytes_of = dict.fromkeys(SOURCES, 0)
        self._whys: dict[str, int] = {}
        self._done = self._failed = self._bans = self._refusals = self._wasted = 0
        self._took = Histogram()
        self._credits: dict[tuple[int, NodeId], int] = {}
        """By broker and sender."""
        self._is_used = False
        self.handlers: dict[type, Handler] = {
            TransferBegan: self._began,
            TransferEnded: self._ended,
            PieceSought: self._sought,
            PieceKept: self._kept,
            PieceLost: self._lost,
            PieceRefused: self._refused,
            SenderBanned: self._banned,
            SwarmChanged: self._swarm,
            SeedCredited: self._credited,
            LifeEnded: self._died,
        }

    def sample(self, at_us: int) -> None:
        """Write what has come by now, by source."""
        if self._is_used:
            for source, size in self._bytes_of.items():
                self._timeline((at_us / 1e6, "transfer_bytes", source, float(size)))
            self._timeline((at_us / 1e6, "transfers_open", "", float(len(self._open))))

    def close(self) -> None:
        """Write what is open."""
        for node, model in list(self._open):
            self._write(node, model, None, None)
        for (sender, receiver, model, source), flow in self._flows.items():
            times = (flow.first_us / 1e6, flow.last_us / 1e6)
            self._add_upload((sender, receiver, model, source, flow.pieces, flow.size_bytes, *times))

    def metrics(self) -> dict[str, float]:
        """The figures; nothing where no file came piece by piece."""
        if not self._is_used:
            return {}
        figures: dict[str, float] = {f"transfer_{source}_bytes": size for source, size in self._bytes_of.items()}
        figures |= {"transfers_done": self._done, "transfers_failed": self._failed, "senders_banned": self._bans}
        figures |= {"transfer_wasted_bytes": self._wasted, "pieces_refused": self._refusals}
        figures |= {f"pieces_sought_{why}": count for why, count in sorted(self._whys.items())}
        figures["seed_credits"] = sum(self._credits.values()) / 1e6
        if self._took.count:
            figures["transfer_p50_s"] = self._took.quantile(0.5) / 1e6
            figures["transfer_p99_s"] = self._took.quantile(0.99) / 1e6
        return figures

    def _began(self, at_us: int, node: int, record: TransferBegan) -> None:
        self._is_used = True
        self._open[node, record.model] = _Open(at_us, record.pieces)

    def _ended(self, at_us: int, node: int, record: TransferEnded) -> None:
        reason = None if record.reason is None else record.reason.value
        row = self._open.get((node, record.model))
        if reason is None and row is not None:
            self._done += 1
            self._took.add(at_us - row.began_us)
        else:
            self._failed += 1
        self._write(node, record.model, at_us, reason)

    def _write(self, node: int, model: str, at_us: int | None, reason: str | None) -> None:
        row = self._open.pop((node, model), None)
        if row is None:
            return
        ended_s = None if at_us is None else at_us / 1e6
        sums = (*row.bytes_of.values(), row.wasted, row.losses)
        self._add_transfer((node, model, row.began_us / 1e6, ended_s, reason, row.pieces_before, *sums))

    def _died(self, at_us: int, node: int, _: LifeEnded) -> None:
        for key in [key for key in self._open if key[0] == node]:
            self._write(*key, at_us, "restarted")

    def _sought(self, _: int, __: int, record: PieceSought) -> None:
        self._whys[record.why] = self._whys.get(record.why, 0) + record.count

    def _kept(self, at_us: int, node: int, record: PieceKept) -> None:
        self._came(at_us, node, record, record.size_bytes)
        if not record.is_new:
            self._waste(node, record.model, record.size_bytes)
        self._flow(at_us, node, record).pieces += 1

    def _lost(self, at_us: int, node: int, record: PieceLost) -> None:
        row = self._open.get((node, record.model))
        if row is not None:
            row.losses += 1
        if record.size_bytes:
            self._came(at_us, node, record, record.size_bytes)
        self._waste(node, record.model, record.wasted_bytes)

    def _came(self, at_us: int, node: int, record: PieceKept | PieceLost, size: int) -> None:
        self._bytes_of[record.source] += size
        row = self._open.get((node, record.model))
        if row is not None:
            row.bytes_of[record.source] += size
        flow = self._flow(at_us, node, record)
        flow.size_bytes += size
        flow.last_us = at_us

    def _flow(self, at_us: int, node: int, record: PieceKept | PieceLost) -> _Flow:
        sender = None if record.peer is None else self._index[record.peer]
        key = (sender, node, record.model, record.source)
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = _Flow(at_us)
        return flow

    def _waste(self, node: int, model: str, size: int) -> None:
        self._wasted += size
        row = self._open.get((node, model))
        if row is not None:
            row.wasted += size

    def _refused(self, _: int, __: int, ___: PieceRefused) -> None:
        self._refusals += 1

    def _banned(self, _: int, __: int, ___: SenderBanned) -> None:
        self._bans += 1

    def _swarm(self, at_us: int, _: int, record: SwarmChanged) -> None:
        self._timeline((at_us / 1e6, "seeders", record.model, float(record.seeders)))
        self._timeline((at_us / 1e6, "receivers", record.model, float(record.receivers)))

    def _credited(self, _: int, node: int, record: SeedCredited) -> None:
        self._credits[node, record.sender] = record.micro_credits
