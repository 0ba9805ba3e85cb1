"""The trace as structured logs: each record that people want to read of, with its fields."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import msgspec
import structlog

from edgecoder.core.ids import Micros
from edgecoder.errors import REASONS, Reason
from edgecoder.trace import (
    CloneSeen,
    CoordinatorTold,
    DownloadPhase,
    Dropped,
    HomeChanged,
    IdentityShared,
    NodeReady,
    OnlineChanged,
    Record,
    SwapEnded,
    SwapPhase,
    TransferBegan,
    TransferEnded,
    UplinkChanged,
)

SHOWN: Final = frozenset(
    {
        CoordinatorTold,
        DownloadPhase,
        HomeChanged,
        NodeReady,
        OnlineChanged,
        SwapEnded,
        SwapPhase,
        TransferBegan,
        TransferEnded,
        UplinkChanged,
    }
)
"""Records of which there are few; the others are counted (`metrics`), and logged where all is wanted."""
_CLONED: Final = REASONS[Reason.CLONED]
WARNED: Final[dict[type[Record], str]] = {
    CloneSeen: f"two machines run with one node's key; {_CLONED.hint}",
    IdentityShared: f"{_CLONED.message}; {_CLONED.hint}",
}
"""Records that somebody has to act on, and what to do."""
_log = structlog.get_logger("edgecoder.trace")


class TraceLog:
    """Writes the trace to the log. An observer of its host."""

    def record(self, now: Micros, record: Record) -> None:
        """See `host.Observer`."""
        kind = type(record)
        if kind in WARNED:
            _log.warning(str(kind.__struct_config__.tag), hint=WARNED[kind], **_fields(record))
            return
        write = _log.info if kind in SHOWN else _log.warning if kind is Dropped else _log.debug
        write(str(kind.__struct_config__.tag), at_s=round(now / 1e6, 3), **_fields(record))


def _fields(record: Record) -> dict[str, Any]:
    return {name: _shown(value) for name, value in msgspec.structs.asdict(record).items()}


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()[:16]
    return value.value if isinstance(value, Enum) else value
