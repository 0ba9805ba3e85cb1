"""Drivers that keep everything in memory and do as they are told: what the asyncio host is tested with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from edgecoder.core.effects import (
    Advertise,
    AllocateFile,
    DeleteFile,
    Effect,
    FetchFile,
    HashFile,
    LoadModel,
    Operation,
    Persist,
    RunTask,
    Send,
    UnloadModel,
)
from edgecoder.core.events import (
    Advertised,
    Completion,
    Event,
    FetchProgressed,
    FileAllocated,
    FileDeleted,
    FileFetched,
    FileHashed,
    ModelLoaded,
    ModelUnloaded,
    Persisted,
    TaskChunk,
    TaskDone,
)
from edgecoder_drivers.driver import Operate, Perform, Post


class MemoryDriver:
    """A store, an engine and a radio in one."""

    def __init__(self) -> None:
        self.disk: dict[str, bytes] = {}
        self.done: list[Operation] = []
        self.sent: list[Effect] = []
        self.is_closed = False
        self.before: dict[type[Operation], Callable[[], Any]] = {}
        """What is awaited before an operation of a kind ends: it may wait, and raise."""
        self._post: Post = lambda event: None

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""
        self._post = post

    def say(self, event: Event) -> None:
        """Post an event unasked."""
        self._post(event)

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`."""
        answers: dict[type[Operation], Callable[[Any], Completion]] = {
            Persist: self._persist,
            Advertise: lambda effect: Advertised(effect.op, 0),
            LoadModel: lambda effect: ModelLoaded(effect.op, 20),
            UnloadModel: lambda effect: ModelUnloaded(effect.op),
            RunTask: self._run,
            FetchFile: self._fetch,
            HashFile: lambda effect: FileHashed(effect.op, effect.entry.sha256),
            AllocateFile: lambda effect: FileAllocated(effect.op),
            DeleteFile: lambda effect: FileDeleted(effect.op),
        }
        return {kind: self._operate(answer) for kind, answer in answers.items()}

    def effects(self) -> Mapping[type[Effect], Perform]:
        """See `driver.Driver`."""
        return {Send: self.sent.append}

    async def close(self) -> None:
        """See `driver.Driver`."""
        self.is_closed = True

    def _operate(self, answer: Callable[[Any], Completion]) -> Operate:
        async def operate(effect: Operation) -> Completion:
            await asyncio.sleep(0)
            wait = self.before.get(type(effect))
            if wait is not None:
                await wait()
            self.done.append(effect)
            return answer(effect)

        return operate

    def _persist(self, effect: Persist) -> Completion:
        self.disk[effect.key] = effect.value
        return Persisted(effect.op)

    def _run(self, effect: RunTask) -> Completion:
        for word in ("def ", "add"):
            self._post(TaskChunk(effect.op, word, 1))
        return TaskDone(effect.op, 2)

    def _fetch(self, effect: FetchFile) -> Completion:
        self._post(FetchProgressed(effect.op, effect.entry.file_size_bytes // 2))
        return FileFetched(effect.op, effect.entry.file_size_bytes)
