"""An Ollama for tests: the double, and a real server too where OLLAMA_HOST names one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from edgecoder.config import NodeConfig
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.demo.ollama_stand_in.app import NOWHERE
from edgecoder_drivers.demo.tiny_gguf import make
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.ollama.address import address
from edgecoder_drivers.ollama.client import Client, Timeouts
from edgecoder_drivers.ollama.copies import Copies
from edgecoder_drivers.ollama.engine import OllamaEngine
from edgecoder_drivers.ollama.files import OllamaFiles
from tests.drivers.ollama_double.serving import Ollama, doubled

REAL: Final = address() if os.environ.get("OLLAMA_HOST") else None
VERSIONS: Final = {"double": "0.17.1", "double of today": "0.33.2"}
"""The oldest that is supported, and one that makes other files of those that it is given."""
WHERE: Final = [*VERSIONS] if REAL is None else [*VERSIONS, "real"]
PREFIX: Final = "edgecoder-test-"
"""How the names of models begin that tests may delete."""
CONTEXT_TOKENS: Final = 512
TURNS_MAX: Final = 2_000
SHORT: Final = Timeouts(connect=0.5, answer=0.5, load=0.5, first_part=0.5, next_part=0.5, silence=0.5, unload=0.5)
"""For tests in which time runs out."""


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run an asynchronous test, at most for a minute."""

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


async def until(is_so: Callable[[], bool]) -> None:
    """Let time pass until something is so."""
    for _ in range(TURNS_MAX):
        if is_so():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it does not come")


async def refusal(of: Awaitable[object]) -> Reason:
    """Why something is refused."""
    try:
        await of
    except Refused as refused:
        return refused.reason
    raise AssertionError("it was not refused")


def tiny(folder: Path, name: str, rng_seed: int = 0, *, endless: bool = False) -> tuple[CatalogEntry, Path]:
    """A tiny model that Ollama would call NAME:tiny."""
    path = folder / f"{name}.gguf"
    made = make(path, rng_seed=rng_seed, name=f"{PREFIX}{name}-gguf", endless=endless)
    return msgspec.structs.replace(made, aliases=(f"{PREFIX}{name}:tiny",)), path


class Site:
    """A server, and what is connected to it."""

    def __init__(self, host: str, folder: Path, double: Ollama | None) -> None:
        self.host = host
        self.folder = folder
        (folder / "agent").mkdir()
        self.copies = Copies(folder / "agent" / "ollama.copies")
        self.others = Client(host)
        """Another program on the same server."""
        self.failed: list[Reason] = []
        """What the engines' watch was told."""
        self.times_back = 0
        self._double = double
        self._open: list[Callable[[], Awaitable[None]]] = [self.others.close]

    @property
    def double(self) -> Ollama:
        """The double, for what only that can be made to do."""
        assert self._double is not None
        return self._double

    def client(self, timeouts: Timeouts | None = None) -> Client:
        """A connection of ours."""
        client = Client(self.host, timeouts, self.copies)
        self._open.append(client.close)
        return client

    def files(self, timeouts: Timeouts | None = None) -> OllamaFiles:
        """Our files there."""
        return OllamaFiles(self.client(timeouts))

    def engine(
        self, *, timeouts: Timeouts | None = None, config: NodeConfig | None = None, poll_s: float = 0.02
    ) -> OllamaEngine:
        """Our engine there. One after the other stands for lives of one node."""
        client = Client(self.host, timeouts, self.copies)
        return OllamaEngine(client, config or NodeConfig(), self.folder / "loaded", poll_s=poll_s)

    def watched(self, engine: OllamaEngine) -> OllamaEngine:
        """The engine, which looks after its model now, and is closed at the end."""

        async def came_back() -> None:
            self.times_back += 1

        engine.on_back = came_back
        engine.watch(self.failed.append)
        self._open.insert(0, engine.close)
        return engine

    async def running(self) -> list[str]:
        """What it has in memory, by name."""
        return sorted(model.name for model in await self.others.running() if model.name.startswith(PREFIX))

    async def close(self) -> None:
        """Close everything, and delete what tests have left on a server that stays."""
        for close in self._open:
            await close()
        if self._double is None:
            real = Client(self.host)
            for model in await real.held():
                if model.name.startswith(PREFIX):
                    await real.delete(model.name)
            await real.close()


@asynccontextmanager
async def site(where: str, folder: Path, *, registry: str = NOWHERE) -> AsyncIterator[Site]:
    """A server for one test."""
    if where == "real":
        assert REAL is not None
        there = Site(REAL, folder, None)
        try:
            yield there
        finally:
            await there.close()
        return
    async with doubled(folder / "ollama", registry=registry) as double:
        double.faults.version = VERSIONS[where]
        there = Site(double.host, folder, double)
        try:
            yield there
        finally:
            await there.close()
