"""A node on this machine: identity, store, engine, core and control port, put together and taken apart again.

A device runs models with llama.cpp, an agent beside Ollama. Which of the two it is, is `Parts`' to say; what a node
does with them is the core's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import Progress, PullResult, Result
from edgecoder.core.events import Command, PullModel
from edgecoder.core.ids import CommandId, NodeId, Role
from edgecoder.core.node import Node, Setup
from edgecoder.errors import ConfigError, Reason
from edgecoder.models.catalog import Catalog, CatalogEntry, Platform
from edgecoder.wire.envelope import ByteSigner, ByteVerifier
from edgecoder_drivers.addresses import Logins
from edgecoder_drivers.driver import Driver, Numbers, Refused
from edgecoder_drivers.ending import Ending, until_told
from edgecoder_drivers.exchange import Exchange, Place, unreachable
from edgecoder_drivers.host import AsyncHost
from edgecoder_drivers.http.app import make_app
from edgecoder_drivers.http.server import Binding, ControlServer
from edgecoder_drivers.identity import KeyRing, load_identity
from edgecoder_drivers.journal import FileJournal, Keys
from edgecoder_drivers.lan.browse import BrowseDriver
from edgecoder_drivers.links.driver import LinksDriver
from edgecoder_drivers.links.handshake import Self
from edgecoder_drivers.metrics import TraceMetrics
from edgecoder_drivers.origin_catalog import OriginCatalog, loaded, origin_of
from edgecoder_drivers.parts import Parts
from edgecoder_drivers.power import PowerDriver
from edgecoder_drivers.tracelog import TraceLog

C = TypeVar("C", bound=Command)
_log = structlog.get_logger("edgecoder")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be put together."""

    folder: Path
    """Where the node keeps its key, its models and what it knows."""
    role: Role
    platform: Platform
    cluster: ClusterConfig
    config: NodeConfig
    catalog: Catalog | OriginCatalog
    binding: Binding
    logins: Logins = msgspec.field(default_factory=Logins)
    """For the servers of the catalog's files."""
    journal: Path | None = None
    place: Place | None = None
    """Where it gives pieces of its models; None: nowhere."""
    swap_wait_s: float = 30.0
    join: tuple[str, ...] = ()
    """Tokens for coordinators that do not know this node yet."""
    discover_at: tuple[str, ...] = ()
    """Addresses of this machine at whose networks it looks for coordinators; none: all but loopback."""


class Device:
    """A running node. A `ServedNode` of the control server."""

    def __init__(self, plan: Plan, catalog: Catalog, parts: Parts, host: AsyncHost, node_id: NodeId) -> None:
        self._plan = plan
        self._catalog = catalog
        self._origins = origin_of(plan.catalog)
        self._parts = parts
        self._host = host
        self.node_id = node_id
        self.engine = parts.engine
        self.port = 0
        """Where it is asked."""
        self._imports = asyncio.Lock()

    def is_engine_healthy(self) -> bool:
        """See `ServedNode`."""
        return self._parts.is_healthy()

    def is_catalog_stale(self) -> bool:
        """See `ServedNode`."""
        return any(origin.is_stale() for origin in self._origins)

    def begin(
        self, kind: type[C], *, on_progress: Callable[[Progress], None] | None = None, **fields: Any
    ) -> tuple[CommandId, asyncio.Future[Result]]:
        """See `ServedNode`."""
        return self._host.begin(kind, on_progress=on_progress, **fields)

    def find(self, model: str) -> CatalogEntry | None:
        """See `ServedNode`."""
        return self._catalog.find(model, self._plan.platform)

    def source_of(self, entry: CatalogEntry) -> str:
        """See `ServedNode`."""
        return self._parts.source_of(entry)

    async def import_model(self, path: Path) -> str:
        """See `ServedNode`: the file takes the CDN's place in a pull, so it passes every gate of one. One file is read
        at a time."""
        async with self._imports:
            sha256 = await self._parts.sha256_of(path)
            entry = self._catalog.by_digest.get(sha256)
            if entry is None or self._plan.platform not in entry.platforms:
                raise Refused(Reason.UNKNOWN_MODEL, f"{path}: the catalog has no file with SHA-256 {sha256} for here")
            with self._parts.offering(entry, path):
                _, reply = self.begin(PullModel, model=entry.model_id, is_import=True)
                result = await reply
        assert isinstance(result, PullResult | Reason), f"{result} answers no pull"
        reason = result.reason if isinstance(result, PullResult) else result
        if reason is not None:
            raise Refused(reason, str(path))
        return entry.model_id

    async def export_model(self, entry: CatalogEntry) -> Path:
        """See `ServedNode`."""
        return await self._parts.path_of(entry)

    async def bytes_at(self, entry: CatalogEntry) -> Path:
        """See `ServedNode`."""
        return await self._parts.given.bytes_at(entry)

    def fetched_by_ollama(self, entry: CatalogEntry) -> AbstractContextManager[None]:
        """See `ServedNode`."""
        return self._parts.fetched_by_ollama(entry)

    async def until_told(self, ending: Ending) -> None:
        """See `ending.until_told`."""
        await until_told(self._host, ending)


@contextlib.asynccontextmanager
async def running(plan: Plan, make_parts: Callable[[Plan, Catalog], Parts]) -> AsyncIterator[Device]:
    """A node that runs as long as the block. `make_parts` opens the store and the engine. Raises ConfigError, and
    DriverError where a part is missing or broken."""
    identity, ring = load_identity(plan.folder / "node.key"), KeyRing()
    ring.add(identity.public_bytes)
    keys = Keys(identity, ring) if plan.journal is not None else None
    async with contextlib.AsyncExitStack() as stack:
        catalog = await stack.enter_async_context(loaded(plan.catalog))
        parts = await asyncio.to_thread(make_parts, plan, catalog)
        exchange, config = None, unreachable(plan.config)
        if plan.place is not None:
            exchange = Exchange(plan.place, parts, plan.config, catalog, identity.node_id, Numbers())
            config = exchange.config
        setup = Setup(role=plan.role, cluster=plan.cluster, config=config, catalog=catalog, platform=plan.platform)
        rng_seed = int.from_bytes(identity.node_id[:7], "big") ^ time.time_ns() & 0xFFFF_FFFF
        network = plan.cluster.network_id
        node = Node(setup, ByteSigner(keys or identity), ByteVerifier(keys or ring, network), rng_seed)
        metrics = TraceMetrics()
        metrics.watch_loop(asyncio.get_running_loop())
        me = Self(identity, plan.role, network)
        links = LinksDriver(me, ring.add, tokens=plan.join, dropped=metrics.dropped, links_max=plan.config.links_max)
        drivers: list[Driver] = [*parts.drivers(), PowerDriver(plan.config.device_type), links]
        drivers.append(BrowseDriver(network, plan.discover_at))
        drivers += [*origin_of(plan.catalog), *([] if exchange is None else [exchange])]
        snapshot = await parts.snapshot()
        journal = None
        if keys is not None and plan.journal is not None:
            journal = stack.enter_context(contextlib.closing(FileJournal(plan.journal, setup, keys, rng_seed)))
        host = AsyncHost(node, drivers, journal=journal, observers=[metrics, TraceLog()])
        links.room = host.room
        device = Device(plan, catalog, parts, host, identity.node_id)
        for origin in origin_of(plan.catalog):
            metrics.watch("edgecoder_catalog", "The catalog of the origin.", "fact", origin.facts())
        app = make_app(
            device, metrics.shown, hosts=plan.binding.hosts, token=plan.binding.token, swap_wait_s=plan.swap_wait_s
        )
        try:
            server = ControlServer(app, plan.binding)
        except ConfigError:
            await host.stop()
            raise
        device.port = server.port
        host.start(snapshot)
        server.start()
        where = {"url": plan.binding.url(server.port), "port": server.port}
        _log.info("up", node=identity.node_id.hex()[:8], engine=parts.engine, **where, pid=os.getpid())
        try:
            yield device
        finally:
            await server.stop()
            await host.stop()
            _log.info("down")
