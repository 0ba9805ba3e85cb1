"""Which files Ollama made of those that it was given.

From 0.30 on Ollama writes a GGUF anew when a model is made of it, so the model has another SHA-256 than the file that
was sent. That copy is the file of the catalog for this node, which has sent it: it is loaded in its place, and never
passed on. Who made what is kept on the disk, since nothing else tells.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import structlog

from edgecoder.errors import UNREADABLE

_log = structlog.get_logger("edgecoder.ollama")


class Copies:
    """SHA-256 of each file that was given, and of the one that Ollama made of it."""

    def __init__(self, note: Path | None = None) -> None:
        """`note` is the file that tells later lives; None: there are none."""
        self._note = note
        self._by_original = _read(note) if note is not None else {}

    def originals(self, sha256: str) -> frozenset[str]:
        """Of which files this one was made; two that differ in what does not count may become one."""
        return frozenset(original for original, copy in self._by_original.items() if copy == sha256)

    def note(self, original: str, copy: str) -> None:
        """Ollama made this of that. Durable when it returns. Raises OSError."""
        self._by_original[original] = copy
        self._write()

    def forget(self, original: str) -> None:
        """What was made of it is gone. Raises OSError."""
        if self._by_original.pop(original, None) is not None:
            self._write()

    def _write(self) -> None:
        if self._note is None:
            return
        new = self._note.with_name(f"{self._note.name}.new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(self._by_original))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._note)
        if os.name == "posix":
            folder = os.open(self._note.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _read(note: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(note.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, *UNREADABLE) as error:
        _log.warning("note unreadable", file=str(note), detail=str(error), effect="files are given to Ollama again")
        return {}
