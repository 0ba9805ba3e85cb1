"""A run directory: its name, the files that make a run repeatable, and the summary.

`runs/<time>-<name>-<hash>/` holds `scenario.resolved.yaml` from the start and `summary.json` and `provenance.json` from
the end. The tables are left to `recorder`, reading them to `results`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import edgecoder
from edgecoder import health
from edgecoder.errors import ConfigError
from edgecoder_sim.recording.files import NO_ROOM, disk_full

RUNS: Final = Path("runs")
"""Where runs go unless `--out` says otherwise, from the working directory."""
SCENARIO: Final = "scenario.resolved.yaml"
SUMMARY: Final = "summary.json"
PROVENANCE: Final = "provenance.json"
REPORT: Final = "report.html"
HASH_DIGITS: Final = 8
"""Hex digits of the scenario's hash in a directory's name."""


def create(root: Path, scenario_name: str, resolved_yaml: str) -> Path:
    """Make a new run directory under `root` and put the scenario into it. The hash in its name covers the resolved
    scenario with its seed, so runs of the same world share it. Raises DiskFull, and OSError where it cannot be made."""
    at = dt.datetime.now(dt.UTC).astimezone().strftime("%Y%m%d-%H%M%S")
    digest = hashlib.blake2b(resolved_yaml.encode(), digest_size=HASH_DIGITS // 2).hexdigest()
    name = f"{at}-{scenario_name}-{digest}"
    number = 1
    while True:
        directory = root / (name if number == 1 else f"{name}-{number}")
        try:
            directory.mkdir(parents=True)
            break
        except FileExistsError:
            if not directory.is_dir():
                raise
            number += 1
    write_text(directory / SCENARIO, resolved_yaml)
    return directory


def finish(directory: Path, summary: Mapping[str, Any], argv: Sequence[str]) -> None:
    """Write `summary.json` and `provenance.json` at the end of a run. `summary` is what `--json` prints: at least
    `digest`, `rng_seed`, `sim_s` and `wall_s`. Raises DiskFull."""
    write_json(directory / SUMMARY, summary)
    write_provenance(
        directory,
        argv=argv,
        rng_seed=summary["rng_seed"],
        digest=summary["digest"],
        sim_s=summary["sim_s"],
        wall_s=summary["wall_s"],
    )


def write_provenance(
    directory: Path, *, argv: Sequence[str], rng_seed: int, digest: str, sim_s: float, wall_s: float
) -> None:
    """Write down where a run came from. `sim_s` and `wall_s` are simulated and real seconds; `digest` is the trace's.
    Raises DiskFull."""
    commit, is_changed = git_commit()
    provenance = {
        "version": edgecoder.__version__,
        "commit": commit,
        "commit_is_changed": is_changed,
        "argv": list(argv),
        "rng_seed": rng_seed,
        "digest": digest,
        "sim_s": sim_s,
        "wall_s": wall_s,
        "written_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "packages": packages(),
    }
    write_json(directory / PROVENANCE, provenance)


def newest(root: Path = RUNS) -> Path:
    """The run under `root` that began last, of those that have ended: one that goes on, or was killed, has no summary.
    Raises ConfigError where there is none."""
    starts = sorted(root.glob(f"*/{SCENARIO}"), key=lambda path: (path.stat().st_mtime_ns, path))
    ended = [path.parent for path in starts if (path.parent / SUMMARY).is_file()]
    if not ended:
        problem = "no run here has ended" if starts else "there is no run here"
        raise ConfigError(str(root), None, problem, "run a scenario first, or give the run's directory")
    return ended[-1]


def find(run: str | None) -> Path:
    """The run directory that a user means: a path, or `newest` under `runs` for `last` and for nothing. Raises
    ConfigError."""
    if run is None or (run == "last" and not Path(run).exists()):
        return newest()
    directory = Path(run)
    if not directory.exists():
        raise ConfigError(
            run, None, "there is no such run", "give a run's directory, or `last` for the newest in ./runs"
        )
    if not (directory / SCENARIO).is_file():
        problem = "it is a file" if directory.is_file() else f"this is no run directory: it has no {SCENARIO}"
        raise ConfigError(run, None, problem, "give a directory that `edgecoder run` made")
    return directory


def git_commit() -> tuple[str | None, bool]:
    """The commit of the checkout that this code runs from, and whether files differ from it; None where it runs from
    an installed package, or without git."""
    root = Path(edgecoder.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None, False
    commit = _git(root, "rev-parse", "HEAD")
    return commit, commit is not None and bool(_git(root, "status", "--porcelain"))


def packages() -> dict[str, str]:
    """The versions of what the base and the extra `sim` need, by name; the missing ones are left out."""
    found: dict[str, str] = {}
    try:
        needed = [each.package for each in health.requirements() if each.scope in {health.BASE, "sim"}]
    except PackageNotFoundError:  # the code runs from a path and was never installed
        return found
    for name in sorted(set(needed)):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all. Raises DiskFull, and ValueError for what JSON cannot say (NaN)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: readers see the old one or the new one. Raises DiskFull."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        if error.errno not in NO_ROOM:
            raise
        written = sum(each.stat().st_size for each in path.parent.iterdir() if each.is_file())
        raise disk_full(path.parent, written, len(text.encode())) from error


def _git(root: Path, *arguments: str) -> str | None:
    try:
        ran = subprocess.run(  # noqa: S603 - no part of the command comes from outside
            ["git", "-C", str(root), *arguments],  # noqa: S607 - whichever git the user has
            check=False,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None
