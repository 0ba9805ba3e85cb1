"""The model files that Ollama keeps: fetched by it, given to it, taken from it.

Whether a file of the catalog is there is told by its SHA-256, never by a name: Ollama is shared, and a name that
somebody uses for another build is left alone. The operations stand in a table like a driver's, for whoever decides
which files are Ollama's and which lie in the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

from edgecoder.core.effects import DeleteFile, FetchFile, HashFile, Operation
from edgecoder.core.events import Completion, FetchProgressed, FileDeleted, FileFetched, FileHashed
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry, normalise
from edgecoder_drivers.driver import Operate, Post, Refused
from edgecoder_drivers.ollama.client import Client, Said
from edgecoder_drivers.ollama.names import name_to_pull, names_for, names_held, names_taken


class _Stamp(NamedTuple):
    """What differs when a file has been written to."""

    inode: int
    size: int
    mtime_ns: int


class OllamaFiles:
    """The files of one server."""

    def __init__(self, client: Client, models: Path | None = None) -> None:
        """`models` is the server's folder, where it is on this machine under another path than the server says; None:
        what OLLAMA_MODELS says."""
        self._client = client
        told = os.environ.get("OLLAMA_MODELS")
        self._models = models or (Path(told) if told else None)
        self._post: Post = lambda event: None
        self._right: dict[Path, _Stamp] = {}
        """Files whose SHA-256 was right, and what they were then."""

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""
        self._post = post

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`."""
        return {FetchFile: self._fetch, HashFile: self._hash, DeleteFile: self._delete}

    async def has(self, entry: CatalogEntry) -> bool:
        """Whether Ollama has a file, under one of its names."""
        return bool(await names_held(self._client, entry))

    # -- operations ----------------------------------------------------------------------------------------------------

    async def _fetch(self, effect: FetchFile) -> Completion:
        entry = effect.entry
        done = FileFetched(effect.op, entry.file_size_bytes)
        if await self.has(entry):
            return done
        name = name_to_pull(entry)
        if name is None:
            raise Refused(Reason.NO_SOURCE, f"{entry.model_id} has no tag that Ollama could know")
        if normalise(name) in await names_taken(self._client):
            raise Refused(Reason.CHECKSUM_MISMATCH, f"Ollama has another build as {name}: `ollama rm {name}` frees it")
        try:
            async with aclosing(self._client.pull(name)) as lines:
                async for line in lines:
                    if line.digest == f"sha256:{entry.sha256}" and line.completed:
                        self._post(FetchProgressed(effect.op, line.completed))
                    elif line.digest != f"sha256:{entry.sha256}" and (line.total or 0) * 2 > entry.file_size_bytes:
                        break  # that is a model too, and not this one: it need not come whole to be thrown away
        except Said as said:
            raise Refused(_reason_of_pull(said), str(said)) from None
        if not await self.has(entry):
            await self._client.delete(name)
            raise Refused(Reason.CHECKSUM_MISMATCH, f"Ollama's registry has another build as {name}")
        return done

    async def _hash(self, effect: HashFile) -> Completion:
        """Of the file itself where it can be read; else Ollama, which hashed it when it came, is believed."""
        entry = effect.entry
        if not await self.has(entry):
            raise Refused(Reason.STORE_FAILED, f"Ollama does not have {entry.model_id}")
        path = await self._readable(entry)
        return FileHashed(effect.op, entry.sha256 if path is None else await asyncio.to_thread(_sha256, path))

    async def _delete(self, effect: DeleteFile) -> Completion:
        try:
            for name in await names_held(self._client, effect.entry):
                await self._client.delete(name)
            await asyncio.to_thread(self._client.copies.forget, effect.entry.sha256)
        except (OSError, Said) as said:
            raise Refused(Reason.STORE_FAILED, str(said)) from None
        return FileDeleted(effect.op)

    # -- in and out ----------------------------------------------------------------------------------------------------

    async def take(self, entry: CatalogEntry, path: Path) -> str:
        """Give Ollama a file that has arrived, which may make one of its own of it. The name under which it has it
        then: the first of the entry's that is free. Raises Refused."""
        names = await names_held(self._client, entry)
        if names:
            return names[0]
        taken = await names_taken(self._client)
        name = next((name for name in names_for(entry) if name not in taken), None)
        if name is None:
            raise Refused(Reason.IN_USE, f"Ollama has other builds under every name of {entry.model_id}")
        try:
            made_of = await self._client.create(name, entry.sha256, path)
            if not await self._is_made(entry, name, made_of):
                await self._client.delete(name)
                raise Refused(Reason.CHECKSUM_MISMATCH, f"Ollama made another file of {entry.model_id}")
        except OSError as error:
            raise Refused(Reason.STORE_FAILED, str(error)) from None
        except Said as said:
            raise Refused(_reason_of_create(said), str(said)) from None
        return name

    async def _is_made(self, entry: CatalogEntry, name: str, made_of: frozenset[str]) -> bool:
        """Whether a model that was just created is the entry's file, or what Ollama says to have made of it. Raises
        OSError where that cannot be noted."""
        created = [model for model in await self._client.held() if normalise(model.name) == name]
        files = [sha256 for model in created for sha256 in (await self._client.shown(model)).files]
        if len(files) == 1 and files[0] != entry.sha256 and files[0] in made_of:
            await asyncio.to_thread(self._client.copies.note, entry.sha256, files[0])
            return True
        return files == [entry.sha256]

    async def give(self, entry: CatalogEntry) -> Path:
        """Where a file can be read, for whoever seeds it. Raises Refused (not_held, checksum_mismatch)."""
        path = await self._readable(entry)
        if path is None:
            raise Refused(Reason.NOT_HELD, f"Ollama's file of {entry.model_id} cannot be read here")
        stamp = await asyncio.to_thread(_stamp, path)
        if self._right.get(path) != stamp:
            if await asyncio.to_thread(_sha256, path) != entry.sha256:
                raise Refused(Reason.CHECKSUM_MISMATCH, f"{path} is not what its name says")
            self._right[path] = stamp
        return path

    async def _readable(self, entry: CatalogEntry) -> Path | None:
        names = await names_held(self._client, entry)
        told = await self._client.path_of(names[0], entry.sha256) if names else None
        blobs = [] if self._models is None else [self._models / "blobs" / f"sha256-{entry.sha256}"]
        paths = blobs if told is None else [told, *blobs]
        return await asyncio.to_thread(lambda: next((path for path in paths if os.access(path, os.R_OK)), None))


def _reason_of_pull(said: Said) -> Reason:
    words = str(said).lower()
    if "no space left" in words:
        return Reason.DISK_FULL
    return Reason.CHECKSUM_MISMATCH if "digest mismatch" in words else Reason.NO_SOURCE


def _reason_of_create(said: Said) -> Reason:
    words = str(said).lower()
    if "no space left" in words:
        return Reason.DISK_FULL
    return Reason.CHECKSUM_MISMATCH if "digest mismatch" in words else Reason.STORE_FAILED


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return _Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
