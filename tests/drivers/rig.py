"""A node on the asyncio host, with drivers that a test chooses."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import Result
from edgecoder.core.ids import Micros, Role
from edgecoder.core.node import Node, Setup
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, FileRow, encode_rows
from edgecoder.trace import Record
from edgecoder.wire.envelope import ByteSigner, ByteVerifier
from edgecoder_drivers.driver import Driver
from edgecoder_drivers.host import AsyncHost, Observer
from edgecoder_drivers.identity import Identity, KeyRing
from edgecoder_drivers.journal import FileJournal, Keys
from tests.catalogs import CATALOG

T = TypeVar("T")


class Seen:
    """An observer that keeps what it sees."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def record(self, now: Micros, record: Record) -> None:  # noqa: ARG002
        self.records.append(record)


@asynccontextmanager
async def living(
    drivers: Sequence[Driver],
    snapshot: dict[str, bytes] | None = None,
    *,
    config: NodeConfig | None = None,
    catalog: Catalog = CATALOG,
    journal: Path | None = None,
    seen: Observer | None = None,
) -> AsyncIterator[AsyncHost]:
    """A life, which ends with the block."""
    identity, ring = Identity(Ed25519PrivateKey.from_private_bytes(bytes(32))), KeyRing()
    ring.add(identity.public_bytes)
    keys = Keys(identity, ring)
    settings = config or NodeConfig(has_radio=False)
    setup = Setup(role=Role.AGENT, cluster=ClusterConfig(), config=settings, catalog=catalog)
    node = Node(setup, ByteSigner(keys), ByteVerifier(keys, "edgecoder"), 1)
    with contextlib.ExitStack() as stack:
        book = None
        if journal is not None:
            book = stack.enter_context(contextlib.closing(FileJournal(journal, setup, keys, 1)))
        host = AsyncHost(node, drivers, journal=book, observers=[] if seen is None else [seen])
        host.start(snapshot or {})
        try:
            yield host
        finally:
            await host.stop()


def has(*entries: CatalogEntry) -> dict[str, bytes]:
    """What a store says that has these files."""
    rows = {entry.sha256: FileRow(DownloadState.INSTALLED, entry.file_size_bytes) for entry in entries}
    return {INVENTORY_KEY: encode_rows(rows)}


def as_kind(result: Result, kind: type[T]) -> T:
    """A reply, which is of this type."""
    assert isinstance(result, kind), result
    return result
