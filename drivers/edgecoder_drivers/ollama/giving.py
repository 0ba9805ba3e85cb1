"""Files of the node's own store that go to Ollama: each once at a time, and to its end.

A large one is sent, hashed and, from Ollama 0.30 on, written anew, which takes longer than a load may. So it is given
as soon as it is verified; where that could not be, with its first load, and it goes on when that is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.ollama.files import OllamaFiles
from edgecoder_drivers.ollama.listing import Listing

_log = structlog.get_logger("edgecoder.ollama")


class Gifts:
    """What is on its way."""

    def __init__(self, held: OllamaFiles, listing: Listing, path_of: Callable[[CatalogEntry], Path | None]) -> None:
        """`path_of` says where the store has a verified file."""
        self._held = held
        self._listing = listing
        self._path_of = path_of
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._withheld: list[str] = []

    def can_give(self, entry: CatalogEntry) -> bool:
        """Whether the store has a file."""
        return self._path_of(entry) is not None

    @contextmanager
    def withheld(self, entry: CatalogEntry) -> Iterator[None]:
        """Meanwhile Ollama gets a file in another way: it is given no earlier than a load of it needs that."""
        self._withheld.append(entry.sha256)
        try:
            yield
        finally:
            self._withheld.remove(entry.sha256)

    async def offer(self, entry: CatalogEntry) -> None:
        """Give a file that was just verified, unless Ollama gets it in another way. Raises Refused."""
        if entry.sha256 not in self._withheld:
            await self.give(entry)

    async def give(self, entry: CatalogEntry) -> None:
        """Have Ollama hold a file that the store has. Who stops waiting does not stop it. Raises Refused."""
        path = self._path_of(entry)
        if path is None:
            return
        gift = self._under_way.get(entry.sha256)
        if gift is None:
            gift = asyncio.get_running_loop().create_task(self._give(entry, path), name=f"give {entry.model_id}")
            self._under_way[entry.sha256] = gift
            gift.add_done_callback(lambda _: self._under_way.pop(entry.sha256))
            gift.add_done_callback(_note)
        await asyncio.shield(gift)

    async def _give(self, entry: CatalogEntry, path: Path) -> None:
        if not await self._held.has(entry):
            with self._listing.changing():
                await self._held.take(entry, path)

    async def call_off(self, entry: CatalogEntry) -> None:
        """Give this one no more."""
        await _end([gift for digest, gift in self._under_way.items() if digest == entry.sha256])

    async def close(self) -> None:
        """Give none any more."""
        await _end(list(self._under_way.values()))


async def _end(gifts: list[asyncio.Task[None]]) -> None:
    for gift in gifts:
        gift.cancel()
    if gifts:
        await asyncio.wait(gifts)


def _note(gift: asyncio.Task[None]) -> None:
    """Nobody may be waiting for it any more."""
    error = None if gift.cancelled() else gift.exception()
    if error is not None:
        hint = "it is tried again when the model is loaded"
        reason = error.reason.value if isinstance(error, Refused) else type(error).__name__
        _log.warning("not given to ollama", what=gift.get_name(), reason=reason, detail=str(error), hint=hint)
