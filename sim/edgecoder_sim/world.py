"""A world: the nodes of a scenario on one kernel, their links, and what their users do.

It puts the pieces together and runs them; each piece is described where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from edgecoder.core.effects import Advertise, FetchFile, HashFile
from edgecoder.core.ids import LinkId, Medium, OpId, Role
from edgecoder.core.node import Node
from edgecoder_sim.battery import Battery
from edgecoder_sim.cdn import CdnService
from edgecoder_sim.contacts import LinkedContacts
from edgecoder_sim.host import SimNode
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.lives import Lives
from edgecoder_sim.network import Access, IpLink
from edgecoder_sim.population import Place, Population
from edgecoder_sim.radio import BleLink, advertise, pairs_in_range, stand
from edgecoder_sim.scenario_model import Scenario, Source
from edgecoder_sim.tables import NodeRow
from edgecoder_sim.watch import Checker, TraceSink, Watch
from edgecoder_sim.workload import Workload

WALL_START_MS = 1_767_258_000_000
"""Unix time at the start of every simulation: 2026-01-01 09:00 UTC."""
BOOT_US = 1_000_000
"""Nodes start at uniform times in the first second,"""
LINKS_UP_US = 2_000_000
"""their links come up in the one after that."""
FEDERATION_DEGREE = 5
"""Coordinators that one tells of its summary (protocol: an active view of 5 peers)."""
POWER_PERIOD_US = 60_000_000
"""How often batteries are looked at."""


class World:
    """Everything that a scenario describes, ready to run."""

    def __init__(self, scenario: Scenario, checkers: Sequence[Checker] = ()) -> None:
        self.scenario = scenario
        self.kernel = Kernel(scenario.tick_us)
        self.watch = Watch(self.kernel, checkers)
        self._link_count = 0
        self._lives = Lives(self.kernel, self._next_link)
        self._cdn = CdnService(self.kernel, scenario.cdn)
        population = Population(scenario, self._make_host)
        self.phones = list(population.members(Role.PHONE, scenario.phones))
        self.agents = list(population.members(Role.AGENT, scenario.agents))
        self.coordinators = list(population.coordinators())
        self.members = self.phones + self.agents
        self.nodes: list[SimNode] = [place.sim for place in self.members] + self.coordinators
        for sim in self.nodes:
            self.kernel.call_at(sim.stream("boot").below(BOOT_US), _start, sim)
        self._plug_in()
        self.contacts = LinkedContacts(scenario.radio, self._link_radios)
        self.positions = self._stand()
        for place in self.members:
            if place.charge_pct is not None:
                self._watch_battery(place)

    def describe(self) -> list[NodeRow]:
        """One row a node, for the table of nodes."""
        return [self._describe(place.sim, place) for place in self.members] + [
            self._describe(sim, None) for sim in self.coordinators
        ]

    def start_users(self, sink: TraceSink) -> None:
        """Record what happens, and let the users act."""
        self.watch.sink = sink
        workload = Workload(self.kernel, self.scenario.rng_seed, sink)
        places = {Source.PHONES: self.phones, Source.AGENTS: self.agents, Source.ALL: self.members}
        for tasks in self.scenario.workload.tasks:
            workload.start_tasks(tasks, places[tasks.source])
        for swaps in self.scenario.workload.swaps:
            workload.start_swaps(swaps, places[swaps.source])

    @property
    def events(self) -> int:
        """Events that the nodes have handled."""
        return sum(sim.events for sim in self.nodes)

    # -- services of the hosts -----------------------------------------------------------------------------------------

    def advertise(self, node: SimNode, effect: Advertise, depart_us: int) -> None:
        """See `host.Services`."""
        advertise(node, effect, depart_us)

    def fetch(self, node: SimNode, effect: FetchFile) -> None:
        """See `host.Services`."""
        self._cdn.fetch(node, effect)

    def hash_file(self, node: SimNode, effect: HashFile) -> None:
        """See `host.Services`."""
        self._cdn.hash_file(node, effect)

    def cancel(self, node: SimNode, op: OpId) -> None:
        """See `host.Services`."""
        self._cdn.cancel(node, op)

    def died(self, node: SimNode, told_us: int | None) -> None:
        """See `host.Services`."""
        self._cdn.forget(node)
        self._lives.ended(node, told_us)

    def started(self, node: SimNode) -> None:
        """See `host.Services`."""
        self._lives.began(node)
        if node.index < len(self.members):
            node.post(self.members[node.index].power())

    # -- building ------------------------------------------------------------------------------------------------------

    def _make_host(self, index: int, name: str, node: Node, device_name: str) -> SimNode:
        device, rng_seed = self.scenario.devices[device_name], self.scenario.rng_seed
        return SimNode(self.kernel, self, self.watch, index, name, node, device, device_name, rng_seed)

    def _home(self, index: int) -> SimNode | None:
        """The coordinator of a node: they take turns."""
        return self.coordinators[index % len(self.coordinators)] if self.coordinators else None

    def _plug_in(self) -> None:
        """Access to the CDN for every node, and links over IP: every node to its home coordinator, and the coordinators
        among each other."""
        scenario, networks = self.scenario, self.scenario.networks
        hubs = {sim.index: Access(sim, networks[scenario.coordinators.network]) for sim in self.coordinators}
        for places, name in ((self.phones, scenario.phones.network), (self.agents, scenario.agents.network)):
            for place in places:
                sim, network, home = place.sim, networks[name], self._home(place.sim.index)
                self._cdn.connect(sim, network)
                if home is not None:
                    ends = ((sim, Access(sim, network)), (home, hubs[home.index]))
                    self._open(IpLink(self._next_link(), Medium.LAN, *ends))
        if len(self.coordinators) > 1:
            network = networks[scenario.coordinators.federation_network]
            ports = [(sim, Access(sim, network)) for sim in self.coordinators]
            for i, j in federation(len(self.coordinators)):
                self._open(IpLink(self._next_link(), Medium.WAN, ports[i], ports[j]))

    def _stand(self) -> dict[int, tuple[float, float]]:
        """Contacts between those that stand near each other; the positions, by node index."""
        radio = self.scenario.radio
        bearers = [place.sim for place in self.members if place.sim.node.setup.config.has_radio]
        positions = [stand(radio, sim.stream("position")) for sim in bearers]
        for i, j, distance_m in pairs_in_range(positions, radio.range_m):
            self.contacts.contact_begins(bearers[i], bearers[j], distance_m)
        return {sim.index: position for sim, position in zip(bearers, positions, strict=True)}

    def _link_radios(self, a: SimNode, b: SimNode, distance_m: float) -> BleLink:
        link = BleLink(self._next_link(), a, b, self.scenario.radio, distance_m)
        self._open(link)
        return link

    def _next_link(self) -> LinkId:
        self._link_count += 1
        return self._link_count

    def _open(self, link: IpLink | BleLink) -> None:
        delay_us = link.first.stream(f"link to {link.second.name}").below(LINKS_UP_US)
        self.kernel.call_at(max(BOOT_US, self.kernel.now) + delay_us, self._lives.open, link)

    def _watch_battery(self, place: Place) -> None:
        battery = Battery(place, POWER_PERIOD_US)
        offset_us = LINKS_UP_US + place.sim.stream("power").below(POWER_PERIOD_US)
        self.kernel.call_at(0, _tell_power, place)
        self.kernel.every(POWER_PERIOD_US, offset_us, _drain_battery, battery)

    def _describe(self, sim: SimNode, place: Place | None) -> NodeRow:
        position = self.positions.get(sim.index)
        home = self._home(sim.index) if place is not None else None
        return NodeRow(
            index=sim.index,
            name=sim.name,
            node_id=sim.node_id,
            role=sim.node.setup.role.value,
            device=sim.device_name,
            memory_mb=sim.device.memory_mb,
            x_m=None if position is None else position[0],
            y_m=None if position is None else position[1],
            home=None if home is None else home.index,
            model=None if place is None or place.first is None else place.first.model_id,
        )


def federation(count: int) -> list[tuple[int, int]]:
    """Which coordinators are linked: all pairs of up to six, else a ring with its second neighbours, so that none tells
    more than FEDERATION_DEGREE others."""
    if count <= FEDERATION_DEGREE + 1:
        return [(i, j) for i in range(count) for j in range(i + 1, count)]
    return sorted((min(i, j), max(i, j)) for i, j in nx.circulant_graph(count, [1, 2]).edges)


def _start(sim: SimNode, _: object) -> None:
    sim.start(WALL_START_MS)


def _tell_power(place: Place, _: object) -> None:
    place.sim.post(place.power())


def _drain_battery(battery: Battery, _: object) -> None:
    battery.drain()
