"""A process that installs and removes models is killed at random moments, twenty times, on one disk."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from pathlib import Path

from edgecoder.core.effects import PullResult
from edgecoder.core.events import PullModel
from edgecoder_drivers.store.files import RealFiles
from tests.drivers.churn import CATALOG, churn
from tests.drivers.sources import installed, storing

KILLS = 20
LIFE_S = 0.4
"""Longest time from a process's first word to its end: some rounds of everything that it does."""


def killed(root: Path, draw: random.Random) -> dict[str, str]:
    """What a process last said of each model before it was killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.drivers.churn"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=churn, args=(root, theirs))
    process.start()
    theirs.close()
    said = [ours.recv()]
    time.sleep(draw.uniform(0, LIFE_S))
    process.kill()
    process.join()
    try:
        while True:
            said.append(ours.recv())
    except (EOFError, OSError):
        ours.close()
    return {word[:-1]: word[-1] for word in said}


async def mended(root: Path) -> None:
    """Another life gets everything, and leaves nothing else."""
    async with storing(RealFiles(), CATALOG, root=root) as (host, _), asyncio.timeout(30):
        for entry in CATALOG.entries:
            result = None
            while not isinstance(result, PullResult) or result.reason is not None:  # a removal may have to end first
                result = await host.ask(PullModel, model=entry.model_id)
    found = {name: len(list((root / name).iterdir())) for name in ("blobs", "partial", "trees", "Models")}
    assert found == {"blobs": 3, "partial": 0, "trees": 1, "Models": 3}


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    draw = random.Random(5)
    for kill in range(KILLS):
        said = killed(tmp_path, draw)
        now = asyncio.run(installed(RealFiles(), CATALOG, tmp_path))
        for name, last in said.items():
            assert last != "+" or name in now, (kill, said)
            assert last != "-" or name not in now, (kill, said)
        asyncio.run(mended(tmp_path))
