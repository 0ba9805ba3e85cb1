"""Routing: no task or probe is sent to a node whose newest known row says that it cannot take it; places are kept.

The rules keep rows of their own, from the frames that the node itself received, and always the newest.
"""

from __future__ import annotations

from typing import NamedTuple

from edgecoder.core.ids import LinkId, Micros, NodeId, Role
from edgecoder.models.catalog import normalise
from edgecoder.protocol import HOPS_MAX
from edgecoder.trace import PeerForgotten
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Capabilities, Probe, TaskRequest
from edgecoder_sim.checkers.panel import Book, Peer, Rule
from edgecoder_sim.checkers.registry import AgentBooks, SummaryBooks


class PeerRow(NamedTuple):
    """The newest capabilities of a peer, and until when they are believed."""

    capabilities: Capabilities
    holds_until_us: Micros


class PeerRouting(Rule):
    """A member probes and asks only peers on open links whose newest capabilities are believed and serve what the task
    wants."""

    name = "routed to a fitting peer"

    def enter(self) -> None:
        """See `Rule`."""
        self._rows: dict[int, dict[NodeId, PeerRow]] = {}
        self.panel.on_received(Capabilities, self._learn)
        self.panel.on(PeerForgotten, self._forget)
        self.panel.on_sent(TaskRequest, self._request)
        self.panel.on_sent(Probe, self._request)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._rows[book.index] = {}

    def _learn(self, book: Book, _: LinkId, header: Header, message: Capabilities) -> None:
        if message.agent_id != header.sender:
            return
        rows = self._rows[book.index]
        known = rows.get(message.agent_id)
        if known is not None and message.generation < known.capabilities.generation:
            return
        if known is not None and message.generation == known.capabilities.generation:
            message = known.capabilities  # it repeats what is known, for longer
        holds_until_us = self.panel.now + min(header.ttl_ms, book.config.capabilities_ttl_ms) * 1000
        rows[header.sender] = PeerRow(message, holds_until_us)

    def _forget(self, book: Book, record: PeerForgotten) -> None:
        self._rows[book.index].pop(record.peer, None)

    def _request(self, book: Book, link: LinkId, _: Header, request: TaskRequest | Probe) -> None:
        if book.role is Role.COORDINATOR:
            return
        what = f"sends {'task' if type(request) is TaskRequest else 'a probe for task'} {request.task_id.hex()}"
        peer = book.links.get(link)
        if peer is None:
            self.fail(book, f"{what} over link {link}, which is not open to anybody known")
        if peer.role is Role.COORDINATOR:
            return
        row = self._rows[book.index].get(peer.node)
        if row is None or row.holds_until_us <= self.panel.now:
            self.fail(book, f"{what} to {self._who(peer)}, whose row has expired")
        known = row.capabilities
        if known.current_load.is_loading:
            self.fail(book, f"{what} to {self._who(peer)}, whose newest row says loading")
        if request.max_tokens > known.work_tokens_max:
            self.fail(
                book, f"{what} to {self._who(peer)}, which takes at most {known.work_tokens_max} tokens for others"
            )
        why = unfit(book, request, known.active_model, known.active_model_param_size)
        if why is not None:
            self.fail(book, f"{what} to {self._who(peer)}: {why}")

    def _who(self, peer: Peer) -> str:
        return who(self, peer)


class RelayRouting(Rule):
    """A coordinator asks only agents that it heard of lately, that are not loading and serve what the task wants, and
    forwards only what was not forwarded, to a coordinator whose newest summary holds and offers it."""

    name = "relayed to a fitting agent"

    def enter(self) -> None:
        """See `Rule`."""
        self.agents = AgentBooks(self.panel)
        self.summaries = SummaryBooks(self.panel)
        self.panel.on_sent(TaskRequest, self._request)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self.agents.begin(book)
        self.summaries.begin(book)

    def _request(self, book: Book, link: LinkId, _: Header, request: TaskRequest) -> None:
        if book.role is not Role.COORDINATOR:
            return
        peer = book.links.get(link)
        if peer is None:
            self.fail(book, f"sends task {request.task_id.hex()} over link {link}, which is not open to anybody known")
        judge = self._why_not_forward if peer.role is Role.COORDINATOR else self._why_not_agent
        why = judge(book, peer.node, request)
        if why is not None:
            self.fail(book, f"sends task {request.task_id.hex()} to {who(self, peer)}: {why}")

    def _why_not_agent(self, book: Book, agent: NodeId, request: TaskRequest) -> str | None:
        row = self.agents.rows(book).get(agent)
        if row is None:
            return "it is not registered"
        if not self.agents.is_alive(book, row):
            age_ms = (self.panel.now - row.seen_us) // 1000
            return f"its newest heartbeat is {age_ms} ms old and has expired"
        heartbeat = row.heartbeat
        if heartbeat.current_load.is_loading:
            return "its newest heartbeat says loading"
        if request.max_tokens > heartbeat.work_tokens_max:
            return f"its newest heartbeat says at most {heartbeat.work_tokens_max} tokens for others"
        return unfit(book, request, heartbeat.active_model, heartbeat.active_model_param_size)

    def _why_not_forward(self, book: Book, coordinator: NodeId, request: TaskRequest) -> str | None:
        if request.hops > HOPS_MAX:
            return "it came from a coordinator, and is not handed on again"
        row = self.summaries.rows(book).get(coordinator)
        if row is None:
            return "it has sent no summary"
        if row.expires_us <= self.panel.now:
            return f"its newest summary expired {(self.panel.now - row.expires_us) // 1000} ms ago"
        names = None if request.model is None else book.catalog.same_model(request.model)
        for name, offer in row.summary.model_availability.items():
            is_large = offer.total_param_capacity >= request.min_param_size * offer.agent_count
            if is_large and (names is None or name in names):
                return None
        return "its newest summary offers nothing that fits"


def unfit(book: Book, request: TaskRequest | Probe, active: str | None, param_size: float | None) -> str | None:
    """Why a model cannot answer a request, None where it can."""
    if active is None:
        return "its newest row has no model"
    if request.model is not None and normalise(active) not in book.catalog.same_model(request.model):
        return f"its newest row has {active}, not {request.model}"
    if request.min_param_size > (param_size or 0.0):
        return f"its newest row has {param_size} billion parameters, fewer than {request.min_param_size}"
    return None


def who(rule: Rule, peer: Peer) -> str:
    """A peer's name for a message."""
    names = [book.name for book in rule.panel.books.values() if book.node == peer.node]
    return names[0] if names else peer.node.hex()[:8]
