"""llama.cpp by xllamacpp, whose wheels need no compiler. It has llama.cpp's own server in it, whose slots answer at
once and in turn, token by token."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import xllamacpp

from edgecoder_drivers.llamacpp.port import BATCH_TOKENS, TEMPERATURE, WARM_UP_PROMPT, Model, OnPart, Settings, TooLarge

ERRORS_ALONE = 1
SOCKET = "server.sock"


def load(path: Path, settings: Settings) -> Model:
    """See `port.Library`. The server also listens, to a socket that nobody can reach, as its name is gone. Paths of
    sockets are short, so it is made in the folder that this process is in."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.hostnames = [SOCKET]
    params.ui = False
    params.n_threads_http = 1
    params.n_ctx = settings.context_tokens
    params.n_parallel = settings.slots
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.fit_params = False  # what was judged to fit is what is loaded
    params.cache_ram_mib = params.n_ctx_checkpoints = 0  # prompts of old would take memory that nobody reckoned with
    params.warmup = False
    params.verbosity = ERRORS_ALONE
    params.sampling.temp = TEMPERATURE
    if settings.threads is not None:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads
    os.chdir(settings.folder)
    server = xllamacpp.Server(params)
    Path(SOCKET).unlink()
    os.chdir("/")
    return _Model(server, settings)


class _Model:
    def __init__(self, server: xllamacpp.Server, settings: Settings) -> None:
        self.slots = settings.slots
        self._server = server
        self._is_chat = settings.is_chat

    def answer(self, prompt: str, max_tokens: int, on_part: OnPart) -> None:
        if self._is_chat:
            asked: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}], "reasoning_format": "none"}
            _Stream(on_part).follow(self._server.handle_chat_completions, asked, max_tokens)
        else:
            _Stream(on_part).follow(self._server.handle_completions, {"prompt": prompt}, max_tokens)

    def warm_up(self, tokens: int, on_part: OnPart) -> None:
        asked = {"prompt": WARM_UP_PROMPT, "ignore_eos": True}
        _Stream(on_part).follow(self._server.handle_completions, asked, tokens)


class _Stream:
    """One answer of the server, event by event."""

    def __init__(self, on_part: OnPart) -> None:
        self._on_part = on_part
        self._tokens = 0
        self._error: dict[str, Any] | None = None

    def follow(self, handle: Any, asked: dict[str, Any], max_tokens: int) -> None:
        handle(
            {**asked, "max_tokens": max_tokens, "stream": True, "timings_per_token": True, "return_progress": True},
            self._take,
        )
        if self._error is not None:
            too_large = self._error.get("type") == "exceed_context_size_error"
            raise (TooLarge if too_large else RuntimeError)(str(self._error.get("message")))

    def _take(self, event: dict[str, Any]) -> bool:
        """Whether the server is to stop."""
        if "error" in event:
            self._error = event["error"]
            return True
        choice = event["choices"][0] if event["choices"] else {}
        text = choice.get("text") or choice.get("delta", {}).get("content") or ""
        written = max(self._tokens, event.get("timings", {}).get("predicted_n", 0))
        tokens, self._tokens = written - self._tokens, written
        return not self._on_part(text, tokens)
