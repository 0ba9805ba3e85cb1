"""`edgecoder model` and `edgecoder task` against a running agent, as a user meets them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from edgecoder.cli import app
from edgecoder.core.effects import LoadModel
from edgecoder.errors import Reason
from edgecoder_drivers.driver import Refused
from tests.catalogs import claim_of
from tests.drivers.control import Control, controlled


class Running:
    """An agent in a thread of its own."""

    def __init__(self, folder: Path, **how: Any) -> None:
        self._ready: Future[Control] = Future()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._live(folder, how)))
        self._thread.start()
        self.control = self._ready.result(20)

    async def _live(self, folder: Path, how: dict[str, Any]) -> None:
        async with controlled(folder, **how) as control:
            self._ready.set_result(control)
            await self._stop.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        self._loop.close()


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    running = Running(tmp_path)
    monkeypatch.setenv("EDGECODER_URL", f"http://127.0.0.1:{running.control.port}")
    yield running
    running.stop()


@pytest.mark.usefixtures("agent")
def test_models_are_swapped_listed_and_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["model", "swap", "small"]) == 0
    assert capfd.readouterr().out == "small is active (1.5B)\n"
    assert app.run(["model", "swap", "large-coder:7b"]) == 0
    assert capfd.readouterr().out == "large is active (7B), before it small\n"
    assert app.run(["model", "list"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "billions", "quantization", "GB", "state", "source"]
    assert ["*", "large", "7", "Q4_K_M", "0.07", "installed", "local"] in [line.split() for line in lines]
    assert ["huge", "70", "Q4_K_M", "0.07", "does", "not", "fit", "cdn"] in [line.split() for line in lines]
    assert app.run(["model", "status"]) == 0
    shown = capfd.readouterr().out
    assert "model        large\n" in shown
    assert "status       ready\n" in shown


def test_a_swap_pulls_and_can_be_left_alone(agent: Running, capfd: pytest.CaptureFixture[str]) -> None:
    agent.control.driver.before[LoadModel] = lambda: asyncio.sleep(0.3)
    assert app.run(["model", "swap", "tiny", "--no-wait"]) == 0
    assert capfd.readouterr().out == "tiny: pulling; see `edgecoder model status`\n"
    assert app.run(["model", "swap", "tiny", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["active"] == "tiny"


def test_what_fails_names_cause_and_next_step(agent: Running, capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["model", "swap", "tiny", "--no-pull"]) == 1
    assert "the model is not on this node (swap tiny); pull it first, or swap with pull" in capfd.readouterr().err
    assert app.run(["model", "swap", "nobody"]) == 1
    assert "no such model in the catalog" in capfd.readouterr().err

    async def refuses() -> None:
        await asyncio.sleep(0.1)
        raise Refused(Reason.OUT_OF_MEMORY)

    agent.control.driver.before[LoadModel] = refuses
    assert app.run(["model", "swap", "small"]) == 1
    assert "the engine ran out of memory" in capfd.readouterr().err
    assert app.run(["model", "status"]) == 0
    assert "(out_of_memory)" in capfd.readouterr().out


@pytest.mark.usefixtures("agent")
def test_a_model_is_pulled_removed_imported_and_exported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["model", "pull", "tiny"]) == 0
    assert app.run(["model", "remove", "tiny"]) == 0
    assert capfd.readouterr().out == "tiny: installed\ntiny: removed\n"
    file = tmp_path / "model.gguf"
    assert app.run(["model", "export", "small", str(file)]) == 0
    assert file.read_bytes() == claim_of("small")
    assert app.run(["model", "export", "small", str(file)]) == 2
    assert "there is a file already; give another path, or --force" in capfd.readouterr().err
    assert app.run(["model", "export", "small", str(file), "--force"]) == 0
    assert app.run(["model", "import", str(file)]) == 0
    assert app.run(["model", "import", str(tmp_path / "none.gguf")]) == 2
    assert "there is no such file" in capfd.readouterr().err
    assert app.run(["model", "export", "nobody", str(tmp_path / "other.gguf")]) == 1
    assert [path.name for path in tmp_path.iterdir() if path.suffix in (".gguf", ".part")] == ["model.gguf"]


def test_an_export_that_is_another_file_is_not_written(
    agent: Running, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    agent.control.node.rot = b"rot"
    file = tmp_path / "model.gguf"
    file.write_bytes(b"mine")
    assert app.run(["model", "export", "small", str(file), "--force"]) == 1
    assert "is not the model any more (SHA-256 " in (said := capfd.readouterr().err)
    assert "; remove the model, and pull it again" in said
    assert file.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blob", "model.gguf"]


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("nowhere/model.gguf", "No such file or directory; give another path"),
        ("", "it is no file; give another path"),
        ("n" * 256, "File name too long; give another path"),
    ],
)
def test_an_export_that_cannot_be_written_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], where: str, why: str
) -> None:
    assert app.run(["model", "export", "small", str(tmp_path / where), "--force"]) == 2
    assert why in capfd.readouterr().err


@pytest.mark.usefixtures("agent")
def test_an_export_may_have_the_longest_name(tmp_path: Path) -> None:
    file = tmp_path / ("n" * 255)
    assert app.run(["model", "export", "small", str(file)]) == 0
    assert file.read_bytes() == claim_of("small")


@pytest.mark.usefixtures("agent")
def test_a_task_is_printed_as_it_comes(capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["model", "swap", "small"]) == 0
    capfd.readouterr()
    assert app.run(["task", "def"]) == 0
    printed = capfd.readouterr()
    assert printed.out == "def add\n"
    assert printed.err.startswith("2 tokens of small, by node ")
    assert app.run(["task", "def", "--json", "--model", "small"]) == 0
    assert json.loads(capfd.readouterr().out)["text"] == "def add"
    assert app.run(["task", "def", "--model", "huge"]) == 1
    assert "small is active here, huge is not, and no other node is known" in capfd.readouterr().err
    assert app.run(["task", "def", "--model", "nobody"]) == 1
    assert "no such model in the catalog (nobody)" in capfd.readouterr().err
    assert app.run(["task", "def", "--min-param-size", "7"]) == 1
    assert "small has 1.5 billion parameters, and no other node is known); swap to one first" in capfd.readouterr().err
    assert app.run(["task", ""]) == 2
    assert "the prompt is empty" in capfd.readouterr().err


def test_no_agent_is_said_with_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["model", "status", "--url", "http://127.0.0.1:9"]) == 3
    assert "no agent or device answers at http://127.0.0.1:9" in capfd.readouterr().err
    assert app.run(["model", "status", "--url", "ftp://x"]) == 2
    assert "'ftp://x' is no address" in capfd.readouterr().err
