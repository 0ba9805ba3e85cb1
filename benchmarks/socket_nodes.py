"""The nodes of a swarm over real sockets that live in one process: each with a core, a host, a store on the disk, a
transfer server, a receiver and a WebSocket to the coordinator. What they lack of an agent is its engine and its pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec
import structlog

from benchmarks.socket_origin import MODEL, Lateness
from benchmarks.socket_setup import ORIGIN, Arrival, NodeOutcome, SetUp
from edgecoder.config import ClusterConfig, laptop
from edgecoder.core.effects import FetchPiece, PullResult
from edgecoder.core.events import PullModel
from edgecoder.core.ids import Micros, NodeId, Role
from edgecoder.core.node import Node, Setup
from edgecoder.models.catalog import Catalog, CatalogEntry, Platform
from edgecoder.trace import OnlineChanged, PieceKept, PieceLost, Record
from edgecoder.wire.envelope import ByteSigner, ByteVerifier
from edgecoder_drivers.driver import Driver
from edgecoder_drivers.exchange import Exchange, Place
from edgecoder_drivers.host import AsyncHost
from edgecoder_drivers.identity import KeyRing, load_identity
from edgecoder_drivers.journal import FileJournal, Keys
from edgecoder_drivers.links.driver import LinksDriver
from edgecoder_drivers.links.handshake import Self
from edgecoder_drivers.parts import Parts
from edgecoder_drivers.shelf import Shelf
from edgecoder_drivers.store.source import PeerSource

ONLINE_S: Final = 60.0
THREADS: Final = 6
"""For what blocks: what a node has on two cores where it is alone in its process."""


class Crew(msgspec.Struct, frozen=True):
    """The nodes of one process, and where they are."""

    numbers: tuple[int, ...]
    folder: Path
    """Each has its own in it."""
    coordinator: str
    """As in a node's configuration."""
    entry: CatalogEntry
    names: Mapping[NodeId, int]
    """The number of each node of the swarm."""


class Report(msgspec.Struct, frozen=True):
    """What a process has to say at the end."""

    nodes: tuple[NodeOutcome, ...]
    late_p99_s: float
    cpu_s: float


def folder_of(folder: Path, number: int) -> Path:
    """Where a node keeps what it has."""
    return folder / f"node-{number}"


def cluster_of(set_up: SetUp) -> ClusterConfig:
    """What the nodes and the coordinator agree on."""
    kbit_per_s = set_up.origin_bytes_per_s // 125
    return ClusterConfig(
        cdn_egress_kbit_per_s=kbit_per_s, cdn_kbit_per_s=kbit_per_s, cdn_first_byte_ms=set_up.first_byte_ms
    )


class Notes:
    """What a node tells of itself. An `Observer` of its host."""

    def __init__(self, names: Mapping[NodeId, int]) -> None:
        self._names = names
        self.online = asyncio.Event()
        self.kept: list[Arrival] = []
        """Times are those of the system's clock until they are told."""
        self.wasted_bytes = 0

    def record(self, now: Micros, record: Record) -> None:  # noqa: ARG002 - each node counts from its own beginning
        """See `Observer`."""
        match record:
            case PieceKept(piece=piece, source=source, peer=peer, size_bytes=size, is_new=True):
                sender = ORIGIN if source == "cdn" or peer is None else self._names[peer]
                self.kept.append(Arrival(time.monotonic(), piece, sender, size))
            case PieceKept(size_bytes=size):
                self.wasted_bytes += size
            case PieceLost(wasted_bytes=size):
                self.wasted_bytes += size
            case OnlineChanged(online=True):
                self.online.set()


class SwarmNode:
    """One of them."""

    def __init__(self, number: int, set_up: SetUp, crew: Crew) -> None:
        self.number = number
        self._set_up = set_up
        self._stack = contextlib.ExitStack()
        self.notes = Notes(crew.names)
        self._installed_s: float | None = None
        folder = folder_of(crew.folder, number)
        identity, ring, catalog = load_identity(folder / "node.key"), KeyRing(), Catalog((crew.entry,))
        ring.add(identity.public_bytes)
        self._shelf = Shelf(folder, catalog)
        config = msgspec.structs.replace(
            laptop(),
            coordinators=(crew.coordinator,),
            upload_kbit_per_s=set_up.uplinks_bytes_per_s[number] // 125,
        )
        exchange = Exchange(Place(port=0), cast("Parts", _Store(self._shelf)), config, catalog, identity.node_id)
        cluster = cluster_of(set_up)
        setup = Setup(role=Role.AGENT, cluster=cluster, config=exchange.config, catalog=catalog, platform=Platform.NODE)
        keys = Keys(identity, ring) if set_up.journals else None
        node = Node(setup, ByteSigner(keys or identity), ByteVerifier(keys or ring, cluster.network_id), number + 1)
        journal = None
        if keys is not None:
            journal = FileJournal(folder / "journal", setup, keys, number + 1)
            self._stack.callback(journal.close)
        self._links = LinksDriver(Self(identity, Role.AGENT, cluster.network_id), ring.add)
        drivers: list[Driver] = [self._shelf, exchange, self._links]
        self._host = AsyncHost(node, drivers, journal=journal, observers=[self.notes])
        self._links.room = self._host.room

    async def come_up(self) -> None:
        """Begin a life, and wait for the coordinator's first word."""
        self._host.start(self._shelf.snapshot)
        async with asyncio.timeout(ONLINE_S):
            await self.notes.online.wait()

    async def pull(self) -> None:
        """Want the file, until it is installed or the node dies."""
        result = await self._host.ask(PullModel, model=MODEL)
        if isinstance(result, PullResult) and result.reason is None:
            self._installed_s = time.monotonic()
        elif self.number not in self._set_up.deaths_s:
            raise RuntimeError(f"node {self.number}: {result}")

    async def die(self, at_s: float) -> None:
        """At a time of the system's clock its sockets close, as those of a process that is killed do."""
        await asyncio.sleep(at_s - time.monotonic())
        for link in list(self._links.open_links.values()):
            link.connection.transport.abort()
        await self.stop()

    async def stop(self) -> None:
        """End the life."""
        await self._host.stop()
        self._stack.close()

    def outcome(self, start_s: float) -> NodeOutcome:
        """What came of it."""
        arrivals = tuple(msgspec.structs.replace(each, at_s=each.at_s - start_s) for each in self.notes.kept)
        pieces = {each.piece for each in arrivals}
        count = -(-self._set_up.file_size_bytes // self._set_up.piece_size_bytes)
        finish_s = arrivals[-1].at_s if len(pieces) == count else None
        installed_s = None if self._installed_s is None else self._installed_s - start_s
        return NodeOutcome(self.number, finish_s, installed_s, arrivals, self.notes.wasted_bytes)


class _Store(SimpleNamespace):
    """What an exchange needs of the parts of a node: there is no engine here."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(given=shelf.store)
        self._shelf = shelf

    def take_from(self, peers: Callable[[FetchPiece], PeerSource]) -> None:
        """See `Parts`."""
        self._shelf.store.peers = peers


def work(pipe: Connection, set_up: SetUp, crew: Crew) -> None:
    """What a process does: say that its nodes are online, hear when they are to want the file, tell how it went, and
    keep them up until told that all others are done."""
    quiet()
    try:
        asyncio.run(_live(pipe, set_up, crew))
    except BaseException:  # noqa: BLE001 - the process that waits is to know
        pipe.send(traceback.format_exc())


def quiet() -> None:
    """Log faults alone."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


async def _live(pipe: Connection, set_up: SetUp, crew: Crew) -> None:
    threads = ThreadPoolExecutor(THREADS * len(crew.numbers))
    asyncio.get_running_loop().set_default_executor(threads)
    nodes = [SwarmNode(number, set_up, crew) for number in crew.numbers]
    try:
        await asyncio.gather(*(node.come_up() for node in nodes))
        pipe.send(None)
        start_s: float = await asyncio.to_thread(pipe.recv)
        pipe.send(await _watched(nodes, set_up, start_s))
        await asyncio.to_thread(pipe.recv)
    finally:
        await asyncio.gather(*(node.stop() for node in nodes))


async def _watched(nodes: list[SwarmNode], set_up: SetUp, start_s: float) -> Report:
    """All want the file at a time of the system's clock."""
    await asyncio.sleep(start_s - time.monotonic())
    lateness, cpu_s = Lateness(), time.process_time()
    watch: asyncio.Task[Any] = asyncio.create_task(lateness.watch())
    deaths = [
        asyncio.create_task(node.die(start_s + set_up.deaths_s[node.number]))
        for node in nodes
        if node.number in set_up.deaths_s
    ]
    async with asyncio.timeout(set_up.limit_s):
        await asyncio.gather(*(node.pull() for node in nodes))
    watch.cancel()
    spent_s = time.process_time() - cpu_s
    await asyncio.gather(*deaths)
    return Report(tuple(node.outcome(start_s) for node in nodes), lateness.p99_s, spent_s)
