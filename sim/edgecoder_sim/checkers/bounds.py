"""Bounds: what a node holds stays within its configuration, as far as it shows outside; what it offers is recent."""

from __future__ import annotations

from edgecoder.core.effects import RunTask
from edgecoder.core.events import TaskDone, TaskFailed
from edgecoder.core.ids import LinkId, NodeId
from edgecoder.trace import (
    AgentExpired,
    AgentLearned,
    CapabilitiesChanged,
    PeerForgotten,
    PeerLearned,
    SummaryExpired,
    SummaryLearned,
)
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Identity, TaskRequest
from edgecoder_sim.checkers.panel import GRACE_US, Book, Rule


class Bounds(Rule):
    """Links, queued tasks, peers, agents and summaries stay within the configured bounds."""

    name = "bounds"

    def enter(self) -> None:
        """See `Rule`."""
        self._peers: dict[int, set[NodeId]] = {}
        self._agents: dict[int, set[NodeId]] = {}
        self._coordinators: dict[int, set[NodeId]] = {}
        self.panel.on_sent(Identity, self._identified)
        self.panel.on_sent(TaskRequest, self._request)
        self.panel.on(CapabilitiesChanged, self._changed)
        self.panel.on(PeerLearned, self._peer_learned)
        self.panel.on(PeerForgotten, self._peer_forgotten)
        self.panel.on(AgentLearned, self._agent_learned)
        self.panel.on(AgentExpired, self._agent_expired)
        self.panel.on(SummaryLearned, self._summary_learned)
        self.panel.on(SummaryExpired, self._summary_expired)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        for memory in (self._peers, self._agents, self._coordinators):
            memory[book.index] = set()

    def _identified(self, book: Book, _: LinkId, __: Header, ___: Identity) -> None:
        self._judge(book, "links", len(book.links), "links_max", book.config.links_max)

    def _changed(self, book: Book, record: CapabilitiesChanged) -> None:
        limit = book.config.slots + book.config.task_queue_max
        self._judge(book, "accepted tasks", record.tasks, "slots + task_queue_max", limit)

    def _request(self, book: Book, _: LinkId, __: Header, request: TaskRequest) -> None:
        size_bytes = len(request.prompt.encode())
        self._judge(book, "bytes in a prompt", size_bytes, "prompt_bytes_max", book.config.prompt_bytes_max)

    def _peer_learned(self, book: Book, record: PeerLearned) -> None:
        known = self._peers[book.index]
        if record.peer not in known:
            known.add(record.peer)
            self._judge(book, "peers", len(known), "peers_max", book.config.peers_max)

    def _agent_learned(self, book: Book, record: AgentLearned) -> None:
        known = self._agents[book.index]
        if record.agent not in known:
            known.add(record.agent)
            self._judge(book, "agents", len(known), "agents_max", book.config.agents_max)

    def _summary_learned(self, book: Book, record: SummaryLearned) -> None:
        known = self._coordinators[book.index]
        known.add(record.coordinator)
        self._judge(book, "summaries", len(known), "coordinators_max", book.config.coordinators_max)

    def _peer_forgotten(self, book: Book, record: PeerForgotten) -> None:
        self._peers[book.index].discard(record.peer)

    def _agent_expired(self, book: Book, record: AgentExpired) -> None:
        self._agents[book.index].discard(record.agent)

    def _summary_expired(self, book: Book, record: SummaryExpired) -> None:
        self._coordinators[book.index].discard(record.coordinator)

    def _judge(self, book: Book, what: str, count: int, bound: str, limit: int) -> None:
        if count > limit:
            self.fail(book, f"has {count} {what}; {bound} is {limit}")


class NewsIsRecent(Rule):
    """A change between idle and busy is advertised within `readvertise_interval_ms`."""

    name = "load is advertised"

    def enter(self) -> None:
        """See `Rule`."""
        self._said: dict[int, CapabilitiesChanged] = {}
        self.panel.on(CapabilitiesChanged, self._changed)
        self.panel.on((RunTask, TaskDone, TaskFailed), self._moved)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._said.pop(book.index, None)

    def _changed(self, book: Book, record: CapabilitiesChanged) -> None:
        self._said[book.index] = record

    def _moved(self, book: Book, _: RunTask | TaskDone | TaskFailed) -> None:
        said = self._said.get(book.index)
        if said is not None and bool(said.tasks) != bool(book.runs):
            due_us = self.panel.now + book.config.readvertise_interval_ms * 1000 + GRACE_US
            self.panel.alarm(due_us, self._overdue, book, said)

    def _overdue(self, book: Book, said: CapabilitiesChanged) -> None:
        if self._said.get(book.index) is said and not said.loading and bool(said.tasks) != bool(book.runs):
            self.fail(
                book, f"still advertises {said.tasks} tasks of generation {said.generation}; it runs {len(book.runs)}"
            )
