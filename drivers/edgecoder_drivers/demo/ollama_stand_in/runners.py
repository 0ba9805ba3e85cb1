"""The models in the stand-in's memory: real llama.cpp, with Ollama's rules of who comes, stays and goes.

A file runs once, whatever names it has; what was loaded with another context is loaded again; a model whose time is up
goes as soon as nobody uses it; where there is no place, the one whose time is up first makes room.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import xllamacpp

FOR_EVER = datetime(2318, 3, 8, tzinfo=UTC)
"""When a model without an end expires: a Go duration has no longer one."""


class Runner:
    """One model in memory."""

    def __init__(self, path: Path, row: dict[str, Any], context_tokens: int) -> None:
        """`row` is what `/api/tags` said of it. Raises RuntimeError."""
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = context_tokens
        params.n_parallel = 1
        params.warmup = False
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        self.row = row
        self.context_tokens = context_tokens
        self.size_bytes = path.stat().st_size
        self.keep_alive_s = 300.0
        self.expires = math.inf
        self.users = 0
        self.has_crashed = asyncio.Event()
        self.is_free = asyncio.Condition()
        self.llama: Any = xllamacpp.Server(params)


class Runners:
    """All of them, by file."""

    def __init__(self, places: int, began: datetime) -> None:
        """`began` is the time of day."""
        self.places = places
        self._clock_began = began - timedelta(seconds=_now())
        """The time of day at which the loop's clock was 0."""
        self.size_bytes_min = 0
        """What a model takes at least, by what `/api/ps` says."""
        self.loaded: dict[Path, Runner] = {}
        self._one_load = asyncio.Lock()

    @asynccontextmanager
    async def using(
        self, path: Path, row: dict[str, Any], context_tokens: int, keep_alive_s: float | None
    ) -> AsyncIterator[Runner]:
        """The runner of a model, loaded where it is not; `keep_alive_s` None leaves the one that it has. Raises
        RuntimeError."""
        async with self._one_load:
            await self.expire()
            old = self.loaded.get(path)
            if old is not None and old.context_tokens != context_tokens:
                await self._free(path)
            while path not in self.loaded and len(self.loaded) >= self.places:
                await self._free(min(self.loaded, key=lambda other: self.loaded[other].expires))
            if path not in self.loaded:
                runner = await asyncio.to_thread(Runner, path, row, context_tokens)
                self.loaded[path] = runner
            runner = self.loaded[path]
            runner.users += 1
        if keep_alive_s is not None:
            runner.keep_alive_s = keep_alive_s
        try:
            yield runner
        finally:
            runner.users -= 1
            runner.expires = _now() + runner.keep_alive_s
            await asyncio.shield(self._left(runner))

    async def _left(self, runner: Runner) -> None:
        async with runner.is_free:
            runner.is_free.notify_all()
        await self.expire()

    async def _free(self, path: Path) -> None:
        runner = self.loaded[path]
        async with runner.is_free:
            await runner.is_free.wait_for(lambda: not runner.users)
        runner.expires = 0
        await self.expire()

    async def expire(self) -> None:
        """Let go of every runner whose time is up and that nobody uses."""
        for path, runner in list(self.loaded.items()):
            if not runner.users and runner.expires <= _now():
                del self.loaded[path]
                runner.llama = None

    async def stop(self, path: Path) -> None:
        """Somebody said that this one is to go."""
        runner = self.loaded.get(path)
        if runner is not None:
            runner.keep_alive_s, runner.expires = 0, 0
            await self.expire()

    def expires_at(self, runner: Runner) -> datetime:
        """As `/api/ps` says it."""
        if runner.keep_alive_s == math.inf:
            return FOR_EVER
        at_s = _now() + runner.keep_alive_s if runner.expires == math.inf else runner.expires
        return self._clock_began + timedelta(seconds=at_s)

    def crash(self) -> None:
        """The processes that run the models are killed."""
        for runner in self.loaded.values():
            runner.has_crashed.set()
        self.loaded.clear()

    def all(self) -> list[Runner]:
        """The longest to stay first."""
        return sorted(self.loaded.values(), key=lambda runner: -runner.expires)


def _now() -> float:
    return asyncio.get_running_loop().time()
