"""What `edgecoder run` does with `--seeds` and `--shrink`: many schedules of faults, or the least of one that fails."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import typer
from rich.console import Console

from edgecoder.errors import ConfigError, SimulationError
from edgecoder_sim.faults.answers import Range, range_of
from edgecoder_sim.faults.draw import resolve
from edgecoder_sim.faults.explore import SERVED, Tally, explore
from edgecoder_sim.faults.shrink import shrink
from edgecoder_sim.rundir import write_text
from edgecoder_sim.scenario import resolved_yaml
from edgecoder_sim.scenario_model import Scenario

SEEDS_MAX: Final = 10_000_000
_RANGE: Final = re.compile(r"(\d{1,18})(?:\.\.(\d{1,18}))?")
_STEP: Final = 500
"""Schedules between two lines of progress."""
VIOLATIONS_SHOWN: Final = 50
"""Violations that are printed line by line."""


def parse_seeds(text: str) -> range:
    """`1..1000`, or one seed. Raises ConfigError."""
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"--seeds {text}", None, "these are no seeds", "write the first and the last, as in 1..1000")
    first = int(found[1])
    last = int(found[2] or found[1])
    if last < first:
        raise ConfigError(f"--seeds {text}", None, f"{last} comes before {first}", "write the smaller seed first")
    if last - first >= SEEDS_MAX:
        raise ConfigError(f"--seeds {text}", None, "that is too much for one sweep", f"take at most {SEEDS_MAX} seeds")
    return range(first, last + 1)


def jobs_of(jobs: int) -> int:
    """Processes to use; 0 is one a core."""
    return jobs or len(os.sched_getaffinity(0))


def sweep(scenario: Scenario, seeds: range, jobs: int, reproduce: Callable[[int], str], *, as_json: bool) -> None:
    """Run every seed and print what came out. Raises SimulationError where an invariant was violated."""
    jobs = min(jobs_of(jobs), len(seeds))
    console = Console(stderr=True, quiet=as_json)
    what = f"{counted(len(seeds), 'schedule')} of faults in {counted(jobs, 'process', 'processes')}"
    console.print(f"{scenario.name}: {what}", highlight=False)
    tally = Tally(jobs)
    for verdict in explore(scenario, seeds, reproduce, jobs):
        tally.add(verdict)
        if verdict.violation is not None and len(tally.violations) <= VIOLATIONS_SHOWN and not as_json:
            typer.echo(verdict.violation)
        if tally.schedules % _STEP == 0:
            done = f"{tally.schedules} of {len(seeds)}"
            console.print(f"{done}, {len(tally.violations)} violated", highlight=False)
    summary = tally.summary()
    if as_json:
        violations = [verdict.violation for verdict in tally.violations[:VIOLATIONS_SHOWN]]
        typer.echo(msgspec.json.encode({"scenario": scenario.name, **summary, "violations": violations}).decode())
    else:
        typer.echo("\n".join(_lines(tally, summary)))
    if tally.violations:
        count = len(tally.violations)
        of_all = counted(tally.schedules, "schedule")
        raise SimulationError(f"{count:,} of {of_all} violated an invariant; see the lines above")


def counted(count: int, one: str, many: str = "") -> str:
    """`1 fault`, `2,000 faults`."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def _lines(tally: Tally, summary: dict[str, object]) -> list[str]:
    speed = f"{summary['per_minute_per_core']:,} a minute and core"
    violated = counted(len(tally.violations), "schedule")
    return [
        f"{counted(tally.schedules, 'schedule')} with {counted(tally.faults, 'fault')}, {speed}",
        f"{counted(tally.tasks, 'task')} and {counted(tally.swaps, 'swap')}, {violated} with a violation",
        *_served(tally),
        "of what is rare, the sweep saw:",
        *(f"  {what}: {counted(count, 'time')}" for what, count in tally.reached.items()),
    ]


def _served(tally: Tally) -> list[str]:
    """How users were served, over the seeds."""
    shares, *latencies_s = (range_of(getattr(one, name) for one in tally.services) for name in SERVED)
    if shares is None:
        return []
    lines = [f"  answered of those asked: {_range(shares, 100)} %"]
    for name, latency_s in zip(("p50", "p99"), latencies_s, strict=True):
        lines += [f"  latency {name}: {_range(latency_s)} s"] if latency_s is not None else []
    return ["a seed, median (least to most):", *lines]


def _range(found: Range, factor: float = 1) -> str:
    return f"{found.median * factor:.2f} ({found.least * factor:.2f} to {found.most * factor:.2f})"


def check_faults(scenario: Scenario) -> None:
    """Raises ConfigError where a scenario has no fault that could be left out."""
    if not scenario.faults.plan and scenario.faults.random is None:
        problem = f"{scenario.name} has no faults that could be left out"
        raise ConfigError("--shrink", None, problem, "run it without, or have some drawn with --set faults=random")


def reduce(scenario: Scenario, out: Path, *, as_json: bool) -> None:
    """Print the least schedule that breaks the same invariant, and keep it as a scenario under `out`. Raises
    ConfigError where nothing is violated."""
    console = Console(stderr=True, quiet=as_json)
    scenario = resolve(scenario)
    faults = counted(len(scenario.faults.plan), "fault")
    console.print(f"{scenario.name}: {faults}, rng_seed {scenario.rng_seed}", highlight=False)
    shrunk = shrink(scenario, lambda runs, left: console.print(f"{runs} runs, {left} faults left", style="dim"))
    if shrunk is None:
        problem = f"nothing is violated with rng_seed {scenario.rng_seed}"
        raise ConfigError("--shrink", None, problem, "look for a seed that fails with --seeds 1..1000")
    path = out / f"{scenario.name}-{scenario.rng_seed}.shrunk.yaml"
    write_text(path, resolved_yaml(shrunk.scenario))
    plan = shrunk.scenario.faults.plan
    if as_json:
        told = {
            "checker": shrunk.verdict.checker,
            "faults_before": shrunk.before,
            "faults": msgspec.to_builtins(plan),
            "runs": shrunk.runs,
            "scenario": path.as_posix(),
        }
        typer.echo(msgspec.json.encode(told).decode())
        return
    typer.echo(f"{shrunk.verdict.violation}")
    typer.echo(f"{shrunk.before} faults came down to {len(plan)} in {shrunk.runs} runs:")
    for fault in plan:
        typer.echo(f"  - {msgspec.json.encode(fault).decode()}")
    typer.echo(f"run it again: edgecoder run {path.as_posix()}")
