"""The store on a real disk: what lies where, how files come, what other programs see."""

from __future__ import annotations

import asyncio
import errno
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import FetchFile, Persist, PullResult, RemoveResult
from edgecoder.core.events import Event, FetchProgressed, FileFetched, PullModel, RemoveModel
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder_drivers.store import fetch as fetch_module
from edgecoder_drivers.store import registry as registry_module
from edgecoder_drivers.store.driver import StoreDriver
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from edgecoder_drivers.store.registry import Registry
from edgecoder_drivers.store.view import file_name, view_name
from tests.drivers.disks import MemoryDisk
from tests.drivers.rig import as_kind
from tests.drivers.shelves import CATALOG, IN_PIECES, OTHER, WHOLE, names, pull, states
from tests.drivers.sources import FILE_BYTES, MemorySource, breaks_at, bytes_of, made, storing


def test_what_lies_where(tmp_path: Path) -> None:
    assert pull(tmp_path, WHOLE, IN_PIECES) == [None, None]
    assert names(tmp_path / "blobs") == sorted(file_name(entry.sha256) for entry in (WHOLE, IN_PIECES))
    assert names(tmp_path / "trees") == [file_name(IN_PIECES.sha256)]
    assert names(tmp_path / "partial") == []
    assert (tmp_path / "Models" / "whole.gguf").read_bytes() == bytes_of("whole")
    assert (tmp_path / "Models" / "pieces.gguf").read_bytes() == bytes_of("pieces")


def test_a_file_that_is_being_installed_is_given_meanwhile(tmp_path: Path) -> None:
    """It is renamed before its row is written; who asked for a piece in between was told that it is not here, and asked
    elsewhere for a minute."""
    blobs, _ = open_store(tmp_path, CATALOG, RealFiles())
    store = StoreDriver(blobs, MemorySource())

    async def bytes_at() -> Path:
        try:
            return await store.bytes_at(WHOLE)
        finally:
            await store.close()

    (tmp_path / "blobs" / file_name(WHOLE.sha256)).write_bytes(bytes_of("whole"))
    assert WHOLE.sha256 not in blobs.verified
    assert asyncio.run(bytes_at()).read_bytes() == bytes_of("whole")


def test_no_two_models_have_one_name_in_the_view() -> None:
    ids = ["a/b", "a-b", "a:b", "a.b", "a/b:c", "a/b-c", "a_b"]
    assert len({view_name(model_id) for model_id in ids}) == len(ids)
    assert all("/" not in view_name(model_id) for model_id in ids)


def test_what_others_put_into_the_view_stays(tmp_path: Path) -> None:
    pull(tmp_path, OTHER)
    view = tmp_path / "Models"
    (view / "whole.gguf").write_bytes(b"mine")
    (view / "pieces.gguf").symlink_to("/dev/null")
    (view / "gone.gguf").symlink_to("../blobs/" + file_name(WHOLE.sha256))
    assert pull(tmp_path, WHOLE, IN_PIECES) == [None, None]
    assert (view / "whole.gguf").read_bytes() == b"mine"
    assert (view / "pieces.gguf").readlink() == Path("/dev/null")
    assert names(view) == ["other.gguf", "pieces.gguf", "whole.gguf"]
    states(tmp_path)
    assert names(view) == ["other.gguf", "pieces.gguf", "whole.gguf"]


def test_a_model_whose_name_is_too_long_for_the_view_comes_and_goes(tmp_path: Path) -> None:
    long = msgspec.structs.replace(WHOLE, model_id="a" * 96 + "/" + "b" * 96 + ":" + "c" * 90)
    (tmp_path / "model.gguf").write_bytes(bytes_of("whole"))

    async def live() -> None:
        async with storing(RealFiles(), Catalog((long,)), root=tmp_path) as (host, driver):
            with driver.offering(long, tmp_path / "model.gguf"):
                assert as_kind(await host.ask(PullModel, model=long.model_id), PullResult).reason is None
            removed = await host.ask(RemoveModel, model=long.model_id)
            assert as_kind(removed, RemoveResult).reason is None

    asyncio.run(live())
    assert names(tmp_path / "blobs") == names(tmp_path / "Models") == []


def test_a_removed_file_is_in_the_view_under_no_name(tmp_path: Path) -> None:
    twin = msgspec.structs.replace(WHOLE, model_id="twin")

    async def live() -> None:
        async with storing(RealFiles(), Catalog((twin, WHOLE)), root=tmp_path) as (host, _):
            await host.ask(PullModel, model="whole")
            assert names(tmp_path / "Models") == ["whole.gguf"]
            await host.ask(RemoveModel, model="twin")

    asyncio.run(live())
    assert names(tmp_path / "Models") == []


@pytest.mark.parametrize("lie", [b"no hashes", b""])
def test_a_file_whose_leaf_hashes_are_wrong_comes_whole_and_has_them_then(tmp_path: Path, lie: bytes) -> None:
    source = MemorySource()
    source.lie_of_leaves = lambda _: lie
    assert pull(tmp_path, IN_PIECES, source=source) == [None]
    assert (tmp_path / "trees" / file_name(IN_PIECES.sha256)).read_bytes() == b"".join(leaf_hashes(bytes_of("pieces")))
    assert source.asked == [(0, FILE_BYTES)]


def test_a_file_whose_piece_root_is_wrong_comes_all_the_same(tmp_path: Path) -> None:
    wrong = msgspec.structs.replace(IN_PIECES, piece_root="ab" * 32)

    async def live() -> None:
        async with storing(RealFiles(), Catalog((wrong,)), root=tmp_path) as (host, driver):
            assert as_kind(await host.ask(PullModel, model="pieces"), PullResult).reason is None
            assert driver.find(wrong)[0].is_file()

    asyncio.run(live())
    assert names(tmp_path / "trees") == []


def test_two_processes_do_not_share_a_store(tmp_path: Path) -> None:
    blobs, _ = open_store(tmp_path, CATALOG, RealFiles())
    code = f"""
from pathlib import Path
from edgecoder.models.catalog import Catalog
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
open_store(Path({str(tmp_path)!r}), Catalog(()), RealFiles())
"""
    ran = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    blobs.registry.close()
    assert "another process has this store; stop it, or choose another folder" in ran.stderr


# -- fetches -----------------------------------------------------------------------------------------------------------


def test_a_fetch_that_broke_off_goes_on_where_it_was_in_another_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "PROGRESS_S", 0.0)
    source = MemorySource()
    source.before = breaks_at(50_000)
    assert pull(tmp_path, WHOLE, source=source) == [Reason.NO_SOURCE]
    again = MemorySource()
    assert pull(tmp_path, WHOLE, source=again) == [None]
    assert again.asked == [(50_000, FILE_BYTES)]


def test_what_a_life_had_synced_counts_though_it_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "PROGRESS_S", 0.0)
    source, copy = MemorySource(), tmp_path / "copy"

    async def live() -> None:
        async def copy_at(at: int) -> None:
            if at == 50_000:
                await asyncio.to_thread(shutil.copytree, tmp_path / "store", copy, symlinks=True)

        source.before = copy_at
        async with storing(RealFiles(), CATALOG, source, root=tmp_path / "store") as (host, _):
            await host.ask(PullModel, model="whole")

    asyncio.run(live())
    again = MemorySource()
    assert pull(copy, WHOLE, source=again) == [None]
    assert again.asked == [(50_000, FILE_BYTES)]


@pytest.mark.parametrize(("progress_s", "told"), [(0.0, 9), (60.0, 1)])
def test_progress_is_told_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress_s: float, told: int
) -> None:
    monkeypatch.setattr(fetch_module, "PROGRESS_S", progress_s)
    events: list[Event] = []

    async def live() -> None:
        blobs, _ = open_store(tmp_path, CATALOG, RealFiles())
        driver = StoreDriver(blobs, MemorySource())
        driver.open(events.append)
        assert await driver.operations()[FetchFile](FetchFile(7, WHOLE, 0)) == FileFetched(7, FILE_BYTES)
        await driver.close()

    asyncio.run(live())
    done = [event.bytes_done for event in events if isinstance(event, FetchProgressed)]
    assert len(set(done)) == told
    assert done == sorted(done)
    assert done[-1] == FILE_BYTES


def test_wrong_bytes_are_not_installed_and_not_kept(tmp_path: Path) -> None:
    liar = MemorySource()
    liar.lie = lambda data: bytes(len(data))
    assert pull(tmp_path, WHOLE, source=liar) == [Reason.CHECKSUM_MISMATCH]
    assert names(tmp_path / "blobs") == names(tmp_path / "partial") == names(tmp_path / "Models") == []


def test_a_source_that_ends_early_has_failed(tmp_path: Path) -> None:
    short = MemorySource()
    short.lie = lambda data: data[:-1]
    assert pull(tmp_path, WHOLE, source=short) == [Reason.NO_SOURCE]


def test_a_quota_and_a_full_disk() -> None:
    big = made("big", 3 << 20)

    async def live(disk: MemoryDisk, disk_mb_max: int = 0) -> Reason | None:
        config = NodeConfig(has_radio=False, disk_mb_max=disk_mb_max)
        async with storing(disk, Catalog((big,)), config=config) as (host, _):
            return as_kind(await host.ask(PullModel, model="big"), PullResult).reason

    assert asyncio.run(live(MemoryDisk(), disk_mb_max=2)) is Reason.DISK_FULL
    full = MemoryDisk(size_bytes=10 << 20)
    assert asyncio.run(live(full)) is Reason.DISK_FULL
    assert full.used_bytes == registry_module.RESERVE_BYTES
    assert asyncio.run(live(MemoryDisk(size_bytes=12 << 20))) is None


class LittleRoom(RealFiles):
    """A disk on which the database cannot grow until the reserve is given back; then it can once."""

    def __init__(self) -> None:
        self.databases: list[sqlite3.Connection] = []

    def database(self, path: Path) -> sqlite3.Connection:
        self.databases.append(super().database(path))
        return self.databases[-1]

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.let_grow(100)

    def let_grow(self, pages: int) -> None:
        (count,) = self.databases[-1].execute("PRAGMA page_count").fetchone()
        self.databases[-1].execute(f"PRAGMA max_page_count = {count + pages}")


def test_a_full_disk_gets_the_reserve_once_in_a_life(tmp_path: Path) -> None:
    for life in (1, 2):
        files = LittleRoom()
        registry = Registry(files, tmp_path / "registry.sqlite")
        assert files.stat(tmp_path / "registry.reserve") is not None
        files.let_grow(0)
        registry.keep("key", bytes(200_000 * life)).result()
        assert files.stat(tmp_path / "registry.reserve") is None
        with pytest.raises(OSError, match="full") as full:
            registry.keep("key", bytes(2_000_000)).result()
        assert full.value.errno == errno.ENOSPC
        assert registry.kept() == {"key": bytes(200_000 * life)}
        registry.keep("key", b"").result()
        registry.close()


def test_values_of_one_key_are_written_in_order(tmp_path: Path) -> None:
    async def live() -> None:
        blobs, _ = open_store(tmp_path, CATALOG, RealFiles())
        driver = StoreDriver(blobs, MemorySource())
        persist = driver.operations()[Persist]
        writes = [asyncio.ensure_future(persist(Persist(op, "key", b"%d" % op))) for op in range(200)]
        await asyncio.gather(*writes)
        await driver.close()

    asyncio.run(live())
    assert open_store(tmp_path, CATALOG, RealFiles())[1] == {"key": b"199"}


def test_a_removed_model_leaves_nothing(tmp_path: Path) -> None:
    async def live() -> None:
        async with storing(RealFiles(), CATALOG, root=tmp_path) as (host, _):
            for entry in (WHOLE, IN_PIECES):
                await host.ask(PullModel, model=entry.model_id)
                await host.ask(RemoveModel, model=entry.model_id)

    asyncio.run(live())
    assert [names(tmp_path / folder) for folder in ("blobs", "partial", "trees", "Models")] == [[], [], [], []]
    rows = sqlite3.connect(tmp_path / "registry.sqlite").execute("SELECT * FROM files").fetchall()
    assert rows == []
