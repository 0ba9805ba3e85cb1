"""`edgecoder replay`, as it reads."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from edgecoder.core.events import SwapModel
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
    told = json.loads(CliRunner().invoke(APP, ["--json", str(journal)]).output)
    assert told["difference"]["event"] == "Persisted"
