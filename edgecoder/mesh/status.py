"""What a member tells its user of its state."""

from __future__ import annotations

from edgecoder.core.effects import ModelStatus, Pulling
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


def model_status(swap: Swap, pulling: tuple[Pulling, ...], load: Load, generation: int, is_online: bool) -> ModelStatus:
    """The active model and how it is; `pulling` is on its way here."""
    serving = swap.serving
    status = SHOWN_STATUS[swap.state]
    return ModelStatus(
        None if serving is None else serving.model_id,
        None if serving is None else serving.param_size,
        "pulling" if pulling and status in ("ready", "no_model") else status,
        load,
        generation,
        is_online,
        swap.failure,
        pulling,
    )
