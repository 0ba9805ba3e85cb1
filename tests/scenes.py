"""A phone whose user asks, and peers and a coordinator that a test plays."""

from __future__ import annotations

from typing import Any

from edgecoder.config import NodeConfig, Routing
from edgecoder.core.ids import LinkId, Medium, Role
from edgecoder.models.catalog import CatalogEntry
from edgecoder.wire.messages import (
    Heartbeat,
    HeartbeatAck,
    Load,
    Probe,
    ProbeReply,
    ResponseStatus,
    TaskRequest,
    TaskResponse,
)
from tests.harness import Cluster, Puppet
from tests.hosts import Host
from tests.strategies import capabilities


class Scene:
    """A phone without a model, and peers that a test plays."""

    def __init__(self, cluster: Cluster, *, active: CatalogEntry | None = None, **config: object) -> None:
        """It routes by cost unless `config` says otherwise: then a test has to play the answers to probes too."""
        settings: dict[str, object] = {"routing": Routing.COST} | config
        self.cluster = cluster
        own = NodeConfig(**settings)  # type: ignore[arg-type]  # by name
        installed = [] if active is None else [active]
        self.phone: Host = cluster.add("phone", config=own, installed=installed, active=active)
        self.links: dict[str, LinkId] = {}
        cluster.drive()

    def peer(self, name: str, load: Load | None = None, *, medium: Medium = Medium.LAN, **fields: object) -> Puppet:
        """A laptop in reach that serves `small`."""
        puppet = self.cluster.puppet(name)
        self.links[name] = self.cluster.link(puppet, self.phone, medium=medium)
        puppet.say(self.links[name], capabilities(puppet.node_id, 1, load, **fields))
        self.cluster.run_for(15)
        return puppet

    def coordinator(self) -> Puppet:
        """A coordinator that answers heartbeats."""
        puppet = self.cluster.puppet("hub", Role.COORDINATOR)
        link = self.links["hub"] = self.cluster.link(puppet, self.phone)
        self.cluster.run_for(25)
        assert puppet.all(Heartbeat)
        seq = self.phone.alive.context.seq
        puppet.say(link, HeartbeatAck(epoch=1, seq=seq, coordinator_time_ms=0, known=True))
        self.cluster.run_for(15)
        assert self.phone.member.heartbeat.is_online
        return puppet

    def ask(self, **fields: Any) -> int:
        """Submit a task and let the first request arrive."""
        command = self.phone.submit(**fields)
        self.cluster.run_for(15)
        return command

    def offer(self, puppet: Puppet, **fields: object) -> None:
        """Answer the newest probe that a peer heard."""
        probe = puppet.last(Probe)
        given = {"tokens_per_s": 30, "hold_ms": 2_000} | fields
        puppet.say(self.links[puppet.name], ProbeReply(task_id=probe.task_id, **given))  # type: ignore[arg-type]
        self.cluster.run_for(25)

    def say(self, puppet: Puppet, status: ResponseStatus, index: int, **fields: object) -> None:
        """Answer the newest request that a peer heard."""
        request = puppet.last(TaskRequest)
        response = TaskResponse(task_id=request.task_id, status=status, index=index, **fields)  # type: ignore[arg-type]
        puppet.say(self.links[puppet.name], response)
        self.cluster.run_for(25)
