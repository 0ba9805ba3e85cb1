"""Fetching model files, and removing them: piece by piece from everybody, or whole from the CDN; hashed before they
count as installed.

Nothing is fetched before the row that says so is durable, so no bytes are on the disk that no row tells of. A file that
arrives short is kept and resumed; one whose SHA-256 is not the catalog's, or that the disk has no room for, is deleted.
One that is to be removed is first no longer offered, durably, and then deleted. Who swaps to a file, and whether it may
come or go, is judged in `manager`; how pieces come is left to the seeding folder (`Pieces`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from edgecoder.core.context import Context
from edgecoder.core.effects import CancelOp, DeleteFile, FetchFile, HashFile, Progress, Pulling
from edgecoder.core.events import (
    DeleteFailed,
    FetchFailed,
    FetchProgressed,
    FileDeleted,
    FileFetched,
    FileHashed,
    HashFailed,
    Persisted,
    PersistFailed,
)
from edgecoder.core.ids import CommandId, OpId
from edgecoder.core.ops import OnCompletion
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.models.inventory import DownloadState, DownloadStep, Inventory

OnEnd = Callable[[Reason | None], None]
"""Called once at the end of a fetch or a removal; None: the file is installed, or gone."""


class CallOff(Protocol):
    """A fetch of pieces that is under way."""

    def call_off(self, reason: Reason) -> None:
        """It is not wanted any more: it ends at once, with this reason."""
        ...


class Pieces(Protocol):
    """Who fetches files piece by piece."""

    def is_for(self, entry: CatalogEntry) -> bool:
        """Whether a file comes so."""
        ...

    def fetch(self, entry: CatalogEntry, on_end: OnEnd, on_progress: Callable[[int], None]) -> CallOff:
        """Get all pieces; `on_end` comes later, once."""
        ...

    def first_bytes(self, entry: CatalogEntry) -> int | None:
        """How many bytes are there from the first one on, where some of the file came piece by piece; None: nothing
        did."""
        ...

    def have(self, entry: CatalogEntry) -> int:
        """The pieces that are here and verified, a bit a piece, the lowest one the first."""
        ...

    def installed(self, entry: CatalogEntry) -> None:
        """The file is whole and durable."""
        ...

    def removed(self, entry: CatalogEntry) -> None:
        """It is about to be deleted: none of it is given or counted any more."""
        ...

    def erase(self, entry: CatalogEntry, on_durable: OnCompletion) -> None:
        """Take off the disk what says which of its pieces are here."""
        ...


class _Fetch(msgspec.Struct):
    entry: CatalogEntry
    ends: list[OnEnd]
    commands: list[CommandId]
    is_writing: bool = True
    """Whether its row is not durable yet: then nothing has been asked for."""
    op: OpId = 0
    """What is under way for it; 0: its pieces are."""
    pieces: CallOff | None = None
    removals: list[OnEnd] = msgspec.field(default_factory=list)
    """Who wants it removed: then it is called off."""


class Downloads:
    """The fetches that are under way, one a file."""

    def __init__(self, context: Context, inventory: Inventory, pieces: Pieces) -> None:
        self._context = context
        self._inventory = inventory
        self._pieces = pieces
        self._by_file: dict[str, _Fetch] = {}
        self._by_op: dict[OpId, _Fetch] = {}
        self._removals: dict[str, list[OnEnd]] = {}
        """Who waits for the end of a removal that is under way."""

    def __len__(self) -> int:
        return len(self._by_file)

    def is_busy_with(self, entry: CatalogEntry) -> bool:
        """Whether a file is being fetched or removed."""
        return entry.sha256 in self._by_file or entry.sha256 in self._removals

    def under_way(self) -> tuple[Pulling, ...]:
        """What is being fetched, and how far it is."""
        return tuple(self._pulling(fetch) for fetch in self._by_file.values())

    def _pulling(self, fetch: _Fetch) -> Pulling:
        entry = fetch.entry
        have = 0 if fetch.pieces is None else self._pieces.have(entry)
        return Pulling(entry.model_id, self._inventory.row(entry).bytes_done, entry.file_size_bytes, have)

    def resume(self, find: Callable[[str], CatalogEntry | None]) -> None:
        """Go on with what an earlier life was fetching; nobody waits for it any more."""
        for digest in self._inventory.wanted():
            entry = find(digest)
            if entry is not None:
                self.want(entry, None, lambda _: None)

    def want(self, entry: CatalogEntry, command: CommandId | None, on_end: OnEnd) -> None:
        """Fetch `entry`, or join the fetch that is under way; `command` gets the progress."""
        if self._inventory.state(entry) is DownloadState.INSTALLED:
            on_end(None)
            return
        fetch = self._by_file.get(entry.sha256)
        if fetch is not None and len(fetch.ends) >= self._context.config.joined_commands_max:
            on_end(Reason.OVERFLOW)
        elif (fetch is not None and fetch.removals) or entry.sha256 in self._removals:
            on_end(Reason.REMOVED)
        elif fetch is not None:
            fetch.ends.append(on_end)
            fetch.commands += [] if command is None else [command]
        else:
            fetch = _Fetch(entry, [on_end], [] if command is None else [command])
            if self._inventory.step(entry, DownloadStep.WANTED, on_durable=lambda written: self._begin(fetch, written)):
                self._by_file[entry.sha256] = fetch
            else:
                on_end(Reason.REMOVED)  # by an earlier life, which did not get to the end of it

    def _begin(self, fetch: _Fetch, written: Persisted | PersistFailed) -> None:
        entry = fetch.entry
        if fetch.removals:
            self._end(fetch, DownloadStep.INTERRUPTED, Reason.REMOVED)
            return
        if isinstance(written, PersistFailed):
            self._end(fetch, DownloadStep.INTERRUPTED, written.reason)
            return
        fetch.is_writing = False
        if self._pieces.is_for(entry):
            fetch.pieces = self._pieces.fetch(
                entry, lambda reason: self._pieces_ended(fetch, reason), lambda done: self._note(fetch, done)
            )
        else:
            self._fetch_whole(fetch)

    def _fetch_whole(self, fetch: _Fetch) -> None:
        """Without its pieces, from where they are not in a row any more."""
        entry = fetch.entry
        fetch.op = self._context.ops.begin(self._fetched)
        self._by_op[fetch.op] = fetch
        first_bytes = self._pieces.first_bytes(entry)
        offset_bytes = self._inventory.row(entry).bytes_done if first_bytes is None else first_bytes
        self._context.out.append(FetchFile(fetch.op, entry, offset_bytes))

    def progressed(self, event: FetchProgressed) -> None:
        """Some more of a file is on disk."""
        fetch = self._by_op.get(event.op)
        if fetch is not None:
            self._note(fetch, event.bytes_done)

    def _note(self, fetch: _Fetch, bytes_done: int) -> None:
        self._inventory.note_bytes(fetch.entry, bytes_done)
        for command in fetch.commands:
            self._context.out.append(Progress(command, bytes_done=bytes_done))

    def _pieces_ended(self, fetch: _Fetch, reason: Reason | None) -> None:
        fetch.pieces = None
        if fetch.removals:
            self._end(fetch, DownloadStep.INTERRUPTED, Reason.REMOVED)
        elif reason is Reason.NO_PROOFS:
            self._fetch_whole(fetch)
        elif reason is not None:
            self._end(fetch, DownloadStep.INTERRUPTED, reason)
        else:
            self._arrived(fetch, fetch.entry.file_size_bytes)

    def _fetched(self, completion: FileFetched | FetchFailed) -> None:
        fetch = self._by_op.pop(completion.op)
        if fetch.removals:
            self._end(fetch, DownloadStep.INTERRUPTED, Reason.REMOVED)
            return
        if isinstance(completion, FetchFailed):
            self._end(fetch, DownloadStep.INTERRUPTED, completion.reason)
            return
        self._arrived(fetch, completion.size_bytes)

    def _arrived(self, fetch: _Fetch, size_bytes: int) -> None:
        self._inventory.note_bytes(fetch.entry, size_bytes)
        self._inventory.step(fetch.entry, DownloadStep.ARRIVED)
        fetch.op = self._context.ops.begin(self._hashed)
        self._by_op[fetch.op] = fetch
        self._context.out.append(HashFile(fetch.op, fetch.entry))

    def _hashed(self, completion: FileHashed | HashFailed) -> None:
        fetch = self._by_op.pop(completion.op)
        if fetch.removals:
            self._end(fetch, DownloadStep.UNREADABLE, Reason.REMOVED)
        elif isinstance(completion, HashFailed):
            self._end(fetch, DownloadStep.UNREADABLE, completion.reason)
        elif completion.sha256 == fetch.entry.sha256:
            self._end(fetch, DownloadStep.MATCHED, None)
        else:
            self._end(fetch, DownloadStep.DIFFERED, Reason.CHECKSUM_MISMATCH)

    def _end(self, fetch: _Fetch, step: DownloadStep, reason: Reason | None) -> None:
        entry = fetch.entry
        del self._by_file[entry.sha256]

        def durable(completion: Persisted | PersistFailed) -> None:
            is_here = self._inventory.state(entry) is DownloadState.INSTALLED  # still: it may have been removed
            if step is DownloadStep.MATCHED and isinstance(completion, Persisted) and is_here:
                self._pieces.installed(entry)

        is_without_room = reason is Reason.DISK_FULL and not fetch.is_writing
        if step is DownloadStep.DIFFERED:
            self._begin_removal(entry, fetch.removals, step, reason)
        else:
            self._inventory.step(entry, step, reason, on_durable=durable)
        if is_without_room or (fetch.removals and step is not DownloadStep.DIFFERED):
            self._begin_removal(entry, fetch.removals)
        for on_end in fetch.ends:
            on_end(reason)

    def doubted(self, entry: CatalogEntry, reason: Reason) -> None:
        """An installed file is gone or not what it was: it has to come again. Nothing of it is given or counted."""
        if not self.is_busy_with(entry) and self._inventory.step(entry, DownloadStep.DOUBTED, reason):
            self._pieces.removed(entry)

    # -- removal -------------------------------------------------------------------------------------------------------

    def remove(self, entry: CatalogEntry, on_end: OnEnd) -> None:
        """Delete a file, or join its removal; a fetch that is under way is called off first. A file that cannot be
        deleted is quarantined."""
        fetch = self._by_file.get(entry.sha256)
        waiting = self._removals.get(entry.sha256) if fetch is None else fetch.removals
        if waiting is None:
            self._begin_removal(entry, [on_end])
        elif len(waiting) >= self._context.config.joined_commands_max:
            on_end(Reason.OVERFLOW)
        else:
            waiting.append(on_end)
            if fetch is not None and len(waiting) == 1:
                if fetch.pieces is not None:
                    fetch.pieces.call_off(Reason.REMOVED)
                elif not fetch.is_writing:
                    self._context.out.append(CancelOp(fetch.op))

    def resume_removals(self, find: Callable[[str], CatalogEntry | None]) -> None:
        """Delete what an earlier life was told to remove. What the catalog does not know any more stays."""
        for digest in self._inventory.removing():
            entry = find(digest)
            if entry is not None:
                self._removals[digest] = []
                self._erase(entry)

    def _begin_removal(
        self,
        entry: CatalogEntry,
        ends: list[OnEnd],
        step: DownloadStep = DownloadStep.REMOVED,
        why: Reason | None = None,
    ) -> None:
        def durable(completion: Persisted | PersistFailed) -> None:
            if isinstance(completion, PersistFailed):
                self._deleted(entry, completion.reason)
            else:
                self._erase(entry)

        self._removals[entry.sha256] = ends
        self._pieces.removed(entry)
        if not self._inventory.step(entry, step, why, on_durable=durable):
            for on_end in self._removals.pop(entry.sha256):
                on_end(Reason.NOT_INSTALLED)

    def _erase(self, entry: CatalogEntry) -> None:
        """Delete a file, but first what tells of its pieces: else the next download of it might believe that."""

        def durable(completion: Persisted | PersistFailed) -> None:
            if isinstance(completion, PersistFailed):
                self._deleted(entry, completion.reason)
            else:
                self._delete(entry)

        if entry.piece_root:
            self._pieces.erase(entry, durable)
        else:
            self._delete(entry)

    def _delete(self, entry: CatalogEntry) -> None:
        def completed(completion: FileDeleted | DeleteFailed) -> None:
            self._deleted(entry, completion.reason if isinstance(completion, DeleteFailed) else None)

        self._context.out.append(DeleteFile(self._context.ops.begin(completed), entry))

    def _deleted(self, entry: CatalogEntry, reason: Reason | None) -> None:
        step = DownloadStep.DELETED if reason is None else DownloadStep.UNDELETABLE
        self._inventory.step(entry, step, reason)
        for on_end in self._removals.pop(entry.sha256):
            on_end(reason)
