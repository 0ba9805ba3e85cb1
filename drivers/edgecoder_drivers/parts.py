"""The parts of a node that differ between a device and an agent: its store, its engine, and who has which file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from edgecoder.core.effects import FetchPiece
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.driver import Driver
from edgecoder_drivers.store.source import PeerSource
from edgecoder_drivers.transfer.connection import Files


class Parts(Protocol):
    """Store and engine of one node."""

    @property
    def engine(self) -> str:
        """What runs its models: `llama.cpp` or `ollama`."""
        ...

    def drivers(self) -> list[Driver]:
        """Who carries out what the core asks for."""
        ...

    async def snapshot(self) -> dict[str, bytes]:
        """What to start a life with."""
        ...

    def is_healthy(self) -> bool:
        """Whether the engine answers."""
        ...

    def source_of(self, entry: CatalogEntry) -> str:
        """Where a file that is not here would come from: cdn, ollama or none."""
        ...

    async def sha256_of(self, path: Path) -> str:
        """What a file of this machine hashes to, if the catalog has one of its size. Raises Refused."""
        ...

    def offering(self, entry: CatalogEntry, path: Path) -> AbstractContextManager[None]:
        """Meanwhile a file on this machine takes the CDN's place."""
        ...

    def take_from(self, peers: Callable[[FetchPiece], PeerSource]) -> None:
        """Pieces may come from peers from now on."""
        ...

    @property
    def given(self) -> Files:
        """The bytes of what others may fetch."""
        ...

    def fetched_by_ollama(self, entry: CatalogEntry) -> AbstractContextManager[None]:
        """Meanwhile Ollama fetches a file from this node, and is not given it besides."""
        ...

    async def path_of(self, entry: CatalogEntry) -> Path:
        """Where an installed file can be read. Raises Refused."""
        ...
