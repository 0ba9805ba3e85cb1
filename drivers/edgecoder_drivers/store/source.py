"""Where the bytes of a file come from, if not from peers: a CDN, or a file on this machine.

The port is the store's; `cdn` fits it. A file that its user has here takes the CDN's place: so an import is a pull,
with the room, the proofs and the gates of every other one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Protocol

from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.store.blobs import CHUNK_BYTES, hash_file
from edgecoder_drivers.store.files import FileSystem
from edgecoder_drivers.store.threads import in_thread


class Source(Protocol):
    """Who has files. All of it raises Refused, with no_source where nobody has them."""

    def read(self, entry: CatalogEntry, first_byte: int, end_byte: int) -> AsyncGenerator[bytes, None]:
        """The bytes of a file from one on and before another, in order: exactly those, or it raises."""
        ...

    async def leaf_hashes(self, entry: CatalogEntry) -> bytes:
        """The SHA-256 of each leaf of a file, one after the other; whether they are the file's is not checked."""
        ...


class LocalFile:
    """A file on this machine, at a path of its user's."""

    def __init__(self, files: FileSystem, path: Path) -> None:
        self._files = files
        self._path = path

    async def sha256(self) -> str:
        """What the file hashes to: the catalog tells by it which one it is."""
        return await in_thread(self._sha256)

    def _sha256(self, stop: threading.Event) -> str:
        handle = self._files.open(self._path)
        try:
            return hash_file(self._files, handle, stop)
        finally:
            self._files.close(handle)

    async def read(self, entry: CatalogEntry, first_byte: int, end_byte: int) -> AsyncGenerator[bytes, None]:  # noqa: ARG002
        """See `Source`."""
        while first_byte < end_byte:
            size = min(CHUNK_BYTES, end_byte - first_byte)
            data = await asyncio.to_thread(self._pread, size, first_byte)
            if not data:
                raise Refused(Reason.NO_SOURCE, f"{self._path} is too short")
            yield data
            first_byte += len(data)

    def _pread(self, size: int, offset: int) -> bytes:
        try:
            handle = self._files.open(self._path)
        except OSError as error:
            raise Refused(Reason.NO_SOURCE, str(error)) from error
        try:
            return self._files.pread(handle, size, offset)
        finally:
            self._files.close(handle)

    async def leaf_hashes(self, entry: CatalogEntry) -> bytes:
        """See `Source`."""
        found = bytearray()
        async for data in self.read(entry, 0, entry.file_size_bytes):
            found += b"".join(await asyncio.to_thread(leaf_hashes, data))
        return bytes(found)
