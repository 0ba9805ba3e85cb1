"""The store on a real disk: what lies where, what a start puts in order, what other programs see."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import FetchFile, ModelRow, Persist, PullResult
from edgecoder.core.events import Event, FetchProgressed, FileFetched, PullModel, QueryModels, RemoveModel
from edgecoder.errors import ConfigError, Reason
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.models.inventory import KEY, DownloadState, FileRow, encode_rows
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.store import fetch as fetch_module
from edgecoder_drivers.store.blobs import Blobs, file_name, view_name
from edgecoder_drivers.store.driver import StoreDriver
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from edgecoder_drivers.store.registry import Registry
from edgecoder_drivers.store.source import LocalFile
from tests.drivers.disks import MemoryDisk
from tests.drivers.rig import as_kind
from tests.drivers.sources import FILE_BYTES, MemorySource, breaks_at, bytes_of, made, storing

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


def test_what_lies_where(tmp_path: Path) -> None:
    assert pull(tmp_path, WHOLE, IN_PIECES) == [None, None]
    assert names(tmp_path / "blobs") == sorted(file_name(entry.sha256) for entry in (WHOLE, IN_PIECES))
    assert names(tmp_path / "trees") == [file_name(IN_PIECES.sha256)]
    assert names(tmp_path / "partial") == []
    assert (tmp_path / "Models" / "whole.gguf").read_bytes() == bytes_of("whole")
    assert (tmp_path / "Models" / "pieces.gguf").read_bytes() == bytes_of("pieces")


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


# -- what a start puts in order ----------------------------------------------------------------------------------------


def test_a_file_that_somebody_deleted_is_not_installed_any_more(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE, OTHER)
    (tmp_path / "blobs" / file_name(WHOLE.sha256)).unlink()
    assert states(tmp_path) == {"whole": "partial", "other": "installed", "pieces": "absent"}
    assert names(tmp_path / "Models") == ["other.gguf"]
    assert pull(tmp_path, WHOLE) == [None]


def test_a_file_that_was_cut_short_is_fetched_again(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE)
    os.truncate(tmp_path / "blobs" / file_name(WHOLE.sha256), 100)
    assert states(tmp_path)["whole"] == "partial"
    source = MemorySource()
    assert pull(tmp_path, WHOLE, source=source) == [None]
    assert source.asked == [(0, FILE_BYTES)]


@pytest.mark.parametrize("damage", [b"", b"SQLite format 3\0" + b"x" * 5000, b"no database"])
def test_a_damaged_registry_is_set_aside_and_the_files_stay(tmp_path: Path, damage: bytes) -> None:
    pull(tmp_path, WHOLE, OTHER)
    (tmp_path / "registry.sqlite").write_bytes(damage)
    (tmp_path / "registry.sqlite-wal").unlink(missing_ok=True)
    write_to(tmp_path / "blobs" / file_name(OTHER.sha256), b"rotten")
    (tmp_path / "partial" / file_name(IN_PIECES.sha256)).write_bytes(b"of which nobody knows")
    assert states(tmp_path) == {"whole": "installed", "other": "absent", "pieces": "absent"}
    assert names(tmp_path / "blobs") == [file_name(WHOLE.sha256)]
    assert names(tmp_path / "partial") == []
    assert (tmp_path / "registry.sqlite.damaged").exists() == (damage != b"")


def test_bytes_that_no_row_tells_of_are_deleted(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE)
    (tmp_path / "partial" / file_name(OTHER.sha256)).write_bytes(b"a part")
    (tmp_path / "trees" / file_name(OTHER.sha256)).write_bytes(b"a tree")
    states(tmp_path)
    assert names(tmp_path / "partial") == names(tmp_path / "trees") == []


def test_what_is_quarantined_or_being_removed_stays_so(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE, OTHER)
    registry = Registry(RealFiles(), tmp_path / "registry.sqlite")
    rows = {WHOLE.sha256: FileRow(DownloadState.QUARANTINED), OTHER.sha256: FileRow(DownloadState.REMOVING)}
    registry.keep(KEY, encode_rows(rows)).result()
    registry.close()
    assert states(tmp_path)["whole"] == "quarantined"
    assert names(tmp_path / "blobs") == [file_name(WHOLE.sha256)]
    assert pull(tmp_path, WHOLE) == [None]
    assert states(tmp_path) == {"whole": "installed", "other": "absent", "pieces": "absent"}


def test_pieces_of_a_file_that_is_gone_do_not_count(tmp_path: Path) -> None:
    source = MemorySource()
    source.before = breaks_at(60_000)

    async def live() -> None:
        async with storing(RealFiles(), CATALOG, source, root=tmp_path) as (host, _):
            heard = asyncio.Event()
            reply = asyncio.ensure_future(host.ask(PullModel, model="pieces", on_progress=lambda progress: heard.set()))
            await heard.wait()
            reply.cancel()

    asyncio.run(live())
    (tmp_path / "partial" / file_name(IN_PIECES.sha256)).unlink()
    assert pull(tmp_path, IN_PIECES) == [None]


def test_a_part_that_was_cut_short_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "PROGRESS_S", 0.0)
    source = MemorySource()
    source.before = breaks_at(50_000)
    assert pull(tmp_path, WHOLE, source=source) == [Reason.NO_SOURCE]
    os.truncate(tmp_path / "partial" / file_name(WHOLE.sha256), 40_000)
    again = MemorySource()
    assert pull(tmp_path, WHOLE, source=again) == [None]
    assert again.asked == [(0, FILE_BYTES)]


def test_a_file_that_was_written_to_is_not_installed_any_more(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE, OTHER)
    write_to(tmp_path / "Models" / "whole.gguf", b"mine")
    assert states(tmp_path) == {"whole": "partial", "other": "installed", "pieces": "absent"}
    assert names(tmp_path / "blobs") == [file_name(OTHER.sha256)]
    assert pull(tmp_path, WHOLE) == [None]


def test_a_store_that_was_copied_is_hashed_once_and_stays(tmp_path: Path) -> None:
    pull(tmp_path / "here", WHOLE, IN_PIECES)
    shutil.copytree(tmp_path / "here", tmp_path / "there", symlinks=True)
    files = Counting()
    for opened in (2, 0):
        files.opened.clear()
        assert sorted(open_blobs(tmp_path / "there", files).verified) == sorted((WHOLE.sha256, IN_PIECES.sha256))
        assert len(files.opened) == opened


def test_a_verified_file_is_for_reading_only(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE)
    assert (tmp_path / "Models" / "whole.gguf").stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("folder", ["blobs", "partial", "trees"])
def test_a_name_that_is_no_file_does_not_keep_the_store_shut(tmp_path: Path, folder: str) -> None:
    pull(tmp_path, WHOLE)
    (tmp_path / folder / file_name("0" * 64)).mkdir()
    assert states(tmp_path)["whole"] == "installed"


def test_a_file_that_cannot_be_read_costs_no_other_one(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE, OTHER)
    (tmp_path / "registry.sqlite").unlink()

    class Bad(RealFiles):
        def open(self, path: Path, *, write: bool = False) -> int:
            if WHOLE.sha256 in path.name:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().open(path, write=write)

    assert open_blobs(tmp_path, Bad()).verified.keys() == {OTHER.sha256}
    assert states(tmp_path)["whole"] == "installed"


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


def test_a_registry_without_stamps_is_brought_up_to_date(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE, OTHER)
    with closing(sqlite3.connect(tmp_path / "registry.sqlite", isolation_level=None)) as database:
        for statement in ("ALTER TABLE files DROP COLUMN inode", "PRAGMA user_version = 0"):
            database.execute(statement)
    write_to(tmp_path / "blobs" / file_name(OTHER.sha256), b"rot")
    assert states(tmp_path) == {"whole": "installed", "other": "partial", "pieces": "absent"}


def test_a_registry_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE)
    with closing(sqlite3.connect(tmp_path / "registry.sqlite", isolation_level=None)) as database:
        database.execute("PRAGMA user_version = 7")
    with pytest.raises(ConfigError, match=r"newer EdgeCoder made this store.*; update"):
        open_store(tmp_path, CATALOG, RealFiles())
    with closing(sqlite3.connect(tmp_path / "registry.sqlite")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (7,)


# -- while a node runs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [WHOLE, IN_PIECES], ids=lambda entry: entry.model_id)
@pytest.mark.parametrize(
    ("harm", "reason"),
    [(Path.unlink, Reason.NOT_INSTALLED), (lambda path: write_to(path, b"mine"), Reason.CHECKSUM_MISMATCH)],
    ids=["deleted", "written to"],
)
def test_a_file_that_is_not_what_it_was_is_refused_and_comes_again(
    tmp_path: Path, entry: CatalogEntry, harm: Callable[[Path], None], reason: Reason
) -> None:
    async def live() -> None:
        async with storing(RealFiles(), CATALOG, root=tmp_path) as (host, driver):
            assert as_kind(await host.ask(PullModel, model=entry.model_id), PullResult).reason is None
            path, _ = driver.find(entry)
            harm(path)
            with pytest.raises(Refused) as refused:
                driver.find(entry)
            assert refused.value.reason is reason
            rows = [as_kind(row, ModelRow) for row in as_kind(await host.ask(QueryModels), tuple)]
            assert [row.state for row in rows if row.entry is entry] == ["partial"]
            assert as_kind(await host.ask(PullModel, model=entry.model_id), PullResult).reason is None
            assert driver.find(entry)[0].read_bytes() == bytes_of(entry.model_id)

    asyncio.run(live())


def test_a_file_that_was_only_touched_needs_no_source(tmp_path: Path) -> None:
    source = MemorySource()

    async def live() -> None:
        async with storing(RealFiles(), CATALOG, source, root=tmp_path) as (host, driver):
            await host.ask(PullModel, model="whole")
            os.utime(driver.find(WHOLE)[0])
            with pytest.raises(Refused, match="not what it was"):
                driver.find(WHOLE)
            assert as_kind(await host.ask(PullModel, model="whole"), PullResult).reason is None
            assert driver.find(WHOLE)[0].is_file()

    asyncio.run(live())
    assert len(source.asked) == 1


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
    assert full.used_bytes == 0
    assert asyncio.run(live(MemoryDisk(size_bytes=12 << 20))) is None


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


# -- import and export -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [WHOLE, IN_PIECES], ids=lambda entry: entry.model_id)
def test_a_model_goes_to_a_file_and_comes_from_one(tmp_path: Path, entry: CatalogEntry) -> None:
    there, file = tmp_path / "there", tmp_path / "model.gguf"

    async def export() -> None:
        async with storing(RealFiles(), CATALOG, root=tmp_path / "here") as (host, driver):
            await host.ask(PullModel, model=entry.model_id)
            shutil.copyfile(driver.find(entry)[0], file)
            with pytest.raises(Refused, match="other"):
                driver.find(OTHER)

    async def bring() -> None:
        nobody = MemorySource()
        nobody.before = breaks_at(0)
        async with storing(RealFiles(), CATALOG, nobody, root=there) as (host, driver):
            assert await LocalFile(RealFiles(), file).sha256() == entry.sha256
            with driver.offering(entry, file):
                result = as_kind(await host.ask(PullModel, model=entry.model_id), PullResult)
        assert result.reason is None

    asyncio.run(export())
    asyncio.run(bring())
    assert (there / "blobs" / file_name(entry.sha256)).read_bytes() == bytes_of(entry.model_id)
    assert file.exists()


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
