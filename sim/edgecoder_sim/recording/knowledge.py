"""What is true of each node, and what the others believe: availability, staleness, and the table of gossip.

The truth about a node is the pair (active model, is it changing its model); it begins to change its model with the
first phase of a swap, before it says so. The truth about a coordinator is how many of its nodes its own registry shows
ready, by model. Beliefs follow from the records of who learned what.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from edgecoder.core.ids import COUNTER_BITS, NodeId, Role
from edgecoder.trace import (
    AgentExpired,
    AgentLearned,
    CapabilitiesChanged,
    ConfigDiffers,
    HomeChanged,
    LifeEnded,
    NodeReady,
    OnlineChanged,
    PeerForgotten,
    PeerLearned,
    SummaryExpired,
    SummaryLearned,
    SummarySent,
    SwapPhase,
)
from edgecoder_sim.recording.beliefs import Beliefs
from edgecoder_sim.recording.beliefs import Row as BeliefRow
from edgecoder_sim.recording.files import Row
from edgecoder_sim.recording.spells import Spells
from edgecoder_sim.tables import PHASES, NodeRow

GENERATIONS_MAX: Final = 64
"""Generations of a node that are remembered, to tell what news of them said and how old they are."""
SUMMARIES_MAX: Final = 64
"""The same for the summaries of a coordinator."""

State = tuple[str | None, bool]
"""Active model; whether it is being changed."""
Offer = tuple[tuple[str, int], ...]
"""Nodes ready by model, sorted by model."""
Add = Callable[[Row], None]

_UNKNOWN: Final = (None, None)
"""The state of a generation that is not remembered: like no true one."""


class _Said:
    """A generation of capabilities, or a summary."""

    __slots__ = ("at_us", "state", "version")

    def __init__(self, at_us: int, version: int, state: State | Offer) -> None:
        self.at_us, self.version, self.state = at_us, version, state


class Knowledge:
    """Truth and beliefs of one run."""

    def __init__(self, nodes: Sequence[NodeRow], index: dict[NodeId, int], gossip: Add, timeline: Add) -> None:
        self._index = index
        self._gossip = gossip
        self._timeline = timeline
        count = len(nodes)
        self._coordinators = [row.index for row in nodes if row.role == Role.COORDINATOR.value]
        self._members = count - len(self._coordinators)
        self._truth: list[State] = [(None, False)] * count
        self._offer: dict[int, Offer] = dict.fromkeys(self._coordinators, ())
        self._counts: dict[int, dict[str, int]] = {each: {} for each in self._coordinators}
        self._generations: list[dict[int, _Said]] = [{} for _ in nodes]
        self._summaries: dict[int, deque[_Said]] = {each: deque(maxlen=SUMMARIES_MAX) for each in self._coordinators}
        self._online: list[bool] = [False] * count
        self._ready: dict[str, int] = {}
        self._loading = 0
        self._homes: dict[int, float] = {}
        self._moves = 0
        self._without_model = Spells()
        self.beliefs = {"registry": Beliefs(), "peers": Beliefs(), "summaries": Beliefs()}
        self._registry, self._peers, self._others = self.beliefs.values()
        self._online_us, self._online_now, self._online_since_us = 0, 0, 0
        self.handlers: dict[type, Callable[[int, int, Any], None]] = {
            NodeReady: self._life_turned,
            LifeEnded: self._life_turned,
            CapabilitiesChanged: self._capabilities_changed,
            SwapPhase: self._swap_phase,
            PeerLearned: self._peer_learned,
            PeerForgotten: self._peer_forgotten,
            AgentLearned: self._agent_learned,
            AgentExpired: self._agent_expired,
            ConfigDiffers: self._config_differs,
            SummarySent: self._summary_sent,
            SummaryLearned: self._summary_learned,
            SummaryExpired: self._summary_expired,
            OnlineChanged: self._online_changed,
            HomeChanged: self._home_changed,
        }

    # -- figures -------------------------------------------------------------------------------------------------------

    def sample(self, at_us: int) -> None:
        """Write the timeline's rows of this instant."""
        at_s, add = at_us / 1e6, self._timeline
        known, seen = self._known(), self._seen()
        for model in sorted({*self._ready, *known, *seen}):
            add((at_s, "nodes_ready", model, float(self._ready.setdefault(model, 0))))
            if self._coordinators:
                add((at_s, "nodes_known", model, float(known.get(model, 0))))
                add((at_s, "nodes_seen", model, seen.get(model, 0) / len(self._coordinators)))
        add((at_s, "nodes_loading", "", float(self._loading)))
        add((at_s, "nodes_without_model", "", float(len(self._without_model))))
        if self._members:
            add((at_s, "online_share", "", self._online_now / self._members))
        for kind, beliefs in self.beliefs.items():
            rows = beliefs.snapshot(at_us)
            add((at_s, "rows_held", kind, float(rows.held)))
            add((at_s, "rows_wrong", kind, float(rows.wrong)))
            add((at_s, "staleness_mean_s", kind, rows.mean_us / 1e6))
            add((at_s, "staleness_max_s", kind, rows.max_us / 1e6))

    def metrics(self, at_us: int) -> dict[str, float]:
        """Over the whole run."""
        metrics: dict[str, float] = {}
        self._count_online(at_us, 0)
        if self._members and at_us:
            metrics["online_share"] = self._online_us / self._members / at_us
            nodes, total_us, longest_us = self._without_model.figures(at_us)
            metrics["no_model_nodes"] = nodes
            metrics["no_model_share"] = total_us / self._members / at_us
            metrics["no_model_longest_s"] = longest_us / 1e6
        if self._coordinators:
            metrics["home_moves"] = self._moves
        for kind, beliefs in self.beliefs.items():
            metrics |= beliefs.metrics(at_us, kind)
        return metrics

    def _known(self) -> dict[str, int]:
        """Nodes ready in the registries."""
        known: dict[str, int] = {}
        for offer in self._offer.values():
            for model, count in offer:
                known[model] = known.get(model, 0) + count
        return known

    def _seen(self) -> dict[str, int]:
        """Nodes ready in the eyes of each coordinator, added up over the coordinators."""
        seen = self._known()
        for coordinator in self._coordinators:
            for other in self._others.subjects(coordinator):
                row = self._others.row(coordinator, other)
                offer: Any = () if row is None else row.state
                for model, count in offer:
                    seen[model] = seen.get(model, 0) + count
        return seen

    # -- the truth -----------------------------------------------------------------------------------------------------

    def _set_truth(self, at_us: int, node: int, state: State) -> None:
        before = self._truth[node]
        if state == before:
            return
        self._truth[node] = state
        self._loading += state[1] - before[1]
        for (model, loading), step in ((before, -1), (state, 1)):
            if model is not None and not loading:
                self._ready[model] = self._ready.get(model, 0) + step
        self._registry.changed(at_us, node, state)
        self._peers.changed(at_us, node, state)

    def _life_turned(self, at_us: int, node: int, _: NodeReady | LifeEnded) -> None:
        """A life begins or ends. Of an earlier one nothing is left, neither a loaded model nor what was learned;
        whether this life finds a model to load, the next record says."""
        self._set_truth(at_us, node, (None, False))
        self._without_model.change(at_us, node, is_in=False)
        for beliefs in self.beliefs.values():
            beliefs.forgot_all(at_us, node)
        if node in self._offer:
            self._counts[node] = {}
            self._set_offer(at_us, node, ())
        self._set_online(at_us, node, online=False)

    def _capabilities_changed(self, at_us: int, node: int, record: CapabilitiesChanged) -> None:
        state = (record.model, record.loading)
        generations = self._generations[node]
        if len(generations) >= GENERATIONS_MAX:
            del generations[next(iter(generations))]
        generations[record.generation] = _Said(at_us, record.generation, state)
        self._set_truth(at_us, node, state)
        self._without_model.change(at_us, node, is_in=state == (None, False))

    def _swap_phase(self, at_us: int, node: int, record: SwapPhase) -> None:
        """A settled phase is followed by new capabilities; the others are true at once."""
        if record.phase in PHASES:
            self._set_truth(at_us, node, (self._truth[node][0], True))
            self._without_model.change(at_us, node, is_in=False)

    def _online_changed(self, at_us: int, node: int, record: OnlineChanged) -> None:
        self._set_online(at_us, node, online=record.online)

    def _home_changed(self, at_us: int, node: int, record: HomeChanged) -> None:
        home = float(self._index[record.coordinator])
        self._moves += self._homes.get(node, home) != home
        self._homes[node] = home
        self._timeline((at_us / 1e6, "home", str(node), home))

    def _set_online(self, at_us: int, node: int, *, online: bool) -> None:
        if online is not self._online[node]:
            self._online[node] = online
            self._count_online(at_us, 1 if online else -1)
            self._timeline((at_us / 1e6, "node_online", str(node), float(online)))

    def _count_online(self, at_us: int, difference: int) -> None:
        self._online_us += self._online_now * (at_us - self._online_since_us)
        self._online_since_us = at_us
        self._online_now += difference

    # -- peers ---------------------------------------------------------------------------------------------------------

    def _peer_learned(self, at_us: int, node: int, record: PeerLearned) -> None:
        peer = self._index[record.peer]
        said = self._generations[peer].get(record.generation)
        state: Any = _UNKNOWN if said is None else said.state
        news, wrong_us = self._peers.learned(at_us, node, peer, record.generation, state, self._truth[peer])
        channel, about = record.medium.value, (peer, record.generation, state[0], record.loading)
        self._tell(at_us, node, channel, about, news, said, wrong_us)

    def _peer_forgotten(self, at_us: int, node: int, record: PeerForgotten) -> None:
        self._forget(at_us, node, self._index[record.peer], self._peers, "peer")

    # -- registries ----------------------------------------------------------------------------------------------------

    def _agent_learned(self, at_us: int, node: int, record: AgentLearned) -> None:
        """Heartbeats that repeat what is known are no news and get no row."""
        agent = self._index[record.agent]
        row = self._registry.row(node, agent)
        state = (record.model, record.loading)
        before: Any = None if row is None else row.state
        if row is not None and row.version == record.generation and before == state:
            return
        said = self._generations[agent].get(record.generation)
        news, wrong_us = self._registry.learned(at_us, node, agent, record.generation, state, self._truth[agent])
        self._recount(at_us, node, before, state)
        about = (agent, record.generation, record.model, record.loading)
        self._tell(at_us, node, "heartbeat", about, news, said, wrong_us)

    def _agent_expired(self, at_us: int, node: int, record: AgentExpired) -> None:
        row = self._forget(at_us, node, self._index[record.agent], self._registry, "heartbeat")
        before: Any = None if row is None else row.state
        self._recount(at_us, node, before, None)

    def _config_differs(self, at_us: int, node: int, record: ConfigDiffers) -> None:
        agent = self._index[record.agent]
        self._gossip((at_us / 1e6, node, agent, "config_differs", "heartbeat", *[None] * 6))

    def _recount(self, at_us: int, coordinator: int, before: State | None, state: State | None) -> None:
        """A row of a registry changed, and so, perhaps, how many nodes it shows ready."""
        if before == state:
            return
        counts = self._counts[coordinator]
        for row, step in ((before, -1), (state, 1)):
            if row is not None and row[0] is not None and not row[1]:
                counts[row[0]] = counts.get(row[0], 0) + step
        self._set_offer(at_us, coordinator, tuple(sorted((model, count) for model, count in counts.items() if count)))

    def _set_offer(self, at_us: int, coordinator: int, offer: Offer) -> None:
        if offer != self._offer[coordinator]:
            self._offer[coordinator] = offer
            self._others.changed(at_us, coordinator, offer)

    # -- summaries -----------------------------------------------------------------------------------------------------

    def _summary_sent(self, at_us: int, node: int, record: SummarySent) -> None:
        version = (record.epoch << COUNTER_BITS) | record.seq
        self._summaries[node].append(_Said(at_us, version, tuple(sorted(record.available.items()))))

    def _summary_learned(self, at_us: int, node: int, record: SummaryLearned) -> None:
        """Every receiver's copy has a number of its own and `SummarySent` the last of them, so the first record that is
        not below is meant."""
        other = self._index[record.coordinator]
        version = (record.epoch << COUNTER_BITS) | record.seq
        said = next((each for each in self._summaries[other] if each.version >= version), None)
        state: object = None if said is None else said.state
        news, wrong_us = self._others.learned(at_us, node, other, version, state or (), self._offer[other])
        self._tell(at_us, node, "summary", (other, version, None, None), news, said, wrong_us)

    def _summary_expired(self, at_us: int, node: int, record: SummaryExpired) -> None:
        self._forget(at_us, node, self._index[record.coordinator], self._others, "summary")

    # -- the table -----------------------------------------------------------------------------------------------------

    def _tell(
        self,
        at_us: int,
        node: int,
        channel: str,
        about: tuple[int, int, str | None, bool | None],
        news: str,
        said: _Said | None,
        wrong_us: int | None,
    ) -> None:
        """A row of gossip: `node` learned `about`: of whom, which version, model and loading."""
        other, version, model, loading = about
        delay_s = None if said is None else (at_us - said.at_us) / 1e6
        wrong_s = None if wrong_us is None else wrong_us / 1e6
        at_s = at_us / 1e6
        self._gossip((at_s, node, other, "learned", channel, version, model, loading, news, delay_s, wrong_s))

    def _forget(self, at_us: int, node: int, about: int, beliefs: Beliefs, channel: str) -> BeliefRow | None:
        row = beliefs.forgot(at_us, node, about)
        version = None if row is None else row.version
        self._gossip((at_us / 1e6, node, about, "forgotten", channel, version, *[None] * 5))
        return row
