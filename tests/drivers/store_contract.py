"""What every store does, simulated or real: told as effects, seen as the events that come of them.

A store has room for one of its two files at a time, and one source, which is slow enough to be interrupted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from edgecoder.core.effects import AllocateFile, DeleteFile, FetchFile, FetchPiece, HashFile, Operation, Persist, Source
from edgecoder.core.events import (
    AllocateFailed,
    Completion,
    Event,
    FetchFailed,
    FetchProgressed,
    FileAllocated,
    FileDeleted,
    FileFetched,
    FileHashed,
    HashFailed,
    Persisted,
    PieceArrived,
    PieceFailed,
    PieceFetched,
)
from edgecoder.core.ids import OpId
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry

TURNS_MAX = 2_000
C = TypeVar("C", bound=Completion)


class Bench(Protocol):
    """A store, and a source of files."""

    @property
    def events(self) -> list[Event]:
        """What came of it, in order."""
        ...

    @property
    def files(self) -> tuple[CatalogEntry, CatalogEntry]:
        """Two files of several pieces, for which there is no room at once."""
        ...

    def perform(self, effect: Operation) -> None:
        """Carry out an effect."""
        ...

    def cancel(self, op: OpId) -> None:
        """As by CancelOp."""
        ...

    def cut_off(self, *, is_down: bool) -> None:
        """The source is gone, or there again."""
        ...

    async def kept(self) -> dict[str, bytes]:
        """What a next life starts with."""
        ...

    async def turn(self) -> None:
        """Let a little time pass, in which a little of a file comes."""
        ...


class Talk:
    """A conversation with a store."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.file, self.other = bench.files
        self.pieces = self.file.layout.piece_count
        self._ops = 0

    def begin(self, effect: Callable[[OpId], Operation]) -> OpId:
        self._ops += 1
        self.bench.perform(effect(self._ops))
        return self._ops

    async def do(self, kind: type[C], effect: Callable[[OpId], Operation]) -> C:
        """The one completion of an operation, which is of this type."""
        return await self.completion(self.begin(effect), kind)

    async def completion(self, op: OpId, kind: type[C]) -> C:
        for _ in range(TURNS_MAX):
            found = [event for event in self.of(op) if isinstance(event, Completion)]
            if found:
                assert isinstance(found[0], kind), found
                return found[0]
            await self.bench.turn()
        raise AssertionError(f"it does not come: {self.bench.events[-5:]}")

    async def some(self) -> None:
        """Until a part of what is asked for has come."""
        for _ in range(20):
            await self.bench.turn()

    def of(self, op: OpId) -> list[Event]:
        return [event for event in self.bench.events if getattr(event, "op", None) == op]

    def arrived(self, op: OpId) -> list[int]:
        return [event.piece for event in self.of(op) if isinstance(event, PieceArrived)]

    def done(self, op: OpId) -> list[int]:
        return [event.bytes_done for event in self.of(op) if isinstance(event, FetchProgressed)]

    def check(self) -> None:
        """Each operation has one completion, and nothing comes of it after that."""
        for op in range(1, self._ops + 1):
            ends = [event for event in self.of(op) if isinstance(event, Completion)]
            assert len(ends) == 1, self.of(op)
            assert self.of(op)[-1] is ends[0], "something came after the completion"


class StoreContract:
    """To be inherited by the tests of a store."""

    def bench(self) -> AbstractAsyncContextManager[Bench]:
        """A store that is empty, for one test."""
        raise NotImplementedError

    def run(self, test: Callable[[Talk], Awaitable[None]]) -> None:
        """Run a test, and see that each operation got its completion."""

        async def with_bench() -> None:
            async with self.bench() as bench, asyncio.timeout(60):
                talk = Talk(bench)
                await test(talk)
                await talk.some()
                talk.check()

        asyncio.run(with_bench())

    def test_values_are_kept_and_the_last_one_of_a_key_counts(self) -> None:
        async def test(talk: Talk) -> None:
            writes = [talk.begin(lambda op: Persist(op, f"key {op % 2}", b"%d" % op)) for _ in range(20)]
            for op in writes:
                await talk.completion(op, Persisted)
            assert await talk.bench.kept() == {"key 0": b"20", "key 1": b"19"}

        self.run(test)

    def test_a_file_comes_is_hashed_and_goes(self) -> None:
        async def test(talk: Talk) -> None:
            file = talk.file
            fetched = await talk.do(FileFetched, lambda op: FetchFile(op, file, 0))
            assert fetched.size_bytes == file.file_size_bytes
            assert (await talk.do(FileHashed, lambda op: HashFile(op, file))).sha256 == file.sha256
            again = await talk.do(FileFetched, lambda op: FetchFile(op, file, file.file_size_bytes))
            assert again.size_bytes == file.file_size_bytes
            await talk.do(FileDeleted, lambda op: DeleteFile(op, file))

        self.run(test)

    def test_a_file_that_is_not_there_may_be_deleted(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.do(FileDeleted, lambda op: DeleteFile(op, talk.file))

        self.run(test)

    def test_room_is_taken_once_and_given_back(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.do(FileAllocated, lambda op: AllocateFile(op, talk.file))
            await talk.do(FileAllocated, lambda op: AllocateFile(op, talk.file))
            for _ in range(2):
                refused = await talk.do(AllocateFailed, lambda op: AllocateFile(op, talk.other))
                assert refused.reason is Reason.DISK_FULL
            assert (await talk.do(FetchFailed, lambda op: FetchFile(op, talk.other, 0))).reason is Reason.DISK_FULL
            await talk.do(FileFetched, lambda op: FetchFile(op, talk.file, 0))
            await talk.do(FileDeleted, lambda op: DeleteFile(op, talk.file))
            await talk.do(FileAllocated, lambda op: AllocateFile(op, talk.other))

        self.run(test)

    def test_a_cancelled_fetch_keeps_what_came(self) -> None:
        async def test(talk: Talk) -> None:
            op = talk.begin(lambda op: FetchFile(op, talk.file, 0))
            await talk.some()
            talk.bench.cancel(op)
            assert (await talk.completion(op, FetchFailed)).reason is Reason.CANCELLED
            told = talk.done(op)
            assert told == sorted(told)
            assert 0 < told[-1] < talk.file.file_size_bytes
            await talk.do(FileFetched, lambda op: FetchFile(op, talk.file, told[-1]))
            assert (await talk.do(FileHashed, lambda op: HashFile(op, talk.file))).sha256 == talk.file.sha256

        self.run(test)

    def test_a_file_is_deleted_as_soon_as_nothing_fetches_it(self) -> None:
        async def test(talk: Talk) -> None:
            op = talk.begin(lambda op: FetchFile(op, talk.file, 0))
            await talk.some()
            talk.bench.cancel(op)
            await talk.completion(op, FetchFailed)
            await talk.do(FileDeleted, lambda op: DeleteFile(op, talk.file))
            await talk.do(FileAllocated, lambda op: AllocateFile(op, talk.other))  # there is room for one of them
            await talk.do(FileDeleted, lambda op: DeleteFile(op, talk.other))
            await talk.do(FileFetched, lambda op: FetchFile(op, talk.file, 0))
            assert (await talk.do(FileHashed, lambda op: HashFile(op, talk.file))).sha256 == talk.file.sha256

        self.run(test)

    def test_without_a_source_nothing_comes_and_what_came_stays(self) -> None:
        async def test(talk: Talk) -> None:
            op = talk.begin(lambda op: FetchFile(op, talk.file, 0))
            await talk.some()
            talk.bench.cut_off(is_down=True)
            assert (await talk.completion(op, FetchFailed)).reason is Reason.NO_SOURCE
            came = talk.done(op)[-1]
            assert 0 < came < talk.file.file_size_bytes
            assert (await talk.do(FetchFailed, lambda op: FetchFile(op, talk.file, came))).reason is Reason.NO_SOURCE
            failed = await talk.do(PieceFailed, lambda op: FetchPiece(op, talk.file, 0, 0, Source.CDN))
            assert failed.reason is Reason.NO_SOURCE
            talk.bench.cut_off(is_down=False)
            await talk.do(FileFetched, lambda op: FetchFile(op, talk.file, came))
            assert (await talk.do(FileHashed, lambda op: HashFile(op, talk.file))).sha256 == talk.file.sha256

        self.run(test)

    def test_pieces_come_in_their_order(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.do(FileAllocated, lambda op: AllocateFile(op, talk.file))
            half = talk.pieces // 2
            rows = [(0, half), (half, talk.pieces - half)]
            ops = [
                talk.begin(lambda op, row=row: FetchPiece(op, talk.file, row[0], 0, Source.CDN, row[1]))  # type: ignore[misc]
                for row in rows
            ]
            for op, (first, count) in zip(ops, rows, strict=True):
                await talk.completion(op, PieceFetched)
                assert talk.arrived(op) == list(range(first, first + count - 1))
            assert (await talk.do(FileHashed, lambda op: HashFile(op, talk.file))).sha256 == talk.file.sha256

        self.run(test)

    def test_cancelled_pieces_leave_whole_leaves(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.do(FileAllocated, lambda op: AllocateFile(op, talk.file))
            op = talk.begin(lambda op: FetchPiece(op, talk.file, 0, 0, Source.CDN, talk.pieces))
            await talk.some()
            talk.bench.cancel(op)
            failed = await talk.completion(op, PieceFailed)
            assert failed.reason is Reason.CANCELLED
            piece = len(talk.arrived(op))
            assert talk.arrived(op) == list(range(piece))
            assert (piece, failed.leaves) > (0, 0)
            assert failed.leaves < len(talk.file.layout.leaves_of(piece))
            rest = talk.pieces - piece
            await talk.do(PieceFetched, lambda op: FetchPiece(op, talk.file, piece, failed.leaves, Source.CDN, rest))
            assert (await talk.do(FileHashed, lambda op: HashFile(op, talk.file))).sha256 == talk.file.sha256

        self.run(test)

    def test_what_is_cancelled_at_once_has_its_end(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.do(FileFetched, lambda op: FetchFile(op, talk.file, 0))
            op = talk.begin(lambda op: HashFile(op, talk.file))
            talk.bench.cancel(op)
            end = await talk.completion(op, Completion)
            assert isinstance(end, FileHashed) or (isinstance(end, HashFailed) and end.reason is Reason.CANCELLED)

        self.run(test)
