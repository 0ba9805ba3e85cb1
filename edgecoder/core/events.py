"""What reaches a node: facts in the past tense, commands of its user, and the completions of its effects.

Every effect with an operation id is answered by exactly one `Completion`, success or failure. Every `Command` is
answered by exactly one `Reply`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from edgecoder.core.ids import (
    Address,
    CommandId,
    LinkId,
    Medium,
    NodeId,
    OpId,
    Role,
)
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.wire.advertisement import Bits
from edgecoder.wire.envelope import Frame


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something that reached the node."""


class Started(Event, frozen=True):
    """The host began a life of this node. `snapshot` is what `Persist` wrote in earlier lives, by key; `wall_ms` is
    Unix time in milliseconds."""

    snapshot: Mapping[str, bytes]
    wall_ms: int = 0


class Wake(Event, frozen=True):
    """The deadline of the last `WakeAt` passed. A spurious one does nothing."""


class LinkUp(Event, frozen=True):
    """A link to some node opened; who it is, is learned from its identity message. `rssi_dbm` and the
    other end's `address` only on a radio. Where the host has made sure who is at the other end, `peer` and `role` say
    so, and nobody else can identify there."""

    link: LinkId
    medium: Medium
    rssi_dbm: int | None = None
    address: Address | None = None
    peer: NodeId | None = None
    role: Role | None = None
    where: str = ""
    """The address at the other end, which is for people alone."""


class LinkDown(Event, frozen=True):
    """A link closed; its id is never used again. `lost`: nobody closed it, it broke."""

    link: LinkId
    lost: bool = True


class FrameReceived(Event, frozen=True):
    """An envelope arrived."""

    link: LinkId
    frame: Frame


class CoordinatorSeen(Event, frozen=True):
    """Somebody on this machine's network says that a coordinator of the last `Browse` is there, HOST:PORT each.
    Whether it is, only a handshake shows."""

    coordinator: NodeId
    endpoints: tuple[str, ...]


class SignalMeasured(Event, frozen=True):
    """The radio measured a link's signal, dBm."""

    link: LinkId
    rssi_dbm: int


class Heard(msgspec.Struct, frozen=True, gc=False):
    """A device of the mesh that advertises. `bits` None: its advertisement has no room for them (iOS in background)."""

    address: Address
    rssi_dbm: int
    bits: Bits | None


class PeersHeard(Event, frozen=True):
    """The scanner heard these devices for the first time, with other bits than before, or again after seconds of
    silence."""

    peers: tuple[Heard, ...]


class PeersSilent(Event, frozen=True):
    """The scanner has not heard these for as long as `Scan` said."""

    addresses: tuple[Address, ...]


class PowerChanged(Event, frozen=True):
    """The battery's charge in percent, whether the node is on external power, and whether its system saves power."""

    battery_pct: int
    on_external_power: bool
    low_power: bool = False


class AccessChanged(Event, frozen=True):
    """The node is on a network whose bytes its user pays for, or no longer."""

    is_metered: bool


class EngineFailed(Event, frozen=True):
    """The engine lost its model without being asked; `no_model`: somebody else who uses it took the model out."""

    reason: Reason


class EngineReturned(Event, frozen=True):
    """An engine that was unavailable can be used again, and is empty."""


class HeldFile(msgspec.Struct, frozen=True, gc=False):
    """A model file that the engine's own server keeps, and what that tells of it. Unknown is empty, or 0."""

    name: str
    """What it is called there."""
    sha256: str
    size_bytes: int
    parameter_size: str = ""
    """With its unit, such as `7.6B`."""
    quantization: str = ""
    architecture: str = ""
    context_length: int = 0
    """Tokens."""
    kv_bytes_per_token: int = 0


class FilesHeld(Event, frozen=True):
    """All files that the engine's own server keeps now and the node's own store does not. `stored` are the SHA-256 of
    those that it does."""

    files: tuple[HeldFile, ...]
    stored: tuple[str, ...] = ()


class CatalogReleased(Event, frozen=True):
    """The origin of the catalog has this edition; it was heard `age_ms` ago."""

    version: int
    entries: tuple[CatalogEntry, ...]
    age_ms: int = 0


class CatalogConfirmed(Event, frozen=True):
    """The origin of the catalog has said, `age_ms` ago, that the edition that is held is its newest."""

    age_ms: int = 0


class OtherModel(msgspec.Struct, frozen=True, gc=False):
    """A model that another program has in the memory of the engine's server."""

    name: str
    sha256s: tuple[str, ...]
    """Of the file that it is made of, as the catalog may know it; empty where that is not told."""
    size_mb: int


class OthersLoaded(Event, frozen=True):
    """All models that other programs have in the memory of the engine's server now."""

    models: tuple[OtherModel, ...]
    is_full: bool = False
    """Whether one model more would put out one of them."""


class FileDoubted(Event, frozen=True):
    """A file that counted as installed does not any more: it is gone, or something else wrote to it. Whoever was to
    read it was refused, for the same reason."""

    sha256: str
    reason: Reason


class FileOffered(Event, frozen=True):
    """What is asked of the CDN of this file comes from this machine from now on: it need not be waited for."""

    sha256: str


# -- commands ----------------------------------------------------------------------------------------------------------


class Command(Event, frozen=True):
    """A request of this node's user."""

    command: CommandId


class SwapCause(Enum):
    """Who wants a swap. One that a task wants is refused while the active model has not served for the minimal
    residency; one that a user wants never is."""

    USER = "user"
    TASK = "task"


class SwapModel(Command, frozen=True):
    """Make `model` (id or alias) the active one; `pull` fetches it first where it is missing. Reply: SwapResult."""

    model: str
    cause: SwapCause = SwapCause.USER
    pull: bool = False


class PullModel(Command, frozen=True):
    """Fetch and verify `model` without activating it; one that is quarantined is fetched anew. Reply: PullResult."""

    model: str
    is_import: bool = False
    """Whether its file is on this machine: that is taken whatever the origin of the catalog would say now."""


class RemoveModel(Command, frozen=True):
    """Delete the file of `model`; a download of it is called off. Refused for the model that is active, or about to be.
    Reply: RemoveResult."""

    model: str


class SubmitTask(Command, frozen=True):
    """Have the mesh answer a prompt. `model` None takes any of at least `min_param_size` billion parameters;
    `deadline_ms` None is the node's default. Parts arrive as Progress where `stream`. Reply: TaskResult."""

    prompt: str
    model: str | None = None
    min_param_size: float = 0.0
    max_tokens: int = 256
    deadline_ms: int | None = None
    stream: bool = True


class CancelTask(Command, frozen=True):
    """Cancel the task that command `task` submitted; its reply says cancelled. Reply: whether it was still open."""

    task: CommandId


class QueryMesh(Command, frozen=True):
    """Which coordinators have agents with `model`? Reply: MeshCapabilities, best first, at most `limit` rows."""

    model: str | None = None
    min_param_size: float = 0.0
    limit: int = 20


class QueryStatus(Command, frozen=True):
    """What is active here? Reply: ModelStatus."""


class QueryModels(Command, frozen=True):
    """What is in the catalog, and what of it is here? Reply: a tuple of ModelRow."""


class QueryLedger(Command, frozen=True):
    """Count and sums of the receipts at a coordinator. Reply: LedgerTotals."""


class QueryClones(Command, frozen=True):
    """Which nodes are more than one machine, as a coordinator has seen? Reply: Clones."""


class ShutDown(Command, frozen=True):
    """Take no more work, end what runs (to the drain deadline), then reply: None."""


# -- completions -------------------------------------------------------------------------------------------------------


class Completion(Event, frozen=True):
    """The end of the operation `op`."""

    op: OpId


class Persisted(Completion, frozen=True):
    """The value is durable."""


class PersistFailed(Completion, frozen=True):
    """The value is not durable."""

    reason: Reason


class Advertised(Completion, frozen=True):
    """The stack took it, and `reached` subscribed peers acknowledged in time."""

    reached: int


class AdvertiseFailed(Completion, frozen=True):
    """The stack did not take it."""

    reason: Reason


class Connected(Completion, frozen=True):
    """The dialled device took the link; its LinkUp came before."""

    link: LinkId


class ConnectFailed(Completion, frozen=True):
    """There is no link."""

    reason: Reason


class ModelLoaded(Completion, frozen=True):
    """The engine answered with the model loaded; `tokens_per_s` is what it decodes, for one task."""

    tokens_per_s: int


class ModelLoadFailed(Completion, frozen=True):
    """The model is not loaded; the engine is empty."""

    reason: Reason


class ModelUnloaded(Completion, frozen=True):
    """The engine is empty."""


class UnloadFailed(Completion, frozen=True):
    """The old model is still loaded."""

    reason: Reason


class TaskChunk(Event, frozen=True):
    """A part of the answer of the task run as `op`: no completion, more may follow."""

    op: OpId
    text: str
    tokens: int


class TaskDone(Completion, frozen=True):
    """The engine finished the task; `tokens` counts all that it wrote."""

    tokens: int


class TaskFailed(Completion, frozen=True):
    """The engine did not finish the task."""

    reason: Reason


class FileFetched(Completion, frozen=True):
    """All bytes of the file are on disk, synced and not yet verified."""

    size_bytes: int


class FetchProgressed(Event, frozen=True):
    """Bytes of the file that are on disk so far: no completion."""

    op: OpId
    bytes_done: int


class FetchFailed(Completion, frozen=True):
    """The file could not be fetched; what arrived is kept for the next try."""

    reason: Reason


class FileAllocated(Completion, frozen=True):
    """There is room for the whole file."""


class AllocateFailed(Completion, frozen=True):
    """There is not, or the disk failed."""

    reason: Reason


class PieceArrived(Event, frozen=True):
    """One of several pieces that `op` fetches is verified and synced: no completion."""

    op: OpId
    piece: int


class PieceFetched(Completion, frozen=True):
    """All pieces that were asked for are verified and synced."""

    have: int = 0
    """The pieces of the file that the sender said it has, a bit a piece; 0: it did not say."""


class PieceFailed(Completion, frozen=True):
    """A piece did not come whole. `leaves` of it are verified and synced, from its first one on; PIECE_CORRUPT: the
    next one did not fit the tree, and the sender is to blame."""

    reason: Reason
    leaves: int = 0
    wasted_bytes: int = 0
    """Bytes that came and were thrown away."""
    have: int = 0
    """As in PieceFetched."""


class FileHashed(Completion, frozen=True):
    """The SHA-256 of the file on disk, lower-case hex."""

    sha256: str


class HashFailed(Completion, frozen=True):
    """The file could not be read."""

    reason: Reason


class FileDeleted(Completion, frozen=True):
    """The file is gone."""


class DeleteFailed(Completion, frozen=True):
    """The file may still be there."""

    reason: Reason
