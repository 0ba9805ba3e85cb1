"""The store of a node without model files: the values that its core makes durable, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from edgecoder.core.effects import Effect, Operation, Persist
from edgecoder.core.events import Completion, Persisted
from edgecoder.errors import DriverError
from edgecoder_drivers.driver import Operate, Perform, Post
from edgecoder_drivers.store.fetch import disk_errors
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_registry


class KeptDriver:
    """See `driver.Driver`."""

    def __init__(self, folder: Path) -> None:
        """Opens the registry in a folder. Blocks. Raises ConfigError where another process has it, DriverError where
        the disk cannot be used."""
        files = RealFiles()
        try:
            files.make_folder(folder)
            self._registry = open_registry(folder, files)
        except OSError as error:
            raise DriverError(f"{folder}: {error.strerror}; choose another folder with --data") from None
        self.snapshot = self._registry.kept()

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`."""
        return {Persist: self._persist}

    def effects(self) -> Mapping[type[Effect], Perform]:
        """See `driver.Driver`."""
        return {}

    async def close(self) -> None:
        """See `driver.Driver`."""
        await asyncio.to_thread(self._registry.close)

    async def _persist(self, effect: Persist) -> Completion:
        written = self._registry.keep(effect.key, effect.value)  # before anything is awaited: in their order
        with disk_errors():
            await asyncio.shield(asyncio.wrap_future(written))
        return Persisted(effect.op)
