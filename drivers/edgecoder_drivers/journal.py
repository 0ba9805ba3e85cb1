"""The journal of a life: what the node was told, when, and what it answered, so that the life can be lived again.

A file of lives, one behind the other; each is a mark and msgpack values, each behind its length and two checksums. The
first value says who the node was; each other one is an event: time, type, fields, what the keys said while it was
handled (signatures and verdicts, in order), and a digest of the effects. With the keys' words in it a journal is
replayed without any key, on any machine, by the same version of the core.

It is written without syncing: a crash of the machine loses its end, a crash of the process nothing. It holds prompts
and answers, so only its user can read it, and it is only kept where that is asked for.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from edgecoder import __version__
from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import Effect
from edgecoder.core.events import Event
from edgecoder.core.ids import Micros, NodeId, Role
from edgecoder.core.node import Setup
from edgecoder.errors import ConfigError
from edgecoder.models.catalog import CatalogEntry, Platform
from edgecoder.wire.envelope import SigningKey, VerifyingKeys
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


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_log = structlog.get_logger("edgecoder.journal")


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
    return hashlib.blake2b(_encoder.encode(said), digest_size=DIGEST_BYTES).digest()


class Keys:
    """A node's keys, whose words are noted. A `SigningKey` and `VerifyingKeys` of the core."""

    def __init__(self, signing: SigningKey, verifying: VerifyingKeys) -> None:
        self._signing = signing
        self._verifying = verifying
        self.node_id = signing.node_id
        self.public_bytes = signing.public_bytes
        self.signatures: list[bytes] = []
        self.verdicts: list[bool] = []

    def sign(self, data: bytes) -> bytes:
        """See `SigningKey`."""
        signature = self._signing.sign(data)
        self.signatures.append(signature)
        return signature

    def verify(self, sender: NodeId, data: bytes, signature: bytes, public_key: bytes = b"") -> bool:
        """See `VerifyingKeys`."""
        verdict = self._verifying.verify(sender, data, signature, public_key)
        self.verdicts.append(verdict)
        return verdict

    def knows(self, sender: NodeId) -> bool:
        """See `VerifyingKeys`."""
        verdict = self._verifying.knows(sender)
        self.verdicts.append(verdict)
        return verdict


class FileJournal:
    """Writes a life to a file, behind those that are there."""

    def __init__(self, path: Path, setup: Setup, keys: Keys, rng_seed: int) -> None:
        """Nothing is written before the first event. Raises ConfigError where the file is something else, or another
        node writes it."""
        self._keys = keys
        self._is_broken = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _open(path)
        head = Head(
            node_id=keys.node_id,
            rng_seed=rng_seed,
            role=setup.role,
            cluster=setup.cluster,
            config=setup.config,
            catalog=setup.catalog.entries,
            catalog_version=setup.catalog.version,
            catalog_age_ms=setup.catalog.age_ms,
            platform=setup.platform,
            languages=setup.languages,
            public_key=keys.public_bytes,
        )
        self._head = MARK + framed(_encoder.encode(head))

    def note(self, now: Micros, event: Event, effects: Sequence[Effect] | None) -> None:
        """See `host.Journal`. The node is worth more than its journal, which ends where there is no room, or where
        something is no text."""
        signatures, verdicts = self._keys.signatures, self._keys.verdicts
        self._keys.signatures, self._keys.verdicts = [], []
        if self._is_broken:
            return
        try:
            fields = msgspec.to_builtins(event, builtin_types=(bytes,))
            digest = ENDED if effects is None else digest_of(effects)
            word = Word(now, type(event).__name__, fields, signatures, verdicts, digest)
            data = self._head + framed(_encoder.encode(word))
            error = None if os.write(self._file, data) == len(data) else "a part of an event was written"
        except (OSError, UnicodeError) as failure:
            error = str(failure)
        self._head = b""
        if error is not None:
            self._is_broken = True
            _log.error("journal ends", error=error)

    def close(self) -> None:
        """Nothing more comes."""
        os.close(self._file)


def _open(path: Path) -> int:
    hint = "choose another file for the journal"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(str(path), None, f"no journal: {error.strerror}", hint) from None
    problem = _claim(handle)
    if problem is not None:
        os.close(handle)
        raise ConfigError(str(path), None, problem, hint)
    return handle


def _claim(handle: int) -> str | None:
    """Take a file for this process alone, and let its user alone read it; what is in the way of that."""
    if not stat.S_ISREG(os.fstat(handle).st_mode) or os.read(handle, len(MARK)) not in (b"", MARK):
        return "this is something else than a journal"
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(handle, 0o600)
    except BlockingIOError:
        return "another node writes its journal there"
    except OSError as error:
        return f"no journal: {error.strerror}"
    return None


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
