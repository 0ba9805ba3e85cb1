"""The types of a scenario: what a world consists of, who works in it, and how long it runs.

Decides names, units and ranges; relations between values are left to `scenario_checks`, files and flags to `scenario`.
A `Scenario` that `load_scenario` returned is complete: its catalog is inline, and every device and network that it uses
is described in it.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from edgecoder.config import ClusterConfig, DeviceType, Distribution, NodeConfig, Routing, laptop, phone, server
from edgecoder.core.events import SwapCause
from edgecoder.core.ids import Role
from edgecoder.models.admission import fits
from edgecoder.models.catalog import Catalog, CatalogEntry, Platform
from edgecoder_sim.conduct import Conduct
from edgecoder_sim.faults.model import Faults
from edgecoder_sim.people_model import Buildings, Day, Mobility, Presence, Replay
from edgecoder_sim.profiles import Cdn, Device, Network, ProfileName, Weight
from edgecoder_sim.radio_model import Radio, System

NODES_MAX: Final = 1_000_000
"""Nodes of one scenario."""
RECORDED_NODES_MAX: Final = 100
"""A world of more nodes keeps no row a piece unless it is asked to: a file has hundreds of them, at every node."""
DURATION_S_MAX: Final = 31_536_000
"""A year."""
PRESET_OF: Final = {DeviceType.PHONE: phone, DeviceType.LAPTOP: laptop, DeviceType.WORKSTATION: server}
"""The preset that a node's configuration starts from."""
DEVICE_DECIDES: Final = {"device_type": "device_type", "memory_mb": "memory_mb", "slots": "slots", "has_radio": "ble"}
"""Fields of `NodeConfig` that `config` may not set, because a device profile decides them, by which of its fields."""

Count = Annotated[int, Meta(ge=0, le=NODES_MAX, extra={"noun": "a count"})]
Probability = Annotated[float, Meta(ge=0, le=1, extra={"noun": "a probability"})]
Duration = Annotated[float, Meta(gt=0, le=DURATION_S_MAX, extra={"noun": "a duration in s"})]
Moment = Annotated[float, Meta(ge=0, le=DURATION_S_MAX, extra={"noun": "a time in s"})]
PerHour = Annotated[float, Meta(ge=0, le=36_000, extra={"noun": "a rate per hour"})]
ParamSize = Annotated[float, Meta(ge=0, le=10_000, extra={"noun": "a size in billions of parameters"})]
Setting = bool | int | float | str


class Wire(Enum):
    """How simulated links carry envelopes."""

    REFERENCE = "reference"
    ENCODED = "encoded"


class Source(Enum):
    """Whose users cause a load."""

    PHONES = "phones"
    AGENTS = "agents"
    ALL = "all"


PLATFORM_OF: Final = {Role.PHONE: Platform.IOS, Role.AGENT: Platform.NODE}
"""Phones run llama.cpp, agents Ollama."""


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nodes of one role that run models. Each node draws its device, then its files, then its active model."""

    count: Count = 0
    """Nodes in the group."""
    devices: dict[ProfileName, Weight] = {}
    """Device profiles and how common each is; weights need not add up to 1."""
    installed: dict[str, Probability] = {}
    """Probability that a node has a model's file, 0 to 1, drawn for each model that fits the node's memory."""
    active: dict[str, Weight] = {}
    """Which model runs at first: a weighted draw among those of these that the node has installed. A node with none of
    them, and every node where this is empty, starts without a model."""
    network: str = ""
    """Access network of the nodes."""
    networks: dict[str, Weight] = {}
    """In place of `network`: access networks, and how common each is. They are whole numbers of nodes, as near to their
    weights as can be; which nodes, is drawn."""
    dialable: Probability = 1.0
    """Share of the nodes to which others can open connections, 0 to 1. The rest are behind routers that let none in:
    they give pieces over connections that they open themselves."""
    conduct: dict[Conduct, Weight] = {}
    """How nodes behave towards others that fetch files from them, and how common each is: `honest`, `poisoner`,
    `wrong_proof`, `silent`, `drip`, `withholder`, `liar`, `free_rider`, `accuser`; none given: all are honest."""

    @property
    def access(self) -> dict[str, Weight]:
        """The access networks and their weights, however they were given; empty where none is."""
        return self.networks or ({self.network: 1.0} if self.network else {})


class Topology(Enum):
    """Which coordinators have a link."""

    RING = "ring"
    """Each with its nearest on a ring: long ways."""
    SMALL_WORLD = "small_world"
    """The ring, a tenth of its links exchanged: short ways, and most neighbours know each other."""
    RANDOM = "random"
    """A random graph in which all have as many neighbours: the shortest ways for that number."""
    CAMPUSES = "campuses"
    """Campuses of `degree` coordinators who all know each other, on a ring: one link from each to the next."""
    COMPLETE = "complete"
    """Everybody with everybody, whatever the degree."""


class Federation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The links among coordinators."""

    topology: Topology = Topology.RING
    """The shape; where the degree allows it, all pairs are linked in any of them."""
    degree: Annotated[int, Meta(ge=2, le=64, extra={"noun": "a number of neighbours"})] = 5
    """Neighbours of a coordinator at most. More: news travels in fewer steps; each summary is sent to more (protocol:
    an active view of 5 peers). Beyond all pairs it is even: 5 counts as 4."""


class Coordinators(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The coordinators of the federation; they run no models. Nodes are spread evenly over them."""

    count: Count = 0
    """Coordinators; 0 leaves the mesh offline, so that nodes know only what their radio reaches."""
    device: str = ""
    """Device profile."""
    network: str = ""
    """Access network towards phones and agents."""
    federation_network: str = ""
    """Access network towards other coordinators; needed from two on."""
    federation: Federation = Federation()
    """Which coordinators tell each other their summaries."""
    spares: Annotated[int, Meta(ge=0, le=4, extra={"noun": "a count of spare coordinators"})] = 1
    """Other coordinators to which a node keeps a link, for when its home dies; as many as there are. Each costs memory
    at both ends."""


class Amount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A random size: exponential with this mean, rounded, at least 1, cut at `max`."""

    mean: Annotated[float, Meta(ge=1, le=16_777_216, extra={"noun": "a mean"})]
    """Mean before the cut."""
    max: Annotated[int, Meta(ge=1, le=16_777_216, extra={"noun": "a largest size"})]
    """Nothing is larger; it bounds the tail."""


class TaskLoad(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of task that users ask for: a Poisson stream at each node of the source."""

    name: ProfileName
    """What results call it."""
    source: Source = Source.ALL
    """Whose users ask: phones, agents or all."""
    per_node_per_hour: PerHour
    """Mean tasks of a node in an hour."""
    prompt_bytes: Amount
    """Size of a prompt, UTF-8 bytes."""
    output_tokens: Amount
    """Length of an answer, tokens."""
    min_param_size: dict[ParamSize, Weight] = {}
    """Least size of the model, billions of parameters, and how common each wish is; 0 and an empty mapping take any."""
    model: dict[str, Weight] = {}
    """Tasks that ask for a model by name: names or aliases with weights. Excludes `min_param_size`."""
    deadline_s: Annotated[float, Meta(gt=0, le=604_800, extra={"noun": "a deadline in s"})] = 120.0
    """After this the user no longer waits, s."""
    stream: bool = True
    """Whether the answer arrives token by token."""

    @property
    def deadline_ms(self) -> int:
        """The deadline, ms, at least 1."""
        return max(1, round(self.deadline_s * 1000))


class Burst:
    """When a load comes all at once: what follows from the fields of that, which each load documents for itself."""

    __slots__ = ()
    at_s: float | None
    share_pct: float | None
    within_s: float | None

    @property
    def at_us(self) -> int | None:
        """Begin, µs; None: the load is a steady stream."""
        return None if self.at_s is None else round(self.at_s * 1_000_000)

    @property
    def within_us(self) -> int:
        """Length, µs."""
        return round((self.within_s or 0) * 1_000_000)

    @property
    def share(self) -> float:
        """Share of the source's nodes that it takes, 0 to 1."""
        return (100.0 if self.share_pct is None else self.share_pct) / 100


class SwapLoad(msgspec.Struct, Burst, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes of the active model: a Poisson stream at each node (`per_node_per_hour`), or a storm (`at_s`)."""

    name: ProfileName
    """What results call it."""
    source: Source = Source.ALL
    """Whose nodes swap: phones, agents or all."""
    per_node_per_hour: PerHour | None = None
    """Mean swaps of a node in an hour."""
    at_s: Moment | None = None
    """A storm begins at this time, s."""
    share_pct: Annotated[float, Meta(gt=0, le=100, extra={"noun": "a share in percent"})] | None = None
    """Share of the source's nodes that a storm takes, percent; all where it is not given."""
    within_s: Moment | None = None
    """Each of them swaps at a uniform time in this window, s; at once where it is not given. What falls after the end
    of the run does not happen."""
    to: dict[str, Weight] = {}
    """Target models with weights; a node draws among those that it has installed and that are not active. Empty means
    any of its models, alike. A node without such a model leaves the swap out."""
    pull: bool = False
    """Whether a node draws among what it could install too, which is what fits its memory; it then fetches the file
    first."""
    cause: SwapCause = SwapCause.USER
    """Who wants it: one of `task` is refused within the minimal residency of the active model, one of `user` is not."""


class PullLoad(msgspec.Struct, Burst, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Downloads that users ask for: a Poisson stream at each node (`per_node_per_hour`), or a crowd (`at_s`)."""

    name: ProfileName
    """What results call it."""
    source: Source = Source.ALL
    """Whose nodes pull: phones, agents or all."""
    per_node_per_hour: PerHour | None = None
    """Mean pulls of a node in an hour."""
    at_s: Moment | None = None
    """A crowd begins at this time, s."""
    share_pct: Annotated[float, Meta(gt=0, le=100, extra={"noun": "a share in percent"})] | None = None
    """Share of the source's nodes that a crowd takes, percent; all where it is not given."""
    within_s: Moment | None = None
    """Each of them asks at a uniform time in this window, s; at once where it is not given."""
    to: dict[str, Weight] = {}
    """Models with weights; a node draws among those that fit it and that it has not. Empty means any, alike."""


class RemovalLoad(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models that users remove, to make room: a Poisson stream at each node. A node draws among all that it has, the
    active one too, which it is refused."""

    name: ProfileName
    """What results call it."""
    source: Source = Source.ALL
    """Whose users remove: phones, agents or all."""
    per_node_per_hour: PerHour
    """Mean removals of a node in an hour."""


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What users do."""

    tasks: tuple[TaskLoad, ...] = ()
    """Kinds of tasks; each is independent of the others."""
    swaps: tuple[SwapLoad, ...] = ()
    """Reasons to swap models; each is independent of the others."""
    pulls: tuple[PullLoad, ...] = ()
    """Downloads that users ask for; each is independent of the others."""
    removals: tuple[RemovalLoad, ...] = ()
    """Reasons to remove models; each is independent of the others."""
    until_s: Duration | None = None
    """Users do nothing from this time on, s, so that what they began can end; to the end where it is not given."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of the protocol that differ from their defaults."""

    cluster: ClusterConfig = ClusterConfig()
    """What all nodes agree on."""
    routing: Routing | None = None
    """The policy of all nodes: `probe` asks a few candidates how soon they could answer, `cost` goes by what was
    advertised; `routing` of a role is stronger."""
    distribution: Distribution | None = None
    """Where all nodes get model files: `portfolio`, `ladder` or `cdn`; `distribution` of a role is stronger."""
    phones: dict[str, Setting] = {}
    """Fields of `NodeConfig` for phones, on top of the preset of their device type."""
    agents: dict[str, Setting] = {}
    """Fields of `NodeConfig` for agents, on top of the preset of their device type."""
    coordinators: dict[str, Setting] = {}
    """Fields of `NodeConfig` for coordinators, on top of the preset of their device type."""

    def of(self, role: Role) -> dict[str, Setting]:
        """The settings of a role."""
        all_roles: dict[str, Setting] = {} if self.routing is None else {"routing": self.routing.value}
        if self.distribution is not None:
            all_roles["distribution"] = self.distribution.value
        return all_roles | {Role.PHONE: self.phones, Role.AGENT: self.agents, Role.COORDINATOR: self.coordinators}[role]


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A world of virtual nodes, what its users do, and how long it runs."""

    name: ProfileName
    """Part of the run directory's name."""
    description: Annotated[str, Meta(max_length=2000, extra={"noun": "a description"})] = ""
    """What the scenario shows; the report quotes it."""
    duration_s: Duration
    """Simulated time, s."""
    rng_seed: Annotated[int, Meta(ge=0, le=2**63 - 1, extra={"noun": "a seed"})] = 1
    """Same scenario and seed, same run."""
    tick_us: Annotated[int, Meta(ge=1, le=1_000_000, extra={"noun": "a tick in µs"})] = 1000
    """Deliveries round up to a multiple of this, µs. Larger is faster and coarser; 1 is exact."""
    wire: Wire = Wire.REFERENCE
    """`reference` passes envelopes as objects and charges their size; `encoded` encodes and decodes each: slower, and
    it must give the same run."""
    checkers: bool = True
    """Whether invariants are checked during the run; off is faster."""
    sample_interval_s: Duration = 10.0
    """Time between two rows of the timeline, s. A run that is shorter is sampled once, at its end."""
    record_pieces: bool | None = None
    """Whether the run keeps a row for each piece of a file that is sought, comes or is lost, so that `edgecoder why
    piece` can tell of it; null: in worlds of at most RECORDED_NODES_MAX nodes."""
    catalog: tuple[CatalogEntry, ...]
    """The models there are."""
    networks: dict[ProfileName, Network] = {}
    """Access networks by name."""
    devices: dict[ProfileName, Device] = {}
    """Device profiles by name."""
    systems: dict[ProfileName, System] = {}
    """Operating systems by name: how their Bluetooth behaves."""
    radio: Radio = Radio()
    """Bluetooth among the devices that have it."""
    buildings: Buildings | None = None
    """Buildings on the radio's area; null is one floor that is as large."""
    mobility: Mobility = Mobility()
    """How people carry their nodes about."""
    day: Day = Day()
    """When people come and leave, where `mobility` or `presence` ask for a working day."""
    presence: Presence = Presence()
    """When nodes are there, and how they are charged."""
    contacts: Replay | None = None
    """Contacts of phones from a measured trace, in place of who is in range on the floor."""
    cdn: Cdn = Cdn()
    """Where model files are pulled from."""
    phones: Group = Group()
    """Nodes that run llama.cpp."""
    agents: Group = Group()
    """Nodes that run Ollama."""
    coordinators: Coordinators = Coordinators()
    """Nodes that keep the registry and gossip."""
    workload: Workload = Workload()
    """What users do."""
    faults: Faults = Faults()
    """What goes wrong."""
    config: Config = Config()
    """Parameters of the protocol that differ from their defaults."""

    @property
    def duration_us(self) -> int:
        """Simulated time, µs."""
        return max(1, round(self.duration_s * 1_000_000))

    @property
    def sample_interval_us(self) -> int:
        """Time between two rows of the timeline, µs; at most the whole run."""
        return min(self.duration_us, max(1, round(self.sample_interval_s * 1_000_000)))

    @property
    def node_count(self) -> int:
        """Phones, agents and coordinators."""
        return self.phones.count + self.agents.count + self.coordinators.count

    @property
    def keeps_pieces(self) -> bool:
        """Whether the run keeps a row for each piece."""
        return self.node_count <= RECORDED_NODES_MAX if self.record_pieces is None else self.record_pieces

    def groups(self, source: Source) -> dict[Role, Group]:
        """The groups that a source means, phones first; empty ones too."""
        both = {Role.PHONE: self.phones, Role.AGENT: self.agents}
        if source is Source.ALL:
            return both
        role = Role.PHONE if source is Source.PHONES else Role.AGENT
        return {role: both[role]}

    def node_config(self, role: Role, device: Device, network: str = "") -> NodeConfig:
        """The configuration of a node: preset of its device type, then its device and its access network, then
        `config`. Coordinators have no radio, and nobody has one where `radio.links_max` is 0."""
        radio = self.radio
        links = radio.links_max if device.ble and role is not Role.COORDINATOR else 0
        is_wide = links > 0 and device.wifi_direct and radio.wifi_direct is not None
        wide_links = radio.wifi_direct.links_max if is_wide and radio.wifi_direct is not None else 0
        access: dict[str, Setting] = {}
        if network in self.networks:  # users tell their nodes how fast their access is
            line = self.networks[network]
            access = {
                "upload_kbit_per_s": max(1, round(line.up_mbit_per_s * 1000)),
                "download_kbit_per_s": max(1, round(line.down_mbit_per_s * 1000)),
            }
        return _configured(device, links, wide_links, tuple((access | self.config.of(role)).items()))

    def cluster_config(self) -> ClusterConfig:
        """What all nodes agree on. What the CDN can do its operator knows, and says."""
        cluster, cdn = self.config.cluster, self.cdn
        if not cdn.is_told:
            return cluster
        known: dict[str, int] = {}
        if cluster.cdn_kbit_per_s == ClusterConfig().cdn_kbit_per_s:
            known["cdn_kbit_per_s"] = max(1, round(cdn.per_connection_mbit_per_s * 1000))
        if cluster.cdn_first_byte_ms == ClusterConfig().cdn_first_byte_ms:
            known["cdn_first_byte_ms"] = max(1, round(cdn.ttfb_ms))
        if cluster.cdn_egress_kbit_per_s == 0 and cdn.egress_mbit_per_s is not None:
            known["cdn_egress_kbit_per_s"] = max(1, round(cdn.egress_mbit_per_s * 1000))
        if cluster.cdn_price_microusd_per_gb == ClusterConfig().cdn_price_microusd_per_gb:
            known["cdn_price_microusd_per_gb"] = round(cdn.price_usd_per_gb * 1_000_000)
        return msgspec.structs.replace(cluster, **known)

    def models(self) -> Catalog:
        """The catalog, ready to resolve names."""
        return Catalog(self.catalog)

    def fits(self, entry: CatalogEntry, role: Role, device: Device) -> bool:
        """Whether a model runs on a device of this role: right platform, enough memory."""
        return fits(entry, device.platform, self.node_config(role, device)) is None


def node_defaults(device: Device) -> NodeConfig:
    """The configuration of a node of this device before `config` changes it."""
    preset = PRESET_OF[device.device_type]()
    return msgspec.structs.replace(preset, **{field: getattr(device, of) for field, of in DEVICE_DECIDES.items()})


@lru_cache(maxsize=256)  # asked for each node, and there are few devices
def _configured(
    device: Device, radio_links: int, wide_links: int, settings: tuple[tuple[str, Setting], ...]
) -> NodeConfig:
    base = msgspec.structs.replace(
        node_defaults(device),
        has_radio=radio_links > 0,
        radio_links_max=radio_links,
        wifi_direct_links_max=wide_links,
    )
    return msgspec.convert({**msgspec.to_builtins(base), **dict(settings)}, NodeConfig)
