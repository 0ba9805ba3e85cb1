"""The leaf hashes of files that come piece by piece: fetched once, or made of a file that came whole; kept beside the
file, believed against its root.

They are 32 bytes a leaf of 16 KiB, a 512th of the file. What is on the disk is checked again when it is read, so
nothing depends on whether it was synced.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from weakref import WeakValueDictionary

import structlog

from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.seeding.merkle import HASH_BYTES, Rows, leaf_hashes
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.store.blobs import Blobs, Writer
from edgecoder_drivers.store.source import Source
from edgecoder_drivers.store.threads import in_thread
from edgecoder_drivers.store.view import file_name

TREES_IN_MEMORY = 4
_log = structlog.get_logger("edgecoder.store")


class Trees:
    """The leaf hashes of the files that are fetched or given now."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._recent: dict[str, bytes] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """One a file: a source that is silent keeps no other file waiting."""

    async def leaves(
        self, entry: CatalogEntry, first: int, end: int, source: Source, *, is_peer: bool = False
    ) -> list[bytes]:
        """The hashes of some leaves of a file. Raises Refused: no_proofs where the source has not the right ones,
        piece_corrupt where that is a peer, which is to blame; and OSError."""
        tree = await self.whole(entry, source, is_peer=is_peer)
        return [tree[at : at + HASH_BYTES] for at in range(first * HASH_BYTES, end * HASH_BYTES, HASH_BYTES)]

    async def whole(self, entry: CatalogEntry, source: Source, *, is_peer: bool = False) -> bytes:
        """The hashes of all leaves of a file, one after the other. Raises as `leaves`.

        One at a time gets them from the CDN; peers are asked side by side, so that nobody waits for a slow one."""
        waits: AbstractAsyncContextManager[object] = nullcontext()
        if not is_peer:
            waits = self._locks.setdefault(entry.sha256, asyncio.Lock())
        async with waits:
            tree = self._recent.pop(entry.sha256, None) or await self._load(entry, source, is_peer=is_peer)
            self._recent[entry.sha256] = tree
            while len(self._recent) > TREES_IN_MEMORY:
                del self._recent[next(iter(self._recent))]
        return tree

    async def is_missing(self, entry: CatalogEntry) -> bool:
        """Whether a file has a tree and it is not here."""
        if not entry.piece_root:
            return False
        return not await in_thread(partial(_is_right, entry, await in_thread(partial(self._read, entry))))

    async def keep(self, entry: CatalogEntry, tree: bytes) -> None:
        """Keep the leaf hashes of the whole file: with them it can be given to others. Raises OSError."""
        if await in_thread(partial(_is_right, entry, tree)):
            await in_thread(partial(self._write, entry, tree))
        else:
            _log.warning("piece root is wrong", model=entry.model_id, hint="correct it in the catalog, or leave it out")

    def forget(self, entry: CatalogEntry) -> None:
        """The file goes."""
        self._recent.pop(entry.sha256, None)

    async def _load(self, entry: CatalogEntry, source: Source, *, is_peer: bool) -> bytes:
        tree = await in_thread(partial(self._read, entry))
        if not await in_thread(partial(_is_right, entry, tree)):
            tree = await source.leaf_hashes(entry)
            if not await in_thread(partial(_is_right, entry, tree)):
                reason = Reason.PIECE_CORRUPT if is_peer else Reason.NO_PROOFS
                raise Refused(reason, f"the leaf hashes of {entry.model_id} are not those of its root")
            await in_thread(partial(self._write, entry, tree))
        return tree

    def _read(self, entry: CatalogEntry, _: threading.Event) -> bytes:
        files, path = self._blobs.files, self._blobs.trees / file_name(entry.sha256)
        if files.stat(path) is None:
            return b""
        handle = files.open(path)
        try:
            return files.pread(handle, entry.layout.leaf_count * HASH_BYTES, 0)
        finally:
            files.close(handle)

    def _write(self, entry: CatalogEntry, tree: bytes, _: threading.Event) -> None:
        writer = Writer(self._blobs.files, self._blobs.trees / file_name(entry.sha256))
        try:
            writer.write(tree, 0)
        finally:
            writer.close()


class LeafHashes:
    """Those of a file whose bytes come in any parts."""

    def __init__(self) -> None:
        self._hashes = bytearray()
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        """The next bytes."""
        data = self._rest + data
        whole = len(data) - len(data) % LEAF_BYTES
        self._hashes += b"".join(leaf_hashes(data[:whole]))
        self._rest = data[whole:]

    def end(self) -> bytes:
        """There are no more: all hashes."""
        return bytes(self._hashes) + b"".join(leaf_hashes(self._rest))


def _is_right(entry: CatalogEntry, tree: bytes, _: threading.Event) -> bool:
    if len(tree) != entry.layout.leaf_count * HASH_BYTES:
        return False
    hashes = [tree[at : at + HASH_BYTES] for at in range(0, len(tree), HASH_BYTES)]
    return Rows(hashes, 0, entry.layout.tree_height).root.hex() == entry.piece_root
