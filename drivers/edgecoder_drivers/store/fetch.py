"""Bytes of a file on their way from a source to the disk, in one go or in pieces.

They gather on the loop and are written, checked and synced in threads, so a source that is slower than the disk costs
few calls, and one that is faster waits. What came before a failure is synced and told, then the failure.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress

from edgecoder.core.effects import FetchFile, FetchPiece
from edgecoder.core.events import FetchProgressed, PieceArrived, PieceFailed, PieceFetched
from edgecoder.errors import Reason
from edgecoder_drivers.driver import Post, Refused
from edgecoder_drivers.store.blobs import CHUNK_BYTES, Blobs, Writer
from edgecoder_drivers.store.pieces import CorruptError, PieceRow
from edgecoder_drivers.store.source import Source
from edgecoder_drivers.store.threads import in_thread

PROGRESS_S = 1.0
"""Time between two pieces of news of a fetch, each of which syncs what came."""
_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def disk_errors() -> Iterator[None]:
    """Errors of the system as reasons."""
    try:
        yield
    except OSError as error:
        raise Refused(Reason.DISK_FULL if error.errno in _FULL else Reason.STORE_FAILED, str(error)) from error


class FileFetch:
    """The rest of a file, in one go."""

    def __init__(self, effect: FetchFile, blobs: Blobs, writer: Writer, first_byte: int, post: Post) -> None:
        self._effect = effect
        self._blobs = blobs
        self._writer = writer
        self._offset = first_byte
        self._buffer = bytearray()
        self._is_broken = False
        self._post = post

    async def run(self, source: Source) -> None:
        """Until all of it is synced. Raises Refused, and OSError."""
        try:
            await self._receive(source)
        except BaseException:
            with suppress(OSError):  # the first fault is the one to tell
                await self._settle()
            raise
        await self._settle()
        if self._offset < self._effect.entry.file_size_bytes:
            raise Refused(Reason.NO_SOURCE, "the source ended early")

    async def _receive(self, source: Source) -> None:
        entry, time = self._effect.entry, asyncio.get_running_loop().time
        due = time() + PROGRESS_S
        async with aclosing(source.read(entry, self._offset, entry.file_size_bytes, is_patient=True)) as coming:
            async for data in coming:
                self._buffer += data
                if time() >= due:
                    await self._settle()
                    due = time() + PROGRESS_S
                elif len(self._buffer) >= CHUNK_BYTES:
                    await in_thread(lambda _: self._flush())

    def _flush(self) -> None:
        self._writer.write(bytes(self._buffer), self._offset)
        self._offset += len(self._buffer)
        self._buffer.clear()

    async def _settle(self) -> None:
        """Sync what came, and tell. Where a sync fails what came since the last one does not count."""
        if not self._is_broken:
            await in_thread(lambda _: self._sync())
            self._post(FetchProgressed(self._effect.op, self._offset))

    def _sync(self) -> None:
        self._flush()
        self._is_broken = True
        self._writer.sync()
        self._is_broken = False
        self._blobs.note_synced(self._effect.entry, self._offset)


class PieceFetch:
    """Pieces in a row."""

    def __init__(self, effect: FetchPiece, row: PieceRow, writer: Writer, post: Post) -> None:
        self._effect = effect
        self._row = row
        self._writer = writer
        self._post = post
        self._buffer = bytearray()
        self._is_over = False
        """Whether the row takes no more."""
        self._next = effect.piece
        """The first piece that nobody was told of."""

    async def run(self, source: Source) -> PieceFetched | PieceFailed:
        """Until all have come, or no more do."""
        row, op = self._row, self._effect.op
        failed = await self._receive(source)
        if not row.is_done:
            if not self._is_over:
                failed = await self._take() or failed
            with suppress(OSError):
                await in_thread(lambda _: row.settle(self._writer))
        self._tell()
        if row.is_done:
            return PieceFetched(op)
        return PieceFailed(op, failed or Reason.NO_SOURCE, row.leaves, row.pending_bytes)

    async def _receive(self, source: Source) -> Reason | None:
        row = self._row
        try:
            async with aclosing(source.read(self._effect.entry, row.first_byte, row.end_byte)) as coming:
                async for data in coming:
                    self._buffer += data
                    if len(self._buffer) >= CHUNK_BYTES and (failed := await self._take()):
                        return failed
        except Refused as refused:
            return refused.reason
        except asyncio.CancelledError:
            return Reason.CANCELLED
        return await self._take()

    async def _take(self) -> Reason | None:
        """Check and write what has gathered."""
        data = bytes(self._buffer)
        self._buffer.clear()
        self._is_over = True
        try:
            with disk_errors():
                await in_thread(lambda _: self._row.take(data, self._writer))
        except CorruptError:
            return Reason.PIECE_CORRUPT
        except Refused as refused:
            return refused.reason
        except asyncio.CancelledError:
            return Reason.CANCELLED
        self._is_over = False
        self._tell()
        return None

    def _tell(self) -> None:
        """Tell of the pieces that are whole, but for the last, whose end is the operation's."""
        end = min(self._row.piece, self._effect.piece + self._effect.count - 1)
        for piece in range(self._next, end):
            self._post(PieceArrived(self._effect.op, piece))
        self._next = max(self._next, end)
