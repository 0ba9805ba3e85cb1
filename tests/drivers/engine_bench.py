"""A bench for the contract of engines: a real engine and its driver on the asyncio host, with a script for a node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import cast

from edgecoder.core.effects import CancelOp, Effect, Operation
from edgecoder.core.events import Wake
from edgecoder.core.ids import OpId
from edgecoder.core.node import Node
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.engine import Engine, EngineDriver
from edgecoder_drivers.host import AsyncHost
from tests.drivers.engine_contract import Bad
from tests.scripted import Script


class DriverBench:
    """A `Bench` on the asyncio host."""

    def __init__(
        self,
        host: AsyncHost,
        script: Script,
        files: tuple[CatalogEntry, CatalogEntry],
        bad: Mapping[str, Bad],
        crash: Callable[[], None],
        context_tokens: int,
    ) -> None:
        self._host, self._script = host, script
        self.events = script.heard
        self.files = files
        self.bad = bad
        self.crash = crash
        self.context_tokens = context_tokens

    def perform(self, effect: Operation) -> None:
        self._say(effect)

    def cancel(self, op: OpId) -> None:
        self._say(CancelOp(op))

    async def turn(self) -> None:
        await asyncio.sleep(0.005)

    def _say(self, effect: Effect) -> None:
        self._script.to_say.append(effect)
        self._host.post(Wake())


@asynccontextmanager
async def driver_bench(
    engine: Engine,
    files: tuple[CatalogEntry, CatalogEntry],
    bad: Mapping[str, Bad],
    crash: Callable[[], None],
    context_tokens: int,
) -> AsyncIterator[DriverBench]:
    """A bench with this engine, which is closed at the end."""
    script = Script()
    host = AsyncHost(cast("Node", script), [EngineDriver(engine)])
    host.start({})
    try:
        yield DriverBench(host, script, files, bad, crash, context_tokens)
    finally:
        await host.stop()
