"""What Ollama's answers mean to the core: its status is 500 for nearly all that goes wrong, so its words count."""

from __future__ import annotations

from typing import Final

import httpx

from edgecoder.errors import Reason
from edgecoder_drivers.ollama.client import Said

_CRASHES: Final = ("has terminated", "has unexpectedly stopped", "error was encountered while running the model")
"""How Ollama says that the process which ran a model is gone."""
_REASONS: Final[dict[int, Reason]] = {
    httpx.codes.NOT_FOUND: Reason.NOT_INSTALLED,
    httpx.codes.SERVICE_UNAVAILABLE: Reason.UNAVAILABLE,
}
"""Why a load failed, where the status says it: the queue is full, or the model is gone."""


def reason_of_load(said: Said) -> Reason:
    """Why a load failed, by Ollama's words: its status is 500 for nearly all."""
    words = str(said).lower()
    if said.status in _REASONS:
        return _REASONS[said.status]
    if "requires more system memory" in words:
        return Reason.INSUFFICIENT_MEMORY  # judged before anything was loaded
    if "out of memory" in words or "failed to allocate" in words:
        return Reason.OUT_OF_MEMORY
    if "timed out waiting" in words:
        return Reason.LOAD_TIMEOUT
    if _is_crash(words) and "error loading model" not in words:
        return Reason.ENGINE_CRASHED
    return Reason.LOAD_FAILED


def reason_of_task(said: Said) -> Reason:
    """Why an answer failed, by status and words."""
    words = str(said).lower()
    if said.status == 404:
        return Reason.NO_MODEL
    if "out of memory" in words:
        return Reason.OUT_OF_MEMORY
    if "context length" in words or "too long" in words:
        return Reason.TOO_LARGE
    return Reason.ENGINE_CRASHED if _is_crash(words) else Reason.UNAVAILABLE


def _is_crash(words: str) -> bool:
    return any(sign in words for sign in _CRASHES)
