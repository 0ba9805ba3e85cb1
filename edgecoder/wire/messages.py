"""The messages: what the bodies of envelopes hold. JSON names are the seed's camelCase, and so are the msgpack keys.

Here a message is a struct; how it becomes bytes is `codec`'s work. `TYPES` is the list of all messages with the name
that each has in the envelope. The wire's -1 for "changing its model" stops at the codec: inside it is `Load.LOADING`.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, ClassVar

import msgspec

from edgecoder.config import DeviceType
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.protocol import (
    ENDPOINTS_MAX,
    EPOCH_MAX,
    EXCHANGE_ROWS_MAX,
    LOAD_UNAVAILABLE,
    PIECES_PER_MESSAGE,
    RECEIPTS_PER_BATCH,
    RESPONSE_INDEX_MAX,
    SIGNATURE_BYTES,
    WORK_TOKENS_ANY,
)
from edgecoder.wire.fields import (
    Attempt,
    Counter,
    Generation,
    Hops,
    ParamSize,
    Percent,
    PieceIndex,
    Slots,
    WireBitmap,
    WireDigest,
    WireHash,
    WireName,
    WireNodeId,
    WireNonce,
    WireTaskId,
)

MODELS_MAX = 1024
"""Models that one summary names."""


class Load:
    """How busy a node is: a count of its running and waiting tasks, or changing its model and so unavailable.

    Instances are shared: `Load.of(2) is Load.of(2)`."""

    __slots__ = ("tasks",)
    LOADING: ClassVar[Load]
    _known: ClassVar[dict[int, Load]] = {}

    tasks: int
    """Running and waiting tasks; 0 while loading."""

    def __init__(self) -> None:
        raise TypeError("use Load.of(tasks) or Load.LOADING")

    @classmethod
    def _make(cls, tasks: int) -> Load:
        load = object.__new__(cls)
        load.tasks = tasks
        return load

    @classmethod
    def of(cls, tasks: int) -> Load:
        """The load of a node that serves; `tasks` is 0 or more."""
        known = cls._known.get(tasks)
        if known is None:
            if not 0 <= tasks <= 65_535:
                raise ValueError(f"a load is 0 to 65535 tasks, not {tasks}")
            known = cls._known[tasks] = cls._make(tasks)
        return known

    @property
    def is_loading(self) -> bool:
        """Whether the node is changing its model; a router must not pick it, whatever its cost would be."""
        return self is Load.LOADING

    def __repr__(self) -> str:
        return "Load.LOADING" if self.is_loading else f"Load.of({self.tasks})"

    def __reduce__(self) -> tuple[object, ...]:
        return (load_from_wire, (load_to_wire(self),))


Load.LOADING = Load._make(0)


def load_to_wire(load: Load) -> int:
    """`currentLoad`: the count, or -1 while loading (seed)."""
    return LOAD_UNAVAILABLE if load.is_loading else load.tasks


def load_from_wire(value: int) -> Load:
    """The reverse. Raises ValueError for any other negative number."""
    return Load.LOADING if value == LOAD_UNAVAILABLE else Load.of(value)


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """The body of an envelope. Unknown fields are dropped when it is decoded, missing ones take their defaults."""


class Versions(Message, frozen=True):
    """Answer to an envelope of another version: what this node reads."""

    version_min: Counter
    version_max: Counter


class Stale(Message, frozen=True):
    """Answer to an identity of an epoch that is over, or that begins a link and was heard before: the newest epoch of
    the node that is told. A node comes to this where its disk and its clock both went back; it goes on with a greater
    one."""

    epoch: Annotated[int, msgspec.Meta(ge=0, le=EPOCH_MAX)]


class Identity(Message, frozen=True):
    """The first message on every link: who is there. The sender's id stands in the envelope."""

    role: Role
    device_type: DeviceType
    cluster_config_hash: WireDigest
    knows_you: bool = False
    """Whether the sender knows who is at the other end; one who does not is told again."""
    ask: WireNonce = b""
    """Wants an identity in answer that repeats this."""
    echo: WireNonce = b""
    """What the other end has asked."""
    life: WireNonce = b""
    """With `echo`: a number that the sender drew for its life."""


class Cloned(Message, frozen=True):
    """A coordinator tells a node that another machine has come with its key. `where` is that one's address, if it is
    known."""

    stays: bool
    """Whether it keeps the one that it tells."""
    where: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Capabilities(Message, frozen=True):
    """What a node offers to its peers. `generation` grows at every change and never goes back."""

    agent_id: WireNodeId
    generation: Generation
    """epoch · 2³² + counter."""
    active_model: WireName | None
    active_model_param_size: ParamSize | None
    """Billions of parameters."""
    current_load: Load
    memory_mb: Counter
    slots: Slots
    tokens_per_s: Counter
    battery_pct: Percent
    device_type: DeviceType
    languages: Annotated[tuple[WireName, ...], msgspec.Meta(max_length=64)] = ()
    piece_map_digest: WireDigest = b""
    """Eight bytes over the digests of the files that the node holds."""
    work_tokens_max: Counter = WORK_TOKENS_ANY
    """The longest answer that it takes on for others, tokens; 0: it saves its battery."""


class Power(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """The power that a node runs on."""

    on_external_power: bool
    battery_pct: Percent
    thermal_state: Counter = 0
    """0 nominal, 1 fair, 2 serious, 3 critical."""


class Heartbeat(Message, frozen=True):
    """A node tells its home coordinator that it lives, and what it serves. Fields that are None have not changed since
    the heartbeat that was acknowledged last; the model and the load stand in every one (seed)."""

    generation: Generation
    active_model: WireName | None
    active_model_param_size: ParamSize | None
    current_load: Load
    model_swap_in_progress: bool
    full: bool
    """Whether the fields below are all there, but for the last, which stands in every one."""
    power: Power | None = None
    device_type: DeviceType | None = None
    memory_mb: Counter | None = None
    slots: Slots | None = None
    tokens_per_s: Counter | None = None
    holdings_digest: WireDigest | None = None
    cluster_config_hash: WireDigest | None = None
    work_tokens_max: Counter = WORK_TOKENS_ANY
    """See `Capabilities`."""


class HeartbeatAck(Message, frozen=True):
    """The coordinator has taken the heartbeat `(epoch, seq)`. Without `known` it asks for a full one."""

    epoch: Counter
    seq: Counter
    coordinator_time_ms: Counter
    known: bool


class Probe(Message, frozen=True):
    """How soon could you answer a task like this? Whoever can keeps a place for it."""

    task_id: WireTaskId
    model: WireName | None
    min_param_size: ParamSize
    max_tokens: Counter
    prompt_bytes: Counter


class ProbeReply(Message, frozen=True):
    """What the task would meet. `reason` None: a place is kept for `hold_ms`, none where that is 0; else why it
    cannot be taken now (a node whose model does not fit would have to swap, and says so)."""

    task_id: WireTaskId
    reason: Reason | None = None
    queue_ms: Counter = 0
    """Until a slot is free for it."""
    tokens_per_s: Counter = 0
    """Decoding speed of the active model."""
    battery_pct: Percent = 100
    on_external_power: bool = True
    hold_ms: Counter = 0


class Release(Message, frozen=True):
    """The place that was kept for this task is not needed."""

    task_id: WireTaskId


class TaskRequest(Message, frozen=True):
    """Please answer this prompt."""

    task_id: WireTaskId
    prompt: str
    model: WireName | None
    min_param_size: ParamSize
    max_tokens: Counter
    deadline_ms: Counter
    """What is left of the deadline when this is sent."""
    stream: bool
    hops: Hops = 0
    """Coordinators that have passed it on."""
    attempt: Attempt = 0
    """Tells the sender's requests for one task apart: answers and cancellations repeat it, so that late ones of an
    earlier request are not taken for those of this."""


class ResponseStatus(Enum):
    """What a response says of its task; the last three end it."""

    ACCEPTED = "accepted"
    CHUNK = "chunk"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


class TaskResponse(Message, frozen=True):
    """One part of the answer to a task request, or the end of it. `index` counts the responses of the task from 0."""

    task_id: WireTaskId
    status: ResponseStatus
    index: Annotated[int, msgspec.Meta(ge=0, le=RESPONSE_INDEX_MAX)]
    text: str = ""
    tokens: Counter = 0
    """Tokens of `text`; with `done`, of the whole answer."""
    reason: Reason | None = None
    served_by: WireNodeId | None = None
    model: WireName | None = None
    attempt: Attempt = 0
    """Of the request that this answers."""


class Cancel(Message, frozen=True):
    """The task is not wanted any more."""

    task_id: WireTaskId
    reason: Reason
    attempt: Attempt = 0
    """Of the request that is withdrawn."""


class ModelAvailability(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What the live agents of one coordinator offer of one model (seed)."""

    agent_count: Counter
    total_param_capacity: Annotated[float, msgspec.Meta(ge=0, le=1e12)]
    """Billions of parameters, summed over the agents."""
    avg_load: Annotated[float, msgspec.Meta(ge=0, le=65_535)]
    """Mean count of running and waiting tasks."""
    free_slots: Counter


class Summary(Message, frozen=True):
    """`capability_summary`: what a coordinator's agents offer together. Order is the envelope's (epoch, seq)."""

    coordinator_id: WireNodeId
    agent_count: Counter
    model_availability: Annotated[dict[WireName, ModelAvailability], msgspec.Meta(max_length=MODELS_MAX)]
    holdings: Annotated[dict[WireName, Counter], msgspec.Meta(max_length=4096)] = {}
    """Live seeders of each file, by SHA-256."""


class Receipt(Message, frozen=True):
    """Who served whom, signed by the one who got the answer. It outlives its link; `seeding.receipts` says over what it
    is signed."""

    payer: WireNodeId
    server: WireNodeId
    task_id: WireTaskId
    tokens: Counter
    cpu_ms: Counter
    """From asking to the end of the answer, on the payer's clock."""
    quality_milli: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    """The class of the model's size, thousandths."""
    signature: Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class LedgerBatch(Message, frozen=True):
    """Receipts for the ledger of a coordinator; who brings them does not matter."""

    receipts: Annotated[tuple[Receipt, ...], msgspec.Meta(max_length=RECEIPTS_PER_BATCH)]


class LedgerAck(Message, frozen=True):
    """These receipts are durable here, by the SHA-256 of what they sign; or can never be taken; or not yet, as the key
    of who owes them is not known here."""

    durable: Annotated[tuple[WireHash, ...], msgspec.Meta(max_length=RECEIPTS_PER_BATCH)] = ()
    refused: Annotated[tuple[WireHash, ...], msgspec.Meta(max_length=RECEIPTS_PER_BATCH)] = ()
    unknown: Annotated[tuple[WireHash, ...], msgspec.Meta(max_length=RECEIPTS_PER_BATCH)] = ()


class Got(msgspec.Struct, frozen=True, rename="camel", array_like=True, gc=False):
    """A piece that is verified here, who sent the last of it, a member or the CDN, and how much of it."""

    piece: PieceIndex
    sender: WireNodeId
    size_bytes: Counter


class Announce(Message, frozen=True):
    """A node tells a broker, or a peer over a radio link, what it has of a file and whether it wants the rest."""

    file: WireHash
    """SHA-256 of the whole file."""
    have: WireBitmap
    """The pieces that are verified here, lowest bit first."""
    wants: bool
    up_kbit_per_s: Counter = 0
    """What it can send; 0: not known."""
    down_kbit_per_s: Counter = 0
    slots: Slots = 0
    """Pieces that it sends at once; 0: it gives nothing now."""
    broker_epoch: Counter = 0
    """The greatest broker epoch that it knows for this file."""
    endpoint: WireName = ""
    """Where others fetch from it."""
    redirected: bool = False
    """Whether another coordinator sent it here: then it is not sent on."""
    dialable: bool = True
    """Whether others can open connections to the endpoint."""


class Lost(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A piece that did not come whole from whom it was to come; `size_bytes` of it did, and are verified."""

    piece: PieceIndex
    sender: WireNodeId
    reason: Reason
    size_bytes: Counter = 0


class Have(Message, frozen=True):
    """News since the last `announce` or `have`: pieces that are verified here, those that the node fetches by itself
    now, and what was asked of whom in vain. Without any it says that nothing is sent."""

    file: WireHash
    got: Annotated[tuple[Got, ...], msgspec.Meta(max_length=PIECES_PER_MESSAGE)] = ()
    taking: Annotated[tuple[PieceIndex, ...], msgspec.Meta(max_length=PIECES_PER_MESSAGE)] = ()
    lost: Annotated[tuple[Lost, ...], msgspec.Meta(max_length=PIECES_PER_MESSAGE)] = ()


class Ticket(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Leave to fetch a file from one sender, for one receiver; `seeding.tickets` says over what it is signed."""

    broker: WireNodeId
    broker_epoch: Counter
    expires_ms: Counter
    """Unix time, milliseconds, by the broker's clock."""
    signature: Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class Granted(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Fetch this piece from this sender. Without a ticket the one that the receiver has for it still holds."""

    piece: PieceIndex
    sender: WireNodeId
    expect_ms: Counter
    """When the broker thinks that it will be there, from now."""
    endpoint: WireName = ""
    ticket: Ticket | None = None


class Grant(Message, frozen=True):
    """A broker tells a receiver what to fetch from whom. Without pieces it says how things stand."""

    file: WireHash
    broker_epoch: Counter
    receivers: Counter
    """Nodes that want the file; where the origin is limited, so many equal shares it would be in if it served alone."""
    pieces: Annotated[tuple[Granted, ...], msgspec.Meta(max_length=PIECES_PER_MESSAGE)] = ()
    reverse: Annotated[tuple[WireNodeId, ...], msgspec.Meta(max_length=PIECES_PER_MESSAGE)] = ()
    """Senders of these that it cannot dial: it asks for a `DialRequest` to them."""


class Redirect(Message, frozen=True):
    """Another coordinator brokers this file: announce it there."""

    file: WireHash
    coordinator: WireNodeId
    endpoint: WireName


class Whereabouts(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Where a coordinator is reached, as it says itself; `mesh.whereabouts` says over what it is signed."""

    coordinator: WireNodeId
    public_key: Annotated[bytes, msgspec.Meta(max_length=32)]
    """Hashes to the id; empty where signatures are ideal."""
    endpoints: Annotated[tuple[WireName, ...], msgspec.Meta(max_length=ENDPOINTS_MAX)]
    """HOST:PORT each, the best first."""
    sequence: Generation
    """epoch · 2³² + counter: the greatest holds."""
    expires_ms: Counter
    """Unix time, milliseconds, by the coordinator's clock."""
    signature: Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class PeerExchange(Message, frozen=True):
    """A coordinator tells where it is reached, and those with which it shares its federation: all of them."""

    coordinators: Annotated[tuple[Whereabouts, ...], msgspec.Meta(max_length=EXCHANGE_ROWS_MAX)]


class DialRequest(Message, frozen=True):
    """A receiver asks the broker to have `peer`, a sender that nobody can dial, dial it; and the broker asks that
    sender to dial `peer`, the receiver, and to offer it the connection for requests."""

    file: WireHash
    peer: WireNodeId
    endpoint: WireName = ""
    """Where the receiver is dialled."""
    ticket: Ticket | None = None
    """The sender's leave to offer, which it shows: signed under a tag of its own."""


TYPES: dict[str, type[Message]] = {
    "versions": Versions,
    "stale": Stale,
    "identity": Identity,
    "capabilities": Capabilities,
    "heartbeat": Heartbeat,
    "heartbeatAck": HeartbeatAck,
    "probe": Probe,
    "probeReply": ProbeReply,
    "release": Release,
    "taskRequest": TaskRequest,
    "taskResponse": TaskResponse,
    "cancel": Cancel,
    "summary": Summary,
    "receipt": Receipt,
    "ledgerBatch": LedgerBatch,
    "ledgerAck": LedgerAck,
    "announce": Announce,
    "have": Have,
    "grant": Grant,
    "redirect": Redirect,
    "cloned": Cloned,
    "peerExchange": PeerExchange,
    "dialRequest": DialRequest,
}
NAMES: dict[type[Message], str] = {kind: name for name, kind in TYPES.items()}
