"""llama.cpp engines with tiny models, and with a library that fails as it is told to."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edgecoder.config import NodeConfig
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.demo.tiny_gguf import make
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.llamacpp.engine import LlamaEngine, VerifiedFile
from edgecoder_drivers.llamacpp.process import Patience

ROOT = Path(__file__).parents[2]
LIBRARY = "tests.drivers.faulty_llama"
CONTEXT_TOKENS = 512
PATIENCE = Patience()


class Files:
    """Verified files by entry."""

    def __init__(self) -> None:
        self._files: dict[str, VerifiedFile] = {}

    def add(self, path: Path, entry: CatalogEntry, *, is_known: bool = True) -> CatalogEntry:
        """Verified now; whether what it is now is written down."""
        stat = path.stat()
        self._files[entry.sha256] = VerifiedFile(path, (stat.st_ino, stat.st_mtime_ns) if is_known else None)
        return entry

    def find(self, entry: CatalogEntry) -> VerifiedFile:
        """See `LlamaEngine`."""
        if entry.sha256 not in self._files:
            raise Refused(Reason.NOT_INSTALLED)
        return self._files[entry.sha256]


def engine_of(
    files: Files, library: str | None = None, *, patience: Patience = PATIENCE, config: NodeConfig | None = None
) -> LlamaEngine:
    """An engine with one thread and two slots."""
    settings = config or NodeConfig(slots=2)
    return LlamaEngine(files.find, settings, library=library, threads=1, patience=patience)


def pid_of(engine: LlamaEngine) -> int:
    """The process that holds the model."""
    assert engine._child is not None
    return engine._child.pid


def kill(engine: LlamaEngine, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to the process that holds the model."""
    os.kill(pid_of(engine), number)


class Bench:
    """An engine with the faulty library, and what it said unasked."""

    def __init__(self, folder: Path, engine: LlamaEngine, files: Files) -> None:
        self.folder, self.engine, self.files = folder, engine, files
        self.failures: list[Reason] = []
        engine.watch(self.failures.append)

    def entry(self, fault: str) -> CatalogEntry:
        path = self.folder / f"{fault}.gguf"
        return self.files.add(path, make(path, name=fault.replace(" ", "-")))

    async def load(self, fault: str = "sound") -> int:
        return await self.engine.load(self.entry(fault), CONTEXT_TOKENS)

    async def answer(self, prompt: str = "well", max_tokens: int = 3) -> str:
        return "".join([part.text async for part in self.engine.generate(prompt, max_tokens)])

    async def refused(self, awaited: Awaitable[object]) -> Refused:
        with pytest.raises(Refused) as refused:
            await awaited
        return refused.value


def benches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """Makes benches with files in a folder. Their processes find the tests."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))

    def make_bench(patience: Patience = PATIENCE, load_timeout_ms: int = 60_000, slots: int = 2) -> Bench:
        files = Files()
        config = NodeConfig(slots=slots, load_timeout_ms=load_timeout_ms)
        return Bench(folder, engine_of(files, LIBRARY, patience=patience, config=config), files)

    return make_bench


def run(bench: Bench, test: Callable[[], Awaitable[None]]) -> None:
    """Run a test; then the engine is closed, and works no worse than before where it is not."""

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()
            await bench.load()
            assert await bench.answer() == "word word word "
            await bench.engine.close()

    asyncio.run(bounded())
