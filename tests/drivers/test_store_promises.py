"""What each completion of a store promises, held at once: whatever fails, what was told is on the disk to stay."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from edgecoder.core.effects import AllocateFile, FetchFile, FetchPiece, HashFile, Operation, Source
from edgecoder.core.events import (
    Completion,
    Event,
    FetchFailed,
    FetchProgressed,
    FileAllocated,
    FileFetched,
    FileHashed,
    HashFailed,
    PieceArrived,
    PieceFailed,
    PieceFetched,
)
from edgecoder.core.failures import FAILURES
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.store import blobs as blobs_module
from edgecoder_drivers.store import fetch as fetch_module
from edgecoder_drivers.store import files as files_module
from edgecoder_drivers.store.driver import StoreDriver
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from edgecoder_drivers.store.threads import NICE, in_background, in_thread
from edgecoder_drivers.store.view import file_name
from tests.drivers.disks import Fault, MemoryDisk
from tests.drivers.sources import FILE_BYTES, ROOT, MemorySource, breaks_at, bytes_of, made

ENTRY = made("pieces", tree=True, piece_size_bytes=2 * LEAF_BYTES)
DATA = bytes_of("pieces")
PART = ROOT / "partial" / file_name(ENTRY.sha256)
LAYOUT = ENTRY.layout
FAULTS = [fault for fault in Fault if not fault.is_cut]


class Bench:
    """A store without a core: operations go in, and what it says comes out."""

    def __init__(self) -> None:
        self.disk, self.source = MemoryDisk(), MemorySource()
        blobs, _ = open_store(ROOT, Catalog((ENTRY,)), self.disk)
        self.driver = StoreDriver(blobs, self.source)
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] = lambda event: None

    def open(self) -> None:
        """From within the loop."""
        self.driver.open(self._take)

    def _take(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    async def do(self, effect: Operation) -> Completion:
        """The completion, as the host makes it."""
        try:
            completion = await self.driver.operations()[type(effect)](effect)
        except Refused as refused:
            completion = FAILURES[type(effect)](effect.op, refused.reason)
        self._take(completion)
        return completion


def bench(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def bounded() -> None:
        table = Bench()
        table.open()
        async with asyncio.timeout(30):
            await test(table)
        await table.driver.close()
        assert table.disk.open_handles == 0

    asyncio.run(bounded())


def every_call(test: Callable[[Bench], Awaitable[None]], fault: Fault) -> None:
    """The test with a fault at each call in turn."""
    hit, call = True, 0
    while hit:
        call += 1

        async def one(table: Bench, call: int = call) -> None:
            nonlocal hit
            await table.do(AllocateFile(1, ENTRY))
            table.disk.fail(call, fault)
            await test(table)
            hit = table.disk.was_hit
            table.disk.fault = None

        bench(one)
    assert call > 3


def is_durable(disk: MemoryDisk, first: int, end: int) -> bool:
    found = disk.durable(PART)
    return found is not None and found[first:end] == DATA[first:end]


@pytest.mark.parametrize("fault", FAULTS)
def test_pieces_that_are_told_are_durable(fault: Fault) -> None:
    async def fetch(table: Bench) -> None:
        def check(event: Event) -> None:
            match event:
                case PieceArrived(piece=piece):
                    assert is_durable(table.disk, LAYOUT.piece_offset(piece), LAYOUT.piece_offset(piece + 1))
                case PieceFetched():
                    assert is_durable(table.disk, 0, FILE_BYTES)
                case PieceFailed(leaves=leaves):
                    arrived = sum(isinstance(event, PieceArrived) for event in table.events)
                    first = LAYOUT.piece_offset(arrived)
                    assert is_durable(table.disk, first, min(first + leaves * LEAF_BYTES, FILE_BYTES))
                case _:
                    pass

        table.on_event = check
        await table.do(FetchPiece(2, ENTRY, 0, 0, Source.CDN, LAYOUT.piece_count))
        assert isinstance(table.events[-1], PieceFetched) or table.disk.was_hit

    every_call(fetch, fault)


@pytest.mark.parametrize("fault", FAULTS)
def test_bytes_that_are_told_are_durable(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "PROGRESS_S", 0.0)

    async def fetch(table: Bench) -> None:
        def check(event: Event) -> None:
            if isinstance(event, FetchProgressed):
                assert is_durable(table.disk, 0, event.bytes_done)

        table.on_event = check
        last = await table.do(FetchFile(2, ENTRY, 0))
        done = [event.bytes_done for event in table.events if isinstance(event, FetchProgressed)]
        assert last == FileFetched(2, FILE_BYTES) or (isinstance(last, FetchFailed) and table.disk.was_hit)
        assert not isinstance(last, FileFetched) or done[-1] == FILE_BYTES

    every_call(fetch, fault)


@pytest.mark.parametrize("fault", FAULTS)
def test_room_that_is_refused_is_free(fault: Fault) -> None:
    hit, call = True, 0
    while hit:
        call += 1

        async def allocate(table: Bench, call: int = call) -> None:
            nonlocal hit
            before = table.disk.tree()
            table.disk.fail(call, fault)
            completion = await table.do(AllocateFile(1, ENTRY))
            hit, table.disk.fault = table.disk.was_hit, None
            assert isinstance(completion, FileAllocated) != hit
            assert isinstance(completion, FileAllocated) or table.disk.tree() == before
            assert not hit or await table.do(AllocateFile(2, ENTRY)) == FileAllocated(2)

        bench(allocate)
    assert call > 4


def test_a_file_with_another_hash_is_not_installed_for_a_moment() -> None:
    async def fetch(table: Bench) -> None:
        table.source.lie = lambda data: bytes(len(data))
        await table.do(FetchFile(1, ENTRY, 0))
        hashed = await table.do(HashFile(2, ENTRY))
        assert isinstance(hashed, FileHashed)
        assert hashed.sha256 != ENTRY.sha256
        assert table.driver.path(ENTRY) is None
        assert not [path for path in table.disk.tree() if "/blobs/" in path]

    bench(fetch)


def test_a_bad_leaf_is_its_sources_and_is_not_written() -> None:
    async def fetch(table: Bench) -> None:
        at = 3 * LEAF_BYTES + 5
        table.source.lie = lambda data: data[:at] + b"?" + data[at + 1 :]
        await table.do(AllocateFile(1, ENTRY))
        failed = await table.do(FetchPiece(2, ENTRY, 0, 0, Source.CDN, 3))
        assert table.events[1:-1] == [PieceArrived(2, 0)]
        assert isinstance(failed, PieceFailed)
        assert (failed.reason, failed.leaves) == (Reason.PIECE_CORRUPT, 1)
        assert failed.wasted_bytes >= LEAF_BYTES
        assert is_durable(table.disk, 0, 3 * LEAF_BYTES)
        found = table.disk.durable(PART)
        assert found is not None
        assert found[3 * LEAF_BYTES :] == bytes(FILE_BYTES - 3 * LEAF_BYTES)

    bench(fetch)


def test_a_piece_that_broke_off_goes_on_at_its_leaf() -> None:
    async def fetch(table: Bench) -> None:
        await table.do(AllocateFile(1, ENTRY))
        table.source.before = breaks_at(20_000)
        failed = await table.do(FetchPiece(2, ENTRY, 0, 0, Source.CDN))
        assert failed == PieceFailed(2, Reason.NO_SOURCE, 1, 20_000 - LEAF_BYTES)
        table.source.before = None
        assert await table.do(FetchPiece(3, ENTRY, 0, 1, Source.CDN)) == PieceFetched(3)
        assert table.source.asked[-1] == (LEAF_BYTES, 2 * LEAF_BYTES)
        assert is_durable(table.disk, 0, 2 * LEAF_BYTES)

    bench(fetch)


def test_leaf_hashes_that_are_not_of_the_root_prove_nothing() -> None:
    async def fetch(table: Bench) -> None:
        await table.do(AllocateFile(1, ENTRY))
        table.source.lie_of_leaves = lambda data: data[::-1]
        assert await table.do(FetchPiece(2, ENTRY, 0, 0, Source.CDN)) == PieceFailed(2, Reason.NO_PROOFS)
        table.source.lie_of_leaves = lambda data: data
        assert await table.do(FetchPiece(3, ENTRY, 0, 0, Source.CDN)) == PieceFetched(3)

    bench(fetch)


def test_pieces_of_a_verified_file_need_no_source() -> None:
    async def fetch(table: Bench) -> None:
        await table.do(FetchFile(1, ENTRY, 0))
        await table.do(HashFile(2, ENTRY))
        table.source.asked.clear()
        assert await table.do(FetchPiece(3, ENTRY, 0, 0, Source.CDN, 2)) == PieceFetched(3)
        assert table.events[-2] == PieceArrived(3, 0)
        assert await table.do(FetchFile(4, ENTRY, 0)) == FileFetched(4, FILE_BYTES)
        assert table.source.asked == []

    bench(fetch)


def test_a_file_that_rotted_comes_again_from_the_beginning() -> None:
    async def fetch(table: Bench) -> None:
        await table.do(FetchFile(1, ENTRY, 0))
        await table.do(HashFile(2, ENTRY))
        path = table.driver.path(ENTRY)
        assert path is not None
        table.disk.write_to(path, b"rot", 100)
        assert await table.do(FetchFile(3, ENTRY, 0)) == FileFetched(3, FILE_BYTES)
        assert await table.do(HashFile(4, ENTRY)) == FileHashed(4, ENTRY.sha256)
        assert table.source.asked == [(0, FILE_BYTES), (0, FILE_BYTES)]

    bench(fetch)


def test_a_hash_that_is_cancelled_does_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs_module, "CHUNK_BYTES", 1000)

    async def fetch(table: Bench) -> None:
        await table.do(FetchFile(1, ENTRY, 0))
        loop, hashing = asyncio.get_running_loop(), asyncio.ensure_future(table.do(HashFile(2, ENTRY)))
        pread, may_go_on = table.disk.pread, threading.Event()

        def cancels(handle: int, size: int, offset: int) -> bytes:
            if offset == 5000:
                loop.call_soon_threadsafe(hashing.cancel)
                loop.call_soon_threadsafe(loop.call_soon, may_go_on.set)
                may_go_on.wait(20)
            return pread(handle, size, offset)

        table.disk.calls.clear()
        table.disk.pread = cancels  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await hashing
        assert table.disk.calls.count("pread") == 6
        assert table.driver.path(ENTRY) is None

    bench(fetch)


@pytest.mark.parametrize("beside", [in_thread, in_background])
def test_what_is_cancelled_twice_waits_for_its_thread_all_the_same(
    beside: Callable[[Callable[[threading.Event], None]], Coroutine[Any, Any, None]],
) -> None:
    async def live() -> None:
        began, may_end, has_ended = asyncio.Event(), threading.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def work(stop: threading.Event) -> None:
            loop.call_soon_threadsafe(began.set)
            may_end.wait(20)
            assert stop.is_set()
            has_ended.set()

        task = asyncio.ensure_future(beside(work))
        await began.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.wait({task}, timeout=0.01)
            assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert has_ended.is_set()

    asyncio.run(live())


@pytest.mark.parametrize("is_right", [True, False])
def test_work_in_the_background_ends_as_any_other(is_right: bool) -> None:
    def work(_: threading.Event) -> int:
        if not is_right:
            raise OSError("no")
        return 7

    if is_right:
        assert asyncio.run(in_background(work)) == 7
    else:
        with pytest.raises(OSError, match="no"):
            asyncio.run(in_background(work))


def test_only_what_is_in_the_background_steps_back() -> None:
    def nice(_: threading.Event) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def live() -> tuple[int, int, int]:
        return await in_thread(nice), await in_background(nice), await in_thread(nice)

    before, background, after = asyncio.run(live())
    assert background == max(before, NICE)
    assert before == after == os.getpriority(os.PRIO_PROCESS, 0)


def test_a_file_whose_leaf_hashes_do_not_come_keeps_no_other_one_waiting() -> None:
    async def fetch(table: Bench) -> None:
        other = made("other", tree=True, piece_size_bytes=2 * LEAF_BYTES)
        asked, leaves = asyncio.Event(), table.source.leaf_hashes

        async def hangs(entry: CatalogEntry) -> bytes:
            if entry is other:
                asked.set()
                await asyncio.Event().wait()
            return await leaves(entry)

        table.source.leaf_hashes = hangs  # type: ignore[method-assign]
        await table.do(AllocateFile(1, ENTRY))
        waiting = asyncio.ensure_future(table.do(FetchPiece(2, other, 0, 0, Source.CDN)))
        await asked.wait()
        assert await table.do(FetchPiece(3, ENTRY, 0, 0, Source.CDN)) == PieceFetched(3)
        waiting.cancel()
        await asyncio.wait({waiting})

    bench(fetch)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_cannot_keep_room_has_to_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def cannot(*_: int) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    files = RealFiles()
    handle = files.open(tmp_path / "file", write=True)
    files.preallocate(handle, 0, 60_000)
    files.preallocate(handle, 60_000, 100_000)
    assert files.fstat(handle).size_bytes == 100_000
    files.preallocate(handle, 0, 50_000)
    assert files.fstat(handle).size_bytes == 100_000
    with pytest.raises(OSError, match="space"):
        files.preallocate(handle, 100_000, files.free_bytes(tmp_path) * 2)
    assert files.fstat(handle).size_bytes == 100_000
    files.close(handle)


@pytest.mark.parametrize("have", [0, 10_000])
def test_room_that_is_not_wanted_any_more_is_free(monkeypatch: pytest.MonkeyPatch, have: int) -> None:
    monkeypatch.setattr(blobs_module, "SLICE_BYTES", 30_000)

    async def allocate(table: Bench) -> None:
        if have:
            handle = table.disk.open(PART, write=True)
            table.disk.pwrite(handle, DATA[:have], 0)
            table.disk.close(handle)
        before, loop = table.disk.tree(), asyncio.get_running_loop()
        task, may_go_on = asyncio.ensure_future(table.do(AllocateFile(1, ENTRY))), threading.Event()
        preallocate = table.disk.preallocate

        def cancels(handle: int, first: int, end: int) -> None:
            if first == 30_000:
                loop.call_soon_threadsafe(task.cancel)
                loop.call_soon_threadsafe(loop.call_soon, may_go_on.set)
                may_go_on.wait(20)
            assert first <= 30_000
            preallocate(handle, first, end)

        table.disk.preallocate = cancels  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await task
        assert table.disk.tree() == before

    bench(allocate)


def test_where_a_full_sync_cannot_be_had_a_plain_one_has_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: int) -> None:
        raise OSError(errno.ENOTSUP, "no")

    def fails(*_: int) -> None:
        raise OSError(errno.EIO, "broken")

    synced: list[int] = []
    monkeypatch.setattr(files_module, "_FULL_SYNC", 51)
    monkeypatch.setattr(fcntl, "fcntl", refuses)
    monkeypatch.setattr(os, "fsync", synced.append)
    files = RealFiles()
    handle = files.create(tmp_path / "file")
    files.fsync(handle)
    assert synced == [handle]
    monkeypatch.setattr(os, "fsync", refuses)
    files.fsync_folder(tmp_path)
    with pytest.raises(OSError, match="no"):
        files.fsync(handle)
    monkeypatch.setattr(fcntl, "fcntl", fails)
    with pytest.raises(OSError, match="broken"):
        files.fsync(handle)
    with pytest.raises(OSError, match="broken"):
        files.fsync_folder(tmp_path)
    files.close(handle)


def test_a_folder_that_is_made_is_durable_up_to_one_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(RealFiles, "fsync_folder", lambda _, path: synced.append(path))
    for _ in range(2):
        RealFiles().make_folder(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "it")
    with pytest.raises(OSError, match="it is no file"):
        RealFiles().open(tmp_path / "it")


def test_a_file_that_is_written_to_while_it_is_hashed_is_not_installed() -> None:
    async def fetch(table: Bench) -> None:
        await table.do(FetchFile(1, ENTRY, 0))
        pread = table.disk.pread

        def writes(handle: int, size: int, offset: int) -> bytes:
            found = pread(handle, size, offset)
            if not found:  # it has been read
                table.disk.write_to(PART, b"rot", 100)
            return found

        table.disk.pread = writes  # type: ignore[method-assign]
        failed = await table.do(HashFile(2, ENTRY))
        assert isinstance(failed, HashFailed)
        assert failed.reason is Reason.STORE_FAILED
        assert table.driver.path(ENTRY) is None

    bench(fetch)


def test_what_is_written_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        RealFiles().open(tmp_path / "link", write=True)
