"""What llama.cpp is asked, and what of its answer is told: the same by each library."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edgecoder.config import NodeConfig
from edgecoder_drivers.demo.tiny_gguf import CONTEXT_TOKENS, END_OF_TEXT, FIRST_BYTE, TEMPLATE, make
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.engine import Part
from edgecoder_drivers.llamacpp.engine import LlamaEngine
from edgecoder_drivers.llamacpp.port import installed_libraries
from tests.drivers.llama_rig import Files, engine_of

LETTERS = 3000
FOLDER = os.fsdecode(b"of Ren\xe9e") if sys.platform == "linux" else "of Renée"
"""Of models: no text to some systems, and not to all."""
IN_TEMPLATE = len("user: \nassistant:")
BEGIN_OF_TEXT = "{{ bos_token }}"
Asked = Callable[[LlamaEngine], Awaitable[None]]


@pytest.fixture(params=installed_libraries())
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    """Asks a tiny model, made and loaded as told."""

    def run(asked: Asked, context_tokens: int = CONTEXT_TOKENS, slots: int = 1, **made: Any) -> None:
        async def test() -> None:
            path, files = tmp_path / FOLDER / "tiny.gguf", Files()
            path.parent.mkdir()
            entry = files.add(path, make(path, **made))
            engine = engine_of(files, request.param, config=NodeConfig(slots=slots))
            async with asyncio.timeout(60):
                await engine.load(entry, context_tokens)
                await asked(engine)
                await engine.close()

        asyncio.run(test())

    return run


async def answer(engine: LlamaEngine, prompt: str, max_tokens: int) -> Part:
    """All parts of an answer as one."""
    parts = [part async for part in engine.generate(prompt, max_tokens)]
    return Part("".join(part.text for part in parts), sum(part.tokens for part in parts))


async def tokens_of(engine: LlamaEngine, prompt: str) -> int:
    """The tokens that a prompt has which is too large."""
    with pytest.raises(Refused, match=r"\d+ tokens") as refused:
        await answer(engine, prompt, 1)
    return int(re.findall(r"(\d+) tokens", str(refused.value))[0])


@pytest.mark.parametrize(
    ("made", "prompt", "tokens"),
    [
        ({}, "a" * LETTERS, 1 + IN_TEMPLATE + LETTERS),
        ({"template": BEGIN_OF_TEXT + TEMPLATE}, "a" * LETTERS, 1 + IN_TEMPLATE + LETTERS),
        ({"has_bos": False}, "a" * LETTERS, IN_TEMPLATE + LETTERS),
        ({"has_bos": False, "template": BEGIN_OF_TEXT + TEMPLATE}, "a" * LETTERS, 1 + IN_TEMPLATE + LETTERS),
        ({"template": None}, "a" * LETTERS, 1 + LETTERS),
        ({"template": ""}, "a" * LETTERS, 1 + LETTERS),
        ({"template": None}, "</s>" * 800, 1 + 800),
        ({"template": None, "has_bos": False}, "</s>" * 800, 800),
    ],
)
def test_a_prompt_has_the_tokens_that_its_model_learned_it_with(
    ask: Callable[..., None], made: dict[str, Any], prompt: str, tokens: int
) -> None:
    """One that begins a text where the model wants it, be it written in the template or not."""

    async def asked(engine: LlamaEngine) -> None:
        assert await tokens_of(engine, prompt) == tokens

    ask(asked, **made)


def test_nothing_is_answered_to_nothing(ask: Callable[..., None]) -> None:
    async def asked(engine: LlamaEngine) -> None:
        assert await answer(engine, "", 5) == Part("", 0)
        assert (await answer(engine, "a", 1)).tokens == 1

    ask(asked, template=None, has_bos=False)


def test_the_token_that_ends_an_answer_counts(ask: Callable[..., None]) -> None:
    async def asked(engine: LlamaEngine) -> None:
        assert await answer(engine, "hello", 9) == Part("", 1)

    ask(asked, says=END_OF_TEXT)


@pytest.mark.parametrize(("byte", "text"), [(ord("A"), "A"), ("é".encode()[0], "")])
def test_a_part_of_a_character_is_no_text(ask: Callable[..., None], byte: int, text: str) -> None:
    async def asked(engine: LlamaEngine) -> None:
        assert await answer(engine, "hello", 1) == Part(text, 1)

    ask(asked, says=FIRST_BYTE + byte)


def test_the_context_is_no_longer_than_the_model_was_trained_for(ask: Callable[..., None]) -> None:
    async def asked(engine: LlamaEngine) -> None:
        assert await tokens_of(engine, "a" * 2 * CONTEXT_TOKENS) > 2 * CONTEXT_TOKENS

    ask(asked, context_tokens=8 * CONTEXT_TOKENS)


@pytest.mark.parametrize(("context_tokens", "slots"), [(1, 1), (1, 2), (3, 8)])
def test_a_context_of_next_to_nothing_is_as_long_as_llama_cpp_makes_it(
    ask: Callable[..., None], context_tokens: int, slots: int
) -> None:
    async def asked(engine: LlamaEngine) -> None:
        assert 0 < (await answer(engine, "a" * 100, 20)).tokens <= 20

    ask(asked, context_tokens=context_tokens, slots=slots)


def test_temporary_folders_may_have_long_names(
    ask: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than the path of a socket may be. Nothing stays there."""
    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)

    async def asked(engine: LlamaEngine) -> None:
        assert list(folder.iterdir()) == []
        assert (await answer(engine, "a", 3)).tokens <= 3

    ask(asked)
