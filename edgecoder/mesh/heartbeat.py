"""The heartbeat of a phone or an agent to its home coordinator, and whether the node is online.

A heartbeat goes out every interval at k·period from a random phase, and at once on a change, within a least gap that
"loading" alone does not wait for. Model and load stand in every one, as they were advertised last; the rest only where
it differs from what the coordinator acknowledged. Unanswered heartbeats make the node offline; an acknowledgement makes
it online again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType

from edgecoder.core.context import MILLI, Context
from edgecoder.core.ids import LinkId, Micros
from edgecoder.core.timers import next_turn
from edgecoder.mesh.announcer import Announcer, Offer
from edgecoder.trace import OnlineChanged
from edgecoder.wire.messages import Heartbeat, HeartbeatAck, Load, Power

_PERIODIC = ("heartbeat", 0)
_SOON = ("heartbeat.soon", 0)
_CHANGING = ("power", "tokens_per_s", "holdings_digest")
_Fields = tuple[Power, int, bytes]
"""Their values."""


class OnlineState(Enum):
    """Whether the node's coordinator answers."""

    OFFLINE = "offline"
    ONLINE = "online"


class OnlineStep(Enum):
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
        config = context.config
        self._fixed: dict[str, object] = {
            "device_type": config.device_type,
            "memory_mb": config.memory_mb,
            "slots": config.slots,
            "cluster_config_hash": context.cluster_digest,
        }
        self._missed = 0
        self._is_awaiting = False
        self.state = OnlineState.OFFLINE
        self.link: LinkId | None = None

    @property
    def is_online(self) -> bool:
        """Whether the coordinator answered lately and its link is up."""
        return self.state is OnlineState.ONLINE and self.link is not None

    def start(self) -> None:
        """Begin the period at a random phase, so that the nodes of a network do not beat together."""
        self._next = self._context.now + self._context.stream("heartbeat").below(self._period)
        self._context.timers.set(_PERIODIC, self._next, self._beat)

    def link_bound(self, link: LinkId) -> None:
        """The coordinator is at the other end of a link: tell it everything now."""
        self.link = link
        self._acknowledged = None
        self._send()

    def epoch_raised(self) -> None:
        """The coordinator may have refused what came before: the next heartbeat is a full one."""
        self._acknowledged = None

    def link_down(self, link: LinkId) -> None:
        """The link to the coordinator was lost; heartbeats are missed from now on."""
        if link == self.link:
            self.link = None

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
        self._missed, self._is_awaiting = 0, False
        self._step(OnlineStep.ACKNOWLEDGED)
        if message.seq == self._sent[0]:
            self._acknowledged, self._is_news_open = self._sent[1], False

    def _beat(self) -> None:
        if self._is_awaiting or self.link is None:
            self._missed += 1
            too_many = self._missed >= self._context.cluster.missed_heartbeats_max
            self._step(OnlineStep.MISSED_TOO_MANY if too_many else OnlineStep.MISSED)
        self._next = next_turn(self._next, self._period, self._context.now)
        self._context.timers.set(_PERIODIC, self._next, self._beat)
        self._send()

    def _step(self, step: OnlineStep) -> None:
        following = ONLINE_TABLE.get((self.state, step), self.state)
        if following is not self.state:
            self.state = following
            self._context.trace(OnlineChanged(following is OnlineState.ONLINE))
            self._on_online(following is OnlineState.ONLINE)

    def _send(self) -> None:
        self._context.timers.cancel(_SOON)
        if self.link is None:
            return
        capabilities = self._announcer().current
        if capabilities is None:
            return
        fields = (self._offer.power(), capabilities.tokens_per_s, capabilities.piece_map_digest)
        known = self._acknowledged
        if known is None:
            news = {**self._fixed, **dict(zip(_CHANGING, fields, strict=True))}
        elif self._is_news_open:
            news = dict(zip(_CHANGING, fields, strict=True))
        elif known == fields:
            news = {}
        else:
            changed = zip(_CHANGING, fields, known, strict=True)
            news = {name: value for name, value, old in changed if value != old}
        load = capabilities.current_load
        self._is_news_open = bool(news)
        self._said_loading = load is Load.LOADING
        heartbeat = Heartbeat(
            generation=capabilities.generation,
            active_model=capabilities.active_model,
            active_model_param_size=capabilities.active_model_param_size,
            current_load=load,
            model_swap_in_progress=self._said_loading,
            full=known is None,
            **news,  # type: ignore[arg-type]  # the names are fields of Heartbeat
        )
        self._context.send(self.link, heartbeat, self._context.cluster.agent_alive_ms)
        self._sent = (self._context.seq, fields)
        self._sent_at = self._context.now
        self._is_awaiting = True
