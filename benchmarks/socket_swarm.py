"""A flash crowd of real nodes over real sockets on loopback: one coordinator, one origin, and nodes in a process or
several, which all want one file in the same moment.

    outcome = run(SetUp(uplinks_bytes_per_s=(2 * MIB,) * 20), folder)

Nodes are agents as they ship, but for their engine and pages: core, host, store with its syncs, transfer server and
receiver, journal if asked for, and a WebSocket to a real coordinator. Their downlinks are as fast as loopback. Their
uplinks are limited by the nodes themselves, as `upload_kbit_per_s` does: after a rest an eighth of a second's worth may
leave at once. The origin speaks HTTP and never sends faster than its rate. What is real of a network and lacks here is
distance, loss, and other traffic.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.socket_nodes import Crew, Report, cluster_of, folder_of, quiet, work
from benchmarks.socket_origin import Lateness, Origin, Release
from benchmarks.socket_setup import MIB, ORIGIN, Arrival, NodeOutcome, Outcome, SetUp
from edgecoder.config import server
from edgecoder.models.catalog import Catalog
from edgecoder_drivers.coordinator import CoordinatorPlan, coordinating
from edgecoder_drivers.identity import load_identity

__all__ = ["MIB", "ORIGIN", "Arrival", "NodeOutcome", "Outcome", "SetUp", "run"]
HEAD_START_S: Final = 0.3
"""From when all are told to when they begin."""
END_S: Final = 20.0
COORDINATOR: Final = "coordinator"


def run(set_up: SetUp, folder: Path) -> Outcome:
    """Run one swarm in an empty folder, which keeps what the nodes have (and their journals). Raises RuntimeError where
    a process fails, or not all that live finish in time."""
    quiet()
    release = Release(set_up)
    with contextlib.ExitStack() as stack:
        return asyncio.run(_run(set_up, folder, release, stack))


async def _run(set_up: SetUp, folder: Path, release: Release, stack: contextlib.ExitStack) -> Outcome:
    count = len(set_up.uplinks_bytes_per_s)
    names = {load_identity(folder_of(folder, number) / "node.key").node_id: number for number in range(count)}
    listed = folder / "members.txt"
    listed.write_text("".join(f"member {node.hex()}\n" for node in names), encoding="utf-8")
    origin = Origin(release, set_up.origin_bytes_per_s)
    async with origin.listening():
        entry = release.entry(origin.url)
        plan = CoordinatorPlan(
            folder=folder / COORDINATOR,
            cluster=cluster_of(set_up),
            config=msgspec.structs.replace(server(), broker_delay_ms=set_up.broker_delay_ms),
            catalog=Catalog((entry,)),
            port=0,
            members=listed,
            journal=folder / COORDINATOR / "journal" if set_up.journals else None,
        )
        async with coordinating(plan) as coordinator:
            address = f"{coordinator.node_id.hex()}@127.0.0.1:{coordinator.port}"
            numbers = [tuple(range(first, count, set_up.processes)) for first in range(set_up.processes)]
            crews = [Crew(some, folder, address, entry, names) for some in numbers if some]
            pipes = [stack.enter_context(_process(set_up, crew)) for crew in crews]
            await _all(pipes)
            return await _watched(set_up, pipes, origin)


async def _watched(set_up: SetUp, pipes: list[Connection], origin: Origin) -> Outcome:
    start_s = time.monotonic() + HEAD_START_S
    for pipe in pipes:
        pipe.send(start_s)
    await asyncio.sleep(start_s - time.monotonic())
    lateness, cpu_s = Lateness(), time.process_time()
    watch = asyncio.create_task(lateness.watch())
    reports: list[Report] = await _all(pipes)
    watch.cancel()
    spent_s = time.process_time() - cpu_s
    for pipe in pipes:
        pipe.send(None)
    nodes = sorted((node for report in reports for node in report.nodes), key=lambda node: node.number)
    return Outcome(
        tuple(nodes),
        origin.sent_bytes,
        set_up.file_size_bytes,
        (lateness.p99_s, *(report.late_p99_s for report in reports)),
        (spent_s, *(report.cpu_s for report in reports)),
    )


@contextlib.contextmanager
def _process(set_up: SetUp, crew: Crew) -> Iterator[Connection]:
    """A process with some of the nodes."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=work, args=(there, set_up, crew), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        process.join(END_S)
        process.kill()
        process.join()
        here.close()


async def _all(pipes: list[Connection]) -> list[Any]:
    """A word of each process. Raises RuntimeError where one has failed."""
    words = await asyncio.gather(*(asyncio.to_thread(_word, pipe) for pipe in pipes))
    failed = next((word for word in words if isinstance(word, str)), None)
    if failed is not None:
        raise RuntimeError(failed)
    return words


def _word(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        return "a process of the swarm has ended before its time"
