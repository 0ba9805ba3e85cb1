"""Who lives in a world: the nodes of a scenario, with the device, the files and the first model that each has drawn.

Each group draws from a stream of its own, in the order of its nodes, so that more phones leave the agents as they are.

Fidelity boundary: device, files and first model are independent draws: no team buys one kind of phone, and nobody keeps
a model because a colleague does. When somebody is there is left to `presence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import msgspec

from edgecoder.core.events import PowerChanged
from edgecoder.core.ids import Role
from edgecoder.core.node import Node, Setup
from edgecoder.core.rng import Stream
from edgecoder.mesh.member import Member
from edgecoder.models.admission import fits
from edgecoder.models.catalog import Catalog, CatalogEntry, Platform
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, FileRow, encode_rows
from edgecoder.models.swap import KEY as SWAP_KEY
from edgecoder.models.swap import SwapJournal
from edgecoder_sim.conduct import Conduct
from edgecoder_sim.crypto import crypto, node_id
from edgecoder_sim.host import SimNode
from edgecoder_sim.scenario_model import Group, Scenario, Wire

T = TypeVar("T")
MakeHost = Callable[[int, str, Node, str], SimNode]
"""Puts a node on a machine: index, name, node, name of the device."""


class Place:
    """A phone or an agent, as its user sees it."""

    __slots__ = (
        "battery_pct",
        "catalog",
        "charge_pct",
        "conduct",
        "files",
        "first",
        "is_empty",
        "is_plugged",
        "network",
        "platform",
        "role",
        "sim",
    )

    def __init__(self, sim: SimNode, role: Role, catalog: Catalog, charge_pct: float | None, network: str) -> None:
        self.sim = sim
        self.role = role
        self.network = network
        """Name of its access network."""
        self.catalog = catalog
        self.platform: Platform = sim.device.platform
        self.charge_pct = charge_pct
        """Charge of the battery, percent; None on mains power."""
        self.battery_pct = 100 if charge_pct is None else round(charge_pct)
        """What the node was told last."""
        self.is_plugged = charge_pct is None
        """Whether it is on external power."""
        self.is_empty = False
        """Whether its battery does not carry it."""
        self.conduct = Conduct.HONEST
        """How it behaves towards others."""
        self.first: CatalogEntry | None = None
        """The model that it starts with."""
        self.files: frozenset[str] = frozenset()
        """SHA-256 of the files that it has at first."""

    def find(self, name: str) -> CatalogEntry | None:
        """The file that a name means here."""
        return self.catalog.find(name, self.platform)

    def has(self, entry: CatalogEntry) -> bool:
        """Whether the file is installed here."""
        member = self._member()
        return member is not None and member.inventory.state(entry) is DownloadState.INSTALLED

    def fits(self, entry: CatalogEntry) -> bool:
        """Whether the file runs here: right platform, enough memory."""
        return fits(entry, self.platform, self.sim.node.setup.config) is None

    def active(self) -> CatalogEntry | None:
        """The model that is active here."""
        member = self._member()
        return None if member is None else member.swap.active

    def power(self) -> PowerChanged:
        """What the battery says now."""
        return PowerChanged(self.battery_pct, self.is_plugged)

    def _member(self) -> Member | None:
        part = self.sim.node.part
        return part if isinstance(part, Member) else None


class Population:
    """Makes the nodes of a scenario."""

    def __init__(self, scenario: Scenario, make_host: MakeHost) -> None:
        self._scenario = scenario
        self._catalog = scenario.models()
        self._make_host = make_host
        self._cluster = scenario.cluster_config()
        self._count = 0

    def members(self, role: Role, group: Group) -> Iterator[Place]:
        """The nodes of a group."""
        stream = Stream(self._scenario.rng_seed, b"", f"sim.population.{role.value}")
        hidden = self._hidden(role, group)
        conducts = self._shuffled("conduct", role, parts(group.conduct, group.count))
        networks = self._shuffled("network", role, parts(group.access, group.count))
        for number in range(group.count):
            name = f"{role.value}-{number}"
            device = weighted(stream, group.devices)
            assert device is not None, "a group whose weights are all zero is refused with its scenario"
            sim = self._host(name, role, device, networks[number], is_dialable=number not in hidden)
            charge = sim.device.battery_pct and _between(stream, sim.device.battery_pct)
            place = Place(sim, role, self._catalog, charge, networks[number])
            self._fill_disk(place, group, stream)
            if conducts:
                place.conduct = conducts[number]
            if place.conduct is Conduct.LIAR:
                self._claim_all(place)
            yield place

    def _shuffled(self, what: str, role: Role, kinds: list[T]) -> list[T]:
        """The kinds of a group's nodes, in a drawn order."""
        return Stream(self._scenario.rng_seed, b"", f"sim.{what}.{role.value}").shuffled(kinds)

    def _hidden(self, role: Role, group: Group) -> frozenset[int]:
        """Which nodes of a group nobody can dial: a whole number of them, by lot."""
        count = round(group.count * (1 - group.dialable))
        if not count:
            return frozenset()
        stream = Stream(self._scenario.rng_seed, b"", f"sim.dialable.{role.value}")
        return frozenset(stream.shuffled(list(range(group.count)))[:count])

    def _claim_all(self, place: Place) -> None:
        """The disk of a liar says that every file is there."""
        rows = {
            entry.sha256: FileRow(DownloadState.INSTALLED, entry.file_size_bytes)
            for entry in self._catalog.entries
            if entry.piece_root
        }
        kept = msgspec.msgpack.decode(place.sim.disk[INVENTORY_KEY], type=dict[str, FileRow])
        place.sim.disk[INVENTORY_KEY] = encode_rows(kept | rows)

    def coordinators(self) -> Iterator[SimNode]:
        """The coordinators."""
        group = self._scenario.coordinators
        for number in range(group.count):
            yield self._host(f"coordinator-{number}", Role.COORDINATOR, group.device, group.network)

    def _host(self, name: str, role: Role, device_name: str, network: str, *, is_dialable: bool = True) -> SimNode:
        scenario = self._scenario
        device = scenario.devices[device_name]
        config = scenario.node_config(role, device, network if role is not Role.COORDINATOR else "")
        if not is_dialable:
            config = msgspec.structs.replace(config, transfer_dialable=False)
        setup = Setup(
            role=role,
            cluster=self._cluster,
            config=config,
            catalog=self._catalog,
            platform=device.platform,
            languages=device.languages,
        )
        encoded = scenario.wire is Wire.ENCODED
        signer, verifier = crypto(node_id(name), scenario.config.cluster.network_id, encoded=encoded)
        index, self._count = self._count, self._count + 1
        return self._make_host(index, name, Node(setup, signer, verifier, scenario.rng_seed), device_name)

    def _fill_disk(self, place: Place, group: Group, stream: Stream) -> None:
        """Put the files that a node has drawn on its disk, and the model that it starts with."""
        rows: dict[str, FileRow] = {}
        for name, probability in group.installed.items():
            has = stream.uniform() < probability
            entry = place.find(name)
            if has and entry is not None and self._scenario.fits(entry, place.role, place.sim.device):
                rows[entry.sha256] = FileRow(DownloadState.INSTALLED, entry.file_size_bytes)
                place.sim.storage.furnish(entry)
        choices: dict[str, float] = {}
        for name, weight in group.active.items():
            entry = place.find(name)
            if entry is not None and entry.sha256 in rows:
                choices[name] = weight
        first = weighted(stream, choices)
        place.first = None if first is None else place.find(first)
        place.files = frozenset(rows)
        place.sim.disk[INVENTORY_KEY] = encode_rows(rows)
        if place.first is not None:
            place.sim.disk[SWAP_KEY] = msgspec.msgpack.encode(SwapJournal(place.first.sha256))


def parts(weights: Mapping[T, float], count: int) -> list[T]:
    """What each of `count` nodes is: whole numbers of nodes, as near to their weights as can be (largest remainders);
    empty where there are no weights."""
    total = sum(weights.values())
    if total <= 0:
        return []
    wanted = {kind: count * weight / total for kind, weight in weights.items()}
    counts = {kind: int(share) for kind, share in wanted.items()}
    rest = sorted(wanted, key=lambda kind: counts[kind] - wanted[kind])
    for kind in rest[: count - sum(counts.values())]:
        counts[kind] += 1
    return [kind for kind, number in counts.items() for _ in range(number)]


def weighted(stream: Stream, weights: dict[T, float]) -> T | None:
    """One key, each as likely as its weight; None of an empty mapping or one of zeros."""
    total = sum(weights.values())
    if total <= 0:
        return None
    point = stream.uniform() * total
    for key, weight in weights.items():
        point -= weight
        if point < 0:
            return key
    return next(key for key in reversed(weights) if weights[key] > 0)


def _between(stream: Stream, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return low + stream.uniform() * (high - low)
