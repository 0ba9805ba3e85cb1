"""A scenario made of a record: which figure stands where. The text is `writing`'s."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from edgecoder.config import ClusterConfig
from edgecoder.core.ids import Role
from edgecoder.models.catalog import CatalogEntry, Platform
from edgecoder_sim.fit import machines as devices
from edgecoder_sim.fit import mesh, users
from edgecoder_sim.fit.figures import Figure, default, measured, told
from edgecoder_sim.fit.record import Machine, Record
from edgecoder_sim.scenario_model import DEVICE_DECIDES, PLATFORM_OF

KEYS: Final = {Role.PHONE: "phones", Role.AGENT: "agents"}
DECIDED: Final = (
    *DEVICE_DECIDES,
    "coordinators",
    "endpoints",
    "transfer_endpoint",
    "transfer_dialable",
    "upload_kbit_per_s",
    "download_kbit_per_s",
    "radio_links_max",
    "wifi_direct_links_max",
)
"""Fields of `NodeConfig` that a scenario says elsewhere: its devices, networks, radio and coordinators."""
Tree = dict[str, Any]


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """What was made of the journals."""

    tree: Tree
    notes: list[str]


def fitted(record: Record, name: str) -> Fitted:
    """A whole scenario."""
    cluster, notes = _cluster(record), list(record.notes)
    links, sources = mesh.links(record), mesh.origin(record, cluster)
    tree: Tree = {
        "name": name,
        "description": f"A mesh of {len(record.machines)} nodes, recorded for {record.length_s:.0f} s.",
        "duration_s": record.duration_s,
        "tick_us": links.tick_us,
        "catalog": _catalog(record, notes),
        "networks": {},
        "devices": {},
        "cdn": {
            "egress_mbit_per_s": sources.egress,
            "per_connection_mbit_per_s": sources.connection,
            "ttfb_ms": sources.first_byte,
            "is_told": False,
        },
    }
    if not any(machine.head.config.has_radio for machine in record.machines):
        tree["radio"] = {"links_max": told(0, "no node had a radio")}
    config: Tree = {"cluster": _changed_cluster(cluster)}
    for role, key in KEYS.items():
        machines = record.of(role)
        if machines:
            tree[key] = _group(tree, record, role, links)
            config[key] = _settings(machines, devices.kinds(machines, role)[0], key, notes)
    _coordinators(tree, config, record, links, notes)
    tree["workload"] = {
        "pulls": users.pulls(record),
        "swaps": users.swaps(record),
        "tasks": users.tasks(record),
    }
    tree["workload"] = {kind: loads for kind, loads in tree["workload"].items() if loads}
    faults = users.departures(record)
    if faults:
        tree["faults"] = {"plan": faults}
    tree["config"] = {key: value for key, value in config.items() if value}
    if record.shift_us:
        later_s = record.shift_us / 1e6
        notes.append(f"all moments are {later_s:.2f} s later: nodes come up in the first seconds of a run")
    return Fitted(tree={key: value for key, value in tree.items() if value != {}}, notes=notes)


def _cluster(record: Record) -> ClusterConfig:
    """What most nodes agree on."""
    clusters = [machine.head.cluster for machine in record.machines]
    return max(clusters, key=clusters.count)


def _changed_cluster(cluster: ClusterConfig) -> Tree:
    usual = ClusterConfig()
    says = "of the nodes' configuration"
    return {
        name: told(value, says)
        for name in ClusterConfig.__struct_fields__
        if (value := getattr(cluster, name)) != getattr(usual, name)
    }


def _catalog(record: Record, notes: list[str]) -> list[Tree]:
    """The entries of all nodes, without where they lie. In the simulator phones run llama.cpp and agents Ollama: where
    that was otherwise, all files are for both."""
    entries: dict[str, CatalogEntry] = {}
    for machine in record.machines:
        for entry in machine.head.catalog:
            entries.setdefault(entry.sha256, entry)
    plain = [msgspec.to_builtins(entry) for entry in entries.values()]
    heads = [machine.head for machine in record.machines]
    if any(PLATFORM_OF.get(head.role, head.platform) is not head.platform for head in heads):
        notes.append("some nodes have another platform than the simulator gives to their role: all files are for both")
        plain = [{**entry, "platforms": [each.value for each in Platform]} for entry in plain]
    return [{key: value for key, value in entry.items() if value and key != "downloadUrls"} for entry in plain]


def _group(tree: Tree, record: Record, role: Role, links: mesh.Links) -> Tree:
    """The nodes of a role; their networks and devices go into the tree."""
    machines = record.of(role)
    kinds, lines = devices.kinds(machines, role), mesh.lines(record, role)
    for kind in kinds:
        tree["devices"][kind.name] = {"like": kind.base, **kind.fields}
    for line in lines:
        tree["networks"][line.name] = _network(links, line.up, line.down)
    group: Tree = {
        "count": measured(len(machines), f"journals of {len(machines)} {KEYS[role]}"),
        "devices": {kind.name: kind.nodes for kind in kinds},
    }
    group |= {"network": lines[0].name} if len(lines) == 1 else {"networks": {line.name: line.nodes for line in lines}}
    group |= {"installed": users.installed(machines), "active": users.active(machines)}
    return {key: value for key, value in group.items() if value != {}}


def _network(links: mesh.Links, up: Figure, down: Figure) -> Tree:
    return {
        "latency_ms": links.latency,
        "jitter_ms": links.jitter,
        "up_mbit_per_s": up,
        "down_mbit_per_s": down,
    }


def _settings(machines: Sequence[Machine], kind: devices.Kind, key: str, notes: list[str]) -> Tree:
    chosen, uneven = devices.settings(machines, kind, DECIDED)
    if uneven:
        notes.append(f"{key} differ in {', '.join(uneven)}: the most common value stands for all")
    return {name: told(value, "of their configuration") for name, value in chosen.items()}


def _coordinators(tree: Tree, config: Tree, record: Record, links: mesh.Links, notes: list[str]) -> None:
    hubs = record.of(Role.COORDINATOR)
    named = {address.partition("@")[0] for machine in record.machines for address in machine.head.config.coordinators}
    known = named | {hub.head.node_id.hex() for hub in hubs}
    if not known:
        return
    if len(hubs) < len(known):
        notes.append(
            f"{len(known) - len(hubs)} of {len(known)} coordinators gave no journal: built-in figures for them"
        )
    wide = {"up_mbit_per_s": 941, "down_mbit_per_s": 941}
    says = "journals do not show the access of coordinators, which carry no files"
    tree["networks"]["hub"] = _network(links, *(default(value, says) for value in wide.values()))
    group: Tree = {
        "count": measured(len(known), f"journals of {len(hubs)}, and {len(named)} that nodes were told of"),
        "device": "server",
        "network": "hub",
    }
    if hubs:
        kind = devices.kinds(hubs, Role.COORDINATOR)[0]
        tree["devices"]["hub"] = {"like": kind.base, **kind.fields, "platform": "node"}
        group["device"] = "hub"
        config["coordinators"] = _settings(hubs, kind, "coordinators", notes)
    if len(known) > 1:
        group["federation_network"] = "hub"
        group["spares"] = told(_spares(record), "the coordinators that most nodes were told of, but one")
    tree["coordinators"] = group


def _spares(record: Record) -> int:
    counts = Counter(len(machine.head.config.coordinators) for machine in record.of(*KEYS))
    return min(4, max(0, counts.most_common(1)[0][0] - 1)) if counts else 0


def figures(tree: Any, where: str = "") -> list[tuple[str, Figure]]:
    """All figures of a tree, with the keys that lead to them."""
    if isinstance(tree, Figure):
        return [(where, tree)]
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found: list[tuple[str, Figure]] = []
    for key, value in items:
        below = f"{where}[{key}]" if isinstance(key, int) else f"{where}.{key}" if where else str(key)
        found += figures(value, below)
    return found
