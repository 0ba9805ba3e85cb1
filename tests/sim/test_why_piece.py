"""`edgecoder why piece`: where the pieces of a file came from, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgecoder.cli import app
from edgecoder_sim.results import Run
from tests.sim import made_runs as made
from tests.sim.made_runs import LARGE, made_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was made by hand."""
    return made_run(tmp_path_factory.mktemp("runs"))


def tell(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert app.run(["why", *words]) == 0
    return capsys.readouterr().out


def test_the_story_of_a_piece_that_a_peer_spoiled(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    said = tell(capsys, str(run.path), "piece", "agent-0", LARGE, "1").splitlines()
    assert said == [
        "piece 1 of large-7b at agent-0",
        "  00:00:25.000  agent-0  asked phone-1 (mesh): granted (the broker said so)",
        (
            "  00:00:26.000  agent-0  phone-1 (mesh) did not give it: piece_corrupt (a sender's bytes do not fit the "
            "file's tree); 16,384 bytes of it fit and stay; 16,384 bytes in vain"
        ),
        "  00:00:27.000  agent-0  asked phone-0 (mesh): granted (the broker said so)",
        "  00:00:29.000  agent-0  got it from phone-0 (mesh): 49,152 bytes, verified",
        "  here after 4.00 s, from phone-0 (mesh)",
    ]
    story: dict[str, Any] = json.loads(tell(capsys, str(run.path), "piece", "agent-0", LARGE, "1", "--json"))
    assert [moment["facts"]["event"] for moment in story["moments"]] == ["sought", "lost", "sought", "kept"]


@pytest.mark.parametrize("words", [[], [LARGE]])
def test_where_the_pieces_of_a_file_came_from(run: Run, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    said = tell(capsys, str(run.path), "piece", "agent-0", *words)
    assert f"large-7b at agent-0 in {run.path}: 2 pieces came\n" in said
    assert "  1 from CDN, 65,536 bytes\n" in said
    assert "  2 asked for as granted (the broker said so)\n  1 asked for as alone (no sign of a peer yet)\n" in said
    assert "Pieces with the most to tell:\n  piece 1: here at 00:00:29.000, lost 1 times\n" in said
    assert said.endswith(f"Tell one: edgecoder why {run.path} piece agent-0 {LARGE} N\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "why: no node is given; write edgecoder why"),
        (["nobody"], "there is no such node"),
        (["phone-0"], "why: phone-0 downloaded nothing piece by piece; there are agent-0, …\n"),
        (["agent-0", "small-1b"], "why: agent-0 did not download small-1b; give one of large-7b\n"),
        (["agent-0", LARGE, "x"], "why: the piece is 'x'; give its number, such as 0\n"),
        (["agent-0", LARGE, "2"], "nothing happened to piece 2 of large-7b at agent-0; it has pieces 0 to 1\n"),
        (["agent-0", LARGE, "1", "2"], "why: '2' is one word too many; write edgecoder why"),
    ],
)
def test_a_mistake_is_one_line(run: Run, capsys: pytest.CaptureFixture[str], words: list[str], line: str) -> None:
    assert app.run(["why", str(run.path), "piece", *words]) == 2
    said = capsys.readouterr()
    assert line in said.err
    assert said.err.count("\n") == 1


def test_a_run_that_kept_no_pieces_says_how_to_keep_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = made_run(tmp_path, tell=made.boot)
    assert app.run(["why", str(quiet.path), "piece", "agent-0"]) == 2
    assert "no file came piece by piece; choose a run with downloads\n" in capsys.readouterr().err
