"""What an agent makes of its options: where Ollama is, and how many tasks it answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgecoder.cli import app
from edgecoder_drivers.commands import agent
from edgecoder_drivers.commands.serving import Where, plan_of


@pytest.mark.parametrize("said", ["a b", "ftp://x", "[zz:1"])
def test_where_no_ollama_can_be_is_told(said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["agent", "--data", str(tmp_path), "--ollama", said]) == 2
    assert "--ollama: " in capfd.readouterr().err


def slots(folder: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...] = (), **environ: str) -> int:
    for name in ("OLLAMA_NUM_PARALLEL", "EDGECODER_NODE_SLOTS", "EDGECODER_PRESET", "EDGECODER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    options: dict[str, Any] = dict.fromkeys(("catalog", "cdn", "journal", "config"))
    where = Where("127.0.0.1", 0, None, None, None, ())
    return plan_of(agent.kind(), where, data=folder, overrides=overrides, **options).config.slots


def test_an_agent_answers_as_many_tasks_at_once_as_its_ollama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slots(tmp_path, monkeypatch) == 1
    assert slots(tmp_path, monkeypatch, OLLAMA_NUM_PARALLEL="4") == 4
    assert slots(tmp_path, monkeypatch, OLLAMA_NUM_PARALLEL="nonsense") == 1
    assert slots(tmp_path, monkeypatch, EDGECODER_NODE_SLOTS="3") == 3
    assert slots(tmp_path, monkeypatch, ("node.slots=2",)) == 2
    assert slots(tmp_path, monkeypatch, EDGECODER_PRESET="server") == 1
