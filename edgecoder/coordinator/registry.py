"""The registry: the nodes whose home this coordinator is, as their heartbeats tell.

A heartbeat may be a delta against the one acknowledged last; without a base for it the node is asked for a full one. A
node that is silent for `agent_alive_ms` is in no answer, and is dropped soon after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import fsum

import msgspec

from edgecoder.config import DeviceType
from edgecoder.core.context import MILLI, Context
from edgecoder.core.ids import LinkId, Micros, NodeId
from edgecoder.core.timers import next_turn
from edgecoder.mesh.gate import Link
from edgecoder.mesh.peers import FitsModel
from edgecoder.mesh.router import Candidate, PeerStats, Why
from edgecoder.trace import AgentExpired, AgentLearned, ConfigDiffers
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Heartbeat, Load, ModelAvailability, Power

_SWEEP = ("registry.sweep", 0)


class AgentRow(msgspec.Struct):
    """What a node said of itself, in its newest heartbeat and those before."""

    node: NodeId
    link: Link
    epoch: int
    seq: int
    last_seen: Micros
    heartbeat: Heartbeat
    power: Power
    device_type: DeviceType
    memory_mb: int
    slots: int
    tokens_per_s: int
    holdings_digest: bytes
    stats: PeerStats
    asked: int = 0
    """Tasks that were sent there since its newest heartbeat, which its load does not count yet."""

    @property
    def load(self) -> Load:
        """As of the newest heartbeat."""
        return self.heartbeat.current_load


class Registry:
    """The rows, in the order in which the nodes came."""

    def __init__(self, context: Context, links: Mapping[LinkId, Link]) -> None:
        """`links` are those that are up, kept by the gate."""
        self._context = context
        self._links = links
        self._alive_us: Micros = context.cluster.agent_alive_ms * MILLI
        self._next_sweep: Micros = 0
        self.rows: dict[NodeId, AgentRow] = {}

    def start(self) -> None:
        """Begin to sweep."""
        self._next_sweep = self._context.now
        self._schedule_sweep()

    def _schedule_sweep(self) -> None:
        period = self._context.cluster.heartbeat_interval_ms * MILLI
        self._next_sweep = next_turn(self._next_sweep, period, self._context.now)
        self._context.timers.set(_SWEEP, self._next_sweep, self._sweep)

    def learn(self, link: Link, header: Header, message: Heartbeat) -> bool:
        """Take a heartbeat. False: it is a delta, and there is nothing to add it to."""
        row = self.rows.get(header.sender)
        if row is not None and (header.epoch, header.seq) <= (row.epoch, row.seq):
            return True
        is_news = row is None or row.heartbeat.generation != message.generation
        if row is None or message.full:
            if not message.full or (row is None and len(self.rows) >= self._context.config.agents_max):
                return False
            row = self._take_full(link, header, message, row)
        else:
            self._take_delta(row, message)
        row.link, row.epoch, row.seq, row.heartbeat = link, header.epoch, header.seq, message
        row.last_seen, row.asked = self._context.now, 0
        if is_news:
            loading = message.current_load.is_loading
            self._context.trace(AgentLearned(row.node, message.generation, message.active_model, loading))
        return True

    def alive(self) -> Iterator[AgentRow]:
        """The rows that may be in an answer."""
        oldest = self._context.now - self._alive_us
        return (row for row in self.rows.values() if row.last_seen > oldest)

    def is_alive(self, row: AgentRow) -> bool:
        """Whether a row may be in an answer."""
        return row.last_seen > self._context.now - self._alive_us

    def candidates(self, fits: FitsModel, tried: set[NodeId], tokens: int = 0) -> Iterator[Candidate]:
        """Every row, with the reason for which a router must pass it over. `tokens` is the length of the answer."""
        now = self._context.now
        for row in self.rows.values():
            heartbeat = row.heartbeat
            why = fits(heartbeat.active_model, heartbeat.active_model_param_size)
            if why is None:
                if heartbeat.current_load.is_loading:
                    why = Why.IS_LOADING
                elif not self.is_alive(row):
                    why = Why.EXPIRED
                elif row.link.id not in self._links:
                    why = Why.UNREACHABLE
                elif row.stats.blacklisted_until > now:
                    why = Why.BLACKLISTED
                elif row.node in tried:
                    why = Why.TRIED
                elif tokens > heartbeat.work_tokens_max:
                    why = Why.LOW_POWER
            yield Candidate(
                row.node,
                heartbeat.active_model_param_size,
                heartbeat.current_load,
                row.device_type,
                row.power.battery_pct,
                None,
                row.stats.fail_rate,
                0 if why is not None else row.stats.quality(),
                why,
                tokens_per_s=row.tokens_per_s,
                slots=row.slots,
                age_ms=(now - row.last_seen) // MILLI,
                asked=row.asked,
                on_external_power=row.power.on_external_power,
            )

    def availability(self) -> dict[str, ModelAvailability]:
        """What the live agents offer, by active model in the order of names. Agents that are dead, loading or save
        their battery offer nothing."""
        by_model: dict[str, list[AgentRow]] = {}
        for row in self.alive():
            model = row.heartbeat.active_model
            if model and not row.load.is_loading and row.heartbeat.work_tokens_max:
                by_model.setdefault(model, []).append(row)
        return {model: summarise(by_model[model]) for model in sorted(by_model)}

    def agent_count(self) -> int:
        """Live nodes, with or without a model."""
        return sum(1 for _ in self.alive())

    def _take_full(self, link: Link, header: Header, message: Heartbeat, row: AgentRow | None) -> AgentRow:
        hash_ = message.cluster_config_hash
        if hash_ is not None and hash_ != self._context.cluster_digest:
            self._context.trace(ConfigDiffers(header.sender))
        fresh = AgentRow(
            header.sender,
            link,
            header.epoch,
            header.seq,
            self._context.now,
            message,
            message.power or Power(on_external_power=False, battery_pct=0),
            message.device_type or DeviceType.PHONE,
            message.memory_mb or 0,
            message.slots or 0,
            message.tokens_per_s or 0,
            message.holdings_digest or b"",
            PeerStats() if row is None else row.stats,
        )
        self.rows[header.sender] = fresh
        return fresh

    def _take_delta(self, row: AgentRow, message: Heartbeat) -> None:
        if message.power is not None:
            row.power = message.power
        if message.device_type is not None:
            row.device_type = message.device_type
        if message.memory_mb is not None:
            row.memory_mb = message.memory_mb
        if message.slots is not None:
            row.slots = message.slots
        if message.tokens_per_s is not None:
            row.tokens_per_s = message.tokens_per_s
        if message.holdings_digest is not None:
            row.holdings_digest = message.holdings_digest

    def _sweep(self) -> None:
        self._schedule_sweep()
        for row in [row for row in self.rows.values() if not self.is_alive(row)]:
            del self.rows[row.node]
            self._context.trace(AgentExpired(row.node))


def summarise(rows: list[AgentRow]) -> ModelAvailability:
    """One model's availability over the rows that serve it (seed; vectors/capability_summary). The sum is exact: n
    agents of size s are worth n·s, so that a query for `s` finds them."""
    loads = [row.load.tasks for row in rows]
    return ModelAvailability(
        agent_count=len(rows),
        total_param_capacity=fsum(row.heartbeat.active_model_param_size or 0.0 for row in rows),
        avg_load=sum(loads) / len(rows),
        free_slots=sum(max(0, row.slots - load) for row, load in zip(rows, loads, strict=True)),
    )
