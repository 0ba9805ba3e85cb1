"""llama.cpp by llama-cpp-python, which is built from source. It has one context, so tasks take turns whatever the
slots; each of them may use all of it.

Of its streams none tells of a prompt that is being read, and they keep back what is not yet a character, so tokens are
read and written one by one here.
"""

from __future__ import annotations

import codecs
import threading
from itertools import islice
from pathlib import Path

import llama_cpp
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from edgecoder_drivers.llamacpp.port import BATCH_TOKENS, TEMPERATURE, WARM_UP_PROMPT, Model, OnPart, Settings, TooLarge

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
        flash_attn=True,  # without it a long context takes memory that nobody reckoned with
        verbose=False,
    )
    return _Model(llama, is_chat=settings.is_chat)


class _Model:
    def __init__(self, llama: llama_cpp.Llama, *, is_chat: bool) -> None:
        self._llama = llama
        self._vocabulary = llama_cpp.llama_model_get_vocab(llama.model)
        self._format = self._template() if is_chat else None
        self._turn = threading.Lock()

    def answer(self, prompt: str, max_tokens: int, on_part: OnPart) -> None:
        if self._format is not None:
            asked = self._format(messages=[{"role": "user", "content": prompt}])
            tokens = self._llama.tokenize(asked.prompt.encode(), add_bos=not asked.added_special, special=True)
        else:
            tokens = self._llama.tokenize(prompt.encode())
        with self._turn:
            self._write(tokens, max_tokens, on_part)

    def warm_up(self, tokens: int, on_part: OnPart) -> None:
        with self._turn:
            self._write(self._llama.tokenize(WARM_UP_PROMPT.encode()), tokens, on_part, ends=False)

    def _write(self, tokens: list[int], max_tokens: int, on_part: OnPart, *, ends: bool = True) -> None:
        llama, room = self._llama, self._llama.n_ctx() - len(tokens)
        if room <= 0:
            raise TooLarge(f"the prompt has {len(tokens)} tokens, the context room for {llama.n_ctx()}")
        llama.reset()
        for start in range(0, len(tokens) - 1, BATCH_TOKENS):
            llama.eval(tokens[start : min(start + BATCH_TOKENS, len(tokens) - 1)])
            if not on_part("", 0):
                return
        text = codecs.getincrementaldecoder("utf-8")("replace")
        for token in islice(
            llama.generate(tokens, temp=TEMPERATURE), min(max_tokens, room)
        ):  # what has been read is not read again
            if ends and llama_cpp.llama_token_is_eog(self._vocabulary, token):
                break
            if not on_part(text.decode(llama.detokenize([token])), 1):
                return
        on_part(text.decode(b"", final=True), 0)

    def _template(self) -> Jinja2ChatFormatter:
        return Jinja2ChatFormatter(
            self._llama.metadata["tokenizer.chat_template"],
            eos_token=self._special(self._llama.token_eos()),
            bos_token=self._special(self._llama.token_bos()),
        )

    def _special(self, token: int) -> str:
        return str(self._llama.detokenize([token], special=True).decode()) if token >= 0 else ""
