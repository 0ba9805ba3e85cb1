"""A driver that only looks, and tells the core what it sees."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from edgecoder.core.effects import Effect, Operation
from edgecoder_drivers.driver import Operate, Perform, Post


class Watcher:
    """See `driver.Driver`. Who inherits says what it looks at."""

    def __init__(self, name: str) -> None:
        """`name` is its task's."""
        self._name = name
        self._task: asyncio.Task[None] | None = None

    async def _watch(self, post: Post) -> None:
        """Look again and again, until it is cancelled."""
        raise NotImplementedError

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""
        self._task = asyncio.get_running_loop().create_task(self._watch(post), name=self._name)

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`: it is asked for nothing."""
        return {}

    def effects(self) -> Mapping[type[Effect], Perform]:
        """See `driver.Driver`: it does nothing."""
        return {}

    async def close(self) -> None:
        """See `driver.Driver`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
