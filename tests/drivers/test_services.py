"""The systemd units run what the documented installation puts on a machine."""

from __future__ import annotations

import re
import shlex
from configparser import ConfigParser
from pathlib import Path

import pytest

from edgecoder.cli import app
from tests.tidy.tree import ROOT

UNITS = sorted((ROOT / "docs").glob("*.service"))


def command_of(unit: Path) -> list[str]:
    """What a unit starts."""
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text(encoding="utf-8"))
    return shlex.split(parser["Service"]["ExecStart"])


def installed() -> str:
    """The command that the steps in the guide make: in an environment of its own, with a link to it."""
    guide = (ROOT / "docs/devices.md").read_text(encoding="utf-8")
    (steps,) = re.findall(r"```sh\n(sudo python3 -m venv .*?)```", guide, re.DOTALL)
    environment, installer, link = (shlex.split(line, comments=True)[1:] for line in steps.splitlines())
    assert installer[0] == f"{environment[-1]}/bin/pip"
    assert installer[1:2] + link[:2] == ["install", "ln", "-s"]
    assert link[2] == f"{environment[-1]}/bin/edgecoder"
    return link[3]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_what_the_guide_installs(unit: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program, *args = command_of(unit)
    assert program == installed()
    assert unit.stem == f"edgecoder-{args[0]}"
    assert app.run([*args, "--help"]) == 0, "it takes these options"
    assert "--data" in capfd.readouterr().out


def test_there_is_a_unit_for_an_agent() -> None:
    assert "edgecoder-agent" in [unit.stem for unit in UNITS]
