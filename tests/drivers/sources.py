"""Model files that a source has, and stores with a node on them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from edgecoder.config import NodeConfig
from edgecoder.core.effects import ModelRow
from edgecoder.core.events import QueryModels
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.host import AsyncHost
from edgecoder_drivers.store.driver import StoreDriver
from edgecoder_drivers.store.files import FileSystem
from edgecoder_drivers.store.opening import open_store
from edgecoder_drivers.store.source import Source
from tests.catalogs import entry
from tests.drivers.rig import as_kind, living
from tests.files import content, hashes_of

FILE_BYTES = 5 * LEAF_BYTES + 1234
ROOT = Path("/store")


def made(name: str, size_bytes: int = FILE_BYTES, *, tree: bool = False, piece_size_bytes: int = 0) -> CatalogEntry:
    """An entry whose bytes are those of `tests.files.content`, behind its name."""
    data = bytes_of(name, size_bytes)
    plain = entry(name, file_size_bytes=size_bytes, piece_size_bytes=piece_size_bytes)
    root = hashes_of(plain.layout, data).root.hex() if tree else ""
    return msgspec.structs.replace(plain, sha256=hashlib.sha256(data).hexdigest(), piece_root=root)


def bytes_of(name: str, size_bytes: int = FILE_BYTES) -> bytes:
    """What a file of a name and size consists of."""
    return name.encode()[:16].ljust(16) + b"".join(content(size_bytes))[16:]


class MemorySource:
    """A `Source` that has the files of `made`."""

    def __init__(self, chunk_bytes: int = 10_000) -> None:
        self.chunk_bytes = chunk_bytes
        self.asked: list[tuple[int, int]] = []
        self.before: Callable[[int], Any] | None = None
        """What is awaited before the chunk at an offset comes: it may wait, and raise."""
        self.lie: Callable[[bytes], bytes] = lambda data: data
        """What becomes of the bytes that are asked for,"""
        self.lie_of_leaves: Callable[[bytes], bytes] = lambda data: data
        """and of leaf hashes."""

    async def read(
        self,
        entry: CatalogEntry,
        first_byte: int,
        end_byte: int,
        *,
        is_patient: bool = False,  # noqa: ARG002
    ) -> AsyncGenerator[bytes, None]:
        self.asked.append((first_byte, end_byte))
        data = self.lie(bytes_of(entry.model_id, entry.file_size_bytes)[first_byte:end_byte])
        for at in range(0, len(data), self.chunk_bytes):
            await asyncio.sleep(0)
            if self.before is not None:
                await self.before(first_byte + at)
            yield data[at : at + self.chunk_bytes]

    async def leaf_hashes(self, entry: CatalogEntry) -> bytes:
        return self.lie_of_leaves(b"".join(leaf_hashes(bytes_of(entry.model_id, entry.file_size_bytes))))


def breaks_at(offset: int, reason: Reason = Reason.NO_SOURCE) -> Callable[[int], Any]:
    """A source that breaks off."""

    async def before(at: int) -> None:
        if at >= offset:
            raise Refused(reason)

    return before


@asynccontextmanager
async def storing(
    files: FileSystem,
    catalog: Catalog,
    source: Source | None = None,
    *,
    root: Path = ROOT,
    config: NodeConfig | None = None,
) -> AsyncIterator[tuple[AsyncHost, StoreDriver]]:
    """A life of a node with a store."""
    blobs, snapshot = await asyncio.to_thread(open_store, root, catalog, files)
    driver = StoreDriver(blobs, source or MemorySource())
    config = config or NodeConfig(has_radio=False, cdn_retry_ms=10)
    async with living([driver], snapshot, catalog=catalog, config=config) as host:
        yield host, driver


async def installed(files: FileSystem, catalog: Catalog, root: Path = ROOT) -> set[str]:
    """The models that a new life says are here. They are, to the last byte."""
    async with storing(files, catalog, root=root) as (host, driver):
        rows = [as_kind(row, ModelRow) for row in as_kind(await host.ask(QueryModels), tuple)]
        entries = [row.entry for row in rows if row.state == "installed"]
        for entry in entries:
            path = driver.path(entry)
            assert path is not None, entry.model_id
            handle = files.open(path)
            found = files.pread(handle, entry.file_size_bytes + 1, 0)
            files.close(handle)
            assert found == bytes_of(entry.model_id, entry.file_size_bytes), entry.model_id
    return {entry.model_id for entry in entries}
