"""What routers judge by: candidates, what was measured of them, reason codes; and the router of v1. Nothing here sends.

`CostRouter` is the router of the first EdgeCoder (v1), kept as a policy; the default is in `soonest`. What is excluded
is excluded before any cost: a node that is changing its model, one whose row has expired, a blacklisted one, one with
the wrong model.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Protocol

import msgspec

from edgecoder.config import DeviceType, NodeConfig
from edgecoder.core.ids import Micros, NodeId
from edgecoder.core.rng import Stream
from edgecoder.errors import Reason
from edgecoder.wire.messages import Load, Probe, TaskRequest

UNKNOWN_QUALITY = 50
"""Quality of a peer of which nothing was measured (v1)."""
NOT_ITS_FAULT = frozenset(
    (
        Reason.CANCELLED,
        Reason.DEADLINE,
        Reason.NO_ROUTE,
        Reason.LOADING,
        Reason.DRAINED,
        Reason.SHUTTING_DOWN,
        Reason.LOW_POWER,
    )
)
"""Reasons of a failed task for which the node that had it is not blamed."""


class Why(Enum):
    """Reason codes of routing, as `edgecoder why` shows them."""

    CHEAPEST = "cheapest"
    SOONEST = "soonest"
    HERE = "soonest here"
    COORDINATOR = "asked the coordinator"
    HEDGED = "asked a second one"
    FORWARDED = "forwarded to another coordinator"
    NOBODY = "nobody can take it now"
    IS_LOADING = "loading"
    HAS_NO_MODEL = "no model"
    WRONG_MODEL = "wrong model"
    TOO_SMALL = "model too small"
    EXPIRED = "not heard of lately"
    OUTDATED = "has news that were not read yet"
    UNREACHABLE = "not reachable"
    BLACKLISTED = "blacklisted"
    TRIED = "tried before"
    TOO_COSTLY = "too costly"
    LOW_POWER = "saves its battery"
    SILENT = "no answer to a probe"


class PeerStats(msgspec.Struct):
    """What was measured of a peer."""

    rssi_sum_dbm: int = 0
    rssi_samples: int = 0
    drops: int = 0
    """Links to it that were lost."""
    succeeded: int = 0
    failed: int = 0
    failed_in_row: int = 0
    latency_sum_ms: int = 0
    """From request to acceptance, over the successes."""
    blacklisted_until: Micros = 0
    unanswered: int = 0
    """Probes in a row that it did not answer."""

    def note_rssi(self, rssi_dbm: int) -> None:
        """Count a signal measurement."""
        self.rssi_sum_dbm += rssi_dbm
        self.rssi_samples += 1

    def note_success(self, latency_ms: int) -> None:
        """A task that was sent there was answered."""
        self.succeeded += 1
        self.failed_in_row = 0
        self.latency_sum_ms += latency_ms

    def note_failure(self, now: Micros, config: NodeConfig) -> None:
        """A task that was sent there was not answered; too many in a row blacklist the peer for a while."""
        self.failed += 1
        self.failed_in_row += 1
        if self.failed_in_row >= config.blacklist_failures:
            self.blacklisted_until = now + config.blacklist_ms * 1000
            self.failed_in_row = 0

    @property
    def rssi_avg_dbm(self) -> float | None:
        """Mean signal, None without a measurement."""
        return self.rssi_sum_dbm / self.rssi_samples if self.rssi_samples else None

    @property
    def fail_rate(self) -> float:
        """Share of tasks that failed there, 0 where none was tried."""
        tried = self.succeeded + self.failed
        return self.failed / tried if tried else 0.0

    def quality(self) -> int:
        """0 to 100: four parts of at most 25 each for signal, drops, success and latency; 50 where nothing is known."""
        tried = self.succeeded + self.failed
        if not (self.rssi_samples or self.drops or tried):
            return UNKNOWN_QUALITY
        signal = latency = success = 25.0
        if self.rssi_samples:
            signal = min(25.0, max(0.0, (self.rssi_sum_dbm / self.rssi_samples + 100) / 70 * 25))
        if self.succeeded:
            latency = max(0.0, 25 - self.latency_sum_ms / self.succeeded / 5000 * 25)
        if self.failed:
            success = 25 * (1 - self.failed / tried)
        return round(signal + max(0.0, 25 - 2.5 * self.drops) + success + latency)


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """What the router knows of one node. `excluded` says why it is out before any cost."""

    node: NodeId
    param_size: float | None
    load: Load
    device_type: DeviceType
    battery_pct: int
    rssi_dbm: float | None
    fail_rate: float
    quality: int
    excluded: Why | None = None
    tokens_per_s: int = 0
    """Decoding speed that it advertised."""
    slots: int = 1
    age_ms: int = 0
    """Since it was heard of."""
    unanswered: int = 0
    """Probes in a row that it did not answer."""
    asked: int = 0
    """Tasks that were sent there since its load was heard of."""
    kbit_per_s: int = 0
    """Goodput of the way there; 0: prompts take no time."""
    on_external_power: bool = False


class Decision(msgspec.Struct, frozen=True, gc=False):
    """Whom the router chose; None: nobody. `excluded` counts the others by reason."""

    node: NodeId | None
    cost: float | None
    """In the router's own unit: points of v1, or ms to the expected finish."""
    eligible: int
    excluded: dict[str, int]


class Router(Protocol):
    """Chooses at once, by what is known."""

    why: Why
    """Reason code of its choices."""

    def choose(self, candidates: Iterable[Candidate], request: TaskRequest | Probe) -> Decision:
        """Judge every candidate for a task."""
        ...


def signal_penalty(rssi_dbm: float | None) -> float:
    """0 to 30 for a radio's signal; a wired link (None) costs nothing."""
    return 0.0 if rssi_dbm is None else min(30.0, max(0.0, (-rssi_dbm - 30) * 0.5))


def cost(candidate: Candidate) -> float:
    """The cost of sending a task to a candidate that is not loading (v1)."""
    battery = (100 - candidate.battery_pct) * 0.5 if candidate.device_type is DeviceType.PHONE else 0.0
    return (
        max(0.0, (7 - (candidate.param_size or 0.0)) * 8)
        + candidate.load.tasks * 20
        + battery
        + signal_penalty(candidate.rssi_dbm)
        + candidate.fail_rate * 60
        + (100 - candidate.quality) * 0.3
    )


class CostRouter:
    """Takes the cheapest candidate below `cost_max`; ties are broken at random, or all would pick the same."""

    why = Why.CHEAPEST

    def __init__(self, config: NodeConfig, stream: Stream) -> None:
        self._cost_max = config.cost_max
        self._stream = stream

    def choose(self, candidates: Iterable[Candidate], _: TaskRequest | Probe | None = None) -> Decision:
        """Judge every candidate; its cost is the same for every task."""
        excluded: dict[str, int] = {}
        best: list[NodeId] = []
        best_cost: float | None = None
        eligible = 0
        for candidate in candidates:
            why = candidate.excluded or (Why.IS_LOADING if candidate.load.is_loading else None)
            price = 0.0 if why else cost(candidate)
            if why is None and price >= self._cost_max:
                why = Why.TOO_COSTLY
            if why is not None:
                excluded[why.value] = excluded.get(why.value, 0) + 1
                continue
            eligible += 1
            if best_cost is None or price < best_cost:
                best_cost, best = price, [candidate.node]
            elif price == best_cost:
                best.append(candidate.node)
        node = None if not best else best[0] if len(best) == 1 else self._stream.choice(best)
        return Decision(node, best_cost, eligible, excluded)
