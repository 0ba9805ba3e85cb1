"""What coordinators know and say: the newest heartbeat of each agent, the newest summary of each other coordinator.

The books are built from the frames that the coordinator received; the rules judge what it says from them.
"""

from __future__ import annotations

from itertools import product

import msgspec

from edgecoder.core.effects import MeshCapabilities, Reply
from edgecoder.core.ids import LinkId, Micros, NodeId
from edgecoder.trace import AgentExpired
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Heartbeat, Identity, Summary
from edgecoder_sim.checkers.panel import Book, Panel, Rule

UNSETTLED_MAX = 10
"""So many agents that have just begun another life are judged in all their ways; a summary of more is not judged."""


class AgentRow:
    """The newest heartbeat of an agent."""

    __slots__ = ("before", "epoch", "heartbeat", "seen_us", "seq", "settles_us")

    def __init__(self, epoch: int, seq: int, heartbeat: Heartbeat, seen_us: Micros) -> None:
        self.epoch = epoch
        self.seq = seq
        self.heartbeat = heartbeat
        self.seen_us = seen_us
        self.before: AgentRow | None = None
        """Of the life before this one."""
        self.settles_us: Micros = 0
        """Until then the coordinator may still ask whether the life before is over (`coordinator.clones`), and go by
        what that said."""


class AgentBooks:
    """Rows of agents, by coordinator."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._rows: dict[int, dict[NodeId, AgentRow]] = {}
        self._lives: dict[int, dict[NodeId, tuple[int, Micros]]] = {}
        """The newest epoch in which a node has spoken, and until when the coordinator may ask about the one before."""
        panel.on_received(Identity, self._meet)
        panel.on_received(Heartbeat, self._learn)
        panel.on(AgentExpired, self._expire)

    def begin(self, book: Book) -> None:
        """Forget the rows of a coordinator."""
        self._rows[book.index], self._lives[book.index] = {}, {}

    def rows(self, book: Book) -> dict[NodeId, AgentRow]:
        """What a coordinator knows."""
        return self._rows[book.index]

    def is_alive(self, book: Book, row: AgentRow) -> bool:
        """Whether a row is young enough to be in an answer."""
        return row.seen_us > self._panel.now - book.cluster.agent_alive_ms * 1000

    def _meet(self, book: Book, _: LinkId, header: Header, __: Identity) -> None:
        """A life after another one has to wait, for as long as the other may answer."""
        lives = self._lives[book.index]
        epoch, _until = lives.get(header.sender, (header.epoch, 0))
        if header.epoch > epoch:
            until = self._panel.now + book.config.clone_answer_ms * 1000
            lives[header.sender] = (header.epoch, until)
        else:
            lives.setdefault(header.sender, (header.epoch, 0))

    def _learn(self, book: Book, _: LinkId, header: Header, message: Heartbeat) -> None:
        """Keep the newest. A delta without a row to add it to is not taken, but answered with a wish for a full one."""
        rows = self._rows[book.index]
        row = rows.get(header.sender)
        if row is None or header.epoch > row.epoch:
            if row is not None or (message.full and len(rows) < book.config.agents_max):
                new = rows[header.sender] = AgentRow(header.epoch, header.seq, message, self._panel.now)
                new.before = row
                epoch, until = self._lives[book.index].get(header.sender, (0, 0))
                new.settles_us = until if epoch == header.epoch else 0
        elif header.epoch == row.epoch and header.seq > row.seq:
            row.seq, row.heartbeat, row.seen_us = header.seq, message, self._panel.now

    def _expire(self, book: Book, record: AgentExpired) -> None:
        row = self._rows[book.index].get(record.agent)
        if row is not None and row.settles_us > self._panel.now and row.before is not None:
            row.before = None  # it is that one which is over
        else:
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
    """A summary counts every agent whose newest heartbeat is alive, as available only those that are not loading. An
    agent that has just begun another life may be counted as it was before, while the coordinator may ask there."""

    name = "summaries are true"

    def __init__(self, panel: Panel, agents: AgentBooks) -> None:
        self._agents = agents
        super().__init__(panel)

    def enter(self) -> None:
        """See `Rule`."""
        self.panel.on_sent(Summary, self._summary)

    def _summary(self, book: Book, _: LinkId, __: Header, message: Summary) -> None:
        rows = list(self._agents.rows(book).values())
        unsettled = [row for row in rows if row.settles_us > self.panel.now]
        sure = [row for row in rows if row.settles_us <= self.panel.now]
        if len(unsettled) > UNSETTLED_MAX:
            return
        wrong = None
        for each in product(*((row, row.before) for row in unsettled)):
            there = [row for row in (*sure, *each) if row is not None and self._agents.is_alive(book, row)]
            found = _difference(there, message)
            if found is None:
                return
            wrong = wrong or found
        self.fail(book, wrong or "")


def _difference(alive: list[AgentRow], message: Summary) -> str | None:
    """What a summary says that is not so, if these are alive."""
    if message.agent_count != len(alive):
        return f"counts {message.agent_count} agents in its summary; {len(alive)} are alive"
    serving: dict[str, list[int]] = {}
    for row in alive:
        model, load = row.heartbeat.active_model, row.heartbeat.current_load
        if model and not load.is_loading and row.heartbeat.work_tokens_max:
            serving.setdefault(model, []).append(load.tasks)
    said = {model: (offer.agent_count, offer.avg_load) for model, offer in message.model_availability.items()}
    true = {model: (len(loads), sum(loads) / len(loads)) for model, loads in serving.items()}
    for model in [*true, *said]:
        if said.get(model) != true.get(model):
            return (
                f"says (agents, load) of {model} are {said.get(model)} in its summary; of the agents that are "
                f"alive and not loading they are {true.get(model)}"
            )
    return None


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
