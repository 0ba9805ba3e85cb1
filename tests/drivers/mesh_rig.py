"""Coordinators and members on one loop, linked by real sockets on loopback; engines and stores are in memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgecoder.config import ClusterConfig, NodeConfig, server
from edgecoder.core.effects import Effect, Result
from edgecoder.core.events import SubmitTask, SwapModel
from edgecoder.core.ids import NodeId, Role
from edgecoder.core.node import Node, Setup
from edgecoder.models.catalog import CatalogEntry
from edgecoder.trace import Record
from edgecoder.wire.envelope import ByteSigner, ByteVerifier
from edgecoder_drivers.coordinator import Coordinator, CoordinatorPlan, coordinating
from edgecoder_drivers.driver import Perform
from edgecoder_drivers.host import AsyncHost
from edgecoder_drivers.identity import Identity, KeyRing, load_identity
from edgecoder_drivers.lan.browse import BrowseDriver
from edgecoder_drivers.links.admission import Kind
from edgecoder_drivers.links.driver import LinksDriver
from edgecoder_drivers.links.handshake import Self
from edgecoder_drivers.tracelog import TraceLog
from tests.catalogs import CATALOG
from tests.drivers.memory import MemoryDriver
from tests.drivers.rig import Seen, has

R = TypeVar("R", bound=Record)
T = TypeVar("T")
PERIOD_S: Final = 0.2
CLUSTER: Final = ClusterConfig(
    heartbeat_interval_ms=int(PERIOD_S * 1000),
    agent_alive_ms=int(PERIOD_S * 3000),
    summary_interval_ms=int(PERIOD_S * 2000),
)
"""The protocol's periods, 75 times as fast."""
QUICK: Final[dict[str, int]] = {
    "dial_retry_ms": 50,
    "dial_retry_max_ms": 400,
    "dial_spread_ms": 10,
    "heartbeat_gap_ms": 1,
    "clone_answer_ms": 1_000,
}
_LIVES: Final = itertools.count(1)
TURNS: Final = 4_000
"""How often something is looked for before it counts as not to come."""


async def until(what: Callable[[], Any], turn_s: float = 0.01) -> Any:
    """Wait until something is so."""
    for _ in range(TURNS):
        found = what()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        await asyncio.sleep(turn_s)
    raise AssertionError("it does not come")


def run(test: Coroutine[Any, Any, T]) -> T:
    """Run a test, after which no task and no file may be left."""
    before = _files()

    async def whole() -> T:
        result = await test
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, [task.get_name() for task in left]
        return result

    result = asyncio.run(whole())
    assert _files() <= before  # what a test before has left may be collected meanwhile
    return result


def _files() -> int:
    """Open files and sockets of this process."""
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0  # noqa: PTH208 - it is no folder


def identity(number: int) -> Identity:
    """The same key each time."""
    return Identity(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))


class Engine(MemoryDriver):
    """Store and engine; links are another's."""

    def effects(self) -> Mapping[type[Effect], Perform]:
        return {}


class Member:
    """A phone or an agent."""

    def __init__(self, host: AsyncHost, links: LinksDriver, engine: Engine, seen: Seen, node_id: NodeId) -> None:
        self.host = host
        self.links = links
        self.engine = engine
        self.node_id = node_id
        self.seen = seen

    def traced(self, kind: type[R]) -> list[R]:
        """What it told of one type."""
        return [record for record in self.seen.records if isinstance(record, kind)]

    async def swap(self, entry: CatalogEntry) -> None:
        """Make a model active."""
        result = await self.host.ask(SwapModel, model=entry.model_id)
        assert getattr(result, "reason", result) is None, result

    async def task(self, **fields: Any) -> tuple[Result, list[str]]:
        """Ask the mesh; the result, and the parts as they came."""
        parts: list[str] = []
        result = await self.host.ask(SubmitTask, on_progress=lambda part: parts.append(part.text), **fields)
        return result, parts


@asynccontextmanager
async def member(
    key: Identity,
    coordinators: Sequence[str],
    *,
    tokens: Sequence[str] = (),
    role: Role = Role.AGENT,
    held: Sequence[CatalogEntry] = (),
    cluster: ClusterConfig = CLUSTER,
    discover_at: Sequence[str] = ("127.0.0.1",),
    kept: Mapping[str, bytes] | None = None,
    **config: Any,
) -> AsyncIterator[Member]:
    """A member that has some files, knows these coordinators, and has kept something of its life before."""
    ring, seen, engine = KeyRing(), Seen(), Engine()
    ring.add(key.public_bytes)
    settings = NodeConfig(has_radio=False, coordinators=tuple(coordinators), **{**QUICK, **config})
    setup = Setup(role=role, cluster=cluster, config=settings, catalog=CATALOG)
    node = Node(setup, ByteSigner(key), ByteVerifier(ring, cluster.network_id), next(_LIVES))
    links = LinksDriver(Self(key, role, cluster.network_id), ring.add, tokens=tokens)
    browse = BrowseDriver(cluster.network_id, discover_at)
    host = AsyncHost(node, [engine, links, browse], observers=[seen, TraceLog()])
    links.room = host.room
    host.start({**has(*held), **(kept or {})})
    try:
        yield Member(host, links, engine, seen, key.node_id)
    finally:
        await host.stop()


@asynccontextmanager
async def coordinator(
    folder: Path,
    *members: NodeId,
    neighbours: Sequence[str] = (),
    port: int = 0,
    host: str = "127.0.0.1",
    trusted: Sequence[NodeId] = (),
    **plan: Any,
) -> AsyncIterator[Coordinator]:
    """A coordinator that lists these members, dials `neighbours` and trusts `trusted` ones."""
    _list(folder, [(Kind.MEMBER, node) for node in members] + [(Kind.COORDINATOR, node) for node in trusted])
    config = msgspec.structs.replace(server(), coordinators=tuple(neighbours), **QUICK)
    fields: dict[str, Any] = {"cluster": CLUSTER, "config": config, "catalog": CATALOG, "host": host, "port": port}
    whole = CoordinatorPlan(folder=folder, **{**fields, **plan})
    async with coordinating(whole) as running:
        yield running


def _list(folder: Path, listed: Sequence[tuple[Kind, NodeId]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{kind.value} {node.hex()}\n" for kind, node in listed)
    (folder / "members.txt").write_text(lines, encoding="utf-8")


def identity_of(folder: Path) -> NodeId:
    """Who a coordinator with this folder is, or will be."""
    folder.mkdir(parents=True, exist_ok=True)
    return load_identity(folder / "node.key").node_id


def address(running: Coordinator, host: str = "127.0.0.1") -> str:
    """Where members find it."""
    return f"{running.node_id.hex()}@{host}:{running.port}"


async def get(
    port: int, path: str, *lines: str, method: str = "GET", host: str | None = None
) -> tuple[int, str, bytes]:
    """A request over a plain socket: status, media type, body."""
    head = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", *lines, "", ""]
    return await raw(port, "\r\n".join(head).encode())


async def raw(port: int, request: bytes) -> tuple[int, str, bytes]:
    """Bytes, and what comes back to the end of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        content = await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        content = b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    head, _, body = content.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]) if lines[0] else 0, fields.get("content-type", ""), body


async def capabilities(running: Coordinator, query: str = "") -> Any:
    """What GET /mesh/capabilities says."""
    status, _, body = await get(running.port, f"/mesh/capabilities{query}")
    assert status == 200, body
    return json.loads(body)["coordinators"]


async def agents_with(running: Coordinator, model: str) -> int:
    """How many agents of this coordinator it says to have a model active."""
    rows = await capabilities(running, f"?model={model}")
    own = [row for row in rows if row["coordinatorId"] == running.node_id.hex()]
    return sum(each["agentCount"] for row in own for each in row["modelAvailability"].values())
