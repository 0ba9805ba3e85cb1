"""Does a mesh stay as it is while it is used, cut, and killed? Coordinators and devices, each a process with its own
store and real llama.cpp, are linked over sockets and asked for tasks, swaps, pulls and removals at random nodes.

Meanwhile one fault follows the other: `kill -9` of agents, coordinators and engines, coordinators and agents that stop
without a word, links that are cut or swallow everything, an origin that is away. Then

- `unanswered`, `broken`, `not_one_end`: requests that did not end in exactly one answer though their process lived,
- `not_healed`: faults after which, for three minutes, an agent had no home that answers, or not the acknowledged model,
- `rehome_after_kill_s_max`, `rehome_after_silence_s_max`: until all agents of a dead coordinator have another home,
- `agent_mib_per_h`, `coordinator_mib_per_h`: private memory that those gain that are never killed, after a warm-up,
  with the 95 % interval; `agent_files`, `agent_tasks` and so on: open files and tasks of the loop that they have more
  at the end, when nothing is asked, than before anything was,
- `temporary_files`, `orphans`: files that nobody knows of then.

Prints one JSON line. Goal: 0 of all but the times, which may be two heartbeats, and what the memory gains. Where a
count of `COUNTS` is not 0 it says so and exits with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import structlog

from tests.drivers.soak_faults import Faults
from tests.drivers.soak_gauges import Gauges, Left, Sample, left_by, mean_slope
from tests.drivers.soak_load import Load
from tests.drivers.soak_rig import Process, meshed

SETTINGS = (
    "node.device_type=laptop",
    "cluster.cdn_kbit_per_s=6000",
    "node.engine_crashes_max=100",
)
"""A laptop is on the mains. What one connection of the origin gives is known. Engines are killed on purpose."""

COUNTS = (
    *("unanswered", "broken", "not_one_end", "not_healed", "wrong_model", "lost_models"),
    *("agent_files", "agent_tasks", "coordinator_files", "coordinator_tasks"),
    *("temporary_files", "orphans", "engines_left"),
)
"""What is 0 where all is well, however fast the machine is. Pools may have more threads than before."""


class Plan(NamedTuple):
    """How much of everything."""

    seconds: float
    agents: int
    coordinators: int
    heartbeat_s: float
    requests_per_s: float
    fault_pause_s: float
    warm_up_s: float
    quiet_s: float
    spared: int
    rng_seed: int


def usual(minutes: float, agents: int, rng_seed: int) -> Plan:
    """The periods of the protocol as they are."""
    warm_up_s = min(300.0, minutes * 20)
    return Plan(minutes * 60, agents, 3, 15.0, 2.0, 5.0, warm_up_s, 100.0, max(2, agents // 6), rng_seed)


def quick(minutes: float, agents: int, rng_seed: int) -> Plan:
    """Heartbeats five times as fast."""
    return Plan(minutes * 60, agents, 2, 3.0, 2.0, 1.0, minutes * 15, 75.0, 3, rng_seed)


def settings_of(plan: Plan) -> list[str]:
    """What all nodes are told."""
    beat_ms = int(plan.heartbeat_s * 1000)
    periods = (("heartbeat_interval", 1), ("agent_alive", 3), ("summary_interval", 4))
    return [*SETTINGS, *(f"cluster.{name}_ms={times * beat_ms}" for name, times in periods)]


async def soak(folder: Path, plan: Plan) -> dict[str, Any]:
    """The metrics."""
    rng = random.Random(plan.rng_seed)
    async with meshed(folder, plan.coordinators, plan.agents, settings_of(plan)) as mesh:
        spared: list[Process] = [mesh.coordinators[0], *mesh.agents[: plan.spared]]
        load, gauges = Load(mesh, random.Random(rng.random())), Gauges(mesh)
        faults = Faults(mesh, load, random.Random(rng.random()), plan.heartbeat_s, spared)
        await asyncio.gather(*(load.swap(agent, "tiny-0") for agent in mesh.agents))
        await asyncio.sleep(plan.heartbeat_s)
        before = {sample.name: sample for sample in await gauges.look()}
        began = time.monotonic()
        looking = asyncio.ensure_future(gauges.run(15.0))
        asking = asyncio.ensure_future(load.run(plan.seconds, plan.requests_per_s))
        await faults.run(plan.seconds, plan.fault_pause_s)
        await asking
        ended = time.monotonic()
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        await faults.all_well()
        await asyncio.gather(*(load.swap(agent, "tiny-0") for agent in mesh.agents))
        await asyncio.sleep(plan.quiet_s)
        after = {sample.name: sample for sample in await gauges.look()}
        left = await left_by(mesh)
        gauges.write(folder / "samples.jsonl")
        (folder / "notes.json").write_text(_notes(load, faults, left), encoding="utf-8")
        metrics: dict[str, Any] = {"minutes": round((ended - began) / 60, 1), **requests(load), **healing(faults)}
        metrics |= memory(gauges, spared, began + plan.warm_up_s)
        metrics |= gained(before, after, spared)
        return metrics | lying_about(left, (ended - began) / 3600) | {"origin_mb": mesh.origin.sent_bytes // 10**6}


def requests(load: Load) -> dict[str, Any]:
    """What became of them."""
    ends = ("answered", "killed", "left", "unanswered", "broken", "not_one_end")
    asked = sum(number for what, number in load.answers.items() if what.startswith(("task", "stream")))
    well = load.answers["task 200"] + load.answers["stream done"]
    return {
        **{end: load.ends[end] for end in ends},
        "tasks": asked,
        "tasks_done_share": round(well / max(1, asked), 4),
        "answered_elsewhere": load.elsewhere,
    }


def healing(faults: Faults) -> dict[str, Any]:
    """Of all faults."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for healed in faults.done:
        kinds[healed.kind].append(healed.seconds)
    return {
        "faults": {kind: len(times) for kind, times in sorted(kinds.items())},
        "not_healed": sum(not healed.is_healed for healed in faults.done),
        "wrong_model": faults.wrong_model,
        "lost_models": faults.lost_models,
        **{f"{kind}_s_max": max(times) for kind, times in sorted(kinds.items())},
    }


def memory(gauges: Gauges, spared: list[Process], since: float) -> dict[str, Any]:
    """What those gain that lived all the time."""
    found: dict[str, Any] = {}
    for role, processes in (("coordinator", spared[:1]), ("agent", spared[1:])):
        slope = mean_slope(list(gauges.slopes(processes, since, "private_mib").values()))
        found[f"{role}_mib_per_h"] = None if slope is None else list(slope)
        names = {process.folder.name for process in processes}
        found[f"{role}_mib_max"] = round(max(s.private_mib for s in gauges.samples if s.name in names), 1)
    found["all_mib_max"] = round(max(mib for _, mib in gauges.totals))
    found["engines_mib_max"] = round(max(mib for _, mib in gauges.engines))
    return found


def gained(before: dict[str, Sample], after: dict[str, Sample], spared: list[Process]) -> dict[str, Any]:
    """What the same processes have more when nothing is asked of them; the most that one has."""
    found = {}
    for role, processes in (("coordinator", spared[:1]), ("agent", spared[1:])):
        for field in ("files", "threads", "tasks"):
            names = [
                process.folder.name for process in processes if process.folder.name in before.keys() & after.keys()
            ]
            pairs = [(getattr(before[name], field), getattr(after[name], field)) for name in names]
            grown = [now - then for then, now in pairs if None not in (then, now)]
            found[f"{role}_{field}"] = max(grown, default=None)
    return found


def lying_about(left: Left, hours: float) -> dict[str, Any]:
    """What is on disks."""
    return {
        "temporary_files": len(left.temporary_files),
        "orphans": len(left.orphans),
        "engines_left": left.engines,
        "registry_kib_max": round(left.registry_kib_max),
        "log_mib_per_h": round(left.log_kib / 1024 / hours, 1),
        "logged_errors": sum(left.errors.values()),
    }


def wrong_of(metrics: dict[str, Any]) -> list[str]:
    """Which counts are not as they should be, or were not taken, in words; of what may leak, less is well too."""
    found = {name: metrics.get(name) for name in COUNTS}
    wrong = [f"{name} is {count}, not 0" for name, count in found.items() if count is None or count > 0]
    return wrong if metrics["tasks_done_share"] > 0 else [*wrong, "no task was done"]


def _notes(load: Load, faults: Faults, left: Left) -> str:
    said = {
        "answers": dict(load.answers),
        "notes": load.notes,
        "faults": [healed._asdict() for healed in faults.done],
        "left": left._asdict(),
    }
    return json.dumps(said, indent=1)


def commit() -> str:
    """What is measured."""
    root = Path(__file__).resolve().parents[1]
    told = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)  # noqa: PLW1510 - a copy has none
    return told.stdout.strip() or "unknown"


def main() -> int:
    """Print the line; 1 where a count in it is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="12 agents, 1.5 minutes, heartbeats of 3 s")
    parser.add_argument("--minutes", type=float, help="how long it is asked and struck; 30 without it")
    parser.add_argument("--agents", type=int)
    parser.add_argument("--rng-seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep everything here: logs, stores, samples, notes")
    asked = parser.parse_args()
    make = quick if asked.quick else usual
    plan = make(
        asked.minutes or (1.5 if asked.quick else 30), asked.agents or (12 if asked.quick else 50), asked.rng_seed
    )
    level = logging.ERROR if asked.folder is None else logging.INFO
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with contextlib.ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        metrics = asyncio.run(soak(folder, plan))
    conditions = {**plan._asdict(), "engine": "llama.cpp, each in a process", "commit": commit()}
    print(json.dumps({"benchmark": "soak", "metrics": metrics, "conditions": conditions}))
    wrong = wrong_of(metrics)
    for what in wrong:
        print(f"soak: {what}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
