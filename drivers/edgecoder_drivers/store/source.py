"""Where the bytes of a file come from: a CDN, a peer, or a file on this machine.

The port is the store's; `cdn` and `transfer` fit it. A file that its user has here takes the CDN's place: so an import
is a pull, with the room, the proofs and the gates of every other one.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Container
from functools import partial
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

    def read(
        self, entry: CatalogEntry, first_byte: int, end_byte: int, *, is_patient: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a file from one on and before another, in order: exactly those, or it raises. Who is patient has
        nobody else to ask, and some of the file."""
        ...

    async def leaf_hashes(self, entry: CatalogEntry) -> bytes:
        """The SHA-256 of each leaf of a file, one after the other; whether they are the file's is not checked. Raises
        Refused as `read`, and with no_proofs where the file may be had and they may not."""
        ...


class PeerSource(Source, Protocol):
    """One peer, for one request. It raises Refused with the reason that the core is to hear."""

    @property
    def have(self) -> int:
        """The pieces of the file that it says it has, a bit a piece; 0: it has not said."""
        ...


class LocalFile:
    """A file on this machine, at a path of its user's."""

    def __init__(self, files: FileSystem, path: Path) -> None:
        self._files = files
        self._path = path

    async def sha256(self, sizes: Container[int]) -> str:
        """What the file hashes to: the catalog tells by it which one it is. `sizes`, in bytes, are those that it may
        have: one of another is not read. Raises Refused (unknown_model), OSError, and ValueError for no path."""
        return await in_thread(lambda stop: self._sha256(sizes, stop))

    def _sha256(self, sizes: Container[int], stop: threading.Event) -> str:
        handle = self._files.open(self._path)
        try:
            size_bytes = self._files.fstat(handle).size_bytes
            if size_bytes not in sizes:
                raise Refused(Reason.UNKNOWN_MODEL, f"{self._path}: the catalog has no file of {size_bytes} bytes")
            return hash_file(self._files, handle, stop)
        finally:
            self._files.close(handle)

    async def read(
        self,
        entry: CatalogEntry,  # noqa: ARG002
        first_byte: int,
        end_byte: int,
        *,
        is_patient: bool = False,  # noqa: ARG002
    ) -> AsyncGenerator[bytes, None]:
        """See `Source`."""
        while first_byte < end_byte:
            size = min(CHUNK_BYTES, end_byte - first_byte)
            data = await in_thread(partial(self._pread, size, first_byte))
            if len(data) < size:
                raise Refused(Reason.NO_SOURCE, f"{self._path} is too short")
            yield data
            first_byte += len(data)

    def _pread(self, size: int, offset: int, _: threading.Event) -> bytes:
        """All of it, or what there is: one call may give less (FUSE, NFS)."""
        found = b""
        try:
            handle = self._files.open(self._path)
            try:
                while len(found) < size and (more := self._files.pread(handle, size - len(found), offset + len(found))):
                    found += more
            finally:
                self._files.close(handle)
        except OSError as error:
            raise Refused(Reason.NO_SOURCE, str(error)) from error
        return found

    async def leaf_hashes(self, entry: CatalogEntry) -> bytes:
        """See `Source`."""
        found = bytearray()
        async for data in self.read(entry, 0, entry.file_size_bytes):
            found += await in_thread(partial(_leaves, data))
        return bytes(found)


def _leaves(data: bytes, _: threading.Event) -> bytes:
    return b"".join(leaf_hashes(data))
