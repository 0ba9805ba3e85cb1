"""Editions of a catalog that has an origin: which of them is believed, and for how long.

A newer edition takes the place of the one that is held; an older one never does, nor another of the same version. Who
has not heard from the origin for some time has a stale catalog: what is here may run, nothing new may be fetched. How
an origin is asked, and where an edition is kept, is left to a driver, which judges by the same rule.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edgecoder.config import NodeConfig
from edgecoder.core.context import MILLI, Context
from edgecoder.core.effects import CatalogStatus
from edgecoder.core.events import CatalogConfirmed, CatalogReleased
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.trace import CatalogChanged


class Edition(msgspec.Struct, frozen=True):
    """One version of a catalog."""

    version: int
    """0: it has none; then each that comes is believed."""
    entries: tuple[CatalogEntry, ...]


def refusal_of(held: Edition, offered: Edition) -> Reason | None:
    """Why an edition is not believed by who holds another; None: it is, and it may be the same."""
    if offered.version < held.version:
        return Reason.CATALOG_OLD
    is_other = offered.version == held.version > 0 and offered.entries != held.entries
    return Reason.CATALOG_CHANGED if is_other else None


def is_stale(age_ms: int | None, config: NodeConfig) -> bool:
    """Whether nothing new may be fetched; `age_ms` is the time since the origin was heard, None: there is none."""
    return age_ms is not None and age_ms > config.catalog_stale_ms


class Editions:
    """What a node holds of its origin's catalog."""

    def __init__(self, context: Context, catalog: Catalog, is_kept: Callable[[CatalogEntry], bool]) -> None:
        """`catalog` changes; `is_kept` says of what files there is something here."""
        self._context = context
        self._catalog = catalog
        self._is_kept = is_kept
        self._held = Edition(catalog.version, catalog.listed)
        self._age_ms = catalog.age_ms
        self._told_at = context.now

    @property
    def age_ms(self) -> int | None:
        """Time since the origin was heard; None: there is no origin."""
        return None if self._age_ms is None else self._age_ms + (self._context.now - self._told_at) // MILLI

    @property
    def is_stale(self) -> bool:
        """See `is_stale`."""
        return is_stale(self.age_ms, self._context.config)

    def shown(self) -> CatalogStatus | None:
        """What the user is told; None where there is no origin."""
        age_ms = self.age_ms
        return None if age_ms is None else CatalogStatus(self._held.version, age_ms, self.is_stale)

    def released(self, event: CatalogReleased) -> bool:
        """The origin has an edition. Whether it changed what is held."""
        offered = Edition(event.version, event.entries)
        refusal = refusal_of(self._held, offered)
        if refusal is not None:
            self._context.drop("catalog", refusal)
            return False
        is_new = offered != self._held
        if is_new:
            try:
                self._catalog.release(offered.version, offered.entries, self._is_kept)
            except ValueError:
                self._context.drop("catalog", Reason.INVALID)
                return False
            self._held = offered
            self._context.trace(CatalogChanged(offered.version))
        self._heard(event.age_ms)
        return is_new

    def confirmed(self, event: CatalogConfirmed) -> None:
        """The origin was heard: what is held is its newest."""
        self._heard(event.age_ms)

    def _heard(self, age_ms: int) -> None:
        self._age_ms, self._told_at = age_ms, self._context.now
