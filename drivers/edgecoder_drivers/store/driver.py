"""The driver of a store: what the core keeps, its model files, and their bytes from the CDN.

Nothing that blocks runs on the loop. The registry has a thread; files are written, synced and hashed in others, and an
operation that is cancelled ends when its thread has. What is said to be on the disk has been synced before.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgecoder.core import effects as ask
from edgecoder.core.effects import AllocateFile, DeleteFile, Effect, FetchFile, FetchPiece, HashFile, Operation, Persist
from edgecoder.core.events import (
    Completion,
    FileAllocated,
    FileDeleted,
    FileDoubted,
    FileFetched,
    FileHashed,
    FileOffered,
    Persisted,
    PieceArrived,
    PieceFailed,
    PieceFetched,
)
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.driver import Operate, Perform, Post, Refused
from edgecoder_drivers.store.blobs import Blobs
from edgecoder_drivers.store.fetch import FileFetch, PieceFetch, disk_errors
from edgecoder_drivers.store.files import Stamp
from edgecoder_drivers.store.pieces import PieceRow
from edgecoder_drivers.store.source import LocalFile, PeerSource, Source
from edgecoder_drivers.store.threads import in_background, in_thread
from edgecoder_drivers.store.trees import LeafHashes, Trees

LOOK_S = 60.0
"""Between two looks at whether the verified files are what they were."""
T = TypeVar("T")


class OfferedError(Exception):
    """A file on this machine takes the place of what is being fetched."""


def _is_cancelled() -> bool:
    """Whether the operation is, and not only what it waits for."""
    this = asyncio.current_task()
    return this is not None and this.cancelling() > 0


class StoreDriver:
    """See `driver.Driver`. Made with an open store (`opening.open_store`), which it closes."""

    def __init__(self, blobs: Blobs, source: Source, peers: Callable[[FetchPiece], PeerSource] | None = None) -> None:
        """`source` is the CDN."""
        self._blobs = blobs
        self._source = source
        self.peers = peers
        """Finds the peer that a piece is to come from over the mesh, or raises Refused; None: no piece does."""
        self._trees = Trees(blobs)
        self._offered: dict[str, LocalFile] = {}
        self._fetches: dict[str, set[asyncio.Task[Any]]] = {}
        """What is under way with others, by SHA-256."""
        self._unproved: set[str] = set()
        """Files that are not what their piece roots say."""
        self._post: Post = lambda event: None
        self._looking: asyncio.Task[None] | None = None

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""
        self._post = post
        self._looking = asyncio.get_running_loop().create_task(self._keep_looking(), name="look at files")

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`."""
        return {
            Persist: self._persist,
            AllocateFile: self._allocate,
            FetchFile: self._fetch,
            FetchPiece: self._fetch_pieces,
            HashFile: self._hash,
            DeleteFile: self._delete,
        }

    def effects(self) -> Mapping[type[Effect], Perform]:
        """See `driver.Driver`."""
        return {}

    async def close(self) -> None:
        """See `driver.Driver`."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        await asyncio.to_thread(self._blobs.registry.close)

    # -- beside the core -----------------------------------------------------------------------------------------------

    def find(self, entry: CatalogEntry) -> tuple[Path, Stamp]:
        """Where a verified file lies, and what it was when it was hashed. Raises Refused: not_installed, and
        checksum_mismatch where it has been written to since; the core is told too."""
        stamp = self._blobs.verified.get(entry.sha256)
        if stamp is None:
            raise Refused(Reason.NOT_INSTALLED, entry.model_id)
        return self._look_at(entry.sha256, stamp)

    def _look_at(self, sha256: str, stamp: Stamp) -> tuple[Path, Stamp]:
        path = self._blobs.path(sha256)
        try:
            now = self._blobs.files.stat(path)
        except OSError as error:
            raise Refused(Reason.STORE_FAILED, str(error)) from error
        if now != stamp:
            reason = Reason.NOT_INSTALLED if now is None else Reason.CHECKSUM_MISMATCH
            self._post(FileDoubted(sha256, reason))
            raise Refused(reason, f"{path} is {'gone' if now is None else 'not what it was'}")
        return path, stamp

    async def _keep_looking(self) -> None:
        """Others may delete files, or write to them."""
        while True:
            await asyncio.sleep(LOOK_S)
            for sha256, stamp in tuple(self._blobs.verified.items()):
                with suppress(Refused):
                    self._look_at(sha256, stamp)

    def path(self, entry: CatalogEntry) -> Path | None:
        """Where a verified file lies; None where `find` refuses."""
        try:
            return self.find(entry)[0]
        except Refused:
            return None

    def has_bytes(self, entry: CatalogEntry) -> bool:
        """Whether anything of a file lies here."""
        return self._blobs.files.stat(self._blobs.path(entry.sha256)) is not None

    async def bytes_at(self, entry: CatalogEntry) -> Path:
        """Where a file lies that is here, whole or in parts. Raises Refused: not_held, and as `find`."""
        if entry.sha256 in self._blobs.verified:
            return self.find(entry)[0]
        path = self._blobs.path(entry.sha256)
        if self._blobs.files.stat(path) is None:
            path = self._blobs.blobs / path.name  # it is being installed: renamed, and its row is not written yet
        if self._blobs.files.stat(path) is None:
            raise Refused(Reason.NOT_HELD, entry.model_id)
        return path

    async def hashes_of(self, entry: CatalogEntry, path: Path | None = None) -> bytes:
        """The hashes of all leaves of a file of which pieces are here, or that lies whole at a path; where it did not
        come by them they are made from it. Raises Refused (not_held, store_failed)."""
        path = path or await self.bytes_at(entry)
        if entry.sha256 in self._unproved:
            raise Refused(Reason.NOT_HELD, f"{path} has other leaf hashes than the catalog's")
        try:
            with disk_errors():
                return await self._trees.whole(entry, LocalFile(self._blobs.files, path))
        except Refused as refused:
            if refused.reason is not Reason.STORE_FAILED:  # it is not read again for everybody who asks
                self._unproved.add(entry.sha256)
            raise

    @contextmanager
    def offering(self, entry: CatalogEntry, path: Path) -> Iterator[None]:
        """Meanwhile a file on this machine takes the CDN's place: a pull is an import then, also one that has begun."""
        self.path(entry)  # what is gone from here comes anew
        self._offered[entry.sha256] = LocalFile(self._blobs.files, path)
        for fetch in self._fetches.get(entry.sha256, ()):
            fetch.cancel()
        self._post(FileOffered(entry.sha256))
        try:
            yield
        finally:
            del self._offered[entry.sha256]

    def is_offered(self, entry: CatalogEntry) -> bool:
        """Whether such a file is there now."""
        return entry.sha256 in self._offered

    async def unless_offered(self, entry: CatalogEntry, fetch: Awaitable[T]) -> T:
        """Fetch from elsewhere. Raises OfferedError where the user has a file in its place meanwhile."""
        task = asyncio.ensure_future(fetch)
        running = self._fetches.setdefault(entry.sha256, set())
        running.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise OfferedError from None
        finally:
            running.discard(task)
            if not running:
                self._fetches.pop(entry.sha256, None)

    # -- operations ----------------------------------------------------------------------------------------------------

    async def _persist(self, effect: Persist) -> Completion:
        written = self._blobs.registry.keep(effect.key, effect.value)  # before anything is awaited: in their order
        with disk_errors():
            await asyncio.shield(asyncio.wrap_future(written))
        return Persisted(effect.op)

    async def _allocate(self, effect: AllocateFile) -> Completion:
        with disk_errors():
            await in_thread(lambda stop: self._blobs.allocate(effect.entry, stop))
        return FileAllocated(effect.op)

    async def _hash(self, effect: HashFile) -> Completion:
        """And the leaves of a file that came whole: whoever has its tree can give it to others."""
        entry = effect.entry
        with disk_errors():
            leaves = LeafHashes() if await self._trees.is_missing(entry) else None
            found = await in_background(lambda stop: self._blobs.digest(entry, stop, leaves))
        if leaves is not None and found == entry.sha256:
            with suppress(OSError):  # the file is there all the same
                await self._trees.keep(entry, leaves.end())
        return FileHashed(effect.op, found)

    async def _delete(self, effect: DeleteFile) -> Completion:
        self._trees.forget(effect.entry)
        self._unproved.discard(effect.entry.sha256)
        with disk_errors():
            await in_thread(lambda _: self._blobs.delete(effect.entry))
        return FileDeleted(effect.op)

    # -- bytes ---------------------------------------------------------------------------------------------------------

    async def _fetch(self, effect: FetchFile) -> Completion:
        while True:
            try:
                with disk_errors():
                    await self.unless_offered(effect.entry, self._fetch_rest(effect))
            except OfferedError:
                continue
            return FileFetched(effect.op, effect.entry.file_size_bytes)

    async def _fetch_rest(self, effect: FetchFile) -> None:
        entry = effect.entry
        first_byte = await in_thread(lambda stop: self._prepare(effect, stop))
        if first_byte < entry.file_size_bytes:
            writer = self._blobs.writer(entry)
            try:
                await FileFetch(effect, self._blobs, writer, first_byte, self._post).run(self._source_of(entry))
            finally:
                writer.close()

    def _prepare(self, effect: FetchFile, stop: threading.Event) -> int:
        """Where to go on; a file that is verified, still, does not have to come again. One of the user's is read from
        its beginning: what came from elsewhere may be why it is offered."""
        entry, blobs = effect.entry, self._blobs
        if entry.sha256 in blobs.verified:
            is_believed = effect.offset_bytes > 0 and blobs.is_unchanged(entry.sha256)
            if is_believed or blobs.is_right(entry, stop):
                return entry.file_size_bytes
        first_byte = min(effect.offset_bytes, entry.file_size_bytes)
        if not blobs.allocate(entry, stop) or entry.sha256 in self._offered:
            first_byte = 0
        if not first_byte:
            blobs.forget_synced(entry)
        return first_byte

    async def _fetch_pieces(self, effect: FetchPiece) -> Completion:
        entry = effect.entry
        if entry.sha256 in self._blobs.verified:
            for piece in range(effect.piece, effect.piece + effect.count - 1):
                self._post(PieceArrived(effect.op, piece))
            return PieceFetched(effect.op)
        if effect.source is ask.Source.MESH and self.peers is not None:
            return await self._fetch_from(self.peers(effect), effect)
        if effect.source is not ask.Source.CDN:
            raise Refused(Reason.UNAVAILABLE, f"no pieces from {effect.source.value}")
        try:
            completion = await self.unless_offered(entry, self._fetch_row(effect, self._source_of(entry)))
        except OfferedError:
            return PieceFailed(effect.op, Reason.SUPERSEDED)
        if isinstance(completion, PieceFailed) and completion.reason is Reason.CANCELLED and not _is_cancelled():
            return msgspec.structs.replace(completion, reason=Reason.SUPERSEDED)
        return completion

    async def _fetch_from(self, peer: PeerSource, effect: FetchPiece) -> Completion:
        try:
            completion = await self._fetch_row(effect, peer, is_peer=True)
        except Refused as refused:
            completion = PieceFailed(effect.op, refused.reason, effect.first_leaf)
        return msgspec.structs.replace(completion, have=peer.have)

    async def _fetch_row(
        self, effect: FetchPiece, source: Source, *, is_peer: bool = False
    ) -> PieceFetched | PieceFailed:
        entry, layout = effect.entry, effect.entry.layout
        first = layout.leaves_of(effect.piece).start + effect.first_leaf
        end = layout.leaves_of(effect.piece + effect.count - 1).stop
        with disk_errors():
            hashes = await self._trees.leaves(entry, first, end, source, is_peer=is_peer)
        writer = self._blobs.writer(entry)
        try:
            row = PieceRow(entry, effect.piece, effect.first_leaf, effect.count, hashes)
            return await PieceFetch(effect, row, writer, self._post).run(source)
        finally:
            writer.close()

    def _source_of(self, entry: CatalogEntry) -> Source:
        return self._offered.get(entry.sha256, self._source)
