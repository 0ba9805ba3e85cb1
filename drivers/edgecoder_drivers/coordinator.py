"""A coordinator on this machine: identity, registry, core, links and pages, put together and taken apart again."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from edgecoder.config import ClusterConfig, NodeConfig, is_endpoint
from edgecoder.core.effects import Progress, Result
from edgecoder.core.events import Command
from edgecoder.core.ids import CommandId, NodeId, Role
from edgecoder.core.node import Node, Setup
from edgecoder.errors import ConfigError
from edgecoder.models.catalog import Catalog
from edgecoder.protocol import ENDPOINTS_MAX
from edgecoder.wire.envelope import ByteSigner, ByteVerifier
from edgecoder_drivers.driver import Driver
from edgecoder_drivers.ending import Ending, until_told
from edgecoder_drivers.host import AsyncHost
from edgecoder_drivers.http.guard import LOOPBACK
from edgecoder_drivers.http.mesh import make_mesh_app
from edgecoder_drivers.identity import KeyRing, load_identity
from edgecoder_drivers.journal import FileJournal, Keys
from edgecoder_drivers.lan.announce import announced
from edgecoder_drivers.lan.browse import BrowseDriver
from edgecoder_drivers.links.address import PORT, is_loopback
from edgecoder_drivers.links.admission import Admission
from edgecoder_drivers.links.driver import LinksDriver
from edgecoder_drivers.links.handshake import Self
from edgecoder_drivers.links.server import LinksServer, listen
from edgecoder_drivers.links.tls import own_certificate, server_context
from edgecoder_drivers.metrics import TraceMetrics
from edgecoder_drivers.origin_catalog import OriginCatalog, loaded, origin_of
from edgecoder_drivers.store.kept import KeptDriver
from edgecoder_drivers.tracelog import TraceLog

C = TypeVar("C", bound=Command)
_log = structlog.get_logger("edgecoder")


class CoordinatorPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be put together."""

    folder: Path
    """Where it keeps its key, its certificate, who is enrolled, and what it knows."""
    cluster: ClusterConfig
    config: NodeConfig
    catalog: Catalog | OriginCatalog
    host: str = "127.0.0.1"
    port: int = PORT
    names: tuple[str, ...] = ()
    """Further names under which it may be asked."""
    certificate: Path | None = None
    key: Path | None = None
    """Off loopback without them it makes its own."""
    token: str | None = None
    """What requests for pages must have, if anything."""
    members: Path | None = None
    """The list of those that may link."""
    journal: Path | None = None
    announce: bool | None = None
    """Whether it announces itself at the networks that it listens at; None: unless that is loopback."""
    discover_at: tuple[str, ...] = ()
    """As in `device.Plan`."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others may find it, best first."""
        if self.host not in ("0.0.0.0", "::"):  # noqa: S104 - it is looked at, not bound to
            return (self.host, *self.names)
        return (*self.names, *_own_addresses())

    def found_at(self, port: int) -> CoordinatorPlan:
        """The same, with where others are told that it is: where its configuration says, else at its names and
        addresses."""
        hosts = (*self.names, *(each for each in self.addresses if _is_address(each)))
        endpoints = dict.fromkeys(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts)
        said = self.config.endpoints or tuple(filter(is_endpoint, endpoints))[:ENDPOINTS_MAX]
        return msgspec.structs.replace(self, config=msgspec.structs.replace(self.config, endpoints=said))


class Coordinator:
    """A running coordinator. A `ServedCoordinator` of its pages."""

    def __init__(
        self, host: AsyncHost, node_id: NodeId, links: LinksDriver, admission: Admission, port: int, *, is_plain: bool
    ) -> None:
        self._host = host
        self._links = links
        self.node_id = node_id
        self.admission = admission
        self.port = port
        """Where it listens."""
        self.is_plain = is_plain
        """Whether without TLS."""

    @property
    def links(self) -> tuple[int, int]:
        """See `ServedCoordinator`."""
        coordinators = self._links.count_of(Role.COORDINATOR)
        return len(self._links.open_links) - coordinators, coordinators

    def counts(self) -> dict[str, Callable[[], float]]:
        """The same for counters."""
        return {"member": lambda: self.links[0], "coordinator": lambda: self.links[1]}

    def begin(
        self, kind: type[C], *, on_progress: Callable[[Progress], None] | None = None, **fields: Any
    ) -> tuple[CommandId, asyncio.Future[Result]]:
        """See `ServedCoordinator`."""
        return self._host.begin(kind, on_progress=on_progress, **fields)

    async def until_told(self, ending: Ending) -> None:
        """See `ending.until_told`."""
        await until_told(self._host, ending)


@contextlib.asynccontextmanager
async def coordinating(plan: CoordinatorPlan) -> AsyncIterator[Coordinator]:
    """A coordinator that runs as long as the block. Raises ConfigError, and DriverError where its disk is broken."""
    identity, ring = load_identity(plan.folder / "node.key"), KeyRing()
    ring.add(identity.public_bytes)
    neighbours = frozenset(bytes.fromhex(address.partition("@")[0]) for address in plan.config.coordinators)
    admission = Admission(plan.folder, plan.members, neighbours)
    for public in admission.public_keys():  # receipts of those that are not here may be
        ring.add(public)
    tls = _tls(plan)
    metrics = TraceMetrics()
    metrics.watch_loop(asyncio.get_running_loop())
    links_max = plan.config.links_max
    links = LinksDriver(
        Self(identity, Role.COORDINATOR, plan.cluster.network_id),
        ring.add,
        dropped=metrics.dropped,
        links_max=links_max,
    )
    async with contextlib.AsyncExitStack() as stack:
        kept = await asyncio.to_thread(KeptDriver, plan.folder)
        listening = listen(plan.host, plan.port)
        stack.callback(listening.close)
        plan = plan.found_at(listening.getsockname()[1])
        browse = BrowseDriver(plan.cluster.network_id, plan.discover_at)
        drivers: list[Driver] = [kept, links, browse, *origin_of(plan.catalog)]
        catalog = await stack.enter_async_context(loaded(plan.catalog))
        host = _host(plan, catalog, identity, ring, drivers, metrics, stack)
        stack.push_async_callback(host.stop)
        links.room = host.room
        coordinator = Coordinator(
            host, identity.node_id, links, admission, listening.getsockname()[1], is_plain=tls is None
        )
        metrics.watch("edgecoder_links", "Links that are up.", "role", coordinator.counts())
        hosts = LOOPBACK | {name.lower() for name in plan.addresses}
        pages = make_mesh_app(coordinator, metrics.shown, hosts=hosts, token=plan.token)
        server = LinksServer(links, admission, pages, listening, tls=tls, links_max=links_max, dropped=metrics.dropped)
        stack.push_async_callback(server.stop)
        host.start(kept.snapshot)
        await server.start()
        if plan.announce or (plan.announce is None and not is_loopback(plan.host)):
            at, port = listening.getsockname()[:2]
            await stack.enter_async_context(announced(identity.node_id, plan.cluster.network_id, at, port))
        _log.info("up", node=identity.node_id.hex(), role="coordinator", port=server.port, pid=os.getpid())
        yield coordinator
    _log.info("down")


def _host(
    plan: CoordinatorPlan,
    catalog: Catalog,
    identity: Any,
    ring: KeyRing,
    drivers: list[Driver],
    metrics: TraceMetrics,
    stack: contextlib.AsyncExitStack,
) -> AsyncHost:
    keys = Keys(identity, ring) if plan.journal is not None else None
    setup = Setup(role=Role.COORDINATOR, cluster=plan.cluster, config=plan.config, catalog=catalog)
    rng_seed = int.from_bytes(identity.node_id[:7], "big") ^ time.time_ns() & 0xFFFF_FFFF
    node = Node(setup, ByteSigner(keys or identity), ByteVerifier(keys or ring, plan.cluster.network_id), rng_seed)
    journal = None
    if keys is not None and plan.journal is not None:
        journal = stack.enter_context(contextlib.closing(FileJournal(plan.journal, setup, keys, rng_seed)))
    return AsyncHost(node, drivers, journal=journal, observers=[metrics, TraceLog()])


def _tls(plan: CoordinatorPlan) -> Any:
    if (plan.certificate is None) is not (plan.key is None):
        raise ConfigError("--tls-certificate", None, "certificate and key come together", "give both, or neither")
    if plan.certificate is not None and plan.key is not None:
        return server_context(plan.certificate, plan.key)
    if is_loopback(plan.host):
        return None
    pem = own_certificate(plan.folder, plan.addresses)
    return server_context(pem, pem)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _own_addresses() -> list[str]:
    """What others most likely know this machine by."""
    addresses: list[str] = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent: the system only chooses an address of its own
        addresses.append(probe.getsockname()[0])
    return [*addresses, socket.gethostname()]
