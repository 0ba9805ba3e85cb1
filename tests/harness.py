"""The test host: nodes on one integer clock, with engines, disks and links that do as they are told.

A `Cluster` feeds its `Host`s with events, carries out their effects and records both; a `Puppet` is a node without a
core, that says what a test tells it to. Every operation ends exactly once, every effect and event passes the observers
of `invariants`, and a cluster that never comes to rest is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any, Final, TypeVar

import msgspec

from edgecoder.config import ClusterConfig, NodeConfig, server
from edgecoder.core.events import Event, FrameReceived, LinkDown, LinkUp
from edgecoder.core.ids import Address, LinkId, Medium, Micros, NodeId, Role
from edgecoder.core.node import Setup
from edgecoder.models.catalog import Catalog, CatalogEntry, Platform
from edgecoder.wire.envelope import Frame, Header, Signer
from edgecoder.wire.messages import NAMES, Identity, Message, TaskRequest, TaskResponse
from edgecoder_sim.crypto import crypto, node_id
from tests.catalogs import CATALOG
from tests.hosts import NEVER, Host
from tests.invariants import kind_of, message_of

DRIVE_EVENTS_MAX: Final = 20_000
LATENCY_US: Final[Micros] = 10_000
M = TypeVar("M", bound=Message)


class Livelock(AssertionError):
    """A cluster that was to come to rest went on and on."""


class Cable(msgspec.Struct):
    """A link between two ends."""

    ends: tuple[Host | Puppet, Host | Puppet]
    medium: Medium
    latency_us: Micros
    cut: bool = False
    """Frames get lost, and nobody is told."""

    def other(self, end: Host | Puppet) -> Host | Puppet:
        """The far end."""
        return self.ends[1] if end is self.ends[0] else self.ends[0]


class Carried(msgspec.Struct, frozen=True):
    """A frame that was put on a link."""

    at: Micros
    source: str
    target: str
    frame: Frame
    arrives: bool

    @property
    def kind(self) -> str:
        """The name of its message's type."""
        return kind_of(self.frame)

    @property
    def message(self) -> Message:
        """What is in it."""
        return message_of(self.frame)


class Puppet:
    """A node without a core: it identifies itself, says what it is told and remembers what it heard."""

    def __init__(self, cluster: Cluster, name: str, role: Role) -> None:
        self.cluster = cluster
        self.name = name
        self.role = role
        self.node_id: NodeId = node_id(name)
        self.epoch = 1
        self.seq = 0
        self.heard: list[Message] = []
        signer, self.verifier = crypto(self.node_id, cluster.config.network_id, encoded=cluster.encoded)
        self.signer: Signer = signer

    def seal(
        self,
        message: Message,
        *,
        seq: int | None = None,
        epoch: int | None = None,
        ttl_ms: int = 60_000,
        sender: NodeId | None = None,
        network_id: str | None = None,
    ) -> Frame:
        """An envelope; (epoch, seq) is the next one unless it is given, `sender` is this puppet unless it lies."""
        if seq is None:
            self.seq += 1
            seq = self.seq
        network = self.cluster.config.network_id if network_id is None else network_id
        header = Header(network, sender or self.node_id, self.epoch if epoch is None else epoch, seq, ttl_ms)
        return self.signer.seal(header, message)

    def say(self, link: LinkId, message: Message, **how: Any) -> Frame:
        """Send a message; `how` goes to `seal`. An answer is to the newest request for its task."""
        if isinstance(message, TaskResponse) and not message.attempt:
            asked = [request for request in self.all(TaskRequest) if request.task_id == message.task_id]
            message = msgspec.structs.replace(message, attempt=asked[-1].attempt) if asked else message
        frame = self.seal(message, **how)
        self.cluster.carry(self, link, frame)
        return frame

    def take(self, event: Event) -> None:
        """An event at this end of a link."""
        if isinstance(event, FrameReceived):
            self.heard.append(self.verifier.open(event.frame).message)

    def all(self, kind: type[M]) -> list[M]:
        """What was heard of one type, in order."""
        return [message for message in self.heard if isinstance(message, kind)]

    def last(self, kind: type[M]) -> M:
        """The newest message of a type."""
        return self.all(kind)[-1]


class _Rule(msgspec.Struct):
    kind: str
    times: int
    source: str | None
    target: str | None
    dropped: list[Carried] = msgspec.field(default_factory=list)


class Cluster:
    """Nodes, links and the clock."""

    def __init__(
        self,
        *,
        encoded: bool = False,
        rng_seed: int = 1,
        config: ClusterConfig | None = None,
        catalog: Catalog = CATALOG,
    ) -> None:
        self.encoded = encoded
        self.rng_seed = rng_seed
        self.config = config or ClusterConfig()
        self.catalog = catalog
        self.now: Micros = 0
        self.hosts: dict[str, Host] = {}
        self.cables: dict[LinkId, Cable] = {}
        self.carried: list[Carried] = []
        self.events = 0
        self.listening: dict[NodeId, Host] = {}
        """The coordinators that can be dialled."""
        self.at_address: dict[Address, Host | Puppet] = {}
        self._queue: list[tuple[Micros, int, Callable[[], None]]] = []
        self._order = 0
        self._links = 0
        self._rules: list[_Rule] = []

    # -- building ------------------------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        role: Role = Role.PHONE,
        *,
        config: NodeConfig | None = None,
        platform: Platform = Platform.IOS,
        languages: tuple[str, ...] = (),
        installed: Iterable[CatalogEntry] = (),
        active: CatalogEntry | None = None,
        start: bool = True,
    ) -> Host:
        """A node; `installed` and `active` are what its disk says of an earlier life."""
        setup = Setup(
            role=role,
            cluster=self.config,
            config=config or (server() if role is Role.COORDINATOR else NodeConfig()),
            catalog=self.catalog,
            platform=platform,
            languages=languages,
        )
        keys = crypto(node_id(name), self.config.network_id, encoded=self.encoded)
        host = self.hosts[name] = Host(self, name, setup, keys)
        host.furnish(installed, active)
        if start:
            host.start()
        return host

    def puppet(self, name: str, role: Role = Role.PHONE) -> Puppet:
        """A node that a test plays itself."""
        return Puppet(self, name, role)

    def link(
        self,
        a: Host | Puppet,
        b: Host | Puppet,
        medium: Medium = Medium.LAN,
        *,
        latency_us: Micros = LATENCY_US,
        rssi_dbm: int | None = None,
        identify: bool = True,
    ) -> LinkId:
        """Connect two nodes; a puppet says who it is unless `identify` is False."""
        self._links += 1
        link = self._links
        self.cables[link] = Cable((a, b), medium, latency_us)
        for end in (a, b):
            end.take(LinkUp(link, medium, rssi_dbm))
        for end in (a, b):
            if identify and isinstance(end, Puppet):
                role, device = end.role, self.config.digest()
                end.say(link, Identity(role=role, device_type=NodeConfig().device_type, cluster_config_hash=device))
        return link

    def put(self, end: Host | Puppet, address: Address) -> None:
        """Let a node stand at an address, where it can be dialled."""
        self.at_address[address] = end

    def connect(self, source: Host | Puppet, address: Address, medium: Medium = Medium.BLE) -> LinkId | None:
        """Open a link from device to device, to whoever stands at an address."""
        target = self.at_address.get(address)
        if target is None:
            return None
        self._links += 1
        link = self._links
        self.cables[link] = Cable((source, target), medium, LATENCY_US)
        places = {id(end): place for place, end in self.at_address.items()}
        for end, other in ((source, target), (target, source)):
            end.take(LinkUp(link, medium, -60, places.get(id(other))))
        return link

    def call(self, source: Host, coordinator: NodeId) -> LinkId | None:
        """Open a link to a coordinator that listens."""
        target = self.listening.get(coordinator)
        return None if target is None or target.node is None else self.link(source, target)

    def disconnect(self, link: LinkId) -> None:
        """Close a link when what is on its way over it has arrived."""
        cable = self.cables.get(link)
        if cable is not None:
            self.at(2 * cable.latency_us, lambda: self._close(link))

    def _close(self, link: LinkId) -> None:
        cable = self.cables.pop(link, None)
        if cable is not None:
            for end in cable.ends:
                end.take(LinkDown(link, lost=False))

    def unlink(self, link: LinkId) -> None:
        """Close a link; what is on its way over it is lost."""
        cable = self.cables.pop(link)
        for end in cable.ends:
            end.take(LinkDown(link))

    def links_of(self, end: Host | Puppet) -> list[LinkId]:
        """The links of a node that are up."""
        return [link for link, cable in self.cables.items() if end in cable.ends]

    def stop(self, host: Host, **how: Any) -> list[tuple[Host | Puppet, Medium]]:
        """Crash a node: its links go down at their other ends. Whom it was linked to; `how` goes to `Host.stop`."""
        links = self.links_of(host)
        old = [(self.cables[link].other(host), self.cables[link].medium) for link in links]
        host.stop(**how)
        for link in links:
            self.unlink(link)
        return old

    def restart(self, host: Host, **how: Any) -> None:
        """Crash a node and start it again with its disk; its links come back as new ones."""
        old = self.stop(host, **how)
        host.start()
        for other, medium in old:
            self.link(host, other, medium)

    # -- misfortune ----------------------------------------------------------------------------------------------------

    def drop(
        self, kind: type[Message], times: int = 1, *, source: Host | Puppet | None = None, target: Host | None = None
    ) -> list[Carried]:
        """Lose the next frames of a type; the list fills with those that were lost."""
        source_name = None if source is None else source.name
        rule = _Rule(NAMES[kind], times, source_name, None if target is None else target.name)
        self._rules.append(rule)
        return rule.dropped

    def partition(self, *group: Host | Puppet) -> None:
        """Lose every frame between a group and the others; all links stay up."""
        for cable in self.cables.values():
            inside = [end in group for end in cable.ends]
            cable.cut = cable.cut or inside[0] is not inside[1]

    def heal(self) -> None:
        """End every partition."""
        for cable in self.cables.values():
            cable.cut = False

    def lossless(self) -> None:
        """From here on every frame arrives."""
        self.heal()
        self._rules.clear()

    # -- carrying ------------------------------------------------------------------------------------------------------

    def carry(self, source: Host | Puppet, link: LinkId, frame: Frame) -> None:
        """Put a frame on a link."""
        cable = self.cables.get(link)
        if cable is None:
            return
        target = cable.other(source)
        carried = Carried(self.now, source.name, target.name, frame, not cable.cut)
        for rule in self._rules:
            ends = rule.source in (None, source.name) and rule.target in (None, target.name)
            if rule.times and ends and rule.kind == carried.kind:
                rule.times -= 1
                carried = msgspec.structs.replace(carried, arrives=False)
                rule.dropped.append(carried)
                break
        self.carried.append(carried)
        if carried.arrives:
            self.at(cable.latency_us, lambda: self._deliver(link, target, frame))

    def _deliver(self, link: LinkId, target: Host | Puppet, frame: Frame) -> None:
        if link in self.cables:
            target.take(FrameReceived(link, frame))

    def advertise(self, source: Host, frame: Frame) -> int:
        """Notify the peers that are connected by radio; how many there are."""
        near = [link for link in self.links_of(source) if self.cables[link].medium is Medium.BLE]
        for link in near:
            self.carry(source, link, frame)
        return len(near)

    def sent(self, kind: type[M], source: Host | Puppet | None = None, target: Host | Puppet | None = None) -> list[M]:
        """Every message of a type that was put on a link, arrived or not."""
        return [
            carried.message  # type: ignore[misc]  # its type was just looked at
            for carried in self.carried
            if carried.kind == NAMES[kind]
            and (source is None or carried.source == source.name)
            and (target is None or carried.target == target.name)
        ]

    # -- time ----------------------------------------------------------------------------------------------------------

    def at(self, delay_us: Micros, action: Callable[[], None]) -> None:
        """Do something later."""
        self._order += 1
        heappush(self._queue, (self.now + delay_us, self._order, action))

    def step(self, until: Micros = NEVER - 1) -> bool:
        """Jump to the next event and let it happen; False where nothing is to come by `until`."""
        waking = min((host for host in self.hosts.values()), key=lambda host: host.wake_at, default=None)
        wake = NEVER if waking is None else waking.wake_at
        due = self._queue[0][0] if self._queue else NEVER
        if min(due, wake) > until:
            return False
        self.now = max(self.now, min(due, wake))
        self.events += 1
        if due <= wake:
            heappop(self._queue)[2]()
        elif waking is not None:
            waking.wake()
        return True

    @property
    def is_at_rest(self) -> bool:
        """Nothing is on its way, and no node owes or is owed anything."""
        return not self._queue and not any(host.is_busy for host in self.hosts.values())

    def drive(self) -> None:
        """Jump from event to event until the cluster is at rest."""
        self.drive_bounded(DRIVE_EVENTS_MAX)

    def drive_bounded(self, events_max: int) -> int:
        """The same, refusing more than `events_max` events; how many there were."""
        for count in range(events_max + 1):
            if self.is_at_rest:
                return count
            if not self.step():
                raise Livelock("something is owed, and nothing is to come")
        raise Livelock(f"no rest after {events_max} events")

    def run_for(self, delay_ms: int) -> None:
        """Let everything happen that happens in so many milliseconds."""
        until = self.now + delay_ms * 1000
        while self.step(until):
            pass
        self.now = until

    def jump(self, delay_ms: int) -> None:
        """Let time pass while nothing happens: what was due comes late."""
        self.now += delay_ms * 1000


class Pair(Cluster):
    """A phone that asks and a laptop that serves, the link between them, and all at rest."""

    def __init__(
        self, serves: CatalogEntry, *, medium: Medium = Medium.LAN, encoded: bool = False, rng_seed: int = 1
    ) -> None:
        super().__init__(encoded=encoded, rng_seed=rng_seed)
        self.phone = self.add("phone")
        self.laptop = self.add("laptop", Role.AGENT, installed=[serves], active=serves)
        self.between = self.link(self.phone, self.laptop, medium)
        self.drive()
