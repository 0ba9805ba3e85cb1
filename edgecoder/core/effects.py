"""What a node asks of its host: imperatives, carried out in list order.

An effect with an `op` is owed exactly one completion (`events`). `Send` is lossy and has none. `Persist` is no barrier:
what needs durability is emitted on `Persisted`; writes to one key are applied in the order in which they were emitted.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from edgecoder.core.ids import (
    Address,
    ChannelId,
    CommandId,
    FileId,
    LinkId,
    Medium,
    Micros,
    NodeId,
    OpId,
    RequestId,
    TaskId,
    Wanted,
)
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.trace import Record
from edgecoder.wire.advertisement import Bits
from edgecoder.wire.envelope import Frame
from edgecoder.wire.messages import Capabilities, Load, ModelAvailability, Ticket


class Effect(msgspec.Struct, frozen=True, gc=False):
    """Something the host must carry out."""


class Send(Effect, frozen=True):
    """Put a frame on a link; it may get lost."""

    link: LinkId
    frame: Frame


class ScanMode(Enum):
    """How much of the time the radio listens: what the platform calls them, and how it does them, is the host's."""

    LOW_POWER = "low_power"
    LOW_LATENCY = "low_latency"


class Scan(Effect, frozen=True):
    """Listen for advertisements of the mesh from now on, and take links from others, at most `links_max` with those
    that are dialled. A device is told of when it is first heard, when its bits change, and after `silence_ms` without a
    word from it."""

    mode: ScanMode
    links_max: int
    silence_ms: int


class Disconnect(Effect, frozen=True):
    """Close a link when what was sent over it has arrived. LinkDown follows at both ends."""

    link: LinkId
    if_quiet: bool = False
    """Only if no part of a frame has come of which the rest is under way; the core asks again."""


class WakeAt(Effect, frozen=True):
    """Deliver `Wake` at `deadline` or soon after, in place of the wake-up that was asked for before."""

    deadline: Micros


class Trace(Effect, frozen=True):
    """A record for whoever observes."""

    record: Record


class Reply(Effect, frozen=True):
    """The one answer to a command."""

    command: CommandId
    result: Result


class Progress(Effect, frozen=True):
    """News of an open command: a part of an answer, or bytes of a pull."""

    command: CommandId
    text: str = ""
    tokens: int = 0
    bytes_done: int = 0


class Operation(Effect, frozen=True):
    """An effect that is owed a completion."""

    op: OpId


class Persist(Operation, frozen=True):
    """Make `value` durable under `key`. Completion: Persisted or PersistFailed."""

    key: str
    value: bytes


class Advertise(Operation, frozen=True):
    """Tell everybody in radio range: `bits` in the advertisement, `frame` (`capabilities`, sealed) for each subscribed
    peer. Completion when the stack took it and each subscribed peer acknowledged or lost its link, at
    `deadline` at the latest: Advertised or AdvertiseFailed."""

    capabilities: Capabilities
    frame: Frame
    deadline: Micros
    bits: Bits


class Connect(Operation, frozen=True):
    """Open a link to a device that was heard, over Bluetooth or Wi-Fi Direct. Completion: Connected or ConnectFailed;
    LinkUp comes before it."""

    address: Address
    medium: Medium = Medium.BLE


class LoadModel(Operation, frozen=True):
    """Load this file into the engine, which is empty. Completion: ModelLoaded or ModelLoadFailed."""

    entry: CatalogEntry
    context_tokens: int


class UnloadModel(Operation, frozen=True):
    """Free the engine. Completion: ModelUnloaded or UnloadFailed."""

    successor: CatalogEntry | None = None
    """What is to be loaded in its place: a driver that knows that this cannot be refuses before anything is freed."""


class RunTask(Operation, frozen=True):
    """Let the engine answer. TaskChunk may come; completion: TaskDone or TaskFailed."""

    task_id: TaskId
    prompt: str
    max_tokens: int


class FetchFile(Operation, frozen=True):
    """Fetch this file from the CDN, on from `offset_bytes`; from 0 it takes the place of what is there. Room for all of
    it is kept first, as by AllocateFile. Completion: FileFetched or FetchFailed."""

    entry: CatalogEntry
    offset_bytes: int


class Source(Enum):
    """Where bytes of a file come from, in the order of the seed."""

    BLE = "ble"
    WIFI_DIRECT = "wifi_direct"
    MESH = "mesh"
    CDN = "cdn"


class AllocateFile(Operation, frozen=True):
    """Keep room on the disk for the whole of this file; what is there of it counts. Completion: FileAllocated or
    AllocateFailed, which has freed what it took."""

    entry: CatalogEntry


class FetchPiece(Operation, frozen=True):
    """Fetch `count` pieces in a row from one source, the first of them on from leaf `first_leaf`; verify each leaf when
    it arrives, and keep those before it in the file's place on disk. PieceArrived for each but the last; completion
    when all is synced: PieceFetched or PieceFailed."""

    entry: CatalogEntry
    piece: int
    first_leaf: int
    source: Source
    count: int = 1
    peer: NodeId | None = None
    endpoint: str = ""
    link: LinkId | None = None
    """The link to the peer, where it comes over a radio."""
    ticket: Ticket | None = None
    channel: ChannelId | None = None
    """The connection that the peer has offered, where nobody can dial it."""


class ServePiece(Operation, frozen=True):
    """Send what a peer has asked for, in the background: tasks go first. Completion: PieceServed or ServeFailed."""

    request: RequestId
    entry: CatalogEntry
    piece: int
    first_leaf: int
    have: int = 0
    """The pieces of the file that are here, a bit a piece: the answer says so."""
    wanted: Wanted = Wanted.BYTES


class RefusePiece(Effect, frozen=True):
    """Answer a peer's request with a reason."""

    request: RequestId
    reason: Reason
    have: int = 0
    """As in ServePiece."""


class DialPeer(Operation, frozen=True):
    """Dial a peer that cannot dial this node, and offer it the connection, with the ticket; then take its requests over
    it, as if it had dialled. Completion, once it has taken it: PeerDialled or DialFailed."""

    peer: NodeId
    endpoint: str
    file: FileId
    ticket: Ticket


class TakeChannel(Effect, frozen=True):
    """Keep a connection that was offered, for FetchPiece."""

    channel: ChannelId


class CloseChannel(Effect, frozen=True):
    """Close a connection that was offered; its peer hears why."""

    channel: ChannelId
    reason: Reason


class DialCoordinator(Operation, frozen=True):
    """Open a link to a coordinator. Completion: Connected or ConnectFailed; LinkUp comes before it."""

    coordinator: NodeId
    endpoint: str


class Browse(Effect, frozen=True):
    """Listen on this machine's networks for these coordinators from now on, and for no others; `CoordinatorSeen` says
    where each is."""

    coordinators: tuple[NodeId, ...]


class HashFile(Operation, frozen=True):
    """Hash this file on disk. Completion: FileHashed or HashFailed."""

    entry: CatalogEntry


class DeleteFile(Operation, frozen=True):
    """Delete this file and what there is of it; nobody uses it. Completion: FileDeleted or DeleteFailed."""

    entry: CatalogEntry


class CancelOp(Effect, frozen=True):
    """End an operation early. Its completion still comes: the failure `cancelled`, or the success that overtook
    this."""

    op: OpId


# -- results of commands -----------------------------------------------------------------------------------------------


class SwapResult(msgspec.Struct, frozen=True, gc=False):
    """The end of a swap. `active` is what serves now; `reason` None means that it is what was asked for."""

    previous: str | None
    active: str | None
    param_size: float | None
    """Billions of parameters of `active`."""
    reason: Reason | None = None


class PullResult(msgspec.Struct, frozen=True, gc=False):
    """The end of a pull; `reason` None means that the file is installed."""

    model: str
    reason: Reason | None = None


class RemoveResult(msgspec.Struct, frozen=True, gc=False):
    """The end of a removal; `reason` None means that the file is gone."""

    model: str
    reason: Reason | None = None


class TaskResult(msgspec.Struct, frozen=True, gc=False):
    """The end of a task; `reason` None means that the answer is whole."""

    text: str
    tokens: int
    served_by: NodeId | None
    model: str | None
    reason: Reason | None = None


class Pulling(msgspec.Struct, frozen=True, gc=False):
    """A file on its way here."""

    model: str
    bytes_done: int
    size_bytes: int
    have: int = 0
    """Its pieces that are here and verified, a bit a piece, the lowest one the first; 0 where it comes whole."""


class UplinkRow(msgspec.Struct, frozen=True, gc=False):
    """A coordinator that the node links to."""

    coordinator: NodeId
    endpoint: str
    """Where it was dialled last, or will be first; empty: nobody knows."""
    state: str
    """waiting, dialling or up."""
    is_home: bool
    reason: Reason | None
    """Why the last dial brought no link, or why the coordinator does not want this one."""
    is_told: bool = False
    """Whether another coordinator named it; it is not in the configuration."""


class CatalogStatus(msgspec.Struct, frozen=True, gc=False):
    """What is held of the origin's catalog."""

    version: int
    age_ms: int
    """Since the origin was heard."""
    is_stale: bool
    """Nothing new may be fetched."""


class ModelStatus(msgspec.Struct, frozen=True, gc=False):
    """What `GET /model/status` shows."""

    model: str | None
    param_size: float | None
    status: str
    """ready, loading, pulling, error or no_model."""
    load: Load
    generation: int
    online: bool
    reason: Reason | None = None
    """Why the last change of the model did not come to what was asked for."""
    pulling: tuple[Pulling, ...] = ()
    uplinks: tuple[UplinkRow, ...] = ()
    catalog: CatalogStatus | None = None
    """None: it has no origin."""


class ModelRow(msgspec.Struct, frozen=True, gc=False):
    """One row of `GET /model/list`."""

    entry: CatalogEntry
    state: str
    active: bool
    compatible: bool


class CoordinatorRow(msgspec.Struct, frozen=True, gc=False):
    """One coordinator in the answer to `GET /mesh/capabilities`."""

    coordinator_id: NodeId
    agent_count: int
    model_availability: dict[str, ModelAvailability]
    age_ms: int


class MeshCapabilities(msgspec.Struct, frozen=True, gc=False):
    """The answer to `GET /mesh/capabilities`; `reason` is set where this node is no coordinator."""

    coordinators: tuple[CoordinatorRow, ...] = ()
    reason: Reason | None = None


class CloneRow(msgspec.Struct, frozen=True, gc=False):
    """A node's key with which two machines came to a coordinator. Addresses are empty where they are not known."""

    node: NodeId
    stays: str
    """Where the one is that the coordinator keeps."""
    other: str
    times: int
    """How often the other came."""
    age_ms: int
    """Since it came last."""


class Clones(msgspec.Struct, frozen=True, gc=False):
    """What a coordinator has seen of keys that several machines have, of late; the last first."""

    rows: tuple[CloneRow, ...]


class LedgerTotals(msgspec.Struct, frozen=True, gc=False):
    """The receipts that a coordinator has."""

    receipts: int
    tokens: int
    micro_credits: int
    """CPU seconds times quality, millionths."""


Result = (
    SwapResult
    | PullResult
    | RemoveResult
    | TaskResult
    | ModelStatus
    | tuple[ModelRow, ...]
    | MeshCapabilities
    | LedgerTotals
    | Clones
    | bool
    | Reason
    | None
)
"""What a Reply carries. A bare Reason says that the command could not be taken at all."""
