"""What a start of a store puts in order."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edgecoder.core.events import PullModel
from edgecoder.errors import ConfigError, Reason
from edgecoder.models.catalog import Catalog
from edgecoder.models.inventory import KEY, DownloadState, FileRow, encode_rows
from edgecoder_drivers.store import fetch as fetch_module
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from edgecoder_drivers.store.registry import Registry
from edgecoder_drivers.store.view import file_name
from tests.drivers.shelves import CATALOG, IN_PIECES, OTHER, WHOLE, Counting, names, open_blobs, pull, states, write_to
from tests.drivers.sources import FILE_BYTES, MemorySource, breaks_at, storing


def test_a_file_that_somebody_deleted_is_not_installed_any_more(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE, OTHER)
    (tmp_path / "blobs" / file_name(WHOLE.sha256)).unlink()
    assert states(tmp_path) == {"whole": "absent", "other": "installed", "pieces": "absent"}
    assert names(tmp_path / "Models") == ["other.gguf"]
    assert pull(tmp_path, WHOLE) == [None]


def test_a_file_that_was_cut_short_is_fetched_again(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE)
    blob = tmp_path / "blobs" / file_name(WHOLE.sha256)
    blob.chmod(0o644)
    os.truncate(blob, 100)
    assert states(tmp_path)["whole"] == "absent"
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


def test_of_a_model_that_left_the_catalog_only_whole_files_stay(tmp_path: Path) -> None:
    breaks = MemorySource()
    breaks.before = breaks_at(50_000)
    pull(tmp_path, WHOLE)
    assert pull(tmp_path, OTHER, source=breaks) == [Reason.NO_SOURCE]
    assert names(tmp_path / "partial") == [file_name(OTHER.sha256)]
    open_store(tmp_path, Catalog(()), RealFiles())[0].registry.close()
    assert names(tmp_path / "partial") == []
    assert names(tmp_path / "blobs") == [file_name(WHOLE.sha256)]
    assert states(tmp_path)["whole"] == "installed"
    assert pull(tmp_path, OTHER) == [None]


def test_what_is_quarantined_or_being_removed_stays_so(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE, OTHER)
    registry = Registry(RealFiles(), tmp_path / "registry.sqlite")
    rows = {WHOLE.sha256: FileRow(DownloadState.QUARANTINED), OTHER.sha256: FileRow(DownloadState.REMOVING)}
    registry.keep(KEY, encode_rows(rows)).result()
    registry.close()
    assert states(tmp_path)["whole"] == "quarantined"
    assert names(tmp_path / "blobs") == [file_name(WHOLE.sha256)]
    assert pull(tmp_path, WHOLE) == [None]
    lives = (states(tmp_path) for _ in range(20))  # a short one may not get to the end of a removal
    ended = next(found for found in lives if found["other"] != "removing")
    assert ended == {"whole": "installed", "other": "absent", "pieces": "absent"}


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
    assert states(tmp_path) == {"whole": "absent", "other": "installed", "pieces": "absent"}
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


def test_a_registry_without_stamps_is_brought_up_to_date(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE, OTHER)
    with closing(sqlite3.connect(tmp_path / "registry.sqlite", isolation_level=None)) as database:
        for statement in ("ALTER TABLE files DROP COLUMN inode", "PRAGMA user_version = 0"):
            database.execute(statement)
    write_to(tmp_path / "blobs" / file_name(OTHER.sha256), b"rot")
    assert states(tmp_path) == {"whole": "installed", "other": "absent", "pieces": "absent"}


def test_a_registry_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    pull(tmp_path, WHOLE)
    with closing(sqlite3.connect(tmp_path / "registry.sqlite", isolation_level=None)) as database:
        database.execute("PRAGMA user_version = 7")
    with pytest.raises(ConfigError, match=r"newer EdgeCoder made this store.*; update"):
        open_store(tmp_path, CATALOG, RealFiles())
    with closing(sqlite3.connect(tmp_path / "registry.sqlite")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (7,)
