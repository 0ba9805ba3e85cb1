"""What a node keeps beside its model files: the values that its core made durable, and a row for each file.

A SQLite database (write-ahead log, synchronous FULL: a commit survives the loss of power), used by one thread. Values
that wait are written together, in the order in which they came; a commit costs a sync or two, not each value.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from edgecoder_drivers.store.files import FileSystem, Stamp

T = TypeVar("T")
_CODES = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_BUSY: errno.EBUSY}
RESERVE_BYTES = 1 << 20
"""Room that is given back to a disk without any, so that what its user removes can be written down."""
VERSION = 2
"""Of the tables: 1 had no stamps, and no number."""
_SETTINGS = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # on Apple's systems
)
_TABLES = (
    "CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS files (sha256 TEXT PRIMARY KEY, synced_bytes INTEGER NOT NULL,
    is_verified INTEGER NOT NULL, inode TEXT, mtime_ns TEXT) WITHOUT ROWID""",
)
_PUT = "REPLACE INTO files (sha256, synced_bytes, is_verified, inode, mtime_ns) VALUES (?, ?, ?, ?, ?)"


class Row(NamedTuple):
    """A model file."""

    synced_bytes: int
    """From its first one on, of what comes in one go; of what comes piece by piece the core keeps account."""
    is_verified: bool
    """Whether it has the SHA-256 that is its name."""
    stamp: Stamp | None = None
    """What it was when it was verified."""


class DamagedError(Exception):
    """The file is no database, or a damaged one."""


class NewerError(Exception):
    """It is of a newer version than this one."""


class Registry:
    """An open database, which nobody else can open meanwhile. Its methods block, may be called from any thread, and
    raise OSError."""

    def __init__(self, files: FileSystem, path: Path) -> None:
        """Raises DamagedError, NewerError; OSError with EBUSY where another process has it."""
        self._files = files
        self._reserve = path.with_suffix(".reserve")
        self._thread = ThreadPoolExecutor(1, "edgecoder registry")
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, bytes, Future[None]]] = []
        try:
            self._database = self._in_thread(lambda: _open(files, path))
            self._keep_room()
        except BaseException:
            self._thread.shutdown()
            raise

    def close(self) -> None:
        """Write what waits, and close."""
        self._in_thread(self._database.close)
        self._thread.shutdown()

    def keep(self, key: str, value: bytes) -> Future[None]:
        """Make a value durable; done when it is. Raises OSError, by the future."""
        done: Future[None] = Future()
        with self._lock:
            self._waiting.append((key, value, done))
        self._thread.submit(self._write)
        return done

    def kept(self) -> dict[str, bytes]:
        """All values, by key."""
        query = "SELECT key, value FROM kept WHERE typeof(key) = 'text' AND typeof(value) = 'blob' ORDER BY key"
        return self._in_thread(lambda: dict(self._database.execute(query)))

    def rows(self) -> dict[str, Row]:
        """All files, by SHA-256."""

        def read() -> dict[str, Row]:
            found = self._database.execute(
                "SELECT sha256, synced_bytes, is_verified, inode, mtime_ns FROM files ORDER BY sha256"
            )
            return {sha256: _row(*columns) for sha256, *columns in found}

        return self._in_thread(read)

    def put(self, sha256: str, row: Row) -> None:
        """Write a file's row. Durable when this returns."""
        stamp = row.stamp
        columns = (None, None) if stamp is None else (str(stamp.inode), str(stamp.mtime_ns))
        self._in_thread(lambda: self._commit([(_PUT, (sha256, row.synced_bytes, row.is_verified, *columns))]))

    def drop(self, sha256: str) -> None:
        """Take a file's row away. Durable when this returns."""
        self._in_thread(lambda: self._commit([("DELETE FROM files WHERE sha256 = ?", (sha256,))]))

    def _in_thread(self, work: Callable[[], T]) -> T:
        def guarded() -> T:
            with _as_os_error():
                return work()

        return self._thread.submit(guarded).result()

    def _write(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        if not batch:
            return
        try:
            with _as_os_error():
                self._commit([("REPLACE INTO kept VALUES (?, ?)", (key, value)) for key, value, _ in batch])
        except OSError as error:
            for _, _, done in batch:
                done.set_exception(error)
        else:
            for _, _, done in batch:
                done.set_result(None)

    def _commit(self, statements: list[tuple[str, tuple[object, ...]]]) -> None:
        try:
            _commit(self._database, statements)
        except (sqlite3.Error, OSError) as error:
            if _code(error) != errno.ENOSPC or self._files.stat(self._reserve) is None:
                raise
            self._files.unlink(self._reserve)
            _commit(self._database, statements)

    def _keep_room(self) -> None:
        """Where there is some; the next life tries again."""
        with suppress(OSError):
            there = self._files.stat(self._reserve)
            is_there = there is not None and there.size_bytes >= RESERVE_BYTES
            if not is_there and self._files.free_bytes(self._reserve.parent) > 2 * RESERVE_BYTES:
                handle = self._files.open(self._reserve, write=True)
                try:
                    self._files.preallocate(handle, 0, RESERVE_BYTES)
                finally:
                    self._files.close(handle)


def _commit(database: sqlite3.Connection, statements: Iterable[tuple[str, tuple[object, ...]]]) -> None:
    database.execute("BEGIN IMMEDIATE")
    try:
        for statement, values in statements:
            database.execute(statement, values)
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _row(synced_bytes: object, is_verified: object, inode: object, mtime_ns: object) -> Row:
    """What columns say; a column takes any type, and one that is not what was written says nothing."""
    if not isinstance(synced_bytes, int) or synced_bytes < 0:
        return Row(0, is_verified=False)
    if inode is None or mtime_ns is None:
        return Row(synced_bytes, bool(is_verified))
    try:
        stamp = Stamp(synced_bytes, int(str(inode)), int(str(mtime_ns)))
    except ValueError:
        return Row(synced_bytes, is_verified=False)
    return Row(synced_bytes, bool(is_verified), stamp)


def _open(files: FileSystem, path: Path) -> sqlite3.Connection:
    database = files.database(path)
    try:
        for statement in _SETTINGS:
            database.execute(statement)
        is_sound = database.execute("PRAGMA quick_check").fetchone() == ("ok",)
        if is_sound:
            _bring_up_to_date(database, path)
    except (sqlite3.OperationalError, NewerError):
        database.close()
        raise
    except sqlite3.DatabaseError:
        is_sound = False
    if not is_sound:
        database.close()
        raise DamagedError(str(path))
    return database


def _bring_up_to_date(database: sqlite3.Connection, path: Path) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise NewerError(f"{path} is of version {version}")
    if version == VERSION:
        return
    columns = {name for _, name, *_ in database.execute("PRAGMA table_info(files)")}
    missing = {"inode", "mtime_ns"} - columns if columns else set()
    statements = [*_TABLES, *(f"ALTER TABLE files ADD COLUMN {name} TEXT" for name in sorted(missing))]
    _commit(database, [(statement, ()) for statement in (*statements, f"PRAGMA user_version = {VERSION}")])


@contextmanager
def _as_os_error() -> Iterator[None]:
    """What SQLite says of the disk, as the system would."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(_code(error), str(error)) from error


def _code(error: sqlite3.Error | OSError) -> int:
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    return _CODES.get(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF, errno.EIO)
