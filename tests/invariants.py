"""What must hold of every node in every test: the harness asks these observers after each event.

They judge events, effects and frames alone and know no state of the machines; only `assert_bounds` counts what a node
holds. A host keeps one set for all lives of its node, so that what must grow across restarts is seen to grow.
"""

from __future__ import annotations

from typing import Any

import msgspec

from edgecoder.config import NodeConfig
from edgecoder.coordinator.clones import ROWS_MAX
from edgecoder.coordinator.hub import Hub
from edgecoder.core.effects import Advertise, Effect, LoadModel, Operation, Persist, Reply, Send, Trace, UnloadModel
from edgecoder.core.events import (
    Advertised,
    AdvertiseFailed,
    Command,
    Completion,
    EngineFailed,
    Event,
    LinkDown,
    LinkUp,
    ModelLoaded,
    ModelLoadFailed,
    ModelUnloaded,
    Started,
)
from edgecoder.core.ids import CommandId, LinkId, OpId
from edgecoder.core.node import EARLY_EVENTS_MAX, EPOCH_KEY, Node
from edgecoder.mesh.member import Member
from edgecoder.mesh.spares import NAMED_MAX
from edgecoder.protocol import EXCHANGE_ROWS_MAX, FRAME_BYTES_MAX, TTL_MS_MAX
from edgecoder.trace import CapabilitiesChanged, NodeReady
from edgecoder.wire.codec import decode_body, encode_body
from edgecoder.wire.envelope import Envelope, Frame, peek
from edgecoder.wire.messages import NAMES, Message

_outer = msgspec.msgpack.Decoder(tuple[bytes, bytes])
_signed = msgspec.msgpack.Decoder(list[Any])


def order_of(frame: Frame) -> tuple[int, int]:
    """(epoch, seq) of a frame that this network made."""
    if isinstance(frame, Envelope):
        return frame.header.epoch, frame.header.seq
    signed = _signed.decode(_outer.decode(frame)[0])
    return signed[4], signed[5]


def kind_of(frame: Frame) -> str:
    """The name of its message's type."""
    return NAMES[type(frame.message)] if isinstance(frame, Envelope) else peek(frame)[0]


def message_of(frame: Frame) -> Message:
    """What is in it, decoded anew."""
    if isinstance(frame, Envelope):
        return decode_body(kind_of(frame), encode_body(frame.message))
    name, _, body = peek(frame)
    return decode_body(name, body)


class OneModel:
    """At most one model in memory, and nothing unloaded before the peers were told "loading"."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self.loaded = False
        self.loading = False
        self.told_loading = False
        self._telling: set[OpId] = set()
        """Advertisements of it that are under way; a node that shuts down makes another one."""

    def saw_event(self, event: Event) -> None:
        match event:
            case Started():
                self.loaded = self.loading = self.told_loading = False
                self._telling.clear()
            case ModelLoaded():
                self.loaded, self.loading = True, False
            case ModelLoadFailed():
                self.loading = False
            case ModelUnloaded() | EngineFailed():
                self.loaded = False
            case Advertised(op=op) | AdvertiseFailed(op=op):
                self.told_loading = self.told_loading or op in self._telling

    def saw_effect(self, effect: Effect) -> None:
        match effect:
            case Advertise(op=op, capabilities=capabilities):
                loading = capabilities.current_load.is_loading
                if loading:
                    self._telling.add(op)
                else:
                    self._telling.clear()
                self.told_loading = self.told_loading and loading
            case Trace(record=CapabilitiesChanged(loading=loading)) if not self._config.has_radio:
                self.told_loading = loading
            case UnloadModel():
                assert self.told_loading, "unloading, and the peers were not told"
            case LoadModel(entry=entry):
                assert not self.loaded, f"{entry.model_id} is loaded beside another model"
                assert not self.loading, f"{entry.model_id} is loaded while another is being loaded"
                self.loading = True


class Growth:
    """Generations and (epoch, seq) only grow, restarts or not. One envelope may go over several links."""

    def __init__(self) -> None:
        self.generation = 0
        self.order = (0, 0)
        self._newest: Frame | None = None

    def saw_event(self, event: Event) -> None:
        """Events say nothing of it."""

    def saw_effect(self, effect: Effect) -> None:
        match effect:
            case Send(frame=frame) | Advertise(frame=frame) if frame is not self._newest:
                self._newest = frame
                order = order_of(frame)
                assert order > self.order, f"{order} was sealed after {self.order}"
                self.order = order
            case Trace(record=CapabilitiesChanged(generation=generation)):
                assert generation > self.generation, "a generation went back"
                self.generation = generation


class Frames:
    """What is sent can be read by whoever gets it, and is sent over links that are up. A link that came and went before
    the node was ready does not count: it hears of both in one go."""

    def __init__(self) -> None:
        self.links: set[LinkId] = set()
        self._is_ready = False

    def saw_event(self, event: Event) -> None:
        match event:
            case Started():
                self.links.clear()
                self._is_ready = False
            case LinkUp(link=link):
                self.links.add(link)
            case LinkDown(link=link) if self._is_ready:
                self.links.discard(link)

    def saw_effect(self, effect: Effect) -> None:
        match effect:
            case Send(link=link, frame=frame):
                assert link in self.links, f"sent over link {link}, which is down"
                assert_readable(frame)
            case Advertise(frame=frame):
                assert_readable(frame)
            case Trace(record=NodeReady()):
                self._is_ready = True


def assert_readable(frame: Frame) -> None:
    """Within the limits of the wire, and the same after encoding and decoding."""
    size = frame.size_bytes if isinstance(frame, Envelope) else len(frame)
    assert size <= FRAME_BYTES_MAX
    message = message_of(frame)
    if isinstance(frame, Envelope):
        assert message == frame.message
        assert 0 <= frame.header.ttl_ms <= TTL_MS_MAX, "a receiver refuses such a ttlMs"


class Answers:
    """Each command gets one reply, each operation one completion; neither gets one that it is not owed."""

    def __init__(self) -> None:
        self.commands: set[CommandId] = set()
        self.operations: set[OpId] = set()
        self._all_commands: set[CommandId] = set()
        self._all_operations: set[OpId] = set()

    def saw_event(self, event: Event) -> None:
        match event:
            case Started():
                self.commands.clear()
                self.operations.clear()
            case Command(command=command):
                assert command not in self._all_commands, "the test used a command id twice"
                self._all_commands.add(command)
                self.commands.add(command)
            case Completion(op=op):
                self.operations.discard(op)

    def saw_effect(self, effect: Effect) -> None:
        match effect:
            case Reply(command=command):
                assert command in self.commands, f"command {command} got a reply that it is not owed"
                self.commands.remove(command)
            case Persist(op=op, key=key) if key == EPOCH_KEY:
                self.operations.add(op)  # a life that ended before its epoch was durable leaves it to the next
            case Operation(op=op):
                assert op not in self._all_operations, f"operation {op:#x} began twice"
                self._all_operations.add(op)
                self.operations.add(op)


def assert_nothing_left(node: Node) -> None:
    """A node without open tasks and swaps has no timer for one. A receipt is owed beyond the end of its task."""
    timers = node.context.timers._actions
    keyed = [name for name in timers if isinstance(name[1], bytes) and name[0] != "receipt.repeat"]
    left = [*keyed, *(name for name in timers if name[0] in ("swap.load", "work.drain"))]
    assert not left, f"timers without a purpose: {left}"


def assert_bounds(node: Node) -> None:
    """Whatever a node keeps stays within its configuration."""
    config = node.setup.config
    assert len(node._early) <= EARLY_EVENTS_MAX + config.links_max
    assert len(node._early_commands) <= EARLY_EVENTS_MAX
    assert len(node.gate.links) <= config.links_max
    assert len(node.gate._windows) <= config.senders_max
    part = node.part
    if part is not None:
        assert len(part.uplinks.rows) <= 2 * (len(config.coordinators) + config.spares_max)
        assert len(part.spares._book.rows) <= (1 + NAMED_MAX) * len(config.coordinators)
    if isinstance(part, Member):
        assert part.executor.tasks <= config.slots + config.task_queue_max
        assert len(part.executor._by_op) <= config.slots
        places = config.slots + config.task_queue_max
        assert part.executor.tasks + len(part.executor.reservations) <= places, "a place was promised twice"
        assert len(part.executor._known) <= config.task_memory_max
        assert len(part.origin) <= config.origin_tasks_max
        assert len(part.receipts) <= config.receipts_max
        assert len(part.payer) <= config.receipts_max
        assert len(part.peers.rows) <= config.peers_max
    elif isinstance(part, Hub):
        assert len(part.registry.rows) <= config.agents_max
        assert len(part.ledger.receipts) <= config.ledger_receipts_max
        assert len(part.relays) <= config.relayed_tasks_max
        assert len(part.summaries.rows) <= config.coordinators_max
        assert len(part.exchange.rows) < EXCHANGE_ROWS_MAX
        assert len(part.clones.known) <= ROWS_MAX + len(node.gate.links)
