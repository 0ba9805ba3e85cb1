"""What the control server needs of the node behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from edgecoder.core.effects import Progress, Result
from edgecoder.core.events import Command
from edgecoder.core.ids import CommandId, NodeId
from edgecoder.models.catalog import CatalogEntry

C = TypeVar("C", bound=Command)


class ServedNode(Protocol):
    """A node, its engine and its store."""

    @property
    def node_id(self) -> NodeId:
        """Who it is."""
        ...

    @property
    def engine(self) -> str:
        """What runs its models: `llama.cpp` or `ollama`."""
        ...

    def is_engine_healthy(self) -> bool:
        """Whether the engine answers."""
        ...

    def is_catalog_stale(self) -> bool:
        """Whether nothing new may be fetched, as the catalog's origin was not heard for too long."""
        ...

    def begin(
        self, kind: type[C], *, on_progress: Callable[[Progress], None] | None = None, **fields: Any
    ) -> tuple[CommandId, asyncio.Future[Result]]:
        """Give the node a command. Its id, and its reply when there is one."""
        ...

    def find(self, model: str) -> CatalogEntry | None:
        """The file that a name means here."""
        ...

    def source_of(self, entry: CatalogEntry) -> str:
        """Where a file is, or would come from: local, peer, agent, cdn, ollama or none."""
        ...

    async def import_model(self, path: Path) -> str:
        """Take a model from a file; its id. Raises `driver.Refused`."""
        ...

    async def export_model(self, entry: CatalogEntry) -> Path:
        """A file that holds a model, to be read at once. Raises `driver.Refused`."""
        ...

    async def bytes_at(self, entry: CatalogEntry) -> Path:
        """A file that holds what is here of a model, whole or in parts. Raises `driver.Refused`."""
        ...

    def fetched_by_ollama(self, entry: CatalogEntry) -> AbstractContextManager[None]:
        """Meanwhile Ollama fetches a file from here, so that it need not be given to it."""
        ...
