"""What tests of neighbours are made of: a phone that hears, and puppets that answer when they are dialled."""

from __future__ import annotations

from typing import Any

from edgecoder.config import NodeConfig
from edgecoder.core.effects import Connect
from edgecoder.core.events import Event, Heard, LinkUp, PeersHeard
from edgecoder.core.ids import LinkId, Role
from edgecoder.wire.advertisement import Bits, short_generation
from edgecoder.wire.messages import Identity
from tests.harness import Cluster, Puppet
from tests.hosts import Host
from tests.strategies import capabilities

WINDOW = 1
"""Of the clock of a test, which begins with Unix time."""
LATE_TAG = b"\xff\xff\xff"
"""A stranger with it is dialled at once, since no tag is smaller."""


def bits(generation: int = 1, *, loading: bool = False, of: bytes = LATE_TAG) -> Bits:
    """What an advertisement says."""
    return Bits(loading=loading, generation=short_generation(generation), tag=of)


def hear(phone: Host, address: int, said: Bits | None, rssi_dbm: int = -60) -> None:
    """Let the radio tell of a device."""
    phone.take(PeersHeard((Heard(address, rssi_dbm, said),)))


def phone_of(cluster: Cluster, **config: object) -> Host:
    """A phone after its start."""
    phone = cluster.add("phone", config=NodeConfig(**config))  # type: ignore[arg-type]  # by name
    cluster.drive()
    return phone


def peer_at(cluster: Cluster, address: int, name: str = "peer") -> Speaker:
    """A puppet that says who it is and what it offers on every link."""
    peer = Speaker(cluster, name, Role.PHONE)
    cluster.put(peer, address)
    return peer


class Speaker(Puppet):
    """A puppet that greets on every new link, and tells its capabilities."""

    def __init__(self, cluster: Cluster, name: str, role: Role) -> None:
        super().__init__(cluster, name, role)
        self.generation = 1
        self.offer: dict[str, Any] = {}
        self.says_offer = True
        self.links: list[LinkId] = []

    def take(self, event: Event) -> None:
        """Greet on a new link."""
        super().take(event)
        if isinstance(event, LinkUp):
            self.links.append(event.link)
            device, digest = NodeConfig().device_type, self.cluster.config.digest()
            self.say(event.link, Identity(role=self.role, device_type=device, cluster_config_hash=digest))
            if self.says_offer:
                self.say(event.link, capabilities(self.node_id, self.generation, **self.offer))


def dials(phone: Host) -> list[int]:
    """Whom it has dialled so far."""
    return [effect.address for effect in phone.did(Connect)]
