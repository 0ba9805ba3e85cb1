"""Which models fit a task: one rule for the node itself, for its peers and for a coordinator's agents."""

from __future__ import annotations

from collections.abc import Callable

from edgecoder.mesh.peers import FitsModel
from edgecoder.mesh.router import Why
from edgecoder.models.catalog import normalise

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
