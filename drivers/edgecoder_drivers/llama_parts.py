"""A device: its files lie in its own store, and llama.cpp runs them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from pathlib import Path

from edgecoder.config import NodeConfig
from edgecoder.errors import DriverError, Reason
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder_drivers.driver import Driver, Refused
from edgecoder_drivers.engine import EngineDriver
from edgecoder_drivers.llamacpp.engine import LlamaEngine, VerifiedFile
from edgecoder_drivers.store.driver import StoreDriver
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from edgecoder_drivers.store.source import LocalFile


class Nowhere:
    """A CDN that has nothing."""

    async def read(self, entry: CatalogEntry, first_byte: int, end_byte: int) -> AsyncGenerator[bytes, None]:  # noqa: ARG002
        """See `Source`."""
        raise Refused(Reason.NO_SOURCE)
        yield b""  # type: ignore[unreachable]

    async def leaf_hashes(self, entry: CatalogEntry) -> bytes:  # noqa: ARG002
        """See `Source`."""
        raise Refused(Reason.NO_SOURCE)


class Shelf:
    """A node's own store, opened, and the files of this machine that may come into it."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        """Raises ConfigError, and DriverError where the disk is missing or broken."""
        self._files = RealFiles()
        try:
            blobs, self.snapshot = open_store(folder, catalog, self._files)
        except OSError as error:
            raise DriverError(f"{folder}: {error.strerror}; choose another folder with --data") from None
        self.store = StoreDriver(blobs, Nowhere())

    async def sha256_of(self, path: Path) -> str:
        """What a file hashes to. Raises Refused."""
        try:
            return await LocalFile(self._files, path).sha256()
        except OSError as error:
            raise Refused(Reason.NOT_INSTALLED, f"{path}: {error.strerror}") from None


class LlamaParts:
    """`Parts` of a device."""

    engine = "llama.cpp"

    def __init__(self, folder: Path, catalog: Catalog, config: NodeConfig, *, threads: int | None = None) -> None:
        """Opens the store. Raises ConfigError, and DriverError where the disk or llama.cpp is missing."""
        self._shelf = Shelf(folder, catalog)
        self._llama = LlamaEngine(self._find, config, threads=threads)

    def drivers(self) -> list[Driver]:
        """See `Parts`."""
        return [self._shelf.store, EngineDriver(self._llama)]

    async def snapshot(self) -> dict[str, bytes]:
        """See `Parts`."""
        return self._shelf.snapshot

    def is_healthy(self) -> bool:
        """See `Parts`: llama.cpp is here, and begins anew with each model."""
        return True

    def source_of(self, entry: CatalogEntry) -> str:  # noqa: ARG002
        """See `Parts`."""
        return "cdn"

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
        status = path.stat()
        return VerifiedFile(path, status.st_mtime_ns, status.st_ino)
