"""Capability summaries: what this coordinator's agents offer, told to the federation each period, and what others told.

A summary is taken if its (epoch, seq) is newer than the one held, and served for `summary_periods_max` periods after it
came, on this node's own clock.
"""

from __future__ import annotations

import msgspec

from edgecoder.coordinator.registry import Registry
from edgecoder.core.context import MILLI, Context
from edgecoder.core.effects import CoordinatorRow, MeshCapabilities, Send
from edgecoder.core.events import QueryMesh
from edgecoder.core.ids import LinkId, Micros, NodeId
from edgecoder.core.timers import next_turn
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Link
from edgecoder.mesh.models import SameModel
from edgecoder.models.catalog import normalise
from edgecoder.trace import SummaryExpired, SummaryLearned, SummarySent
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import MODELS_MAX, ModelAvailability, Summary

_TIMER = ("summary", 0)


class SummaryRow(msgspec.Struct):
    """A summary of another coordinator."""

    epoch: int
    seq: int
    received_at: Micros
    expires_at: Micros
    link: Link
    summary: Summary


class Summaries:
    """This coordinator's summary and those of the others."""

    def __init__(self, context: Context, registry: Registry, same_model: SameModel) -> None:
        self._context = context
        self._registry = registry
        self._same_model = same_model
        self._period: Micros = context.cluster.summary_interval_ms * MILLI
        self._next: Micros = 0
        self.links: dict[LinkId, Link] = {}
        """Links to other coordinators that are up."""
        self.rows: dict[NodeId, SummaryRow] = {}

    def start(self) -> None:
        """Begin the period at a random phase."""
        self._next = self._context.now + self._context.stream("summary").below(self._period)
        self._context.timers.set(_TIMER, self._next, self._tick)

    def link_bound(self, link: Link) -> None:
        """Another coordinator came: tell it what there is."""
        self.links[link.id] = link
        self._send([link.id], self._summary())

    def tell_all(self) -> None:
        """Send the summary as it is now."""
        self._send(list(self.links), self._summary())

    def link_down(self, link: LinkId) -> None:
        """A link to another coordinator was lost; its summary holds until it expires."""
        self.links.pop(link, None)

    def learn(self, link: Link, header: Header, summary: Summary) -> None:
        """Take another's summary."""
        row = self.rows.get(header.sender)
        if summary.coordinator_id != header.sender:
            self._context.drop("summary", Reason.UNKNOWN_SENDER)
        elif row is None and len(self.rows) >= self._context.config.coordinators_max:
            self._context.drop("summary", Reason.OVERFLOW)
        elif row is None or (header.epoch, header.seq) > (row.epoch, row.seq):
            holds_ms = min(header.ttl_ms, self._lifetime_ms)
            row = SummaryRow(header.epoch, header.seq, self._context.now, self._context.in_ms(holds_ms), link, summary)
            self.rows[header.sender] = row
            self._context.trace(SummaryLearned(header.sender, header.epoch, header.seq))

    def held(self) -> dict[NodeId, SummaryRow]:
        """The summaries that may be served."""
        return {node: row for node, row in self.rows.items() if row.expires_at > self._context.now}

    def alive(self) -> list[NodeId]:
        """The coordinators that are there: their summary holds, and the link that it came over is up."""
        return [node for node, row in self.held().items() if row.link.id in self.links]

    def query(self, query: QueryMesh) -> MeshCapabilities:
        """The answer to `GET /mesh/capabilities`: coordinators with a fitting model, this one included, best first:
        most free slots, then least load, then most agents."""
        own = CoordinatorRow(self._context.node_id, self._registry.agent_count(), self._registry.availability(), 0)
        rows = [own]
        for node, row in self.held().items():
            age_ms = (self._context.now - row.received_at) // MILLI
            rows.append(CoordinatorRow(node, row.summary.agent_count, row.summary.model_availability, age_ms))
        fitting = []
        for row_ in rows:
            models = self.fitting(row_.model_availability, query.model, query.min_param_size)
            if models or (query.model is None and query.min_param_size == 0):
                fitting.append((rank(models), msgspec.structs.replace(row_, model_availability=models)))
        fitting.sort(key=lambda pair: (pair[0], pair[1].coordinator_id))
        return MeshCapabilities(tuple(row_ for _, row_ in fitting[: max(0, query.limit)]))

    def fitting(
        self, availability: dict[str, ModelAvailability], model: str | None, min_param_size: float
    ) -> dict[str, ModelAvailability]:
        """The models of a summary that a request may use; `model` matches by any alias."""
        names = None if model is None else self._same_model(model)
        return {
            name: row
            for name, row in availability.items()
            if (names is None or normalise(name) in names)
            and row.total_param_capacity >= min_param_size * row.agent_count
        }

    @property
    def _lifetime_ms(self) -> int:
        return self._context.cluster.summary_interval_ms * self._context.cluster.summary_periods_max

    def _tick(self) -> None:
        self._next = next_turn(self._next, self._period, self._context.now)
        self._context.timers.set(_TIMER, self._next, self._tick)
        for node in [node for node, row in self.rows.items() if row.expires_at <= self._context.now]:
            del self.rows[node]
            self._context.trace(SummaryExpired(node))
        self._send(list(self.links), self._summary())

    def _summary(self) -> Summary:
        return Summary(
            coordinator_id=self._context.node_id,
            agent_count=self._registry.agent_count(),
            model_availability=self._told(self._registry.availability()),
        )

    def _told(self, availability: dict[str, ModelAvailability]) -> dict[str, ModelAvailability]:
        """As many models as one summary names: those that most agents serve."""
        if len(availability) <= MODELS_MAX:
            return availability
        self._context.drop("summary models", Reason.OVERFLOW)
        most = sorted(availability, key=lambda model: (-availability[model].agent_count, model))[:MODELS_MAX]
        return {model: availability[model] for model in sorted(most)}

    def _send(self, links: list[LinkId], summary: Summary) -> None:
        """One envelope for all: its (epoch, seq) is the summary's."""
        frame = self._context.seal(summary, self._lifetime_ms)
        self._context.out += [Send(link, frame) for link in links]
        available = {model: row.agent_count for model, row in summary.model_availability.items()}
        self._context.trace(
            SummarySent(self._context.epoch, self._context.seq, summary.agent_count, available, len(links))
        )


def rank(models: dict[str, ModelAvailability]) -> tuple[int, float, int]:
    """Smaller is better."""
    free = sum(row.free_slots for row in models.values())
    agents = sum(row.agent_count for row in models.values())
    load = sum(row.avg_load * row.agent_count for row in models.values()) / agents if agents else 0.0
    return (-free, load, -agents)
