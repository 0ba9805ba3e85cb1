"""A broker on its own, and the nodes that talk to it."""

from __future__ import annotations

from typing import Any

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.coordinator.broker import Broker
from edgecoder.core.context import Context
from edgecoder.core.effects import Send, Trace
from edgecoder.core.ids import LinkId, Medium, NodeId, Role
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Link
from edgecoder.models.catalog import Catalog
from edgecoder.seeding.pieces import bitmap_to_bytes
from edgecoder.trace import Dropped
from edgecoder.wire.messages import Announce, Grant, Message
from edgecoder_sim.crypto import crypto, node_id
from tests.catalogs import MIB, entry

FILE = entry("shared", 0.5, file_size_bytes=MIB, piece_root="ab" * 32)
SECOND_FILE = entry("second", 0.5, file_size_bytes=MIB, piece_root="cd" * 32)
PIECES = 16
ALL = (1 << PIECES) - 1
DIGEST = bytes.fromhex(FILE.sha256)
NAMES = ("north", "south", "west")
SECOND = 1_000_000
SLOW = 524
"""Kbit/s: a piece a second."""


class Bench:
    """A coordinator, and nodes that have links to it."""

    def __init__(
        self, name: str = NAMES[0], others: tuple[str, ...] = (), cluster: ClusterConfig | None = None, **config: Any
    ) -> None:
        signer, self.verifier = crypto(node_id(name), "edgecoder", encoded=False)
        self.context = Context(cluster or ClusterConfig(), NodeConfig(**config), signer, 1)
        self.context.epoch = self.context.ops.epoch = 1
        self.links: dict[LinkId, Link] = {}
        self.others = [node_id(other) for other in others]
        self.broker = Broker(
            self.context,
            self.links,
            Catalog((FILE, SECOND_FILE)),
            lambda: self.context.now // 1000,
            lambda: self.others,
            lambda node: f"{node.hex()[:8]}.example:4301",
        )

    def link(self, number: int, name: str, role: Role = Role.AGENT) -> Link:
        link = self.links[number] = Link(number, Medium.LAN, peer=node_id(name), role=role)
        return link

    def announce(self, number: int, name: str, have: int = 0, **more: Any) -> None:
        """A node tells what it has over its link, which is made where it is not there."""
        said = {"wants": have != ALL, "slots": 4, "up_kbit_per_s": 8000, **more}
        link = self.links.get(number) or self.link(number, name)
        self.broker.announce(link, Announce(file=DIGEST, have=bitmap_to_bytes(have, PIECES), **said))

    def sent(self) -> list[tuple[LinkId, Message]]:
        """What was sent since it was asked last."""
        found = [(effect.link, effect.frame) for effect in self.context.out if isinstance(effect, Send)]
        self.context.out[:] = [effect for effect in self.context.out if not isinstance(effect, Send)]
        return [(link, self.verifier.open(frame).message) for link, frame in found]

    def grants(self) -> list[tuple[LinkId, Grant]]:
        return [(link, message) for link, message in self.sent() if isinstance(message, Grant)]

    def granted(self) -> list[tuple[LinkId, int, NodeId]]:
        return [(link, row.piece, row.sender) for link, grant in self.grants() for row in grant.pieces]

    def drops(self) -> list[tuple[str, Reason]]:
        found = [effect.record for effect in self.context.out if isinstance(effect, Trace)]
        return [(record.what, record.reason) for record in found if isinstance(record, Dropped)]

    def pass_s(self, seconds: float) -> None:
        until = self.context.now + round(seconds * SECOND)
        while (deadline := self.context.timers.next_deadline) is not None and deadline <= until:
            self.context.now = max(self.context.now, deadline)
            self.context.timers.fire_due(self.context.now)
        self.context.now = until
