"""The files that the engine's own server keeps, an Ollama's for one: they come and go without this node, and nobody has
to fetch them. Those that the catalog does not know are taken into it, under the names that they have there.

A driver tells the whole list whenever it differs from what it told before (`FilesHeld`); what follows for the rows of
the inventory is decided here. How such a server is asked, and how a file gets there, is left to its driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from edgecoder.core.context import Context
from edgecoder.core.events import FilesHeld, HeldFile
from edgecoder.errors import UNREADABLE, Reason
from edgecoder.models.catalog import (
    PARAM_SIZE_MAX,
    Catalog,
    CatalogEntry,
    Platform,
    is_model_name,
    normalise,
    param_size_of,
    told_apart,
)
from edgecoder.models.downloads import Downloads
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, DownloadStep, FileRow, Inventory, decode_rows, encode_rows

KEY = "held"
MIB = 1 << 20
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[HeldFile, ...])


class HeldFiles:
    """What the engine's server has, as far as this node was told."""

    def __init__(
        self, context: Context, catalog: Catalog, platform: Platform, inventory: Inventory, downloads: Downloads
    ) -> None:
        """`catalog` grows."""
        self._context = context
        self._catalog = catalog
        self._platform = platform
        self._inventory = inventory
        self._downloads = downloads
        self.digests: frozenset[str] = frozenset()
        """SHA-256 of those files; they take no room of this node's quota."""
        self._kept = b""
        """What of it this life has written."""

    def restore(self, value: bytes | None) -> None:
        """Know again what an earlier life was told, before anybody looks for an entry."""
        try:
            self._take_in(decode_files(value))
        except ValueError:
            self._context.drop(KEY, Reason.STORE_FAILED)

    def told(self, event: FilesHeld) -> None:
        """The list is this now. What is being fetched or removed stays as it is until that is through."""
        told = encode_files(event.files)
        if told != self._kept:
            self._kept = told
            self._context.persist(KEY, told)
        self._take_in(event.files)
        there = self.digests.union(event.stored)
        for entry in self._catalog.entries:
            if not self._downloads.is_busy_with(entry):
                if entry.sha256 in there:
                    self._inventory.step(entry, DownloadStep.FOUND)
                elif self._inventory.state(entry) is DownloadState.INSTALLED:
                    self._inventory.step(entry, DownloadStep.LOST)
        for entry in self._catalog.local:
            if self._inventory.state(entry) is DownloadState.ABSENT:
                self._catalog.remove_local(entry)

    def _take_in(self, files: tuple[HeldFile, ...]) -> None:
        self.digests = frozenset(file.sha256 for file in files)
        for file in files:
            entry = None if file.sha256 in self._catalog.by_digest else entry_of(file, self._catalog, self._platform)
            if entry is not None:
                self._catalog.add_local(entry)


def entry_of(file: HeldFile, catalog: Catalog, platform: Platform) -> CatalogEntry | None:
    """The entry of a file that the catalog does not know; None where no name of the mesh's grammar can be made of its
    own."""
    size, name = param_size_of(file.name, file.parameter_size), name_of(file, catalog, platform)
    if name is None or file.size_bytes <= 0:
        return None
    return CatalogEntry(
        model_id=name,
        display_name=file.name,
        param_size=size if size is not None and 0 < size <= PARAM_SIZE_MAX else None,
        quantization=file.quantization,
        file_size_bytes=file.size_bytes,
        sha256=file.sha256,
        min_memory_mb=-(-file.size_bytes // MIB),
        platforms=(platform,),
        architecture=file.architecture,
        context_length=file.context_length,
        kv_bytes_per_token=file.kv_bytes_per_token,
    )


def name_of(file: HeldFile, catalog: Catalog, platform: Platform) -> str | None:
    """What a file is called here: its name there, without the host where there are two levels before the last; with the
    first eight digits of its SHA-256 behind it where that is the id of another file."""
    ids = {entry.model_id for entry in catalog.entries if platform in entry.platforms}
    name = "/".join(normalise(file.name).split("/")[-2:])
    if name in ids:
        name = told_apart(name, file.sha256)
    return name if is_model_name(name) and name not in ids else None


def encode_files(files: Iterable[HeldFile]) -> bytes:
    """The persisted form."""
    return _encoder.encode(tuple(files))


def decode_files(value: bytes | None) -> tuple[HeldFile, ...]:
    """The files of a persisted form; of none, none. Raises ValueError where it is damaged."""
    try:
        return _decoder.decode(value) if value else ()
    except UNREADABLE as error:
        raise ValueError(str(error)) from None


def with_held(snapshot: Mapping[str, bytes], files: Iterable[HeldFile] | None) -> dict[str, bytes]:
    """A snapshot to start with, which counts what the server keeps as installed; `files` None: it cannot be asked, and
    what it told last holds."""
    try:
        told = decode_files(snapshot.get(KEY)) if files is None else tuple(files)
        rows = decode_rows(snapshot.get(INVENTORY_KEY))
    except ValueError:
        return dict(snapshot)  # the core says so when it starts
    for file in told:
        row = rows.setdefault(file.sha256, FileRow())
        if row.state in (DownloadState.ABSENT, DownloadState.PARTIAL):
            row.state, row.bytes_done, row.is_wanted = DownloadState.INSTALLED, file.size_bytes, False
    return {**snapshot, KEY: encode_files(told), INVENTORY_KEY: encode_rows(rows)}
