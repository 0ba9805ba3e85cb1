"""What all parts of a node share: the time of the event in hand, the effects so far, timers, operations, and the
envelope counters. A part never keeps the time or an effect list of its own.
"""

from __future__ import annotations

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import Effect, Persist, Reply, Result, Send, Trace
from edgecoder.core.events import Persisted, PersistFailed
from edgecoder.core.ids import CommandId, LinkId, Micros, NodeId
from edgecoder.core.ops import OnCompletion, OpTable
from edgecoder.core.rng import Stream
from edgecoder.core.timers import TimerTable
from edgecoder.errors import Reason
from edgecoder.trace import Dropped, Record
from edgecoder.wire.envelope import Frame, Header, Signer
from edgecoder.wire.messages import Message

MILLI: Micros = 1000
SECOND_US: Micros = 1_000_000


class Context:
    """One node's shared state. `out` collects the effects of the event in hand."""

    __slots__ = (
        "cluster",
        "cluster_digest",
        "config",
        "epoch",
        "node_id",
        "now",
        "ops",
        "out",
        "rng_seed",
        "seq",
        "signer",
        "timers",
        "wall_at_zero_ms",
    )

    def __init__(self, cluster: ClusterConfig, config: NodeConfig, signer: Signer, rng_seed: int) -> None:
        self.cluster = cluster
        self.cluster_digest = cluster.digest()
        self.config = config
        self.signer = signer
        self.node_id: NodeId = signer.node_id
        self.rng_seed = rng_seed
        self.now: Micros = 0
        self.out: list[Effect] = []
        self.timers = TimerTable()
        self.ops = OpTable()
        self.epoch = 0
        self.seq = 0
        self.wall_at_zero_ms = 0
        """Unix time at moment 0, by the clock of the host when this life began."""

    @property
    def wall_ms(self) -> int:
        """Unix time now, milliseconds: what the host's clock said, and what has passed since."""
        return self.wall_at_zero_ms + self.now // MILLI

    def stream(self, purpose: str) -> Stream:
        """This node's random stream for one purpose."""
        return Stream(self.rng_seed, self.node_id, purpose)

    def seal(self, message: Message, ttl_ms: int) -> Frame:
        """An envelope with the next sequence number. It holds for `ttl_ms` at its receivers."""
        self.seq += 1
        header = Header(self.cluster.network_id, self.node_id, self.epoch, self.seq, ttl_ms)
        return self.signer.seal(header, message)

    def send(self, link: LinkId, message: Message, ttl_ms: int) -> None:
        """Seal a message and put it on a link."""
        self.out.append(Send(link, self.seal(message, ttl_ms)))

    def trace(self, record: Record) -> None:
        """Tell the observers."""
        self.out.append(Trace(record))

    def drop(self, what: str, reason: Reason) -> None:
        """Tell the observers that something was thrown away."""
        self.out.append(Trace(Dropped(what, reason)))

    def reply(self, command: CommandId, result: Result) -> None:
        """Answer a command."""
        self.out.append(Reply(command, result))

    def persist(self, key: str, value: bytes, on_completion: OnCompletion | None = None) -> None:
        """Make a value durable; without `on_completion` a failure is traced and nothing waits."""
        self.out.append(Persist(self.ops.begin(on_completion or self._persisted), key, value))

    def _persisted(self, completion: Persisted | PersistFailed) -> None:
        if isinstance(completion, PersistFailed):
            self.drop("persist", completion.reason)

    def in_ms(self, delay_ms: int) -> Micros:
        """The moment `delay_ms` from now."""
        return self.now + delay_ms * MILLI
