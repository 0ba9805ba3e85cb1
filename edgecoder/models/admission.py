"""Whether this node may run a file, judged before anything is unloaded, and whether there may be room for one."""

from __future__ import annotations

from collections.abc import Container

from edgecoder.config import NodeConfig
from edgecoder.core.events import OthersLoaded
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog, CatalogEntry, Platform
from edgecoder.models.inventory import DownloadState, Inventory

MIB = 1 << 20
NOBODY = OthersLoaded(())


def memory_needed_mb(entry: CatalogEntry, config: NodeConfig) -> int:
    """MB that a loaded model takes: file, cache of the whole context and the engine's own, and no less than the
    catalog's floor."""
    file_and_cache = entry.file_size_bytes + entry.kv_bytes_per_token * config.context_tokens
    return max(entry.min_memory_mb, -(-file_and_cache // MIB) + config.engine_overhead_mb)


def fits(entry: CatalogEntry, platform: Platform, config: NodeConfig) -> Reason | None:
    """Why a machine like this can never run `entry`, or None: wrong platform, too little memory."""
    if platform not in entry.platforms:
        return Reason.INCOMPATIBLE
    return Reason.INSUFFICIENT_MEMORY if memory_needed_mb(entry, config) > config.memory_budget_mb else None


def has_memory(entry: CatalogEntry, config: NodeConfig, others: OthersLoaded) -> bool:
    """Whether there is memory for `entry` beside what other programs have loaded; what they have loaded takes none."""
    if any(entry.sha256 in model.sha256s for model in others.models):
        return True
    taken_mb = sum(model.size_mb for model in others.models)
    return not others.is_full and taken_mb + memory_needed_mb(entry, config) <= config.memory_budget_mb


def admit(
    entry: CatalogEntry, platform: Platform, config: NodeConfig, inventory: Inventory, others: OthersLoaded = NOBODY
) -> Reason | None:
    """Why this node cannot load `entry` now, or None."""
    obstacle = fits(entry, platform, config)
    if obstacle is not None:
        return obstacle
    state = inventory.state(entry)
    if state is DownloadState.QUARANTINED:
        return Reason.QUARANTINED
    if state is not DownloadState.INSTALLED:
        return Reason.NOT_INSTALLED
    return None if has_memory(entry, config, others) else Reason.INSUFFICIENT_MEMORY


def has_room(
    entry: CatalogEntry, catalog: Catalog, config: NodeConfig, inventory: Inventory, held: Container[str] = ()
) -> bool:
    """Whether `entry` stays within the quota of model files. One that is partly here takes its whole room already, one
    that the catalog does not know any more what of it is here; what is `held` elsewhere, by SHA-256, takes none."""
    if not config.disk_mb_max:
        return True
    taken = 0
    for digest, row in inventory.rows.items():
        if row.state is not DownloadState.ABSENT and digest != entry.sha256 and digest not in held:
            other = catalog.by_digest.get(digest)
            taken += row.bytes_done if other is None else other.file_size_bytes
    return taken + entry.file_size_bytes <= config.disk_mb_max * MIB
