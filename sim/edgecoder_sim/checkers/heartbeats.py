"""Heartbeats: often enough for a registry that forgets, and true when read with those that were acknowledged."""

from __future__ import annotations

from typing import Final

from edgecoder.core.events import LinkDown, PowerChanged
from edgecoder.core.ids import LinkId, Micros
from edgecoder.trace import CapabilitiesChanged
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Heartbeat, HeartbeatAck, Load, Power
from edgecoder_sim.checkers.panel import Book, Rule

SLACK_US: Final = 1_000_000
"""How late a heartbeat may be for its tick and a busy CPU."""
_FIELDS: Final = (
    "power",
    "device_type",
    "memory_mb",
    "slots",
    "tokens_per_s",
    "holdings_digest",
    "cluster_config_hash",
)
"""Fields that a heartbeat may leave out."""
_Values = tuple[object, ...]
"""Their values, in that order."""
_NOTHING: Final = (None,) * len(_FIELDS)


class _State:
    __slots__ = (
        "full_seq",
        "full_wanted",
        "gap_us",
        "last_us",
        "link",
        "power",
        "said",
        "since",
        "tokens_per_s",
        "verified",
    )

    def __init__(self, gap_us: Micros) -> None:
        self.gap_us = gap_us
        """Longest time between two heartbeats."""
        self.link: LinkId | None = None
        self.last_us: Micros = 0
        self.since: list[tuple[int, _Values]] = []
        """Values of the heartbeats from the newest acknowledged one on, each with the seq from which on it was sent.
        Any of them may be the newest that has arrived."""
        self.full_wanted = True
        """Whether the coordinator has nothing that a part could be added to,"""
        self.full_seq = 0
        """unless it has the last full heartbeat, of this seq."""
        self.power = Power(on_external_power=False, battery_pct=100)
        self.said: CapabilitiesChanged | None = None
        """What was advertised last,"""
        self.tokens_per_s = 0
        """and the speed of the model that was loaded then."""
        self.verified: _Values | None = None
        """Values that were compared with all this."""


class Heartbeats(Rule):
    """A node with a coordinator sends a heartbeat each interval. Each says what was advertised last; what one leaves
    out was the same in every heartbeat since the last acknowledged one; and all of it is true."""

    name = "heartbeats"

    def enter(self) -> None:
        """See `Rule`."""
        self._of: dict[int, _State] = {}
        self.panel.on(CapabilitiesChanged, self._changed)
        self.panel.on_sent(Heartbeat, self._sent)
        self.panel.on_received(HeartbeatAck, self._acknowledged)
        self.panel.on(PowerChanged, self._power_changed)
        self.panel.on(LinkDown, self._link_down)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._of[book.index] = _State(book.cluster.heartbeat_interval_ms * 1000 + SLACK_US)

    def finish(self) -> None:
        """See `Rule`."""
        for index, state in self._of.items():
            self._judge_gap(self.panel.books[index], state)

    def _sent(self, book: Book, link: LinkId, header: Header, message: Heartbeat) -> None:
        state = self._of[book.index]
        now_us = self.panel.now
        if link == state.link and now_us - state.last_us > state.gap_us + book.wake_late_us:
            self._judge_gap(book, state)
        state.link, state.last_us = link, now_us
        book.coordinator_link, book.coordinator_told = link, message.current_load is Load.LOADING
        self._judge_news(book, state, message)
        values = self._full(book, state, message) if message.full else self._delta(book, state, message)
        if values is not state.verified:
            self._judge_truth(book, state, values)
            state.verified = values
        if not state.since or state.since[-1][1] != values:
            state.since.append((header.seq, values))
        if message.full:
            state.full_wanted, state.full_seq = False, header.seq

    def _judge_gap(self, book: Book, state: _State) -> None:
        gap_us = self.panel.now - state.last_us
        if state.link is not None and gap_us > state.gap_us + book.wake_late_us and not book.is_slow():
            self.fail(
                book,
                f"sent no heartbeat for {gap_us / 1e6:.3f} s; the interval is {book.cluster.heartbeat_interval_ms} ms",
            )

    def _full(self, book: Book, state: _State, message: Heartbeat) -> _Values:
        values = _values(message)
        if None in values:
            self.fail(book, f"sends a full heartbeat without {_FIELDS[values.index(None)]}")
        state.since.clear()
        return values

    def _delta(self, book: Book, state: _State, message: Heartbeat) -> _Values:
        since, values = state.since, _values(message)
        if state.full_wanted or not since:
            self.fail(book, "sends a heartbeat in part, but its coordinator has nothing to add it to")
        base = since[-1][1]
        if len(since) > 1:
            for _, earlier in since:
                self._judge_omissions(book, values, earlier, base)
        if values == _NOTHING:
            return base
        return tuple(old if value is None else value for value, old in zip(values, base, strict=True))

    def _judge_omissions(self, book: Book, values: _Values, earlier: _Values, base: _Values) -> None:
        for name, value, old, new in zip(_FIELDS, values, earlier, base, strict=True):
            if value is None and old != new:
                self.fail(
                    book, f"leaves {name} out of a heartbeat, but since the last acknowledgement it was {old} and {new}"
                )

    def _judge_news(self, book: Book, state: _State, message: Heartbeat) -> None:
        """What stands in every heartbeat is what was advertised last."""
        said, load = state.said, message.current_load
        if said is None:
            self.fail(book, "sends a heartbeat before it has advertised anything")
        is_loading = load is Load.LOADING
        if (
            message.generation != said.generation
            or load.tasks != said.tasks
            or is_loading is not said.loading
            or message.active_model != said.model
        ):
            told = (message.generation, message.active_model, is_loading, load.tasks)
            true = (said.generation, said.model, said.loading, said.tasks)
            self.fail(book, f"says (generation, model, loading, tasks) {told} in a heartbeat; it advertised {true}")
        if message.model_swap_in_progress is not is_loading:
            progress = message.model_swap_in_progress
            self.fail(book, f"says modelSwapInProgress {progress} in a heartbeat whose load says the opposite")

    def _changed(self, book: Book, record: CapabilitiesChanged) -> None:
        state = self._of[book.index]
        state.said, state.verified = record, None
        state.tokens_per_s = 0 if book.loaded is None else book.tokens_per_s

    def _judge_truth(self, book: Book, state: _State, values: _Values) -> None:
        config = book.config
        true = (state.power, config.device_type, config.memory_mb, config.slots, state.tokens_per_s)
        if values[: len(true)] != true:
            for name, said, is_ in zip(_FIELDS, values, true, strict=False):
                if said != is_:
                    self.fail(book, f"tells its coordinator {name} {said}; it is {is_}")

    def _acknowledged(self, book: Book, _: LinkId, __: Header, message: HeartbeatAck) -> None:
        state = self._of[book.index]
        if message.epoch != book.epoch:
            return
        if not message.known:
            state.full_wanted = True
        else:
            if message.seq >= state.full_seq:  # the word that it knew nothing was of an earlier one
                state.full_wanted = False
            while len(state.since) > 1 and state.since[1][0] <= message.seq:
                del state.since[0]

    def _power_changed(self, book: Book, event: PowerChanged) -> None:
        state = self._of[book.index]
        state.verified = None
        state.power = Power(on_external_power=event.on_external_power, battery_pct=event.battery_pct)

    def _link_down(self, book: Book, event: LinkDown) -> None:
        state = self._of[book.index]
        if event.link == state.link:
            self._judge_gap(book, state)
            state.link = None
            state.since.clear()


def _values(message: Heartbeat) -> _Values:
    return (
        message.power,
        message.device_type,
        message.memory_mb,
        message.slots,
        message.tokens_per_s,
        message.holdings_digest,
        message.cluster_config_hash,
    )
