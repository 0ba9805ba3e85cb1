"""Two nodes with real stores, and a real socket between them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import Effect
from edgecoder.core.events import Completion, Event, FrameReceived, LinkUp, Wake
from edgecoder.core.ids import Medium, NodeId, OpId, Role
from edgecoder.core.node import Node, Setup
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.seeding.tickets import issue
from edgecoder.wire.envelope import ByteSigner, ByteVerifier, Header
from edgecoder.wire.messages import Identity as IdentityMessage
from edgecoder.wire.messages import Ticket
from edgecoder_drivers.driver import Driver, Numbers
from edgecoder_drivers.host import AsyncHost
from edgecoder_drivers.identity import Identity, KeyRing
from edgecoder_drivers.store.driver import StoreDriver
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from edgecoder_drivers.transfer.channels import Channels
from edgecoder_drivers.transfer.connection import Limits
from edgecoder_drivers.transfer.dialling import Dialler
from edgecoder_drivers.transfer.peers import Patience, Peers
from edgecoder_drivers.transfer.server import TransferServer
from tests.drivers.rig import has
from tests.drivers.sources import MemorySource, bytes_of, made
from tests.scripted import Script

FILE = made("a", 40 * 16_384 + 5, tree=True, piece_size_bytes=16 * 16_384)
DATA = bytes_of("a", FILE.file_size_bytes)
TURNS_MAX = 10_000
FAR_MS = 4_102_444_800_000
"""The year 2100."""
PATIENCE = Patience(connect_s=10.0, first_byte_s=30.0, silence_s=30.0)


def place(root: Path, *entries: CatalogEntry) -> None:
    """Put files into a store, as if they had been verified."""
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    for entry in entries:
        data = bytes_of(entry.model_id, entry.file_size_bytes)
        assert hashlib.sha256(data).hexdigest() == entry.sha256
        (root / "blobs" / f"sha256-{entry.sha256}").write_bytes(data)


class Scripted:
    """A node whose core is a script."""

    def __init__(self, node_id: NodeId) -> None:
        self.script = Script()
        self.script.context = SimpleNamespace(node_id=node_id)
        self.node_id = node_id
        self.host: AsyncHost
        self.store: StoreDriver
        self.server: TransferServer | None = None

    @property
    def heard(self) -> list[Event]:
        return self.script.heard

    def say(self, *effects: Effect) -> None:
        self.script.to_say += effects
        self.host.post(Wake())

    async def end(self, op: OpId) -> Completion:
        """The end of an operation."""
        for _ in range(TURNS_MAX):
            for event in self.heard:
                if isinstance(event, Completion) and event.op == op:
                    return event
            await asyncio.sleep(0.002)
        raise AssertionError(f"it does not end: {self.heard[-5:]}")


@asynccontextmanager
async def giving(
    root: Path,
    node_id: NodeId,
    catalog: Catalog,
    *,
    kbit_per_s: int = 0,
    limits: Limits | None = None,
    is_dialable: bool = True,
) -> AsyncIterator[Scripted]:
    """A node that has the catalog's files, and gives what its script says. One that is not dialable does not listen."""
    place(root, *catalog.entries)
    blobs, _ = open_store(root, catalog, RealFiles())
    node = Scripted(node_id)
    node.store = StoreDriver(blobs, MemorySource())
    where = "127.0.0.1" if is_dialable else None
    node.server = TransferServer(
        catalog.by_digest.get, node.store, host=where, port=0, kbit_per_s=kbit_per_s, limits=limits
    )
    drivers: list[Driver] = [node.store, node.server, Dialler(node_id, node.server)]
    node.host = AsyncHost(cast("Node", node.script), drivers)
    node.host.start({})
    try:
        yield node
    finally:
        await node.host.stop()


@asynccontextmanager
async def taking(
    root: Path, node_id: NodeId, catalog: Catalog, patience: Patience = PATIENCE
) -> AsyncIterator[Scripted]:
    """A node that has nothing, and fetches what its script says; from those who dial it too."""
    blobs, _ = open_store(root, catalog, RealFiles())
    node, channels = Scripted(node_id), Channels(Numbers())
    peers = Peers(node_id, patience, channels)
    node.store = StoreDriver(blobs, MemorySource(), peers.source)
    node.server = TransferServer(catalog.by_digest.get, node.store, port=0, channels=channels)
    node.host = AsyncHost(cast("Node", node.script), [node.store, node.server])
    node.host.start({})
    try:
        yield node
    finally:
        await node.host.stop()
        await peers.close()


class Giver:
    """A node with a core that has files, and a link to a broker that it trusts."""

    def __init__(self, broker: Identity, node_id: NodeId) -> None:
        self.broker = broker
        self.node_id = node_id
        self.server: TransferServer
        self.host: AsyncHost

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def ticket(self, receiver: NodeId, entry: CatalogEntry, *, expires_ms: int = FAR_MS, epoch: int = 1) -> Ticket:
        """What the broker gives a receiver."""
        signer = ByteSigner(self.broker)
        return issue("edgecoder", signer, receiver, self.node_id, bytes.fromhex(entry.sha256), epoch, expires_ms)


@asynccontextmanager
async def real_giver(
    root: Path, catalog: Catalog, config: NodeConfig | None = None, limits: Limits | None = None
) -> AsyncIterator[Giver]:
    """A node whose own core decides; the catalog's files are in its store."""
    own, broker = (Identity(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)) for number in (1, 2))
    ring = KeyRing()
    ring.add(broker.public_bytes)
    settings = config or NodeConfig(has_radio=False)
    blobs, snapshot = open_store(root, catalog, RealFiles())
    snapshot.update(has(*catalog.entries))
    setup = Setup(role=Role.AGENT, cluster=ClusterConfig(), config=settings, catalog=catalog)
    node = Node(setup, ByteSigner(own), ByteVerifier(ring, "edgecoder"), 1)
    giver, store = Giver(broker, own.node_id), StoreDriver(blobs, MemorySource())
    kbit_per_s = settings.upload_kbit_per_s
    giver.server = TransferServer(catalog.by_digest.get, store, port=0, kbit_per_s=kbit_per_s, limits=limits)
    giver.host = AsyncHost(node, [store, giver.server])
    giver.host.start(snapshot)
    giver.host.post(LinkUp(1, Medium.LAN))
    identity = IdentityMessage(
        role=Role.COORDINATOR, device_type=settings.device_type, cluster_config_hash=ClusterConfig().digest()
    )
    header = Header("edgecoder", broker.node_id, 1, 1, 60_000)
    giver.host.post(FrameReceived(1, ByteSigner(broker).seal(header, identity)))
    try:
        yield giver
    finally:
        await giver.host.stop()
