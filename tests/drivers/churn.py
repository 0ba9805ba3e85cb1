"""A process that installs and removes models until it is killed, and says so as it goes."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from pathlib import Path

from edgecoder.core.effects import PullResult, RemoveResult
from edgecoder.core.events import PullModel, RemoveModel
from edgecoder.models.catalog import Catalog
from edgecoder_drivers.store.files import RealFiles
from tests.drivers.sources import made, storing

SIZE_BYTES = 300_000
CATALOG = Catalog(
    (made("whole", SIZE_BYTES), made("pieces", SIZE_BYTES, tree=True, piece_size_bytes=32_768), made("stays"))
)


def churn(root: Path, told: Connection) -> None:
    """`name?` before something is asked for, `name+` when it is installed, `name-` when it is gone."""
    asyncio.run(_churn(root, told))


async def _churn(root: Path, told: Connection) -> None:
    async with storing(RealFiles(), CATALOG, root=root) as (host, _):
        while True:
            for entry in CATALOG.entries:
                told.send(entry.model_id + "?")
                result = await host.ask(PullModel, model=entry.model_id)
                if isinstance(result, PullResult) and result.reason is None:
                    told.send(entry.model_id + "+")
            for name in ("whole", "pieces"):
                told.send(name + "?")
                result = await host.ask(RemoveModel, model=name)
                if isinstance(result, RemoveResult) and result.reason is None:
                    told.send(name + "-")
