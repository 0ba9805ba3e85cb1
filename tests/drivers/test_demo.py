"""`edgecoder demo` as a user starts it, and what is left of it: nothing, whatever ends it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from edgecoder.cli.app import run
from edgecoder_drivers.commands import demo
from tests.drivers.device_process import TURN_S, TURNS, environ, running

END_S = 540
"""A demo takes 16 s of a processor, which others may want too."""


def eventually(what: Callable[[], Any]) -> Any:
    """Wait until something is so."""
    for _ in range(4 * TURNS):
        if found := what():
            return found
        time.sleep(TURN_S)
    raise AssertionError("it does not come")


def processes_in(folder: Path) -> dict[int, str]:
    """Processes that were started for something in a folder, or in it, with their command lines."""
    found = {}
    for pid, _ in running():
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in line or os.readlink(f"/proc/{pid}/cwd").startswith(str(folder)):  # noqa: PTH115
                found[pid] = line
    return found


class Demo:
    """One that runs. Its folder lies in `folder`, which has nothing else."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgecoder", "demo", *more],
            env={**environ(), "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def part(self, name: str) -> int:
        """The process of a node, once it is there."""

        def found() -> int | None:
            assert self.process.poll() is None, self.process.communicate()
            lines = processes_in(self.folder).items()
            return next((pid for pid, line in lines if f"/{name} " in line and "--data" in line), None)

        pid: int = eventually(found)
        return pid

    def ended(self) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        output, errors = self.process.communicate(timeout=END_S)
        return self.process.returncode, output, errors

    def left(self) -> list[str]:
        """What is left of it on this machine."""
        return [*processes_in(self.folder).values(), *map(str, self.folder.iterdir())]


@contextmanager
def demonstrated(folder: Path, *more: str) -> Iterator[Demo]:
    """A demo, which is over when the block is."""
    folder.mkdir()
    shown = Demo(folder, *more)
    try:
        yield shown
    finally:
        if shown.process.poll() is None:
            shown.process.kill()
            shown.process.communicate()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_shows_all_of_it_and_leaves_nothing(tmp_path: Path) -> None:
    svg = tmp_path / "demo.svg"
    with demonstrated(tmp_path / "temporary", "--json", "--svg", str(svg)) as shown:
        code, output, errors = shown.ended()
    assert code == 0, errors
    report = json.loads(output)
    assert report["ok"] is True
    steps = {step["name"]: step for step in report["steps"]}
    assert all(step["ok"] for step in steps.values())
    assert [*steps] == ["origin", "start", "first models", "gossip", "release", "swap", "task", "fail-over", "end"]
    release = steps["release"]
    assert release["origin_bytes"] + release["peer_bytes"] >= 4 * release["file_bytes"], "all have it"
    assert release["peer_bytes"] > 0
    assert release["copies_of_origin"] < 4
    assert [each["node"] for each in steps["swap"]["swaps"]] == ["llama-2", "ollama-1"]
    answers = steps["task"]["answers"] + steps["fail-over"]["answers"]
    assert len(answers) == 3
    assert all(each["answered_by"] != each["asked_at"] and each["text"] for each in answers)
    assert {row["home"] for row in report["nodes"]} == {"south"}, "north was killed"
    assert all(step in errors for step in steps), "lines where there is no terminal"
    drawn = svg.read_text(encoding="utf-8")
    ET.fromstring(drawn)
    assert "@font-face" not in drawn, "it needs nothing from elsewhere"
    assert shown.left() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_that_is_killed_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    with demonstrated(tmp_path / "temporary", "--json") as shown:
        shown.part("llama-1")
        pid = shown.part("south")
        os.kill(pid, signal.SIGKILL)
        code, output, errors = shown.ended()
    assert code == 1
    assert f"south (pid {pid}) ended by SIGKILL; its log ends: " in errors
    assert '"event": "' in errors
    failed = [step for step in json.loads(output)["steps"] if step["ok"] is False]
    assert len(failed) == 1
    assert "SIGKILL" in failed[0]["detail"]
    assert "Traceback" not in errors
    assert shown.left() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_ends_it_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with demonstrated(tmp_path / "temporary") as shown:
        shown.part("llama-1")
        shown.process.send_signal(number)
        code, _, errors = shown.ended()
    assert (code, "Traceback" in errors) == (130, False), errors
    assert shown.left() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_who_kills_it_leaves_nothing(tmp_path: Path) -> None:
    """Kill -9 of the demo alone: its processes end, and its folder goes."""
    with demonstrated(tmp_path / "temporary") as shown:
        shown.part("llama-1")
        assert len(processes_in(shown.folder)) > 5
        shown.process.kill()
        shown.process.communicate()
        eventually(lambda: not shown.left())


def test_what_is_missing_is_said_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == demo.ENGINE else real(name))
    monkeypatch.setattr(demo, "run", lambda board: pytest.fail("it began"))
    assert run(["demo"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("edgecoder demo needs the extra 'agent,llama,ollama': pip install ")
    assert said.count("\n") == 1


def test_a_picture_that_could_not_be_kept_is_refused_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "run", lambda board: pytest.fail("it began"))
    assert run(["demo", "--svg", str(tmp_path / "nowhere" / "demo.svg")]) == 2
    assert "--svg: there is no folder " in capsys.readouterr().err
