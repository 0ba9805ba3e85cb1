"""What coordinators know and say: the newest heartbeat of each agent, the newest summary of each other coordinator.

The books are built from the frames that the coordinator received; the rules judge what it says from them.
"""

from __future__ import annotations

import msgspec

from edgecoder.core.effects import MeshCapabilities, Reply
from edgecoder.core.ids import LinkId, Micros, NodeId
from edgecoder.trace import AgentExpired
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Heartbeat, Summary
from edgecoder_sim.checkers.panel import Book, Panel, Rule


class AgentRow:
    """The newest heartbeat of an agent."""

    __slots__ = ("epoch", "heartbeat", "seen_us", "seq")

    def __init__(self, epoch: int, seq: int, heartbeat: Heartbeat, seen_us: Micros) -> None:
        self.epoch = epoch
        self.seq = seq
        self.heartbeat = heartbeat
        self.seen_us = seen_us


class AgentBooks:
    """Rows of agents, by coordinator."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._rows: dict[int, dict[NodeId, AgentRow]] = {}
        panel.on_received(Heartbeat, self._learn)
        panel.on(AgentExpired, self._expire)

    def begin(self, book: Book) -> None:
        """Forget the rows of a coordinator."""
        self._rows[book.index] = {}

    def rows(self, book: Book) -> dict[NodeId, AgentRow]:
        """What a coordinator knows."""
        return self._rows[book.index]

    def is_alive(self, book: Book, row: AgentRow) -> bool:
        """Whether a row is young enough to be in an answer."""
        return row.seen_us > self._panel.now - book.cluster.agent_alive_ms * 1000

    def _learn(self, book: Book, _: LinkId, header: Header, message: Heartbeat) -> None:
        """Keep the newest. A delta without a row to add it to is not taken, but answered with a wish for a full one."""
        rows = self._rows[book.index]
        row = rows.get(header.sender)
        if row is None:
            if message.full and len(rows) < book.config.agents_max:
                rows[header.sender] = AgentRow(header.epoch, header.seq, message, self._panel.now)
        elif header.epoch > row.epoch or (header.epoch == row.epoch and header.seq > row.seq):
            row.epoch, row.seq, row.heartbeat, row.seen_us = header.epoch, header.seq, message, self._panel.now

    def _expire(self, book: Book, record: AgentExpired) -> None:
        self._rows[book.index].pop(record.agent, None)


class SummaryRow(msgspec.Struct, frozen=True, gc=False):
    """The newest summary of another coordinator."""

    epoch: int
    seq: int
    arrived_us: Micros
    expires_us: Micros
    summary: Summary


class SummaryBooks:
    """Summaries of other coordinators, by coordinator that received them."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._rows: dict[int, dict[NodeId, SummaryRow]] = {}
        panel.on_received(Summary, self._learn)

    def begin(self, book: Book) -> None:
        """Forget the rows of a coordinator."""
        self._rows[book.index] = {}

    def rows(self, book: Book) -> dict[NodeId, SummaryRow]:
        """What a coordinator knows."""
        return self._rows[book.index]

    def _learn(self, book: Book, _: LinkId, header: Header, message: Summary) -> None:
        rows = self._rows[book.index]
        row = rows.get(header.sender)
        is_newer = row is None or (header.epoch, header.seq) > (row.epoch, row.seq)
        if message.coordinator_id == header.sender and is_newer:
            period_ms = book.cluster.summary_interval_ms * book.cluster.summary_periods_max
            now_us = self._panel.now
            expires_us = now_us + min(header.ttl_ms, period_ms) * 1000
            rows[header.sender] = SummaryRow(header.epoch, header.seq, now_us, expires_us, message)


class SummariesAreTrue(Rule):
    """A summary counts every agent whose newest heartbeat is alive, as available only those that are not loading."""

    name = "summaries are true"

    def __init__(self, panel: Panel, agents: AgentBooks) -> None:
        self._agents = agents
        super().__init__(panel)

    def enter(self) -> None:
        """See `Rule`."""
        self.panel.on_sent(Summary, self._summary)

    def _summary(self, book: Book, _: LinkId, __: Header, message: Summary) -> None:
        alive = [row for row in self._agents.rows(book).values() if self._agents.is_alive(book, row)]
        if message.agent_count != len(alive):
            self.fail(book, f"counts {message.agent_count} agents in its summary; {len(alive)} are alive")
        serving: dict[str, list[int]] = {}
        for row in alive:
            model, load = row.heartbeat.active_model, row.heartbeat.current_load
            if model and not load.is_loading and row.heartbeat.work_tokens_max:
                serving.setdefault(model, []).append(load.tasks)
        said = {model: (offer.agent_count, offer.avg_load) for model, offer in message.model_availability.items()}
        true = {model: (len(loads), sum(loads) / len(loads)) for model, loads in serving.items()}
        for model in [*true, *said]:
            if said.get(model) != true.get(model):
                self.fail(
                    book,
                    f"says (agents, load) of {model} are {said.get(model)} in its summary; of the agents that are "
                    f"alive and not loading they are {true.get(model)}",
                )


class AnswersAreFresh(Rule):
    """`GET /mesh/capabilities` serves the newest summary of each coordinator, and none that has expired."""

    name = "answers are fresh"

    def __init__(self, panel: Panel, summaries: SummaryBooks) -> None:
        self._summaries = summaries
        super().__init__(panel)

    def enter(self) -> None:
        """See `Rule`."""
        self.panel.on(Reply, self._reply)

    def _reply(self, book: Book, effect: Reply) -> None:
        if not isinstance(effect.result, MeshCapabilities):
            return
        for served in effect.result.coordinators:
            if served.coordinator_id == book.node:
                continue
            who = served.coordinator_id.hex()[:8]
            row = self._summaries.rows(book).get(served.coordinator_id)
            if row is None:
                self.fail(book, f"serves a summary of {who}, which has sent none")
            if row.expires_us <= self.panel.now:
                self.fail(book, f"serves a summary of {who} that has expired")
            age_ms = (self.panel.now - row.arrived_us) // 1000
            if (served.agent_count, served.age_ms) != (row.summary.agent_count, age_ms):
                self.fail(book, f"serves a summary of {who} of {served.age_ms} ms ago; the newest came {age_ms} ms ago")
