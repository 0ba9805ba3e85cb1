"""Flows: nothing comes faster than links carry, and no swarm is done before what is in it allows.

The bounds of a swarm are those of `bounds.churn` and `bounds.closed`: any policy is slower. Where something is not
known they are lower than they could be: every node counts as there from the beginning to the end, the CDN as never out
of order, and a piece that was ever asked for as one that others may have.
"""

from __future__ import annotations

from math import inf
from typing import Final, NamedTuple

from edgecoder.core.effects import AllocateFile, FetchFile, FetchPiece, Source
from edgecoder.core.events import Started
from edgecoder.core.ids import Micros, NodeId, Role
from edgecoder.models.catalog import CatalogEntry
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder.trace import PieceKept, PieceLost, TransferEnded
from edgecoder_sim.bounds import churn
from edgecoder_sim.bounds.closed import pieces_s
from edgecoder_sim.checkers.panel import Book, Panel, Rule
from edgecoder_sim.checkers.pieces import KeptIsSynced, installed_in

SLACK_US: Final[Micros] = 100_000
"""Shares of links change at quanta of 50 ms, so that bytes may be early by one at each end."""
_RADIO: Final = (Source.BLE.value, Source.WIFI_DIRECT.value)


def _bytes_per_s(kbit_per_s: int) -> float:
    """What a link of so many whole kbit/s carries at most; 0 stands for one without limit."""
    return (kbit_per_s + 1) * 125 if kbit_per_s else inf


def _less(total: float, part: float) -> float:
    """What others have of a total; without limit where that is."""
    return inf if total == inf else total - part


class Links(Rule):
    """Nothing comes faster than links carry: not out of an uplink, not into a downlink, not from the origin."""

    name = "pieces keep to the links"

    def enter(self) -> None:
        """See `Rule`."""
        self._sent: dict[NodeId, list[int]] = {}
        """First request and bytes, by sender."""
        self._received: dict[NodeId, list[int]] = {}
        self._origin = [0, 0]
        self._up: dict[NodeId, float] = {}
        self.panel.on(Started, self._start)
        self.panel.on(FetchPiece, self._ask)
        self.panel.on((PieceKept, PieceLost), self._note)

    def _start(self, book: Book, _: Started) -> None:
        if book.role is not Role.COORDINATOR:
            self._up[book.node] = _bytes_per_s(book.config.upload_kbit_per_s)

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
        if record.source in _RADIO or not record.size_bytes:
            return
        down = _bytes_per_s(book.config.download_kbit_per_s)
        self._judge(book, self._received.get(book.node), record.size_bytes, down, "into its downlink")
        if record.peer is not None:
            sender = self._sent.get(record.peer)
            up = self._up.get(record.peer, inf)
            self._judge(book, sender, record.size_bytes, up, f"out of the uplink of {record.peer.hex()[:8]}")
        else:
            egress = _bytes_per_s(book.cluster.cdn_egress_kbit_per_s)
            self._judge(book, self._origin, record.size_bytes, egress, "from the origin")

    def _judge(self, book: Book, flow: list[int] | None, size_bytes: int, bytes_per_s: float, where: str) -> None:
        if flow is None:
            return
        flow[1] += size_bytes
        most = bytes_per_s * (self.panel.now - flow[0] + SLACK_US) / 1e6 + LEAF_BYTES
        if flow[1] > most:
            self.fail(book, f"gets {flow[1]} bytes {where} where {most:.0f} fit")


class _Done(NamedTuple):
    book: Book
    began_us: Micros
    ended_us: Micros
    wants_bytes: int
    is_whole: bool
    """Whether it had nothing of the file before."""


class _Swarm:
    """Those who want one file, from the first until nobody wants it."""

    __slots__ = ("began_us", "done", "entry", "fresh", "in_parts", "open", "over_radio")

    def __init__(self, entry: CatalogEntry, began_us: Micros, fresh: int) -> None:
        self.entry = entry
        self.began_us = began_us
        self.fresh = fresh
        """The pieces that nobody has but holders."""
        self.open = 0
        """Downloads that are under way."""
        self.done: list[_Done] = []
        self.in_parts = False
        """Whether a piece came from more than one, one after the other: then more than one sends it on at a time."""
        self.over_radio = False


class _Download:
    """A download that is under way."""

    __slots__ = ("began_us", "swarm", "wants_bytes")

    def __init__(self, swarm: _Swarm, began_us: Micros, wants_bytes: int) -> None:
        self.swarm = swarm
        self.began_us = began_us
        self.wants_bytes = wants_bytes
        """What it lacked at first, but for what has come over the radio since."""


class Swarms(Rule):
    """No download is sooner done than its node's downlink and all who could send to it allow, and no swarm sooner than
    the fluid bound of what is in it. Where all that was nowhere but at the CDN went through equal uplinks in whole
    pieces, it is not done before the piece bound either."""

    name = "swarms keep to the bounds"

    def __init__(self, panel: Panel, kept: KeptIsSynced) -> None:
        self._kept = kept
        super().__init__(panel)

    def enter(self) -> None:
        """See `Rule`."""
        self._swarms: dict[str, _Swarm] = {}
        """By digest."""
        self._open: dict[int, dict[str, _Download]] = {}
        """By node and model."""
        self._sought: dict[str, int] = {}
        """Pieces that anybody ever asked for, by digest."""
        self._up: dict[int, float] = {}
        """Uplinks by node,"""
        self._all_up = 0.0
        """and all of them together."""
        self._holders: dict[str, dict[int, float]] = {}
        """Uplinks of those who hold a file from their first life on, by digest and node."""
        self.panel.on(Started, self._start)
        self.panel.on(FetchPiece, self._seek)
        self.panel.on(FetchFile, self._seek_whole)
        self.panel.on(AllocateFile, self._begin_download)
        self.panel.on(TransferEnded, self._end_download)
        self.panel.on((PieceKept, PieceLost), self._note)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        for download in self._open.get(book.index, {}).values():
            self._leave(download.swarm)
        self._open[book.index] = {}

    def finish(self) -> None:
        """See `Rule`."""
        for swarm in self._swarms.values():
            self._judge(swarm)

    def _start(self, book: Book, event: Started) -> None:
        if book.role is Role.COORDINATOR:
            return
        up = _bytes_per_s(book.config.upload_kbit_per_s)
        if book.index not in self._up:
            self._up[book.index] = up
            self._all_up += up
            for entry in installed_in(event.snapshot, book.catalog):
                self._holders.setdefault(entry.sha256, {})[book.index] = up

    def _seek(self, _: Book, effect: FetchPiece) -> None:
        pieces = ((1 << effect.count) - 1) << effect.piece
        self._sought[effect.entry.sha256] = self._sought.get(effect.entry.sha256, 0) | pieces

    def _seek_whole(self, _: Book, effect: FetchFile) -> None:
        self._sought[effect.entry.sha256] = -1

    # -- downloads -----------------------------------------------------------------------------------------------------

    def _begin_download(self, book: Book, effect: AllocateFile) -> None:
        entry, now = effect.entry, self.panel.now
        swarm = self._swarms.get(entry.sha256)
        if swarm is None:
            fresh = entry.layout.all_pieces & ~self._sought.get(entry.sha256, 0)
            swarm = self._swarms[entry.sha256] = _Swarm(entry, now, fresh)
        swarm.open += 1
        wants = entry.file_size_bytes - self._kept.bytes_of(book, entry)
        self._open[book.index][entry.model_id] = _Download(swarm, now, wants)

    def _note(self, book: Book, record: PieceKept | PieceLost) -> None:
        download = self._open[book.index].get(record.model)
        if download is None or not record.size_bytes:
            return
        swarm = download.swarm
        if record.size_bytes < swarm.entry.layout.piece_bytes(record.piece):
            swarm.in_parts = True
        if record.source in _RADIO:
            swarm.over_radio = True
            download.wants_bytes -= record.size_bytes

    def _end_download(self, book: Book, record: TransferEnded) -> None:
        download = self._open[book.index].pop(record.model, None)
        if download is None:
            return
        swarm = download.swarm
        if record.reason is None:
            wants = max(0, download.wants_bytes)
            self._judge_one(book, download.began_us, wants, swarm)
            is_whole = wants == swarm.entry.file_size_bytes
            swarm.done.append(_Done(book, download.began_us, self.panel.now, wants, is_whole))
        self._leave(swarm)

    def _judge_one(self, book: Book, began_us: Micros, wants_bytes: int, swarm: _Swarm) -> None:
        """A download alone: what it got went through its downlink, and somebody else sent it."""
        supply = _less(self._all_up, self._up[book.index]) + _bytes_per_s(book.cluster.cdn_egress_kbit_per_s)
        rate = min(_bytes_per_s(book.config.download_kbit_per_s), supply)
        most = rate * (self.panel.now - began_us + SLACK_US) / 1e6 + LEAF_BYTES
        if wants_bytes > most:
            what = f"{wants_bytes} bytes of {swarm.entry.model_id}"
            self.fail(book, f"has got {what}, where {most:.0f} could have come to it")

    # -- swarms --------------------------------------------------------------------------------------------------------

    def _leave(self, swarm: _Swarm) -> None:
        """One of its downloads is over."""
        swarm.open -= 1
        if not swarm.open:
            del self._swarms[swarm.entry.sha256]
            self._judge(swarm)

    def _judge(self, swarm: _Swarm) -> None:
        if not swarm.done:
            return
        last = swarm.done[-1]
        book, took_us = last.book, last.ended_us - swarm.began_us
        for name, bound_s in (("fluid", self._fluid_s(swarm, book)), ("piece", self._pieces_s(swarm, book))):
            if took_us + SLACK_US < bound_s * 1e6:
                what = f"the last of {len(swarm.done)} that want {swarm.entry.model_id}"
                self.fail(book, f"is {what} and done after {took_us / 1e6:.3f} s; the {name} bound is {bound_s:.3f} s")

    def _fluid_s(self, swarm: _Swarm, book: Book) -> float:
        """The least time from the first wish to the last finish of those who are done."""
        entry = swarm.entry
        holders = sum(self._holders.get(entry.sha256, {}).values())
        nodes = [
            churn.Node(up_bytes_per_s=_bytes_per_s(book.cluster.cdn_egress_kbit_per_s), is_holder=True),
            churn.Node(up_bytes_per_s=holders, is_holder=True),
            churn.Node(up_bytes_per_s=_less(self._all_up, holders)),
        ]
        for done in swarm.done:
            comes_s = (done.began_us - swarm.began_us) / 1e6
            down = _bytes_per_s(done.book.config.download_kbit_per_s)
            nodes.append(churn.Node(up_s=((comes_s, inf),), down_bytes_per_s=down, wants_bytes=done.wants_bytes))
        return churn.finish_s(nodes, 0 if swarm.over_radio else entry.layout.held_bytes(swarm.fresh))

    def _pieces_s(self, swarm: _Swarm, book: Book) -> float:
        """The least time where whole pieces are forwarded over equal uplinks; 0 where that does not apply."""
        entry, uplink = swarm.entry, _bytes_per_s(book.cluster.cdn_egress_kbit_per_s)
        is_new = swarm.fresh == entry.layout.all_pieces and all(done.is_whole for done in swarm.done)
        if not is_new or swarm.in_parts or swarm.over_radio or entry.sha256 in self._holders:
            return 0.0
        if any(up != uplink for up in self._up.values()):
            return 0.0
        return pieces_s(entry.file_size_bytes, entry.layout.piece_size_bytes, len(swarm.done), uplink)
