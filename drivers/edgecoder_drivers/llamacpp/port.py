"""The port to llama.cpp: what a library has to do for the child. A library is a module with a function `load`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from edgecoder.errors import DriverError

LIBRARIES: Final = MappingProxyType(
    {
        "llama_cpp": "edgecoder_drivers.llamacpp.with_llama_cpp",
        "xllamacpp": "edgecoder_drivers.llamacpp.with_xllamacpp",
    }
)
"""The modules of ours by the module that they need. First the one that is preferred: who has built it wants it, as the
wheel of the other does not run on this machine, or is slow."""
BATCH_TOKENS: Final = 256
"""Tokens of a prompt that are read at once. Between two batches a task can be cancelled, and is seen to get on."""

TEMPERATURE: Final = 0.2
"""Of the draw among the likeliest tokens. Small models write worse code at llama.cpp's own 0.8, and repeat themselves
at 0."""
WARM_UP_PROMPT: Final = "def main():"

OnPart = Callable[[str, int], bool]
"""Takes a text and how many tokens it is; says whether to go on."""


class Settings(NamedTuple):
    """How a model is loaded."""

    context_tokens: int
    """In all; the slots share it evenly."""
    slots: int
    """How many prompts are to be answered at once."""
    threads: int | None
    """None leaves it to llama.cpp."""
    is_chat: bool
    """Whether the file brings a template for prompts."""
    folder: Path
    """A folder of its own, which goes when the model is there."""


class TooLarge(ValueError):
    """The prompt is longer than the context of a slot."""


class Model(Protocol):
    """A model in memory."""

    slots: int
    """How many prompts it answers at once, each called from a thread of its own."""

    def answer(self, prompt: str, max_tokens: int, on_part: OnPart) -> None:
        """Answer a prompt, in the file's template where it has one. Raises TooLarge."""
        ...

    def warm_up(self, tokens: int, on_part: OnPart) -> None:
        """Write so many tokens, whatever they say."""
        ...


class Library(Protocol):
    """A binding to llama.cpp."""

    def load(self, path: Path, settings: Settings) -> Model:
        """Load a file. Raises whatever it likes where that fails."""
        ...


def installed_libraries() -> list[str]:
    """The modules of those that are there, the one that is preferred first."""
    return [module for needs, module in LIBRARIES.items() if find_spec(needs) is not None]


def installed_library() -> str:
    """The module of the one that is used. Raises DriverError."""
    for module in installed_libraries():
        return module
    raise DriverError("llama.cpp is not installed: pip install 'edgecoder[llama]'")
