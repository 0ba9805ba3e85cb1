"""One receiver and its disk: grants, pieces, failures and writes in any order, and a crash between any two effects.

Whatever has been carried out when the node dies, its next life believes no byte that is not on the disk, asks for none
again that it knows to be there, leaves nothing on the disk that no row tells of, and ends with the whole file.
"""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgecoder.config import ClusterConfig, DeviceType, NodeConfig
from edgecoder.core.effects import (
    Advertise,
    AllocateFile,
    CancelOp,
    DeleteFile,
    Effect,
    FetchPiece,
    HashFile,
    Operation,
    Persist,
    PullResult,
    Reply,
    Result,
    Trace,
    WakeAt,
)
from edgecoder.core.events import (
    Advertised,
    AllocateFailed,
    Command,
    Completion,
    DeleteFailed,
    Event,
    FileAllocated,
    FileDeleted,
    FileHashed,
    FrameReceived,
    HashFailed,
    LinkUp,
    Persisted,
    PersistFailed,
    PieceArrived,
    PieceFailed,
    PieceFetched,
    PullModel,
    RemoveModel,
    Started,
    Wake,
)
from edgecoder.core.ids import LinkId, Medium, Micros, NodeId, OpId, Role
from edgecoder.core.node import Node, Setup
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, FileRow
from edgecoder.protocol import CDN_ID
from edgecoder.seeding.holdings import KEY, decode
from edgecoder.trace import DownloadPhase
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Grant, Granted, Identity, Message
from edgecoder_sim.crypto import crypto, node_id
from tests.catalogs import entry
from tests.strategies import examples

LEAF = 16_384
PIECES, LEAVES = 6, 4
FILE = entry("shared", 0.5, file_size_bytes=PIECES * LEAVES * LEAF - 1, piece_root="ab" * 32)
FILE_ID = bytes.fromhex(FILE.sha256)
RECORD = KEY + FILE.sha256
LAYOUT = FILE.layout
PEERS = (node_id("peer 0"), node_id("peer 1"), CDN_ID)
CLUSTER = ClusterConfig()
CONFIG = NodeConfig(has_radio=False, transfer_patience_ms=60_000, cdn_request_bytes=3 * LEAVES * LEAF)
STEPS_MAX = 2_000
EFFECTS_AHEAD = 8
"""A crash that is laid comes within so many effects,"""
CALM_EVENTS = 12
"""and a life has so many events at least."""
SYSTEM_REASONS = st.sampled_from([Reason.PEER_LOST, Reason.BUSY, Reason.NOT_HELD, Reason.NO_SOURCE])
picks = st.integers(0, 11)


class Disk:
    """What is durable: small values by key, and what there is of the file."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.has_room = False
        """Whether there is anything of the file, be it only its room."""
        self.have = 0
        self.leaves: dict[int, int] = {}
        """Leaves that are synced, of pieces that are not whole."""

    def keep(self, piece: int, leaves: int) -> None:
        """So many leaves of a piece are synced."""
        if leaves == len(LAYOUT.leaves_of(piece)):
            self.have |= 1 << piece
        else:
            self.leaves[piece] = max(leaves, self.leaves.get(piece, 0))

    def delete(self) -> None:
        """The file is gone."""
        self.has_room, self.have, self.leaves = False, 0, {}

    @property
    def row(self) -> FileRow:
        """What the durable inventory says of the file."""
        rows = msgspec.msgpack.decode(self.values.get(INVENTORY_KEY, b"\x80"), type=dict[str, FileRow])
        return rows.get(FILE.sha256, FileRow())

    @property
    def known(self) -> tuple[int, dict[int, int]]:
        """What the durable record says is here, where the next life would read it."""
        value = self.values.get(RECORD, b"")
        return decode(value, LAYOUT) if value and self.row.state is DownloadState.PARTIAL else (0, {})


class Receiver:
    """A node with a coordinator at the other end of its one link, and a host that may die between two effects."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.now: Micros = 0
        self.open: dict[OpId, Operation] = {}
        self.cancelled: set[OpId] = set()
        self.fuse = -1
        """Effects until it dies; negative: it does not."""
        self.luck = 0
        """What becomes of what is under way then."""
        self.events = 0
        """What it has handled in this life."""
        self.believed = self.disk.known
        """Pieces and leaves that it knows to be here."""
        self.replies: dict[int, Result] = {}
        self._arrived: dict[OpId, int] = {}
        """Pieces of requests for several that have arrived."""
        self._commands = 0
        self._seq = 0
        self._link: LinkId = 0
        self._wake: Micros | None = None
        self._keys = crypto(node_id("here"), CLUSTER.network_id, encoded=False)
        self._hub = crypto(node_id("hub"), CLUSTER.network_id, encoded=False)[0]
        self.start()

    # -- lives ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a life with what is on the disk."""
        setup = Setup(role=Role.PHONE, cluster=CLUSTER, config=CONFIG, catalog=Catalog([FILE]))
        self.node = Node(setup, *self._keys, 1)
        self.open, self.cancelled, self.fuse, self._wake = {}, set(), -1, None
        self._link += 1
        self.events = 0
        self.believed = self.disk.known
        self.take(Started(dict(self.disk.values)))
        self.end(next(iter(self.open.values())))  # its epoch
        self.take(LinkUp(self._link, Medium.LAN))
        self.hear(Identity(role=Role.COORDINATOR, device_type=DeviceType.WORKSTATION, cluster_config_hash=b""))

    def crash(self, luck: int) -> None:
        """Die, and live again. Of the writes to a key that were under way the first ones are durable, by `luck`; and a
        room that was being kept, or a file that was being deleted, is there or not."""
        writes: dict[str, list[Persist]] = {}
        for effect in self.open.values():
            if isinstance(effect, Persist):
                writes.setdefault(effect.key, []).append(effect)
            elif isinstance(effect, AllocateFile):
                self.disk.has_room |= bool(luck % 2)
            elif isinstance(effect, DeleteFile) and luck % 2:
                self.disk.delete()
        for key in sorted(writes):
            luck, kept = divmod(luck, len(writes[key]) + 1)
            for effect in writes[key][:kept]:
                self.disk.values[key] = effect.value
        self.start()

    # -- events --------------------------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Hand it an event, and carry out what it wants, up to the end of its life."""
        self.events += 1
        effects = self.node.handle(self.now, event)
        for effect in effects:
            if self.fuse == 0:
                self.crash(self.luck)
                return
            self.fuse -= 1
            self._carry_out(effect)

    def hear(self, message: Message) -> None:
        """The coordinator says something."""
        self._seq += 1
        header = Header(CLUSTER.network_id, node_id("hub"), 1, self._seq, 60_000)
        self.take(FrameReceived(self._link, self._hub.seal(header, message)))

    def ask(self, kind: type[PullModel | RemoveModel]) -> int:
        """A command of its user."""
        self._commands += 1
        command: Command = kind(self._commands, FILE.model_id)
        self.take(command)
        return self._commands

    def wait(self, delay_us: Micros) -> None:
        """Let time pass, and wake it where that is due."""
        self.now += delay_us
        if self._wake is not None and self._wake <= self.now:
            self._wake = None
            self.take(Wake())

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, WakeAt):
            self._wake = effect.deadline
        elif isinstance(effect, Trace) and isinstance(effect.record, DownloadPhase):
            if effect.record.phase in ("removing", "quarantined"):  # then it is fetched anew
                self.believed = (0, {})
        elif isinstance(effect, Reply):
            self.replies[effect.command] = effect.result
        elif isinstance(effect, CancelOp):
            assert effect.op in self.open, "what is over is called off"
            self.cancelled.add(effect.op)
        elif isinstance(effect, Operation):
            self._judge(effect)
            self.open[effect.op] = effect

    # -- what holds ----------------------------------------------------------------------------------------------------

    def _judge(self, effect: Operation) -> None:
        """An operation agrees with what is on the disk."""
        disk = self.disk
        if isinstance(effect, Persist) and effect.key == RECORD and effect.value:
            self.believed = decode(effect.value, LAYOUT)
            self._judge_record(*self.believed)
        elif isinstance(effect, Persist) and effect.key == RECORD:
            assert disk.row.state in (DownloadState.REMOVING, DownloadState.INSTALLED), "what is here is forgotten"
        elif isinstance(effect, AllocateFile):
            assert disk.row.state is not DownloadState.ABSENT, "bytes are on the disk that no row tells of"
        elif isinstance(effect, FetchPiece):
            assert disk.has_room, "a piece is asked for before there is room"
            have, leaves = self.believed
            asked = ((1 << effect.count) - 1) << effect.piece
            assert not asked & have, "what is here is fetched again"
            assert effect.first_leaf >= leaves.get(effect.piece, 0), "leaves that are here are fetched again"
            assert effect.first_leaf <= self.synced(effect.piece), "leaves are left out that are not here"
        elif isinstance(effect, HashFile):
            assert disk.have == LAYOUT.all_pieces, "a file is hashed that is not whole"
        elif isinstance(effect, DeleteFile):
            assert not any(isinstance(other, FetchPiece | HashFile | AllocateFile) for other in self.open.values())

    def _judge_record(self, have: int, leaves: dict[int, int]) -> None:
        assert not have & ~self.disk.have, "a piece counts as here that is not synced"
        assert all(count <= self.synced(piece) for piece, count in leaves.items()), "a leaf counts that is not synced"

    def synced(self, piece: int) -> int:
        """Leaves of a piece that are on the disk."""
        return len(LAYOUT.leaves_of(piece)) if self.disk.have >> piece & 1 else self.disk.leaves.get(piece, 0)

    def agrees(self) -> None:
        """What the next life would believe is on the disk, and what is on the disk it would know of."""
        self._judge_record(*self.disk.known)
        state = self.disk.row.state
        if state in (DownloadState.VERIFYING, DownloadState.INSTALLED):
            assert self.disk.have == LAYOUT.all_pieces
        assert not self.disk.has_room or state is not DownloadState.ABSENT, "nobody knows of what is on the disk"

    # -- completions ---------------------------------------------------------------------------------------------------

    def next_of(self, pick: int) -> Operation | None:
        """One of the operations that may end: of the writes to a key only the first."""
        keys: set[str] = set()
        ready = []
        for effect in self.open.values():
            if not isinstance(effect, Persist) or effect.key not in keys:
                ready.append(effect)
            if isinstance(effect, Persist):
                keys.add(effect.key)
        return ready[pick % len(ready)] if ready else None

    def end(self, effect: Operation, reason: Reason | None = None, leaves: int = 0) -> None:
        """End an operation: well, or with a reason, a piece after some of its leaves."""
        del self.open[effect.op]
        self.cancelled.discard(effect.op)
        self.take(self._completion(effect, reason, leaves))

    def _completion(self, effect: Operation, reason: Reason | None, leaves: int) -> Completion:
        op, disk = effect.op, self.disk
        match effect:
            case Persist(key=key, value=value):
                if reason is None:
                    disk.values[key] = value
                return Persisted(op) if reason is None else PersistFailed(op, reason)
            case AllocateFile():
                disk.has_room |= reason is None
                return FileAllocated(op) if reason is None else AllocateFailed(op, reason)
            case FetchPiece(piece=piece, count=count, first_leaf=first):
                if reason is None:
                    for each in range(piece, piece + count):
                        disk.keep(each, len(LAYOUT.leaves_of(each)))
                    return PieceFetched(op)
                at = piece + self._arrived.get(op, 0)
                came = min(max(leaves, first if at == piece else 0), len(LAYOUT.leaves_of(at)) - 1)
                disk.keep(at, came)
                return PieceFailed(op, reason, came)
            case HashFile():
                return FileHashed(op, FILE.sha256) if reason is None else HashFailed(op, reason)
            case DeleteFile():
                if reason is None:
                    disk.delete()
                return FileDeleted(op) if reason is None else DeleteFailed(op, reason)
            case Advertise():
                return Advertised(op, 0)
        raise AssertionError(f"no completion for {effect}")

    def bring_one(self, effect: FetchPiece) -> None:
        """The next of several pieces arrives, but for the last, which ends the request."""
        came = self._arrived.setdefault(effect.op, 0)
        if came < effect.count - 1:
            self._arrived[effect.op] += 1
            piece = effect.piece + came
            self.disk.keep(piece, len(LAYOUT.leaves_of(piece)))
            self.take(PieceArrived(effect.op, piece))

    def settle(self) -> None:
        """Nothing fails any more: let everything end."""
        for _ in range(STEPS_MAX):
            effect = self.next_of(0)
            if effect is not None:
                self.end(effect, Reason.CANCELLED if effect.op in self.cancelled else None)
            elif self.node.part is not None and not len(self.node.part.downloads):  # type: ignore[union-attr]
                return
            else:
                self.wait(1_000_000)
        raise AssertionError("it does not come to rest")


class Crashes(RuleBasedStateMachine):
    """What can happen to a receiver."""

    @initialize()
    def begin(self) -> None:
        self.receiver = Receiver()
        self.begin_to_fetch()

    @rule()
    def pull(self) -> None:
        self.receiver.ask(PullModel)

    @rule()
    def begin_to_fetch(self) -> None:
        """A pull that comes as far as having its room, if nothing is in its way."""
        self.receiver.ask(PullModel)
        for _ in range(4):
            effect = self.receiver.next_of(0)
            if isinstance(effect, Persist | AllocateFile):
                self.receiver.end(effect)

    @rule()
    def remove(self) -> None:
        self.receiver.ask(RemoveModel)

    @rule(pieces=st.lists(st.tuples(st.integers(0, PIECES - 1), st.sampled_from(PEERS)), min_size=1, max_size=4))
    def grant(self, pieces: list[tuple[int, NodeId]]) -> None:
        rows = tuple(Granted(piece, sender, 100) for piece, sender in pieces)
        self.receiver.hear(Grant(file=FILE_ID, broker_epoch=1, receivers=1, pieces=rows))

    @rule(pieces=st.lists(st.integers(0, PIECES - 1), min_size=1, max_size=4), picks=st.lists(picks, max_size=6))
    def grant_and_get(self, pieces: list[int], picks: list[int]) -> None:
        """A grant, of which some pieces come and are written."""
        self.grant([(piece, PEERS[piece % len(PEERS)]) for piece in pieces])
        self.something_ends(picks)

    @rule(picks=st.lists(picks, min_size=1, max_size=8))
    def something_ends(self, picks: list[int]) -> None:
        """Operations end, in any order."""
        for pick in picks:
            effect = self.receiver.next_of(pick)
            if effect is not None:
                self.receiver.end(effect)

    @rule(pick=picks, reason=SYSTEM_REASONS, leaves=st.integers(0, LEAVES - 1), is_corrupt=st.booleans())
    def a_piece_breaks_off(self, pick: int, reason: Reason, leaves: int, is_corrupt: bool) -> None:
        fetches = [effect for effect in self.receiver.open.values() if isinstance(effect, FetchPiece)]
        if fetches:
            effect = fetches[pick % len(fetches)]
            is_bad = is_corrupt and effect.peer is not None
            self.receiver.end(effect, Reason.PIECE_CORRUPT if is_bad else reason, leaves)

    @rule(pick=picks)
    def one_of_several_arrives(self, pick: int) -> None:
        fetches = [effect for effect in self.receiver.open.values() if isinstance(effect, FetchPiece)]
        if fetches:
            self.receiver.bring_one(fetches[pick % len(fetches)])

    @rule(pick=picks, reason=st.sampled_from([Reason.STORE_FAILED, Reason.DISK_FULL]))
    def the_disk_fails(self, pick: int, reason: Reason) -> None:
        effect = self.receiver.next_of(pick)
        if isinstance(effect, AllocateFile | HashFile | DeleteFile | Persist) and self.receiver.events > CALM_EVENTS:
            self.receiver.end(effect, reason)

    @precondition(lambda self: self.receiver.cancelled)
    @rule(is_late=st.booleans(), leaves=st.integers(0, LEAVES - 1))
    def what_was_called_off_ends(self, is_late: bool, leaves: int) -> None:
        effect = self.receiver.open[min(self.receiver.cancelled)]
        self.receiver.end(effect, None if is_late else Reason.CANCELLED, leaves)

    @rule(delay_ms=st.sampled_from([0, 5, 300, 20_000, 70_000]))
    def wait(self, delay_ms: int) -> None:
        self.receiver.wait(delay_ms * 1000)

    @precondition(lambda self: self.receiver.events > CALM_EVENTS)
    @rule(effects=st.integers(0, EFFECTS_AHEAD), luck=st.integers(0, 1_000))
    def die_soon(self, effects: int, luck: int) -> None:
        self.receiver.fuse, self.receiver.luck = effects, luck

    @precondition(lambda self: self.receiver.events > CALM_EVENTS)
    @rule(luck=st.integers(0, 1_000))
    def die(self, luck: int) -> None:
        self.receiver.crash(luck)

    @invariant()
    def the_disk_agrees(self) -> None:
        if hasattr(self, "receiver"):
            self.receiver.agrees()

    def teardown(self) -> None:
        """Leave it alone: what was wanted comes, and what was not can; the next life has it, even where this one could
        not write that."""
        if not hasattr(self, "receiver"):
            return
        receiver = self.receiver
        receiver.fuse = -1
        receiver.settle()
        receiver.agrees()
        command = receiver.ask(PullModel)
        receiver.settle()
        assert receiver.replies[command] == PullResult(FILE.model_id)
        receiver.crash(0)
        receiver.settle()
        assert receiver.disk.row.state is DownloadState.INSTALLED
        assert receiver.disk.have == LAYOUT.all_pieces


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(examples(6), stateful_step_count=30)
