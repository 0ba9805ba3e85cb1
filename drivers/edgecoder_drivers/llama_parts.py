"""A device: its files lie in its own store, and llama.cpp runs them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from edgecoder.config import NodeConfig
from edgecoder.core.effects import FetchPiece
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder_drivers.addresses import Logins
from edgecoder_drivers.driver import Driver
from edgecoder_drivers.engine import EngineDriver
from edgecoder_drivers.llamacpp.engine import LlamaEngine, VerifiedFile
from edgecoder_drivers.shelf import Shelf
from edgecoder_drivers.store.source import PeerSource
from edgecoder_drivers.transfer.connection import Files


class LlamaParts:
    """`Parts` of a device."""

    engine = "llama.cpp"

    def __init__(
        self,
        folder: Path,
        catalog: Catalog,
        config: NodeConfig,
        *,
        threads: int | None = None,
        logins: Logins | None = None,
    ) -> None:
        """Opens the store. Raises ConfigError, and DriverError where the disk or llama.cpp is missing."""
        self._shelf = Shelf(folder, catalog, logins)  # from now on nobody else has the folder
        prefix = f"edgecoder-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}-"
        for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)  # of a life that was killed while it loaded
        self._llama = LlamaEngine(self._find, config, threads=threads, prefix=prefix)

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

    def take_from(self, peers: Callable[[FetchPiece], PeerSource]) -> None:
        """See `Parts`."""
        self._shelf.store.peers = peers

    @property
    def given(self) -> Files:
        """See `Parts`."""
        return self._shelf.store

    def fetched_by_ollama(self, entry: CatalogEntry) -> AbstractContextManager[None]:  # noqa: ARG002
        """See `Parts`: it is given nothing from here."""
        return nullcontext()

    async def path_of(self, entry: CatalogEntry) -> Path:
        """See `Parts`."""
        return self._find(entry).path

    def _find(self, entry: CatalogEntry) -> VerifiedFile:
        path, stamp = self._shelf.store.find(entry)
        return VerifiedFile(path, (stamp.inode, stamp.mtime_ns))
