"""Does one coordinator hold thousands of agents over real sockets? So many cores, each with a WebSocket of its own on
loopback, report to one coordinator, which is a process by itself; engines and disks are in memory.

All come at once, as after a restart of the coordinator. When they are there a minute of the usual heartbeats is looked
at: every 15 s from each. Then

- `online_share`: of the agents, those that count in `GET /mesh/capabilities` at the end,
- `lost_heartbeats`: heartbeats that stayed unanswered for a period: agents that went offline, or to another link,
- `cpu_share`: of one core, by the coordinator during that minute; `join_cpu_s` for the handshakes of all,
- `rss_mib`: its memory at the end, `kib_per_agent` what each agent added.

Prints one JSON line. Goal: all online, none lost; CPU and memory are reported.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgecoder.config import ClusterConfig
from edgecoder.trace import OnlineChanged, UplinkChanged
from tests.catalogs import SMALL
from tests.drivers.coordinator_process import CoordinatorProcess
from tests.drivers.mesh_rig import Member, identity, member

AGENTS = 2_000
QUICK_AGENTS = 200
LOOK_S = 60.0
QUICK_LOOK_S = 20.0
JOIN_S = 180.0
SPARE_FILES = 256
AT_ONCE = 50
AS_USUAL: dict[str, Any] = {
    "dial_retry_ms": 500,
    "dial_retry_max_ms": 30_000,
    "dial_spread_ms": 500,
    "heartbeat_gap_ms": 1_000,
}
"""What the rig makes quicker for tests."""
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid: int) -> float:
    """Memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


async def eventually(what: Callable[[], bool], within_s: float) -> None:
    """Wait until something is so, or long enough."""
    until = time.monotonic() + within_s
    while not what() and time.monotonic() < until:  # noqa: ASYNC110 - nobody says when
        await asyncio.sleep(0.2)


async def measure(folder: Path, agents: int, look_s: float) -> dict[str, float]:
    """The metrics."""
    keys = [identity(number + 1) for number in range(agents)]
    listed = folder / "members.txt"
    listed.write_text("".join(f"member {key.node_id.hex()}\n" for key in keys), encoding="utf-8")
    hub = CoordinatorProcess(folder, "--members", str(listed), is_quick=False)
    try:
        hub.wait()
        before_mib, before_s = rss_mib(hub.pid), cpu_s(hub.pid)
        async with AsyncExitStack() as stack:
            members: list[Member] = []
            for key in keys:
                life = member(key, [hub.address], held=[SMALL], cluster=ClusterConfig(), **AS_USUAL)
                members.append(await stack.enter_async_context(life))
                if len(members) % AT_ONCE == 0:
                    await asyncio.sleep(0)
            await eventually(lambda: all(_is_online(each) for each in members), JOIN_S)
            for each in members:
                await each.swap(SMALL)
            joined_s = cpu_s(hub.pid)
            seen = [len(each.seen.records) for each in members]
            began = time.monotonic()
            await asyncio.sleep(look_s)
            spent = (cpu_s(hub.pid) - joined_s) / (time.monotonic() - began)
            answer = await asyncio.to_thread(hub.ask, "/mesh/capabilities?model=small")
            counted = sum(row["modelAvailability"]["small"]["agentCount"] for row in answer[1]["coordinators"])
            lost = sum(_losses(each, first) for each, first in zip(members, seen, strict=True))
            after_mib = rss_mib(hub.pid)
    finally:
        hub.kill()
    return {
        "agents": agents,
        "online_share": counted / agents,
        "lost_heartbeats": lost,
        "cpu_share": round(spent, 4),
        "join_cpu_s": round(joined_s - before_s, 2),
        "rss_mib": round(after_mib, 1),
        "kib_per_agent": round((after_mib - before_mib) * 1024 / agents, 1),
    }


def _is_online(each: Member) -> bool:
    changes = each.traced(OnlineChanged)
    return bool(changes) and changes[-1].online


def _losses(each: Member, first: int) -> int:
    kinds = (OnlineChanged, UplinkChanged)
    return sum(isinstance(record, kinds) for record in each.seen.records[first:])


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="200 agents, a third of the time")
    quick = parser.parse_args().quick
    agents, look_s = (QUICK_AGENTS, QUICK_LOOK_S) if quick else (AGENTS, LOOK_S)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * agents + SPARE_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most) if most > 0 else wanted, most))
    with tempfile.TemporaryDirectory() as folder:
        metrics: dict[str, Any] = asyncio.run(measure(Path(folder), agents, look_s))
    conditions = {"look_s": look_s, "heartbeat_interval_s": 15, "loopback": True}
    print(json.dumps({"benchmark": "coordinator_links", "metrics": metrics, "conditions": conditions}))


if __name__ == "__main__":
    main()
