"""Homes: a node reports to one coordinator at a time, leaves one that does not answer, and does not run to and fro."""

from __future__ import annotations

from edgecoder.core.events import LinkDown
from edgecoder.core.ids import LinkId, Micros, NodeId, Role
from edgecoder.mesh.heartbeat import PATIENCE_MAX
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Heartbeat, HeartbeatAck
from edgecoder_sim.checkers.panel import GRACE_US, Book, Rule


class _Home:
    __slots__ = ("answered_us", "late_us", "link", "node")

    def __init__(self) -> None:
        self.link: LinkId | None = None
        self.node: NodeId | None = None
        self.answered_us: Micros = 0
        """When the home answered last, or became the home."""
        self.late_us: Micros = 0
        """The longest that a heartbeat since then was late, for want of CPU: the next one comes sooner after it."""


class OneHome(Rule):
    """A node moves to another coordinator only where its home's link is down or heartbeats stayed unanswered; and it
    does move, where it has a link to another."""

    name = "one home"

    def enter(self) -> None:
        """See `Rule`."""
        self._of: dict[int, _Home] = {}
        self.panel.on_sent(Heartbeat, self._sent)
        self.panel.on_received(HeartbeatAck, self._acknowledged)
        self.panel.on(LinkDown, self._link_down)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._of[book.index] = _Home()

    def _sent(self, book: Book, link: LinkId, _: Header, __: Heartbeat) -> None:
        home, peer = self._of[book.index], book.links.get(link)
        if peer is None or peer.role is not Role.COORDINATOR:
            self.fail(book, f"sends a heartbeat over link {link}, where no coordinator has identified itself")
        home.late_us = max(home.late_us, book.wake_late_us)
        if link == home.link:
            self._judge_stay(book, home)
            return
        silent_us = self.panel.now - home.answered_us
        least_us = (book.config.rehome_misses - 1) * book.cluster.heartbeat_interval_ms * 1000 - home.late_us
        if home.link is not None and peer.node != home.node and silent_us < least_us:
            self.fail(book, f"moves to another coordinator, though its home answered {silent_us / 1e6:.3f} s ago")
        home.link, home.node = link, peer.node
        home.answered_us, home.late_us = self.panel.now, 0

    def _judge_stay(self, book: Book, home: _Home) -> None:
        longest_us = (PATIENCE_MAX + 1) * book.cluster.heartbeat_interval_ms * 1000 + GRACE_US
        silent_us = self.panel.now - home.answered_us
        if silent_us > longest_us + home.late_us and self._others(book, home):
            self.fail(book, f"stays with a coordinator that has not answered for {silent_us / 1e6:.3f} s")

    def _others(self, book: Book, home: _Home) -> bool:
        """Whether a link to another coordinator is up."""
        return any(
            peer is not None and peer.role is Role.COORDINATOR and peer.node != home.node
            for peer in book.links.values()
        )

    def _acknowledged(self, book: Book, link: LinkId, _: Header, message: HeartbeatAck) -> None:
        home = self._of[book.index]
        if link == home.link and message.known and message.epoch == book.epoch:
            home.answered_us, home.late_us = self.panel.now, 0

    def _link_down(self, book: Book, event: LinkDown) -> None:
        home = self._of[book.index]
        if event.link == home.link:
            home.link = None
            self.panel.alarm(self.panel.now, self._homeless, book, home)

    def _homeless(self, book: Book, home: _Home) -> None:
        if self._of[book.index] is home and home.link is None and self._others(book, home):
            self.fail(book, "lost the link to its home and did not turn to another coordinator")
