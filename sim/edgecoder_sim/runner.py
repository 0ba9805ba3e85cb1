"""Runs a scenario to its end, or to where it is stopped, and leaves a readable run directory either way."""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from edgecoder.errors import InvariantViolated
from edgecoder_sim import rundir
from edgecoder_sim.checkers import make_checkers
from edgecoder_sim.checkers.endings import calm
from edgecoder_sim.faults.draw import resolve
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.scanning import Scanning
from edgecoder_sim.scenario import resolved_yaml
from edgecoder_sim.scenario_model import Scenario
from edgecoder_sim.traces import load_trace
from edgecoder_sim.watch import Checker
from edgecoder_sim.world import World

SLICE_WALL_S = 0.1
"""Wall time between two looks at the clock, about: how long Ctrl-C and the progress bar wait."""
GC_YOUNG = 50_000
"""Objects between two collections of the youngest generation: a run makes millions that live a moment."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended."""

    summary: dict[str, Any]
    """What `--json` prints; see `rundir`."""
    directory: Path | None
    interrupted: bool
    violation: InvariantViolated | None


Progress = Callable[[float, float], None]
"""Told the simulated seconds that are done and the wall seconds they took, some ten times a second."""


def run_scenario(
    scenario: Scenario,
    *,
    root: Path | None,
    reproduce: str,
    progress: Progress | None = None,
) -> Outcome:
    """Run `scenario` and write its run directory under `root` (None: nothing is written). `reproduce` is the command
    that does the same again; a violated invariant names it. Ctrl-C and SIGTERM end the run early. Raises DiskFull,
    another DriverError where a trace is not installed, and OSError where the directory cannot be made."""
    with _patient_interrupts() as is_interrupted:
        started_s = time.monotonic()
        if scenario.contacts is not None:  # before anything is left behind
            load_trace(scenario.contacts.trace)
        scenario = resolve(scenario)
        directory = None if root is None else rundir.create(root, scenario.name, resolved_yaml(scenario))
        world = World(scenario, _checkers(scenario, reproduce), reproduce)
        recorder = Recorder(
            directory,
            world.describe(),
            scenario.sample_interval_us,
            files=world.describe_files(),
            origin_bytes_per_s=scenario.cdn.egress_bytes_per_s,
            keeps_pieces=scenario.keeps_pieces,
        )
        world.start_users(recorder)
        world.schedule.told = recorder.fault
        if world.people.log is not None:
            world.people.log.on_contact = recorder.contact
        if isinstance(world.contacts, Scanning):
            world.contacts.tell_ranges(recorder.range_changed)
        world.kernel.every(scenario.sample_interval_us, scenario.sample_interval_us, _sample, (recorder, world))
        violation: InvariantViolated | None = None
        interrupted = False
        try:
            with rare_collections():
                interrupted = not _run(world, scenario.duration_us, started_s, progress, is_interrupted)
            if not interrupted:
                world.watch.finish()
        except InvariantViolated as error:
            violation = error
        finally:
            if world.people.log is not None:
                world.people.log.close()
            metrics = recorder.close(world.kernel.now)
        summary = {
            "scenario": scenario.name,
            "digest": world.watch.digest.hexdigest(),
            "rng_seed": scenario.rng_seed,
            "sim_s": world.kernel.now / 1e6,
            "wall_s": round(time.monotonic() - started_s, 3),
            "events": world.events,
            "nodes": len(world.nodes),
            "metrics": metrics,
            "invariants": {"checked": world.watch.checked, "violated": int(violation is not None)},
            "partial": interrupted or violation is not None,
            "reproduce": None if interrupted else reproduce,  # no command stops at the same instant
            "run_dir": None if directory is None else str(directory),
        }
        if directory is not None:
            rundir.finish(directory, summary, sys.argv)
    return Outcome(summary=summary, directory=directory, interrupted=interrupted, violation=violation)


def _checkers(scenario: Scenario, reproduce: str) -> list[Checker]:
    if not scenario.checkers:
        return []
    return make_checkers(scenario.rng_seed, reproduce, ends_well=calm(scenario))


def _run(
    world: World,
    duration_us: int,
    started_s: float,
    progress: Progress | None,
    is_interrupted: Callable[[], bool],
) -> bool:
    """Run in slices of about SLICE_WALL_S. False where an interrupt ended it early."""
    slice_us = duration_us
    while world.kernel.now < duration_us:
        if is_interrupted():
            return False
        before_s, before_us = time.monotonic(), world.kernel.now
        slice_us = 1_000_000 if before_us == 0 else slice_us
        world.kernel.run(min(duration_us, before_us + slice_us))
        took_s = max(1e-6, time.monotonic() - before_s)
        slice_us = max(world.kernel.tick_us, round(min(4.0, max(0.25, SLICE_WALL_S / took_s)) * slice_us))
        if progress is not None:
            progress(world.kernel.now / 1e6, time.monotonic() - started_s)
    return True


def _sample(of: tuple[Recorder, World], _: object) -> None:
    recorder, world = of
    recorder.sample(world.kernel.now)
    if isinstance(world.contacts, Scanning):
        for medium, count in world.open_links().items():
            recorder.links(world.kernel.now, medium, count)
    for node, x_m, y_m in world.people.sampled():
        recorder.position(world.kernel.now, node, x_m, y_m)


@contextmanager
def _patient_interrupts() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C or SIGTERM end the slice in hand; a second one raises at once."""
    seen: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: nobody sends signals here
        yield lambda: False
        return
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Keep the cyclic collector off the world, which lives as long as the run."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
