"""The explorer at work: random fault schedules of eight nodes, every checker on, none to be violated.

Runs `scenarios/random_faults.yaml` for seeds 1 to `--schedules` (20,000; `--quick`: 100) and prints one JSON line: how
many schedules, how many a minute and core, how many violated an invariant or left a task or swap without a verdict, and
how often each rare path was reached. Goals: none violated; each of the first six reached 50 times in 20,000.

The rate is of wall time on the processes that ran (`--jobs`, 0: one a core); a loaded machine lowers it.
"""

from __future__ import annotations

import argparse
import json
import sys

from edgecoder_sim.commands.explore import jobs_of
from edgecoder_sim.faults.explore import COVERAGE, Tally, explore
from edgecoder_sim.scenario import load_scenario

SCHEDULES = 20_000
QUICK_SCHEDULES = 100
REACHED_MIN = 50
GOALS = COVERAGE[:6]


def main() -> None:
    """Run the sweep and print its line."""
    parser = argparse.ArgumentParser(description="Random fault schedules: how many a minute, none violated.")
    parser.add_argument("--schedules", type=int, default=SCHEDULES, help="how many seeds, from 1 on")
    parser.add_argument("--jobs", type=int, default=0, help="processes; 0: one a core")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SCHEDULES} schedules")
    options = parser.parse_args()
    count = QUICK_SCHEDULES if options.quick else options.schedules
    jobs = jobs_of(options.jobs)
    tally = Tally(jobs)
    for verdict in explore(load_scenario("random_faults"), range(1, count + 1), line, jobs):
        tally.add(verdict)
        if verdict.violation is not None:
            print(verdict.violation, file=sys.stderr)
    least = min(tally.reached[what] for what in GOALS)
    needed = REACHED_MIN * count / SCHEDULES
    metrics = {name: value for name, value in tally.summary().items() if isinstance(value, int | float)}
    metrics |= {what.replace(" ", "_").replace("-", "_"): tally.reached[what] for what in COVERAGE}
    metrics["least_reached_ratio"] = least / needed
    conditions = {"scenario": "random_faults", "jobs": jobs, "quick": options.quick}
    print(json.dumps({"benchmark": "fault_schedules", "metrics": metrics, "conditions": conditions}))
    if tally.violations:
        raise SystemExit(1)


def line(seed: int) -> str:
    """The command that runs one seed."""
    return f"edgecoder run random_faults --rng-seed {seed}"


if __name__ == "__main__":
    main()
