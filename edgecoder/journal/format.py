"""What a journal holds, and how it lies in a file.

A file of lives, one behind the other; each is a mark and msgpack values, each behind its length and two checksums. The
first value says who the node was; each other one is an event: time, type, fields, what the keys said while it was
handled (signatures and verdicts, in order), and a digest of the effects. With the keys' words in it a journal is
replayed without any key, on any machine, by the same version of the core. Hosts write it (a device's `FileJournal`);
`replay` and `edgecoder fit` read it.
"""

from __future__ import annotations

import hashlib
import mmap
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from edgecoder import __version__
from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import Effect
from edgecoder.core.ids import Micros, NodeId, Role
from edgecoder.models.catalog import CatalogEntry, Platform
from edgecoder.wire.messages import Load

FORMAT: Final = 2
DIGEST_BYTES = 8
ENDED: Final = b""
"""In place of a digest: the event ended the node."""
MARK: Final = b"\nEdgeCoder: a life\n"
FRAME_BYTES: Final = 12
"""Before each value: its length, the CRC-32 of these four bytes, and that of the value; each big-endian."""


def _plain(value: object) -> int:
    """What msgpack does not know: a load, as the wire has it."""
    if not isinstance(value, Load):
        raise TypeError(f"a journal cannot hold {type(value).__name__}")
    return -1 if value.is_loading else value.tasks


encoder: Final = msgspec.msgpack.Encoder(enc_hook=_plain)
"""Writes the values."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Who the node was."""

    format: int = FORMAT
    version: str = __version__
    node_id: NodeId
    rng_seed: int
    role: Role
    cluster: ClusterConfig
    config: NodeConfig
    catalog: tuple[CatalogEntry, ...]
    catalog_version: int = 0
    catalog_age_ms: int | None = None
    platform: Platform
    languages: tuple[str, ...]
    public_key: bytes = b""


class Word(msgspec.Struct, frozen=True, array_like=True):
    """One event, and what came of it."""

    now: Micros
    type: str
    event: dict[str, Any]
    signatures: list[bytes]
    verdicts: list[bool]
    digest: bytes


def digest_of(effects: Sequence[Effect]) -> bytes:
    """Eight bytes that differ when any effect does."""
    said = [(type(effect).__name__, effect) for effect in effects]
    return hashlib.blake2b(encoder.encode(said), digest_size=DIGEST_BYTES).digest()


def framed(value: bytes) -> bytes:
    """A value as it lies in a journal."""
    size = len(value).to_bytes(4, "big")
    return size + _checksum(size) + _checksum(value) + value


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


class DamagedError(Exception):
    """A journal has other bytes than were written."""


class Life:
    """The values of one life, still encoded, in order; each comes once."""

    def __init__(self, data: mmap.mmap, begins: int) -> None:
        self._data, self._at = data, begins
        self.rest = 0
        """Bytes of a value that was not written whole, once all others were taken."""

    @property
    def end(self) -> int:
        """Where the next life begins, once all was taken."""
        return self._at + self.rest

    def __iter__(self) -> Iterator[bytes]:
        """Raises DamagedError where a value is not what was written."""
        data = self._data
        while self.rest == 0 and self._at < len(data) and data[self._at : self._at + len(MARK)] != MARK:
            start = self._at + FRAME_BYTES
            size, size_sum, value_sum = data[self._at : start - 8], data[start - 8 : start - 4], data[start - 4 : start]
            is_sized = _checksum(size) == size_sum
            following = start + int.from_bytes(size, "big") if is_sized else start
            value = data[start:following]
            if is_sized and following <= len(data) and _checksum(value) == value_sum:
                self._at = following
                yield value
            else:
                self._break_off(following)

    def _break_off(self, following: int) -> None:
        """The value here is not whole: the file, or what a next life wrote, comes before its end."""
        mark = self._data.find(MARK, self._at, following + len(MARK))
        if mark < 0 and following <= len(self._data):
            raise DamagedError(f"the value at byte {self._at} is not what was written")
        self.rest = (mark if mark >= 0 else len(self._data)) - self._at


def lives(path: Path) -> Iterator[Life]:
    """The lives of a journal, oldest first. None where it is something else. What is not taken of one is passed over.
    Raises DamagedError."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = 0
        while data[at : at + len(MARK)] == MARK:
            life = Life(data, at + len(MARK))
            yield life
            for _ in life:
                pass
            at = life.end
