"""What editions of the catalog have left out while members of this coordinator run it or exchange it, which they may.

It has to know the names and the pieces of that, in later lives too: their catalog has it no more. Who runs what is
known again after the time in which a member must speak; until then nothing is given up.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import msgspec

from edgecoder.coordinator.registry import Registry
from edgecoder.core.context import Context
from edgecoder.core.ids import FileId, Micros
from edgecoder.errors import UNREADABLE, Reason
from edgecoder.models.catalog import Catalog, CatalogEntry, names_of, normalise

KEY = "withdrawn"
_decoder = msgspec.msgpack.Decoder(tuple[CatalogEntry, ...])


class Withdrawn:
    """The entries that are kept."""

    def __init__(self, context: Context, catalog: Catalog, registry: Registry, brokered: Container[FileId]) -> None:
        self._context = context
        self._catalog = catalog
        self._registry = registry
        self._brokered = brokered
        self._heard_at: Micros = 0
        """By when all members have spoken."""
        self._kept: tuple[CatalogEntry, ...] = ()
        """What is on the disk."""

    def restore(self, snapshot: Mapping[str, bytes]) -> None:
        """Take what earlier lives have kept."""
        self._heard_at = self._context.in_ms(self._context.cluster.agent_alive_ms)
        value = snapshot.get(KEY)
        if value is None:
            return
        try:
            self._kept = _decoder.decode(value)
        except UNREADABLE:
            self._context.drop(KEY, Reason.STORE_FAILED)
        self._catalog.withdraw(self._kept)

    def is_kept(self, entry: CatalogEntry) -> bool:
        """Whether a member needs a file that an edition leaves out."""
        if self._context.now < self._heard_at or bytes.fromhex(entry.sha256) in self._brokered:
            return True
        names = names_of(entry)
        return any(normalise(row.heartbeat.active_model or "") in names for row in self._registry.rows.values())

    def released(self) -> None:
        """There is a newer edition."""
        if self._kept != self._catalog.withdrawn:
            self._kept = self._catalog.withdrawn
            self._context.persist(KEY, msgspec.msgpack.encode(self._kept))
