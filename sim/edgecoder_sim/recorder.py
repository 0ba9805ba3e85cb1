"""The recorder: turns trace records, message counts and periodic samples into a run's tables and figures.

It hands each record to whoever keeps a book of it; what the tables hold is said in `tables`, how they get to disk in
`recording.files`. It never feeds back into the world, so a run is the same with and without a directory.

Fidelity boundary: the recorder sees all nodes at one instant, which nobody in a real mesh could. It holds what records
and delivered frames said: frames that a link lost, the moment of the first token, and why a node refused a task are in
no table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgecoder.core.ids import Role
from edgecoder.trace import DownloadPhase, Dropped, EpochRaised, LifeEnded, NodeReady, Record, UplinkChanged
from edgecoder_sim.file_tables import DOWNLOADS, FILES, LOSSES, PIECES, SENT, TRANSFERS, UPLOADS, FileRow
from edgecoder_sim.recording.files import OpenFile, TableFiles, open_new
from edgecoder_sim.recording.histogram import Histogram
from edgecoder_sim.recording.knowledge import Knowledge
from edgecoder_sim.recording.ranges import RangeBook
from edgecoder_sim.recording.receipts import ReceiptBook
from edgecoder_sim.recording.shares import Shares
from edgecoder_sim.recording.swaps import SwapBook
from edgecoder_sim.recording.tasks import TaskBook
from edgecoder_sim.recording.transfers import TransferBook, TransferTables
from edgecoder_sim.tables import (
    CONTACTS,
    DISCOVERIES,
    DROPS,
    GOSSIP,
    MESSAGES,
    NODES,
    POSITIONS,
    RECEIPTS,
    ROUTES,
    SWAPS,
    TASKS,
    TIMELINE,
    WORK,
    NodeRow,
)

_Handler = Callable[[int, int, Any], None]


class Recorder:
    """Everything that a run leaves behind, apart from the trace digest."""

    def __init__(
        self,
        directory: Path | None,
        nodes: Sequence[NodeRow],
        sample_interval_us: int,
        *,
        files: Sequence[FileRow] = (),
        origin_bytes_per_s: int | None = None,
        keeps_pieces: bool = False,
        open_file: OpenFile = open_new,
    ) -> None:
        """Tables go to `directory`; None keeps nothing on disk and still gives the figures. `nodes` stand in the order
        of their index, `files` are the catalog's; `origin_bytes_per_s` is what the CDN sends at most (None: unlimited);
        `keeps_pieces` writes a row for each piece. `sample` is to be called every `sample_interval_us`. Raises
        DiskFull, as do all the others."""
        self.sample_interval_us = sample_interval_us
        self._files = TableFiles(directory, open_file)
        self._nodes = len(nodes)
        adder = self._files.adder
        index = self._index = {node.node_id: node.index for node in nodes}
        self._timeline, self._add_messages = adder(TIMELINE), adder(MESSAGES)
        self._add_download, self._add_drop = adder(DOWNLOADS), adder(DROPS)
        self._add_contact, self._add_position = adder(CONTACTS), adder(POSITIONS)
        self._contacts = Histogram()
        coordinators = frozenset(node.index for node in nodes if node.role == Role.COORDINATOR.value)
        self._tasks = TaskBook(index, coordinators, adder(TASKS), adder(ROUTES), adder(WORK))
        self._swaps = SwapBook(len(nodes), adder(SWAPS))
        self._knowledge = Knowledge(nodes, index, adder(GOSSIP), self._timeline)
        self._receipts = ReceiptBook(adder(RECEIPTS))
        self._handlers: dict[type, tuple[_Handler, ...]] = {
            DownloadPhase: (self._download,),
            Dropped: (self._drop,),
            NodeReady: (self._ready,),
            LifeEnded: (self._died,),
            EpochRaised: (self._raised,),
            UplinkChanged: (self._uplink,),
        }
        self._ranges = RangeBook(index, adder(DISCOVERIES))
        rows = (adder(TRANSFERS), adder(UPLOADS), adder(SENT), adder(LOSSES))
        pieces = adder(PIECES) if keeps_pieces else None
        self._transfers = TransferBook(index, TransferTables(*rows, pieces, self._timeline))
        self._shares = Shares(nodes, files, origin_bytes_per_s)
        books = (self._tasks, self._swaps, self._knowledge, self._receipts, self._ranges, self._transfers)
        for book in books:
            for kind, handler in book.handlers.items():
                self._handlers[kind] = (*self._handlers.get(kind, ()), handler)
        self._counters: dict[tuple[str, str], list[int]] = {}
        self._messages = self._message_bytes = self._drops = self._downloads = 0
        self._sampled_us = 0
        add_node = adder(NODES)
        for node in nodes:
            place = (node.x_m, node.y_m)
            what = (node.role, node.device, node.memory_mb)
            access = (node.up_bytes_per_s, node.down_bytes_per_s)
            rest = (node.system, " ".join(node.holds))
            add_node((node.index, node.name, node.node_id.hex(), *what, *place, node.home, node.model, *access, *rest))
        add_file = adder(FILES)
        up_of = {node.index: node.up_bytes_per_s for node in nodes}
        for file in files:
            up = sum(up_of[holder] for holder in file.holders)
            add_file((file.model, file.size_bytes, file.piece_bytes, file.pieces, len(file.holders), up))
        self._files.flush(NODES)  # it is complete, and without it the others say little

    @property
    def kinds(self) -> frozenset[type]:
        """The types of records that leave something in a table."""
        return frozenset(self._handlers)

    def record(self, at_us: int, node: int, record: Record) -> None:
        """Node number `node` traced something."""
        for handler in self._handlers[type(record)]:
            handler(at_us, node, record)

    def message(self, type_name: str, medium: str, size_bytes: int) -> None:
        """A frame was delivered."""
        try:
            counter = self._counters[type_name, medium]
        except KeyError:
            counter = self._counters[type_name, medium] = [0, 0]
        counter[0] += 1
        counter[1] += size_bytes

    def command(self, command: int, kind: str) -> None:
        """A command of a user belongs to the workload `kind`."""
        self._tasks.command(command, kind)

    def fault(self, at_us: int, name: str, is_on: bool) -> None:
        """A fault of the scenario begins or ends."""
        self._timeline((at_us / 1e6, "fault", name, float(is_on)))

    def contact(self, begin_us: int, end_us: int, first: int, second: int, distance_m: float) -> None:
        """Two nodes were in range of each other."""
        self._contacts.add(end_us - begin_us)
        self._add_contact((begin_us / 1e6, end_us / 1e6, first, second, distance_m))

    def range_changed(self, at_us: int, a: int, b: int, is_near: bool) -> None:
        """Two radios that scan came into range of each other, or left it."""
        self._ranges.changed(at_us, a, b, is_near)

    def links(self, at_us: int, medium: str, count: int) -> None:
        """How many links are open over a medium."""
        self._timeline((at_us / 1e6, "links", medium, float(count)))

    def position(self, at_us: int, node: int, x_m: float, y_m: float) -> None:
        """Where a node is now."""
        self._add_position((at_us / 1e6, node, x_m, y_m))

    def sample(self, at_us: int) -> None:
        """Write the timeline's rows of this instant, and the messages since the last."""
        self._knowledge.sample(at_us)
        self._transfers.sample(at_us)
        self._timeline((at_us / 1e6, "tasks_open", "", float(len(self._tasks))))
        self._timeline((at_us / 1e6, "swaps_open", "", float(len(self._swaps))))
        for (type_name, medium), counter in self._counters.items():
            count, size_bytes = counter
            if count:
                self._add_messages((at_us / 1e6, type_name, medium, count, size_bytes))
                self._messages += count
                self._message_bytes += size_bytes
                counter[0] = counter[1] = 0
        self._sampled_us = at_us

    def close(self, at_us: int) -> dict[str, float]:
        """End the run at `at_us`: write what is open as unfinished, close the files, return the figures, counts as
        whole numbers. `metrics` says what they mean; one without a value, such as a quantile of nothing, is left out.
        After a DiskFull it saves what can be saved, and raises no other."""
        try:
            if at_us > self._sampled_us or any(count for count, _ in self._counters.values()):
                self.sample(at_us)
            self._tasks.close()
            self._swaps.close(at_us)
            self._transfers.close()
        finally:
            self._files.close()
        metrics = self._tasks.metrics(self._nodes, at_us) | self._swaps.metrics() | self._knowledge.metrics(at_us)
        metrics |= self._receipts.metrics() | self._ranges.metrics(at_us)
        metrics |= self._transfers.metrics() | self._shares.metrics(self._transfers)
        if self._contacts.count:
            metrics["contacts"] = self._contacts.count
            metrics["contact_p50_s"] = self._contacts.quantile(0.5) / 1e6
        metrics |= {"messages": self._messages, "message_bytes": self._message_bytes}
        if self._nodes and at_us:
            node_minutes = self._nodes * at_us / 6e7
            metrics["messages_per_node_per_min"] = self._messages / node_minutes
            metrics["message_bytes_per_node_per_min"] = self._message_bytes / node_minutes
        return metrics | {"download_changes": self._downloads, "drops": self._drops}

    def _download(self, at_us: int, node: int, record: DownloadPhase) -> None:
        self._downloads += 1
        reason = None if record.reason is None else record.reason.value
        self._add_download((at_us / 1e6, node, record.model, record.phase, record.bytes_done, reason))

    def _ready(self, at_us: int, node: int, _: NodeReady) -> None:
        self._timeline((at_us / 1e6, "node_up", str(node), 1.0))

    def _died(self, at_us: int, node: int, _: LifeEnded) -> None:
        self._timeline((at_us / 1e6, "node_up", str(node), 0.0))

    def _raised(self, at_us: int, node: int, record: EpochRaised) -> None:
        self._timeline((at_us / 1e6, "epoch_raised", str(node), float(record.epoch)))

    def _uplink(self, at_us: int, node: int, record: UplinkChanged) -> None:
        key = f"{node} {self._index.get(record.coordinator, -1)}"
        self._timeline((at_us / 1e6, "uplink_up", key, float(record.state == "up")))

    def _drop(self, at_us: int, node: int, record: Dropped) -> None:
        self._drops += 1
        self._add_drop((at_us / 1e6, node, record.what, record.reason.value))
