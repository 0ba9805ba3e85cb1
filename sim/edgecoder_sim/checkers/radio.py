"""The radio: a node holds no more links than it has slots, lets go of idle ones, and reads what it hears has changed.

A device's address is its index here, as the simulated radio has it; links of which a node knows no address are not its
own doing, and are passed over.
"""

from __future__ import annotations

from edgecoder.core.effects import Connect, Disconnect, FetchPiece, RefusePiece, ServePiece
from edgecoder.core.events import Heard, LinkDown, LinkUp, PeersHeard, PeersSilent, PieceFailed, PieceFetched
from edgecoder.core.giving import AskWithdrawn, PieceAsked, PieceServed, ServeFailed
from edgecoder.core.ids import Address, LinkId, Medium, Micros, NodeId, TaskId
from edgecoder.trace import PeerForgotten, PeerLearned
from edgecoder.wire.advertisement import Bits, is_later
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import (
    Announce,
    Cancel,
    Have,
    LedgerAck,
    Probe,
    ProbeReply,
    Receipt,
    Release,
    ResponseStatus,
    TaskRequest,
    TaskResponse,
)
from edgecoder_sim.checkers.panel import GRACE_US, Book, Panel, Rule

NEWS_US = 60_000_000
"""What changed at a peer in reach is to be read within this (protocol: peers not seen for 60 s are evicted)."""
_USES = (Announce, Have, TaskRequest, TaskResponse, Probe, ProbeReply, Release, Cancel, Receipt, LedgerAck)
_FINAL = (ResponseStatus.DONE, ResponseStatus.REFUSED, ResponseStatus.FAILED)


class Held:
    """One link over the radio."""

    __slots__ = ("address", "is_wide", "open", "pieces", "used_us")

    def __init__(self, address: Address, now: Micros, *, is_wide: bool) -> None:
        self.address = address
        self.is_wide = is_wide
        """Whether it is over Wi-Fi Direct."""
        self.used_us = now
        """When something went over it that a task, or its receipt, needs."""
        self.open: set[tuple[TaskId, int]] = set()
        """Requests that came over it and have no end yet."""
        self.pieces: set[tuple[str, int]] = set()
        """Pieces that are fetched or asked for over it: by operation here, by request of the peer."""


class HeldLinks:
    """The links that nodes hold over the radio: opened, and neither lost nor let go."""

    def __init__(self, panel: Panel) -> None:
        self._of: dict[int, dict[LinkId, Held]] = {}
        self._panel = panel
        panel.on(LinkUp, self._up)
        panel.on((LinkDown, Disconnect), self._gone)

    def of(self, book: Book) -> dict[LinkId, Held]:
        """The links of a node."""
        return self._of.setdefault(book.index, {})

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._of[book.index] = {}

    def _up(self, book: Book, event: LinkUp) -> None:
        if event.address is not None:
            is_wide = event.medium is Medium.WIFI_DIRECT
            self.of(book)[event.link] = Held(event.address, self._panel.now, is_wide=is_wide)

    def count(self, book: Book) -> int:
        """Those over Bluetooth."""
        return sum(not held.is_wide for held in self.of(book).values())

    def _gone(self, book: Book, of: LinkDown | Disconnect) -> None:
        self.of(book).pop(of.link, None)


class Slots(Rule):
    """A node holds at most `radio_links_max` links over Bluetooth and `wifi_direct_links_max` over Wi-Fi Direct; one
    too many is let go at once."""

    name = "no more links than slots"

    def enter(self) -> None:
        """See `Rule`."""
        self.links = HeldLinks(self.panel)
        self.panel.on(LinkUp, lambda book, _: self.panel.alarm(self.panel.now, self._look, book, None))

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self.links.begin(book)

    def _look(self, book: Book, _: None) -> None:
        held = self.links.count(book)
        if held > book.config.radio_links_max:
            self.fail(book, f"holds {held} links over Bluetooth; radio_links_max is {book.config.radio_links_max}")
        wide = len(self.links.of(book)) - held
        if wide > book.config.wifi_direct_links_max:
            limit = book.config.wifi_direct_links_max
            self.fail(book, f"holds {wide} links over Wi-Fi Direct; wifi_direct_links_max is {limit}")


class IdleLinks(Rule):
    """No slot is held by a link that no task and no piece has used for twice `link_idle_max_ms`: a node looks at a link
    as often as that, and lets it go if it was idle since the last look. It must be made after `Slots`, whose books it
    reads."""

    name = "idle links are let go"

    def __init__(self, panel: Panel, links: HeldLinks) -> None:
        self._links = links
        super().__init__(panel)

    def enter(self) -> None:
        """See `Rule`."""
        for kind in _USES:
            self.panel.on_sent(kind, self._used)
            self.panel.on_received(kind, self._used)
        self.panel.on_received(TaskRequest, self._asked)
        self.panel.on_received(Cancel, self._ended)
        self.panel.on_sent(TaskResponse, self._answered)
        self.panel.on(LinkUp, self._up)
        self.panel.on(FetchPiece, lambda book, effect: self._piece_begins(book, effect.link, ("op", effect.op)))
        self.panel.on(PieceAsked, lambda book, event: self._piece_begins(book, event.link, ("request", event.request)))
        self.panel.on(ServePiece, self._serves)
        self.panel.on((RefusePiece, AskWithdrawn), lambda book, of: self._piece_ends(book, ("request", of.request)))
        self.panel.on(
            (PieceFetched, PieceFailed, PieceServed, ServeFailed),
            lambda book, event: self._piece_ends(book, ("op", event.op)),
        )

    def _piece_begins(self, book: Book, link: LinkId | None, what: tuple[str, int]) -> None:
        held = None if link is None else self._links.of(book).get(link)
        if held is not None:
            held.pieces.add(what)

    def _serves(self, book: Book, effect: ServePiece) -> None:
        for held in self._links.of(book).values():
            if ("request", effect.request) in held.pieces:
                held.pieces.add(("op", effect.op))
        self._piece_ends(book, ("request", effect.request))

    def _piece_ends(self, book: Book, what: tuple[str, int]) -> None:
        for held in self._links.of(book).values():
            if what in held.pieces:
                held.pieces.discard(what)
                held.used_us = self.panel.now

    def _up(self, book: Book, event: LinkUp) -> None:
        self.panel.alarm(self.panel.now + self._patience_us(book), self._look, book, event.link)

    def _patience_us(self, book: Book) -> Micros:
        return 2 * book.config.link_idle_max_ms * 1000 + GRACE_US

    def _used(self, book: Book, link: LinkId, _: Header, __: object) -> None:
        held = self._links.of(book).get(link)
        if held is not None:
            held.used_us = self.panel.now

    def _asked(self, book: Book, link: LinkId, _: Header, request: TaskRequest) -> None:
        held = self._links.of(book).get(link)
        if held is not None:
            held.open.add((request.task_id, request.attempt))

    def _answered(self, book: Book, link: LinkId, header: Header, response: TaskResponse) -> None:
        if response.status in _FINAL:
            self._ended(book, link, header, response)

    def _ended(self, book: Book, link: LinkId, _: Header, message: TaskResponse | Cancel) -> None:
        held = self._links.of(book).get(link)
        if held is not None:
            held.open.discard((message.task_id, message.attempt))

    def _look(self, book: Book, link: LinkId) -> None:
        held = self._links.of(book).get(link)
        if held is None:
            return
        if held.open or held.pieces or any(link == ask[0] for asks in book.asks.values() for ask in asks):
            held.used_us = self.panel.now
        due_us = held.used_us + self._patience_us(book)
        if due_us > self.panel.now:
            self.panel.alarm(due_us, self._look, book, link)
        else:
            self.fail(book, f"still holds link {link}, which no task and no piece has used since {held.used_us} µs")


class NewsIsRead(Rule):
    """Who hears that a known peer is loading takes it from the advertisement, at once; who hears of anything else that
    is new to it dials somebody within a minute, if a slot is free. Nothing is
    asked where more are in range than it remembers, or of who comes with another tag and is not recognised, since a
    clock was set. It must be made after `Slots`."""

    name = "what is heard is taken"

    def __init__(self, panel: Panel, links: HeldLinks) -> None:
        self._links = links
        super().__init__(panel)

    def enter(self) -> None:
        """See `Rule`."""
        self._known: dict[int, dict[NodeId, PeerLearned]] = {}
        self._heard: dict[int, dict[Address, Heard]] = {}
        self._dialled_us: dict[int, Micros] = {}
        self.panel.on(PeersHeard, self._hears)
        self.panel.on(PeersSilent, self._silent)
        self.panel.on(PeerLearned, self._learned)
        self.panel.on(PeerForgotten, self._forgot)
        self.panel.on(Connect, self._dials)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._known[book.index] = {}
        self._heard[book.index] = {}
        self._dialled_us[book.index] = -1

    def _learned(self, book: Book, record: PeerLearned) -> None:
        self._known[book.index][record.peer] = record

    def _forgot(self, book: Book, record: PeerForgotten) -> None:
        self._known[book.index].pop(record.peer, None)

    def _dials(self, book: Book, _: Connect) -> None:
        self._dialled_us[book.index] = self.panel.now

    def _silent(self, book: Book, event: PeersSilent) -> None:
        for address in event.addresses:
            self._heard[book.index].pop(address, None)

    def _hears(self, book: Book, event: PeersHeard) -> None:
        for heard in event.peers:
            before = self._heard[book.index].get(heard.address)
            self._heard[book.index][heard.address] = heard
            if self._news(book, heard) is not None and not _has_another_tag(before, heard):
                is_loading = heard.bits is not None and heard.bits.loading
                self.panel.alarm(self.panel.now + (0 if is_loading else NEWS_US), self._look, book, heard)

    def _news(self, book: Book, heard: Heard) -> Bits | None:
        """The bits that tell more than is known of a known peer."""
        peer = self.panel.books.get(heard.address)
        known = None if peer is None else self._known[book.index].get(peer.node)
        bits = heard.bits
        return bits if known is not None and bits is not None and is_later(bits.generation, known.generation) else None

    def _look(self, book: Book, heard: Heard) -> None:
        if self._heard[book.index].get(heard.address) is not heard:
            return
        bits = self._news(book, heard)
        if bits is None or len(self._heard[book.index]) > book.config.peers_max:
            return
        name = self.panel.books[heard.address].name
        if bits.loading:
            self.fail(book, f"hears that {name} is loading, and does not take it")
        links = self._links.of(book)
        is_busy = self._links.count(book) >= book.config.radio_links_max or any(
            held.address == heard.address for held in links.values()
        )
        if is_busy or self._dialled_us[book.index] > self.panel.now - NEWS_US:
            self.panel.alarm(self.panel.now + NEWS_US, self._look, book, heard)
        else:
            self.fail(book, f"hears that {name} has news, and dials nobody for a minute")


def _has_another_tag(before: Heard | None, heard: Heard) -> bool:
    tags = [each.bits.tag for each in (before, heard) if each is not None and each.bits is not None]
    return len(set(tags)) > 1
