"""Relations between the values of a scenario: what no type can say.

Decides whether a scenario can be simulated as written; a mistake is a ConfigError at the line of the value that has to
change. The order is that of the file: machines and models, groups, workload, configuration, then the world as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from edgecoder.config import NodeConfig
from edgecoder.core.ids import Role
from edgecoder.errors import ConfigError
from edgecoder.models.catalog import Catalog, CatalogEntry, Platform
from edgecoder.yamlio.document import Document
from edgecoder.yamlio.explain import Where, one_of
from edgecoder_sim.bandwidth import QUANTUM_US
from edgecoder_sim.check_words import KEYS, role_devices, weights
from edgecoder_sim.faults.checks import check_faults
from edgecoder_sim.profiles import DEVICES
from edgecoder_sim.scenario_model import (
    DEVICE_DECIDES,
    NODES_MAX,
    PLATFORM_OF,
    Group,
    Scenario,
    Topology,
    node_defaults,
)
from edgecoder_sim.workload_checks import check_workload

_TYPICAL: Final = {Role.PHONE: DEVICES["phone_mid"], Role.AGENT: DEVICES["laptop"], Role.COORDINATOR: DEVICES["server"]}
"""The device that the settings of a role without devices are judged by."""
_ENGINE: Final = {Platform.IOS: "llama.cpp", Platform.NODE: "Ollama"}


def check(document: Document, scenario: Scenario) -> None:
    """Check every relation. `document` is what the scenario was converted from. Raises ConfigError."""
    catalog = _catalog(document, scenario)
    _devices(document, scenario)
    _node_configs(document, scenario)
    for role, group in ((Role.PHONE, scenario.phones), (Role.AGENT, scenario.agents)):
        _Group(document, scenario, catalog, role, group).check()
    _coordinators(document, scenario)
    check_workload(document, scenario, catalog)
    _cluster(document, scenario)
    check_faults(document, scenario)
    _world(document, scenario)


def _catalog(document: Document, scenario: Scenario) -> Catalog:
    """The catalog, in which each name means one file a platform."""
    if not scenario.catalog:
        raise document.error(("catalog",), "the catalog is empty", "list at least one model")
    for position, entry in enumerate(scenario.catalog):
        where = ("catalog", position)
        if not entry.platforms:
            hint = "name at least one of ios, node"
            raise document.error((*where, "platforms"), f"{entry.model_id} runs on no platform", hint)
        try:
            Catalog(scenario.catalog[: position + 1])
        except ValueError as error:
            raise document.error(where, str(error), "rename one, or remove the alias") from None
    return scenario.models()


def _devices(document: Document, scenario: Scenario) -> None:
    """Each device's own relations."""
    for name, device in scenario.devices.items():
        where = ("devices", name)
        if device.load_warm_gb_per_s < device.load_cold_gb_per_s:
            problem = (
                f"devices.{name}.load_warm_gb_per_s is {device.load_warm_gb_per_s:g}, "
                f"load_cold_gb_per_s {device.load_cold_gb_per_s:g}"
            )
            raise document.error((*where, "load_warm_gb_per_s"), problem, "a warm load is no slower than a cold one")
        if device.battery_pct is not None and device.battery_pct[0] > device.battery_pct[1]:
            low, high = device.battery_pct
            problem = f"devices.{name}.battery_pct is [{low:g}, {high:g}]"
            raise document.error((*where, "battery_pct"), problem, "write the lower charge first")
        for system in device.systems:
            _known(document, (*where, "systems", system), system, scenario.systems, "system")
        if not any(device.system_weights.values()):
            raise document.error((*where, "systems"), f"{name} has no operating system", "give one a weight above 0")


def _node_configs(document: Document, scenario: Scenario) -> None:
    """The settings of each role fit `NodeConfig` on every device of that role."""
    for role, key in KEYS.items():
        where = ("config", key)
        for field, of in DEVICE_DECIDES.items():
            if field in scenario.config.of(role):
                hint = f"set devices.<name>.{of}"
                raise document.error((*where, field), f"config.{key}.{field} is the device's to decide", hint)
        for device in role_devices(scenario, role).values() or (_TYPICAL[role],):
            defaults = msgspec.to_builtins(node_defaults(device))
            config = document.convert(NodeConfig, where, defaults)
            try:
                config.validate()
            except ConfigError as error:
                raise document.blame(where, error) from None


def _cluster(document: Document, scenario: Scenario) -> None:
    try:
        scenario.config.cluster.validate()
    except ConfigError as error:
        raise document.blame(("config", "cluster"), error) from None


def _known(document: Document, where: Where, name: str, known: Mapping[str, object], what: str) -> None:
    """A name of a device or network exists."""
    if name not in known:
        raise document.error(where, f"there is no {what} {name}", one_of(f"a {what} is", known, name))


class _Group:
    """The checks of phones or agents."""

    def __init__(self, document: Document, scenario: Scenario, catalog: Catalog, role: Role, group: Group) -> None:
        self.document, self.scenario, self.catalog = document, scenario, catalog
        self.role, self.group, self.key = role, group, KEYS[role]
        self.platform = PLATFORM_OF[role]

    def check(self) -> None:
        """Check the group. An empty one may be incomplete, but what it names must exist."""
        self._machines()
        installed = self._entries("installed", self.group.installed)
        active = self._entries("active", self.group.active)
        if self.group.count == 0:
            return
        self._fit_machines(installed)
        self._fit_active(installed, active)

    def _error(self, below: Where, problem: str, hint: str) -> ConfigError:
        return self.document.error((self.key, *below), problem, hint)

    def _machines(self) -> None:
        for name in self.group.devices:
            where = (self.key, "devices", name)
            _known(self.document, where, name, self.scenario.devices, "device")
            platform = self.scenario.devices[name].platform
            if platform is not self.platform:
                problem = f"{self.key} run {_ENGINE[self.platform]}, and {name} is a device for {_ENGINE[platform]}"
                fitting = [n for n, d in self.scenario.devices.items() if d.platform is self.platform]
                raise self.document.error(where, problem, one_of("use", fitting))
        weights(self.document, (self.key, "devices"), self.group.devices)
        conduct = {each.value: weight for each, weight in self.group.conduct.items()}
        weights(self.document, (self.key, "conduct"), conduct)
        weights(self.document, (self.key, "networks"), self.group.networks)
        self._access()
        if self.group.count > 0 and not self.group.devices:
            problem = f"{self.key} are {self.group.count} nodes without devices"
            raise self._error(("devices",), problem, f"write {self.key}.devices: {{profile: weight}}")
        if self.group.count > 0 and not self.group.access:
            problem = f"{self.key} are {self.group.count} nodes without a network"
            raise self._error(("network",), problem, one_of("the network is", self.scenario.networks))

    def _access(self) -> None:
        known = self.scenario.networks
        if self.group.network:
            _known(self.document, (self.key, "network"), self.group.network, known, "network")
        for name in self.group.networks:
            _known(self.document, (self.key, "networks", name), name, known, "network")
        if self.group.network and self.group.networks:
            problem = f"{self.key} have a network, and networks too"
            raise self._error(("network",), problem, "keep the one that all have, or the ones with weights")

    def _entries(self, field: str, names: Mapping[str, float]) -> dict[str, CatalogEntry]:
        """The catalog entries that the models of a field mean, by digest."""
        entries: dict[str, CatalogEntry] = {}
        for name in names:
            where = (field, name)
            entry = self.catalog.find(name, self.platform)
            if entry is None:
                raise self._error(where, *self._unknown(name))
            if entry.sha256 in entries:
                problem = f"{self.key}.{field} names {entry.model_id} twice"
                raise self._error(where, problem, f"{name} is the same file; keep one name")
            entries[entry.sha256] = entry
        if field == "active":
            weights(self.document, (self.key, field), self.group.active)
        return entries

    def _unknown(self, name: str) -> tuple[str, str]:
        names = [entry.model_id for entry in self.catalog.entries if self.platform in entry.platforms]
        if self.catalog.knows(name):
            hint = one_of("use", names) if names else "add one to the catalog"
            return f"{name} has no file for {_ENGINE[self.platform]}", hint
        return f"{name} is not in the catalog", one_of("use", names, name)

    def _fit_machines(self, installed: Mapping[str, CatalogEntry]) -> None:
        """Every machine can run something of what is installed."""
        likely = self._likely(installed)
        for name, device in role_devices(self.scenario, self.role).items():
            if installed and not any(self.scenario.fits(entry, self.role, device) for entry in likely):
                budget = self.scenario.node_config(self.role, device).memory_budget_mb
                problem = f"no model that {self.key} have installed fits {name}, which has {budget} MB for a model"
                raise self._error(("installed",), problem, "install a smaller model, or leave the device out")

    def _likely(self, installed: Mapping[str, CatalogEntry]) -> list[CatalogEntry]:
        """The models that some node has."""
        probable = {self.catalog.find(name, self.platform) for name, p in self.group.installed.items() if p > 0}
        return [entry for entry in installed.values() if entry in probable]

    def _fit_active(self, installed: Mapping[str, CatalogEntry], active: Mapping[str, CatalogEntry]) -> None:
        """What is active is installed, and fits some machine."""
        likely = self._likely(installed)
        devices = role_devices(self.scenario, self.role)
        for (name, weight), entry in zip(self.group.active.items(), active.values(), strict=True):
            where = ("active", name)
            if entry not in likely:
                problem = f"{self.key}.active has {name}, which no node has installed"
                raise self._error(where, problem, f"give it a probability above 0 in {self.key}.installed")
            if weight > 0 and not any(self.scenario.fits(entry, self.role, device) for device in devices.values()):
                problem = f"{self.key}.active has {name}, which fits none of {', '.join(devices)}"
                raise self._error(where, problem, "choose a smaller model, or a device with more memory")


def _coordinators(document: Document, scenario: Scenario) -> None:
    group = scenario.coordinators
    where = ("coordinators",)
    for field, name, known, what in (
        ("device", group.device, scenario.devices, "device"),
        ("network", group.network, scenario.networks, "network"),
        ("federation_network", group.federation_network, scenario.networks, "network"),
    ):
        needed = group.count > (1 if field == "federation_network" else 0)
        if name:
            _known(document, (*where, field), name, known, what)
        elif needed:
            problem = f"coordinators are {group.count} nodes without a {field}"
            raise document.error((*where, field), problem, one_of(f"the {field} is", known))
    degree, is_split = group.federation.degree, group.federation.topology is Topology.CAMPUSES
    if is_split and group.count > degree + 1 and group.count % degree:
        problem = f"{group.count} coordinators are no whole number of campuses of {degree}"
        raise document.error((*where, "count"), problem, "use a multiple of coordinators.federation.degree")
    nodes = scenario.phones.count + scenario.agents.count
    if group.count == 0 or nodes == 0:
        return
    config = scenario.node_config(Role.COORDINATOR, scenario.devices[group.device])
    each = -(-nodes // group.count)
    complete = group.federation.topology is Topology.COMPLETE
    others = group.count - 1 if complete else min(group.count - 1, group.federation.degree)
    links = -(-nodes * (1 + min(group.spares, group.count - 1)) // group.count) + others
    for field, wanted in (("agents_max", each), ("links_max", links)):
        limit = getattr(config, field)
        if wanted > limit:
            problem = f"a coordinator of {group.count} would need {field} of {wanted}, and has {limit}"
            hint = f"add coordinators, or raise config.coordinators.{field}"
            raise document.error((*where, "count"), problem, hint)


def _world(document: Document, scenario: Scenario) -> None:
    """The world as a whole: size, clock, radio."""
    if scenario.node_count == 0:
        problem = "there is no node: phones, agents and coordinators have count 0"
        raise document.error((), problem, "give phones.count, agents.count or coordinators.count")
    if scenario.node_count > NODES_MAX:
        largest = max(KEYS.values(), key=lambda key: getattr(scenario, key).count)
        problem = f"phones, agents and coordinators are {scenario.node_count} nodes together"
        raise document.error((largest, "count"), problem, f"a scenario has at most {NODES_MAX}")
    shortest, place = _shortest_latency_us(scenario)
    if scenario.tick_us > shortest:
        problem = f"tick_us is {scenario.tick_us}, and {place} has a latency of {shortest} µs"
        hint = f"use a tick_us of at most {shortest}: deliveries round up to a tick"
        raise document.error(("tick_us",) if document.has(("tick_us",)) else ("networks",), problem, hint)
    _clock(document, scenario)
    _wifi_direct(document, scenario)
    for name, device in role_devices(scenario, Role.PHONE).items():
        limit = scenario.node_config(Role.PHONE, device).links_max
        if scenario.radio.links_max >= limit and scenario.phones.count > 0:
            problem = f"radio.links_max is {scenario.radio.links_max}, and {name} keeps {limit} links in all"
            hint = "leave one for the coordinator: lower it, or raise config.phones.links_max"
            raise document.error(("radio", "links_max"), problem, hint)


def _wifi_direct(document: Document, scenario: Scenario) -> None:
    """Who is dialled over Wi-Fi Direct was heard over Bluetooth before."""
    radio, where = scenario.radio, ("radio", "wifi_direct")
    if radio.wifi_direct is None:
        return
    if not radio.scanning:
        hint = "leave out radio.wifi_direct, or let radios scan"
        raise document.error(where, "radio.wifi_direct is given, and radio.scanning is false", hint)


def _clock(document: Document, scenario: Scenario) -> None:
    """What the kernel and the files' bandwidth need of the tick."""
    tick_us = scenario.tick_us
    if QUANTUM_US % tick_us:
        problem = f"tick_us is {tick_us}, and bandwidth is shared anew every {QUANTUM_US} µs"
        raise document.error(("tick_us",), problem, f"use a divisor of {QUANTUM_US}, such as 1, 100 or 1000")
    for key in ("duration_s", "sample_interval_s"):
        span_s = getattr(scenario, key)
        if span_s * 1_000_000 < tick_us:
            problem = f"{key} is {span_s:g}, and a tick is {tick_us} µs"
            raise document.error((key,) if document.has((key,)) else (), problem, "it lasts one tick at least")


def _shortest_latency_us(scenario: Scenario) -> tuple[int, str]:
    """The shortest latency of a link that the scenario may have, µs, and what has it."""
    used = [*scenario.phones.access, *scenario.agents.access]
    used += [scenario.coordinators.network, scenario.coordinators.federation_network]
    latencies = {
        f"a link within {name}": 2 * scenario.networks[name].latency_us for name in used if name in scenario.networks
    }
    if scenario.radio.links_max > 0:
        latencies["the radio"] = scenario.radio.ble.interval_us // 2
    if scenario.radio.wifi_direct is not None:
        latencies["Wi-Fi Direct"] = scenario.radio.wifi_direct.latency_us
    if not latencies:
        return scenario.tick_us, ""
    place = min(latencies, key=lambda key: latencies[key])
    return latencies[place], place
