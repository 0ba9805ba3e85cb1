"""The real store keeps the contract of stores, on a disk that is small and with a source that is slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from edgecoder.core.effects import CancelOp, Effect, Operation
from edgecoder.core.events import Wake
from edgecoder.core.ids import OpId
from edgecoder.core.node import Node
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.host import AsyncHost
from edgecoder_drivers.store.blobs import RESERVE_BYTES
from edgecoder_drivers.store.driver import StoreDriver
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from tests.drivers.sources import MemorySource, made
from tests.drivers.store_contract import StoreContract
from tests.scripted import Script

SIZE_BYTES = 40 * 16_384 + 5
FILES = tuple(made(name, SIZE_BYTES, tree=True, piece_size_bytes=4 * 16_384) for name in ("one", "two"))
CATALOG = Catalog(FILES)


class SmallDisk(RealFiles):
    """A disk with room for one file and a half."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def free_bytes(self, path: Path) -> int:  # noqa: ARG002
        files = [*(self._root / "blobs").iterdir(), *(self._root / "partial").iterdir()]
        return RESERVE_BYTES + SIZE_BYTES * 3 // 2 - sum(file.stat().st_size for file in files)


class DriverBench:
    """A `Bench` on the asyncio host."""

    def __init__(self, host: AsyncHost, script: Script, source: MemorySource, root: Path) -> None:
        self._host, self._script, self._source, self._root = host, script, source, root
        self.events = script.heard
        self.files = (FILES[0], FILES[1])
        self._is_down = False
        source.before = self._before_chunk

    async def _before_chunk(self, _: int) -> None:
        await asyncio.sleep(0.004)
        if self._is_down:
            raise Refused(Reason.NO_SOURCE)

    def perform(self, effect: Operation) -> None:
        self._say(effect)

    def cancel(self, op: OpId) -> None:
        self._say(CancelOp(op))

    def cut_off(self, *, is_down: bool) -> None:
        self._is_down = is_down

    async def kept(self) -> dict[str, bytes]:
        await self._host.stop()
        blobs, snapshot = open_store(self._root, CATALOG, RealFiles())
        blobs.registry.close()
        return snapshot

    async def turn(self) -> None:
        await asyncio.sleep(0.004)

    def _say(self, effect: Effect) -> None:
        self._script.to_say.append(effect)
        self._host.post(Wake())


class TestRealStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.root = tmp_path

    @asynccontextmanager
    async def bench(self) -> AsyncIterator[DriverBench]:
        source, script = MemorySource(chunk_bytes=10_000), Script()
        blobs, _ = open_store(self.root, CATALOG, SmallDisk(self.root))
        host = AsyncHost(cast("Node", script), [StoreDriver(blobs, source)])
        host.start({})
        yield DriverBench(host, script, source, self.root)
        await host.stop()
