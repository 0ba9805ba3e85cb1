"""What a simulation needs beside its packages: the packaged scenarios, and a place to write runs.

`edgecoder doctor` collects these checks through the entry-point group `edgecoder.checks`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgecoder.health import Check, check_room, check_writable
from edgecoder_sim.scenario import packaged_scenarios, scenario_folder

SCOPE: Final = "sim"
RUNS: Final = Path("runs")
"""Where runs go unless `--out` says otherwise, from the working directory."""
FREE_BYTES_MIN: Final = 200_000_000
"""Below this a long run may not fit."""


def checks() -> list[Check]:
    """The checks of this part."""
    return [check_scenarios(), check_runs(RUNS), check_disk(RUNS)]


def check_scenarios() -> Check:
    """Whether the scenarios that come with the package are where `edgecoder run NAME` looks."""
    names = packaged_scenarios()
    detail = f"{', '.join(names) or 'none'} in {scenario_folder()}"
    return Check(SCOPE, "scenarios", bool(names), detail, "" if names else "pip install --force-reinstall edgecoder")


def check_runs(runs: Path) -> Check:
    """Whether a run directory can be made under `runs`."""
    return check_writable(SCOPE, "runs", runs, "run elsewhere, or use edgecoder run --out DIR")


def check_disk(runs: Path) -> Check:
    """Whether the disk that holds `runs` has room."""
    return check_room(SCOPE, runs, FREE_BYTES_MIN, "a long run", "free some space, or use edgecoder run --out DIR")
