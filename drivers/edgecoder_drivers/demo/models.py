"""The models of a demo: tiny ones with random weights, made anew each time; one has some megabytes, to be released."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from edgecoder_drivers.demo.tiny_gguf import make


class Made(NamedTuple):
    """How a model is made."""

    shape: str
    weights: str


TINY: Final = Made("nano", "F16")
MODELS: Final = {"acorn": TINY, "birch": TINY, "cedar": TINY, "oak": Made("medium", "F16")}
RELEASE: Final = "oak"
"""The one that nobody has at first."""


def make_models(folder: Path) -> list[str]:
    """Write the files; their names."""
    for number, (name, made) in enumerate(MODELS.items()):
        make(folder / f"{name}.gguf", made.shape, number, name=name, weights=made.weights)
    return list(MODELS)
