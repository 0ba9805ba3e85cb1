"""The journal of a life: what the node was told, when, and what it answered, so that the life can be lived again.

A file of msgpack values, each behind its length. The first says who the node was; each other one is an event: time,
type, fields, what the keys said while it was handled (signatures and verdicts, in order), and a digest of the effects.
With the keys' words in it a journal is replayed without any key, on any machine, by the same version of the core.

It is written without syncing: a crash of the machine loses its end, a crash of the process nothing. It holds prompts
and answers, so only its user can read it, and it is only kept where that is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import structlog

from edgecoder import __version__
from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import Effect
from edgecoder.core.events import Event
from edgecoder.core.ids import Micros, NodeId, Role
from edgecoder.core.node import Setup
from edgecoder.models.catalog import CatalogEntry, Platform
from edgecoder.wire.envelope import SigningKey, VerifyingKeys
from edgecoder.wire.messages import Load

FORMAT = 1
DIGEST_BYTES = 8


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
    platform: Platform
    languages: tuple[str, ...]


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
        self.signatures: list[bytes] = []
        self.verdicts: list[bool] = []

    def sign(self, data: bytes) -> bytes:
        """See `SigningKey`."""
        signature = self._signing.sign(data)
        self.signatures.append(signature)
        return signature

    def verify(self, sender: NodeId, data: bytes, signature: bytes) -> bool:
        """See `VerifyingKeys`."""
        verdict = self._verifying.verify(sender, data, signature)
        self.verdicts.append(verdict)
        return verdict


class FileJournal:
    """Writes a life to a file."""

    def __init__(self, path: Path, setup: Setup, keys: Keys, rng_seed: int) -> None:
        """The file is made, or emptied; only its user can read it."""
        self._keys = keys
        self._is_broken = False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._file: BinaryIO = path.open("wb", buffering=0)
        head = Head(
            node_id=keys.node_id,
            rng_seed=rng_seed,
            role=setup.role,
            cluster=setup.cluster,
            config=setup.config,
            catalog=setup.catalog.entries,
            platform=setup.platform,
            languages=setup.languages,
        )
        self._file.write(_framed(head))

    def note(self, now: Micros, event: Event, effects: Sequence[Effect]) -> None:
        """See `host.Journal`."""
        keys = self._keys
        fields = msgspec.to_builtins(event, builtin_types=(bytes,))
        word = Word(now, type(event).__name__, fields, keys.signatures, keys.verdicts, digest_of(effects))
        keys.signatures, keys.verdicts = [], []
        if self._is_broken:
            return
        try:
            self._file.write(_framed(word))
        except OSError as error:  # the node is worth more than its journal
            self._is_broken = True
            _log.error("journal ends", error=str(error))

    def close(self) -> None:
        """Nothing more comes."""
        self._file.close()


def _framed(value: Head | Word) -> bytes:
    encoded = _encoder.encode(value)
    return len(encoded).to_bytes(4, "big") + encoded


def values(path: Path) -> Iterator[bytes]:
    """The values of a journal, still encoded; one that broke off at its end is left out."""
    with path.open("rb") as file:
        while len(head := file.read(4)) == 4:
            value = file.read(int.from_bytes(head, "big"))
            if len(value) < int.from_bytes(head, "big"):
                return
            yield value
