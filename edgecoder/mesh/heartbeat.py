"""The heartbeat of a phone or an agent to its home coordinator, and whether the node is online.

A heartbeat goes out every interval at k·period from a random phase, and at once on a change, within a least gap that
"loading" alone does not wait for. Model and load stand in every one, as they were advertised last; the rest only where
it differs from what the coordinator acknowledged. Unanswered heartbeats make the node offline; an acknowledgement makes
it online again.

A node reports to one coordinator at a time, its home. Links to others are spares: the next one becomes home when the
link is lost or `rehome_misses` heartbeats in a row stay unanswered. There is no way back to an earlier home but the
same; and each move that silence caused doubles the misses that the next one takes, until a home has answered as often
as would make the node offline, so that no node runs from one coordinator to another when none can be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from edgecoder.core.context import MILLI, Context
from edgecoder.core.ids import LinkId, Micros, NodeId
from edgecoder.core.labels import Label
from edgecoder.core.timers import next_turn
from edgecoder.mesh.announcer import Announcer, Offer
from edgecoder.mesh.gate import Link
from edgecoder.trace import HomeChanged, OnlineChanged
from edgecoder.wire.messages import Capabilities, Heartbeat, HeartbeatAck, Load, Power

_PERIODIC = ("heartbeat", 0)
_SOON = ("heartbeat.soon", 0)
_CHANGING = ("power", "tokens_per_s", "holdings_digest")
PATIENCE_MAX = 8
"""Misses at which the doubling ends: two minutes of the default interval."""
_Fields = tuple[Power, int, bytes]
"""Their values."""


class OnlineState(Label):
    """Whether the node's coordinator answers."""

    OFFLINE = "offline"
    ONLINE = "online"


class OnlineStep(Label):
    """What can happen to that."""

    ACKNOWLEDGED = "acknowledged"
    MISSED = "missed"
    MISSED_TOO_MANY = "missedTooMany"


ONLINE_TABLE: Mapping[tuple[OnlineState, OnlineStep], OnlineState] = MappingProxyType(
    {
        (OnlineState.OFFLINE, OnlineStep.ACKNOWLEDGED): OnlineState.ONLINE,
        (OnlineState.ONLINE, OnlineStep.ACKNOWLEDGED): OnlineState.ONLINE,
        (OnlineState.ONLINE, OnlineStep.MISSED): OnlineState.ONLINE,
        (OnlineState.ONLINE, OnlineStep.MISSED_TOO_MANY): OnlineState.OFFLINE,
    }
)


class _Beat(msgspec.Struct, frozen=True, gc=False):
    """A heartbeat, and what it was made from."""

    capabilities: Capabilities
    power: Power
    fields: _Fields
    message: Heartbeat


class HeartbeatSender:
    """Sends heartbeats over the link to the home coordinator."""

    def __init__(
        self, context: Context, offer: Offer, announcer: Callable[[], Announcer], on_online: Callable[[bool], None]
    ) -> None:
        self._context = context
        self._offer = offer
        self._announcer = announcer
        self._on_online = on_online
        self._period: Micros = context.cluster.heartbeat_interval_ms * MILLI
        self._next: Micros = 0
        self._sent_at: Micros | None = None
        self._sent: tuple[int, _Fields | None] = (0, None)
        self._acknowledged: _Fields | None = None
        self._is_news_open = False
        """Whether the coordinator may have got fields that differ from those it acknowledged."""
        self._said_loading = False
        self._repeatable: _Beat | None = None
        """The last heartbeat, if it had no news: until something changes the next one is the same."""
        config = context.config
        self._fixed: dict[str, object] = {
            "device_type": config.device_type,
            "memory_mb": config.memory_mb,
            "slots": config.slots,
            "cluster_config_hash": context.cluster_digest,
        }
        self._missed = 0
        self._is_awaiting = False
        self._links: dict[LinkId, Link] = {}
        """Links to coordinators, in the order in which they are to become home."""
        self._home: NodeId | None = None
        self._missed_here = 0
        """Heartbeats that this home has left unanswered in a row, and how many it may."""
        self._patience = config.rehome_misses
        self._answered_here = 0
        self.state = OnlineState.OFFLINE
        self.link: LinkId | None = None
        """The link to the home."""

    @property
    def is_online(self) -> bool:
        """Whether the coordinator answered lately and its link is up."""
        return self.state is OnlineState.ONLINE and self.link is not None

    def start(self) -> None:
        """Begin the period at a random phase, so that the nodes of a network do not beat together."""
        self._next = self._context.now + self._context.stream("heartbeat").below(self._period)
        self._context.timers.set(_PERIODIC, self._next, self._beat)

    def link_bound(self, link: Link) -> None:
        """A coordinator is at the other end of a link. Where there is no home it becomes one; of two links to the home
        the newer is taken, because the older may be dead without anybody having noticed."""
        self._links[link.id] = link
        if self.link is None or link.peer == self._home:
            self._report_to(link)

    def _report_to(self, link: Link) -> None:
        """Make a coordinator the home: tell it everything now."""
        self.link = link.id
        self._acknowledged = None
        self._missed_here = self._answered_here = 0
        if link.peer is not None and link.peer != self._home:
            self._home = link.peer
            self._context.trace(HomeChanged(link.peer))
        self._send()

    def _leave(self) -> bool:
        """The home does not answer: report to the next, if there is another."""
        spare = next((link for link in self._links.values() if link.peer != self._home), None)
        if spare is None or self.link is None:
            return False
        self._links[self.link] = self._links.pop(self.link)  # the last to be tried again
        self._patience = min(PATIENCE_MAX, 2 * self._patience)
        self._report_to(spare)
        return True

    def epoch_raised(self) -> None:
        """The coordinator may have refused what came before: the next heartbeat is a full one."""
        self._acknowledged = None

    def link_down(self, link: LinkId) -> None:
        """A link to a coordinator was lost. Where it was the home's the next one takes its place; without one,
        heartbeats are missed from now on."""
        self._links.pop(link, None)
        if link == self.link:
            self.link = None
            following = next(iter(self._links.values()), None)
            if following is not None:
                self._report_to(following)

    def changed(self) -> None:
        """Model or load changed: send as soon as the gap allows; whether the node is loading is told at once."""
        if self.link is None:
            return
        current = self._announcer().current
        is_turn = current is not None and current.current_load.is_loading is not self._said_loading
        gap = self._context.config.heartbeat_gap_ms * MILLI
        if is_turn or self._sent_at is None or self._sent_at + gap <= self._context.now:
            self._send()
        else:
            self._context.timers.set(_SOON, self._sent_at + gap, self._send)

    def acknowledged(self, message: HeartbeatAck) -> None:
        """The coordinator has a heartbeat of this life."""
        if message.epoch != self._context.epoch:
            return
        if not message.known:  # it answers, and has no row of this node: that counts as a miss until it has
            was_delta, self._acknowledged = self._acknowledged is not None, None
            if was_delta:  # a full one would be refused again: the coordinator has no room
                self._send()
            return
        self._missed, self._is_awaiting, self._missed_here = 0, False, 0
        self._answered_here += 1
        if self._answered_here >= self._context.cluster.missed_heartbeats_max:
            self._patience = self._context.config.rehome_misses
        self._step(OnlineStep.ACKNOWLEDGED)
        if message.seq == self._sent[0]:
            self._acknowledged, self._is_news_open = self._sent[1], False

    def _beat(self) -> None:
        if self._is_awaiting or self.link is None:
            self._missed += 1
            self._missed_here += 1
            self._answered_here = 0
            too_many = self._missed >= self._context.cluster.missed_heartbeats_max
            self._step(OnlineStep.MISSED_TOO_MANY if too_many else OnlineStep.MISSED)
        self._next = next_turn(self._next, self._period, self._context.now)
        self._context.timers.set(_PERIODIC, self._next, self._beat)
        if self._missed_here < self._patience or not self._leave():
            self._send()

    def _step(self, step: OnlineStep) -> None:
        following = ONLINE_TABLE.get((self.state, step), self.state)
        if following is not self.state:
            self.state = following
            if (
                following is OnlineState.OFFLINE
            ):  # the coordinator may have dropped the row: the first that it hears is whole
                self._acknowledged = None
            self._context.trace(OnlineChanged(following is OnlineState.ONLINE))
            self._on_online(following is OnlineState.ONLINE)

    def _send(self) -> None:
        self._context.timers.cancel(_SOON)
        link, capabilities = self.link, self._announcer().current
        if link is None or capabilities is None:
            return
        power, beat = self._offer.power(), self._repeatable
        if (
            beat is None
            or beat.capabilities is not capabilities
            or beat.power is not power
            or beat.fields is not self._acknowledged
        ):
            beat = self._compose(capabilities, power)
        self._context.send(link, beat.message, self._context.cluster.agent_alive_ms)
        self._sent = (self._context.seq, beat.fields)
        self._sent_at = self._context.now
        self._is_awaiting = True

    def _compose(self, capabilities: Capabilities, power: Power) -> _Beat:
        fields: _Fields = (power, capabilities.tokens_per_s, capabilities.piece_map_digest)
        known = self._acknowledged
        if known is None:
            news = {**self._fixed, **dict(zip(_CHANGING, fields, strict=True))}
        elif self._is_news_open:
            news = dict(zip(_CHANGING, fields, strict=True))
        elif known == fields:
            news, fields = {}, known
        else:
            changed = zip(_CHANGING, fields, known, strict=True)
            news = {name: value for name, value, old in changed if value != old}
        load = capabilities.current_load
        self._is_news_open = bool(news)
        self._said_loading = load is Load.LOADING
        message = Heartbeat(
            generation=capabilities.generation,
            active_model=capabilities.active_model,
            active_model_param_size=capabilities.active_model_param_size,
            current_load=load,
            model_swap_in_progress=self._said_loading,
            full=known is None,
            work_tokens_max=capabilities.work_tokens_max,
            **news,  # type: ignore[arg-type]  # the names are fields of Heartbeat
        )
        beat = _Beat(capabilities, power, fields, message)
        self._repeatable = None if news else beat
        return beat
