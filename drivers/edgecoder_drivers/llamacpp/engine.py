"""The engine on llama.cpp: each model that is loaded gets a process of its own, which ends with it.

So what is freed is free, whatever llama.cpp does; a load or a task is given up by ending or leaving the process, and a
crash, a hang or a want of memory over there is a completion with a reason here. What is judged before a load (the
file's identity, its header, the memory that is free) is judged by the process itself, before llama.cpp sees the file.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import structlog

from edgecoder.config import NodeConfig
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.engine import Part
from edgecoder_drivers.llamacpp.messages import (
    Alive,
    Cancel,
    Ended,
    FromChild,
    Generate,
    Load,
    Loaded,
    NotLoaded,
    Wrote,
)
from edgecoder_drivers.llamacpp.port import installed_library
from edgecoder_drivers.llamacpp.process import ChildProcess, Lost, Patience

UNLOAD_S: Final = 10.0
"""A process that was killed and is still there after this waits for a device that does not answer."""
MIB: Final = 1 << 20
_PATIENCE: Final = Patience()
_log = structlog.get_logger("edgecoder.llamacpp")


class VerifiedFile(NamedTuple):
    """A file whose digest was computed and is the entry's."""

    path: Path
    identity: tuple[int, int] | None = None
    """Its inode and time of change in ns as they were then, where somebody wrote them down: a file that has others is
    not loaded. Its size is looked at in any case."""


class LlamaEngine:
    """An `Engine`."""

    def __init__(
        self,
        find: Callable[[CatalogEntry], VerifiedFile],
        config: NodeConfig,
        *,
        library: str | None = None,
        threads: int | None = None,
        patience: Patience = _PATIENCE,
        prefix: str = "edgecoder-",
    ) -> None:
        """`find` says where an entry's file is, or raises Refused; `library` is the module of a `port.Library`, the
        first one that is installed when it is None. Folders for temporary files get the `prefix`: of a process that is
        killed while it loads one is left. Raises DriverError where no library is."""
        self._find = find
        self._config = config
        self._library = library or installed_library()
        self._threads = threads
        self._patience = patience
        self._prefix = prefix
        self._on_failed: Callable[[Reason], None] = lambda reason: None
        self._child: ChildProcess | None = None
        self._is_loading = False
        self._answer: asyncio.Future[Loaded | NotLoaded] | None = None
        self._parts: dict[int, asyncio.Queue[Wrote | Ended]] = {}
        self._tasks = 0

    def watch(self, on_failed: Callable[[Reason], None]) -> None:
        """See `Engine`."""
        self._on_failed = on_failed

    # -- loading -------------------------------------------------------------------------------------------------------

    async def load(self, entry: CatalogEntry, context_tokens: int) -> int:
        """See `Engine`."""
        if self._child is not None or self._is_loading:
            raise Refused(Reason.OUT_OF_MEMORY, "a model is there already")
        file = self._find(entry)
        self._is_loading = True
        try:
            with TemporaryDirectory(prefix=self._prefix, ignore_cleanup_errors=True) as folder:
                load = Load(
                    path=os.fsencode(file.path.absolute()),
                    folder=os.fsencode(folder),
                    size_bytes=entry.file_size_bytes,
                    identity=file.identity,
                    context_tokens=context_tokens,
                    cache_bytes_per_token=entry.kv_bytes_per_token,
                    overhead_bytes=self._config.engine_overhead_mb * MIB,
                    slots=self._config.slots,
                    threads=self._threads,
                )
                async with asyncio.timeout(self._config.load_timeout_ms / 1000):
                    return await self._start(load)
        except TimeoutError:
            raise Refused(Reason.LOAD_TIMEOUT) from None
        except OSError as error:
            raise Refused(Reason.UNAVAILABLE, f"no process of the engine: {error}") from None
        finally:
            self._is_loading = False

    async def _start(self, load: Load) -> int:
        child = await ChildProcess.start(self._library, self._take, self._patience)
        self._answer = asyncio.get_running_loop().create_future()
        try:
            child.send(load)
            either: set[asyncio.Future[Any]] = {self._answer, child.ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            answer = self._answer.result() if self._answer.done() else None
            if isinstance(answer, Loaded):
                child.watch(answer.tokens_per_s)
                child.ended.add_done_callback(self._gone)
                self._child = child
                return max(1, int(answer.tokens_per_s))
        finally:
            if self._child is not child:
                child.kill(Lost(Reason.ENGINE_CRASHED, "given up"))
                await asyncio.wait({child.ended}, timeout=UNLOAD_S)
        lost = child.ended.result() if answer is None else child.explain(Lost(answer.reason, answer.detail))
        raise Refused(lost.reason, lost.detail)

    async def unload(self) -> None:
        """See `Engine`."""
        child, self._child = self._child, None
        if child is None:
            return
        self._end_tasks(Lost(Reason.CANCELLED, "the model is unloaded"))
        child.kill(Lost(Reason.ENGINE_CRASHED, "unloaded"))
        await asyncio.wait({child.ended}, timeout=UNLOAD_S)
        if not child.ended.done():
            self._child = child
            raise Refused(Reason.UNLOAD_FAILED, "the engine's process does not end")

    async def close(self) -> None:
        """See `Engine`."""
        await self.unload()

    # -- tasks ---------------------------------------------------------------------------------------------------------

    async def generate(self, prompt: str, max_tokens: int) -> AsyncIterator[Part]:
        """See `Engine`."""
        child = self._child
        if child is None:
            raise Refused(Reason.NO_MODEL)
        self._tasks += 1
        task = self._tasks
        parts = self._parts[task] = asyncio.Queue[Wrote | Ended]()
        try:
            child.send(Generate(task, prompt, max_tokens))
            while isinstance(part := await parts.get(), Wrote):
                if part.text or part.tokens:
                    yield Part(part.text, part.tokens)
            if part.reason is not None:
                raise Refused(part.reason, part.detail)
        finally:
            if self._parts.pop(task, None) is not None:
                child.send(Cancel(task))

    def _take(self, message: FromChild) -> None:
        match message:
            case Loaded() | NotLoaded():
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(message)
            case Wrote(task=task) if task in self._parts:
                self._parts[task].put_nowait(message)
            case Ended(task=task) if task in self._parts:
                self._parts.pop(task).put_nowait(message)
            case Wrote() | Ended() | Alive():
                pass  # of a task that was cancelled

    def _end_tasks(self, lost: Lost) -> None:
        while self._parts:
            task, parts = self._parts.popitem()
            parts.put_nowait(Ended(task, lost.reason, lost.detail))

    def _gone(self, ended: asyncio.Task[Lost]) -> None:
        """The process of a model has ended."""
        if ended.cancelled() or self._child is None or self._child.ended is not ended:
            return  # as it was told to, or with the loop
        self._child, lost = None, ended.result()
        _log.warning("model lost", reason=lost.reason.value, detail=lost.detail)
        self._end_tasks(lost)
        self._on_failed(lost.reason)
