"""llama.cpp by llama-cpp-python, which is built from source. It has one context, so tasks take turns whatever the
slots; each of them may use all of it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import llama_cpp

from edgecoder_drivers.llamacpp.port import BATCH_TOKENS, Model, OnPart, Settings, TooLarge

EVERY_LAYER = -1


def load(path: Path, settings: Settings) -> Model:
    """See `port.Library`."""
    llama = llama_cpp.Llama(
        str(path),
        n_gpu_layers=EVERY_LAYER,
        n_ctx=settings.context_tokens,
        n_batch=BATCH_TOKENS,
        n_ubatch=BATCH_TOKENS,
        n_threads=settings.threads,
        n_threads_batch=settings.threads,
        verbose=False,
    )
    return _Model(llama, is_chat=settings.is_chat)


class _Model:
    def __init__(self, llama: llama_cpp.Llama, *, is_chat: bool) -> None:
        self._llama = llama
        self._is_chat = is_chat
        self._turn = threading.Lock()

    def answer(self, prompt: str, max_tokens: int, on_part: OnPart) -> None:
        with self._turn:
            try:
                if self._is_chat:
                    messages: Any = [{"role": "user", "content": prompt}]
                    events: Any = self._llama.create_chat_completion(messages, max_tokens=max_tokens, stream=True)
                else:
                    events = self._llama.create_completion(prompt, max_tokens=max_tokens, stream=True)
                self._follow(events, on_part)
            except ValueError as error:
                if "context window" in str(error):
                    raise TooLarge(str(error)) from None
                raise

    def warm_up(self, tokens: int, on_part: OnPart) -> None:
        never = {self._llama.token_eos(): -1e9}
        with self._turn:
            self._follow(
                self._llama.create_completion("def main():", max_tokens=tokens, logit_bias=never, stream=True), on_part
            )

    def _follow(self, events: Iterable[Any], on_part: OnPart) -> None:
        read = 0
        for event in events:
            choice = event["choices"][0]
            text = choice.get("text") or choice.get("delta", {}).get("content") or ""
            if not text and not read:
                continue  # says only who speaks
            tokens = self._llama.n_tokens - read if read else 1  # what was read with the first is the prompt
            read = self._llama.n_tokens
            if not on_part(text, tokens):
                break
