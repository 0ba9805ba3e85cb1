"""Announcing: what this node offers, told to its peers and, by heartbeat, to its coordinator.

A change of the model or of "loading" goes out at once. A change of the load waits until `readvertise_interval_ms` has
passed since the last, so that a busy node does not drown its neighbours. The generation grows at every change and, with
the epoch above it, across restarts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edgecoder.core.context import Context
from edgecoder.core.effects import Advertise
from edgecoder.core.events import Advertised, AdvertiseFailed
from edgecoder.core.ids import COUNTER_BITS, LinkId, Micros, OpId
from edgecoder.trace import CapabilitiesChanged
from edgecoder.wire.advertisement import LAG_MAX, TAG_WINDOW_MS, Bits, short_generation, tag
from edgecoder.wire.messages import Capabilities, Load, Power

_TIMER = ("announce", 0)
_REPEAT = ("announce.repeat", 0)


def _material(capabilities: Capabilities) -> tuple[object, ...]:
    """What scanners must know. The count of tasks is not part of it, or each task would make a whole crowd read again:
    probes ask for it."""
    return (
        capabilities.current_load.is_loading,
        capabilities.active_model,
        capabilities.active_model_param_size,
        capabilities.tokens_per_s,
        capabilities.piece_map_digest,
    )


class Offer(Protocol):
    """What a node offers now; the node's parts behind it."""

    def load(self) -> Load:
        """Running and waiting tasks, or loading."""
        ...

    def active_model(self) -> tuple[str | None, float | None]:
        """The name to advertise of the active model, and its size in billions of parameters."""
        ...

    def tokens_per_s(self) -> int:
        """Decoding speed of the active model."""
        ...

    def power(self) -> Power:
        """Battery and charger."""
        ...

    def work_tokens_max(self) -> int:
        """The longest answer that it takes on for others now."""
        ...

    def piece_map_digest(self) -> bytes:
        """Over the files that are installed."""
        ...


class Announcer:
    """The capabilities that were advertised last, and when."""

    def __init__(
        self, context: Context, offer: Offer, languages: tuple[str, ...], on_change: Callable[[], None]
    ) -> None:
        self._context = context
        self._offer = offer
        self._languages = languages
        self._on_change = on_change
        self._counter = 0
        self._material = 0
        """The counter of the last change that those must know who only hear the advertisement; less than LAG_MAX behind
        the newest."""
        self._said: tuple[object, ...] = ()
        self._said_at: Micros | None = None
        self.current: Capabilities | None = None

    def model_changed(self, on_completion: Callable[[Advertised | AdvertiseFailed], None] | None = None) -> None:
        """Advertise now; `on_completion` is called when the peers know, at once where there is no radio."""
        self._announce(on_completion)

    def load_changed(self) -> None:
        """Advertise soon, if by then the load, the battery or the files are not what was said last."""
        if self._said_at is None:
            return
        due = self._said_at + self._context.config.readvertise_interval_ms * 1000
        if due <= self._context.now:
            self._announce_if_changed()
        else:
            self._context.timers.set(_TIMER, due, self._announce_if_changed)

    def tell(self, link: LinkId) -> None:
        """Send the newest capabilities to a peer that has just come."""
        if self.current is not None:
            self._context.send(link, self.current, self._context.config.capabilities_ttl_ms)

    def _announce_if_changed(self) -> None:
        if self._state() != self._said:
            self._announce(None)

    def _state(self) -> tuple[object, ...]:
        power = self._offer.power()
        return (
            self._offer.load(),
            *self._offer.active_model(),
            power.battery_pct,
            self._offer.work_tokens_max(),
            self._offer.piece_map_digest(),
        )

    def _announce(self, on_completion: Callable[[Advertised | AdvertiseFailed], None] | None) -> None:
        self._context.timers.cancel(_TIMER)
        self._counter += 1
        self._said, self._said_at = self._state(), self._context.now
        before = self.current
        capabilities = self.current = self._capabilities()
        is_news = before is None or _material(before) != _material(capabilities)
        if is_news or self._counter - self._material >= LAG_MAX:
            self._material = self._counter
        load = capabilities.current_load
        self._context.trace(
            CapabilitiesChanged(capabilities.generation, capabilities.active_model, load.is_loading, load.tasks)
        )
        if self._context.config.has_radio:
            op = self._context.ops.begin(on_completion or self._advertised)
            self._advertise(op, capabilities)
        self._on_change()
        if not self._context.config.has_radio and on_completion is not None:
            on_completion(Advertised(0, 0))

    def _advertise(self, op: OpId, capabilities: Capabilities) -> None:
        """Tell the neighbours, and once more before they stop believing it."""
        config = self._context.config
        frame = self._context.seal(capabilities, config.capabilities_ttl_ms)
        deadline = self._context.in_ms(config.advertise_wait_ms)
        self._context.out.append(Advertise(op, capabilities, frame, deadline, self._bits(capabilities)))
        again = self._context.in_ms(config.capabilities_ttl_ms // 2)
        self._context.timers.set(_REPEAT, again, lambda: self._repeat(capabilities))

    def _repeat(self, capabilities: Capabilities) -> None:
        """Say it again, unless a swap has begun since: what it says first may wait for the disk."""
        if self._offer.load().is_loading == capabilities.current_load.is_loading:
            self._advertise(self._context.ops.begin(self._advertised), capabilities)
        else:
            self._announce(None)

    def _bits(self, capabilities: Capabilities) -> Bits:
        generation = short_generation((self._context.epoch << COUNTER_BITS) | self._material)
        window = self._context.wall_ms // TAG_WINDOW_MS
        is_loading, me = capabilities.current_load.is_loading, tag(self._context.node_id, window)
        return Bits(is_loading, generation, me, wifi_direct=self._context.config.wifi_direct_links_max > 0)

    def _advertised(self, completion: Advertised | AdvertiseFailed) -> None:
        if isinstance(completion, AdvertiseFailed):
            self._context.drop("advertise", completion.reason)

    def _capabilities(self) -> Capabilities:
        config, offer = self._context.config, self._offer
        model, param_size = offer.active_model()
        return Capabilities(
            agent_id=self._context.node_id,
            generation=(self._context.epoch << COUNTER_BITS) | self._counter,
            active_model=model,
            active_model_param_size=param_size,
            current_load=offer.load(),
            memory_mb=config.memory_mb,
            slots=config.slots,
            tokens_per_s=offer.tokens_per_s(),
            battery_pct=offer.power().battery_pct,
            device_type=config.device_type,
            languages=self._languages,
            piece_map_digest=offer.piece_map_digest(),
            work_tokens_max=offer.work_tokens_max(),
        )
