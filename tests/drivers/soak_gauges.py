"""What a mesh of processes uses over time, seen from outside, and what it has left behind when nothing is asked of it.

A slope is what a process of one life gains an hour. It is fitted to the means of `BLOCKS` stretches of time, so that
what wobbles within one counts once, and its interval is Student's of that fit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

from tests.drivers.procfs import children_of, use_of
from tests.drivers.soak_rig import Lost, Mesh, Process

BLOCKS = 8
TASKS = "edgecoder_loop_tasks"


class Sample(NamedTuple):
    """One look at one process."""

    at_s: float
    name: str
    life: int
    private_mib: float
    pss_mib: float
    files: int
    threads: int
    tasks: int | None
    """Of its loop; None: it was not asked, or did not say."""
    cpu_s: float


class Slope(NamedTuple):
    """What is gained an hour, and the 95 % interval."""

    an_hour: float
    low: float
    high: float


def slope_of(points: Sequence[tuple[float, float]]) -> Slope | None:
    """The slope of points of seconds and values; None where there are too few."""
    if len(points) < 2 * BLOCKS:
        return None
    first, last = points[0][0], points[-1][0]
    width = (last - first) / BLOCKS + 1e-9
    blocks: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for point in points:
        blocks[int((point[0] - first) / width)].append(point)
    if len(blocks) < BLOCKS:
        return None
    hours = [statistics.fmean(at for at, _ in block) / 3600 for block in blocks.values()]
    fit = stats.linregress(hours, [statistics.fmean(value for _, value in block) for block in blocks.values()])
    reach = float(stats.t.ppf(0.975, BLOCKS - 2)) * float(fit.stderr)
    return Slope(*(round(float(value), 2) for value in (fit.slope, fit.slope - reach, fit.slope + reach)))


class Gauges:
    """Looks at all processes now and then."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.samples: list[Sample] = []
        self.engines: list[tuple[float, float]] = []
        """When, and what all engines use together, MiB."""
        self.totals: list[tuple[float, float]] = []
        """When, and what all processes use together, MiB of PSS."""

    async def run(self, every_s: float) -> None:
        """Until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(every_s)

    async def look(self) -> list[Sample]:
        """All processes now."""
        now, engines, total, looked = asyncio.get_running_loop().time(), 0.0, 0.0, []
        for process in self.mesh.all:
            use = await asyncio.to_thread(use_of, process.pid) if process.is_up else None
            if use is None:
                continue
            tasks = None
            if not process.frozen:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(20):
                        tasks = await process.metric(TASKS)
            each = (use.private_mib, use.pss_mib, use.files, use.threads, tasks, use.cpu_s)
            looked.append(Sample(now, process.folder.name, process.life, *each))
            total += use.pss_mib
            for child in await asyncio.to_thread(children_of, process.pid):
                of_child = await asyncio.to_thread(use_of, child)
                engines += of_child.pss_mib if of_child is not None else 0
        self.samples += looked
        self.engines.append((now, engines))
        self.totals.append((now, total + engines))
        return looked

    def slopes(self, processes: Sequence[Process], since: float, field: str) -> dict[str, Slope]:
        """Of each process that lived all the time since then."""
        found = {}
        for process in processes:
            name, life = process.folder.name, process.life
            points = [
                (sample.at_s, getattr(sample, field))
                for sample in self.samples
                if sample.name == name and sample.life == life and sample.at_s >= since
            ]
            slope = slope_of([(at, value) for at, value in points if value is not None])
            if slope is not None:
                found[name] = slope
        return found

    def write(self, path: Path) -> None:
        """All samples, a line each."""
        lines = (json.dumps(sample._asdict()) for sample in self.samples)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def mean_slope(slopes: Sequence[Slope]) -> Slope | None:
    """The mean over processes, and its 95 % interval."""
    if len(slopes) < 2:
        return slopes[0] if slopes else None
    values = [slope.an_hour for slope in slopes]
    mean = statistics.fmean(values)
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return Slope(round(mean, 2), round(mean - reach, 2), round(mean + reach, 2))


class Left(NamedTuple):
    """What lies about when nothing is asked any more."""

    temporary_files: list[str]
    orphans: list[str]
    """Parts, trees and files of models of which the node says that they are absent."""
    engines: int
    """Processes of engines beyond one a node."""
    registry_kib_max: float
    log_kib_max: float
    log_kib: float
    errors: dict[str, int]
    """What logs say at level error, by event."""


async def left_by(mesh: Mesh) -> Left:
    """Look at everything that is on disks."""
    temporary = sorted(path.relative_to(mesh.temporary).as_posix() for path in mesh.temporary.rglob("*"))
    orphans, engines, registries, logs = [], 0, [0.0], [0.0]
    errors: Counter[str] = Counter()
    for process in mesh.all:
        logs.append(process.log.stat().st_size / 1024)
        errors.update(_errors(process.log))
        registries.append(
            sum(path.stat().st_size for path in (process.folder / "data").glob("registry.sqlite*")) / 1024
        )
    for agent in mesh.agents:
        engines += max(0, len(children_of(agent.pid)) - 1)
        orphans += await _orphans(mesh, agent)
    return Left(temporary, orphans, engines, max(registries), max(logs), sum(logs), dict(errors))


async def _orphans(mesh: Mesh, agent: Process) -> list[str]:
    with contextlib.suppress(Lost):
        rows = (await agent.ask("GET", "/model/list"))[1]["models"]
        known = {mesh.models[row["modelId"]].sha256 for row in rows if row["state"] != "absent"}
        return [
            f"{agent.folder.name}/{folder}/{path.name[:20]}"
            for folder in ("blobs", "partial", "trees")
            for path in (agent.folder / "data" / folder).iterdir()
            if path.name.removeprefix("sha256-") not in known
        ]
    return []


def _errors(log: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError):
                said: dict[str, Any] = json.loads(line)
                if said.get("level") in ("error", "critical"):
                    found[f"{said['event']} {str(said.get('exception', '')).rpartition(chr(10))[2][:160]}".strip()] += 1
                continue
            found["no line of a log: " + line.strip()[:160]] += not line.startswith(
                ("coordinator on", "members:", "   ")
            )
    return +found
