"""The trace vocabulary: everything that observers may know of a node, on devices and in the simulator alike.

Every table, chart, checker and digest is computed from these records and from the envelopes; none of them looks into
a node. A record says what happened at the node that emits it; the host adds the node and the time.
"""

from __future__ import annotations

import msgspec

from edgecoder.core.ids import CommandId, Medium, NodeId, TaskId
from edgecoder.errors import Reason


class Record(msgspec.Struct, frozen=True, gc=False, tag_field="record"):
    """Something that happened."""


class NodeReady(Record, frozen=True, tag="node.ready"):
    """The epoch of this life is durable; from here on the node may send."""

    epoch: int


class EpochRaised(Record, frozen=True, tag="epoch.raised"):
    """A peer knew a greater epoch of this node than its own; it goes on with one that is greater still."""

    epoch: int


class CatalogChanged(Record, frozen=True, tag="catalog.changed"):
    """The origin of the catalog has released a newer edition, which is held from now on."""

    version: int


class LifeEnded(Record, frozen=True, tag="life.ended"):
    """The node stopped without a word. Its host says so: what was open in this life stays without an end."""


class CapabilitiesChanged(Record, frozen=True, tag="capabilities.changed"):
    """What the node offers changed; peers and coordinators are about to be told."""

    generation: int
    model: str | None
    loading: bool
    tasks: int


class PeerLearned(Record, frozen=True, tag="peer.learned"):
    """Newer capabilities of a peer arrived over a link."""

    peer: NodeId
    generation: int
    loading: bool
    medium: Medium


class PeerForgotten(Record, frozen=True, tag="peer.forgotten"):
    """A peer was evicted, for its age or for want of room."""

    peer: NodeId


class AgentLearned(Record, frozen=True, tag="agent.learned"):
    """A heartbeat told a coordinator of a newer generation."""

    agent: NodeId
    generation: int
    model: str | None
    loading: bool


class AgentExpired(Record, frozen=True, tag="agent.expired"):
    """A coordinator has not heard of an agent for too long and dropped it."""

    agent: NodeId


class SummarySent(Record, frozen=True, tag="summary.sent"):
    """A coordinator sent its summary to `peers` others; `available` counts its agents by active model."""

    epoch: int
    seq: int
    agents: int
    available: dict[str, int]
    peers: int


class SummaryLearned(Record, frozen=True, tag="summary.learned"):
    """A coordinator took another's summary."""

    coordinator: NodeId
    epoch: int
    seq: int


class SummaryExpired(Record, frozen=True, tag="summary.expired"):
    """A coordinator dropped a summary that was not refreshed."""

    coordinator: NodeId


class HomeChanged(Record, frozen=True, tag="home.changed"):
    """The node reports to this coordinator from now on."""

    coordinator: NodeId


class UplinkChanged(Record, frozen=True, tag="uplink.changed"):
    """The link to a coordinator of this node's configuration is in another state; `reason` is why it could not be
    had."""

    coordinator: NodeId
    state: str
    reason: Reason | None


class CloneSeen(Record, frozen=True, tag="clone.seen"):
    """Two machines came to this coordinator with one node's key. It keeps the one at `stays`; addresses are empty where
    they are not known."""

    node: NodeId
    stays: str
    other: str


class IdentityShared(Record, frozen=True, tag="identity.shared"):
    """A coordinator says that another machine, at `where`, came with this node's key; `stays`: it keeps this one."""

    coordinator: NodeId
    where: str
    stays: bool


class CoordinatorTold(Record, frozen=True, tag="coordinator.told"):
    """A coordinator has named another one to this node, or says that it is reached elsewhere."""

    coordinator: NodeId
    by: NodeId
    endpoint: str


class OnlineChanged(Record, frozen=True, tag="online.changed"):
    """The node found its coordinator, or lost it."""

    online: bool


class SwapPhase(Record, frozen=True, tag="swap.phase"):
    """Swap number `swap` of this node's life entered a state of the swap table."""

    swap: int
    phase: str
    model: str
    previous: str | None


class SwapEnded(Record, frozen=True, tag="swap.ended"):
    """A swap ended, with as many replies as requests had joined it. `reason` None: `model` is active. A request that
    was refused before anything was touched has swap 0."""

    swap: int
    model: str
    active: str | None
    reason: Reason | None
    requests: int
    cause: str
    """user or task."""


class DownloadPhase(Record, frozen=True, tag="download.phase"):
    """A file's state in the download table changed."""

    model: str
    phase: str
    bytes_done: int
    reason: Reason | None


class TransferBegan(Record, frozen=True, tag="transfer.began"):
    """This node wants a file piece by piece; it has `pieces` of `of` from an earlier life."""

    model: str
    pieces: int
    of: int


class TransferEnded(Record, frozen=True, tag="transfer.ended"):
    """It has all pieces (`reason` None), or gave up."""

    model: str
    reason: Reason | None


class PieceSought(Record, frozen=True, tag="piece.sought"):
    """This node asks a source for `count` pieces from `piece` on; `why` is the planner's reason code."""

    model: str
    piece: int
    count: int
    source: str
    peer: NodeId | None
    why: str


class PieceKept(Record, frozen=True, tag="piece.kept"):
    """A piece is verified and synced; `leaves` of it had come before, from others. `is_new`: none had come twice."""

    model: str
    piece: int
    source: str
    peer: NodeId | None
    size_bytes: int
    """What this source gave of it."""
    is_new: bool = True


class PieceLost(Record, frozen=True, tag="piece.lost"):
    """A source did not give what it was asked for. What came of it and fits stays (`size_bytes`); the rest is waste."""

    model: str
    piece: int
    source: str
    peer: NodeId | None
    reason: Reason
    size_bytes: int
    wasted_bytes: int


class SenderBanned(Record, frozen=True, tag="sender.banned"):
    """This node takes nothing more of a file from a peer, whose bytes did not fit the tree."""

    model: str
    peer: NodeId


class PieceRefused(Record, frozen=True, tag="piece.refused"):
    """This node does not give a peer a piece."""

    peer: NodeId
    reason: Reason


class SwarmChanged(Record, frozen=True, tag="swarm.changed"):
    """A broker's members of one file came or went: so many hold all of it, so many want it."""

    model: str
    seeders: int
    receivers: int


class SeedCredited(Record, frozen=True, tag="seed.credited"):
    """A broker has it from the receiver that a sender's bytes were verified: the sender has so many micro-credits there
    now, for all files. `seeders` held the whole file."""

    model: str
    sender: NodeId
    receiver: NodeId
    size_bytes: int
    seeders: int
    micro_credits: int


class TaskSubmitted(Record, frozen=True, tag="task.submitted"):
    """This node's user asked, by this command."""

    task_id: TaskId
    command: CommandId
    model: str | None
    min_param_size: float
    prompt_bytes: int


class TaskRouted(Record, frozen=True, tag="task.routed"):
    """A router decided. `to` is the next node (None: the task waits), `why` its reason code, `cost` what the router
    charged (points of v1, or ms to the expected finish), `eligible` how many could have taken it, `excluded` how many
    it ruled out, by reason, both of those that it looked at: a coordinator looks at slower nodes only where they could
    be sooner. `probes` of them were asked for it, and `answered` did."""

    task_id: TaskId
    to: NodeId | None
    why: str
    cost: float | None
    eligible: int
    excluded: dict[str, int]
    probes: int = 0
    answered: int = 0


class TaskStarted(Record, frozen=True, tag="task.started"):
    """This node's engine began to answer."""

    task_id: TaskId
    model: str


class TaskStopped(Record, frozen=True, tag="task.stopped"):
    """This node's work on a task ended; `reason` None: it is done."""

    task_id: TaskId
    reason: Reason | None
    tokens: int


class TaskEnded(Record, frozen=True, tag="task.ended"):
    """The user got the reply. `hedge_won` says whether it came from the second node that was asked, where one was."""

    task_id: TaskId
    reason: Reason | None
    served_by: NodeId | None
    model: str | None
    tokens: int
    attempts: int
    hedge_won: bool | None = None


class ReceiptSigned(Record, frozen=True, tag="receipt.signed"):
    """A node that was offline got an answer, and owes `server` for it. `receipt` is the SHA-256 of what was signed."""

    receipt: bytes
    server: NodeId
    task_id: TaskId


class ReceiptQueued(Record, frozen=True, tag="receipt.queued"):
    """A receipt is durable at the node that served; `queued` wait there."""

    receipt: bytes
    queued: int


class ReceiptSynced(Record, frozen=True, tag="receipt.synced"):
    """A coordinator has it: it leaves the queue, in which `queued` are left. `refused`: it can never be taken."""

    receipt: bytes
    queued: int
    refused: bool


class ReceiptTaken(Record, frozen=True, tag="receipt.taken"):
    """A receipt is durable at this coordinator, for the first time; it is worth so many micro-credits to `server`."""

    receipt: bytes
    server: NodeId
    micro_credits: int


class PeerDialled(Record, frozen=True, tag="peer.dialled"):
    """A node that nobody can dial has dialled a receiver: it took the connection, or there is a reason."""

    peer: NodeId
    reason: Reason | None


class Dropped(Record, frozen=True, tag="dropped"):
    """Something was thrown away: a frame, a row, a request over a bound. `what` names it."""

    what: str
    reason: Reason


class ConfigDiffers(Record, frozen=True, tag="config.differs"):
    """An agent's ClusterConfig is not this coordinator's."""

    agent: NodeId
