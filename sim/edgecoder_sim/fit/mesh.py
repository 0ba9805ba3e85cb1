"""Links, uplinks and the origin of a record, in the simulator's terms.

A heartbeat and its acknowledgement cross both access networks twice, and wait for the processors of both ends: what the
simulator charges for those is taken off, and the rest is divided evenly, because no journal tells the two sides apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from edgecoder.config import ClusterConfig
from edgecoder.core.ids import Role
from edgecoder_sim.fit.figures import Basis, Figure, default, measured, told
from edgecoder_sim.fit.rates import OriginRates, first_byte_us, mean_rate, origin_rates, stretches
from edgecoder_sim.fit.record import Machine, Record
from edgecoder_sim.fit.samples import Samples, rounded, samples_of
from edgecoder_sim.profiles import DEVICES, NETWORKS, Cdn

BITS: Final = 125_000
"""Bytes a second in a Mbit/s."""
LATENCY_MS_MIN: Final = 0.05
"""A link is as long as a tick of the shortest kind at least."""
SATURATED_S_MIN: Final = 3.0
"""An uplink counts as measured when it was full for so long in all."""
SAME_RATE: Final = 1.25
"""Uplinks that differ by less are of one kind."""
SPREAD: Final = 1.106
"""From the 10th to the 50th percentile of a round trip, in jitters of one side: each way draws once, evenly, from 0 to
the jitter of both sides, and of two such draws together a tenth are below 0.894."""
ENDS_US: Final = (
    DEVICES["laptop"].handle_us
    + DEVICES["laptop"].sign_us
    + DEVICES["server"].handle_us
    + DEVICES["server"].verify_us
    + DEVICES["server"].sign_us
)
"""What both ends of a round trip take in the simulator."""
TICKS_US: Final = (1000, 500, 200, 100)


class Line(NamedTuple):
    """One kind of access network, and how many nodes have it."""

    name: str
    nodes: int
    up: Figure
    down: Figure


class Links(NamedTuple):
    """The time on the way."""

    latency: Figure
    jitter: Figure
    tick_us: int


def links(record: Record) -> Links:
    """Latency and jitter of each side of a link, ms."""
    trips = samples_of(trip / 1000 for life in record.lives for trip in life.round_trips_us)
    if trips is None:
        lan = NETWORKS["lan"]
        why = "no heartbeat was answered in these journals"
        return Links(default(lan.latency_ms, why), default(lan.jitter_ms, why), 1000)
    way = max(4 * LATENCY_MS_MIN, trips.median - ENDS_US / 1000)
    jitter = rounded(max(0.0, min((trips.median - trips.low) / SPREAD, (way - 4 * LATENCY_MS_MIN) / 2)))
    latency = max(LATENCY_MS_MIN, rounded((way - 2 * jitter) / 4))
    says = f"heartbeats, there and back: {trips.text('ms')}"
    tick_us = next((tick for tick in TICKS_US if tick <= latency * 2000), TICKS_US[-1])
    return Links(measured(latency, f"{says}; a quarter for each side", trips), measured(jitter, says, trips), tick_us)


def lines(record: Record, role: Role) -> list[Line]:
    """The access networks of the nodes of a role, slowest uplink first; those that nothing tells of are counted to the
    one that most have."""
    found = [(figure, machine) for machine in record.of(role) if (figure := _uplink(machine)) is not None]
    found.sort(key=lambda pair: pair[0].value)
    groups: list[list[Figure]] = []
    for figure, _ in found:
        if not groups or figure.value > groups[-1][0].value * SAME_RATE:
            groups.append([])
        groups[-1].append(figure)
    silent = len(record.of(role)) - len(found)
    down = _downlink(record.of(role))
    name = role.value
    if not groups:
        up = default(NETWORKS["lan"].up_mbit_per_s, "no node gave pieces for long enough, and none has a limit")
        return [Line(name, silent, up, down)] if silent else []
    largest = max(range(len(groups)), key=lambda index: len(groups[index]))
    return [
        Line(
            name if len(groups) == 1 else f"{name}-{index + 1}",
            len(group) + (silent if index == largest else 0),
            _shared(group),
            down,
        )
        for index, group in enumerate(groups)
    ]


def _uplink(machine: Machine) -> Figure | None:
    """What a node can send, Mbit/s; None where nothing tells."""
    found = stretches(machine.given())
    rate, length_s = mean_rate(found), sum(each.length_us for each in found) / 1e6
    limit = machine.head.config.upload_kbit_per_s / 1000
    if rate is not None and (length_s >= SATURATED_S_MIN or not limit):
        return measured(rate / BITS, f"pieces that it gave, {length_s:.1f} s without a pause")
    return told(limit, "upload_kbit_per_s of its configuration") if limit else None


def _shared(group: Sequence[Figure]) -> Figure:
    """One figure for nodes of one kind; those that were measured go first."""
    seen = [figure for figure in group if figure.basis is Basis.MEASURED]
    if not seen:
        return told(rounded(group[len(group) // 2].value), f"upload_kbit_per_s of {len(group)} nodes")
    found = samples_of(figure.value for figure in seen)
    assert found is not None
    says = f"what {len(seen)} of {len(group)} nodes gave while they were saturated: {found.text('Mbit/s')}"
    return measured(rounded(found.median), says, found)


def _downlink(machines: Sequence[Machine]) -> Figure:
    limits = sorted(machine.head.config.download_kbit_per_s for machine in machines)
    middle = limits[len(limits) // 2] if limits else 0
    if middle:
        return told(middle / 1000, "download_kbit_per_s of the configuration")
    return default(NETWORKS["lan"].down_mbit_per_s, "journals do not show when a downlink is full")


class Origin(NamedTuple):
    """Where files come from at first."""

    egress: Figure
    connection: Figure
    first_byte: Figure


def origin(record: Record, cluster: ClusterConfig) -> Origin:
    """Rates in Mbit/s, the first byte in ms."""
    requests = record.origin()
    rates = origin_rates(requests)
    return Origin(
        _egress(rates, len(requests), cluster), _connection(rates, len(requests), cluster), _first_byte(record)
    )


def _egress(rates: OriginRates, count: int, cluster: ClusterConfig) -> Figure:
    word = cluster.cdn_egress_kbit_per_s / 1000
    if rates.egress is not None:
        says = f"{count} requests, up to {rates.most_at_once} at once, got no more together"
        return measured(rounded(rates.egress / BITS), says, _in_mbit(rates.steps))
    if word:
        return told(word, "cdn_egress_kbit_per_s of the cluster's configuration")
    return default(None, f"{count} requests, up to {rates.most_at_once} at once, met no common limit")


def _connection(rates: OriginRates, count: int, cluster: ClusterConfig) -> Figure:
    word, seen = cluster.cdn_kbit_per_s / 1000, (rates.connection or 0.0) / BITS
    if rates.is_connection_limit:
        return measured(rounded(seen), f"what one connection got, of {count} requests")
    if cluster.cdn_kbit_per_s != ClusterConfig().cdn_kbit_per_s and word >= 0.8 * seen:
        return told(word, f"cdn_kbit_per_s of the cluster's configuration; one got {rounded(seen)} at most")
    if seen:
        return measured(rounded(seen), f"at least: the best of {count} requests; none had the origin for itself")
    return default(Cdn().per_connection_mbit_per_s, "nothing came from an origin")


def _first_byte(record: Record) -> Figure:
    alone = first_byte_us(record.origin())
    if alone is not None:
        found = Samples(
            count=alone.count, low=alone.low / 1000, median=max(0.1, alone.median / 1000), high=alone.high / 1000
        )
        says = f"what requests that had the origin for themselves took beside their bytes: {found.text('ms')}"
        return measured(rounded(found.median), says, found)
    trips = samples_of(trip / 1000 for life in record.lives for trip in life.round_trips_us)
    if record.origin() and trips is not None:
        says = "at least: a quick round trip to the coordinator; no request had the origin for itself"
        return measured(rounded(max(0.1, trips.low)), says, trips)
    return default(Cdn().ttfb_ms, "nothing came from an origin in a way that tells it")


def _in_mbit(samples: Samples | None) -> Samples | None:
    if samples is None:
        return None
    low, median, high = (value / BITS for value in (samples.low, samples.median, samples.high))
    return Samples(count=samples.count, low=low, median=median, high=high)
