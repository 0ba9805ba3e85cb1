"""A real file system that loses its power: an ext4 image is copied while a store writes into it.

Between two calls of the store its image is what the device has. Each copy is mounted, which replays its journal, and a
life begins on it. Where nobody may mount, that is what is asserted: then only `test_store_faults` shows this.

Fidelity boundary: the image has what the loop device was given; a real disk may lose what it had taken but not flushed.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgecoder.core.effects import PullResult
from edgecoder.core.events import PullModel
from edgecoder.models.catalog import Catalog
from edgecoder_drivers.store import files as files_module
from edgecoder_drivers.store.files import RealFiles
from tests.drivers.rig import as_kind
from tests.drivers.sources import installed, made, storing

IMAGE_BYTES = 24 << 20
EVERY = 4
"""Calls from one copy to the next."""
WHOLE, IN_PIECES = made("whole"), made("pieces", tree=True, piece_size_bytes=2 * 16_384)
CATALOG = Catalog((WHOLE, IN_PIECES))
CALLS = {"open", "pwrite", "preallocate", "truncate", "fsync", "fsync_folder", "rename", "link", "unlink"}


class _Database(sqlite3.Connection):
    """A database whose commits are calls."""

    call: Any

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql != "COMMIT":
            return super().execute(sql, parameters)
        return self.call(lambda: sqlite3.Connection.execute(self, sql))  # type: ignore[no-any-return]


class WatchedFiles(RealFiles):
    """The file system, with somebody who looks between any two calls that change it; one call at a time."""

    def __init__(self, between: Any) -> None:
        self._between = between
        self._lock = threading.RLock()

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in CALLS:
            return found
        return lambda *args, **kwargs: self._call(lambda: found(*args, **kwargs))

    def _call(self, work: Any) -> Any:
        with self._lock:
            self._between()
            return work()

    def database(self, path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(
            path, timeout=files_module.BUSY_S, isolation_level=None, check_same_thread=False, factory=_Database
        )
        database.call = self._call
        return database


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[str]:
    """An image is mounted for as long as the block runs. Why it may not be, or nothing."""
    folder.mkdir(exist_ok=True)
    try:
        mount = subprocess.run(["mount", "-o", "loop", image, folder], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        yield "there is no mount"
        return
    try:
        yield mount.stderr
    finally:
        if mount.returncode == 0:
            subprocess.run(["umount", folder], check=True)


def pull_all(files: RealFiles, root: Path, told: set[str]) -> None:
    """A life in which both files are pulled."""

    async def live() -> None:
        async with storing(files, CATALOG, root=root) as (host, _), asyncio.timeout(30):
            for entry in CATALOG.entries:
                result = as_kind(await host.ask(PullModel, model=entry.model_id), PullResult)
                assert result.reason is None
                told.add(entry.model_id)

    asyncio.run(live())


def check(image: Path, folder: Path, told: set[str]) -> None:
    """A life on what the power has left."""
    with mounted(image, folder) as obstacle:
        assert obstacle == ""
        root = folder / "store"
        assert asyncio.run(installed(RealFiles(), CATALOG, root)) >= told
        pull_all(RealFiles(), root, set())
        found = {name: len(list((root / name).iterdir())) for name in ("blobs", "partial", "trees", "Models")}
        assert found == {"blobs": 2, "partial": 0, "trees": 1, "Models": 2}


def test_power_that_goes_between_any_two_calls(tmp_path: Path) -> None:
    image, copies = tmp_path / "image", []
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    told: set[str] = set()
    calls = 0

    def between() -> None:
        nonlocal calls
        calls += 1
        if calls % EVERY == 0:
            copy = tmp_path / f"image-{calls}"
            subprocess.run(["cp", "--sparse=always", image, copy], check=True)
            copies.append((copy, set(told)))

    if shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin") is None:
        return  # the module says so
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", image], check=True)
    with mounted(image, tmp_path / "device") as obstacle:
        if obstacle:
            assert any(word in obstacle for word in ("permi", "superuser", "loop device")), obstacle
            return
        pull_all(WatchedFiles(between), tmp_path / "device" / "store", told)
    assert len(copies) > 8
    for copy, before in copies:
        check(copy, tmp_path / "mended", before)
