"""Whatever an origin, an Ollama or an agent answers is taken or refused, over a real socket, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.errors import ConfigError
from edgecoder_drivers.cdn.download import Cdn, Patience
from edgecoder_drivers.commands.catalog_files import Draft
from edgecoder_drivers.commands.control import AgentSilent, Control
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.http.contract import Answered, Listed
from edgecoder_drivers.ollama.client import Client, Model, Said, Timeouts
from tests.catalogs import SMALL
from tests.drivers.cdn_server import head, says, serving
from tests.hostile import near
from tests.strategies import examples

ROW: Final = {
    "name": "mine:1b", "model": "mine:1b", "digest": "ab" * 32, "size": 1_000, "size_vram": 0, "context_length": 512,
    "expires_at": "2026-11-27T20:00:00.123456789+01:00", "modified_at": "2026-11-27T20:00:00Z",
    "details": {"format": "gguf", "family": "qwen2", "families": None, "parameter_size": "7.6B"},
}  # fmt: skip
LIST: Final = msgspec.json.encode({"models": [ROW]})
SHOWN: Final = msgspec.json.encode(
    {
        "modelfile": f"FROM /root/.ollama/models/blobs/sha256-{'ab' * 32}\n",
        "template": "{{ .Prompt }}",
        "details": ROW["details"],
        "model_info": {"general.architecture": "qwen2", "qwen2.block_count": 28, "qwen2.attention.head_count_kv": 2},
        "capabilities": ["completion"],
    }
)
PART: Final = msgspec.json.encode({"model": "mine:1b", "response": "pass", "done": True, "eval_count": 1}) + b"\n"
WAITS: Final = Timeouts(connect=5.0, answer=5.0, load=5.0, first_part=5.0, next_part=5.0, silence=5.0, unload=5.0)


async def generated(client: Client) -> None:
    async for _ in client.generate("mine:1b", "def", context_tokens=512, max_tokens=5):
        pass


async def pulled(client: Client) -> None:
    async for _ in client.pull("mine:1b"):
        pass


OLLAMA: Final[dict[str, tuple[Callable[[Client], Awaitable[Any]], bytes]]] = {
    "version": (Client.check, b'{"version": "0.30.1"}'),
    "long version": (Client.check, b'{"version": "%s"}' % (b"9" * 5_000)),
    "held": (Client.held, LIST),
    "running": (Client.running, LIST),
    "shown": (lambda client: client.shown(Model("mine:1b", "ab" * 32, 1)), SHOWN),
    "loaded": (lambda client: client.load("mine:1b", 512), PART),
    "generated": (generated, PART),
    "pulled": (pulled, b'{"status": "pulling", "digest": "x", "total": 5, "completed": 3}\n'),
    "deleted": (lambda client: client.delete("mine:1b"), b""),
}
"""What is asked of Ollama, and a sound answer."""


@pytest.mark.parametrize("name", OLLAMA)
@given(data=st.data())
def test_an_ollama_is_understood_or_refused(name: str, data: st.DataObject) -> None:
    ask, sound = OLLAMA[name]
    body = data.draw(near(sound or b"{}"))
    status = data.draw(st.sampled_from(["200 OK", "200 OK", "404 Not Found", "500 Oh", "301 Moved Permanently"]))
    answer = head(status, content_type="application/json", content_length=len(body)) + body

    async def test() -> None:
        async with serving(says(answer)) as server:
            client = Client(f"127.0.0.1:{server.port}", WAITS)
            try:
                with contextlib.suppress(Refused, Said):
                    await ask(client)
            finally:
                await client.close()

    asyncio.run(test())


HASTY: Final = Patience(connect_s=5, answer_s=5.0, silence_s=5, pause_s=0.0, rounds=1, outage_s=0.0)
WHOLE: Final = b"x" * 64
HEADS: Final = (
    head("200 OK", content_length=64, etag='"1"') + WHOLE,
    head("206 Partial Content", content_length=64, content_range="bytes 0-63/64", etag='"1"') + WHOLE,
    head("200 OK", transfer_encoding="chunked") + b"40\r\n" + WHOLE + b"\r\n0\r\n\r\n",
    head("302 Found", location="http://localhost:1/"),
    head("503 Busy", retry_after="0"),
)


@given(answer=near(*HEADS))
@examples(2)
def test_an_origin_is_believed_to_the_byte_or_refused(answer: bytes) -> None:
    """A file comes in its whole length, or not."""
    entry = msgspec.structs.replace(SMALL, file_size_bytes=len(WHOLE))

    async def test() -> None:
        async with serving(says(answer)) as server:
            cdn = Cdn(HASTY)
            asked = msgspec.structs.replace(entry, download_urls=(server.url(),))
            try:
                with contextlib.suppress(Refused):
                    assert len((await cdn.ask(server.url(), {}, 100)).content) <= 100
                with contextlib.suppress(Refused):
                    assert len(b"".join([part async for part in cdn.read(asked, 0, len(WHOLE))])) == len(WHOLE)
            finally:
                await cdn.close()

    asyncio.run(test())


@pytest.mark.parametrize("kind", [Answered, Listed], ids=["answered", "models"])
@given(data=st.data())
def test_an_agent_is_understood_or_named_as_something_else(kind: type[Any], data: st.DataObject) -> None:
    sound = msgspec.json.encode({"text": "pass", "tokens": 2, "model": "small", "servedBy": "ab" * 32, "models": []})
    with Control("http://127.0.0.1:1", None) as control, contextlib.suppress(AgentSilent):
        control.read(data.draw(near(sound)), kind)


CATALOG: Final = msgspec.json.encode({"version": 3, "models": [SMALL]})
YAML: Final = b"# ours\nversion: 2\nmodels: []\n"


@given(content=near(CATALOG, YAML))
def test_a_catalog_that_is_to_be_changed_is_read_or_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "draft.yaml"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        assert isinstance(Draft(path).entries, tuple)
