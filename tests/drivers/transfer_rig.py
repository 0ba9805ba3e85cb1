"""Two nodes with real stores, and a real socket between them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec

from edgecoder.core.effects import CancelOp, Effect, FetchPiece, Operation
from edgecoder.core.events import Event, Wake
from edgecoder.core.ids import NodeId, OpId
from edgecoder.core.node import Node
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder_drivers.host import AsyncHost
from edgecoder_drivers.store.driver import StoreDriver
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from edgecoder_drivers.transfer.connection import Limits
from edgecoder_drivers.transfer.peers import Patience, Peers
from edgecoder_drivers.transfer.server import TransferServer
from tests.drivers.sources import MemorySource, bytes_of, made
from tests.scripted import Script

FILE = made("a", 40 * 16_384 + 5, tree=True, piece_size_bytes=16 * 16_384)
DATA = bytes_of("a", FILE.file_size_bytes)
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


@asynccontextmanager
async def giving(
    root: Path, node_id: NodeId, catalog: Catalog, *, kbit_per_s: int = 0, limits: Limits | None = None
) -> AsyncIterator[Scripted]:
    """A node that has the catalog's files, and gives what its script says."""
    place(root, *catalog.entries)
    blobs, _ = open_store(root, catalog, RealFiles())
    node = Scripted(node_id)
    node.store = StoreDriver(blobs, MemorySource())
    node.server = TransferServer(catalog.by_digest.get, node.store, port=0, kbit_per_s=kbit_per_s, limits=limits)
    node.host = AsyncHost(cast("Node", node.script), [node.store, node.server])
    node.host.start({})
    try:
        yield node
    finally:
        await node.host.stop()


@asynccontextmanager
async def taking(
    root: Path, node_id: NodeId, catalog: Catalog, patience: Patience = PATIENCE
) -> AsyncIterator[Scripted]:
    """A node that has nothing, and fetches what its script says."""
    blobs, _ = open_store(root, catalog, RealFiles())
    node, peers = Scripted(node_id), Peers(node_id, patience)
    node.store = StoreDriver(blobs, MemorySource(), peers.source)
    node.host = AsyncHost(cast("Node", node.script), [node.store])
    node.host.start({})
    try:
        yield node
    finally:
        await node.host.stop()
        await peers.close()


def at(endpoint: str, effect: Operation) -> Operation:
    """The effect, of a peer at an endpoint."""
    return msgspec.structs.replace(effect, endpoint=endpoint) if isinstance(effect, FetchPiece) else effect


def stop(node: Scripted, op: OpId) -> None:
    """As by CancelOp."""
    node.say(CancelOp(op))
