"""A world: the nodes of a scenario on one kernel, their links, and what their users do.

It puts the pieces together and runs them; each piece is described where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgecoder.core.effects import Advertise, Connect, DialCoordinator, Disconnect, FetchFile, HashFile, Scan
from edgecoder.core.events import AccessChanged, Connected, ConnectFailed
from edgecoder.core.ids import LinkId, Medium, OpId, Role
from edgecoder.core.node import Node
from edgecoder.core.rng import Stream
from edgecoder.errors import Reason
from edgecoder_sim.battery import Battery
from edgecoder_sim.cdn import CdnService
from edgecoder_sim.contacts import Bluetooth, BringUp, LinkedContacts
from edgecoder_sim.faults.draw import resolve
from edgecoder_sim.faults.nodes import Ether, FaultyNode
from edgecoder_sim.faults.schedule import Schedule
from edgecoder_sim.file_tables import FileRow
from edgecoder_sim.host import Link, SimNode
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.lives import Lives
from edgecoder_sim.network import Access, IpLink
from edgecoder_sim.people import People
from edgecoder_sim.people_model import Stay
from edgecoder_sim.pieces import PieceService
from edgecoder_sim.population import Place, Population
from edgecoder_sim.presence import Presence
from edgecoder_sim.radio import Antennas, BleLink
from edgecoder_sim.scanning import Air, Scanning
from edgecoder_sim.scenario_model import Scenario, Source
from edgecoder_sim.tables import NodeRow
from edgecoder_sim.topology import federation
from edgecoder_sim.uptime import Uptime
from edgecoder_sim.watch import Checker, TraceSink, Watch
from edgecoder_sim.workload import Workload

WALL_START_MS = 1_767_258_000_000
"""Unix time at the start of every simulation: 2026-01-01 09:00 UTC."""
BOOT_US = 1_000_000
"""Nodes start at uniform times in the first second,"""
LINKS_UP_US = 2_000_000
"""their links come up in the one after that."""
POWER_PERIOD_US = 60_000_000
"""How often batteries are looked at."""


class World:
    """Everything that a scenario describes, ready to run."""

    def __init__(self, scenario: Scenario, checkers: Sequence[Checker] = (), reproduce: str = "") -> None:
        """`reproduce` is the command that runs the same again."""
        self.scenario = scenario = resolve(scenario)
        self._ether = Ether()
        self.faulty: list[FaultyNode] = []
        """The nodes of a world with faults."""
        self.kernel = Kernel(scenario.tick_us)
        self.watch = Watch(self.kernel, checkers, scenario.rng_seed, reproduce)
        self._link_count = 0
        self._access: dict[int, Access] = {}
        """Access networks by the index of their node."""
        self._lives = Lives(self.kernel, self._next_link)
        self.cdn = CdnService(self.kernel, scenario.cdn)
        self.pieces = PieceService(self.kernel, self.cdn)
        population = Population(scenario, self._make_host)
        self.phones = list(population.members(Role.PHONE, scenario.phones))
        self.agents = list(population.members(Role.AGENT, scenario.agents))
        self.coordinators = list(population.coordinators())
        self.members = self.phones + self.agents
        self.nodes: list[SimNode] = [place.sim for place in self.members] + self.coordinators
        for sim in self.nodes:
            self.kernel.call_at(sim.stream("boot").below(BOOT_US), _start, sim)
        self._plug_in()
        self.antennas = Antennas(scenario.radio, scenario.systems)
        self.contacts = self._radios()
        self.people = People(scenario, self.kernel, self.members, self.contacts)
        self.uptime = Uptime(self.kernel, self.wall_ms)
        self._presence = Presence(self.kernel, self.uptime)
        for places, stay in ((self.phones, scenario.presence.phones), (self.agents, scenario.presence.agents)):
            self._presence.begin(places, stay, scenario.day)
            for place in places:
                self.kernel.call_at(0, self._tell_surroundings, place)
                if place.charge_pct is not None:
                    self._watch_battery(place, stay)
        self.schedule = Schedule(self, self._ether, scenario.rng_seed, scenario.faults.plan)

    def describe(self) -> list[NodeRow]:
        """One row a node, for the table of nodes."""
        return [self._describe(place.sim, place) for place in self.members] + [
            self._describe(sim, None) for sim in self.coordinators
        ]

    def describe_files(self) -> list[FileRow]:
        """One row a file of the catalog, for the table of files."""
        rows = []
        for entry in self.scenario.models().entries:
            layout = entry.layout
            holders = tuple(place.sim.index for place in self.members if entry.sha256 in place.files)
            sizes = (layout.file_size_bytes, layout.piece_size_bytes, layout.piece_count)
            rows.append(FileRow(entry.model_id, *sizes, holders))
        return rows

    def start_users(self, sink: TraceSink) -> None:
        """Record what happens, and let the users act."""
        self.watch.sink = sink
        workload = Workload(self.kernel, self.scenario.rng_seed, sink, self.scenario.workload.until_s)
        self._presence.next_command = workload.next_command
        places = {Source.PHONES: self.phones, Source.AGENTS: self.agents, Source.ALL: self.members}
        for tasks in self.scenario.workload.tasks:
            workload.start_tasks(tasks, places[tasks.source])
        for swaps in self.scenario.workload.swaps:
            workload.start_swaps(swaps, places[swaps.source])
        for pulls in self.scenario.workload.pulls:
            workload.start_pulls(pulls, places[pulls.source])
        for removals in self.scenario.workload.removals:
            workload.start_removals(removals, places[removals.source])

    def open_links(self) -> dict[str, int]:
        """Links that are open, by medium."""
        counts = {medium.value: 0 for medium in Medium}
        for sim in self.nodes:
            for link in sim.links.values():
                counts[link.medium.value] += link.first is sim
        return counts

    @property
    def events(self) -> int:
        """Events that the nodes have handled."""
        return sum(sim.events for sim in self.nodes)

    # -- services of the hosts -----------------------------------------------------------------------------------------

    def advertise(self, node: SimNode, effect: Advertise, depart_us: int) -> None:
        """See `host.Services`."""
        self.contacts.advertise(node, effect, depart_us)

    def scan(self, node: SimNode, effect: Scan) -> None:
        """See `host.Services`."""
        self.contacts.scan(node, effect)

    def connect(self, node: SimNode, effect: Connect) -> None:
        """See `host.Services`."""
        self.contacts.connect(node, effect)

    def disconnect(self, node: SimNode, effect: Disconnect) -> None:
        """See `host.Services`."""
        self.contacts.disconnect(node, effect)

    def fetch(self, node: SimNode, effect: FetchFile) -> None:
        """See `host.Services`."""
        self.cdn.fetch(node, effect)

    def hash_file(self, node: SimNode, effect: HashFile) -> None:
        """See `host.Services`."""
        self.cdn.hash_file(node, effect)

    def dial_coordinator(self, node: SimNode, effect: DialCoordinator) -> None:
        """See `host.Services`."""
        hub = next((hub for hub in self.coordinators if hub.node_id == effect.coordinator), None)
        access = self._access.get(node.index)
        if hub is None or access is None or not hub.is_up:
            node.post_at(self.kernel.now + LINKS_UP_US, ConnectFailed(effect.op, Reason.PEER_LOST))
            return
        link = IpLink(self._next_link(), Medium.LAN, (node, access), (hub, self._access[hub.index]))
        at_us = self.kernel.now + 3 * (access.latency_us + self._access[hub.index].latency_us)  # TCP and TLS
        self.kernel.call_at(at_us, self._lives.open, link)
        node.post_at(at_us, Connected(effect.op, link.id))

    def cancel(self, node: SimNode, op: OpId) -> None:
        """See `host.Services`."""
        self.cdn.cancel(node, op)
        self.pieces.cancel(node, op)
        self.contacts.cancel(node, op)

    def died(self, node: SimNode, told_us: int | None) -> None:
        """See `host.Services`."""
        self.cdn.forget(node)
        self.pieces.died(node)
        self.contacts.died(node, told_us)
        self._lives.ended(node, told_us)

    def started(self, node: SimNode) -> None:
        """See `host.Services`."""
        self._lives.began(node)
        self.contacts.started(node)
        if node.index < len(self.members):
            self._tell_surroundings(self.members[node.index], None)

    # -- building ------------------------------------------------------------------------------------------------------

    def _make_host(self, index: int, name: str, node: Node, device_name: str) -> SimNode:
        device, rng_seed = self.scenario.devices[device_name], self.scenario.rng_seed
        machine = (self.kernel, self, self.watch, index, name, node, device, device_name, rng_seed)
        if not self.scenario.faults.plan:
            return SimNode(*machine)
        sim = FaultyNode(*machine)
        sim.prepare(self._ether)
        self.faulty.append(sim)
        return sim

    def ether_changed(self) -> None:
        """See `faults.schedule.Struck`."""
        self.contacts.ether_changed()

    def wall_ms(self, sim: SimNode) -> int:
        """What the wall clock of a node shows, Unix time."""
        error_ms = sim.clock_ms if isinstance(sim, FaultyNode) else 0
        return max(0, WALL_START_MS + self.kernel.now // 1000 + error_ms)

    def _homes(self, index: int) -> list[SimNode]:
        """The coordinators that a node has links to, its home first. They take turns (with buildings, those of a
        building have one home), and the nodes of one home have different spares, so that its fall is shared."""
        hubs = self.coordinators
        count = len(hubs)
        if not hubs:
            return []
        spares = min(self.scenario.coordinators.spares, count - 1)
        first = index // count % (count - 1) if spares > 0 else 0
        others = [1 + (first + number) % (count - 1) for number in range(spares)]
        buildings = self.scenario.buildings
        turn = index if buildings is None else index % buildings.count
        return [hubs[(turn + step) % count] for step in (0, *others)]

    def _plug_in(self) -> None:
        """Access to the CDN for every node, and links over IP: every node to its home coordinator and its spares, and
        the coordinators among each other."""
        scenario, networks = self.scenario, self.scenario.networks
        hubs = {sim.index: Access(sim, networks[scenario.coordinators.network], "lan") for sim in self.coordinators}
        self._access |= hubs
        for place in self.members:
            sim, network = place.sim, networks[place.network]
            self.cdn.connect(sim, network)
            self.pieces.connect(sim, place.conduct)
            access = self._access[sim.index] = Access(sim, network, "lan")
            for number, hub in enumerate(self._homes(sim.index)):
                ends = ((sim, access), (hub, hubs[hub.index]))
                self._open(IpLink(self._next_link(), Medium.LAN, *ends), after_us=number * LINKS_UP_US)
        if len(self.coordinators) > 1:
            network = networks[scenario.coordinators.federation_network]
            ports = [(sim, Access(sim, network, "wan")) for sim in self.coordinators]
            stream = Stream(scenario.rng_seed, b"", "sim.federation")
            for i, j in federation(len(self.coordinators), scenario.coordinators.federation, stream):
                self._open(IpLink(self._next_link(), Medium.WAN, ports[i], ports[j]))

    def _radios(self) -> Bluetooth:
        radio = self.scenario.radio
        if radio.scanning:
            air = Air(radio, self.scenario.rng_seed, self._ether)
            return Scanning(self.kernel, self.nodes, self.antennas, air, self._next_link)
        return LinkedContacts(self.kernel, self.antennas, self._link_radios)

    def _link_radios(self, a: SimNode, b: SimNode, distance_m: float, bring_up: BringUp) -> BleLink:
        rssi_dbm = self.scenario.radio.rssi_dbm(distance_m)
        link = BleLink(self._next_link(), self.antennas, a, b, rssi_dbm)
        self.kernel.call_at(self._up_us(link), bring_up, link)
        return link

    def _next_link(self) -> LinkId:
        self._link_count += 1
        return self._link_count

    def _open(self, link: IpLink, after_us: int = 0) -> None:
        self.kernel.call_at(self._up_us(link) + after_us, self._lives.open, link)

    def _up_us(self, link: Link) -> int:
        delay_us = link.first.stream(f"link to {link.second.name}").below(LINKS_UP_US)
        return max(BOOT_US, self.kernel.now) + delay_us

    def _tell_surroundings(self, place: Place, _: object) -> None:
        """What a node's machine tells it at the begin of a life."""
        place.sim.post(place.power())
        if self.scenario.networks[place.network].metered:
            place.sim.post(AccessChanged(is_metered=True))

    def _watch_battery(self, place: Place, stay: Stay) -> None:
        battery = Battery(place, POWER_PERIOD_US, stay.charging, self.uptime)
        offset_us = LINKS_UP_US + place.sim.stream("power").below(POWER_PERIOD_US)
        self.kernel.every(POWER_PERIOD_US, offset_us, _drain_battery, battery)

    def _describe(self, sim: SimNode, place: Place | None) -> NodeRow:
        position = self.people.position(sim)
        homes = self._homes(sim.index) if place is not None else []
        return NodeRow(
            index=sim.index,
            name=sim.name,
            node_id=sim.node_id,
            role=sim.node.setup.role.value,
            device=sim.device_name,
            memory_mb=sim.device.memory_mb,
            x_m=None if position is None else position[0],
            y_m=None if position is None else position[1],
            home=homes[0].index if homes else None,
            model=None if place is None or place.first is None else place.first.model_id,
            up_bytes_per_s=self._access[sim.index].up_bytes_per_s,
            down_bytes_per_s=self._access[sim.index].down_bytes_per_s,
            system=self.antennas.of(sim).system_name if sim.node.setup.config.links_max else None,
            holds=() if place is None else _held(place),
        )


def _held(place: Place) -> tuple[str, ...]:
    """Models whose file a node has at first."""
    return tuple(entry.model_id for entry in place.catalog.entries if entry.sha256 in place.files)


def _start(sim: SimNode, _: object) -> None:
    if sim.life == 1:  # else it was away at first, and comes when its person does
        sim.start(WALL_START_MS)


def _drain_battery(battery: Battery, _: object) -> None:
    battery.drain()
