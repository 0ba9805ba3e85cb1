"""llama.cpp engines with tiny models."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from edgecoder.config import NodeConfig
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.llamacpp.engine import LlamaEngine, VerifiedFile
from edgecoder_drivers.llamacpp.process import Patience

PATIENCE = Patience()


class Files:
    """Verified files by entry."""

    def __init__(self) -> None:
        self._files: dict[str, VerifiedFile] = {}

    def add(self, path: Path, entry: CatalogEntry, *, is_known: bool = True) -> CatalogEntry:
        """Verified now; whether what it is now is written down."""
        stat = path.stat()
        self._files[entry.sha256] = VerifiedFile(path, (stat.st_ino, stat.st_mtime_ns) if is_known else None)
        return entry

    def find(self, entry: CatalogEntry) -> VerifiedFile:
        """See `LlamaEngine`."""
        if entry.sha256 not in self._files:
            raise Refused(Reason.NOT_INSTALLED)
        return self._files[entry.sha256]


def engine_of(
    files: Files, library: str | None = None, *, patience: Patience = PATIENCE, config: NodeConfig | None = None
) -> LlamaEngine:
    """An engine with one thread and two slots."""
    settings = config or NodeConfig(slots=2)
    return LlamaEngine(files.find, settings, library=library, threads=1, patience=patience)


def pid_of(engine: LlamaEngine) -> int:
    """The process that holds the model."""
    assert engine._child is not None
    return engine._child.pid


def kill(engine: LlamaEngine, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to the process that holds the model."""
    os.kill(pid_of(engine), number)
