"""Whole nodes whose pieces go over sockets: a coordinator brokers, cores grant and ticket.

The links between the nodes are queues of this process; the bytes of the model are not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import Effect, Operation, PullResult, Send
from edgecoder.core.events import FrameReceived, LinkUp, PullModel
from edgecoder.core.ids import LinkId, Medium, Role
from edgecoder.core.node import Node, Setup
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog
from edgecoder.wire.envelope import ByteSigner, ByteVerifier
from edgecoder_drivers.driver import Operate, Perform, Post, Refused
from edgecoder_drivers.exchange import Exchange, Place
from edgecoder_drivers.host import AsyncHost
from edgecoder_drivers.identity import Identity, KeyRing
from edgecoder_drivers.parts import Parts
from edgecoder_drivers.store.driver import StoreDriver
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from tests.drivers.rig import Seen, as_kind, has
from tests.drivers.sources import MemorySource, made
from tests.drivers.transfer_rig import place

FILE = made("shared", (3 << 20) + 99, tree=True)
CATALOG = Catalog((FILE,))
NAMES = ("north", "seed", "first", "second")


class Links:
    """The links of one node. A `Driver`."""

    def __init__(self) -> None:
        self.post: Post = lambda event: None
        self.others: dict[LinkId, tuple[Links, LinkId]] = {}

    def open(self, post: Post) -> None:
        self.post = post

    def operations(self) -> Mapping[type[Operation], Operate]:
        return {}

    def effects(self) -> Mapping[type[Effect], Perform]:
        return {Send: self._send}

    async def close(self) -> None: ...

    def _send(self, effect: Send) -> None:
        other, link = self.others[effect.link]
        other.post(FrameReceived(link, effect.frame))

    def join(self, other: Links) -> None:
        """Open a link to another node."""
        here, there = len(self.others) + 1, len(other.others) + 1
        self.others[here], other.others[there] = (other, there), (self, here)
        self.post(LinkUp(here, Medium.LAN))
        other.post(LinkUp(there, Medium.LAN))


class Member:
    """One node."""

    def __init__(
        self,
        root: Path,
        identity: Identity,
        ring: KeyRing,
        role: Role,
        *,
        is_dialable: bool,
        has_cdn: bool,
        endpoint: str = "",
    ) -> None:
        """`endpoint` is where others are told to find it."""
        self.path = root / "blobs" / f"sha256-{FILE.sha256}"
        self.links, self.seen = Links(), Seen()
        blobs, self._snapshot = open_store(root, CATALOG, RealFiles())
        self._snapshot.update(has(FILE) if self.path.exists() else {})
        source = MemorySource()
        source.before = None if has_cdn else self._down
        store = StoreDriver(blobs, source)
        parts = cast("Parts", SimpleNamespace(given=store, take_from=lambda peers: setattr(store, "peers", peers)))
        config = NodeConfig(has_radio=False, transfer_dialable=is_dialable, transfer_endpoint=endpoint)
        self.exchange = Exchange(Place(port=0), parts, config, CATALOG, identity.node_id)
        setup = Setup(role=role, cluster=ClusterConfig(), config=self.exchange.config, catalog=CATALOG)
        node = Node(setup, ByteSigner(identity), ByteVerifier(ring, "edgecoder"), 1)
        self.host = AsyncHost(node, [store, self.exchange, self.links], observers=[self.seen])

    @staticmethod
    async def _down(_: int) -> None:
        raise Refused(Reason.NO_SOURCE)

    def start(self) -> None:
        self.host.start(self._snapshot)

    async def stop(self) -> None:
        await self.host.stop()

    async def pull(self) -> Reason | None:
        return as_kind(await self.host.ask(PullModel, model=FILE.model_id), PullResult).reason


@asynccontextmanager
async def mesh(
    root: Path, hidden: Container[str] = (), *, has_cdn: bool = False, seed_endpoint: str = ""
) -> AsyncIterator[dict[str, Member]]:
    """A coordinator, one node that has the file, which others look for at an endpoint, and two that have nothing.
    Nobody can dial the hidden ones; the CDN is down unless there is one."""
    place(root / "seed", FILE)
    keys = {name: Identity(Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32))) for name in NAMES}
    ring = KeyRing()
    for identity in keys.values():
        ring.add(identity.public_bytes)
    async with AsyncExitStack() as stack:
        members = {}
        for name in NAMES:
            role = Role.COORDINATOR if name == "north" else Role.AGENT
            endpoint = seed_endpoint if name == "seed" else ""
            is_dialable = name not in hidden
            member = Member(
                root / name, keys[name], ring, role, is_dialable=is_dialable, has_cdn=has_cdn, endpoint=endpoint
            )
            members[name] = member
            stack.push_async_callback(member.stop)
            member.start()
        for name in NAMES[1:]:
            members[name].links.join(members["north"].links)
        yield members
