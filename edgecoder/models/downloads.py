"""Fetching model files: whole files from the CDN, hashed before they count as installed.

A file that arrives short is kept and resumed, one whose SHA-256 is not the catalog's is thrown away. Who swaps to it
afterwards is `node`'s business; pieces, peers and the planner come with the seeding folder.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edgecoder.core.context import Context
from edgecoder.core.effects import FetchFile, HashFile, Progress
from edgecoder.core.events import FetchFailed, FetchProgressed, FileFetched, FileHashed, HashFailed
from edgecoder.core.ids import CommandId, OpId
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.models.inventory import DownloadState, DownloadStep, Inventory

OnEnd = Callable[[Reason | None], None]
"""Called once at the end of a fetch; None: the file is installed."""


class _Fetch(msgspec.Struct):
    entry: CatalogEntry
    ends: list[OnEnd]
    commands: list[CommandId]


class Downloads:
    """The fetches that are under way, one a file."""

    def __init__(self, context: Context, inventory: Inventory) -> None:
        self._context = context
        self._inventory = inventory
        self._by_file: dict[str, _Fetch] = {}
        self._by_op: dict[OpId, _Fetch] = {}

    def __len__(self) -> int:
        return len(self._by_file)

    def want(self, entry: CatalogEntry, command: CommandId, on_end: OnEnd) -> None:
        """Fetch `entry`, or join the fetch that is under way; `command` gets the progress."""
        if self._inventory.state(entry) is DownloadState.INSTALLED:
            on_end(None)
            return
        fetch = self._by_file.get(entry.sha256)
        if fetch is not None and len(fetch.ends) >= self._context.config.joined_commands_max:
            on_end(Reason.OVERFLOW)
        elif fetch is not None:
            fetch.ends.append(on_end)
            fetch.commands.append(command)
        elif not self._inventory.step(entry, DownloadStep.WANTED):
            on_end(Reason.QUARANTINED)
        else:
            fetch = self._by_file[entry.sha256] = _Fetch(entry, [on_end], [command])
            op = self._context.ops.begin(self._fetched)
            self._by_op[op] = fetch
            self._context.out.append(FetchFile(op, entry, self._inventory.row(entry).bytes_done))

    def progressed(self, event: FetchProgressed) -> None:
        """Some more of a file is on disk."""
        fetch = self._by_op.get(event.op)
        if fetch is None:
            return
        self._inventory.note_bytes(fetch.entry, event.bytes_done)
        for command in fetch.commands:
            self._context.out.append(Progress(command, bytes_done=event.bytes_done))

    def _fetched(self, completion: FileFetched | FetchFailed) -> None:
        fetch = self._by_op.pop(completion.op)
        if isinstance(completion, FetchFailed):
            self._end(fetch, DownloadStep.INTERRUPTED, completion.reason)
            return
        self._inventory.note_bytes(fetch.entry, completion.size_bytes)
        self._inventory.step(fetch.entry, DownloadStep.ARRIVED)
        op = self._context.ops.begin(self._hashed)
        self._by_op[op] = fetch
        self._context.out.append(HashFile(op, fetch.entry))

    def _hashed(self, completion: FileHashed | HashFailed) -> None:
        fetch = self._by_op.pop(completion.op)
        if isinstance(completion, HashFailed):
            self._end(fetch, DownloadStep.UNREADABLE, completion.reason)
        elif completion.sha256 == fetch.entry.sha256:
            self._end(fetch, DownloadStep.MATCHED, None)
        else:
            self._end(fetch, DownloadStep.DIFFERED, Reason.CHECKSUM_MISMATCH)

    def _end(self, fetch: _Fetch, step: DownloadStep, reason: Reason | None) -> None:
        del self._by_file[fetch.entry.sha256]
        self._inventory.step(fetch.entry, step, reason)
        for on_end in fetch.ends:
            on_end(reason)
