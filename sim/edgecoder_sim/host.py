"""The SimPy host: feeds a node with events on the kernel's clock and carries out its effects.

Every event passes the node's CPU: a single server, first come first served, which charges `handle_us` an event,
`verify_us` a frame and `sign_us` a sealed envelope. What a node sends leaves when the CPU is done with it.

Fidelity boundary: CPU costs are constants of the device; the engine does not compete with the protocol for the CPU; a
write to disk takes a fixed time and never fails; a node that is up stays up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from edgecoder.core.effects import (
    Advertise,
    CancelOp,
    Effect,
    FetchFile,
    HashFile,
    LoadModel,
    Persist,
    Progress,
    Reply,
    RunTask,
    Send,
    Trace,
    UnloadModel,
    WakeAt,
)
from edgecoder.core.events import Event, FrameReceived, Persisted, Started, Wake
from edgecoder.core.ids import LinkId, NodeId, OpId
from edgecoder.core.node import Node
from edgecoder.core.rng import Stream
from edgecoder.trace import Record
from edgecoder.wire.envelope import Envelope, Frame
from edgecoder_sim.engine import Engine
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.profiles import Device

PERSIST_US = 5_000
"""A durable write of a small value: one flush of a flash disk (I: 1 to 10 ms)."""
_WAKE = Wake()


def frame_size(frame: Frame) -> int:
    """Bytes of a frame."""
    return frame.size_bytes if isinstance(frame, Envelope) else len(frame)


class Link(Protocol):
    """A simulated link."""

    id: LinkId

    def send(self, sender: SimNode, frame: Frame, depart_us: int) -> int | None:
        """Carry a frame; when it arrives, None if it never does."""
        ...


Crossing = tuple["SimNode", str, int]
"""Who sent a frame, over which medium, and its size in bytes."""


class Watcher(Protocol):
    """Who observes the nodes."""

    @property
    def checkers(self) -> Sequence[object]:
        """Where there are none, `saw` is not called."""
        ...

    def traced(self, node: SimNode, record: Record) -> None:
        """A node told something."""
        ...

    def saw(self, node: SimNode, event: Event, effects: list[Effect]) -> None:
        """A node handled an event."""
        ...

    def delivered(self, sender: SimNode, receiver: SimNode, medium: str, frame: Frame, size_bytes: int) -> None:
        """A frame reached a node over a medium."""
        ...


class Services(Protocol):
    """What the world does for a node beyond its own engine, disk and links."""

    def advertise(self, node: SimNode, effect: Advertise, depart_us: int) -> None:
        """Tell the neighbours."""
        ...

    def fetch(self, node: SimNode, effect: FetchFile) -> None:
        """Begin a download."""
        ...

    def hash_file(self, node: SimNode, effect: HashFile) -> None:
        """Begin to hash a file."""
        ...

    def cancel(self, node: SimNode, op: OpId) -> None:
        """End a download early."""
        ...


class SimNode:
    """One simulated node: the core's `Node`, and the machine around it."""

    __slots__ = (
        "_cpu_free_us",
        "_inbox",
        "_is_draining",
        "_kernel",
        "_services",
        "_tick_us",
        "_wake_us",
        "_watcher",
        "device",
        "device_name",
        "disk",
        "engine",
        "events",
        "index",
        "links",
        "name",
        "node",
        "node_id",
        "rng_seed",
    )

    def __init__(
        self,
        kernel: Kernel,
        services: Services,
        watcher: Watcher,
        index: int,
        name: str,
        node: Node,
        device: Device,
        device_name: str,
        rng_seed: int,
    ) -> None:
        self._kernel = kernel
        self._tick_us = kernel.tick_us
        self._services = services
        self._watcher = watcher
        self.index = index
        self.name = name
        self.node = node
        self.node_id: NodeId = node.context.node_id
        self.device = device
        self.device_name = device_name
        self.rng_seed = rng_seed
        self.disk: dict[str, bytes] = {}
        self.links: dict[LinkId, Link] = {}
        self.engine = Engine(kernel, device, self.stream("engine"), self.post)
        self.events = 0
        """Events handled so far."""
        self._cpu_free_us = 0
        self._wake_us = -1
        self._inbox: deque[Event] = deque()
        self._is_draining = False

    def stream(self, purpose: str) -> Stream:
        """A random stream of this machine, apart from those of its core."""
        return Stream(self.rng_seed, self.node_id, f"sim.{purpose}")

    def start(self, wall_ms: int) -> None:
        """Begin the node's life with what is on its disk."""
        self.post(Started(dict(self.disk), wall_ms))

    def attach(self, link: LinkId, carrier: Link) -> None:
        """A link came up."""
        self.links[link] = carrier

    # -- events in -----------------------------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Hand an event to the node in the present tick."""
        self._kernel.call_at(self._kernel.now, self._arrive, event)

    def post_at(self, at_us: int, event: Event) -> None:
        """Hand an event to the node at a later time."""
        self._kernel.call_at(at_us, self._arrive, event)

    def deliver_at(self, at_us: int, link: LinkId, frame: Frame, crossing: Crossing) -> None:
        """Hand a frame to the node when it arrives."""
        self._kernel.call_at(at_us, self._receive, FrameReceived(link, frame), crossing)

    def _receive(self, event: FrameReceived, crossing: Crossing) -> None:
        sender, medium, size_bytes = crossing
        self._watcher.delivered(sender, self, medium, event.frame, size_bytes)
        if self._inbox or self._cpu_free_us >= self._kernel.now + self._tick_us:
            self._queue(event)
        else:
            self._handle(event)

    def _wake(self, deadline_us: int, _: object) -> None:
        if deadline_us == self._wake_us:
            self._wake_us = -1
            self._arrive(_WAKE, None)

    def _arrive(self, event: Event, _: object) -> None:
        """Take an event. One whose turn on the CPU comes within this tick is handled in it."""
        if self._inbox or self._cpu_free_us >= self._kernel.now + self._tick_us:
            self._queue(event)
        else:
            self._handle(event)

    def _queue(self, event: Event) -> None:
        """Wait for the CPU."""
        self._inbox.append(event)
        if not self._is_draining:
            self._is_draining = True
            self._kernel.call_at(self._cpu_free_us, self._drain)

    def _drain(self, _: object, __: object) -> None:
        inbox = self._inbox
        end_us = self._kernel.now + self._tick_us
        while inbox and self._cpu_free_us < end_us:
            self._handle(inbox.popleft())
        self._is_draining = bool(inbox)
        if inbox:
            self._kernel.call_at(self._cpu_free_us, self._drain)

    # -- effects out ---------------------------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        now_us = self._kernel.now
        self.events += 1
        effects = self.node.handle(now_us, event)
        device = self.device
        free_us = self._cpu_free_us
        if free_us < now_us:  # noqa: PLR1730 - hot: a call to max costs more
            free_us = now_us
        free_us += device.handle_us
        if type(event) is FrameReceived:
            free_us += device.verify_us
        self._cpu_free_us = free_us
        watcher = self._watcher
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                self._send(effect)  # type: ignore[arg-type]  # its type was just looked at
            elif kind is Trace:
                watcher.traced(self, effect.record)  # type: ignore[attr-defined]
            elif kind is WakeAt:
                self._wake_us = effect.deadline  # type: ignore[attr-defined]
                self._kernel.call_at(max(now_us, self._wake_us), self._wake, self._wake_us)
            elif kind is Advertise:
                self._cpu_free_us += device.sign_us
                self._services.advertise(self, effect, self._cpu_free_us)  # type: ignore[arg-type]
            else:
                _CARRY_OUT[kind](self, effect)
        if watcher.checkers:
            watcher.saw(self, event, effects)

    def _send(self, effect: Send) -> None:
        self._cpu_free_us += self.device.sign_us
        link = self.links.get(effect.link)
        if link is not None:
            link.send(self, effect.frame, self._cpu_free_us)

    def _persist(self, effect: Persist) -> None:
        self._kernel.call_at(self._kernel.now + PERSIST_US, self._persisted, effect)

    def _persisted(self, effect: Persist, _: object) -> None:
        self.disk[effect.key] = effect.value
        self._arrive(Persisted(effect.op), None)

    def _cancel(self, effect: CancelOp) -> None:
        self.engine.cancel(effect.op)
        self._services.cancel(self, effect.op)


def _ignore(_: SimNode, __: Effect) -> None:
    """Replies and progress are for screens; those who observe a run see them among the effects."""


_CARRY_OUT: dict[type[Effect], Callable[..., None]] = {
    LoadModel: lambda node, effect: node.engine.load(effect),
    UnloadModel: lambda node, effect: node.engine.unload(effect),
    RunTask: lambda node, effect: node.engine.run(effect),
    Persist: SimNode._persist,
    CancelOp: SimNode._cancel,
    FetchFile: lambda node, effect: node._services.fetch(node, effect),
    HashFile: lambda node, effect: node._services.hash_file(node, effect),
    Reply: _ignore,
    Progress: _ignore,
}
"""Who carries out an effect; called with the node and the effect."""
