"""Runs that are made of records by hand, so that a test knows what every table must hold."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from edgecoder.core.ids import Medium
from edgecoder.errors import Reason
from edgecoder.mesh.router import Why
from edgecoder.trace import (
    AgentLearned,
    CapabilitiesChanged,
    Dropped,
    NodeReady,
    OnlineChanged,
    PeerLearned,
    PieceKept,
    PieceLost,
    PieceRefused,
    PieceSought,
    SeedCredited,
    SenderBanned,
    SummaryLearned,
    SummarySent,
    SwapEnded,
    SwapPhase,
    SwarmChanged,
    TaskEnded,
    TaskRouted,
    TaskStarted,
    TaskStopped,
    TaskSubmitted,
    TransferBegan,
    TransferEnded,
)
from edgecoder_sim import rundir
from edgecoder_sim.file_tables import FileRow
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.results import Run
from edgecoder_sim.scenario import load_scenario, resolved_yaml
from edgecoder_sim.tables import TABLES, NodeRow

SECOND = 1_000_000
MINUTE = 60 * SECOND
PHONE, PEER, AGENT, HUB, OTHER_HUB = range(5)
"""Two phones beside each other, an agent, the coordinator of all three, and another coordinator."""
NAMES = ("phone-0", "phone-1", "agent-0", "coordinator-0", "coordinator-1")
IDS = [hashlib.sha256(name.encode()).digest() for name in NAMES]
SMALL, LARGE = "small-1b", "large-7b"


def node_rows() -> list[NodeRow]:
    """The nodes of every made run."""
    rows = []
    for index, name in enumerate(NAMES):
        role = name.partition("-")[0]
        is_member = role != "coordinator"
        place = float(index) if role == "phone" else None
        rows.append(
            NodeRow(
                index=index,
                name=name,
                node_id=IDS[index],
                role=role,
                device=f"{role}_device",
                memory_mb=4096,
                x_m=place,
                y_m=place,
                home=HUB if is_member else None,
                model=SMALL if is_member else None,
                up_bytes_per_s=16_384,
                down_bytes_per_s=65_536,
            )
        )
    return rows


def recorder(directory: Path | None = None, **options: Any) -> Recorder:
    """A recorder for these nodes."""
    files = [FileRow(SMALL, 65_536, 65_536, 1, (PHONE, PEER, AGENT)), FileRow(LARGE, 131_072, 65_536, 2, ())]
    known: dict[str, Any] = {"files": files, "origin_bytes_per_s": 65_536, "keeps_pieces": True}
    return Recorder(directory, node_rows(), 10 * SECOND, **(known | options))


def rows(directory: Path, table: str) -> list[dict[str, Any]]:
    """A table as it is on disk."""
    found: list[dict[str, Any]] = pq.read_table(directory / TABLES[table].file_name).to_pylist()
    return found


def task_id(number: int, origin: int = PHONE) -> bytes:
    """The id of a node's task."""
    return IDS[origin][:8] + (1).to_bytes(4, "big") + number.to_bytes(4, "big")


def submitted(number: int, *, command: int = 0, model: str | None = None, min_param_size: float = 0.0) -> TaskSubmitted:
    """A task of the phone."""
    return TaskSubmitted(task_id(number), command or number, model, min_param_size, prompt_bytes=100)


def routed(number: int, to: int | None, why: Why, cost: float | None = None, **excluded: int) -> TaskRouted:
    """A decision about it."""
    eligible = 1 if why is Why.CHEAPEST else 0
    return TaskRouted(task_id(number), None if to is None else IDS[to], why.value, cost, eligible, excluded)


def ended(number: int, by: int | None, reason: Reason | None = None, tokens: int = 7, attempts: int = 1) -> TaskEnded:
    """The end of it."""
    return TaskEnded(
        task_id(number), reason, None if by is None else IDS[by], None if by is None else LARGE, tokens, attempts
    )


def phases(recorder: Recorder, node: int, swap: int, at: dict[str, int], previous: str | None = SMALL) -> None:
    """A swap enters phases at the given times, µs."""
    for phase, at_us in at.items():
        recorder.record(at_us, node, SwapPhase(swap, phase, LARGE, previous))


def capabilities(recorder: Recorder, at_us: int, node: int, generation: int, model: str | None, loading: bool) -> None:
    """A node changes what it offers."""
    recorder.record(at_us, node, CapabilitiesChanged(generation, model, loading, tasks=0))


def heartbeat(recorder: Recorder, at_us: int, node: int, generation: int, model: str | None, loading: bool) -> None:
    """The node's coordinator learns of it."""
    recorder.record(at_us, HUB, AgentLearned(IDS[node], generation, model, loading))


def boot(recorder: Recorder) -> None:
    """All nodes start; the members become ready with the small model and everybody knows it after 20 ms."""
    for node in range(len(NAMES)):
        recorder.record(0, node, NodeReady(epoch=1))
    for node in (PHONE, PEER, AGENT):
        phases(recorder, node, 1, {"announcing": 1000, "draining": 2000, "loading": 2000, "ready": 900_000}, None)
        capabilities(recorder, 900_000, node, 1, SMALL, loading=False)
        recorder.record(905_000, node, SwapEnded(1, SMALL, SMALL, None, requests=0, cause="user"))
        heartbeat(recorder, 920_000, node, 1, SMALL, loading=False)
        recorder.record(920_000, node, OnlineChanged(online=True))
    recorder.record(920_000, PHONE, PeerLearned(IDS[PEER], 1, loading=False, medium=Medium.BLE))
    recorder.record(SECOND, HUB, SummarySent(1, 4, 3, {SMALL: 3}, 1))
    recorder.record(SECOND + 20_000, OTHER_HUB, SummaryLearned(IDS[HUB], 1, 4))


def distribute(recorder: Recorder) -> None:
    """The agent gets a file: a piece from the CDN, one from the phone, which the peer spoils first."""
    recorder.record(25 * SECOND, AGENT, TransferBegan(LARGE, pieces=0, of=2))
    recorder.record(25 * SECOND, HUB, SwarmChanged(LARGE, seeders=1, receivers=1))
    recorder.record(25 * SECOND, AGENT, PieceSought(LARGE, 0, 1, "cdn", None, "alone"))
    recorder.record(25 * SECOND, AGENT, PieceSought(LARGE, 1, 1, "mesh", IDS[PEER], "granted"))
    recorder.record(26 * SECOND, AGENT, PieceLost(LARGE, 1, "mesh", IDS[PEER], Reason.PIECE_CORRUPT, 16_384, 16_384))
    recorder.record(26 * SECOND, AGENT, SenderBanned(LARGE, IDS[PEER]))
    recorder.record(26 * SECOND, PEER, PieceRefused(IDS[AGENT], Reason.NOT_HELD))
    recorder.record(27 * SECOND, AGENT, PieceSought(LARGE, 1, 1, "mesh", IDS[PHONE], "granted"))
    recorder.record(28 * SECOND, AGENT, PieceKept(LARGE, 0, "cdn", None, 65_536))
    recorder.record(29 * SECOND, AGENT, PieceKept(LARGE, 1, "mesh", IDS[PHONE], 49_152))
    recorder.record(29 * SECOND, HUB, SeedCredited(LARGE, IDS[PHONE], IDS[AGENT], 49_152, 1, 49))
    recorder.record(29 * SECOND, AGENT, TransferEnded(LARGE, None))


def tell_all(recorder: Recorder) -> None:
    """An eventful minute: tasks of every sort, a swap that everybody hears of, a drop."""
    boot(recorder)
    for number, kind in enumerate(("chat", "chat", "review"), start=1):
        recorder.command(number, kind)
    recorder.record(2 * SECOND, PHONE, submitted(1))
    recorder.record(2 * SECOND, PHONE, routed(1, PHONE, Why.CHEAPEST, 10.5, loading=1))
    recorder.record(2 * SECOND, PHONE, TaskStarted(task_id(1), SMALL))
    recorder.record(3 * SECOND, PHONE, TaskStopped(task_id(1), None, 30))
    recorder.record(3 * SECOND, PHONE, ended(1, PHONE, tokens=30))
    recorder.record(4 * SECOND, PHONE, submitted(2, min_param_size=7.0))
    recorder.record(4 * SECOND, PHONE, routed(2, HUB, Why.COORDINATOR, None, **{"model too small": 2}))
    recorder.record(4 * SECOND + 5000, HUB, routed(2, PEER, Why.CHEAPEST, 20.0))
    recorder.record(5 * SECOND, HUB, routed(2, AGENT, Why.CHEAPEST, 40.0, **{"tried before": 1}))
    recorder.record(5 * SECOND + 10_000, AGENT, TaskStarted(task_id(2), LARGE))
    recorder.record(6 * SECOND, AGENT, TaskStopped(task_id(2), None, 12))
    recorder.record(6 * SECOND + 10_000, PHONE, ended(2, AGENT, tokens=12))
    recorder.record(7 * SECOND, PHONE, submitted(3, model="huge-70b"))
    recorder.record(7 * SECOND, PHONE, routed(3, None, Why.NOBODY, None, **{"wrong model": 3}))
    recorder.record(17 * SECOND, PHONE, ended(3, None, Reason.NO_ROUTE, tokens=0))
    recorder.sample(10 * SECOND)
    at = {"announcing": 20 * SECOND, "draining": 20_100_000, "unloading": 21 * SECOND, "loading": 21_200_000}
    phases(recorder, PHONE, 2, at)
    capabilities(recorder, 20_005_000, PHONE, 2, SMALL, loading=True)
    heartbeat(recorder, 20_015_000, PHONE, 2, SMALL, loading=True)
    phases(recorder, PHONE, 2, {"ready": 24 * SECOND})
    capabilities(recorder, 24 * SECOND, PHONE, 3, LARGE, loading=False)
    recorder.record(24_005_000, PHONE, SwapEnded(2, LARGE, LARGE, None, requests=1, cause="user"))
    heartbeat(recorder, 24_010_000, PHONE, 3, LARGE, loading=False)
    recorder.record(30 * SECOND, PEER, Dropped("frame", Reason.REPLAYED))
    distribute(recorder)
    for _ in range(3):
        recorder.message("heartbeat", "lan", 200)
    recorder.message("summary", "wan", 500)
    recorder.sample(30 * SECOND)


def made_run(root: Path, description: str = "Made by hand.", tell: Any = tell_all, **summary: Any) -> Run:
    """A whole run directory of one minute under `root`, in which `tell(recorder)` happens."""
    scenario = load_scenario("office", [f"description={description}", "duration_s=60"])
    directory = rundir.create(root, scenario.name, resolved_yaml(scenario))
    made = recorder(directory)
    tell(made)
    metrics = made.close(MINUTE)
    values = {
        "scenario": scenario.name,
        "digest": "00ff" * 8,
        "rng_seed": 1,
        "sim_s": 60.0,
        "wall_s": 0.5,
        "events": 1234,
        "nodes": len(NAMES),
        "metrics": metrics,
        "invariants": {"checked": 1234, "violated": 0},
        "partial": False,
        "reproduce": "edgecoder run office --rng-seed 1",
        "run_dir": str(directory),
    }
    rundir.finish(directory, values | summary, ["edgecoder", "run", "office"])
    return Run(directory)
