"""A disk in memory that forgets what was not synced, and on which the N-th call fails, tears or is the last.

Fidelity boundary: a page of 4 KiB is written whole or not at all; changes of names reach the disk in their order;
SQLite is real, but its commit is one call, which happens or does not.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
from enum import Enum
from pathlib import Path
from typing import Any

from edgecoder_drivers.store.files import Stamp

PAGE_BYTES = 4096
WRITE_BYTES = 20_000
"""Most that one call writes: callers must cope."""


class Fault(Enum):
    """What becomes of the N-th call."""

    FAILS = "fails"
    IS_FULL = "is_full"
    TEARS = "tears"
    """Half of it is done, and it fails. A sync that fails forgets what it was to write."""
    CUT_NOTHING = "cut_nothing"
    """The power goes, and nothing is on the disk that was not synced;"""
    CUT_SOME = "cut_some"
    """some of it is;"""
    CUT_ALL = "cut_all"
    """all of it."""

    @property
    def is_cut(self) -> bool:
        return self.value.startswith("cut")


class _Inode:
    def __init__(self, number: int) -> None:
        self.number = number
        self.mode = 0o644
        self.data = bytearray()
        self.durable = bytearray()
        self.dirty: set[int] = set()
        self.changes = 0
        """How often it was written to, which is its time,"""
        self.durable_changes = 0
        """and what of that is on the disk."""

    @property
    def stamp(self) -> Stamp:
        return Stamp(len(self.data), self.number, self.changes)

    def touch(self, start: int, end: int) -> None:
        self.changes += 1
        self.dirty |= set(range(start // PAGE_BYTES, -(-end // PAGE_BYTES)))

    def sync(self, pages: set[int]) -> None:
        """Bring pages to the disk, and the size."""
        size, self.durable_changes = len(self.data), self.changes
        del self.durable[size:]
        self.durable.extend(bytes(size - len(self.durable)))
        for page in pages:
            where = slice(page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, size))
            self.durable[where] = self.data[where]
        self.dirty -= pages


_Names = dict[Path, _Inode | str]
_Change = tuple[Path | None, Path | None, _Inode | str | None]
"""A name that goes, one that comes, and what it stands for."""


class MemoryDisk:
    """A `FileSystem`."""

    def __init__(self, size_bytes: int = 1 << 30) -> None:
        self.size_bytes = size_bytes
        self.calls: list[str] = []
        self.fault: tuple[int, Fault] | None = None
        """The call, counted from 1, and what becomes of it."""
        self.is_off = False
        self._names: _Names = {}
        self._durable_names: _Names = {}
        self._changes: list[_Change] = []
        self._open: dict[int, _Inode] = {}
        self._handles = 2
        self._inodes = 0
        self._image = b""

    # -- faults --------------------------------------------------------------------------------------------------------

    def fail(self, call: int, fault: Fault) -> None:
        """From now on, the `call`-th call has this fault."""
        self.calls.clear()
        self.fault = call, fault

    @property
    def was_hit(self) -> bool:
        """Whether so many calls were made."""
        return self.fault is not None and len(self.calls) >= self.fault[0]

    def power_on(self) -> None:
        """Another life begins, after the power went or the process died; nothing fails any more."""
        if self.is_off and self.fault is not None:
            self._lose(*self.fault)
        self.is_off, self.fault = False, None
        self._open.clear()

    def _lose(self, call: int, fault: Fault) -> None:
        draw = random.Random(call)
        share = {Fault.CUT_NOTHING: 0.0, Fault.CUT_SOME: 0.5, Fault.CUT_ALL: 1.0}[fault]
        kept = sum(draw.random() < share for _ in self._changes)
        for change in self._changes[:kept]:
            _apply(self._durable_names, change)
        for inode in {id(one): one for one in self._names.values()}.values():
            if isinstance(inode, _Inode) and (inode.dirty or len(inode.data) != len(inode.durable)):
                if draw.random() < share:
                    inode.sync({page for page in sorted(inode.dirty) if draw.random() < max(share, 0.5)})
                inode.data, inode.dirty = bytearray(inode.durable), set()
                inode.changes = inode.durable_changes
        self._names, self._changes = dict(self._durable_names), []

    def _call(self, name: str) -> Fault | None:
        """Count a call; what is wrong with it. Raises OSError where it does nothing."""
        self.calls.append(name)
        if self.is_off:
            raise OSError(errno.EIO, "the power is off")
        if self.fault is None or len(self.calls) != self.fault[0]:
            return None
        fault = self.fault[1]
        self.is_off = fault.is_cut
        if fault is Fault.IS_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if fault is Fault.FAILS:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return fault

    @staticmethod
    def _after(fault: Fault | None) -> None:
        """The end of a call of which a part was done."""
        if fault is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    # -- what there is -------------------------------------------------------------------------------------------------

    @property
    def used_bytes(self) -> int:
        return sum(len(inode.data) for inode in self._names.values() if isinstance(inode, _Inode))

    @property
    def open_handles(self) -> int:
        return len(self._open)

    def tree(self) -> dict[str, bytes | str]:
        """What lies where, links as what they point at."""
        return {
            path.as_posix(): bytes(inode.data) if isinstance(inode, _Inode) else inode
            for path, inode in sorted(self._names.items())
        }

    def durable(self, path: Path) -> bytes | None:
        """What would be left of a file if the power went now."""
        found = self._durable_names.get(path)
        return bytes(found.durable) if isinstance(found, _Inode) else None

    # -- the port ------------------------------------------------------------------------------------------------------

    def make_folder(self, path: Path) -> None:  # noqa: ARG002
        self._after(self._call("make_folder"))

    def open(self, path: Path, *, write: bool = False) -> int:
        fault = self._call("open")
        found = self._names.get(path)
        if found is None:
            if not write:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            self._inodes += 1
            found = _Inode(self._inodes)
            self._change(None, path, found)
        self._after(fault)
        assert isinstance(found, _Inode)
        if write and not found.mode & 0o200:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        self._handles += 1
        self._open[self._handles] = found
        return self._handles

    def create(self, path: Path) -> int:
        if path in self._names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        return self.open(path, write=True)

    def close(self, handle: int) -> None:
        self._open.pop(handle, None)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        self._after(self._call("pread"))
        return bytes(self._open[handle].data[offset : offset + size])

    def pwrite(self, handle: int, data: bytes | memoryview, offset: int) -> int:
        fault = self._call("pwrite")
        inode, count = self._open[handle], min(len(data), WRITE_BYTES)
        count = count if fault is None else count // 2
        if offset + count > len(inode.data):
            self._grow(inode, offset + count)
        inode.data[offset : offset + count] = data[:count]
        inode.touch(offset, offset + count)
        self._after(fault)
        return count

    def _grow(self, inode: _Inode, size: int) -> None:
        if self.free_now() < size - len(inode.data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        inode.data.extend(bytes(size - len(inode.data)))
        inode.changes += 1

    def preallocate(self, handle: int, first: int, end: int) -> None:
        fault = self._call("preallocate")
        inode = self._open[handle]
        if end > len(inode.data):
            self._grow(inode, end if fault is None else max(first, end // 2))
        self._after(fault)

    def truncate(self, handle: int, size: int) -> None:
        fault = self._call("truncate")
        inode = self._open[handle]
        del inode.data[size:]
        inode.data.extend(bytes(size - len(inode.data)))
        inode.changes += 1
        inode.dirty = {page for page in inode.dirty if page * PAGE_BYTES < size}
        self._after(fault)

    def fsync(self, handle: int) -> None:
        fault = self._call("fsync")
        inode = self._open[handle]
        if fault is None:
            inode.sync(set(inode.dirty))
        elif not fault.is_cut:
            inode.dirty.clear()
        self._after(fault)

    def fsync_folder(self, path: Path) -> None:
        fault = self._call("fsync_folder")
        if fault is None:
            touched = [number for number, (gone, come, _) in enumerate(self._changes) if _is_in(path, gone, come)]
            for change in self._changes[: max(touched, default=-1) + 1]:
                _apply(self._durable_names, change)
            del self._changes[: max(touched, default=-1) + 1]
        self._after(fault)

    def rename(self, source: Path, target: Path) -> None:
        fault = self._call("rename")
        if source not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        if fault is None or fault.is_cut:
            self._change(source, target, self._names[source])
        self._after(fault)

    def link(self, target: str, path: Path) -> None:
        fault = self._call("link")
        self._change(None, path, target)
        self._after(fault)

    def link_target(self, path: Path) -> str | None:
        self._after(self._call("link_target"))
        found = self._names.get(path)
        return found if isinstance(found, str) else None

    def unlink(self, path: Path) -> None:
        fault = self._call("unlink")
        if path in self._names and (fault is None or fault.is_cut):
            self._change(path, None, None)
        self._after(fault)

    def stat(self, path: Path) -> Stamp | None:
        self._after(self._call("stat"))
        found = self._names.get(path)
        return found.stamp if isinstance(found, _Inode) else None

    def fstat(self, handle: int) -> Stamp:
        self._after(self._call("fstat"))
        return self._open[handle].stamp

    def chmod(self, path: Path, mode: int) -> None:
        self._after(self._call("chmod"))
        found = self._names.get(path)
        assert isinstance(found, _Inode)
        found.mode = mode

    def write_to(self, path: Path, data: bytes, offset: int) -> None:
        """Another program writes to a file, as one may that is the system's, and syncs it."""
        found = self._names[path]
        assert isinstance(found, _Inode)
        found.data[offset : offset + len(data)] = data
        found.touch(offset, offset + len(data))
        found.sync(set(found.dirty))

    def listdir(self, path: Path) -> list[str]:
        self._after(self._call("listdir"))
        return sorted(name.name for name in self._names if name.parent == path)

    def free_bytes(self, path: Path) -> int:  # noqa: ARG002
        self._after(self._call("free_bytes"))
        return self.free_now()

    def free_now(self) -> int:
        return self.size_bytes - self.used_bytes

    def database(self, path: Path) -> sqlite3.Connection:  # noqa: ARG002
        self._after(self._call("database"))
        database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=_Database)
        if self._image:
            database.deserialize(self._image)
        database.disk = self
        return database

    def commit(self, database: _Database) -> None:
        fault = self._call("commit")
        if fault is None or fault is Fault.CUT_ALL or (fault is Fault.CUT_SOME and len(self.calls) % 2):
            sqlite3.Connection.execute(database, "COMMIT")
            self._image = database.serialize()
        self._after(fault)

    def _change(self, gone: Path | None, come: Path | None, what: _Inode | str | None) -> None:
        change = gone, come, what
        _apply(self._names, change)
        self._changes.append(change)


class _Database(sqlite3.Connection):
    """A database whose commits are calls of a disk."""

    disk: MemoryDisk

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self.disk.commit(self)
            return self.cursor()
        return super().execute(sql, parameters)


def _apply(names: _Names, change: _Change) -> None:
    gone, come, what = change
    if gone is not None:
        names.pop(gone, None)
    if come is not None and what is not None:
        names[come] = what


def _is_in(folder: Path, *paths: Path | None) -> bool:
    return any(path is not None and path.parent == folder for path in paths)
