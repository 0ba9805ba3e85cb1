"""A device: its files lie in its own store, and llama.cpp runs them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from edgecoder.config import NodeConfig
from edgecoder.core.effects import Effect, Operation
from edgecoder.errors import DriverError, Reason
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder_drivers.cdn.download import Cdn
from edgecoder_drivers.driver import Driver, Operate, Perform, Post, Refused
from edgecoder_drivers.engine import EngineDriver
from edgecoder_drivers.llamacpp.engine import LlamaEngine, VerifiedFile
from edgecoder_drivers.store.driver import StoreDriver
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from edgecoder_drivers.store.source import LocalFile


class Shelf:
    """A node's own store with the CDN behind it, and the files of this machine that may come into it. A `Driver`."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        """Raises ConfigError, and DriverError where the disk is missing or broken."""
        self._files = RealFiles()
        try:
            blobs, self.snapshot = open_store(folder, catalog, self._files)
        except OSError as error:
            raise DriverError(f"{folder}: {error.strerror}; choose another folder with --data") from None
        self._cdn = Cdn()
        self.store = StoreDriver(blobs, self._cdn)

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""
        self.store.open(post)

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`."""
        return self.store.operations()

    def effects(self) -> Mapping[type[Effect], Perform]:
        """See `driver.Driver`."""
        return self.store.effects()

    async def close(self) -> None:
        """See `driver.Driver`."""
        await self._cdn.close()
        await self.store.close()

    async def sha256_of(self, path: Path) -> str:
        """What a file hashes to. Raises Refused."""
        try:
            return await LocalFile(self._files, path).sha256()
        except (OSError, ValueError) as error:  # a path may be no path at all
            raise Refused(Reason.NOT_INSTALLED, str(error)[:200]) from None


class LlamaParts:
    """`Parts` of a device."""

    engine = "llama.cpp"

    def __init__(self, folder: Path, catalog: Catalog, config: NodeConfig, *, threads: int | None = None) -> None:
        """Opens the store. Raises ConfigError, and DriverError where the disk or llama.cpp is missing."""
        self._shelf = Shelf(folder, catalog)
        self._llama = LlamaEngine(self._find, config, threads=threads)

    def drivers(self) -> list[Driver]:
        """See `Parts`."""
        return [self._shelf, EngineDriver(self._llama)]

    async def snapshot(self) -> dict[str, bytes]:
        """See `Parts`."""
        return self._shelf.snapshot

    def is_healthy(self) -> bool:
        """See `Parts`: llama.cpp is here, and begins anew with each model."""
        return True

    def source_of(self, entry: CatalogEntry) -> str:
        """See `Parts`."""
        return "cdn" if entry.download_urls else "none"

    async def sha256_of(self, path: Path) -> str:
        """See `Parts`."""
        return await self._shelf.sha256_of(path)

    def offering(self, entry: CatalogEntry, path: Path) -> AbstractContextManager[None]:
        """See `Parts`."""
        return self._shelf.store.offering(entry, path)

    async def path_of(self, entry: CatalogEntry) -> Path:
        """See `Parts`."""
        return self._find(entry).path

    def _find(self, entry: CatalogEntry) -> VerifiedFile:
        path = self._shelf.store.path(entry)
        if path is None:
            raise Refused(Reason.NOT_INSTALLED, entry.model_id)
        return VerifiedFile(path)
