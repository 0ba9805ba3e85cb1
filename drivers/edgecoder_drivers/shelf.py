"""The files of a node: its own store, the CDN behind it, and files of this machine that may come into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgecoder.core.effects import Effect, Operation
from edgecoder.errors import DriverError, Reason
from edgecoder.models.catalog import Catalog
from edgecoder_drivers.addresses import Logins
from edgecoder_drivers.cdn.download import Cdn
from edgecoder_drivers.driver import Operate, Perform, Post, Refused
from edgecoder_drivers.store.driver import StoreDriver
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from edgecoder_drivers.store.source import LocalFile


class Shelf:
    """A node's own store with the CDN behind it, and the files of this machine that may come into it. A `Driver`."""

    def __init__(self, folder: Path, catalog: Catalog, logins: Logins | None = None) -> None:
        """Raises ConfigError, and DriverError where the disk is missing or broken."""
        self._files = RealFiles()
        self._catalog = catalog
        try:
            blobs, self.snapshot = open_store(folder, catalog, self._files)
        except OSError as error:
            where = error.filename or folder
            raise DriverError(f"{where}: {error.strerror}; choose another folder with --data") from None
        self._cdn = Cdn(logins=logins)
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
        """See `Parts`."""
        sizes = {entry.file_size_bytes for entry in self._catalog.entries}
        try:
            return await LocalFile(self._files, path).sha256(sizes)
        except (OSError, ValueError) as error:  # a path may be no path at all
            raise Refused(Reason.INVALID, str(error)[:200]) from None
