"""What `edgecoder model` prints of what an agent tells, on a terminal and into a file."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from edgecoder.cli import app
from edgecoder_drivers.commands import model
from edgecoder_drivers.commands.control import Control, Refusal, asking
from tests.catalogs import TINY
from tests.drivers.control import controlled
from tests.drivers.other_server import other_server

EVENT = {"operation": "0" * 16, "kind": "pull", "model": "small", "progress": 0.25, "sizeBytes": 8_000_000_000}
ROW = {
    "displayName": "",
    "paramSize": 1.5,
    "fileSizeBytes": 1_000_000_000,
    "installed": True,
    "active": False,
    "compatible": True,
    "source": "local",
    "seeders": 1,
    "state": "installed",
}
STATUS = {
    "model": None,
    "paramSize": None,
    "status": "no_model",
    "currentLoad": 0,
    "generation": 1,
    "engine": "ollama",
    "online": False,
}


class Terminal(io.StringIO):
    """An error stream that somebody looks at."""

    def isatty(self) -> bool:
        return True


def events(*told: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (name.encode(), json.dumps(value).encode()) for name, value in told)


def test_a_list_is_never_cut_off_nor_taken_for_markup(capfd: pytest.CaptureFixture[str]) -> None:
    name = "/".join(["x" * 90, "y" * 90]) + ":" + "z" * 90
    rows = [ROW | {"modelId": name, "quantization": "[/x]\x1b[2J"}, ROW | {"modelId": "small", "quantization": "Q4"}]
    with other_server(json.dumps({"models": rows}).encode()) as other:
        assert app.run(["model", "list", "--url", other.url]) == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert lines[1:] == [
        [name, "1.5", "[/x]\\x1b[2J", "1.00", "installed", "local"],
        ["small", "1.5", "Q4", "1.00", "installed", "local"],
    ]


@pytest.mark.parametrize(
    ("is_healthy", "line"), [(True, "ollama"), (False, "ollama, which does not answer; see `edgecoder doctor`")]
)
def test_an_ollama_that_is_away_is_said(capfd: pytest.CaptureFixture[str], is_healthy: bool, line: str) -> None:
    with other_server(json.dumps(STATUS | {"ollamaHealthy": is_healthy}).encode()) as other:
        assert app.run(["model", "status", "--url", other.url]) == 0
    assert f"engine       {line}\n" in capfd.readouterr().out


def followed(url: str) -> None:
    """Follow an operation to its end, as `pull` does."""
    with asking(url, None, None) as control:
        model.follow(control, "0" * 16, "small")


def test_a_bar_shows_bytes_once_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    told = events(("progress", EVENT | {"status": "running"}), ("done", EVENT | {"status": "done", "progress": 1.0}))
    with other_server(told, "text/event-stream") as other:
        followed(other.url)
    assert "2.0/8.0 GB" in terminal.getvalue()


def test_an_agent_tells_how_large_the_file_is(tmp_path: Path) -> None:
    async def told() -> Any:
        async with controlled(tmp_path) as control:
            begun = await control.ask("POST", "/model/pull", {"model": "tiny", "wait": False})
            return (await control.ask("GET", f"/model/operations/{begun.json['operation']}")).json

    assert asyncio.run(told())["sizeBytes"] == TINY.file_size_bytes


def test_an_operation_that_fails_is_told_with_all_that_is_known() -> None:
    problem = {"title": "no source has the file", "status": 503, "code": "no_source", "detail": "at x", "hint": "wait"}
    told = events(("failed", EVENT | {"status": "failed", "problem": problem}))
    with other_server(told, "text/event-stream") as other, pytest.raises(Refusal, match=r"file \(at x\); wait"):
        followed(other.url)


def test_who_interrupts_a_pull_is_told_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Control, "events", interrupted)
    accepted = {"active": None, "status": "pulling", "operation": "0" * 16, "progress": 0.0}
    with other_server(json.dumps(accepted).encode(), status=202) as other:
        assert app.run(["model", "pull", "small", "--url", other.url]) == 130
    hint = "see `edgecoder model status`; `edgecoder model remove` ends a pull"
    assert capfd.readouterr().err == f"small: it goes on; {hint}\n"


def test_a_file_of_another_machine_is_that_machine_s_to_find(capfd: pytest.CaptureFixture[str]) -> None:
    with other_server(b'{"model":"small","status":"installed"}') as other:
        elsewhere = other.url.replace("127.0.0.1", "127.1")
        assert app.run(["model", "import", "/nowhere/small.gguf", "--url", elsewhere]) == 0
        assert capfd.readouterr().out == "small: installed\n"
        assert app.run(["model", "import", "/nowhere/small.gguf", "--url", other.url]) == 2
        assert capfd.readouterr().err.startswith("/nowhere/small.gguf: there is no such file;")
    assert other.asked == ["/model/import None"]


def test_tab_offers_the_models_of_the_agent(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [ROW | {"modelId": name, "quantization": "Q4"} for name in ("mine:7b", "mine:1b", "other")]
    with other_server(json.dumps({"models": rows}).encode()) as other:
        for words, variables in (
            (["model", "swap", "mine", ":"], {"EDGECODER_URL": other.url, "EDGECODER_TOKEN": "secret"}),
            (["model", "pull", "--token", "secret", "--url", other.url, "mine", ":"], {}),
        ):
            asks = {"_EDGECODER_COMPLETE": "complete_bash", "COMP_CWORD": str(len(words)), **variables}
            for name, value in {**asks, "COMP_WORDS": "\n".join(["edgecoder", *words])}.items():
                monkeypatch.setenv(name, value)
            assert app.run([]) == 0
            assert capfd.readouterr().out.split() == ["7b", "1b"]
    assert other.asked == ["/model/list Bearer secret"] * 2


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:9", "https://127.0.0.1:9"])
def test_tab_never_fails(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], url: str) -> None:
    words = ["edgecoder", "model", "swap", "--url", url, "--cacert", "/nowhere", "qwen2.5-coder-7"]
    asks = {"_EDGECODER_COMPLETE": "complete_bash", "COMP_CWORD": "7", "COMP_WORDS": "\n".join(words)}
    for name, value in asks.items():
        monkeypatch.setenv(name, value)
    assert app.run([]) == 0
    said = capfd.readouterr()
    assert (said.out, said.err) == ("qwen2.5-coder-7b\n", "")
