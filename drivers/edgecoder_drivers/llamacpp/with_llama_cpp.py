"""llama.cpp by llama-cpp-python, which is built from source. It has one context, so there is one slot, whose tasks may
use all of it.

Of its streams none tells of a prompt that is being read, and they keep back what is not yet a character, so tokens are
read and written one by one here.
"""

from __future__ import annotations

import codecs
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
    slots = 1

    def __init__(self, llama: llama_cpp.Llama, *, is_chat: bool) -> None:
        self._llama = llama
        self._vocabulary = llama_cpp.llama_model_get_vocab(llama.model)
        self._context_tokens = min(llama.n_ctx(), llama_cpp.llama_model_n_ctx_train(llama.model))
        self._adds_bos = llama_cpp.llama_vocab_get_add_bos(self._vocabulary)
        self._bos = self._special(llama.token_bos())
        self._format = self._template() if is_chat else None
        self._tokens(WARM_UP_PROMPT)  # a template that does not work is found out now

    def answer(self, prompt: str, max_tokens: int, on_part: OnPart) -> None:
        self._write(self._tokens(prompt), max_tokens, on_part)

    def warm_up(self, tokens: int, on_part: OnPart) -> None:
        self._write(self._llama.tokenize(WARM_UP_PROMPT.encode()), tokens, on_part, ends=False)

    def _tokens(self, prompt: str) -> list[int]:
        """As llama.cpp's own server does it: names of special tokens mean these, and a text begins once, be it the
        template or the vocabulary that says so."""
        if self._format is not None:
            prompt = self._format(messages=[{"role": "user", "content": prompt}]).prompt
            prompt = prompt.removeprefix(self._bos) if self._adds_bos else prompt
        tokens: list[int] = self._llama.tokenize(prompt.encode(), special=True)
        return tokens

    def _write(self, tokens: list[int], max_tokens: int, on_part: OnPart, *, ends: bool = True) -> None:
        llama, room = self._llama, self._context_tokens - len(tokens)
        if room <= 0:
            raise TooLarge(f"the prompt has {len(tokens)} tokens, the context room for {self._context_tokens}")
        llama.reset()
        for start in range(0, len(tokens) - 1, BATCH_TOKENS):
            llama.eval(tokens[start : min(start + BATCH_TOKENS, len(tokens) - 1)])
            if not on_part("", 0):
                return
        if not tokens:
            return
        text = codecs.getincrementaldecoder("utf-8")("replace")
        written = llama.generate(tokens, temp=TEMPERATURE)  # what has been read is not read again
        for token in islice(written, min(max_tokens, room)):
            is_end = ends and llama_cpp.llama_token_is_eog(self._vocabulary, token)
            if not on_part("" if is_end else text.decode(llama.detokenize([token])), 1) or is_end:
                return

    def _template(self) -> Jinja2ChatFormatter:
        return Jinja2ChatFormatter(
            self._llama.metadata["tokenizer.chat_template"],
            eos_token=self._special(self._llama.token_eos()),
            bos_token=self._bos,
        )

    def _special(self, token: int) -> str:
        return str(self._llama.detokenize([token], special=True).decode()) if token >= 0 else ""
