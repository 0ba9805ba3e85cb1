"""The explorer: many seeds of one scenario, each its own schedule of faults, with the checkers as the judge.

It says which seeds broke an invariant, and how often what is rare was reached, so that a clean sweep means something.
Nothing is written to disk: a seed that fails is run again by the line that it prints.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import msgspec

from edgecoder.core.ids import TaskId
from edgecoder.errors import InvariantViolated
from edgecoder.trace import (
    EpochRaised,
    HomeChanged,
    LifeEnded,
    NodeReady,
    OnlineChanged,
    ReceiptSynced,
    Record,
    SwapPhase,
    TaskEnded,
    TaskRouted,
    TaskStarted,
    TaskSubmitted,
)
from edgecoder_sim.checkers import make_checkers
from edgecoder_sim.checkers.endings import calm
from edgecoder_sim.faults.answers import Answers, Service, range_of
from edgecoder_sim.faults.draw import resolve
from edgecoder_sim.faults.model import Fault
from edgecoder_sim.host import Disk
from edgecoder_sim.runner import GC_YOUNG
from edgecoder_sim.scenario_model import Scenario
from edgecoder_sim.world import World

BATCH: Final = 25
"""Seeds that a process takes at a time: some seconds of work."""
COVERAGE: Final = (
    "roll-back",
    "failed roll-back",
    "coordinator failover",
    "offline and back",
    "restart from an old disk",
    "receipt brought",
    "re-route mid-task",
    "epoch raised",
    "restart",
)
"""What a sweep has to reach, and is counted."""
SERVED: Final = ("answered_share", "latency_p50_s", "latency_p99_s")
"""Figures of `Service` that a sweep gives as a range over its seeds."""
Reproduce = Callable[[int], str]
"""The command that runs one seed."""


class Verdict(msgspec.Struct, frozen=True):
    """How one seed ended."""

    rng_seed: int
    faults: int
    events: int
    checked: int
    tasks: int
    swaps: int
    reached: dict[str, int]
    violation: str | None
    """The one line that says what was violated, and how to see it again."""
    checker: str | None = None
    """Who complained."""
    service: Service | None = None
    """How its users were served, to the end or to the violation."""


class Coverage:
    """A `watch.TraceSink` that counts how often what is rare happened."""

    def __init__(self, plan: Sequence[Fault]) -> None:
        self.reached: Counter[str] = Counter()
        self.answers = Answers()
        self.tasks = self.swaps = 0
        self._old = {fault.name: fault.nodes for fault in plan if fault.disk is Disk.OLD_COPY}
        self._by_name: dict[str, int] = {}
        self._down: set[int] = set()
        self._from_old: set[int] = set()
        self._phase: dict[int, str] = {}
        self._home: dict[int, bytes] = {}
        self._offline: set[int] = set()
        self._origin: dict[TaskId, int] = {}
        self._started: set[TaskId] = set()

    def name(self, names: Sequence[str]) -> None:
        """The names of the nodes, in the order of their index."""
        self._by_name = {name: index for index, name in enumerate(names)}

    def fault(self, _: int, name: str, is_on: bool) -> None:
        """A fault begins or ends: those that are down and come back with an old disk are noted."""
        if not is_on and name in self._old:
            self._from_old |= {self._by_name[node] for node in self._old[name]} & self._down

    def record(self, at_us: int, node: int, record: Record) -> None:
        """See `TraceSink`."""
        self.answers.record(at_us, record)
        count = _COUNT.get(type(record))
        if count is not None:
            count(self, node, record)

    def message(self, type_name: str, medium: str, size_bytes: int) -> None:
        """See `TraceSink`."""

    def command(self, command: int, kind: str) -> None:
        """See `TraceSink`."""

    def _life_ended(self, node: int, _: LifeEnded) -> None:
        self._down.add(node)
        self._home.pop(node, None)
        self._offline.discard(node)
        self._phase.pop(node, None)

    def _node_ready(self, node: int, _: NodeReady) -> None:
        self.reached["restart"] += node in self._down
        self.reached["restart from an old disk"] += node in self._from_old
        self._down.discard(node)
        self._from_old.discard(node)

    def _phase_entered(self, node: int, record: SwapPhase) -> None:
        before = self._phase.get(node)
        self._phase[node] = record.phase
        self.swaps += record.phase == "announcing"
        self.reached["roll-back"] += record.phase == "rollingBack"
        self.reached["failed roll-back"] += record.phase == "failed" and before == "rollingBack"

    def _home_changed(self, node: int, record: HomeChanged) -> None:
        before = self._home.get(node)
        self._home[node] = record.coordinator
        self.reached["coordinator failover"] += before is not None

    def _online_changed(self, node: int, record: OnlineChanged) -> None:
        if not record.online:
            self._offline.add(node)
        elif node in self._offline:
            self._offline.discard(node)
            self.reached["offline and back"] += 1

    def _receipt_synced(self, _: int, record: ReceiptSynced) -> None:
        self.reached["receipt brought"] += not record.refused

    def _submitted(self, node: int, record: TaskSubmitted) -> None:
        self.tasks += 1
        self._origin[record.task_id] = node

    def _task_started(self, _: int, record: TaskStarted) -> None:
        self._started.add(record.task_id)

    def _task_routed(self, node: int, record: TaskRouted) -> None:
        is_again = record.task_id in self._started and self._origin.get(record.task_id) == node
        self.reached["re-route mid-task"] += is_again and record.to is not None

    def _task_ended(self, _: int, record: TaskEnded) -> None:
        self._started.discard(record.task_id)

    def _epoch_raised(self, _: int, __: EpochRaised) -> None:
        self.reached["epoch raised"] += 1


_COUNT: Final[dict[type[Record], Callable[..., None]]] = {
    LifeEnded: Coverage._life_ended,
    NodeReady: Coverage._node_ready,
    SwapPhase: Coverage._phase_entered,
    HomeChanged: Coverage._home_changed,
    OnlineChanged: Coverage._online_changed,
    ReceiptSynced: Coverage._receipt_synced,
    TaskSubmitted: Coverage._submitted,
    TaskStarted: Coverage._task_started,
    TaskRouted: Coverage._task_routed,
    TaskEnded: Coverage._task_ended,
    EpochRaised: Coverage._epoch_raised,
}


def run_seed(scenario: Scenario, reproduce: str) -> Verdict:
    """Run one schedule to its end, or to the first violated invariant."""
    scenario = resolve(scenario)
    plan = scenario.faults.plan
    checkers = make_checkers(scenario.rng_seed, reproduce, ends_well=calm(scenario))
    world = World(scenario, checkers, reproduce)
    coverage = Coverage(plan)
    coverage.name([sim.name for sim in world.nodes])
    world.start_users(coverage)
    world.schedule.told = coverage.fault
    violation: InvariantViolated | None = None
    try:
        world.kernel.run(scenario.duration_us)
        world.watch.finish()
    except InvariantViolated as error:
        violation = error
    except Exception as error:  # a mistake of the simulator itself
        error.add_note(f"this happened with rng_seed {scenario.rng_seed}; reproduce: {reproduce}")
        raise
    return Verdict(
        scenario.rng_seed,
        len(plan),
        world.events,
        world.watch.checked,
        coverage.tasks,
        coverage.swaps,
        dict(coverage.reached),
        None if violation is None else str(violation),
        None if violation is None else violation.checker,
        coverage.answers.service(),
    )


def explore(scenario: Scenario, seeds: Sequence[int], reproduce: Reproduce, jobs: int = 1) -> Iterator[Verdict]:
    """Run every seed, in `jobs` processes; verdicts come in the order of the seeds."""
    batches = [seeds[first : first + BATCH] for first in range(0, len(seeds), BATCH)]
    work = [(scenario, [(seed, reproduce(seed)) for seed in batch]) for batch in batches]
    if jobs == 1:
        for each in work:
            yield from _run_batch(each)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for verdicts in pool.map(_run_batch, work):
            yield from verdicts


def _run_batch(work: tuple[Scenario, list[tuple[int, str]]]) -> list[Verdict]:
    scenario, seeds = work
    gc.set_threshold(GC_YOUNG, 20, 50)
    return [run_seed(msgspec.structs.replace(scenario, rng_seed=seed), line) for seed, line in seeds]


class Tally:
    """What a sweep has come to so far."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._started_s = time.monotonic()
        self.schedules = self.faults = self.events = self.tasks = self.swaps = 0
        self.reached: Counter[str] = Counter(dict.fromkeys(COVERAGE, 0))
        self.violations: list[Verdict] = []
        self.services: list[Service] = []
        """Of each seed."""

    def add(self, verdict: Verdict) -> None:
        """One more seed."""
        self.schedules += 1
        self.faults += verdict.faults
        self.events += verdict.events
        self.tasks += verdict.tasks
        self.swaps += verdict.swaps
        self.reached.update(verdict.reached)
        if verdict.service is not None:
            self.services.append(verdict.service)
        if verdict.violation is not None:
            self.violations.append(verdict)

    def summary(self) -> dict[str, object]:
        """The figures."""
        wall_s = time.monotonic() - self._started_s
        return {
            "schedules": self.schedules,
            "violated": len(self.violations),
            "faults": self.faults,
            "tasks": self.tasks,
            "swaps": self.swaps,
            "events": self.events,
            **{name: range_of(getattr(one, name) for one in self.services) for name in SERVED},
            "wall_s": round(wall_s, 1),
            "per_minute_per_core": round(60 * self.schedules / wall_s / self._jobs, 1) if wall_s else 0.0,
            "reached": dict(self.reached),
        }
