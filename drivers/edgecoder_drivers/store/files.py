"""The port through which the store reaches the file system, and the real one.

Everything that touches a disk goes through it, the database too, so that a test can fail, tear or cut the power at any
of these calls. All of them block and raise OSError; none buffers.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
from pathlib import Path
from typing import NamedTuple, Protocol

BUSY_S = 1.0
"""How long a write waits for another process that has the database."""


_CANNOT = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS}
"""What a file system says that has no such call."""
_FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)
"""What Apple's systems need: there `fsync` leaves the bytes in the disk's cache."""


class Stamp(NamedTuple):
    """What differs when a file was written to, or is another one."""

    size_bytes: int
    inode: int
    mtime_ns: int
    """When it was last written to."""


class FileSystem(Protocol):
    """What the store needs of a file system. A handle is an int; a size or an offset counts bytes."""

    def make_folder(self, path: Path) -> None:
        """Make a folder and those above it; one that is there stays."""
        ...

    def open(self, path: Path, *, write: bool = False) -> int:
        """Open a file for reading, or for both; then it is made where there is none, empty. What is no file (a folder,
        a pipe, a device) is an error."""
        ...

    def create(self, path: Path) -> int:
        """Make a file where there is nothing, not even a link, and open it."""
        ...

    def close(self, handle: int) -> None:
        """Close a file."""
        ...

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        """Read at most `size` bytes; none at the end."""
        ...

    def pwrite(self, handle: int, data: bytes | memoryview, offset: int) -> int:
        """Write some of the bytes, at least one; how many."""
        ...

    def preallocate(self, handle: int, first: int, end: int) -> None:
        """Make a file at least `end` bytes long, with room on the disk for those from `first` on."""
        ...

    def truncate(self, handle: int, size: int) -> None:
        """Make a file `size` bytes long."""
        ...

    def fsync(self, handle: int) -> None:
        """Make a file's bytes durable."""
        ...

    def fsync_folder(self, path: Path) -> None:
        """Make the names in a folder durable."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Move a file within the file system, in place of what is there."""
        ...

    def link(self, target: str, path: Path) -> None:
        """Make a symbolic link."""
        ...

    def link_target(self, path: Path) -> str | None:
        """What a symbolic link points at; None where there is no link."""
        ...

    def unlink(self, path: Path) -> None:
        """Take a name away; where there is none nothing happens."""
        ...

    def stat(self, path: Path) -> Stamp | None:
        """What a file is now; None where there is none."""
        ...

    def fstat(self, handle: int) -> Stamp:
        """The same of an open one."""
        ...

    def chmod(self, path: Path, mode: int) -> None:
        """Say who may read and write a file."""
        ...

    def listdir(self, path: Path) -> list[str]:
        """The names in a folder, sorted; none where there is no folder."""
        ...

    def free_bytes(self, path: Path) -> int:
        """Room that is left for this user on the file system that a folder is on (statvfs)."""
        ...

    def database(self, path: Path) -> sqlite3.Connection:
        """Open a database, in which each statement is a transaction unless BEGIN says otherwise."""
        ...


class RealFiles:
    """The file system of this machine."""

    def make_folder(self, path: Path) -> None:
        """See `FileSystem`. The names of those that are made are durable."""
        missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            self.fsync_folder(folder.parent)

    def open(self, path: Path, *, write: bool = False) -> int:
        """See `FileSystem`. What is written never follows a link that somebody put there."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) if write else os.O_RDONLY
        handle = os.open(path, flags | os.O_NONBLOCK, 0o644)  # a pipe would wait for who writes to it
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file", str(path))

    def create(self, path: Path) -> int:
        """See `FileSystem`."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)

    def close(self, handle: int) -> None:
        """See `FileSystem`."""
        os.close(handle)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        """See `FileSystem`."""
        return os.pread(handle, size, offset)

    def pwrite(self, handle: int, data: bytes | memoryview, offset: int) -> int:
        """See `FileSystem`."""
        return os.pwrite(handle, data, offset)

    def preallocate(self, handle: int, first: int, end: int) -> None:
        """See `FileSystem`. Where the file system cannot keep room, some libraries write into each block (glibc); where
        they do not, there has to be room now."""
        before = os.fstat(handle)
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(handle, first, end - first)
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
            else:
                return
        room = os.fstatvfs(handle)
        if room.f_bavail * room.f_frsize < end - max(first, before.st_blocks * 512):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(handle, max(end, before.st_size))

    def truncate(self, handle: int, size: int) -> None:
        """See `FileSystem`."""
        os.ftruncate(handle, size)

    def fsync(self, handle: int) -> None:
        """See `FileSystem`."""
        _sync(handle)

    def fsync_folder(self, path: Path) -> None:
        """See `FileSystem`."""
        handle = os.open(path, os.O_RDONLY)
        try:
            _sync(handle)
        except OSError as error:
            if error.errno not in _CANNOT:  # of some network file systems: there is nothing more to do
                raise
        finally:
            os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        """See `FileSystem`."""
        source.replace(target)

    def link(self, target: str, path: Path) -> None:
        """See `FileSystem`."""
        path.symlink_to(target)

    def link_target(self, path: Path) -> str | None:
        """See `FileSystem`."""
        return str(path.readlink()) if path.is_symlink() else None

    def unlink(self, path: Path) -> None:
        """See `FileSystem`."""
        path.unlink(missing_ok=True)

    def stat(self, path: Path) -> Stamp | None:
        """See `FileSystem`."""
        try:
            return _stamp(path.stat())
        except FileNotFoundError:
            return None

    def fstat(self, handle: int) -> Stamp:
        """See `FileSystem`."""
        return _stamp(os.fstat(handle))

    def chmod(self, path: Path, mode: int) -> None:
        """See `FileSystem`."""
        path.chmod(mode)

    def listdir(self, path: Path) -> list[str]:
        """See `FileSystem`."""
        try:
            return sorted(entry.name for entry in path.iterdir())
        except FileNotFoundError:
            return []

    def free_bytes(self, path: Path) -> int:
        """See `FileSystem`."""
        room = os.statvfs(path)
        return room.f_bavail * room.f_frsize

    def database(self, path: Path) -> sqlite3.Connection:
        """See `FileSystem`."""
        return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_size, found.st_ino, found.st_mtime_ns)


def _sync(handle: int) -> None:
    if _FULL_SYNC is not None:
        try:
            fcntl.fcntl(handle, _FULL_SYNC)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
        else:
            return
    os.fsync(handle)
