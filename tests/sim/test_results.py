"""Run directories and reading them: documented columns, provenance, and located errors for what is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import edgecoder
from edgecoder.errors import ConfigError, DiskFull
from edgecoder_sim import rundir
from edgecoder_sim.results import Run
from edgecoder_sim.tables import TABLES
from tests.sim.made_runs import AGENT, HUB, PHONE, made_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that was made by hand."""
    return made_run(tmp_path)


@pytest.mark.parametrize("name", TABLES)
def test_the_columns_are_those_that_are_documented(run: Run, name: str) -> None:
    table = TABLES[name]
    stored = pq.read_schema(run.path / table.file_name)
    assert [(field.name, field.type, field.nullable) for field in stored] == [
        (column.name, column.type, column.nullable) for column in table.columns
    ]
    assert {field.name: field.metadata[b"help"].decode() for field in stored} == {
        column.name: column.help for column in table.columns
    }
    frame = getattr(run, name)
    assert list(frame.columns) == [column.name for column in table.columns]
    assert frame is getattr(run, name)  # read once


def test_every_column_has_a_line_of_help() -> None:
    assert [column.name for table in TABLES.values() for column in table.columns if not column.help.endswith(".")] == []


def test_every_duration_and_time_ends_in_its_unit() -> None:
    floats = {column.name for table in TABLES.values() for column in table.columns if column.type == pa.float64()} - {
        "min_param_size",
        "cost",
        "value",
    }
    assert {name.rpartition("_")[2] for name in floats} == {"s", "m"}


def test_what_may_be_empty_keeps_its_type(run: Run) -> None:
    tasks = run.tasks.set_index("kind", append=True)
    assert list(run.tasks["served_by"].astype(object)) == [PHONE, AGENT, pd.NA]
    assert str(run.tasks["served_by"].dtype) == "Int32"
    assert str(run.gossip["loading"].dtype) == "boolean"
    assert str(run.gossip["version"].dtype) == "Int64"
    assert str(run.tasks["origin"].dtype) == "int32"
    assert tasks["latency_s"].isna().sum() == 0
    assert run.nodes["home"].isna().sum() == 2
    assert run.nodes.loc[PHONE, "home"] == HUB


def test_summary_provenance_and_scenario(run: Run) -> None:
    assert run.summary["metrics"]["tasks_submitted"] == 3
    assert run.scenario.name == "office"
    assert run.scenario.duration_s == 60
    provenance = run.provenance
    assert provenance["version"] == edgecoder.__version__
    assert provenance["argv"] == ["edgecoder", "run", "office"]
    assert {"pyarrow", "pandas", "msgspec", "simpy"} <= provenance["packages"].keys()
    for key in ("digest", "rng_seed", "sim_s", "wall_s"):
        assert provenance[key] == run.summary[key]


def test_the_commit_is_that_of_this_checkout() -> None:
    commit, is_changed = rundir.git_commit()
    root = Path(edgecoder.__file__).parents[1]
    if (root / ".git").exists():
        said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
        assert commit == (said.stdout.strip() if said.returncode == 0 else None)
    else:
        assert (commit, is_changed) == (None, False)


# -- directories -------------------------------------------------------------------------------------------------------


def test_directories_are_unique_and_named_after_their_scenario(tmp_path: Path) -> None:
    made = [rundir.create(tmp_path / "runs", "office", "a: 1\n") for _ in range(3)]
    other = rundir.create(tmp_path / "runs", "office", "a: 2\n")
    assert len({*made, other}) == 4
    hashes = [path.name.split("-")[3] for path in [*made, other]]
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]
    assert len(hashes[0]) == rundir.HASH_DIGITS
    assert (made[0] / rundir.SCENARIO).read_text(encoding="utf-8") == "a: 1\n"


def test_a_root_that_is_a_file_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="runs"):
        rundir.create(tmp_path / "runs", "office", "a: 1\n")


def test_the_newest_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="runs: there is no run here; run a scenario first"):
        rundir.find("last")
    first, second = (rundir.create(Path("runs"), name, "a: 1\n") for name in ("zebra", "ant"))
    with pytest.raises(ConfigError, match="runs: no run here has ended; run a scenario first"):
        rundir.find("last")
    for directory in (first, second):
        rundir.write_json(directory / rundir.SUMMARY, {})
    rundir.create(Path("runs"), "killed", "a: 1\n")  # newer, but it never ended
    os.utime(first / rundir.SCENARIO, ns=(1, 1))
    os.utime(second / rundir.SCENARIO, ns=(2, 2))
    assert rundir.find("last") == rundir.find(None) == Path("runs") / second.name
    os.utime(first / rundir.SCENARIO, ns=(3, 3))
    assert rundir.newest() == Path("runs") / first.name
    assert rundir.find(str(second)) == second


def test_files_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    rundir.write_json(path, {"a": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        rundir.write_json(path, {"a": float("nan")})

    def full(self: Path, *_: object, **__: object) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DiskFull, match=f"{tmp_path}: the disk is full: 13 B of this run are written, another 14 B do"):
        rundir.write_json(path, {"a": 23})
    assert [each.name for each in tmp_path.iterdir()] == ["summary.json"]
    assert json.loads(path.read_bytes()) == {"a": 1}


# -- what can be wrong -------------------------------------------------------------------------------------------------


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for path, problem in [
        (tmp_path / "nowhere", "there is no such run; give a run's directory, or `last`"),
        (tmp_path, "this is no run directory: it has no scenario.resolved.yaml; "),
        (tmp_path / "file", "it is a file; give a directory"),
    ]:
        with pytest.raises(ConfigError) as caught:
            Run(path)
        assert str(caught.value).startswith(f"{path}: {problem}")
        assert caught.value.exit_code == 2


def test_a_missing_table(run: Run) -> None:
    (run.path / "swaps.parquet").unlink()
    with pytest.raises(ConfigError, match=r"swaps\.parquet: the table is missing; run the scenario again"):
        _ = run.swaps


@pytest.mark.parametrize("kept_bytes", [0, 4, 1000])
def test_a_torn_table(run: Run, kept_bytes: int) -> None:
    path = run.path / "swaps.parquet"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    reason = "magic bytes not found in footer" if kept_bytes > 8 else f"file size is {kept_bytes} bytes"
    with pytest.raises(
        ConfigError, match=rf"swaps\.parquet: the table is torn \(.*{reason}.*\); the run was killed or its disk was"
    ):
        _ = run.swaps
    assert len(run.tasks) == 3


def test_a_table_of_another_version(run: Run) -> None:
    pq.write_table(pa.table({"node": [1]}), run.path / "drops.parquet")
    with pytest.raises(ConfigError, match=r"its columns are node int64, not at_s double, node int32, what string"):
        _ = run.drops


@pytest.mark.parametrize(
    ("text", "problem"),
    [(None, "the file is missing; the run was killed"), ("{", "this is no JSON ("), ("[]", "this is no JSON object")],
)
def test_a_broken_summary(run: Run, text: str | None, problem: str) -> None:
    path = run.path / "summary.json"
    path.unlink()
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        _ = run.summary
    assert str(caught.value).startswith(f"{path}: {problem}")


def test_a_run_that_was_killed_is_told_apart(tmp_path: Path) -> None:
    """A process that dies without a word leaves torn tables, not wrong ones."""
    code = f"""
        import os
        from pathlib import Path
        from tests.sim import made_runs
        root = Path({str(tmp_path)!r})
        (root / "scenario.resolved.yaml").write_text("name: x")
        made = made_runs.recorder(root)
        made_runs.tell_all(made)
        os._exit(9)
    """
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(map(str.strip, code.splitlines()))], check=False, cwd=Path.cwd()
    )
    assert ran.returncode == 9
    run = Run(tmp_path)
    for name in TABLES:
        with pytest.raises(ConfigError, match="torn"):
            run.table(name)
    with pytest.raises(ConfigError, match="the run was killed"):
        _ = run.summary
