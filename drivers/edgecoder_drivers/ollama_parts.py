"""An agent: Ollama runs its models, and keeps some of the files; the others lie in the agent's own store.

A file that Ollama has, is Ollama's: it is not fetched twice. One with an address comes into the store, piece by piece
or whole, and Ollama is given it when it is verified. One without an address Ollama fetches itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

import structlog

from edgecoder.config import NodeConfig
from edgecoder.core.effects import DeleteFile, Effect, FetchFile, FetchPiece, HashFile, Operation
from edgecoder.core.events import Completion, FileHashed
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.models.held import with_held
from edgecoder_drivers.addresses import Logins
from edgecoder_drivers.driver import Driver, Operate, Perform, Post, Refused
from edgecoder_drivers.ollama.client import Client
from edgecoder_drivers.ollama.copies import Copies
from edgecoder_drivers.ollama.engine import POLL_S, OllamaDriver, OllamaEngine
from edgecoder_drivers.ollama.files import OllamaFiles
from edgecoder_drivers.ollama.giving import Gifts
from edgecoder_drivers.ollama.listing import Listing
from edgecoder_drivers.shelf import Shelf
from edgecoder_drivers.store.driver import OfferedError
from edgecoder_drivers.store.source import PeerSource
from edgecoder_drivers.transfer.connection import Files

LIST_S: Final = 15.0
"""How often Ollama is asked what it keeps: a little of its disk is read each time."""
FIRST_LIST_S: Final = 5.0
"""How long a start waits for that; of many models Ollama reads much."""
_log = structlog.get_logger("edgecoder.ollama")


class OllamaParts:
    """`Parts` of an agent."""

    engine = "ollama"

    def __init__(
        self,
        folder: Path,
        catalog: Catalog,
        config: NodeConfig,
        *,
        host: str | None = None,
        logins: Logins | None = None,
    ) -> None:
        """Opens the store; `host` as Ollama writes it. Raises ConfigError and DriverError, and ValueError where `host`
        is no address."""
        self._shelf = Shelf(folder, catalog, logins)
        self._catalog = catalog
        client = Client(host, copies=Copies(folder / "ollama.copies"))
        self._held = OllamaFiles(client)
        self._listing = Listing(client, catalog, self._stored, poll_s=LIST_S)
        gifts = Gifts(self._held, self._listing, self._shelf.store.path)
        self._ollama = GivingEngine(client, config, folder / "ollama.loaded", gifts)
        self._files = SharedFiles(self._shelf, self._held, self._listing, gifts)
        self._gifts = gifts
        self._given = GivenFiles(self._shelf, self._held)

    def drivers(self) -> list[Driver]:
        """See `Parts`."""
        return [self._files, OllamaDriver(self._ollama, self._listing.tell)]

    async def snapshot(self) -> dict[str, bytes]:
        """See `Parts`: what Ollama has counts as installed, whoever fetched it."""
        files = None
        try:
            async with asyncio.timeout(FIRST_LIST_S):
                files = await self._listing.files()
        except TimeoutError:
            _log.info("ollama has much to tell", effect="its models are listed bit by bit")
        except Refused as error:
            _log.warning("ollama does not answer", detail=str(error), hint="start it; the agent sees it by itself")
        return with_held(self._shelf.snapshot, files)

    def _stored(self) -> tuple[str, ...]:
        return tuple(entry.sha256 for entry in self._catalog.entries if self._shelf.store.path(entry) is not None)

    def is_healthy(self) -> bool:
        """See `Parts`."""
        return self._ollama.is_healthy

    def source_of(self, entry: CatalogEntry) -> str:
        """See `Parts`."""
        return "cdn" if entry.download_urls else "ollama"

    async def sha256_of(self, path: Path) -> str:
        """See `Parts`."""
        return await self._shelf.sha256_of(path)

    def offering(self, entry: CatalogEntry, path: Path) -> AbstractContextManager[None]:
        """See `Parts`."""
        return self._shelf.store.offering(entry, path)

    def take_from(self, peers: Callable[[FetchPiece], PeerSource]) -> None:
        """See `Parts`."""
        self._shelf.store.peers = peers

    @property
    def given(self) -> Files:
        """See `Parts`."""
        return self._given

    def fetched_by_ollama(self, entry: CatalogEntry) -> AbstractContextManager[None]:
        """See `Parts`."""
        return self._gifts.withheld(entry)

    async def path_of(self, entry: CatalogEntry) -> Path:
        """See `Parts`."""
        return self._shelf.store.path(entry) or await self._held.give(entry)


class SharedFiles:
    """The driver of files that lie in the store or with Ollama."""

    def __init__(self, shelf: Shelf, held: OllamaFiles, listing: Listing, gifts: Gifts) -> None:
        self._shelf = shelf
        self._held = held
        self._listing = listing
        self._gifts = gifts
        self._store = shelf.operations()
        self._ollama = held.operations()

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""
        self._shelf.open(post)
        self._held.open(post)
        self._listing.open(post)

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`."""
        return {
            **self._store,
            FetchFile: self._noted(self._fetch),
            HashFile: self._hash,
            DeleteFile: self._noted(self._delete),
        }

    def _noted(self, operate: Operate) -> Operate:
        """The same; what is on the disks may be another before and after."""

        async def noted(effect: Operation) -> Completion:
            self._listing.changes()
            try:
                return await operate(effect)
            finally:
                self._listing.changes()

        return noted

    def effects(self) -> Mapping[type[Effect], Perform]:
        """See `driver.Driver`."""
        return self._shelf.effects()

    async def close(self) -> None:
        """See `driver.Driver`."""
        await self._listing.close()
        await self._gifts.close()
        await self._shelf.close()

    async def _fetch(self, effect: FetchFile) -> Completion:
        entry, store = effect.entry, self._shelf.store
        while True:
            is_ours = bool(entry.download_urls) or store.is_offered(entry)
            if is_ours and not await self._is_held(entry):
                return await self._store[FetchFile](effect)
            with suppress(OfferedError):
                return await store.unless_offered(entry, self._ollama[FetchFile](effect))

    async def _hash(self, effect: HashFile) -> Completion:
        """What is verified is given to Ollama at once. Whether that can be had now changes nothing: it is here. Where
        the store has other bytes, and Ollama the file, the store's go."""
        entry = effect.entry
        if not self._shelf.store.has_bytes(entry):
            return await self._ollama[HashFile](effect)
        completion = await self._store[HashFile](effect)
        if completion == FileHashed(effect.op, entry.sha256):
            with suppress(Refused):
                await self._gifts.offer(entry)
        elif await self._is_held(entry):
            await self._store[DeleteFile](DeleteFile(effect.op, entry))
            return await self._ollama[HashFile](effect)
        return completion

    async def _delete(self, effect: DeleteFile) -> Completion:
        await self._gifts.call_off(effect.entry)
        if await self._is_held(effect.entry):
            await self._ollama[DeleteFile](effect)
        return await self._store[DeleteFile](effect)

    async def _is_held(self, entry: CatalogEntry) -> bool:
        """Whether Ollama has a file; one that does not answer has none."""
        try:
            return await self._held.has(entry)
        except Refused:
            return False


class GivenFiles:
    """The bytes of what others may fetch from an agent: from its store, or from Ollama's folder. `Files` of the
    transfer server."""

    def __init__(self, shelf: Shelf, held: OllamaFiles) -> None:
        self._shelf = shelf
        self._held = held
        self._known: dict[str, tuple[Path, tuple[int, int, int]]] = {}
        """Where Ollama's files lie that were right, and what they were then: it is not asked for each piece."""

    async def bytes_at(self, entry: CatalogEntry) -> Path:
        """See `Files`."""
        store = self._shelf.store
        if store.path(entry) is not None:
            return await store.bytes_at(entry)
        try:
            return await self._whole(entry)
        except Refused:
            if not store.has_bytes(entry):
                raise
            return await store.bytes_at(entry)  # in parts

    async def _whole(self, entry: CatalogEntry) -> Path:
        """Ollama's. Raises Refused."""
        path, stamp = self._known.pop(entry.sha256, (None, None))
        if path is None or _stamp(path) != stamp:
            path = await self._held.give(entry)
            stamp = _stamp(path)
        if stamp is not None:
            self._known[entry.sha256] = path, stamp
        return path

    async def hashes_of(self, entry: CatalogEntry) -> bytes:
        """See `Files`."""
        return await self._shelf.store.hashes_of(entry, await self.bytes_at(entry))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What differs when a file has been written to; None where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


class GivingEngine(OllamaEngine):
    """Ollama, which is given a file from the store before it loads it, if it does not have it."""

    def __init__(self, client: Client, config: NodeConfig, note: Path, gifts: Gifts) -> None:
        """See `OllamaEngine`."""
        super().__init__(client, config, note, poll_s=POLL_S)
        self._gifts = gifts

    async def has(self, entry: CatalogEntry) -> bool:
        """See `OllamaEngine`."""
        return self._gifts.can_give(entry) or await super().has(entry)

    async def provide(self, entry: CatalogEntry) -> None:
        """See `OllamaEngine`."""
        await self._gifts.give(entry)
