"""Run a scenario; write a run directory with tables and a report.

Shows progress on a terminal, plain lines elsewhere, and what came out in the end; the run itself is `runner`'s.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Annotated, Final, Self

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from edgecoder.errors import ConfigError, DiskFull, DriverError
from edgecoder.settings import ENV_PREFIX, SECTIONS
from edgecoder_sim.commands.explore import check_faults, parse_seeds, reduce, sweep
from edgecoder_sim.distribution_data import files_table
from edgecoder_sim.headlines import outcome_lines, speed
from edgecoder_sim.report import write_report
from edgecoder_sim.results import Run
from edgecoder_sim.rundir import REPORT
from edgecoder_sim.runner import Outcome, run_scenario
from edgecoder_sim.scenario import load_scenario, packaged_scenarios
from edgecoder_sim.scenario_model import Scenario

PLAIN_STEP_PCT = 10
"""Without a terminal, one line for so much progress."""
_NOT_WRITABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_IDLE_IN_RUN: Final = {"jobs": "one run is one process; leave it out"}
_IDLE_IN_SHRINK: Final = {**_IDLE_IN_RUN, "report": "run the reduced scenario for a report; leave it out"}
_IDLE_IN_SWEEP: Final = {
    "rng_seed": "--seeds names the seeds; leave one of the two out",
    "out": "a sweep writes nothing; leave it out",
    "report": "a sweep writes nothing; leave it out",
    "shrink": "reduce one seed that fails: --rng-seed N --shrink",
}
"""Options that a sweep, a reduction or a single run does not use, and what to do about it."""
_NODE_VARIABLES: Final = tuple(f"{ENV_PREFIX}{section.upper()}_" for section in SECTIONS)


def command(
    context: typer.Context,
    scenario: Annotated[
        str,
        typer.Argument(
            metavar="SCENARIO", help="A YAML file, or the name of a packaged one.", autocompletion=packaged_scenarios
        ),
    ],
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value, such as phones.count=50.")
    ] = None,
    rng_seed: Annotated[int | None, typer.Option("--rng-seed", metavar="N", help="Draw other random numbers.")] = None,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where run directories are made.")] = "runs",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, and nothing else.")] = False,
    report: Annotated[bool, typer.Option(help="Write report.html.")] = True,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds", metavar="A..B", help="Run each of these seeds, write nothing, and say which one fails."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=0, help="Processes for --seeds; 0: one a core.")] = 0,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Reduce the faults of a failing run to what it takes.")
    ] = False,
) -> None:
    """Simulate what a scenario describes: devices swap models, learn of each other, and route tasks."""
    _refuse_idle(context, is_sweep=seeds is not None, is_shrink=shrink)
    loaded = load_scenario(scenario, sets or (), rng_seed)
    _warn_of_environment()
    if seeds is not None:
        span = parse_seeds(seeds)
        sweep(loaded, span, jobs, lambda seed: _reproduce(scenario, sets or [], seed), as_json=as_json)
        return
    if shrink:
        check_faults(loaded)
        reduce(loaded, _make_root(out), as_json=as_json)
        return
    console = Console(stderr=True, quiet=as_json)
    try:
        root = _make_root(out)
        with _Shown(console, loaded) as shown:
            reproduce = _reproduce(scenario, sets or [], loaded.rng_seed)
            outcome = run_scenario(loaded, root=root, reproduce=reproduce, progress=shown.update)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        hint = "give --out a directory that you can write to"
        raise DriverError(f"--out {out}: {error.filename or out}: {error.strerror}; {hint}") from None
    read = None if outcome.directory is None else Run(outcome.directory)
    failure = _report(console, read) if report and outcome.summary["sim_s"] and read is not None else None
    if as_json:
        typer.echo(msgspec.json.encode(outcome.summary).decode())
    else:
        has_report = read is not None and (read.path / REPORT).is_file()
        files = files_table(read) if read is not None and has_report else []
        typer.echo("\n".join(outcome_lines(outcome.summary, has_report=has_report, files=files)))
    _end(outcome, failure)


def _refuse_idle(context: typer.Context, *, is_sweep: bool, is_shrink: bool) -> None:
    """Raise ConfigError for an option that would do nothing beside the others."""
    idle = _IDLE_IN_SWEEP if is_sweep else _IDLE_IN_SHRINK if is_shrink else _IDLE_IN_RUN
    beside = " beside --seeds" if is_sweep else " beside --shrink" if is_shrink else " without --seeds"
    for name, hint in idle.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ConfigError(f"--{name.replace('_', '-')}", None, f"it does nothing{beside}", hint)


def _make_root(out: str) -> Path:
    """The directory that `--out` names, made if it is not there. Raises ConfigError, and OSError where it must not be
    made."""
    if not out:
        raise ConfigError("--out ''", None, "there is no name", "name a directory, such as `.` for this one")
    root = Path(out)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"--out {out}", None, "there is a file in its place", "name a directory") from None
    except FileNotFoundError:
        raise ConfigError(f"--out {out}", None, "no directory can be made there", "name another place") from None
    return root


def _warn_of_environment() -> None:
    """Say that variables which configure a node of this machine leave simulated ones alone."""
    names = sorted(name for name in os.environ if name.startswith(_NODE_VARIABLES))
    if names:
        hint = "give simulated nodes theirs with --set config.phones.…, config.agents.… or config.cluster.…"
        typer.echo(f"{', '.join(names)}: not used in a simulation; {hint}", err=True)


def _report(console: Console, run: Run) -> BaseException | None:
    """Write the report of a run; what kept it from being written, if anything did."""
    console.print("writing the report", style="dim")
    try:
        write_report(run)
    except (KeyboardInterrupt, DiskFull) as failure:
        return failure
    return None


def _reproduce(scenario: str, sets: list[str], rng_seed: int) -> str:
    options = [part for one in sets for part in ("--set", one)]
    return shlex.join(["edgecoder", "run", scenario, *options, "--rng-seed", str(rng_seed)])


def _end(outcome: Outcome, failure: BaseException | None) -> None:
    """Raise what went wrong, the worst of it, or say where a run is that was stopped."""
    if outcome.violation is not None:
        if outcome.violation.__cause__ is not None:  # a node raised: where is what one wants to see
            typer.echo("".join(traceback.format_exception(outcome.violation.__cause__)), err=True)
        raise outcome.violation
    sim_s, directory = outcome.summary["sim_s"], outcome.directory
    later = f"edgecoder report {directory}"
    if isinstance(failure, DiskFull):
        raise DiskFull(f"{failure}; the run is whole, and `{later}` writes the report")
    if outcome.interrupted:
        so_far = "; nothing had happened yet" if not sim_s else f"; what there is so far is in {directory}"
        after = f"; `{later}` writes its report" if failure is not None else ""
        typer.echo(f"stopped after {sim_s:.0f} simulated seconds{so_far}{after}", err=True)
    elif failure is not None:
        typer.echo(f"stopped while writing the report; the run is in {directory}; `{later}` writes it", err=True)
    if outcome.interrupted or failure is not None:
        raise typer.Exit(130)


class _Shown:
    """Progress as a bar on a terminal, as a line each tenth elsewhere."""

    def __init__(self, console: Console, scenario: Scenario) -> None:
        self._console = console
        self._total_s = scenario.duration_s
        self._said_pct = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal or console.quiet,
        )
        self._task = self._bar.add_task(scenario.name, total=self._total_s, speed="")
        if not console.is_terminal:
            world = f"{scenario.node_count} nodes, {scenario.duration_s:g} s, rng_seed {scenario.rng_seed}"
            console.print(f"{scenario.name}: {world}", highlight=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        sys.stderr.flush()

    def update(self, sim_s: float, wall_s: float) -> None:
        """So much is done."""
        shown = f"{speed(sim_s / wall_s)} × real time" if wall_s > 0 else ""
        self._bar.update(self._task, completed=sim_s, speed=shown)
        done_pct = int(100 * sim_s / self._total_s)
        if not self._console.is_terminal and done_pct >= self._said_pct + PLAIN_STEP_PCT:
            self._said_pct = done_pct - done_pct % PLAIN_STEP_PCT
            left_s = wall_s * (self._total_s / sim_s - 1)
            self._console.print(f"{self._said_pct} %, {left_s:.0f} s to go", highlight=False)
