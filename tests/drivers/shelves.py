"""Stores on a real disk that have three files to pull."""

from __future__ import annotations

import asyncio
from pathlib import Path

from edgecoder.core.effects import ModelRow, PullResult
from edgecoder.core.events import PullModel, QueryModels
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder_drivers.store.blobs import Blobs
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from tests.drivers.rig import as_kind
from tests.drivers.sources import MemorySource, made, storing

WHOLE, OTHER = made("whole"), made("other")
IN_PIECES = made("pieces", tree=True, piece_size_bytes=2 * 16_384)
CATALOG = Catalog((WHOLE, OTHER, IN_PIECES))


def pull(root: Path, *entries: CatalogEntry, source: MemorySource | None = None) -> list[Reason | None]:
    async def live() -> list[Reason | None]:
        async with storing(RealFiles(), CATALOG, source, root=root) as (host, _):
            results = [await host.ask(PullModel, model=entry.model_id) for entry in entries]
            return [as_kind(result, PullResult).reason for result in results]

    return asyncio.run(live())


def states(root: Path) -> dict[str, str]:
    """What a new life says of each file."""

    async def live() -> dict[str, str]:
        async with storing(RealFiles(), CATALOG, root=root) as (host, _):
            rows = as_kind(await host.ask(QueryModels), tuple)
            return {row.entry.model_id: as_kind(row, ModelRow).state for row in rows}

    return asyncio.run(live())


def write_to(path: Path, data: bytes) -> None:
    """Write over the beginning of a file, as the system's administrator may."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(data)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def open_blobs(root: Path, files: RealFiles) -> Blobs:
    """The store as a start finds it."""
    blobs, _ = open_store(root, CATALOG, files)
    blobs.registry.close()
    return blobs


class Counting(RealFiles):
    def __init__(self) -> None:
        self.opened: list[Path] = []

    def open(self, path: Path, *, write: bool = False) -> int:
        self.opened.append(path)
        return super().open(path, write=write)
