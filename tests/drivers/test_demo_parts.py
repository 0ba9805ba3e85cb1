"""The parts of the demo: its processes, what it says of them, and how it looks."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from edgecoder_drivers.demo import processes as started
from edgecoder_drivers.demo.board import AgentRow, Board, HubRow, Step
from edgecoder_drivers.demo.processes import PartFailed, free_port, processes
from edgecoder_drivers.demo.screen import HONEST, line, picture
from tests.drivers.mesh_rig import run, until

SAYS_UP = 'import sys, time; print(\'{"event": "up", "port": 7}\', flush=True); time.sleep(600)'
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_what_is_up_says_so_and_nothing_is_left(tmp_path: Path) -> None:
    async def test() -> None:
        async with processes() as everything:
            part = everything.start("one", ["-c", SAYS_UP])
            assert await part.up() == {"event": "up", "port": 7}
            everything.check()
            assert len(everything.left()) == 2
        assert everything.left() == []
        with pytest.raises(ProcessLookupError):
            os.kill(part.pid, 0)

    run(test())
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_come_up_is_named_with_the_end_of_its_log() -> None:
    async def test() -> None:
        async with processes() as everything:
            part = everything.start("one", ["-c", "import sys; print('port 4301 is taken'); sys.exit(2)"])
            with pytest.raises(PartFailed, match=r"^one \(pid \d+\) ended with exit code 2; .*: port 4301 is taken$"):
                await part.up()
            silent = everything.start("two", ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
            with pytest.raises(PartFailed, match=r"^two \(pid \d+\) ended by SIGKILL; its log is empty$"):
                await silent.up()

    run(test())


def test_what_never_comes_up_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(started, "UP_S", 0.2)

    async def test() -> None:
        async with processes() as everything:
            part = everything.start("one", ["-c", "import time; time.sleep(600)"])
            with pytest.raises(PartFailed, match=r"did not come up within 0.2 s"):
                await part.up()

    run(test())


def test_a_command_that_is_to_finish_may_fail() -> None:
    async def test() -> None:
        async with processes() as everything:
            await everything.start("good", ["-c", ""]).finished()
            everything.check()
            bad = everything.start("bad", ["-c", "print('no such folder'); raise SystemExit(2)"])
            with pytest.raises(PartFailed, match=r"bad .* exit code 2; its log ends: no such folder"):
                await bad.finished()

    run(test())


def test_what_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(started, "END_S", 0.2)

    async def test() -> None:
        async with processes() as everything:
            part = everything.start("one", ["-c", DEAF])
            await part.said(re.compile("deaf"))
        assert not part.is_running

    run(test())


def test_an_end_that_is_wanted_is_no_fault() -> None:
    async def test() -> None:
        async with processes() as everything:
            part = everything.start("one", ["-c", SAYS_UP])
            await part.up()
            part.kill()
            await until(lambda: not part.is_running)
            everything.check()

    run(test())


def test_nodes_hear_nothing_of_their_users_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of nodes of his own, nor of his Ollama, nor of a proxy."""
    for name in ("EDGECODER_NODE_SLOTS", "OLLAMA_HOST", "OLLAMA_MODELS", "https_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "theirs")
    shows = "import os; print([name for name, value in os.environ.items() if value == 'theirs'], flush=True)"

    async def test() -> None:
        async with processes() as everything:
            part = everything.start("one", ["-c", shows], {"OLLAMA_MODELS": "ours"})
            assert (await part.said(re.compile(r"\[.*\]")))[0] == "[]"

    run(test())


def test_an_interrupt_at_the_terminal_is_the_demos_alone() -> None:
    """Nodes are in a group of their own, which a keeper leads."""

    async def test() -> None:
        async with processes() as everything:
            part = everything.start("one", ["-c", SAYS_UP])
            await part.up()
            group = os.getpgid(part.pid)
            assert group not in (os.getpgrp(), part.pid)
            os.kill(group, signal.SIGINT)
            os.kill(group, 0)

    run(test())


def test_a_free_port_is_free() -> None:
    assert 1024 <= free_port() < 65_536


# -- what is shown -----------------------------------------------------------------------------------------------------


def board_of_two() -> Board:
    board = Board()
    board.steps = [Step("start", "nodes come up"), Step("swap", "a model changes")]
    board.agents = {"llama-1": AgentRow("llama-1", "llama.cpp", "north", "acorn", "ready", 3_000_000, 9_000_000)}
    board.hubs = {"north": HubRow("north", "up", {"acorn": 2}, {"south": {"cedar": 1}})}
    board.release_bytes = 12_000_000
    return board


def shown(board: Board, width: int = 110) -> str:
    console = Console(width=width, record=True, file=StringIO())
    console.print(picture(board))
    return console.export_text()


def test_the_picture_has_what_nodes_said_last() -> None:
    board = board_of_two()
    text = shown(board)
    for words in ("nodes come up", "llama-1", "acorn ×2", "south: cedar", "3.0 +  9.0 MB"):
        assert words in text
    assert text.count("█") == 16


def test_on_a_narrow_terminal_the_bars_give_way() -> None:
    board = board_of_two()
    for row in board.agents.values():
        row.status = "starting"
    text = shown(board, width=80)
    for words in ("reports to", "starting", "llama.cpp"):
        assert words in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_what_a_coordinator_said_before_it_was_killed_is_told_as_that() -> None:
    board = board_of_two()
    board.hubs["south"] = HubRow("south", "killed")
    assert "south, before it was killed: cedar" in shown(board)


def test_the_picture_says_what_happened_and_at_the_end_what_is_not_real() -> None:
    board = board_of_two()
    board.begin(board.steps[0])
    board.end(board.steps[0], ok=True, detail="all are up\nin order")
    text = shown(board)
    assert "✔" in text
    assert "in order" not in text, "while it goes on it is low"
    board.end(board.steps[1], ok=False, detail="llama-1 ended")
    board.stop()
    text = shown(board)
    for words in ("in order", "✘", "llama-1 ended", "random weights", "stand-in"):
        assert words in text
    assert "noise" in HONEST


def test_what_others_wrote_does_not_steer_a_terminal() -> None:
    board = board_of_two()
    board.end(board.steps[0], ok=True, detail="\x1b[2J gone")
    assert "\x1b[2J" not in shown(board)


def test_lines_and_report_say_the_same() -> None:
    board = board_of_two()
    told: list[str] = []
    board.on_end = lambda step: told.append(line(step))
    board.begin(board.steps[0])
    board.end(board.steps[0], ok=True, detail="all are up")
    assert told[0].startswith("ok  start ")
    assert told[0].endswith("all are up")
    assert not board.ok, "a step is not done yet"
    board.end(board.steps[1], ok=False, detail="it does not come")
    assert told[1].startswith("NO  swap ")
    report = board.report()
    assert (report["ok"], [step["ok"] for step in report["steps"]]) == (False, [True, False])
    assert report["nodes"][0]["peer_bytes"] == 9_000_000
