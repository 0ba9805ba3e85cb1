"""Model files by their SHA-256: `partial/` while they come, `blobs/` once they are verified.

A file is installed in one order: its bytes are synced, it is renamed, the folders are synced, its row is written. So a
row that says verified is true after any crash. With it stands what the file was when it was hashed: one that is another
now has been written to, and counts no more until it was hashed again. Everything here blocks and raises OSError.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.store.files import FileSystem, Stamp
from edgecoder_drivers.store.registry import Registry, Row
from edgecoder_drivers.store.view import View, file_name

CHUNK_BYTES = 1 << 20
"""How much is read or hashed before somebody may cancel."""
SLICE_BYTES = 64 << 20
"""How much room is kept at once before somebody may cancel."""
RESERVE_BYTES = 8 << 20
"""Room that stays for the registry, its log and small files."""
SEALED = 0o444
"""Mode of a file that is verified."""


Also = Callable[[bytes], None]
"""Takes the bytes of a file that is hashed, in their order."""


class StoppedError(Exception):
    """Whoever wanted it does not any more."""


class Writer:
    """A file that is being written: opened with the first bytes, closed by `close`."""

    def __init__(self, files: FileSystem, path: Path) -> None:
        self._files = files
        self._path = path
        self._handle: int | None = None

    def write(self, data: bytes, offset: int) -> None:
        """Write all of it at an offset."""
        if self._handle is None:
            self._handle = self._files.open(self._path, write=True)
        view = memoryview(data)
        while view:
            count = self._files.pwrite(self._handle, view, offset)
            view, offset = view[count:], offset + count

    def sync(self) -> None:
        """Make what was written durable. Where it fails, nothing since the last one counts, nor would a second try:
        the system forgets what it could not write."""
        if self._handle is not None:
            self._files.fsync(self._handle)

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            self._files.close(self._handle)


class Blobs:
    """The model files of one store."""

    def __init__(self, root: Path, files: FileSystem, registry: Registry) -> None:
        """The folders are there."""
        self.files = files
        self.registry = registry
        self.blobs, self.partial, self.trees = (root / name for name in ("blobs", "partial", "trees"))
        self.view = View(files, root / "Models")
        self.verified: dict[str, Stamp] = {}
        """The files whose rows say so, by SHA-256, and what they were when they were hashed."""

    def path(self, sha256: str) -> Path:
        """Where a file lies now."""
        return (self.blobs if sha256 in self.verified else self.partial) / file_name(sha256)

    def is_unchanged(self, sha256: str) -> bool:
        """Whether a verified file is what it was when it was hashed, as far as its stamp tells."""
        return self.files.stat(self.blobs / file_name(sha256)) == self.verified.get(sha256)

    def is_right(self, entry: CatalogEntry, stop: threading.Event) -> bool:
        """Whether a file is verified, still: it is hashed. Raises StoppedError."""
        if entry.sha256 not in self.verified:
            return False
        try:
            return self.digest(entry, stop) == entry.sha256
        except FileNotFoundError:
            return False

    def allocate(self, entry: CatalogEntry, stop: threading.Event) -> bool:
        """Keep room for all of a file, and a little for the registry. Whether some of the file was there. Where there
        is no room nothing has changed. Raises StoppedError."""
        if entry.sha256 in self.verified and (self.is_unchanged(entry.sha256) or self.is_right(entry, stop)):
            return True
        path, size = self.path(entry.sha256), entry.file_size_bytes
        there = self.files.stat(path)
        before = 0 if there is None else there.size_bytes
        if there is None:
            self.forget_synced(entry)
        if self.files.free_bytes(self.partial) < size - before + RESERVE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        try:
            handle = self.files.open(path, write=True)
            try:
                self._extend(handle, size, before, stop)
            finally:
                self.files.close(handle)
            self.files.fsync_folder(self.partial)
        except (OSError, StoppedError):
            if there is None:
                self.files.unlink(path)
            raise
        return there is not None

    def _extend(self, handle: int, size: int, before: int, stop: threading.Event) -> None:
        try:
            self._preallocate(handle, size, stop)
            if before > size:
                self.files.truncate(handle, size)
            self.files.fsync(handle)
        except (OSError, StoppedError):
            self.files.truncate(handle, before)
            raise

    def _preallocate(self, handle: int, size: int, stop: threading.Event) -> None:
        """In parts: a file system that cannot keep room is written to from end to end, which may take minutes."""
        for first in range(0, size, SLICE_BYTES):
            if stop.is_set():
                raise StoppedError
            self.files.preallocate(handle, first, min(first + SLICE_BYTES, size))

    def writer(self, entry: CatalogEntry) -> Writer:
        """Write into a file that has room and is not verified."""
        return Writer(self.files, self.path(entry.sha256))

    def note_synced(self, entry: CatalogEntry, synced_bytes: int) -> None:
        """So many bytes from the first one on are synced."""
        self.registry.put(entry.sha256, Row(synced_bytes, is_verified=False))

    def forget_synced(self, entry: CatalogEntry) -> None:
        """What is there of a file does not count any more."""
        if entry.sha256 in self.registry.rows():
            self.registry.drop(entry.sha256)

    def digest(self, entry: CatalogEntry, stop: threading.Event, also: Also | None = None) -> str:
        """The SHA-256 of a file, which goes to `also` too; one that has the right one is installed then, and another is
        not verified. Raises StoppedError."""
        try:
            found, stamp = self.examine(self.path(entry.sha256), stop, also)
        except FileNotFoundError:
            self.doubt(entry.sha256)
            raise
        if found != entry.sha256:
            self.doubt(entry.sha256)
        elif entry.sha256 not in self.verified:
            self._install(entry, stamp)
        elif self.verified[entry.sha256] != stamp:
            self.vouch(entry.sha256, stamp)
        return found

    def examine(self, path: Path, stop: threading.Event, also: Also | None = None) -> tuple[str, Stamp]:
        """Sync a file: its SHA-256, and what it is. Raises StoppedError; OSError also where it was written to
        meanwhile."""
        handle = self.files.open(path)
        try:
            self.files.fsync(handle)
            stamp = self.files.fstat(handle)
            found = hash_file(self.files, handle, stop, also)
            if self.files.fstat(handle) != stamp:
                raise OSError(errno.EBUSY, "it is being written to", str(path))
        finally:
            self.files.close(handle)
        return found, stamp

    def _install(self, entry: CatalogEntry, stamp: Stamp) -> None:
        name = file_name(entry.sha256)
        self.files.rename(self.partial / name, self.blobs / name)
        try:
            self.files.fsync_folder(self.blobs)
            self.files.fsync_folder(self.partial)
            self.vouch(entry.sha256, stamp)
        except OSError:
            self.files.rename(self.blobs / name, self.partial / name)
            raise
        self.seal(entry.sha256)
        self.view.show(entry)

    def vouch(self, sha256: str, stamp: Stamp) -> None:
        """A file in `blobs/` has the right SHA-256 as it is now."""
        self.registry.put(sha256, Row(stamp.size_bytes, is_verified=True, stamp=stamp))
        self.verified[sha256] = stamp

    def seal(self, sha256: str) -> None:
        """Nobody writes to a verified file by mistake, through a link in the view for one; where the file system has no
        such thing, the stamp tells."""
        with suppress(OSError):
            self.files.chmod(self.blobs / file_name(sha256), SEALED)

    def doubt(self, sha256: str) -> None:
        """A file is not what its name says, or nobody knows. One that was verified goes: none of it can be believed."""
        self.registry.drop(sha256)
        if self.verified.pop(sha256, None) is not None:
            self.files.unlink(self.blobs / file_name(sha256))
            self.files.fsync_folder(self.blobs)
            self.view.hide_all_but(self.verified)

    def delete(self, entry: CatalogEntry) -> None:
        """Delete a file, and what there is of it. It is not verified any more before it is gone."""
        name = file_name(entry.sha256)
        self.registry.drop(entry.sha256)
        self.verified.pop(entry.sha256, None)
        for folder in (self.blobs, self.partial, self.trees):
            self.files.unlink(folder / name)
            self.files.fsync_folder(folder)
        self.view.hide_all_but(self.verified)


def hash_file(files: FileSystem, handle: int, stop: threading.Event, also: Also | None = None) -> str:
    """The SHA-256 of an open file, which goes chunk by chunk to `also` too. Raises StoppedError."""
    digest, offset = hashlib.sha256(), 0
    while data := files.pread(handle, CHUNK_BYTES, offset):
        if stop.is_set():
            raise StoppedError
        digest.update(data)
        if also is not None:
            also(data)
        offset += len(data)
    return digest.hexdigest()
