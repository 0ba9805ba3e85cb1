"""Engines: what runs a model, behind one small port, and the driver that makes one of it.

An engine holds one model or none. Which one, when it changes and what is drained before is the core's; an engine does
what it is told and says why it could not. Loading may take minutes, and a task too: whoever waits may be cancelled at
any time. A load that is cancelled leaves the engine empty.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple, Protocol

from edgecoder.core.effects import Effect, LoadModel, Operation, RunTask, UnloadModel
from edgecoder.core.events import Completion, EngineFailed, ModelLoaded, ModelUnloaded, TaskChunk, TaskDone
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.driver import Operate, Perform, Post


class Part(NamedTuple):
    """A part of an answer."""

    text: str
    tokens: int


class Engine(Protocol):
    """Something that runs models."""

    def watch(self, on_failed: Callable[[Reason], None]) -> None:
        """Whom to tell that the model was lost without being asked: the engine crashed, or somebody else freed it."""
        ...

    async def load(self, entry: CatalogEntry, context_tokens: int) -> int:
        """Load a model, where there is none. Returns the tokens a second that it writes, for one task. Raises Refused
        (load_failed, load_timeout, out_of_memory, engine_crashed, unavailable, or that the file cannot be loaded as it
        is: not_installed, checksum_mismatch, insufficient_memory); then there is none, as before."""
        ...

    async def unload(self) -> None:
        """Free the model; where there is none, nothing happens. Raises Refused (unload_failed): it is still there."""
        ...

    def generate(self, prompt: str, max_tokens: int) -> AsyncIterator[Part]:
        """Answer a prompt, part by part; as many at once as the node has slots. Raises Refused (engine_crashed,
        out_of_memory, no_model, too_large, unavailable; cancelled, when the model is freed meanwhile)."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class EngineDriver:
    """The driver of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._post: Post = lambda event: None

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""
        self._post = post
        self._engine.watch(lambda reason: post(EngineFailed(reason)))

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`."""
        return {LoadModel: self._load, UnloadModel: self._unload, RunTask: self._run}

    def effects(self) -> Mapping[type[Effect], Perform]:
        """See `driver.Driver`."""
        return {}

    async def close(self) -> None:
        """See `driver.Driver`."""
        await self._engine.close()

    async def _load(self, effect: LoadModel) -> Completion:
        return ModelLoaded(effect.op, await self._engine.load(effect.entry, effect.context_tokens))

    async def _unload(self, effect: UnloadModel) -> Completion:
        await self._engine.unload()
        return ModelUnloaded(effect.op)

    async def _run(self, effect: RunTask) -> Completion:
        tokens = 0
        async for part in self._engine.generate(effect.prompt, effect.max_tokens):
            tokens += part.tokens
            self._post(TaskChunk(effect.op, part.text, part.tokens))
        return TaskDone(effect.op, tokens)
