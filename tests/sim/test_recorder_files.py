"""The files of the recorder: written while the run goes on, whole after an interrupt, clear about a full disk."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from edgecoder.core.ids import Medium
from edgecoder.errors import DiskFull, Reason
from edgecoder.trace import (
    CatalogChanged,
    CloneSeen,
    CoordinatorTold,
    Dropped,
    IdentityShared,
    PeerLearned,
    Record,
)
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.recording.files import GROUP_ROWS, open_new, size_text
from edgecoder_sim.tables import DROPS, TABLES
from tests.sim import made_runs as made
from tests.sim.made_runs import IDS, PEER, PHONE, SECOND, rows


def drops(recorder: Recorder, count: int) -> None:
    """Many rows for one table, none like another, so that they do not compress away."""
    for number in range(count):
        what = f"frame {number * 2_654_435_761 % 1_000_003}"
        recorder.record(number, PHONE, Dropped(what, Reason.OVERFLOW))


def test_rows_go_to_disk_while_the_run_goes_on(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    file = tmp_path / DROPS.file_name
    drops(recorder, GROUP_ROWS - 1)
    before = file.stat().st_size
    drops(recorder, 3 * GROUP_ROWS)
    assert file.stat().st_size > before + 50_000
    recorder.close(made.MINUTE)
    found = pq.ParquetFile(file)
    assert found.metadata.num_rows == 4 * GROUP_ROWS - 1
    assert found.metadata.num_row_groups == 4
    assert max(found.metadata.row_group(group).num_rows for group in range(4)) == GROUP_ROWS


def test_an_interrupted_run_leaves_whole_tables(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    metrics: dict[str, float] = {}

    def run() -> None:
        try:
            made.tell_all(recorder)
            recorder.record(31 * SECOND, PHONE, made.submitted(4))
            raise KeyboardInterrupt
        finally:
            metrics.update(recorder.close(31 * SECOND))

    with pytest.raises(KeyboardInterrupt):
        run()
    assert [row["reason"] for row in rows(tmp_path, "tasks")] == [None, None, "no_route", "unfinished"]
    assert metrics["tasks_unfinished"] == 1
    assert pd.read_parquet(tmp_path / "gossip.parquet").shape[0] > 0


class SmallDisk:
    """A file on a disk with room for so many bytes."""

    def __init__(self, file: IO[bytes], room_bytes: int) -> None:
        self._file = file
        self._room_bytes = room_bytes
        self.closed = False

    def write(self, data: bytes) -> int:
        if len(data) > self._room_bytes:
            raise OSError(28, "No space left on device")
        self._room_bytes -= len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self.closed = True
        self._file.close()

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def small_disk(room_bytes: int, **others_bytes: int) -> Callable[[Path], Any]:
    """Opens files of which that of the drops, and perhaps some others, have little room."""
    room = {"drops": room_bytes, **others_bytes}
    return lambda path: SmallDisk(open_new(path), room.get(path.stem, 1 << 30))


def dev_full(path: Path) -> IO[bytes]:
    """Opens files of which that of the drops is on a disk without any."""
    return Path("/dev/full").open("wb") if path.stem == "drops" else open_new(path)


@pytest.mark.parametrize("open_file", [small_disk(20_000), dev_full], ids=["small", "dev-full"])
def test_a_full_disk_is_one_clear_error_and_spares_the_other_tables(tmp_path: Path, open_file: Any) -> None:
    recorder = made.recorder(tmp_path, open_file=open_file)
    made.tell_all(recorder)
    with pytest.raises(DiskFull) as caught:
        drops(recorder, 2 * GROUP_ROWS)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}: the disk is full: ")
    assert "of this run are written, another 797.8 kB do not fit" in said  # what did not fit: a row group
    assert said.endswith("do not fit; free some space, or give --out a directory on another disk")
    assert caught.value.exit_code == 3
    drops(recorder, GROUP_ROWS)  # whoever goes on is not stopped again
    assert recorder.close(made.MINUTE)["tasks_submitted"] == 3
    for name in TABLES.keys() - {"drops"}:
        rows(tmp_path, name)
    assert len(rows(tmp_path, "nodes")) == len(made.NAMES)
    gc.collect()


def test_what_waits_when_the_disk_is_full_is_given_up_and_tears_nothing(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path, open_file=small_disk(20_000, gossip=10_000))
    for number in range(1, 5000):
        recorder.record(number * number, PHONE, PeerLearned(IDS[PEER], number, loading=False, medium=Medium.BLE))
    with pytest.raises(DiskFull):
        drops(recorder, GROUP_ROWS)
    recorder.close(made.MINUTE)
    assert rows(tmp_path, "gossip") == []
    gc.collect()


def test_a_disk_that_is_full_at_the_end(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path, open_file=dev_full)
    made.tell_all(recorder)
    with pytest.raises(DiskFull, match="and the rest does not fit"):
        recorder.close(made.MINUTE)
    assert len(rows(tmp_path, "tasks")) == 3
    gc.collect()


def test_a_disk_that_is_full_at_the_begin(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="the disk is full"):
        made.recorder(tmp_path, open_file=small_disk(2))
    gc.collect()


def test_another_failure_of_the_disk_is_no_full_disk(tmp_path: Path) -> None:
    def broken(path: Path) -> IO[bytes]:
        raise OSError(5, "Input/output error", str(path))

    with pytest.raises(OSError, match="Input/output error"):
        made.recorder(tmp_path, open_file=broken)


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_340_000, "2.3 MB"), (5 * 10**9, "5.0 GB")]
)
def test_sizes_for_people(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


OF_REAL_NODES = {CatalogChanged, CloneSeen, CoordinatorTold, IdentityShared}
"""In a simulated world catalogs, keys and the addresses of coordinators are what they are from the beginning."""


def test_every_record_of_the_vocabulary_leaves_something() -> None:
    assert made.recorder().kinds == set(Record.__subclasses__()) - OF_REAL_NODES
