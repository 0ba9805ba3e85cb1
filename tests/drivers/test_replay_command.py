"""`edgecoder replay`, as it reads."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from edgecoder.core.events import SwapModel
from edgecoder.journal.format import MARK, framed
from edgecoder.models.swap import Swap
from edgecoder_drivers.commands.replay import command
from tests.catalogs import SMALL
from tests.drivers.memory import MemoryDriver
from tests.drivers.rig import has, living

APP = typer.Typer()
APP.command()(command)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "life.journal"

    async def live() -> None:
        async with living([MemoryDriver()], has(SMALL), journal=path) as host:
            await host.ask(SwapModel, model="small")

    asyncio.run(live())
    return path


def test_the_same_answers_are_said_to_be_the_same(journal: Path) -> None:
    result = CliRunner().invoke(APP, [str(journal)])
    assert result.exit_code == 0, result.output
    assert "every answer is the same" in result.output


def test_another_answer_is_shown(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Swap, "request", lambda *_: False)
    result = CliRunner().invoke(APP, [str(journal)])
    assert result.exit_code == 1
    assert "another answer than then" in result.output
    (told,) = json.loads(CliRunner().invoke(APP, ["--json", str(journal)]).output)["lives"]
    assert told["difference"]["event"] == "Persisted"


def test_what_ends_the_core_is_shown(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("a fault of the core")

    monkeypatch.setattr(Swap, "request", breaks)
    result = CliRunner().invoke(APP, [str(journal)])
    assert result.exit_code == 1
    assert "RuntimeError: a fault of the core" in result.output


def test_one_that_broke_off_says_so(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes()[:-3])
    result = CliRunner().invoke(APP, [str(journal)])
    assert result.exit_code == 0, result.output
    assert "bytes are left of an event that was not written whole" in result.output


def test_where_nothing_was_replayed_nothing_is_said_to_be_the_same(journal: Path) -> None:
    content = journal.read_bytes()
    other = MARK + framed(msgspec.msgpack.encode({"format": 9, "version": "9.0"}))
    for alone, problem in ((other, "of EdgeCoder 9.0; replay it with that"), (content[:60], "nothing was answered")):
        journal.write_bytes(alone)
        result = CliRunner().invoke(APP, [str(journal)])
        assert result.exit_code == 1
        assert problem in result.output
