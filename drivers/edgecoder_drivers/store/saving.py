"""A copy of a model for somebody outside the store: there as a whole, with the right SHA-256, or not at all."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from edgecoder_drivers.store.files import FileSystem


class OtherFileError(Exception):
    """What came has another SHA-256."""


def save(files: FileSystem, target: Path, parts: Iterable[bytes], sha256: str) -> int:
    """Write a file in place of what is there; how many bytes. Blocks. Raises OSError, OtherFileError, and what `parts`
    does; then nothing has changed, unless the folder alone could not be synced."""
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        size_bytes = _write(files, part, parts, sha256)
        files.rename(part, target)
        files.fsync_folder(target.parent)
    except BaseException:
        with suppress(OSError):
            files.unlink(part)
        raise
    return size_bytes


def _write(files: FileSystem, path: Path, parts: Iterable[bytes], sha256: str) -> int:
    digest, size_bytes = hashlib.sha256(), 0
    handle = files.create(path)
    try:
        for data in parts:
            digest.update(data)
            view = memoryview(data)
            while view:
                count = files.pwrite(handle, view, size_bytes)
                view, size_bytes = view[count:], size_bytes + count
        files.fsync(handle)
    finally:
        files.close(handle)
    if digest.hexdigest() != sha256:
        raise OtherFileError(digest.hexdigest())
    return size_bytes
