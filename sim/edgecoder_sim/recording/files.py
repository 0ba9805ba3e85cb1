"""The Parquet files of a run, written while it goes on.

Rows gather in memory and go to disk in row groups, so that a run of any length needs the same memory. A file is
readable once it is closed, however the run ended; one that a kill or a full disk tore has no footer, which tells it
apart.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from edgecoder.errors import DiskFull
from edgecoder_sim.columns import Table
from edgecoder_sim.tables import TABLES

GROUP_ROWS: Final = 20_000
"""Rows of one row group: some megabytes in memory, and large enough to compress well."""
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a full disk, or a full quota, says."""

Row = tuple[Any, ...]
"""The values of one row in the order of the table's columns."""
OpenFile = Callable[[Path], IO[bytes]]
"""Opens a new file for writing: the port through which all bytes go."""


def open_new(path: Path) -> IO[bytes]:
    """Open a file that must not exist yet."""
    return path.open("xb")


def size_text(size_bytes: int) -> str:
    """A size for people: `512 B`, `1.2 MB`."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes} B"


def disk_full(path: Path, written_bytes: int, needed_bytes: int) -> DiskFull:
    """The error for a directory without room: what is there, what was to follow (0: not known), and what to do."""
    rest = f"another {size_text(needed_bytes)} do not fit" if needed_bytes else "and the rest does not fit"
    return DiskFull(
        f"{path}: the disk is full: {size_text(written_bytes)} of this run are written, {rest}; free some"
        " space, or give --out a directory on another disk"
    )


class TableFile:
    """One table's file and the rows that wait for it."""

    def __init__(self, table: Table, path: Path, open_file: OpenFile) -> None:
        self._schema = table.schema
        self._rows: list[Row] = []
        self._file = open_file(path)
        try:
            self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        except BaseException:
            self._file.close()
            raise
        self.group_bytes = 0
        """Size in memory of the row group that is being written."""
        self.written_bytes = 0
        """What the file took so far."""

    def add(self, row: Row) -> None:
        """Take a row."""
        self._rows.append(row)
        if len(self._rows) >= GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        if not self._rows:
            return
        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        group = pa.Table.from_arrays(arrays, schema=self._schema)
        self.group_bytes = group.nbytes
        self._rows = []  # first, or an interrupt right behind the write would write them twice
        self._writer.write_table(group)
        self.group_bytes = 0
        self.written_bytes = self._file.tell()

    def close(self, *, flush: bool) -> None:
        """Write what waits, if asked to, and the footer: from here on the file can be read."""
        try:
            try:
                if flush:
                    self.flush()
            finally:
                self._writer.close()
        finally:
            self._file.close()


class TableFiles:
    """The tables of one run. Without a directory every row is thrown away."""

    def __init__(self, directory: Path | None, open_file: OpenFile = open_new) -> None:
        """Raises DiskFull, as `add` and `close` do."""
        self._directory = directory
        self._files: dict[str, TableFile] = {}
        self._is_full = False
        if directory is None:
            return
        try:
            for table in TABLES.values():
                with self._room():
                    self._files[table.name] = TableFile(table, directory / table.file_name, open_file)
        except DiskFull:
            self.close()
            raise

    def adder(self, table: Table) -> Callable[[Row], None]:
        """What takes the rows of a table. On a full disk it raises DiskFull once and then throws rows away."""
        file = self._files.get(table.name)
        if file is None:
            return _throw_away
        add = file.add

        def guarded(row: Row) -> None:
            if self._is_full:
                return
            try:
                add(row)
            except OSError as error:
                self._fail(error)

        return guarded

    def flush(self, table: Table) -> None:
        """Write the rows of a table that wait, without waiting for more."""
        if table.name in self._files:
            with self._room():
                self._files[table.name].flush()

    def close(self) -> None:
        """Write what waits and close every file, also those behind one that cannot be closed. Raises DiskFull, unless
        it was raised before; then rows that wait are given up, since a row group that fails would tear its file."""
        was_full = self._is_full
        with contextlib.ExitStack() as stack:
            stack.callback(self._files.clear)
            for file in reversed(self._files.values()):
                stack.callback(self._close, file, was_full)

    def _close(self, file: TableFile, was_full: bool) -> None:
        try:
            with self._room():
                file.close(flush=not self._is_full)
        except DiskFull:
            if not was_full:
                raise

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        """Raise DiskFull, or whatever else it was."""
        if error.errno not in NO_ROOM:
            raise error
        assert self._directory is not None, "nothing is written without a directory"
        self._is_full = True
        written = sum(file.written_bytes for file in self._files.values())
        needed = sum(file.group_bytes for file in self._files.values())
        raise disk_full(self._directory, written, needed) from error


def _throw_away(_: Row) -> None:
    """Keep nothing."""
