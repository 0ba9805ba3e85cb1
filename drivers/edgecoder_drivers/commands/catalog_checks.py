"""Whether a catalog can be believed: its files against SHA-256 and roots, its addresses by asking them."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.addresses import LEAVES, beside, shown
from edgecoder_drivers.cdn.download import Answer, Cdn
from edgecoder_drivers.commands.catalog_entries import hashes_of
from edgecoder_drivers.driver import Refused

_TOTAL: Final = re.compile(r"bytes 0-0/(\d{1,19})")


class Finding(msgspec.Struct, frozen=True, rename="camel"):
    """What was looked at, and how it is."""

    model: str
    what: str
    """A file or an address."""
    ok: bool
    detail: str = ""


def check_files(entries: Iterable[CatalogEntry], folder: Path) -> Iterator[Finding]:
    """Each file of a catalog in `folder`: by its relative address, else by the name at the end of one."""
    for entry in entries:
        path = _path_of(entry, folder)
        if path is None:
            yield Finding(entry.model_id, str(folder), ok=False, detail="none of its addresses names a file there")
        else:
            yield Finding(entry.model_id, str(path), *_judge(entry, path))


def _path_of(entry: CatalogEntry, folder: Path) -> Path | None:
    """A file below the folder; links may lead elsewhere, addresses may not."""
    for url in entry.download_urls:
        try:
            way = unquote(urlsplit(url.removeprefix("cdn:")).path).lstrip("/")
        except ValueError:
            continue
        for name in (way, way.rpartition("/")[2]):
            if name and ".." not in Path(name).parts and "\0" not in name and (folder / name).is_file():
                return folder / name
    return None


def _judge(entry: CatalogEntry, path: Path) -> tuple[bool, str]:
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            if size_bytes != entry.file_size_bytes:
                return False, f"it has {size_bytes} bytes, the catalog says {entry.file_size_bytes}"
            hashed = hashes_of(file, size_bytes)
        leaves = path.with_name(path.name + LEAVES)
        kept = leaves.read_bytes() if leaves.is_file() else None
    except OSError as error:
        return False, f"it cannot be read: {error.strerror}"
    if hashed.sha256 != entry.sha256:
        return False, f"its SHA-256 is {hashed.sha256}"
    if entry.piece_root and hashed.root != entry.piece_root:
        return False, f"its root is {hashed.root}"
    if kept is not None and kept != hashed.leaves:
        return False, f"{leaves.name} has not its leaf hashes; build the catalog again"
    return True, ""


def check_urls(entries: Iterable[CatalogEntry]) -> list[Finding]:
    """Each address of a catalog: whether it answers, with the right size, and with ranges."""
    return asyncio.run(_check_urls(tuple(entries)))


async def _check_urls(entries: tuple[CatalogEntry, ...]) -> list[Finding]:
    client, findings = Cdn(), []
    try:
        for entry in entries:
            findings += [
                Finding(entry.model_id, shown(url), *await _ask(client, entry, url)) for url in entry.download_urls
            ]
            if not entry.download_urls:
                findings.append(
                    Finding(
                        entry.model_id,
                        "",
                        ok=False,
                        detail="it has no whole address; say with --cdn where its files lie",
                    )
                )
    finally:
        await client.close()
    return findings


async def _ask(client: Cdn, entry: CatalogEntry, url: str) -> tuple[bool, str]:
    """One byte of the file, and of its leaf hashes where it has a root, as a node would ask for a part."""
    try:
        problem = _wrong(await client.ask(url, {"range": "bytes=0-0"}, 1), entry.file_size_bytes)
        if problem is None and entry.piece_root:
            answer = await client.ask(beside(url), {"range": "bytes=0-0"}, 1)
            if _wrong(answer, entry.layout.leaf_count * 32) is not None:
                return True, "no leaf hashes: it comes whole, not piece by piece"
    except Refused as refused:
        return False, str(refused)
    return problem is None, problem or ""


def _wrong(answer: Answer, size_bytes: int) -> str | None:
    if answer.status != 206:
        return f"status {answer.status} to a request for a range"
    found = _TOTAL.fullmatch(answer.content_range)
    if found is None or int(found[1]) != size_bytes:
        return f"the file there has {found[1] if found else '?'} bytes, not {size_bytes}"
    return None
