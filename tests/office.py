"""A coordinator, somebody who asks, and agents and other coordinators that a test plays."""

from __future__ import annotations

from edgecoder.config import NodeConfig
from edgecoder.core.ids import LinkId, Role
from edgecoder.wire.messages import Load, ModelAvailability, ResponseStatus, Summary, TaskResponse
from tests.harness import Cluster, Puppet
from tests.hosts import Host
from tests.strategies import full_heartbeat, response, task_request


class Office:
    """A coordinator, somebody who asks, and agents that a test plays."""

    def __init__(self, cluster: Cluster, **config: object) -> None:
        self.cluster = cluster
        settings: dict[str, object] = {"has_radio": False} | config
        self.hub: Host = cluster.add("hub", Role.COORDINATOR, config=NodeConfig(**settings))  # type: ignore[arg-type]
        cluster.drive()
        self.links: dict[str, LinkId] = {}
        self.asker = self.join(cluster.puppet("asker"))

    def join(self, puppet: Puppet) -> Puppet:
        """Somebody comes."""
        self.links[puppet.name] = self.cluster.link(puppet, self.hub)
        self.cluster.run_for(15)
        return puppet

    def agent(self, name: str, load: int = 0, model: str = "small", size: float = 1.5) -> Puppet:
        """An agent that serves a model."""
        puppet = self.join(self.cluster.puppet(name, Role.AGENT))
        puppet.say(self.links[name], full_heartbeat(model, size, Load.of(load)))
        self.cluster.run_for(15)
        return puppet

    def coordinator(self, name: str, free: int = 1, model: str = "small") -> Puppet:
        """Another coordinator whose agents serve a model."""
        puppet = self.join(self.cluster.puppet(name, Role.COORDINATOR))
        offer = {model: ModelAvailability(1, 1.5, 0.0, free)}
        puppet.say(self.links[name], Summary(coordinator_id=puppet.node_id, agent_count=1, model_availability=offer))
        self.cluster.run_for(15)
        return puppet

    def ask(self, **fields: object) -> None:
        """Send a request and let it be passed on."""
        self.asker.say(self.links["asker"], task_request(**fields))
        self.cluster.run_for(25)

    def say(self, puppet: Puppet, status: ResponseStatus, index: int, **fields: object) -> None:
        """Answer it."""
        puppet.say(self.links[puppet.name], response(status, index, **fields))
        self.cluster.run_for(25)

    @property
    def answers(self) -> list[TaskResponse]:
        """What came back to who asked."""
        return self.asker.all(TaskResponse)
