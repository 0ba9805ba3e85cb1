"""Does the simulator predict real nodes over real sockets? Both run the same flash crowds, with the same core.

First one swarm over sockets is recorded (`socket_swarm` with journals), and `edgecoder fit` makes a scenario of the
journals: links, uplinks, the origin, what the nodes run on and what they were told. Nothing else is given to the
simulator but what a set-up says: how many nodes there are, what uplinks they have, and who dies when. An uplink that
was not recorded is taken to reach the same share of what it is set to. The recorded run is compared with nothing.

Four set-ups, each with an origin of 1 MiB/s and one file that all nodes want in the same moment: twelve nodes with the
origin's uplink; twenty; twelve with uplinks of 512 KiB/s, 1 and 2 MiB/s; fifteen, of which three die after 8 s. Five
runs over sockets, each with its own bytes; the simulator has four times as many seeds. Compared are means over runs of
the times at which 10, 50 and 90 % of all pieces were there that those want who finish, of the last finish, and of the
copies of the file that came from the origin:

- `median_error`, `max_error`: of all set-ups and figures, relative to the sockets.

How late a loop wakes, 99th percentile, tells whether something else on the machine disturbed a run: one above 20 ms is
repeated, twice at most, and counted; the calmest stands. With `--quick` two set-ups and one run of each. Prints one
JSON line. Goals: median_error 0.05, max_error 0.10.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.socket_swarm import MIB, ORIGIN, Outcome, SetUp, run
from edgecoder.trace import PieceKept, Record
from edgecoder_sim.fit.record import read
from edgecoder_sim.fit.scenario import fitted
from edgecoder_sim.fit.writing import yaml_of
from edgecoder_sim.host import SimNode
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.runner import rare_collections
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.scenario_model import Scenario
from edgecoder_sim.world import World

SECOND_US: Final = 1_000_000
RATE: Final = MIB
"""Of the origin, and of an uplink where nothing else is said, bytes a second."""
FILE_BYTES: Final = 16 * MIB
PIECE_BYTES: Final = 256 * 1024
PIECES: Final = FILE_BYTES // PIECE_BYTES
PROCESSES: Final = 2
LIMIT_S: Final = 120
LATE_S: Final = 0.020
TRIES: Final = 3
"""Of one run over sockets, at most."""
SIMULATED_PER_REAL: Final = 4
CALIBRATION_SEED: Final = 1_000
FIGURES: Final = ("t10_s", "t50_s", "t90_s", "last_finish_s", "copies")


class Crowd(NamedTuple):
    """One set-up."""

    name: str
    uplinks: tuple[int, ...]
    """Bytes a second, of each node."""
    deaths_s: dict[int, float]
    """When a node dies, by its number."""

    def set_up(self, seed: int, *, journals: bool = False) -> SetUp:
        """What the sockets are asked to do."""
        return SetUp(
            uplinks_bytes_per_s=self.uplinks,
            file_size_bytes=FILE_BYTES,
            piece_size_bytes=PIECE_BYTES,
            origin_bytes_per_s=RATE,
            deaths_s=self.deaths_s,
            content_seed=seed,
            processes=PROCESSES,
            limit_s=LIMIT_S,
            journals=journals,
        )


EQUAL: Final = Crowd("equal", (RATE,) * 12, {})
LOSSES: Final = Crowd("losses", (RATE,) * 15, {2: 8.0, 7: 8.0, 12: 8.0})
CROWDS: Final = (
    EQUAL,
    Crowd("larger", (RATE,) * 20, {}),
    Crowd("heterogeneous", (RATE // 2, RATE, 2 * RATE) * 4, {}),
    LOSSES,
)
QUICK: Final = (EQUAL, LOSSES)


class Measured(NamedTuple):
    """One run, real or simulated."""

    t10_s: float
    t50_s: float
    t90_s: float
    last_finish_s: float
    copies: float


class Arrived(NamedTuple):
    """A piece that is verified at a node."""

    at_s: float
    node: int
    piece: int
    size_bytes: int
    """What the last sender gave of it: the rest came from others, who left."""
    is_from_origin: bool


def figures_of(arrivals: Sequence[Arrived], file_bytes: int, pieces: int) -> Measured:
    """From what came; who has not all pieces has not finished. Times are after the moment at which all want the file.
    Raises ValueError where nobody finished."""
    got = Counter(each.node for each in arrivals)
    times = sorted(each.at_s for each in arrivals if got[each.node] == pieces)
    if not times:
        raise ValueError("nobody finished")
    t10_s, t50_s, t90_s = (times[math.ceil(share * len(times)) - 1] for share in (0.1, 0.5, 0.9))
    copies = sum(each.size_bytes for each in arrivals if each.is_from_origin) / file_bytes
    return Measured(t10_s, t50_s, t90_s, times[-1], copies)


def finished(arrivals: Sequence[Arrived], pieces: int) -> int:
    """How many nodes have all pieces."""
    return sum(count == pieces for count in Counter(each.node for each in arrivals).values())


# -- sockets -----------------------------------------------------------------------------------------------------------


class Real(NamedTuple):
    """Runs over sockets."""

    runs: list[Measured]
    late_p99_s: list[float]
    disturbed: int


def real(crowd: Crowd, runs: int) -> Real:
    """Several runs, each with its own bytes."""
    kept: list[tuple[float, Measured]] = []
    disturbed = 0
    for seed in range(1, runs + 1):
        tries: list[tuple[float, Measured]] = []
        while len(tries) < TRIES and (not tries or tries[-1][0] > LATE_S):
            with tempfile.TemporaryDirectory(prefix="sim-vs-sockets-") as folder:
                outcome = run(crowd.set_up(seed), Path(folder))
            tries.append((max(outcome.late_p99_s), _real_figures(outcome)))
            _tell(f"{crowd.name}, sockets, run {seed}: {_shown(tries[-1][1])}, late {1000 * tries[-1][0]:.0f} ms")
        disturbed += sum(late > LATE_S for late, _ in tries)
        kept.append(min(tries))
    return Real([figures for _, figures in kept], [late for late, _ in kept], disturbed)


def _real_figures(outcome: Outcome) -> Measured:
    arrivals = [
        Arrived(each.at_s, node.number, each.piece, each.size_bytes, each.sender == ORIGIN)
        for node in outcome.nodes
        for each in node.arrivals
    ]
    return figures_of(arrivals, outcome.file_size_bytes, PIECES)


# -- the simulator -----------------------------------------------------------------------------------------------------


def calibrated(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Record a swarm over sockets; the scenario that is made of it, and what it says of it."""
    recorded = folder / "recorded"
    recorded.mkdir()
    outcome = run(EQUAL.set_up(CALIBRATION_SEED, journals=True), recorded)
    made = fitted(read(sorted(recorded.glob("*/journal"))), "sockets")
    path = folder / "sockets.yaml"
    path.write_text(yaml_of(made.tree, ["Recorded over sockets."]), encoding="utf-8")
    agents, cdn = made.tree["networks"]["agent"], made.tree["cdn"]
    read_off = {
        "latency_ms": agents["latency_ms"].value,
        "jitter_ms": agents["jitter_ms"].value,
        "up_mbit_per_s": agents["up_mbit_per_s"].value,
        "origin_mbit_per_s": cdn["egress_mbit_per_s"].value,
        "first_byte_ms": cdn["ttfb_ms"].value,
        "late_p99_ms": round(1000 * max(outcome.late_p99_s), 1),
    }
    _tell(f"recorded: {read_off}, {_shown(_real_figures(outcome))}")
    return path, read_off


def scenario_of(crowd: Crowd, path: Path, seed: int) -> Scenario:
    """The recorded scenario with what this set-up has in place of the recorded one."""
    recorded = load_scenario(path)
    base = recorded.networks["agent"]
    at_s = recorded.workload.pulls[0].at_s or 0.0
    sets = [f"agents.count={len(crowd.uplinks)}", f"duration_s={LIMIT_S}", "checkers=false", "agents.network=''"]
    weights = {f"up-{uplink}": crowd.uplinks.count(uplink) for uplink in sorted(set(crowd.uplinks))}
    for uplink in sorted(set(crowd.uplinks)):
        line = {
            "latency_ms": base.latency_ms,
            "jitter_ms": base.jitter_ms,
            "up_mbit_per_s": base.up_mbit_per_s * uplink / RATE,
            "down_mbit_per_s": base.down_mbit_per_s,
        }
        sets.append(f"networks.up-{uplink}={json.dumps(line)}")
    sets.append(f"agents.networks={json.dumps(weights)}")
    if crowd.deaths_s:
        times = sorted(crowd.deaths_s.values())
        plan = [
            {"kind": "crash", "at_s": at_s + time, "nodes": ["agents"], "count": times.count(time)} for time in times
        ]
        sets.append(f"faults.plan={json.dumps([each for index, each in enumerate(plan) if each not in plan[:index]])}")
    return load_scenario(path, sets, seed)


def simulate(crowd: Crowd, scenario: Scenario) -> Measured:
    """The simulator's run. Raises RuntimeError where somebody who lives does not finish."""
    world = World(scenario)
    begin_us = round((scenario.workload.pulls[0].at_s or 0) * SECOND_US)
    arrivals: list[Arrived] = []
    traced = world.watch.traced

    def note(node: SimNode, record: Record) -> None:
        if type(record) is PieceKept and record.is_new:
            at_s = (world.kernel.now - begin_us) / SECOND_US
            arrivals.append(Arrived(at_s, node.index, record.piece, record.size_bytes, record.source == "cdn"))
        traced(node, record)

    world.watch.traced = note  # type: ignore[method-assign]  # to read along
    world.start_users(Recorder(None, world.describe(), scenario.sample_interval_us))
    with rare_collections():
        world.kernel.run(scenario.duration_us)
    if finished(arrivals, PIECES) < len(crowd.uplinks) - len(crowd.deaths_s):
        raise RuntimeError(f"{crowd.name}: not all simulated nodes finished within {LIMIT_S} s")
    return figures_of(arrivals, FILE_BYTES, PIECES)


# -- both --------------------------------------------------------------------------------------------------------------


def means(runs: Sequence[Measured]) -> dict[str, float]:
    """Of each figure."""
    return {name: statistics.mean(getattr(run, name) for run in runs) for name in FIGURES}


def errors(simulated: dict[str, float], sockets: dict[str, float]) -> dict[str, float]:
    """Relative to the sockets; below 0 where the simulator has less."""
    return {name: simulated[name] / sockets[name] - 1 for name in FIGURES}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


def _shown(figures: Measured) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in zip(FIGURES, figures, strict=True))


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


def main() -> None:
    """Record, predict, measure, compare, and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two set-ups, one run of each")
    arguments = parser.parse_args()
    runs, crowds = (1, QUICK) if arguments.quick else (5, CROWDS)
    rows, every = {}, []
    with tempfile.TemporaryDirectory(prefix="sim-vs-sockets-") as folder:
        path, read_off = calibrated(Path(folder))
        for crowd in crowds:
            seeds = range(1, SIMULATED_PER_REAL * runs + 1)
            simulated = means([simulate(crowd, scenario_of(crowd, path, seed)) for seed in seeds])
            sockets = real(crowd, runs)
            error = errors(simulated, means(sockets.runs))
            every += [abs(value) for value in error.values()]
            rows[crowd.name] = {
                "simulated": _rounded(simulated),
                "sockets": _rounded(means(sockets.runs)),
                "error": _rounded(error),
                "late_p99_ms": [round(1000 * late, 1) for late in sockets.late_p99_s],
                "disturbed_runs": sockets.disturbed,
            }
            _tell(f"{crowd.name}: {rows[crowd.name]}")
    metrics = {"median_error": round(statistics.median(every), 4), "max_error": round(max(every), 4)}
    conditions = {
        "file_mib": FILE_BYTES // MIB,
        "runs": runs,
        "recorded": read_off,
        "set_ups": rows,
        "is_real_time": os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR),
        "quick": arguments.quick,
    }
    print(json.dumps({"benchmark": "sim_vs_sockets", "metrics": metrics, "conditions": conditions}))


if __name__ == "__main__":
    main()
