"""`edgecoder run` as a user meets it: a run directory, plain lines, JSON, mistakes, Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgecoder_sim.results import Run

TINY = ("phones.count=8", "agents.count=2", "duration_s=200", "radio.area_m=[15, 10]")
LONG = ("phones.count=60", "agents.count=6", "duration_s=1000000")


def command(*arguments: str, sets: tuple[str, ...] = TINY) -> list[str]:
    flags = [part for one in sets for part in ("--set", one)]
    return [sys.executable, "-m", "edgecoder", *arguments, *flags]


def edgecoder(*arguments: str, cwd: Path, sets: tuple[str, ...] = TINY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments, sets=sets), cwd=cwd, capture_output=True, text=True, check=False)


def test_a_run_leaves_a_directory_and_says_where(tmp_path: Path) -> None:
    done = edgecoder("run", "office", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "none violated" in done.stdout
    (directory,) = (tmp_path / "runs").iterdir()
    assert f"runs/{directory.name}/report.html" in done.stdout
    assert {"summary.json", "provenance.json", "scenario.resolved.yaml", "report.html", "tasks.parquet"} <= {
        path.name for path in directory.iterdir()
    }
    assert "\x1b" not in done.stdout + done.stderr, "colours where there is no terminal"
    percent = [int(found) for found in re.findall(r"^(\d+) %, \d+ s to go$", done.stderr, re.MULTILINE)]
    assert percent == sorted(percent)
    assert percent[-1] == 100
    run = Run(directory)
    assert len(run.nodes) == 12
    assert run.summary["partial"] is False


def test_json_is_the_summary_and_nothing_else(tmp_path: Path) -> None:
    done = edgecoder("run", "office", "--json", "--no-report", "--rng-seed", "5", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    summary = json.loads(done.stdout)
    assert {"digest", "rng_seed", "sim_s", "wall_s", "events", "nodes", "metrics", "invariants"} <= set(summary)
    assert summary["rng_seed"] == 5
    assert summary["sim_s"] == 200
    assert summary["nodes"] == 12
    assert summary["invariants"]["checked"] == summary["events"] > 0
    assert summary["invariants"]["violated"] == 0
    assert not (Path(tmp_path / summary["run_dir"]) / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "offfice"), "offfice: there is no such file or scenario; did you mean office"),
        (("run", "office", "--set", "phones.cuont=3"), "phones.cuont"),
        (("run", "office", "--set", "phones.count=-3"), "phones.count is -3; a count is 0 or more"),
        (("run", "office", "--set", "phones"), "there is no `=`"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = edgecoder(*arguments, cwd=tmp_path, sets=())
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert not (tmp_path / "runs").exists(), "nothing was begun"


@pytest.mark.parametrize("out", ["file", "file/runs"])
def test_an_out_directory_that_cannot_be_made_is_one_line(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("")
    done = edgecoder("run", "office", "--out", out, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"--out {out}: there is a file in its place; name a directory\n"


def test_ctrl_c_leaves_a_readable_partial_run(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("run", "office", sets=LONG), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "nodes" in process.stderr.readline(), "the run has begun"
    while not list(tmp_path.glob("runs/*/tasks.parquet")):
        pass
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130
    assert "stopped after" in stderr
    assert "Traceback" not in stderr
    (directory,) = (tmp_path / "runs").iterdir()
    run = Run(directory)
    assert run.summary["partial"] is True
    assert 0 <= run.summary["sim_s"] < 1_000_000
    assert len(run.nodes) == 68
    assert (directory / "report.html").exists()
