"""What this node has in Ollama's memory, noted beside its store for its next life: whose model it was before, and how
long it was to stay then.

A note may be older than what Ollama runs now: a model that is not there for ever is not as this node left it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from edgecoder.errors import UNREADABLE, Reason
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.ollama.client import FOR_EVER, Model

_FAR_S: Final = 365 * 86_400
_GIVEN_BACK_S_MIN: Final = 300
"""What a model of others is left at least: Ollama's own default."""


class Loaded(msgspec.Struct, frozen=True):
    """A model that this node has use of."""

    sha256: str
    is_ours: bool
    """Whether it was this node that had it loaded, and nobody before."""
    until_s: float | None = None
    """When others would have had it freed, since 1970; None: never."""

    @property
    def keep_alive(self) -> int | str:
        """What Ollama is told when a model goes back to those who had it before."""
        return FOR_EVER if self.until_s is None else f"{max(_GIVEN_BACK_S_MIN, int(self.until_s - time.time()))}s"


class Note:
    """The file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Loaded | None:
        """What was noted; None where that is nothing, or no sense can be made of it."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Loaded)
        except (OSError, *UNREADABLE):
            return None

    def write(self, loaded: Loaded) -> None:
        """Note it. Raises Refused (store_failed)."""
        try:
            self._path.write_bytes(msgspec.json.encode(loaded))
        except OSError as error:
            raise Refused(Reason.STORE_FAILED, str(error)) from None

    def clear(self) -> None:
        """There is nothing. Where that cannot be written it does no harm: see above."""
        with suppress(OSError):
            self._path.unlink()


def is_for_ever(model: Model) -> bool:
    """Whether a model that runs is to stay until somebody says otherwise."""
    return model.expires_s is None or model.expires_s - time.time() > _FAR_S


def is_over(model: Model) -> bool:
    """Whether the time of a model is up: it goes as soon as nobody uses it."""
    return model.expires_s is not None and model.expires_s <= time.time()


def lent(model: Model, sha256: str) -> Loaded:
    """The note of a model that others have loaded."""
    return Loaded(sha256, is_ours=False, until_s=None if is_for_ever(model) else model.expires_s)
