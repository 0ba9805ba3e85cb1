"""Every parameter of the protocol core, with what it trades.

`ClusterConfig` must be the same on every node (its hash travels in heartbeats); `NodeConfig` is each node's own.
Unknown fields are refused. A value's range stands in its type; `validate` judges the relations between values.
Reading files, environment and flags is `settings`' work.
"""

from __future__ import annotations

import hashlib
import re
from enum import Enum
from functools import lru_cache
from typing import Annotated, ClassVar

import msgspec

from edgecoder.errors import ConfigError
from edgecoder.protocol import WHEREABOUTS_MS_MAX

Millis = Annotated[int, msgspec.Meta(ge=1, le=7 * 86_400_000)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
Price = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
Kbits = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
_ENDPOINT = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[^@\s/:\[\]?#%\\]{1,255})(:[0-9]{1,5})?")
_NODE = re.compile(r"[0-9a-f]{64}")


class DeviceType(Enum):
    """What kind of machine a node is; the router charges phones for their battery."""

    PHONE = "phone"
    LAPTOP = "laptop"
    WORKSTATION = "workstation"


class Routing(Enum):
    """How a node chooses who answers a task."""

    PROBE = "probe"
    """Ask a few candidates how soon they could, and bind to the soonest."""
    COST = "cost"
    """Take the cheapest by what they advertised last (v1)."""


class Distribution(Enum):
    """How a node gets the files of models that have a piece tree."""

    PORTFOLIO = "portfolio"
    """From peers, mesh and CDN at once, by price and deadline."""
    LADDER = "ladder"
    """From a peer over BLE, else from the mesh, else from the CDN (seed)."""
    CDN = "cdn"
    """Whole, from the CDN alone."""


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all nodes of one network must agree on."""

    network_id: Annotated[str, msgspec.Meta(min_length=1, max_length=32)] = "edgecoder"
    """Envelopes of another network are dropped."""
    heartbeat_interval_ms: Millis = 15_000
    """Shorter: fresher registries; longer: fewer messages and less battery. 15 s (v1)."""
    agent_alive_ms: Millis = 45_000
    """An agent without a heartbeat for so long is left out of every answer: three intervals (v1)."""
    missed_heartbeats_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    """Unanswered heartbeats after which a node calls itself offline."""
    summary_interval_ms: Millis = 60_000
    """Period of `capability_summary` (seed)."""
    summary_periods_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    """A summary not refreshed for so many periods is not served."""
    cdn_kbit_per_s: Kbits = 400_000
    """What the CDN gives one connection: what a node reckons with until it has measured. Higher than it is: nodes wait
    less for peers; lower: they lean on peers for longer than the CDN alone would have taken."""
    cdn_egress_kbit_per_s: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] = 0
    """What the origin gives all nodes together, by its operator; 0 is no limit. With a limit, a node reckons with its
    share among those that want the same file."""
    cdn_first_byte_ms: Millis = 100
    """Time from a request to the CDN to its first byte. Longer: nodes ask the CDN sooner, and for more at once."""
    cdn_price_microusd_per_gb: Price = 85_000
    """What the operator pays for what the CDN sends, millionths of a dollar a GB (Amazon CloudFront, first 10 TB)."""

    def validate(self) -> None:
        """Check the relations between values. Raises ConfigError with the field's name in place of a path."""
        if self.agent_alive_ms <= self.heartbeat_interval_ms:
            problem = f"agent_alive_ms is {self.agent_alive_ms}, heartbeat_interval_ms {self.heartbeat_interval_ms}"
            raise ConfigError(
                "agent_alive_ms", None, problem, "an agent must live longer than one interval; use three intervals"
            )

    def digest(self) -> bytes:
        """Eight bytes that differ when any value differs; nodes compare them by heartbeat."""
        return _digest(self)


@lru_cache(maxsize=16)
def _digest(config: ClusterConfig) -> bytes:
    encoded = msgspec.msgpack.encode(msgspec.structs.asdict(config), order="sorted")
    return hashlib.blake2b(encoded, digest_size=8).digest()


def is_endpoint(text: str) -> bool:
    """Whether this is HOST:PORT or HOST, an IPv6 address in brackets."""
    match = _ENDPOINT.fullmatch(text)
    return match is not None and text.isprintable() and int((match[2] or ":1")[1:]) in range(1, 65_536)


def check_coordinator(address: str) -> None:
    """Raises ConfigError, with the field's name in place of a path, where this does not say who a coordinator is and
    where it listens."""
    node, is_placed, endpoint = address.partition("@")
    if _NODE.fullmatch(node) is None or (is_placed and not is_endpoint(endpoint)):
        hint = "give ID@HOST:PORT, as `edgecoder coordinator` prints it at its start; ID alone is looked for"
        raise ConfigError("coordinators", None, f"{address[:100]!r} is no coordinator", hint)


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a node may choose for itself. The defaults are a phone's; see `laptop` and `server`."""

    device_type: DeviceType = DeviceType.PHONE
    memory_mb: Annotated[int, msgspec.Meta(ge=1)] = 6144
    """Memory of the machine, MB."""
    memory_share_pct: Annotated[int, msgspec.Meta(ge=1, le=100)] = 50
    """How much of it a model may take. A phone's app gets about half (3.1 of 6 GB on an iPhone 13 Pro)."""
    context_tokens: Annotated[int, msgspec.Meta(ge=1, le=1_048_576)] = 4096
    """Context that is loaded with a model; its cache counts as memory."""
    engine_overhead_mb: Annotated[int, msgspec.Meta(ge=0)] = 150
    """Memory of an engine beside model and cache: 100–150 MB, measured on llama.cpp."""
    has_radio: bool = True
    """Whether a BLE radio advertises this node; without one a swap announces itself by heartbeat alone."""
    slots: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    """Tasks that run at once. More slots: shorter queue, slower tokens for each."""
    task_queue_max: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 8
    """Tasks that wait here beside those that run; one more is refused as busy."""
    origin_tasks_max: Count = 256
    """Own tasks that may be open at once."""
    relayed_tasks_max: Count = 4096
    """Tasks of others that a coordinator carries at once."""
    task_attempts_max: Annotated[int, msgspec.Meta(ge=1, le=16)] = 4
    """Nodes that one task is tried on before it fails."""
    task_deadline_ms: Millis = 120_000
    """Deadline of a task that brings none."""
    task_answer_ms: Millis = 5_000
    """A node that has not accepted or refused a task by then is taken as gone. Longer: patience with slow links."""
    relay_answer_ms: Millis = 2_000
    """The same at a coordinator; shorter, so that it can try others before the origin gives up on it."""
    task_silence_ms: Millis = 60_000
    """An accepted task whose node has been silent for so long is taken as lost."""
    task_retry_ms: Millis = 2_000
    """How often a task that nobody can take looks again."""
    prompt_bytes_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 262_144
    """Longest prompt, UTF-8 bytes; it has to fit into a frame of 1 MiB."""
    answer_chars_max: Annotated[int, msgspec.Meta(ge=1, le=250_000)] = 200_000
    """Longest answer, characters; at 4 bytes each it fits into a frame. A longer one ends as too large."""
    joined_commands_max: Count = 256
    """Commands that may wait for one swap or one download."""
    capabilities_ttl_ms: Millis = 600_000
    """How long peers believe capabilities without a word; they are repeated at half of it. Shorter: a silent peer on a
    link that looks alive is noticed sooner; longer: less radio."""
    task_memory_max: Count = 1024
    """Ended task ids that are remembered, so that a repeated request runs once."""
    drain_ms: Millis = 30_000
    """How long a swap waits for running tasks before it cancels them."""
    advertise_wait_ms: Millis = 500
    """How long a swap waits until its peers have taken the `loading` advertisement."""
    load_timeout_ms: Millis = 120_000
    """A load that takes longer counts as failed."""
    min_residency_ms: Annotated[int, msgspec.Meta(ge=0)] = 60_000
    """A model serves at least so long before a swap that a task wants; a user's swap is never refused for it."""
    engine_crashes_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    """A model that crashed the engine so often is quarantined."""
    engine_reload_ms: Millis = 600_000
    """A model that another program took out of a shared engine is loaded again once in this time; after that it is left
    to them. Shorter: the model is back more often; longer: two programs do not take the memory from each other."""
    readvertise_interval_ms: Millis = 1_000
    """Least time between two advertisements of a changed load. A model change never waits."""
    heartbeat_gap_ms: Millis = 1_000
    """Least time between two heartbeats that a change sends at once."""
    peers_max: Count = 128
    """Peers that are remembered; the one not seen for longest goes first. An open-plan office has 65 in range, a
    lecture hall more; each takes about 1 kB."""
    peer_expiry_ms: Millis = 60_000
    """A peer whose link is down is forgotten after this."""
    radio_links_max: Annotated[int, msgspec.Meta(ge=0, le=64)] = 5
    """Links over BLE that a phone keeps at once, dialled and taken together. Android allows 7, some 15 (bitchat keeps 5
    to 6); more links, more battery."""
    wifi_direct_links_max: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    """Links over Wi-Fi Direct that a node keeps at once; 0: it has none. More links share one channel."""
    wifi_direct_bytes_min: Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)] = 65_536
    """A request of so many bytes opens a link over Wi-Fi Direct if the peer can. Lower: long prompts get there sooner,
    and devices form groups more often, which takes seconds: 5 s are 42 kB over Bluetooth between Androids."""
    link_idle_ms: Millis = 1_000
    """A link over BLE that no task uses is closed after this by who dialled it. Longer: less dialling for questions in
    a row; shorter: slots are free sooner."""
    link_read_ms: Millis = 250
    """One that was dialled to read is closed so long after it was read: time for a receipt and its acknowledgement.
    Shorter: slots are free sooner, and a crowd knows sooner what is new."""
    link_idle_max_ms: Millis = 5_000
    """Whoever did not dial it closes an idle link after this: the other end has forgotten it."""
    dial_timeout_ms: Millis = 10_000
    """A dial that takes longer is given up."""
    dial_courtesy_ms: Millis = 3_000
    """Of two strangers one dials at once, the one with the smaller tag, and tells both who is who; the other waits for
    so long. Shorter: sooner to know; longer: fewer pairs that dial each other at once."""
    dial_spread_ms: Millis = 500
    """A first dial waits for up to this, at random, so that who heard one advertisement do not all call at once."""
    dial_retry_ms: Millis = 500
    """Wait after a dial that failed; it doubles with each failure (protocol: 500 ms)"""
    dial_retry_max_ms: Millis = 30_000
    """up to this,"""
    dial_tries_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 8
    """and after so many the device is left alone until it says something new."""
    reread_ms: Millis = 300_000
    """A peer whose advertisement has no room for its generation is read again after this."""
    coordinators: Annotated[tuple[str, ...], msgspec.Meta(max_length=16)] = ()
    """Where this node's coordinators listen, ID@HOST:PORT each: the first is to be its home, the others are spares. A
    coordinator's are its neighbours in the federation. More: a link each, and less often none. ID alone: it is looked
    for on this machine's networks, and others may say where it is."""
    discover: bool = False
    """Whether coordinators of the list that have an address are looked for on this machine's networks too, where it may
    have changed. On: some multicast packets a minute, by which others see that EdgeCoder runs here."""
    spares_max: Annotated[int, msgspec.Meta(ge=0, le=8)] = 2
    """Coordinators that a coordinator of the list has named as its federation's, and that a member links to beside the
    list. More: a link each, and less often none; 0: those of the list alone."""
    endpoints: Annotated[tuple[str, ...], msgspec.Meta(max_length=4)] = ()
    """Where a coordinator is reached, HOST:PORT each, the best first: what it tells its members and others of itself.
    Without them the addresses at which it listens."""
    whereabouts_ms: Annotated[int, msgspec.Meta(ge=1, le=WHEREABOUTS_MS_MAX)] = WHEREABOUTS_MS_MAX
    """How long that holds without being renewed, which is done at half of it. Longer: members that were off for longer
    still know the spares; shorter: those that are gone for good are sooner forgotten."""
    rehome_misses: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    """Unanswered heartbeats after which a node reports to another coordinator that it has a link to. Fewer: a dead
    coordinator is left sooner; more: fewer moves for frames that merely got lost."""
    identify_retry_ms: Millis = 2_000
    """How often a node says who it is on a link whose other end has not answered."""
    clone_answer_ms: Millis = 3_000
    """A coordinator to which a node comes a second time waits for so long whether the first is still there. Longer:
    patience with slow links; shorter: a node whose machine lost its power is back sooner."""
    clone_repeat_ms: Millis = 600_000
    """How often two machines that share a key are told so again while they do."""
    links_max: Count = 16
    """Links that are open at once; a coordinator needs one a node."""
    senders_max: Count = 20_000
    """Senders whose last sequence numbers are remembered, so that a replay is known as one."""
    agents_max: Count = 10_000
    """Nodes that a coordinator registers."""
    coordinators_max: Count = 1024
    """Summaries of other coordinators that are kept."""
    blacklist_failures: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    """Failures in a row that blacklist a peer (v1)."""
    blacklist_ms: Millis = 300_000
    """How long a peer stays blacklisted."""
    routing: Routing = Routing.PROBE
    """The policy: probe, or cost as in v1. Probes cost a round trip and three small messages; costs go wrong as soon as
    what was advertised is older than a task."""
    probe_candidates: Annotated[int, msgspec.Meta(ge=1, le=16)] = 3
    """Peers that are probed at once for one task. Two already end herding; more than three gain little (mean response
    at load 0.9: 2.6, 2.0, 1.8 service times for 2, 3, 4)."""
    probe_rounds_max: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2
    """Samples that are probed for one task while nobody answers who can take it: of those in reach, and again of those
    who must be dialled."""
    probe_timeout_ms: Millis = 500
    """A round is decided by then among those who have answered. Shorter: less waiting for who is gone; longer: patience
    with busy radios, whose connection intervals and queues take tens to hundreds of ms."""
    probe_dial_ms: Millis = 2_500
    """A round waits so much longer where peers have to be dialled first: some dials over BLE, one after the other."""
    probe_hold_ms: Millis = 4_000
    """How long a probed node keeps the place that it offered. Longer than the timeout and the way of the request."""
    local_wait_max_ms: Annotated[int, msgspec.Meta(ge=0)] = 1_000
    """Where the coordinator has not said what it can do, it gets a task that nobody in reach could begin within this.
    Higher: fewer messages to the coordinator; lower: less waiting behind others."""
    local_finish_max_ms: Annotated[int, msgspec.Meta(ge=0)] = 1_000
    """A node asks its coordinator how soon a task could be done there, unless it would itself be done within this.
    Higher: fewer messages to the coordinator; lower: better placed tasks."""
    hedging: bool = True
    """Whether a task that is late to be taken up is asked of a second node too. On: shorter tails, and a few percent of
    work that is thrown away."""
    hedge_pct: Annotated[int, msgspec.Meta(ge=50, le=100)] = 95
    """A task is late when it waits for longer than this percent of those before it (95: Dean and Barroso, The Tail at
    Scale, 2013)."""
    hedge_samples_min: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10
    """Tasks that must have been measured before anything is called late."""
    hedge_samples_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 128
    """Newest tasks that are kept for it. More: steadier; fewer: quicker to follow a change."""
    hedge_ms_min: Millis = 250
    """Nothing is late before this: what is asked twice costs twice."""
    power_no_work_pct: Annotated[int, msgspec.Meta(ge=0, le=100)] = 20
    """A battery at or below this, or a device that saves power, works for its own user alone. On the mains nothing
    limits it."""
    power_small_work_pct: Annotated[int, msgspec.Meta(ge=0, le=100)] = 40
    """At or below this it takes small tasks of others only."""
    small_work_tokens: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 128
    """The longest answer that is small work, tokens: some seconds on a phone."""
    prompt_bytes_per_token: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 32
    """Bytes of a prompt that a node is taken to read in the time of one token that it writes: 4 make a token, and a
    phone reads 8 of them meanwhile (I; laptops 10, GPUs 30). Lower: long prompts go to faster nodes."""
    typical_task_tokens: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 128
    """Length assumed for tasks of which a node knows only the count, tokens."""
    battery_ms_per_pct: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 20
    """Each percent that a phone's battery lacks counts as so much later: at half charge it must be 1 s faster than a
    node on the mains."""
    ble_kbit_per_s: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 24
    """Goodput assumed for prompts over BLE, which are acknowledged writes: 182 bytes in two intervals of 30 ms to an
    iPhone; 68 between Androids, which take 512. Higher: peers over BLE look better than they are, and long prompts are
    given up before they are through."""
    ble_pieces_kbit_per_s: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 300
    """Goodput assumed for pieces over BLE, which are notifications, until it is measured: an iPhone's 300 to 400 (Apple
    forum 770717). Higher: BLE is asked for what the CDN would have brought sooner."""
    wifi_direct_kbit_per_s: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 100_000
    """The same over Wi-Fi Direct, which shares its channel: a third of the 320 Mbit/s of one link alone."""
    metered_price_microusd_per_gb: Price = 620_000
    """What its user pays for what comes over a metered network, millionths of a dollar a GB (a gigabyte costs 0.62 in
    Britain and 6.00 in America: Cable, 2023). Higher than the price of a radio: with a peer that is fast enough near by
    nothing comes over that network."""
    ble_price_microusd_per_gb: Price = 4_000
    """What the charge costs that Bluetooth takes, on battery: at 300 kbit/s a GB takes 7.4 hours of 50 mW, a fortieth
    of a phone's 15 Wh, and a full charge a 500th of a battery of 80 dollars. Higher than the mesh's price: where the
    mesh is fast enough the radio rests."""
    receipts_max: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 1024
    """Receipts that may wait for a coordinator, 300 bytes of disk each, and those that may wait for their servers. Who
    served refuses one more; who pays forgets the oldest."""
    receipt_retry_ms: Millis = 5_000
    """How often a receipt, or a batch of them, that was not acknowledged is sent again."""
    receipt_unknown_ms: Millis = 600_000
    """A receipt whose payer the coordinator does not know is brought to it again after this."""
    receipt_tries_max: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    """How often a payer sends one receipt. More: it survives a longer gap of the radio."""
    ledger_receipts_max: Count = 100_000
    """Receipts that a coordinator keeps. It refuses what comes then, and forgets none: one that was forgotten could be
    counted twice. Refused ones stay in the queues of their servers."""
    distribution: Distribution = Distribution.PORTFOLIO
    """Where model files come from."""
    catalog_refresh_ms: Millis = 60_000
    """How often the origin of the catalog is asked whether there is a newer one. Less: releases are known sooner."""
    catalog_stale_ms: Millis = 180_000
    """After so long without a word of the origin nothing new is fetched; what is here goes on running. More: a node
    stays useful offline for longer; less: what the origin has withdrawn is fetched for less long."""
    disk_mb_max: Annotated[int, msgspec.Meta(ge=0)] = 0
    """MB of disk that model files may take together; 0: as much as there is. One more is refused as if the disk were
    full."""
    seeding: bool = True
    """Whether this node gives others the pieces that it has."""
    seed_whole_files: bool = True
    """Whether it goes on giving a file once it has all of it. Off: a release needs its origin for longer, and where
    more come than the origin alone can serve, those who lack one piece pile up (Hajek and Zhu, 2010)."""
    seed_when_metered: bool = False
    """Whether it does so on a network whose bytes its user pays for."""
    seed_while_busy: bool = False
    """Whether it begins to send while it runs tasks; those come first."""
    seed_duty_pct: Annotated[int, msgspec.Meta(ge=0, le=100)] = 50
    """Share of the time in which a node on its battery sends, percent. More: files spread faster; less: the battery
    lasts longer."""
    transfer_endpoint: Annotated[str, msgspec.Meta(max_length=300)] = ""
    """Where others fetch pieces from this node, host:port; empty: over links alone."""
    transfer_dialable: bool = True
    """Whether others can open connections to it. Off, behind a router that lets none in: it dials those who can be
    dialled and want pieces of it, and gets none from others that are off."""
    reverse_peers_max: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 32
    """Peers that nobody can dial whose connections it awaits or has; and those it dials at once itself."""
    reverse_ask_ms: Millis = 2_000
    """It asks for such a connection again after this"""
    reverse_asks_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    """up to so often; then the peer counts as out of reach. A dial gets as long as all of them."""
    upload_kbit_per_s: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] = 0
    """What it can send, where that is known, or may; 0: neither. Brokers fill an uplink by it, and a machine sends no
    more. Less than the uplink has: the rest of it is left to others of the household."""
    download_kbit_per_s: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] = 0
    """What it can receive, where that is known; 0: it is not."""
    upload_slots: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    """Pieces that it sends at once. One after the other a piece is elsewhere sooner; more at once fill an uplink behind
    slow receivers: a broker decides how many of them it uses."""
    upload_queue_max: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 16
    """Requests that wait for a slot; one more is refused as busy."""
    uploads_per_peer_max: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 8
    """Requests of one peer that wait or are served."""
    cdn_requests_max: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    """Requests to the CDN at once: with a second one under way no time is lost between two."""
    cdn_request_bytes: Annotated[int, msgspec.Meta(ge=16_384, le=1 << 30)] = 128 << 20
    """A request to the CDN asks for pieces in a row up to about so much. More: fewer requests; less: less is fetched
    twice where peers were sooner."""
    cdn_retry_ms: Millis = 2_000
    """Wait after the CDN failed; it doubles with each failure in a row"""
    cdn_retry_max_ms: Millis = 60_000
    """up to this."""
    transfer_patience_ms: Millis = 600_000
    """A download to which no source has given anything for so long ends as without a source; what it has stays."""
    piece_timeout_ms: Millis = 10_000
    """Least time that a peer is given for a piece; by measured rates it may be more."""
    ticket_ms: Millis = 60_000
    """How long a ticket holds. Shorter: revoked sooner; longer: fewer signatures."""
    clock_skew_ms: Millis = 30_000
    """How far apart the clocks of a broker and of a sender may be."""
    swarm_files_max: Count = 1024
    """Files that a coordinator brokers."""
    swarm_degree_max: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 20
    """Nodes to which a broker lets one node send, of one file. More: better choices, longer searches and more links."""
    swarm_inbound_max: Annotated[int, msgspec.Meta(ge=1, le=64)] = 3
    """Pieces that a broker has on their way to one receiver at once, of one file."""
    broker_delay_ms: Millis = 200
    """What a broker allows for the news of a piece and its answer to cross the network: so much ahead it grants."""
    cost_max: Annotated[int, msgspec.Meta(ge=1)] = 200
    """CostRouter takes only peers cheaper than this (v1)."""
    local_cost_max: Annotated[int, msgspec.Meta(ge=0)] = 100
    """A node asks its coordinator when nobody in its own reach is cheaper than this. Higher: fewer messages to the
    coordinator; lower: better placed tasks."""

    MEMORY_MIN_MB: ClassVar[int] = 256

    def validate(self) -> None:
        """Check the relations between values. Raises ConfigError with the field's name in place of a path."""
        for address in self.coordinators:
            check_coordinator(address)
        for endpoint in self.endpoints:
            if not is_endpoint(endpoint):
                raise ConfigError("endpoints", None, f"{endpoint[:100]!r} is no address", "give HOST:PORT")
        if self.local_cost_max > self.cost_max:
            problem = f"local_cost_max is {self.local_cost_max}, cost_max {self.cost_max}"
            raise ConfigError("local_cost_max", None, problem, "it cannot be more than cost_max")
        if self.relay_answer_ms >= self.task_answer_ms:
            problem = f"relay_answer_ms is {self.relay_answer_ms}, task_answer_ms {self.task_answer_ms}"
            raise ConfigError("relay_answer_ms", None, problem, "a coordinator must give up on an agent first")
        if self.link_idle_ms >= self.link_idle_max_ms:
            problem = f"link_idle_ms is {self.link_idle_ms}, link_idle_max_ms {self.link_idle_max_ms}"
            raise ConfigError("link_idle_max_ms", None, problem, "who dialled must close an idle link first")
        if self.probe_timeout_ms + self.probe_dial_ms >= self.probe_hold_ms:
            problem = (
                f"probe_timeout_ms is {self.probe_timeout_ms}, probe_dial_ms {self.probe_dial_ms}, "
                f"probe_hold_ms {self.probe_hold_ms}"
            )
            raise ConfigError("probe_hold_ms", None, problem, "a place must be kept for longer than a round takes")
        if self.hedge_samples_min > self.hedge_samples_max:
            problem = f"hedge_samples_min is {self.hedge_samples_min}, hedge_samples_max {self.hedge_samples_max}"
            raise ConfigError("hedge_samples_min", None, problem, "no more can be asked for than are kept")
        if self.power_no_work_pct > self.power_small_work_pct:
            problem = f"power_no_work_pct is {self.power_no_work_pct}, power_small_work_pct {self.power_small_work_pct}"
            raise ConfigError("power_no_work_pct", None, problem, "small work has to end before all work does")
        if self.memory_budget_mb < self.MEMORY_MIN_MB:
            problem = f"{self.memory_share_pct} % of {self.memory_mb} MB leaves {self.memory_budget_mb} MB for a model"
            raise ConfigError("memory_mb", None, problem, f"the smallest model needs {self.MEMORY_MIN_MB} MB")

    def is_placed(self, endpoint: str) -> bool:
        """Whether another node can be dialled there. Where no coordinator is configured the host brings the links, and
        knows itself where others are."""
        return is_endpoint(endpoint) or not self.coordinators

    @property
    def memory_budget_mb(self) -> int:
        """MB that a loaded model may take in all."""
        return self.memory_mb * self.memory_share_pct // 100


def phone() -> NodeConfig:
    """A phone: one model, one slot, half of 6 GB."""
    return NodeConfig()


def laptop() -> NodeConfig:
    """A laptop beside Ollama: 16 GB, two slots."""
    return NodeConfig(
        device_type=DeviceType.LAPTOP,
        has_radio=False,
        memory_mb=16_384,
        memory_share_pct=75,
        context_tokens=8192,
        slots=2,
        task_queue_max=16,
        links_max=64,
    )


def server() -> NodeConfig:
    """A coordinator or a GPU workstation: many links, many relayed tasks."""
    return NodeConfig(
        device_type=DeviceType.WORKSTATION,
        has_radio=False,
        memory_mb=65_536,
        memory_share_pct=75,
        context_tokens=16_384,
        slots=4,
        task_queue_max=32,
        links_max=20_000,
        peers_max=20_000,
        relayed_tasks_max=65_536,
    )


PRESETS = {"phone": phone, "laptop": laptop, "server": server}
