"""The SimPy host: feeds a node with events on the kernel's clock and carries out its effects.

Every event passes the node's CPU: a single server, first come first served, which charges `handle_us` an event,
`verify_us` a frame and `sign_us` a sealed envelope. What a node sends leaves when the CPU is done with it.

Fidelity boundary: CPU costs are constants of the device; the engine does not compete with the protocol for the CPU; a
small write to disk takes a fixed time and never fails, however full the disk is. A node that crashes loses its memory
and what its engine does; a write under way is on the disk or it is not, and what was written later never without what
was written before; what there is of model files stays. It starts with a cold file cache.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NoReturn, Protocol

from edgecoder.core.effects import (
    Advertise,
    AllocateFile,
    Browse,
    CancelOp,
    CloseChannel,
    Connect,
    DeleteFile,
    DialCoordinator,
    DialPeer,
    Disconnect,
    Effect,
    FetchFile,
    FetchPiece,
    HashFile,
    LoadModel,
    Persist,
    Progress,
    RefusePiece,
    Reply,
    RunTask,
    Scan,
    Send,
    ServePiece,
    TakeChannel,
    Trace,
    UnloadModel,
    WakeAt,
)
from edgecoder.core.events import Event, FileDeleted, FrameReceived, Persisted, Started, Wake
from edgecoder.core.ids import LinkId, Medium, NodeId, OpId
from edgecoder.core.node import Node
from edgecoder.core.rng import Stream
from edgecoder.trace import Record
from edgecoder.wire.envelope import Envelope, Frame
from edgecoder_sim.engine import Engine
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.profiles import Device
from edgecoder_sim.storage import Storage

PERSIST_US = 5_000
"""A durable write of a small value: one flush of a flash disk (I: 1 to 10 ms)."""
DELETE_US = 20_000
"""Taking a file of some GB off a file system with extents (I: 5 to 50 ms)."""
_NEVER_US = 1 << 62
_WAKE = Wake()


class Disk(Enum):
    """What a node that restarts finds on its disk."""

    KEPT = "kept"
    LOST = "lost"
    """Nothing: the app was installed anew, or the disk was changed."""
    OLD_COPY = "old_copy"
    """What was on it when `back_up` was called last."""


def frame_size(frame: Frame) -> int:
    """Bytes of a frame."""
    return frame.size_bytes if isinstance(frame, Envelope) else len(frame)


class Link(Protocol):
    """A simulated link between two nodes."""

    id: LinkId
    medium: Medium
    first: SimNode
    second: SimNode

    def send(self, sender: SimNode, frame: Frame, depart_us: int) -> int | None:
        """Carry a frame; when it arrives, None if it never does."""
        ...

    def open(self) -> None:
        """Tell both ends that it is up."""
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

    def raised(self, node: SimNode, event: Event, error: Exception) -> NoReturn:
        """A node raised in place of handling an event. Raises InvariantViolated."""
        ...

    def died(self, node: SimNode) -> None:
        """A node's life ended without a word."""
        ...

    def delivered(self, sender: SimNode, receiver: SimNode, medium: str, frame: Frame, size_bytes: int) -> None:
        """A frame reached a node over a medium."""
        ...


class Pieces(Protocol):
    """Who carries pieces from node to node and from the CDN."""

    def allocate(self, node: SimNode, effect: AllocateFile) -> None:
        """Keep room for a file."""
        ...

    def fetch(self, node: SimNode, effect: FetchPiece) -> None:
        """Ask for a piece."""
        ...

    def serve(self, node: SimNode, effect: ServePiece) -> None:
        """Send one."""
        ...

    def refuse(self, node: SimNode, effect: RefusePiece) -> None:
        """Say why not."""
        ...

    def channel(self, node: SimNode, effect: DialPeer | TakeChannel | CloseChannel) -> None:
        """Dial a peer, or decide on a connection that one has offered."""
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

    @property
    def pieces(self) -> Pieces:
        """Who carries pieces."""
        ...

    def dial_coordinator(self, node: SimNode, effect: DialCoordinator) -> None:
        """Open a link to a coordinator."""
        ...

    def cancel(self, node: SimNode, op: OpId) -> None:
        """End a download or a dial early."""
        ...

    def scan(self, node: SimNode, effect: Scan) -> None:
        """Begin to listen."""
        ...

    def connect(self, node: SimNode, effect: Connect) -> None:
        """Dial a device."""
        ...

    def disconnect(self, node: SimNode, effect: Disconnect) -> None:
        """Close a link."""
        ...

    def died(self, node: SimNode, told_us: int | None) -> None:
        """A node is gone: nothing it waited for is owed, and its peers lose their links, after `told_us` (None: as
        long as the medium takes to notice by itself)."""
        ...

    def started(self, node: SimNode) -> None:
        """Another life of a node begins: its links may come back."""
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
        "_writes",
        "backup",
        "backup_files",
        "device",
        "device_name",
        "disk",
        "engine",
        "events",
        "index",
        "is_up",
        "life",
        "links",
        "name",
        "node",
        "node_id",
        "rng_seed",
        "storage",
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
        self.backup: dict[str, bytes] | None = None
        """What `back_up` has copied,"""
        self.backup_files: dict[str, int] = {}
        """and the model files that were there then."""
        self.storage = Storage(device.disk_free_bytes)
        """The model files that it has, or has a part of."""
        self.is_up = True
        """A node that has not started yet keeps what comes until it has."""
        self.life = 1
        """Counts the lives of this node from 1."""
        self.links: dict[LinkId, Link] = {}
        self.engine = Engine(kernel, device, self.stream("engine"), self.post)
        self.events = 0
        """Events handled so far."""
        self._cpu_free_us = 0
        self._wake_us = -1
        self._inbox: deque[Event] = deque()
        self._is_draining = False
        self._writes: list[Persist] = []
        """Writes under way, in their order."""

    def stream(self, purpose: str) -> Stream:
        """A random stream of this machine, apart from those of its core."""
        return Stream(self.rng_seed, self.node_id, f"sim.{purpose}")

    def start(self, wall_ms: int) -> None:
        """Begin the node's life with what is on its disk."""
        self.post(Started(dict(self.disk), wall_ms))

    # -- lives ---------------------------------------------------------------------------------------------------------

    def back_up(self) -> None:
        """Copy the disk, for a restart with the old copy."""
        self.backup, self.backup_files = dict(self.disk), dict(self.storage.files)

    def crash(self, told_us: int | None = None) -> None:
        """End this life without a word. Of the writes under way the first ones, a drawn number, are on the disk. Peers
        lose their links after `told_us`, None: when their medium notices. A node that is down stays so."""
        if not self.is_up:
            return
        self.is_up = False
        for effect in self._writes[: self.stream(f"crash {self.life}").below(len(self._writes) + 1)]:
            self.disk[effect.key] = effect.value
        self.life += 1  # what was asked for in the old one is void
        self._writes = []
        self._inbox.clear()
        self._cpu_free_us = _NEVER_US
        self._wake_us = -1
        self.engine.stop()
        self._services.died(self, told_us)
        self._watcher.died(self)

    def restart(self, wall_ms: int, disk: Disk = Disk.KEPT) -> None:
        """Begin another life, at least a tick after the crash; of a node that is up, nothing. `wall_ms` is what its
        clock says. Raises ValueError for an old copy that nobody made."""
        if self.is_up:
            return
        if disk is Disk.LOST:
            self.disk, self.storage.files = {}, {}
        elif disk is Disk.OLD_COPY:
            if self.backup is None:
                raise ValueError(f"{self.name} has no copy of its disk; call back_up before it crashes")
            self.disk, self.storage.files = dict(self.backup), dict(self.backup_files)
        before, engine = self.node, self.engine
        rng_seed = self.stream(f"life {self.life}").word() >> 1
        self.node = Node(before.setup, before.context.signer, before.gate.verifier, rng_seed)
        self.engine = Engine(self._kernel, self.device, self.stream(f"engine {self.life}"), self.post)
        self.engine.busy_us = engine.busy_us
        self.is_up, self._cpu_free_us = True, self._kernel.now
        self._handle(Started(dict(self.disk), wall_ms))  # before anything that is on its way here
        self._services.started(self)

    @property
    def disk_free_bytes(self) -> int | None:
        """Room for model files beside those that are there at first, bytes; None never ends."""
        return self.device.disk_free_bytes

    @property
    def is_behind(self) -> bool:
        """Whether events wait for its CPU."""
        return bool(self._inbox)

    def attach(self, link: LinkId, carrier: Link) -> None:
        """A link came up."""
        self.links[link] = carrier

    # -- events in -----------------------------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Hand an event to the node in the present tick."""
        self._kernel.call_at(self._kernel.now, self._arrive, event)

    def post_at(self, at_us: int, event: Event) -> None:
        """Hand an event to the node at a later time, if it still lives then."""
        self._kernel.call_at(at_us, self._arrive_in, event, self.life)

    def _arrive_in(self, event: Event, life: int) -> None:
        if life == self.life:
            self._arrive(event, None)

    def deliver_at(self, at_us: int, link: LinkId, frame: Frame, crossing: Crossing) -> None:
        """Hand a frame to the node when it arrives."""
        self._kernel.call_at(at_us, self._receive, FrameReceived(link, frame), crossing)

    def _receive(self, event: FrameReceived, crossing: Crossing) -> None:
        sender, medium, size_bytes = crossing
        if self._cpu_free_us == _NEVER_US:
            return
        self._watcher.delivered(sender, self, medium, event.frame, size_bytes)
        if self._inbox or self._cpu_free_us >= self._kernel.now + self._tick_us:
            self._queue(event)
        else:
            self._handle(event)

    def _wake(self, deadline_us: int, _: object) -> None:
        if deadline_us != self._wake_us:
            return
        self._wake_us = -1
        if self._inbox or self._cpu_free_us >= self._kernel.now + self._tick_us:
            self._queue(_WAKE)
        else:
            self._handle(_WAKE)

    def _arrive(self, event: Event, _: object) -> None:
        """Take an event. One whose turn on the CPU comes within this tick is handled in it."""
        if self._inbox or self._cpu_free_us >= self._kernel.now + self._tick_us:
            self._queue(event)
        else:
            self._handle(event)

    def _queue(self, event: Event) -> None:
        """Wait for the CPU; that of a node that is down is never free."""
        if not self.is_up:
            return
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
        now_us, device = self._kernel.now, self.device
        self.events += 1
        try:
            effects = self.node.handle(now_us, event)
        except Exception as error:  # noqa: BLE001 - nothing that comes from outside may make a node raise
            self._watcher.raised(self, event, error)
        free_us = self._cpu_free_us
        if free_us < now_us:  # noqa: PLR1730 - hot: a call to max costs more
            free_us = now_us
        free_us += device.handle_us
        if type(event) is FrameReceived:
            free_us += device.verify_us
        self._cpu_free_us = free_us
        for effect in effects:
            if type(effect) is Send:
                free_us = self._cpu_free_us = self._cpu_free_us + device.sign_us
                if effect.link in self.links:
                    self.links[effect.link].send(self, effect.frame, free_us)
            elif type(effect) is WakeAt:
                deadline_us = self._wake_us = effect.deadline
                self._kernel.call_at(max(now_us, deadline_us), self._wake, deadline_us)
            elif type(effect) is Trace:
                self._watcher.traced(self, effect.record)
            elif type(effect) is Advertise:
                self._cpu_free_us += device.sign_us
                self._services.advertise(self, effect, self._cpu_free_us)
            else:
                _CARRY_OUT[type(effect)](self, effect)
        if self._watcher.checkers:
            self._watcher.saw(self, event, effects)

    def _load(self, effect: LoadModel) -> None:
        self.engine.load(effect)

    def _persist(self, effect: Persist) -> None:
        self._writes.append(effect)
        self._kernel.call_at(self._kernel.now + PERSIST_US, self._persisted, effect, self.life)

    def _persisted(self, effect: Persist, life: int) -> None:
        if life != self.life:
            return
        self._writes.remove(effect)
        self.disk[effect.key] = effect.value
        self._arrive(Persisted(effect.op), None)

    def _delete(self, effect: DeleteFile) -> None:
        self._kernel.call_at(self._kernel.now + DELETE_US, self._deleted, effect, self.life)

    def _deleted(self, effect: DeleteFile, life: int) -> None:
        if life == self.life:
            self.storage.free(effect.entry)
            self._arrive(FileDeleted(effect.op), None)

    def _cancel(self, effect: CancelOp) -> None:
        self.engine.cancel(effect.op)
        self._services.cancel(self, effect.op)


def _ignore(_: SimNode, __: Effect) -> None:
    """Replies and progress are for screens; those who observe a run see them among the effects. Nobody announces a
    coordinator here: a simulated node is linked to its own."""


_CARRY_OUT: dict[type[Effect], Callable[..., None]] = {
    LoadModel: lambda node, effect: node._load(effect),
    UnloadModel: lambda node, effect: node.engine.unload(effect),
    RunTask: lambda node, effect: node.engine.run(effect),
    Persist: lambda node, effect: node._persist(effect),
    CancelOp: SimNode._cancel,
    FetchFile: lambda node, effect: node._services.fetch(node, effect),
    HashFile: lambda node, effect: node._services.hash_file(node, effect),
    DeleteFile: lambda node, effect: node._delete(effect),
    AllocateFile: lambda node, effect: node._services.pieces.allocate(node, effect),
    FetchPiece: lambda node, effect: node._services.pieces.fetch(node, effect),
    ServePiece: lambda node, effect: node._services.pieces.serve(node, effect),
    RefusePiece: lambda node, effect: node._services.pieces.refuse(node, effect),
    Connect: lambda node, effect: node._services.connect(node, effect),
    DialCoordinator: lambda node, effect: node._services.dial_coordinator(node, effect),
    Disconnect: lambda node, effect: node._services.disconnect(node, effect),
    **dict.fromkeys(
        (DialPeer, TakeChannel, CloseChannel), lambda node, effect: node._services.pieces.channel(node, effect)
    ),
    Reply: _ignore,
    Browse: _ignore,
    Scan: lambda node, effect: node._services.scan(node, effect),
    Progress: _ignore,
}
"""Who carries out an effect; called with the node and the effect."""
