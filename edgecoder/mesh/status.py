"""What a member tells its user of itself: its status and its models."""

from __future__ import annotations

from collections.abc import Callable

from edgecoder.core.effects import ModelRow, ModelStatus
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog, CatalogEntry, Platform
from edgecoder.models.inventory import DownloadState, Inventory
from edgecoder.models.swap import Swap, SwapState
from edgecoder.wire.messages import Load

SHOWN_STATUS: dict[SwapState, str] = {
    SwapState.EMPTY: "no_model",
    SwapState.READY: "ready",
    SwapState.ANNOUNCING: "loading",
    SwapState.DRAINING: "loading",
    SwapState.UNLOADING: "loading",
    SwapState.LOADING: "loading",
    SwapState.ROLLING_BACK: "loading",
    SwapState.FAILED: "error",
}
"""What `GET /model/status` calls the states of the swap table."""


def model_status(swap: Swap, pulls: int, load: Load, generation: int, is_online: bool) -> ModelStatus:
    """The active model and how it is; `pulls` downloads are under way."""
    serving = swap.serving
    status = SHOWN_STATUS[swap.state]
    return ModelStatus(
        None if serving is None else serving.model_id,
        None if serving is None else serving.param_size,
        "pulling" if pulls and status in ("ready", "no_model") else status,
        load,
        generation,
        is_online,
    )


def model_rows(
    catalog: Catalog,
    platform: Platform,
    inventory: Inventory,
    serving: CatalogEntry | None,
    admits: Callable[[CatalogEntry], Reason | None],
) -> tuple[ModelRow, ...]:
    """One row a model that runs on this platform, and one a file that is here all the same."""
    return tuple(
        ModelRow(entry, inventory.state(entry).value, entry is serving, admits(entry) in (None, Reason.NOT_INSTALLED))
        for entry in catalog.entries
        if platform in entry.platforms or inventory.state(entry) is not DownloadState.ABSENT
    )
