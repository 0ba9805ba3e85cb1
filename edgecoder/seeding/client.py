"""The brokers of a node: where each of its files is announced, and what is told there.

A file is announced to the home coordinator, and to another one where that says so. What a broker does not know is told
it when something changes; after a new link, a new home or a new life all is told anew. What is granted goes to the
transfer of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from edgecoder.core.context import MILLI, Context
from edgecoder.core.effects import DialCoordinator
from edgecoder.core.events import Connected, ConnectFailed
from edgecoder.core.ids import FileId, LinkId, Micros, NodeId, Role
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Link
from edgecoder.protocol import PIECES_PER_MESSAGE
from edgecoder.seeding.holdings import Holding
from edgecoder.seeding.pieces import bitmap_to_bytes
from edgecoder.wire.messages import Announce, DialRequest, Got, Grant, Have, Lost, Redirect

_TTL_MS = 120_000
_FLUSH = "seeding.flush"
_AGAIN = "seeding.announce"
_LOST = "seeding.redirect"
_ANSWER_MS = 1_000
"""A broker that has not answered an announcement by then is told again,"""
_ANSWER_MS_MAX = 64_000
"""and again after twice as long each time, up to this: it may not know the file."""
_DIAL_MS = 20_000
"""A link to a broker that is not there and identified by then is given up."""
DIALS_MAX = 16
"""Brokers that are dialled at once."""


class Files(Protocol):
    """What a node says of its files."""

    def announced(self) -> list[Holding]:
        """The files that brokers should know of."""
        ...

    def wants(self, file: FileId) -> bool:
        """Whether the rest of a file is wanted."""
        ...

    def slots(self, holding: Holding) -> int:
        """Pieces of a file that it sends at once; 0: nothing now."""
        ...


class _Brokered(msgspec.Struct):
    """One file at its broker."""

    link: LinkId | None = None
    """Over which it was announced; None: not yet."""
    since: Micros = 0
    """When it was first."""
    unanswered: int = 0
    """Announcements in a row."""
    broker: NodeId | None = None
    epoch: int = 0
    got: list[Got] = msgspec.field(default_factory=list)
    taking: list[int] = msgspec.field(default_factory=list)
    lost: list[Lost] = msgspec.field(default_factory=list)
    said: tuple[bool, int] = (False, 0)
    """Whether it is wanted, and the slots, as announced last."""


class BrokerClient:
    """A node's side of its brokers."""

    def __init__(self, context: Context, links: Mapping[LinkId, Link], home: Callable[[], LinkId | None], files: Files):
        self._context = context
        self._links = links
        self._home = home
        self._files = files
        self._by_file: dict[FileId, _Brokered] = {}
        self._redirects: dict[NodeId, list[FileId]] = {}
        """Files that wait for a link to their broker."""
        self._dialling: set[NodeId] = set()
        self.rtt: Micros = 200 * MILLI
        """From an announcement to its first answer, measured."""
        self._asked_at: dict[FileId, Micros] = {}

    def broker_epoch(self, file: FileId) -> int:
        """The newest epoch that is known of a file's broker."""
        known = self._by_file.get(file)
        return 0 if known is None else known.epoch

    def has_broker(self, file: FileId) -> bool:
        """Whether the file is announced over a link that is up."""
        known = self._by_file.get(file)
        return known is not None and known.link is not None

    def offers(self, file: FileId) -> bool:
        """Whether a broker knows that this node sends pieces of a file."""
        known = self._by_file.get(file)
        return known is not None and known.link is not None and known.said[1] > 0

    def asked_since(self, file: FileId) -> Micros:
        """When the broker that there is, or was last, was first told of a file."""
        known = self._by_file.get(file)
        return 0 if known is None else known.since

    def trusts(self, broker: NodeId, file: FileId) -> bool:
        """Whether a coordinator may give tickets for a file: it is the broker, or one that this node has a link to."""
        known = self._by_file.get(file)
        if known is not None and known.broker == broker:
            return True
        return any(link.peer == broker and link.role is Role.COORDINATOR for link in self._links.values())

    # -- what is told --------------------------------------------------------------------------------------------------

    def announce_all(self) -> None:
        """The home is new: tell it of every file."""
        for holding in self._files.announced():
            known = self._by_file.get(holding.file)
            if known is None or known.link is None or known.link == self._home():
                self.announce(holding)

    def announce(self, holding: Holding) -> None:
        """Tell the file's broker, or the home where none is known, all of a file."""
        known = self._by_file.setdefault(holding.file, _Brokered())
        link = known.link if known.link in self._links else self._home()
        if link is None:
            known.link = None
            return
        self._announce(holding, known, link, is_redirected=known.link is not None and known.link != self._home())

    def _announce(self, holding: Holding, known: _Brokered, link: LinkId, *, is_redirected: bool) -> None:
        config = self._context.config
        if link != known.link:
            known.since, known.unanswered = self._context.now, 0
        else:
            self._flush(holding.file)  # what did not come is in no map
        known.link, known.broker = link, self._links[link].peer
        known.got, known.taking, known.lost = [], [], []
        wants, slots = self._files.wants(holding.file), self._files.slots(holding)
        known.said = (wants, slots)
        is_leaving = not wants and not holding.have
        message = Announce(
            file=holding.file,
            have=bitmap_to_bytes(holding.have, holding.layout.piece_count),
            wants=wants,
            up_kbit_per_s=config.upload_kbit_per_s,
            down_kbit_per_s=config.download_kbit_per_s,
            slots=slots,
            broker_epoch=known.epoch,
            endpoint=config.transfer_endpoint,
            dialable=config.transfer_dialable,
            redirected=is_redirected or is_leaving,  # whoever knows of it is to forget it
        )
        self._context.send(link, message, _TTL_MS)
        if is_leaving:  # nobody answers that
            self._answered(holding.file, known)
            return
        self._asked_at[holding.file] = self._context.now
        again = self._context.in_ms(min(_ANSWER_MS << min(known.unanswered, 8), _ANSWER_MS_MAX))
        known.unanswered += 1
        self._context.timers.set((_AGAIN, holding.file), again, lambda: self._announce_again(holding))

    def _answered(self, file: FileId, known: _Brokered) -> None:
        """No announcement waits for an answer."""
        self._asked_at.pop(file, None)
        known.unanswered = 0
        self._context.timers.cancel((_AGAIN, file))

    def _announce_again(self, holding: Holding) -> None:
        """The broker has not answered: either way may have lost it."""
        known = self._by_file.get(holding.file)
        if known is not None and known.link is not None and holding.file in self._asked_at:
            self.announce(holding)

    def changed(self) -> None:
        """What this node gives may have changed: tell the brokers that have heard otherwise."""
        for holding in self._files.announced():
            known = self._by_file.get(holding.file)
            if known is not None and known.link is not None and known.said[1] != self._files.slots(holding):
                self.announce(holding)

    def got(self, file: FileId, piece: int, sender: NodeId, size_bytes: int) -> None:
        """A piece is verified here; so is told at once, with what else there is to tell."""
        known = self._by_file.get(file)
        if known is not None and known.link is not None:
            known.got.append(Got(piece, sender, size_bytes))
            self._flush(file)

    def taking(self, file: FileId, pieces: range) -> None:
        """This node fetches pieces by itself."""
        known = self._by_file.get(file)
        if known is not None and known.link is not None:
            known.taking += pieces
            self._flush_soon(file)

    def lost(self, file: FileId, piece: int, sender: NodeId, reason: Reason, size_bytes: int) -> None:
        """A sender did not give what it was to."""
        known = self._by_file.get(file)
        if known is not None and known.link is not None:
            known.lost.append(Lost(piece, sender, reason, size_bytes))
            self._flush_soon(file)

    def ask_dial(self, file: FileId, peer: NodeId) -> None:
        """Have the broker ask a sender to dial this node."""
        known = self._by_file.get(file)
        if known is not None and known.link is not None:
            self._context.send(known.link, DialRequest(file=file, peer=peer), self._context.config.reverse_ask_ms)

    def rests(self, file: FileId) -> None:
        """Nothing is sent: orders may have got lost."""
        known = self._by_file.get(file)
        if known is not None and known.link is not None:
            self._context.send(known.link, Have(file=file), _TTL_MS)

    def _flush_soon(self, file: FileId) -> None:
        """At the end of what happens now: several things may."""
        name = (_FLUSH, file)
        if self._context.timers.is_idle(name):
            self._context.timers.set(name, self._context.now, lambda: self._flush(file))

    def _flush(self, file: FileId) -> None:
        known = self._by_file.get(file)
        if known is None or known.link is None:
            return
        most = PIECES_PER_MESSAGE
        while known.got or known.taking or known.lost:
            message = Have(
                file=file, got=tuple(known.got[:most]), taking=tuple(known.taking[:most]), lost=tuple(known.lost[:most])
            )
            known.got, known.taking, known.lost = known.got[most:], known.taking[most:], known.lost[most:]
            self._context.send(known.link, message, _TTL_MS)

    def forget(self, holding: Holding) -> None:
        """The file is not here any more, and not wanted."""
        known = self._by_file.pop(holding.file, None)
        if known is None or known.link is None:
            return
        nothing = bitmap_to_bytes(0, holding.layout.piece_count)
        self._answered(holding.file, known)
        self._context.send(known.link, Announce(file=holding.file, have=nothing, wants=False, redirected=True), _TTL_MS)

    # -- what is heard -------------------------------------------------------------------------------------------------

    def granted(self, link: Link, grant: Grant) -> bool:
        """Whether a grant counts: it came from where the file is announced, and no newer broker has spoken."""
        known = self._by_file.get(grant.file)
        if known is None or link.peer is None or known.broker != link.peer or grant.broker_epoch < known.epoch:
            self._context.drop("grant", Reason.REPLAYED)
            return False
        known.epoch = grant.broker_epoch
        asked_at = self._asked_at.get(grant.file)
        if asked_at is not None:
            if known.unanswered == 1:  # of one that was repeated nobody knows which was answered (Karn, RFC 6298)
                self.rtt = self._context.now - asked_at
            self._answered(grant.file, known)
        return True

    def redirected(self, link: Link, message: Redirect) -> None:
        """The home, or the broker that there was, names another one."""
        known = self._by_file.get(message.file)
        if known is None or link.id not in (self._home(), known.link) or message.coordinator == link.peer:
            self._context.drop("redirect", Reason.UNKNOWN_SENDER)
            return
        broker = message.coordinator
        if message.file in self._redirects.get(broker, ()):  # it waits for that one already
            self._answered(message.file, known)
            return
        for others in self._redirects.values():  # the newest word counts
            if message.file in others:
                others.remove(message.file)
        links = self._links.values()
        there = next((other for other in links if other.peer == broker and other.role is Role.COORDINATOR), None)
        if there is not None:
            self._move(message.file, there.id)
            return
        if not self._context.config.is_placed(message.endpoint):
            self._context.drop("redirect", Reason.NO_ADDRESS)
            self._move(message.file, self._home())
            return
        if broker not in self._dialling and len(self._dialling) >= DIALS_MAX:
            self._context.drop("redirect", Reason.OVERFLOW)
            return
        self._answered(message.file, known)
        waiting = self._redirects.setdefault(broker, [])
        if not waiting:
            self._context.timers.set((_LOST, broker), self._context.in_ms(_DIAL_MS), lambda: self._give_up(broker))
        waiting.append(message.file)
        if broker in self._dialling:
            return
        self._dialling.add(broker)

        def dialled(completion: Connected | ConnectFailed) -> None:
            self._dialling.discard(broker)
            if isinstance(completion, ConnectFailed):
                self._give_up(broker)

        self._context.out.append(DialCoordinator(self._context.ops.begin(dialled), broker, message.endpoint))

    def _give_up(self, broker: NodeId) -> None:
        """A coordinator cannot be reached: the home may broker its files as well as anybody."""
        for file in self._redirects.pop(broker, ()):
            self._move(file, self._home())

    def link_bound(self, link: Link) -> None:
        """A coordinator is at the other end of a link."""
        for file in self._redirects.pop(link.peer or b"", ()):
            self._move(file, link.id)

    def link_down(self, link: LinkId) -> None:
        """A link to a coordinator is gone: its files go to the home, if there is one, which may name another broker."""
        for file, known in self._by_file.items():
            if known.link == link:
                known.link = None
                self._move(file, self._home(), is_redirected=False)

    def _move(self, file: FileId, link: LinkId | None, *, is_redirected: bool = True) -> None:
        holding = next((holding for holding in self._files.announced() if holding.file == file), None)
        known = self._by_file.get(file)
        if holding is None or known is None or link is None or link not in self._links:
            return
        self._announce(holding, known, link, is_redirected=is_redirected)
