"""The node: one `handle(now, event) -> effects`, which every host calls and nothing else.

The node makes the epoch of its life durable before it sends anything, passes frames through the gate, completions to
whoever waits for them, and everything else to its part: a `Member` (phone, agent) or a `Hub` (coordinator). It is
synchronous and total: nothing that comes from outside makes it raise.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.coordinator.hub import Hub
from edgecoder.core.context import MILLI, Context
from edgecoder.core.effects import Effect, WakeAt
from edgecoder.core.events import (
    Command,
    Completion,
    Event,
    FrameReceived,
    LinkDown,
    LinkUp,
    Persisted,
    PersistFailed,
    Started,
    Wake,
)
from edgecoder.core.ids import CommandId, Micros, Role
from edgecoder.errors import LocalProtocolError, Reason
from edgecoder.mesh.gate import Gate
from edgecoder.mesh.member import Member
from edgecoder.models.catalog import Catalog, Platform
from edgecoder.protocol import EPOCH_MAX
from edgecoder.trace import EpochRaised, NodeReady
from edgecoder.wire.advertisement import EPOCHS
from edgecoder.wire.envelope import Signer, Verifier
from edgecoder.wire.messages import Identity, Stale

EPOCH_KEY = "epoch"
EPOCH_BYTES = 4
EARLY_EVENTS_MAX = 1024
"""Frames that may wait until the epoch is durable, and commands; of other events so many, and one a link beside
them."""
EARLY_COMMAND_MS = 5_000
"""So long a command waits for the epoch, at most: a task may have seconds."""
_EARLY = "early"
_EPOCH_RETRY_MS = 1000
EPOCHS_SPARE = 1 << 20
"""Epochs that no peer and no clock can make a node pass over: enough for a million lives after the worst lie."""
RAISES_MAX = 16
"""How often one life may be told of a greater epoch of its own."""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is: the same for all lives of it."""

    role: Role
    cluster: ClusterConfig
    config: NodeConfig
    catalog: Catalog
    platform: Platform = Platform.IOS
    languages: tuple[str, ...] = ()


class Node:
    """One life of a node. A host makes a new one for each life and feeds it `Started` first."""

    def __init__(self, setup: Setup, signer: Signer, verifier: Verifier, rng_seed: int) -> None:
        self.setup = setup
        self.context = Context(setup.cluster, setup.config, signer, rng_seed)
        self.gate = Gate(self.context, verifier, setup.role)
        self.part: Member | Hub | None = None
        self._snapshot: Mapping[str, bytes] = {}
        self._wall_ms = 0
        self._early: list[Event] = []
        self._early_commands: dict[CommandId, Command] = {}
        self._store_failed: Reason | None = None
        """Why the epoch could not be written, when that was tried last."""
        self._wake: Micros | None = None
        self._raises = 0
        self._is_raising = False

    def handle(self, now: Micros, event: Event) -> list[Effect]:
        """Take one event at `now` (monotonic microseconds) and return what to do about it, in order. Raises
        LocalProtocolError where the host breaks the rules: time that runs backwards, a life that starts twice."""
        context = self.context
        if now < context.now:
            what = f"node {context.node_id.hex()[:8]} got {type(event).__name__} at {now} µs"
            raise LocalProtocolError(f"{what}, after an event at {context.now} µs: time went back")
        context.now = now
        out = context.out = []
        if type(event) is FrameReceived:
            self._frame(event)
        elif type(event) is Wake:
            self._wake = None
            context.timers.fire_due(now)
        elif isinstance(event, Completion):
            if not context.ops.complete(event):
                context.drop("completion", Reason.RESTARTED)
        else:
            self._other(event)
        while self.gate.released:
            self._frame(self.gate.released.pop(0))
        if context.timers.is_changed:
            context.timers.is_changed = False
            deadline = context.timers.next_deadline
            if deadline is not None and (self._wake is None or deadline < self._wake):
                self._wake = deadline
                out.append(WakeAt(deadline))
        return out

    def _frame(self, event: FrameReceived) -> None:
        part = self.part
        if part is None:
            self._keep_for_later(event)
            return
        received = self.gate.receive(event)
        if received is None:
            return
        link, verified = received
        message = verified.message
        if isinstance(message, Identity):
            if self.gate.bind(link, verified.header.sender, message):
                part.link_bound(link)
            elif message.echo and self.gate.judge is not None:
                self.gate.judge.answered(link, verified.header, message)
            return
        if isinstance(message, Stale):
            self._told_stale(message.epoch)
            return
        handler = part.MESSAGES.get(type(message))
        if handler is None:
            self.context.drop("message", Reason.OTHER_ROLE)
        else:
            handler(part, link, verified)

    def _other(self, event: Event) -> None:
        part = self.part
        if isinstance(event, Started):
            self._start(event)
        elif part is None:
            self._keep_for_later(event)
        elif isinstance(event, LinkUp):
            self.gate.link_up(event)
            part.link_up(event)
        elif isinstance(event, LinkDown):
            link = self.gate.link_down(event.link)
            if link is not None:
                link.lost = event.lost
                part.link_down(link)
        elif (handler := part.EVENTS.get(type(event))) is not None:
            handler(part, event)
        elif isinstance(event, Command):
            self.context.reply(event.command, Reason.OTHER_ROLE)
        else:
            self.context.drop(type(event).__name__, Reason.OTHER_ROLE)

    def _keep_for_later(self, event: Event) -> None:
        if isinstance(event, Command):
            self._keep_command(event)
            return
        room = EARLY_EVENTS_MAX
        if type(event) is not FrameReceived:  # frames may get lost; a link that is forgotten never comes again
            room += self.setup.config.links_max
        if len(self._early) < room:
            self._early.append(event)
        else:
            self.context.drop(type(event).__name__, Reason.OVERFLOW)

    def _keep_command(self, command: Command) -> None:
        """A user waits for the epoch a while, and not at all where the disk has failed."""
        if self._store_failed is not None or len(self._early_commands) >= EARLY_EVENTS_MAX:
            self.context.reply(command.command, self._store_failed or Reason.OVERFLOW)
            return

        def too_long() -> None:
            del self._early_commands[command.command]
            self.context.reply(command.command, Reason.STORE_FAILED)

        self._early_commands[command.command] = command
        self.context.timers.set((_EARLY, command.command), self.context.in_ms(EARLY_COMMAND_MS), too_long)

    # -- the start of a life -------------------------------------------------------------------------------------------

    def _start(self, event: Started) -> None:
        if self.context.epoch:
            name = self.context.node_id.hex()[:8]
            raise LocalProtocolError(
                f"node {name} got Started in the life that began with epoch {self.context.epoch}: a life starts once, "
                "make a new Node for the next"
            )
        self._snapshot, self._wall_ms = event.snapshot, event.wall_ms
        self.context.wall_at_zero_ms = event.wall_ms - self.context.now // MILLI
        self.context.epoch = self._next_epoch(event)
        self.context.ops.epoch = self.context.epoch
        self._persist_epoch()

    def _next_epoch(self, event: Started) -> int:
        """More than the last, and no less than seconds of Unix time: a disk that was lost, or restored from an old
        copy, must not lead back to an epoch that was used. Nor is it one that advertisements cannot tell from the last:
        who heard the last life has to notice that there is another."""
        kept = event.snapshot.get(EPOCH_KEY, b"")
        epoch = 1
        if len(kept) in (0, EPOCH_BYTES):
            epoch = int.from_bytes(kept, "big") + 1
        else:
            self.context.drop(EPOCH_KEY, Reason.STORE_FAILED)
        clock = event.wall_ms // 1000
        following = max(epoch, clock if clock <= EPOCH_MAX - EPOCHS_SPARE else 0)
        if epoch > 1 and (following - epoch + 1) % EPOCHS == 0:
            following += 1
        return min(following, EPOCH_MAX)

    def _persist_epoch(self) -> None:
        self.context.persist(EPOCH_KEY, self.context.epoch.to_bytes(EPOCH_BYTES, "big"), self._epoch_persisted)

    def _epoch_persisted(self, completion: Persisted | PersistFailed) -> None:
        if isinstance(completion, PersistFailed):  # without it nothing may be sent: try until it works
            self.context.drop("epoch", completion.reason)
            self._store_failed = completion.reason
            for command in self._take_commands():
                self.context.reply(command.command, completion.reason)
            again = self.context.in_ms(_EPOCH_RETRY_MS)
            self.context.timers.set(("epoch", 0), again, self._persist_epoch)
            return
        setup = self.setup
        if setup.role is Role.COORDINATOR:
            self.part = Hub(self.context, self.gate, setup.catalog, self._wall_ms)
        else:
            self.part = Member(self.context, self.gate, setup.catalog, setup.platform, setup.languages)
        self.context.trace(NodeReady(self.context.epoch))
        self.part.start(self._snapshot)
        early, self._early, self._snapshot = self._early, [], {}
        gone = {event.link for event in early if isinstance(event, LinkDown)}
        for event in early:
            if isinstance(event, LinkUp | LinkDown | FrameReceived) and event.link in gone:
                continue  # nobody is there any more, and nothing was said over it
            if type(event) is FrameReceived:
                self._frame(event)
            else:
                self._other(event)
        for command in self._take_commands():  # when all that is known of the others is known
            self._other(command)

    def _take_commands(self) -> list[Command]:
        commands, self._early_commands = list(self._early_commands.values()), {}
        for command in commands:
            self.context.timers.cancel((_EARLY, command.command))
        return commands

    # -- an epoch that others know to be over --------------------------------------------------------------------------

    def _told_stale(self, newest: int) -> None:
        """A peer knows this epoch of an earlier life of this node, or a greater one: disk and clock have both gone
        back. Go on with one that is greater still, as soon as it is durable."""
        if self._is_raising or not self.context.epoch <= newest <= EPOCH_MAX - EPOCHS_SPARE:
            return
        if self._raises >= RAISES_MAX:
            self.context.drop(EPOCH_KEY, Reason.OVERFLOW)
            return
        self._raises += 1
        self._is_raising = True
        epoch = newest + 1

        def persisted(completion: Persisted | PersistFailed) -> None:
            self._is_raising = False
            if isinstance(completion, PersistFailed):  # the next identity is answered with the same again
                self.context.drop(EPOCH_KEY, completion.reason)
            else:
                self._raise_epoch(epoch)

        self.context.persist(EPOCH_KEY, epoch.to_bytes(EPOCH_BYTES, "big"), persisted)

    def _raise_epoch(self, epoch: int) -> None:
        assert self.part is not None, "only a node with a durable epoch has peers that could tell it of another"
        self.context.epoch, self.context.seq = epoch, 0
        self.context.trace(EpochRaised(epoch))
        for link in self.gate.links:
            self.gate.identify(link)
        self.part.epoch_raised()
