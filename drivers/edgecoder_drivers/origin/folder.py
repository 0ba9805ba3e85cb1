"""The plain files of a folder, and nothing outside it: no link is followed, no hidden file is there.

Each part of a path is opened in the folder before it (`openat`), so nobody who changes the folder meanwhile leads out
of it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from io import FileIO
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

PARTS_MAX: Final = 32
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_FOLDER: Final = getattr(os, "O_DIRECTORY", 0)


class Opened(NamedTuple):
    """A file that is given."""

    file: FileIO
    size_bytes: int
    tag: str
    """ETag: another one whenever the file is written anew."""
    modified_s: int
    """Unix time."""


def parts_of(target: bytes) -> tuple[bytes, ...] | None:
    """The parts of the path that a request asks for; None where no file could be meant."""
    path, _, _ = target.partition(b"?")
    if not path.startswith(b"/"):
        return None
    parts = tuple(unquote_to_bytes(part) for part in path[1:].split(b"/"))
    if len(parts) > PARTS_MAX or any(not _is_plain(part) for part in parts):
        return None
    return parts


def _is_plain(part: bytes) -> bool:
    """Whether it is the name of something in a folder that is not hidden."""
    return bool(part) and not part.startswith(b".") and not any(sign in part for sign in (b"/", b"\\", b"\0"))


class Folder:
    """A folder whose files are given."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where it is none."""
        self._handle = os.open(path, os.O_RDONLY | _FOLDER | getattr(os, "O_CLOEXEC", 0))

    def close(self) -> None:
        """Give nothing any more."""
        os.close(self._handle)

    def open(self, parts: tuple[bytes, ...]) -> Opened | None:
        """A file, by the parts of its path; None where there is no plain file."""
        try:
            with contextlib.ExitStack() as stack:
                folder = self._handle
                for part in parts[:-1]:
                    folder = os.open(part, os.O_RDONLY | _FOLDER | _NO_LINK, dir_fd=folder)
                    stack.callback(os.close, folder)
                handle = os.open(parts[-1], os.O_RDONLY | _NO_LINK, dir_fd=folder)
        except OSError:
            return None
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            os.close(handle)
            return None
        tag = f'"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"'
        return Opened(FileIO(handle), found.st_size, tag, int(found.st_mtime))
