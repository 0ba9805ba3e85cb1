"""The peers over radio links: what they have of the files that are wanted here, what is asked of them, whom to call.

On a new link a node says what it wants; who has some of it answers with what it has, and from then on only with news.
A peer is asked for as much as keeps its link busy, over the fastest link there is to it; one that has much is called
over Wi-Fi Direct. Of the devices that the radio hears those are worth a call that may have what is wanted: those that
were never asked, or have changed since, or had some when they were asked last. A call that brought nothing is repeated
less and less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from edgecoder.core.context import Context
from edgecoder.core.effects import Source
from edgecoder.core.ids import FileId, LinkId, Medium, Micros, NodeId
from edgecoder.errors import Reason, RemoteProtocolError
from edgecoder.mesh.gate import Link
from edgecoder.protocol import PIECES_PER_MESSAGE
from edgecoder.seeding.holdings import Holding
from edgecoder.seeding.pieces import bitmap_to_bytes, bytes_to_bitmap
from edgecoder.seeding.transfer import Transfer
from edgecoder.wire.messages import Announce, Got, Have

SOURCES: Final = {Medium.BLE: Source.BLE, Medium.WIFI_DIRECT: Source.WIFI_DIRECT}
"""The radio links, and what transfers call them."""
_TTL_MS: Final = 60_000
_AHEAD_BYTES: Final = {Source.BLE: 0, Source.WIFI_DIRECT: 1 << 20}
"""What a link has on its way at least: a fast one would be idle while a request travels (40 MB/s for 20 ms)."""
_ASKED_MIN: Final = 2
"""Pieces that a peer is asked for at once at least: one is sent while the next is asked for."""
_NEWS_US: Final[Micros] = 1_000_000
"""News of pieces are gathered for so long: a message costs as much as a kilobyte of a piece."""
_HOPE_US: Final[Micros] = 500_000
"""How long a link is kept for an answer to what was said on it: some connection intervals."""
_REFUSED_US: Final[Micros] = 1_000_000
"""A peer that was busy is asked again after this."""
_AGAIN_US: Final[Micros] = 2_000_000
"""A peer that had something is called again so long after its link broke; longer with every call that brings nothing"""
_AGAIN_US_MAX: Final[Micros] = 300_000_000
"""up to this."""
_GROWN_US: Final[Micros] = 60_000_000
"""A peer that fetches the same file, and had nothing new, may have by then."""
_WIDE_US: Final[Micros] = 30_000_000
"""Between two tries to form a group with a peer."""
_NO_LONGER: Final = frozenset({Reason.LOW_POWER, Reason.NOT_SEEDING, Reason.SHUTTING_DOWN})


class Around(Protocol):
    """What this needs of the node's swarms."""

    @property
    def transfers(self) -> Mapping[FileId, Transfer]:
        """The files that are wanted."""
        ...

    def held(self, file: FileId) -> Holding | None:
        """What is here of a file."""
        ...

    def near_slots(self) -> int:
        """Pieces that are sent at once over radio links; 0: nothing now."""
        ...


class Caller(Protocol):
    """Who calls devices that the radio hears."""

    def files_of(self, node: NodeId) -> bytes:
        """What a peer's capabilities say of its files."""
        ...

    def call_wide(self, node: NodeId, size_bytes: int) -> bool:
        """Call a peer over Wi-Fi Direct, if so much is worth it. Whether it is called."""
        ...

    def look_again(self) -> None:
        """Others than before may be worth a call."""
        ...


class _File(msgspec.Struct, gc=False):
    """A file at the other end of a link."""

    have: int = 0
    wants: bool = False
    slots: int = 0
    told: int | None = None
    """The pieces that it was told are here; None: nothing was said of the file."""
    told_slots: int = 0
    """The slots that it was told."""


class _Near(msgspec.Struct):
    """A radio link whose other end is known."""

    link: LinkId
    source: Source
    peer: NodeId
    hopes_until: Micros
    files: dict[FileId, _File] = msgspec.field(default_factory=dict)
    not_before: Micros = 0
    """When it may be asked again."""
    was_asked: bool = False
    has_given: bool = False


class _Past(msgspec.Struct, gc=False):
    """What came of a peer's last link."""

    files: bytes
    """What its capabilities said of its files then."""
    again: Micros | None
    """When it is worth a call; None: not before it has other files."""
    vain: int = 0
    """Links in a row over which nothing came though it had something."""


class NearPeers:
    """The peers of a node's swarms that are in the radio's reach."""

    def __init__(self, context: Context, around: Around) -> None:
        self._context = context
        self._around = around
        self.caller: Caller | None = None
        """None: there is no radio."""
        self._links: dict[LinkId, _Near] = {}
        self._past: dict[NodeId, _Past] = {}
        """The peers whose links are gone, the latest last; at most as many as there are peers."""
        self._wide_not_before: dict[NodeId, Micros] = {}

    # -- links ---------------------------------------------------------------------------------------------------------

    def link_bound(self, link: Link) -> None:
        """Somebody is at the other end of a radio link: say what is wanted."""
        assert link.peer is not None
        near = _Near(link.id, SOURCES[link.medium], link.peer, self._context.now)
        self._links[link.id] = near
        for transfer in self._around.transfers.values():
            self._say_wanted(near, transfer.holding)

    def link_down(self, link: LinkId) -> None:
        """A link is gone."""
        near = self._links.pop(link, None)
        if near is None:
            return
        self._context.timers.cancel(("near.news", link))
        self._context.timers.cancel(("near.again", link))
        if any(other.peer == near.peer for other in self._links.values()):
            return
        before, now = self._past.pop(near.peer, None), self._context.now
        past = _Past(self._files_of(near.peer), None)
        if self._wanted_of(near) and (near.was_asked or not self._has_free(near)):
            past.vain = 0 if near.has_given or before is None else before.vain + 1
            past.again = now + min(_AGAIN_US << min(past.vain, 16), _AGAIN_US_MAX)
        elif any(row.wants and file in self._around.transfers for file, row in near.files.items()):
            past.again = now + _GROWN_US
        if len(self._past) >= self._context.config.peers_max:
            del self._past[next(iter(self._past))]
        self._past[near.peer] = past

    def uses(self, link: LinkId) -> bool:
        """Whether a link is needed: for what comes over it, for an answer to what was said, or for news that the peer
        waits for."""
        near = self._links.get(link)
        if near is None or self._is_spare(near):
            return False
        is_asked = any(transfer.requests.of_peer(near.peer) for transfer in self._around.transfers.values())
        has_news = not self._context.timers.is_idle(("near.news", link))
        return is_asked or has_news or self._context.now < max(near.hopes_until, near.not_before)

    def calls_for(self, node: NodeId) -> Micros | None:
        """From when on a device that is heard is worth a call; None: it is not."""
        if not self._around.transfers:
            return None
        past = self._past.get(node)
        if past is None or past.files != self._files_of(node):
            return 0
        return past.again

    def _files_of(self, node: NodeId) -> bytes:
        return b"" if self.caller is None else self.caller.files_of(node)

    def _wanted_of(self, near: _Near) -> int:
        """Bytes that a peer would give and that are wanted."""
        total = 0
        for file, row in near.files.items():
            transfer = self._around.transfers.get(file)
            if transfer is not None and row.slots and near.peer not in transfer.losses.banned:
                total += transfer.holding.layout.held_bytes(row.have & ~transfer.holding.have)
        return total

    def _has_free(self, near: _Near) -> bool:
        """Whether a peer has something of what is wanted that nobody was asked for: then it was not to be asked itself.
        What is on its way from others may not come from them."""
        transfers = self._around.transfers
        return any(
            row.have & ~transfers[file].holding.have & ~transfers[file].requests.flying
            for file, row in near.files.items()
            if file in transfers and row.slots
        )

    def _is_spare(self, near: _Near) -> bool:
        """Whether there is a link to the peer that goes first: a faster one, or an older one, over which something was
        said."""
        others = [other for other in self._links.values() if other.peer == near.peer and (other.files or other is near)]
        return min(others, key=lambda other: (other.source is Source.BLE, other.link)) is not near

    # -- files ---------------------------------------------------------------------------------------------------------

    def began(self, holding: Holding) -> None:
        """A file is wanted: tell all who are near, and look for others."""
        self._past.clear()  # they were asked for other files
        for near in self._links.values():
            self._say_wanted(near, holding)
        if self.caller is not None:
            self.caller.look_again()

    def ended(self, holding: Holding) -> None:
        """It is not wanted any more: who was told of it is told that, and what is here now."""
        for near in self._links.values():
            row = near.files.get(holding.file)
            if row is not None and row.told is not None:
                self._tell(near, holding, row)

    def got(self, holding: Holding, sender: NodeId) -> None:
        """A piece is here: news for those who lack it."""
        for near in self._links.values():
            near.has_given |= near.peer == sender
            row = near.files.get(holding.file)
            if row is not None and row.wants and holding.have & ~row.have:
                self._news_soon(near)

    def lost(self, holding: Holding, piece: int, link: LinkId, reason: Reason) -> None:
        """A peer did not give a piece."""
        near = self._links.get(link)
        row = None if near is None else near.files.get(holding.file)
        if near is None or row is None:
            return
        if reason is Reason.NOT_HELD:
            row.have &= ~(1 << piece)
        elif reason in _NO_LONGER:
            row.slots = 0
        elif reason is not Reason.SUPERSEDED:
            near.not_before = self._context.now + _REFUSED_US
            self._context.timers.set(("near.again", link), near.not_before, self.ask)

    # -- messages ------------------------------------------------------------------------------------------------------

    def on_announce(self, link: Link, message: Announce) -> None:
        """A peer says what it has of a file."""
        holding, near = self._around.held(message.file), self._links.get(link.id)
        if holding is None or near is None:
            return
        try:
            have = bytes_to_bitmap(message.have, holding.layout.piece_count)
        except RemoteProtocolError:
            self._context.drop("announce", Reason.INVALID)
            return
        row = near.files.setdefault(message.file, _File())
        row.have, row.wants, row.slots = have, message.wants, message.slots
        self._tell_new(near, holding, row)
        self.ask()

    def on_have(self, link: Link, message: Have) -> None:
        """A peer has more of a file."""
        near = self._links.get(link.id)
        row = None if near is None else near.files.get(message.file)
        holding = self._around.held(message.file)
        if near is None or row is None or holding is None:
            return
        for got in message.got:
            row.have |= (1 << got.piece) & holding.layout.all_pieces
        self.ask()

    def gates_changed(self) -> None:
        """What this node gives may have changed: those who wait for it, and those who heard otherwise, are told."""
        slots = self._around.near_slots()
        for near in self._links.values():
            for file, row in near.files.items():
                holding = self._around.held(file)
                if holding is None:
                    continue
                if row.told is None:
                    self._tell_new(near, holding, row)
                elif row.told_slots != slots:
                    self._tell(near, holding, row)

    def _tell_new(self, near: _Near, holding: Holding, row: _File) -> None:
        """Who wants a file is told once that some of it is here and given."""
        if row.told is None and row.wants and holding.have & ~row.have and self._around.near_slots():
            self._tell(near, holding, row)

    def _say_wanted(self, near: _Near, holding: Holding) -> None:
        near.hopes_until = self._context.now + _HOPE_US
        self._tell(near, holding, near.files.setdefault(holding.file, _File()))

    def _tell(self, near: _Near, holding: Holding, row: _File) -> None:
        row.told, row.told_slots = holding.have, self._around.near_slots()
        message = Announce(
            file=holding.file,
            have=bitmap_to_bytes(holding.have, holding.layout.piece_count),
            wants=holding.file in self._around.transfers,
            slots=row.told_slots,
        )
        self._context.send(near.link, message, _TTL_MS)

    def _news_soon(self, near: _Near) -> None:
        name = ("near.news", near.link)
        if self._context.timers.is_idle(name):
            self._context.timers.set(name, self._context.now + _NEWS_US, lambda: self._news(near))

    def _news(self, near: _Near) -> None:
        """Tell a peer of the pieces that have come since it was told last, and that it wants."""
        for file, row in near.files.items():
            holding = self._around.held(file)
            if holding is None or not row.wants or not self._around.near_slots():
                continue
            if row.told is None:
                self._tell(near, holding, row)
                continue
            new = _bits(holding.have & ~row.told & ~row.have, PIECES_PER_MESSAGE)
            if new:
                self._news_soon(near)  # there may be more
                row.told |= sum(1 << piece for piece in new)
                me = self._context.node_id
                message = Have(file=file, got=tuple(Got(piece, me, 0) for piece in new))
                self._context.send(near.link, message, _TTL_MS)

    # -- asking --------------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Ask the peers that have something for it, the fastest links first. Of several files the one that lacks least
        goes first: a contact may be short, and half of two files is none."""
        transfers = sorted(self._around.transfers.values(), key=lambda transfer: transfer.bytes_left)
        for near in sorted(self._links.values(), key=lambda near: near.source is Source.BLE):
            self._ask_over(near, transfers)

    def _ask_over(self, near: _Near, transfers: Sequence[Transfer]) -> None:
        if self._is_spare(near):
            for transfer in transfers:
                transfer.leave(near.link)
            return
        room = self._context.config.uploads_per_peer_max - _ASKED_MIN  # some may end over there yet
        asked = sum(transfer.requests.of_peer(near.peer) for transfer in transfers)
        for transfer in transfers:
            row = near.files.get(transfer.holding.file)
            if row is None or not row.slots or self._context.now < near.not_before:
                continue
            ahead = max(_ASKED_MIN, -(-_AHEAD_BYTES[near.source] // transfer.holding.layout.piece_size_bytes))
            while asked < min(ahead, max(1, room)):
                if not transfer.ask_near(near.source, near.peer, near.link, row.have):
                    break
                near.was_asked = True
                asked += 1
        if near.source is Source.BLE:
            self._widen(near)

    def _widen(self, near: _Near) -> None:
        """Call a peer that has much over Wi-Fi Direct."""
        now, size = self._context.now, self._wanted_of(near)
        if not size or self.caller is None or now < self._wide_not_before.get(near.peer, 0):
            return
        if self.caller.call_wide(near.peer, size):
            if len(self._wide_not_before) >= self._context.config.peers_max:
                del self._wide_not_before[next(iter(self._wide_not_before))]
            self._wide_not_before[near.peer] = now + _WIDE_US


def _bits(pieces: int, most: int) -> tuple[int, ...]:
    """The first pieces of a set, at most so many."""
    found: list[int] = []
    while pieces and len(found) < most:
        found.append((pieces & -pieces).bit_length() - 1)
        pieces &= pieces - 1
    return tuple(found)
