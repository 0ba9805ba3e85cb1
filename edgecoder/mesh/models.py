"""Which models fit a task: one rule for the node itself, for its peers and for a coordinator's agents."""

from __future__ import annotations

from collections.abc import Callable

from edgecoder.errors import Reason
from edgecoder.mesh.peers import FitsModel
from edgecoder.mesh.router import Why
from edgecoder.models.catalog import normalise
from edgecoder.models.swap import Swap
from edgecoder.wire.messages import Capabilities, Probe, TaskRequest

SameModel = Callable[[str], frozenset[str]]
"""All names of the model that a name means."""


def fitting(model: str | None, min_param_size: float, same_model: SameModel) -> FitsModel:
    """A judge for tasks that want `model` (None: any) of at least `min_param_size` billion parameters."""
    names = None if model is None else same_model(model)

    def judge(active: str | None, param_size: float | None) -> Why | None:
        if active is None:
            return Why.HAS_NO_MODEL
        if names is not None and normalise(active) not in names:
            return Why.WRONG_MODEL
        if min_param_size > 0 and (param_size is None or param_size < min_param_size):
            return Why.TOO_SMALL
        return None

    return judge


def serving_for(request: TaskRequest | Probe, swap: Swap, same_model: SameModel) -> str | Reason:
    """The model that serves here, if it may answer this request now."""
    if not swap.is_settled:
        return Reason.LOADING
    serving = swap.serving
    if serving is None:
        return Reason.NO_MODEL
    fits = fitting(request.model, request.min_param_size, same_model)
    return serving.model_id if fits(serving.model_id, serving.param_size) is None else Reason.NO_MODEL


def taken_by(peer: Capabilities, same_model: SameModel) -> Callable[[TaskRequest], bool]:
    """Which requests a peer that offers this could take."""

    def fits(request: TaskRequest) -> bool:
        rule = fitting(request.model, request.min_param_size, same_model)
        is_right = rule(peer.active_model, peer.active_model_param_size) is None
        return is_right and request.max_tokens <= peer.work_tokens_max and not peer.current_load.is_loading

    return fits
