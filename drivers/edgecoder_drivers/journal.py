"""Writing the journal of a life: what the node was told, when, and what it answered, so that it can be lived again.

What lies in the file stands in `edgecoder.journal.format`. It is written without syncing: a crash of the machine loses
its end, a crash of the process nothing. It holds prompts and answers, so only its user can read it, and it is only kept
where that is asked for.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from edgecoder.core.effects import Effect
from edgecoder.core.events import Event
from edgecoder.core.ids import Micros, NodeId
from edgecoder.core.node import Setup
from edgecoder.errors import ConfigError
from edgecoder.journal.format import ENDED, MARK, Head, Word, digest_of, encoder, framed
from edgecoder.wire.envelope import SigningKey, VerifyingKeys

_log = structlog.get_logger("edgecoder.journal")


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
        self._head = MARK + framed(encoder.encode(head))

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
            data = self._head + framed(encoder.encode(word))
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
