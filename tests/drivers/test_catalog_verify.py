"""`edgecoder catalog verify`: files and addresses against what a catalog says."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgecoder.errors import ConfigError
from edgecoder_drivers.bare.server import listen
from edgecoder_drivers.commands.catalog import command
from edgecoder_drivers.demo import tiny_gguf
from edgecoder_drivers.origin.folder import Folder
from edgecoder_drivers.origin.server import OriginServer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two models and their catalog."""
    for number in range(2):
        tiny_gguf.make(tmp_path / f"tiny-{number}.gguf", rng_seed=number)
    assert CliRunner().invoke(command, ["build", str(tmp_path)]).exit_code == 0
    return tmp_path


def verify(folder: Path, *more: str) -> tuple[int, Any]:
    """Exit code, and what is printed."""
    arguments = ["verify", str(folder / "catalog.yaml"), *more, "--json"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    return result.exit_code, json.loads(result.stdout)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """An origin in a thread of its own."""
    loop, opened = asyncio.new_event_loop(), Folder(folder)
    server = OriginServer(opened, listen("127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> None:
        server.start()

    asyncio.run_coroutine_threadsafe(start(), loop).result(60)
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()
        opened.close()


def test_what_is_as_it_says(folder: Path) -> None:
    code, told = verify(folder, "--files", str(folder))
    assert (code, told["ok"], len(told["findings"])) == (0, True, 2)
    with serving(folder) as url:
        code, told = verify(folder, "--urls", "--cdn", url)
    assert (code, told["ok"], [finding["detail"] for finding in told["findings"]]) == (0, True, ["", ""])


def test_what_is_not(folder: Path) -> None:
    file = folder / "tiny-0.gguf"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    (folder / "tiny-1.gguf.leaves").write_bytes(bytes(32))
    code, told = verify(folder, "--files", str(folder))
    assert code == 1
    assert "SHA-256 is" in told["findings"][0]["detail"]
    assert "leaf hashes" in told["findings"][1]["detail"]
    file.write_bytes(content[:-1])
    with serving(folder) as url:
        code, told = verify(folder, "--files", str(folder), "--urls", "--cdn", url)
    assert code == 1
    assert "bytes, the catalog says" in told["findings"][0]["detail"]
    assert "bytes, not" in told["findings"][2]["detail"]
    assert "comes whole" in told["findings"][3]["detail"]
    file.unlink()
    code, told = verify(folder, "--files", str(folder), "--urls")
    assert code == 1
    assert "none of its addresses" in told["findings"][0]["detail"]
    assert "--cdn" in told["findings"][2]["detail"]


def test_mistakes_of_a_newcomer(folder: Path) -> None:
    for arguments in (["verify", "none.yaml"], ["verify", str(folder / "catalog.yaml"), "--files", "none"]):
        with pytest.raises(ConfigError):
            CliRunner().invoke(command, arguments, catch_exceptions=False)
    with pytest.raises(ConfigError, match="no folder that can be served"):
        CliRunner().invoke(command, ["serve", str(folder / "catalog.yaml")], catch_exceptions=False)
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match="this folder is empty"):
        CliRunner().invoke(command, ["serve", str(folder / "empty")], catch_exceptions=False)
    taken = listen("127.0.0.1", 0)
    arguments = ["serve", str(folder), "--port", str(taken.getsockname()[1])]
    with pytest.raises(ConfigError, match="something else listens there"):
        CliRunner().invoke(command, arguments, catch_exceptions=False)
    taken.close()
