"""The gate: every frame passes here, and only verified, fresh messages of a link's own peer come through.

It opens frames, refuses replays, binds each link to the node that identified itself on it, and answers a foreign
version with the range that is spoken. What a message means is left to the parts behind it.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from edgecoder.core.context import Context
from edgecoder.core.effects import Disconnect
from edgecoder.core.events import FrameReceived, LinkUp
from edgecoder.core.ids import LinkId, Medium, NodeId, Role
from edgecoder.errors import Reason, RemoteProtocolError
from edgecoder.mesh.replay import ReplayWindow
from edgecoder.protocol import PROTOCOL_VERSION, PROTOCOL_VERSION_MIN
from edgecoder.wire.envelope import Header, Verified, Verifier
from edgecoder.wire.messages import Identity, Message, Stale, Versions

IDENTITY_TTL_MS = 60_000
HELD_MAX = 16
"""Frames that wait with a link; a node sends few before it is answered."""


class Link(msgspec.Struct):
    """A link that is up. `peer` and `role` are known once the other end has identified itself."""

    id: LinkId
    medium: Medium
    rssi_dbm: int | None = None
    peer: NodeId | None = None
    role: Role | None = None
    window: ReplayWindow | None = None
    """The peer's; all links to one peer share it."""
    told_versions: bool = False
    lost: bool = False
    """Of a link that is down: it broke, nobody closed it."""
    sure: tuple[NodeId, Role] | None = None
    """Who the host knows to be there, before a word was said."""
    where: str = ""
    """The other end's address, for people."""
    is_silent: bool = False
    """Whether its other end was asked in vain: it counts as gone."""
    told_epoch: int = -1
    """The epoch of its other end of which it was told that there is a newer one."""

    @property
    def node(self) -> NodeId | None:
        """Who is there, by what the host or the other end has said."""
        return self.peer if self.sure is None else self.sure[0]


class Judge(Protocol):
    """Who looks for lives of one node that are not one after the other."""

    def holds(self, link: Link, header: Header, newest: int) -> bool:
        """Whether a node that identifies itself on a new link has to wait, until `Gate.release`. `newest` is the epoch
        that is known of it, -1 where none is."""
        ...

    def overheard(self, link: Link, header: Header, message: Message, newest: int) -> None:
        """A node said on its link what counts as said before: something of an epoch that is over, or an answer."""
        ...

    def answered(self, link: Link, header: Header, identity: Identity) -> None:
        """A node answered a question of this node's."""
        ...


class Gate:
    """The links of a node and who is at their other ends."""

    def __init__(self, context: Context, verifier: Verifier, role: Role) -> None:
        self._context = context
        self.verifier = verifier
        self._role = role
        self._windows: dict[NodeId, ReplayWindow] = {}
        self.links: dict[LinkId, Link] = {}
        self.judge: Judge | None = None
        self._held: dict[LinkId, list[FrameReceived]] = {}
        self.released: list[FrameReceived] = []
        """Frames that have waited, and are to be received now."""

    def link_up(self, event: LinkUp) -> None:
        """Take a link and identify this node on it."""
        if event.link in self.links or len(self.links) >= self._context.config.links_max:
            self._context.drop("link", Reason.OVERFLOW)
            return
        link = self.links[event.link] = Link(event.link, event.medium, event.rssi_dbm, where=event.where)
        if event.peer is not None and event.role is not None:
            link.sure = (event.peer, event.role)
        self.identify(event.link)

    def identify(self, link: LinkId, *, ask: bytes = b"", echo: bytes = b"") -> None:
        """Say who is here. `ask` wants an answer that repeats it; `echo` is what was to be repeated."""
        config = self._context.config
        known = self.links[link].peer is not None
        identity = Identity(
            role=self._role,
            device_type=config.device_type,
            cluster_config_hash=self._context.cluster_digest,
            knows_you=known,
            ask=ask,
            echo=echo,
            life=self._life() if echo else b"",
        )
        self._context.send(link, identity, IDENTITY_TTL_MS)
        if not known:  # it may get lost: ask until there is an answer
            again = self._context.in_ms(config.identify_retry_ms)
            self._context.timers.set(("gate.identify", link), again, lambda: self._identify_again(link))

    def _life(self) -> bytes:
        """The same number for all of this life, and for no other."""
        return self._context.stream("life").word().to_bytes(8, "big")

    def _identify_again(self, link: LinkId) -> None:
        if link in self.links and self.links[link].peer is None:
            self.identify(link)

    def bind(self, link: Link, peer: NodeId, identity: Identity) -> bool:
        """Take what the other end says of itself, and answer one that does not know us yet. True where it is new."""
        is_new = link.peer is None
        if link.sure is not None and link.sure != (peer, identity.role):
            self._context.drop("identity", Reason.UNKNOWN_SENDER)
            self._context.out.append(Disconnect(link.id))  # it has proved to be one thing, and says another
            return False
        if is_new:
            link.peer, link.role = peer, identity.role
            self._context.timers.cancel(("gate.identify", link.id))
        if identity.ask:
            self.identify(link.id, echo=identity.ask)
        elif not is_new and not identity.knows_you:
            self.identify(link.id)
        return is_new

    def link_down(self, link: LinkId) -> Link | None:
        """Forget a link; what it was, if it was known."""
        self._context.timers.cancel(("gate.identify", link))
        self._held.pop(link, None)
        return self.links.pop(link, None)

    def release(self, link: LinkId) -> None:
        """What came over a link that had to wait is looked at now."""
        self.released += self._held.pop(link, ())

    def receive(self, event: FrameReceived) -> tuple[Link, Verified[Message]] | None:
        """The message in a frame and the link it came over, or None where it must not be looked at."""
        link = self.links.get(event.link)
        if link is None:
            self._context.drop("frame", Reason.UNKNOWN_SENDER)
            return None
        if event.link in self._held:
            if len(self._held[event.link]) < HELD_MAX:
                self._held[event.link].append(event)
            else:
                self._context.drop("frame", Reason.OVERFLOW)
            return None
        try:
            verified = self.verifier.open(event.frame)
        except RemoteProtocolError as error:
            self._refuse(link, error.reason)
            return None
        header = verified.header
        sender = header.sender
        if sender == link.peer:
            window = link.window
            if window is None:
                window = link.window = self._window_of(sender)
        elif type(verified.message) is Identity and self._may_identify(link, sender):
            window = self._window_of(sender)
            if self.judge is not None and self.judge.holds(link, header, window.epoch):
                self._held[event.link] = [event]
                return None
        else:
            self._context.drop("frame", Reason.UNKNOWN_SENDER)
            return None
        if not window.accept(header.epoch, header.seq):
            self._context.drop("frame", Reason.REPLAYED)
            is_answer = type(verified.message) is Identity and bool(verified.message.echo)  # its nonce makes it fresh
            if self.judge is not None and sender == link.peer and (header.epoch < window.epoch or is_answer):
                self.judge.overheard(link, header, verified.message, window.epoch)
                return None
            # a life does not begin a link with what it has said already: this one has the epoch of an earlier one
            is_over = header.epoch < window.epoch or (header.epoch == window.epoch and link.peer is None)
            if is_over and type(verified.message) is Identity:
                self._context.send(link.id, Stale(epoch=window.epoch), IDENTITY_TTL_MS)
            return None
        return link, verified

    def _may_identify(self, link: Link, sender: NodeId) -> bool:
        is_other = sender != self._context.node_id and (link.sure is None or link.sure[0] == sender)
        return is_other and link.peer is None

    def _window_of(self, sender: NodeId) -> ReplayWindow:
        """The window of a sender; where there are too many, the oldest of a sender without a link makes room."""
        window = self._windows.get(sender)
        if window is None:
            if len(self._windows) >= self._context.config.senders_max:
                linked = {link.peer for link in self.links.values()}
                gone = (known for known in self._windows if known not in linked)
                del self._windows[next(gone, next(iter(self._windows)))]
            window = self._windows[sender] = ReplayWindow()
        return window

    def _refuse(self, link: Link, reason: Reason) -> None:
        self._context.drop("frame", reason)
        if reason is Reason.VERSION_MISMATCH and not link.told_versions:
            link.told_versions = True
            spoken = Versions(version_min=PROTOCOL_VERSION_MIN, version_max=PROTOCOL_VERSION)
            self._context.send(link.id, spoken, IDENTITY_TTL_MS)
