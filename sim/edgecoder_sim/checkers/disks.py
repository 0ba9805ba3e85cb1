"""Disks: a file has room before its bytes come, and model files never take more than there is.

What is on a disk is known from the completions of the host and from what lives start with. Of a file that is partly
there when a life begins it is known only if it was seen to get its room: then it may be missing here, and never too
much.
"""

from __future__ import annotations

import msgspec

from edgecoder.core.effects import AllocateFile, DeleteFile, FetchFile, FetchPiece
from edgecoder.core.events import FetchProgressed, FileAllocated, FileDeleted, FileFetched, Started
from edgecoder.core.ids import OpId
from edgecoder.models.catalog import CatalogEntry
from edgecoder.models.inventory import KEY, DownloadState, FileRow
from edgecoder_sim.checkers.panel import Book, Rule

_WHOLE = (DownloadState.VERIFYING, DownloadState.INSTALLED, DownloadState.QUARANTINED)
_rows = msgspec.msgpack.Decoder(dict[str, FileRow])


class _Disk:
    __slots__ = ("asked", "begun", "size_bytes", "used")

    def __init__(self, size_bytes: int | None) -> None:
        self.size_bytes = size_bytes
        self.used: dict[str, int] = {}
        """Bytes of each file, by SHA-256."""
        self.begun: set[str] = set()
        """Files that have got their room in this life."""
        self.asked: dict[OpId, CatalogEntry] = {}
        """What operations of this life are about."""


class FilesHaveRoom(Rule):
    """A file has room before its bytes come, and all of them fit on the disk."""

    name = "files have room"

    def enter(self) -> None:
        """See `Rule`."""
        self._of: dict[int, _Disk] = {}
        self.panel.on(Started, self._start)
        self.panel.on((AllocateFile, FetchFile, DeleteFile), self._ask)
        self.panel.on(FileAllocated, self._allocated)
        self.panel.on((FetchProgressed, FileFetched), self._came)
        self.panel.on(FileDeleted, self._deleted)
        self.panel.on(FetchPiece, self._ask_for_pieces)

    def _start(self, book: Book, event: Started) -> None:
        try:
            rows = _rows.decode(event.snapshot.get(KEY, b"\x80"))
        except msgspec.DecodeError:
            rows = {}
        disk, entries = self._of.get(book.index), book.catalog.by_digest
        before = {} if disk is None else disk.used
        there = {
            digest: entries[digest].file_size_bytes
            for digest, row in rows.items()
            if digest in entries and (row.state in _WHOLE or digest in before)
        }
        if disk is None:
            free = book.disk_free_bytes
            disk = self._of[book.index] = _Disk(None if free is None else free + sum(there.values()))
        disk.used, disk.begun, disk.asked = there, set(), {}

    def _ask(self, book: Book, effect: AllocateFile | FetchFile | DeleteFile) -> None:
        self._of[book.index].asked[effect.op] = effect.entry

    def _allocated(self, book: Book, event: FileAllocated) -> None:
        entry = self._of[book.index].asked.pop(event.op, None)
        if entry is not None:
            self._take(book, entry)

    def _came(self, book: Book, event: FetchProgressed | FileFetched) -> None:
        entry = self._of[book.index].asked.get(event.op)
        if entry is not None:
            self._take(book, entry)

    def _take(self, book: Book, entry: CatalogEntry) -> None:
        disk = self._of[book.index]
        disk.begun.add(entry.sha256)
        disk.used[entry.sha256] = entry.file_size_bytes
        used = sum(disk.used.values())
        if disk.size_bytes is not None and used > disk.size_bytes:
            self.fail(book, f"has {used} bytes of model files with {entry.model_id}, and room for {disk.size_bytes}")

    def _deleted(self, book: Book, event: FileDeleted) -> None:
        disk = self._of[book.index]
        entry = disk.asked.pop(event.op, None)
        if entry is not None:
            disk.used.pop(entry.sha256, None)
            disk.begun.discard(entry.sha256)

    def _ask_for_pieces(self, book: Book, effect: FetchPiece) -> None:
        if effect.entry.sha256 not in self._of[book.index].begun:
            self.fail(book, f"asks for piece {effect.piece} of {effect.entry.model_id}, for which it has no room yet")
