"""`edgecoder run` as a user meets it: a run directory, plain lines, JSON, mistakes, Ctrl-C."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgecoder.cli import app
from edgecoder.errors import DiskFull
from edgecoder_sim.results import Run
from edgecoder_sim.world import World

TINY = ("phones.count=8", "agents.count=2", "duration_s=200", "radio.area_m=[15, 10]")
LONG = ("phones.count=60", "agents.count=6", "duration_s=40000")
SHORT = [part for one in (*TINY, "duration_s=20") for part in ("--set", one)]


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
        (("run", "office", "--out", ""), "--out '': there is no name; name a directory, such as `.` for this one"),
        (("run", "office", "--jobs", "2"), "--jobs: it does nothing without --seeds; one run is one process"),
        (
            ("run", "office", "--seeds", "1..3", "--rng-seed", "4"),
            "--rng-seed: it does nothing beside --seeds; --seeds",
        ),
        (("run", "office", "--seeds", "1..3", "--out", "foo"), "--out: it does nothing beside --seeds; a sweep writes"),
        (("run", "office", "--seeds", "1..3", "--no-report"), "--report: it does nothing beside --seeds"),
        (("run", "office", "--seeds", "1..3", "--shrink"), "--shrink: it does nothing beside --seeds; reduce one seed"),
        (("run", "office", "--shrink", "--jobs", "2"), "--jobs: it does nothing beside --shrink"),
        (
            ("run", "office", "--shrink"),
            "--shrink: office has no faults that could be left out; run it without",
        ),
        (
            ("run", "office", "--set", "node.slots=4"),
            "--set node.slots=4: unknown key node.slots; in a scenario the device decides it: set devices.<name>.slots",
        ),
        (
            ("run", "office", "--set", "node.drain_ms=4"),
            "--set node.drain_ms=4: unknown key node.drain_ms; a scenario says it by role: set config.phones.drain_ms",
        ),
        (
            ("run", "office", "--set", "cluster.network_id=x"),
            "unknown key cluster.network_id; did you mean config.cluster.network_id?",
        ),
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


@pytest.mark.parametrize(
    ("error", "problem"),
    [(errno.EACCES, "Permission denied"), (errno.EROFS, "Read-only file system")],
)
@pytest.mark.parametrize("broken", ["mkdir", "write_text"])
def test_a_place_that_cannot_be_written_is_one_line_that_names_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: str,
    error: int,
    problem: str,
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(error, problem, str(path))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, broken, refuse)
    assert app.run(["run", "office", "--json", *SHORT]) == 3
    said = capsys.readouterr().err
    assert said.startswith("--out runs: runs")
    assert said.endswith(f": {problem}; give --out a directory that you can write to\n")
    assert said.count("\n") == 1


def test_variables_for_nodes_of_this_machine_are_said_to_be_unused(tmp_path: Path) -> None:
    ran = subprocess.run(
        command("run", "office", "--json", "--no-report", sets=(*TINY, "duration_s=1")),
        cwd=tmp_path,
        env=os.environ | {"EDGECODER_NODE_SLOTS": "4", "EDGECODER_CLUSTER_NETWORK_ID": "x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0
    assert ran.stderr.startswith("EDGECODER_CLUSTER_NETWORK_ID, EDGECODER_NODE_SLOTS: not used in a simulation; give ")
    assert ran.stderr.count("\n") == 1
    assert json.loads(ran.stdout)["sim_s"] == 1


def stop_late(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    """Let a run go on for a tenth, then send it a signal; what it printed until its end."""
    assert process.stderr is not None
    while not process.stderr.readline().startswith("10 %"):
        assert process.poll() is None
    process.send_signal(number)
    return process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_a_readable_partial_run(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        command("run", "office", sets=LONG), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _, stderr = stop_late(process, number)
    assert process.returncode == 130
    assert "stopped after" in stderr
    assert "Traceback" not in stderr
    (directory,) = (tmp_path / "runs").iterdir()
    run = Run(directory)
    assert run.summary["partial"] is True
    assert run.summary["reproduce"] is None
    assert 4_000 <= run.summary["sim_s"] < 40_000
    assert len(run.nodes) == 68
    report = (directory / "report.html").read_text(encoding="utf-8")
    assert "with the same digest" not in report
    assert "a run that is not stopped has another digest" in report


def test_a_run_that_is_stopped_before_it_begins_has_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    describe = World.describe

    def interrupted(world: World) -> object:
        signal.raise_signal(signal.SIGINT)
        return describe(world)

    monkeypatch.setattr(World, "describe", interrupted)
    assert app.run(["run", "office", *SHORT]) == 130
    said = capsys.readouterr()
    assert said.err.endswith("stopped after 0 simulated seconds; nothing had happened yet\n")
    assert "report" not in said.out + said.err
    (directory,) = Path("runs").iterdir()
    assert not (directory / "report.html").exists()
    assert app.run(["report", str(directory)]) == 0, "asked for, there is one"


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        (
            KeyboardInterrupt(),
            130,
            "stopped while writing the report; the run is in {0}; `edgecoder report {0}` writes it",
        ),
        (DiskFull("runs: full"), 3, "runs: full; the run is whole, and `edgecoder report {0}` writes the report"),
    ],
    ids=["ctrl-c", "disk"],
)
def test_a_report_that_fails_leaves_the_headlines_and_says_how_to_write_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failure: BaseException,
    code: int,
    line: str,
) -> None:
    def fail(_: Run) -> Path:
        raise failure

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgecoder_sim.commands.run.write_report", fail)
    assert app.run(["run", "office", *SHORT]) == code
    said = capsys.readouterr()
    (directory,) = Path("runs").iterdir()
    assert said.err.splitlines()[-1] == line.format(directory)
    assert f"run         {directory}" in said.out
    assert "report.html" not in said.out
