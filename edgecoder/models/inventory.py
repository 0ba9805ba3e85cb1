"""Which model files this node has, and in what state. Downloads have these states and no others; whether a model is
loaded is `swap`'s business, and the two never share an enum.

A file is its SHA-256. What the inventory says is persisted as one value, written again at every change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from edgecoder.core.context import Context
from edgecoder.core.labels import Label
from edgecoder.core.ops import OnCompletion
from edgecoder.errors import UNREADABLE, Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.trace import DownloadPhase

KEY = "inventory"


class DownloadState(Label):
    """Where a file stands."""

    ABSENT = "absent"
    PARTIAL = "partial"
    VERIFYING = "verifying"
    INSTALLED = "installed"
    QUARANTINED = "quarantined"
    """Not to be loaded: it took the engine or the node down, or it could not be deleted."""
    REMOVING = "removing"


class DownloadStep(Label):
    """What can happen to a file."""

    WANTED = "wanted"
    ARRIVED = "arrived"
    INTERRUPTED = "interrupted"
    MATCHED = "matched"
    DIFFERED = "differed"
    UNREADABLE = "unreadable"
    CRASHED_TOO_OFTEN = "crashedTooOften"
    REMOVED = "removed"
    DELETED = "deleted"
    UNDELETABLE = "undeletable"
    FOUND = "found"
    """The engine's own server has it, whoever brought it there."""
    LOST = "lost"
    """It has it no longer, and nobody asked this node."""
    DOUBTED = "doubted"
    """The store does not vouch for it any more: somebody deleted it, or wrote to it."""


DOWNLOAD_TABLE: Mapping[tuple[DownloadState, DownloadStep], DownloadState] = MappingProxyType(
    {
        (DownloadState.ABSENT, DownloadStep.WANTED): DownloadState.PARTIAL,
        (DownloadState.PARTIAL, DownloadStep.WANTED): DownloadState.PARTIAL,
        (DownloadState.PARTIAL, DownloadStep.INTERRUPTED): DownloadState.PARTIAL,
        (DownloadState.PARTIAL, DownloadStep.ARRIVED): DownloadState.VERIFYING,
        (DownloadState.PARTIAL, DownloadStep.REMOVED): DownloadState.REMOVING,
        (DownloadState.VERIFYING, DownloadStep.MATCHED): DownloadState.INSTALLED,
        (DownloadState.VERIFYING, DownloadStep.DIFFERED): DownloadState.REMOVING,
        (DownloadState.VERIFYING, DownloadStep.UNREADABLE): DownloadState.PARTIAL,
        (DownloadState.INSTALLED, DownloadStep.CRASHED_TOO_OFTEN): DownloadState.QUARANTINED,
        (DownloadState.INSTALLED, DownloadStep.REMOVED): DownloadState.REMOVING,
        (DownloadState.QUARANTINED, DownloadStep.WANTED): DownloadState.PARTIAL,
        (DownloadState.QUARANTINED, DownloadStep.REMOVED): DownloadState.REMOVING,
        (DownloadState.REMOVING, DownloadStep.DELETED): DownloadState.ABSENT,
        (DownloadState.REMOVING, DownloadStep.UNDELETABLE): DownloadState.QUARANTINED,
        (DownloadState.ABSENT, DownloadStep.FOUND): DownloadState.INSTALLED,
        (DownloadState.PARTIAL, DownloadStep.FOUND): DownloadState.INSTALLED,
        (DownloadState.INSTALLED, DownloadStep.LOST): DownloadState.ABSENT,
        (DownloadState.INSTALLED, DownloadStep.DOUBTED): DownloadState.PARTIAL,
    }
)


class FileRow(msgspec.Struct):
    """What is known of one file."""

    state: DownloadState = DownloadState.ABSENT
    bytes_done: int = 0
    crashes: int = 0
    """How often the engine crashed with it, since it was installed."""
    deaths: int = 0
    """How many lives of the node ended before a load of it did, in a row."""
    is_wanted: bool = False
    """Whether it is being fetched: a life that ends meanwhile leaves that to the next."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, FileRow])


def encode_rows(rows: dict[str, FileRow]) -> bytes:
    """The persisted form: SHA-256 hex to row."""
    return _encoder.encode(rows)


def decode_rows(value: bytes | None) -> dict[str, FileRow]:
    """The rows of a persisted form; of none, none. Raises ValueError where it is damaged."""
    try:
        return _decoder.decode(value) if value else {}
    except UNREADABLE as error:
        raise ValueError(str(error)) from None


class Inventory:
    """The files of one node."""

    def __init__(self, context: Context, on_change: Callable[[], None]) -> None:
        """`on_change` is called when other files are installed than before."""
        self._context = context
        self._on_change = on_change
        self._rows: dict[str, FileRow] = {}
        self._digest: bytes | None = None

    def restore(self, value: bytes | None) -> None:
        """Take what an earlier life persisted. A file that was being verified has to be verified again; a damaged
        record is none."""
        try:
            self._rows = decode_rows(value)
        except ValueError:
            self._rows = {}
            self._context.drop(KEY, Reason.STORE_FAILED)
        self._digest = None
        for row in self._rows.values():
            if row.state is DownloadState.VERIFYING:
                row.state = DownloadState.PARTIAL

    @property
    def rows(self) -> Mapping[str, FileRow]:
        """What is known of files, by SHA-256; the catalog need not know them any more."""
        return self._rows

    def row(self, entry: CatalogEntry) -> FileRow:
        """The row of a file; an unknown file is absent."""
        return self._rows.setdefault(entry.sha256, FileRow())

    def state(self, entry: CatalogEntry) -> DownloadState:
        """Where a file stands."""
        row = self._rows.get(entry.sha256)
        return DownloadState.ABSENT if row is None else row.state

    def wanted(self) -> list[str]:
        """SHA-256 of the files that an earlier life did not finish fetching."""
        return [digest for digest, row in self._rows.items() if row.is_wanted and row.state is DownloadState.PARTIAL]

    def removing(self) -> list[str]:
        """SHA-256 of the files that an earlier life did not finish removing."""
        return [digest for digest, row in self._rows.items() if row.state is DownloadState.REMOVING]

    def step(
        self,
        entry: CatalogEntry,
        step: DownloadStep,
        reason: Reason | None = None,
        on_durable: OnCompletion | None = None,
    ) -> bool:
        """Move a file along the table; False where the table has no such row. A quarantined file begins anew."""
        row = self.row(entry)
        following = DOWNLOAD_TABLE.get((row.state, step))
        if following is None:
            return False
        is_change = DownloadState.INSTALLED in (row.state, following)
        is_gone = following is DownloadState.ABSENT or step is DownloadStep.DOUBTED
        is_anew = is_gone or row.state is DownloadState.QUARANTINED
        row.state = following
        row.is_wanted = step in (DownloadStep.WANTED, DownloadStep.ARRIVED)
        if is_anew:
            row.bytes_done = row.crashes = row.deaths = 0
        self._digest = None
        self._context.trace(DownloadPhase(entry.model_id, following.value, row.bytes_done, reason))
        self._context.persist(KEY, encode_rows(self._rows), on_durable)
        if is_change:
            self._on_change()
        return True

    def note_bytes(self, entry: CatalogEntry, bytes_done: int) -> None:
        """Remember how much of a file is on disk; it becomes durable with the next step."""
        self.row(entry).bytes_done = bytes_done

    def note_crash(self, entry: CatalogEntry) -> bool:
        """Count a crash of the engine with this file. True when it is quarantined by this one."""
        row = self.row(entry)
        row.crashes += 1
        return self._judge(entry, row.crashes)

    def note_death(self, entry: CatalogEntry) -> bool:
        """The node died while this file was to be loaded: an engine in its own process may have taken it along. True
        when the file is quarantined by this one."""
        row = self.row(entry)
        row.deaths += 1
        return self._judge(entry, row.deaths)

    def note_loaded(self, entry: CatalogEntry) -> None:
        """This file could be loaded: whatever the node died of, it was not that."""
        row = self.row(entry)
        if row.deaths:
            row.deaths = 0
            self._context.persist(KEY, encode_rows(self._rows))

    def _judge(self, entry: CatalogEntry, crashes: int) -> bool:
        if crashes >= self._context.config.engine_crashes_max:
            return self.step(entry, DownloadStep.CRASHED_TOO_OFTEN, Reason.ENGINE_CRASHED)
        self._context.persist(KEY, encode_rows(self._rows))
        return False

    def digest(self) -> bytes:
        """Eight bytes over the installed files: differs when what this node can seed differs."""
        if self._digest is None:
            held = sorted(digest for digest, row in self._rows.items() if row.state is DownloadState.INSTALLED)
            self._digest = hashlib.blake2b("".join(held).encode(), digest_size=8).digest()
        return self._digest
