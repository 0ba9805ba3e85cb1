"""The panel: one checker that shows each event, effect, record and message to the rules that judge its type.

It opens frames, keeps a `Book` of what can be known of a node from outside, and rings the rules' alarms; what is right
and wrong is theirs to say. One dispatch by type for all rules costs a fraction of a loop in every one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any, ClassVar, Final, NamedTuple, NoReturn, Protocol

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import Advertise, Effect, Send, Trace, WakeAt
from edgecoder.core.events import Event, FrameReceived, LinkDown, LinkUp, Started
from edgecoder.core.ids import LinkId, Micros, NodeId, OpId, Role, TaskId
from edgecoder.core.node import EPOCH_KEY, Node
from edgecoder.errors import InvariantViolated, RemoteProtocolError
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.models.swap import SwapJournal
from edgecoder.trace import Dropped, Record
from edgecoder.wire.envelope import ByteVerifier, Envelope, Frame, Header, Verified
from edgecoder.wire.messages import Identity, Message, Stale, Versions
from edgecoder_sim.checkers.inbox import Inbox, is_fresh
from edgecoder_sim.crypto import IdealKeys

GRACE_US: Final = 10_000_000
"""What has to happen is late when it has not happened so long after it was due: room for disks, ticks and busy CPUs."""
_NEVER: Final = 1 << 62
_LINKS: Final = (FrameReceived, LinkUp, LinkDown)
"""What a node that is not ready yet keeps for later."""
_NOTICES: Final[tuple[type[Message], ...]] = (Versions, Stale)


class Watched(Protocol):
    """What a checker may read of a node: who it is and how it is set up."""

    index: int
    name: str
    node_id: NodeId
    node: Node

    @property
    def disk_free_bytes(self) -> int | None:
        """Room on its disk beside the model files that are there at first; None never ends."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether events wait for its CPU."""
        ...


class Peer(NamedTuple):
    """Who identified itself at the other end of a link."""

    node: NodeId
    role: Role


AskKey = tuple[LinkId, int]
"""A request for a task: over which link, and which attempt of who asks."""


class Book:
    """What is known of one node from what went in and came out, in its present life."""

    __slots__ = (
        "asks",
        "catalog",
        "cluster",
        "config",
        "coordinator_link",
        "coordinator_told",
        "disk_free_bytes",
        "early",
        "epoch",
        "inbox",
        "index",
        "is_behind",
        "is_changing",
        "is_ready",
        "is_slow",
        "journal",
        "life",
        "links",
        "loaded",
        "name",
        "newest_epoch",
        "node",
        "role",
        "runs",
        "sealed",
        "sealed_epoch",
        "sealed_seq",
        "tokens_per_s",
        "wake",
        "wake_late_us",
        "wakes",
        "woken",
    )

    def __init__(self, sim: Watched) -> None:
        setup = sim.node.setup
        self.index = sim.index
        self.name = sim.name
        self.is_slow: Callable[[], bool] = lambda: sim.is_behind
        """Whether its machine has not got to all that reached it: then the node cannot have done what is due."""
        self.node: NodeId = sim.node_id
        self.role: Role = setup.role
        self.config: NodeConfig = setup.config
        self.cluster: ClusterConfig = setup.cluster
        self.catalog: Catalog = setup.catalog
        self.disk_free_bytes = sim.disk_free_bytes
        self.life = 0
        self.sealed_epoch = self.sealed_seq = -1
        """Of the newest envelope, over all lives that could know of it."""
        self.newest_epoch = -1
        """The greatest epoch that this node has used."""
        self.is_behind = False
        """Whether neither disk nor clock told this life how far earlier ones had counted: it may repeat their numbers
        until somebody tells it."""
        self.sealed: Frame | None = None
        """That envelope itself: it may go over several links."""
        self.begin()

    def begin(self) -> None:
        """Forget what ends with a life."""
        self.is_ready = False
        self.early: list[Event] = []
        """Links and frames that came before the epoch was durable."""
        self.epoch = -1
        """The epoch that is durable for this life."""
        self.links: dict[LinkId, Peer | None] = {}
        """Links on which this node has identified itself, and who did so at the other end."""
        self.coordinator_link: LinkId | None = None
        """Over which this node's heartbeats go,"""
        self.coordinator_told = False
        """and whether the newest of them said that it is loading."""
        self.inbox: Inbox = {}
        self.loaded: CatalogEntry | None = None
        self.tokens_per_s = 0
        self.runs: dict[OpId, TaskId] = {}
        """What its engine works on."""
        self.asks: dict[TaskId, list[AskKey]] = {}
        """Tasks that it asked of others and that are open there, and over which links, by which attempt."""
        self.journal = SwapJournal()
        """The journal of swaps that is durable."""
        self.is_changing = False
        """Whether the swap of this node is in a state between two settled ones."""
        self.wake: Micros | None = None
        """When it asked to be woken."""
        self.wake_late_us: Micros = 0
        """How long after its deadline it was woken last."""
        self.woken: Micros = -1
        self.wakes = 0
        """When it was woken last, and how often at that time."""


EventJudge = Callable[[Book, Any], None]
MessageJudge = Callable[[Book, LinkId, Header, Any], None]
"""Book, link, header, message."""
SealJudge = Callable[[Book, Header, int], None]
"""Book, header, size in bytes."""
AlarmJudge = Callable[[Book, Any], None]
_Alarm = tuple[Micros, int, AlarmJudge, Book, Any]


class Rule:
    """One invariant. It enters what it judges with the panel when it is made."""

    name: ClassVar[str]

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        panel.rules.append(self)
        self.enter()

    def enter(self) -> None:
        """Tell the panel what to show."""
        raise NotImplementedError

    def begin(self, book: Book) -> None:
        """A node was seen for the first time, or began another life."""

    def finish(self) -> None:
        """The run is over."""

    def fail(self, book: Book, problem: str) -> NoReturn:
        """Report a breach: `problem` names the thing and the cause. Raises InvariantViolated."""
        self.panel.fail(self.name, book, problem)


class Panel:
    """A checker (see `watch.Checker`) that is made of rules."""

    name = "panel"

    def __init__(self, rng_seed: int, reproduce: str) -> None:
        self._rng_seed = rng_seed
        self._reproduce = reproduce
        self.now: Micros = 0
        self.rules: list[Rule] = []
        self.books: dict[int, Book] = {}
        self._judges: dict[type, tuple[EventJudge, ...]] = {}
        self._sent: dict[type, tuple[MessageJudge, ...]] = {}
        self._received: dict[type, tuple[MessageJudge, ...]] = {}
        self._sealed: tuple[SealJudge, ...] = ()
        self._alarms: list[_Alarm] = []
        self._alarm_count = 0
        self._next_alarm: Micros = _NEVER
        self._verifiers: dict[str, ByteVerifier] = {}
        self.on(LinkDown, _link_down)
        self.on_sent(Identity, _identified)

    # -- what rules enter ----------------------------------------------------------------------------------------------

    def on(self, kinds: type[Event | Effect | Record] | Iterable[type], judge: EventJudge) -> None:
        """Show every event, effect or record of these exact types; `Send` and `FrameReceived` by their messages."""
        for kind in (kinds,) if isinstance(kinds, type) else kinds:
            self._judges[kind] = (*self._judges.get(kind, ()), judge)

    def on_sent(self, kind: type[Message], judge: MessageJudge) -> None:
        """Show every message of a type that a node puts on a link."""
        self._sent[kind] = (*self._sent.get(kind, ()), judge)

    def on_received(self, kind: type[Message], judge: MessageJudge) -> None:
        """Show every message of a type that a node has to take: fresh, and from the peer of its link."""
        self._received[kind] = (*self._received.get(kind, ()), judge)

    def on_sealed(self, judge: SealJudge) -> None:
        """Show every envelope that a node makes."""
        self._sealed = (*self._sealed, judge)

    def alarm(self, at_us: Micros, judge: AlarmJudge, book: Book, key: object) -> None:
        """Call `judge(book, key)` before the first event after `at_us`."""
        self._alarm_count += 1
        heappush(self._alarms, (at_us, self._alarm_count, judge, book, key))
        self._next_alarm = self._alarms[0][0]

    def fail(self, rule: str, book: Book, problem: str) -> NoReturn:
        """Raise InvariantViolated."""
        raise InvariantViolated(rule, self._rng_seed, self.now, f"{book.name} {problem}", self._reproduce)

    # -- the checker ---------------------------------------------------------------------------------------------------

    def saw(self, at_us: Micros, node: Watched, event: Event, effects: list[Effect]) -> None:
        """See `watch.Checker`."""
        if self._next_alarm < at_us:
            self._ring(at_us)
        book = self.books.get(node.index) or self._open_book(node)
        if at_us < self.now:
            self.fail("time is monotone", book, f"handled an event at {at_us} µs, after {self.now} µs")
        self.now = at_us
        kind: type = type(event)
        if not book.is_ready and book.life and kind in _LINKS:
            book.early.append(event)  # it waits in the node, too
            if kind is FrameReceived:
                self._must_drop(book, effects, "its receiver is not ready")
        elif kind is FrameReceived:
            self._frame(book, event, effects)  # type: ignore[arg-type]  # its type was just looked at
        else:
            self._event(book, kind, event)
        judges = self._judges
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                self._send(book, effect)  # type: ignore[arg-type]
            elif kind is Trace:
                record = effect.record  # type: ignore[attr-defined]
                for judge in judges.get(type(record), ()):
                    judge(book, record)
            else:
                if kind is Advertise:
                    self._seal(book, effect.frame)  # type: ignore[attr-defined]
                for judge in judges.get(kind, ()):
                    judge(book, effect)

    def _event(self, book: Book, kind: type, event: Event) -> None:
        if kind is Started:
            self._start(book, event)  # type: ignore[arg-type]  # its type was just looked at
        for judge in self._judges.get(kind, ()):
            judge(book, event)
        if book.early and book.is_ready:
            self._take_early(book)

    def _take_early(self, book: Book) -> None:
        """The node is ready and has had its turn with what came before."""
        early, book.early = book.early, []
        gone = {event.link for event in early if type(event) is LinkDown}
        for event in early:
            if event.link in gone:  # type: ignore[attr-defined]  # all of these have one
                continue
            if type(event) is FrameReceived:
                self._frame(book, event, [])
            elif type(event) is LinkUp:
                book.links.setdefault(event.link, None)
            for judge in self._judges.get(type(event), ()):
                judge(book, event)

    def died(self, at_us: Micros, node: Watched) -> None:
        """See `watch.Checker`."""
        if self._next_alarm < at_us:
            self._ring(at_us)
        self.now = at_us
        self._forget(self.books.get(node.index) or self._open_book(node))

    def finish(self, at_us: Micros) -> None:
        """See `watch.Checker`."""
        self._ring(at_us)
        self.now = at_us
        for rule in self.rules:
            rule.finish()

    # -- books and alarms ----------------------------------------------------------------------------------------------

    def _open_book(self, node: Watched) -> Book:
        book = self.books[node.index] = Book(node)
        for rule in self.rules:
            rule.begin(book)
        return book

    def _start(self, book: Book, event: Started) -> None:
        """A life begins. What reached the node before its first one waits for it there, and counts."""
        book.life += 1
        kept = event.snapshot.get(EPOCH_KEY, b"")
        book.is_behind = max(int.from_bytes(kept, "big") + 1, event.wall_ms // 1000) <= book.newest_epoch
        if book.life > 1:
            self._forget(book)

    def _forget(self, book: Book) -> None:
        book.begin()
        for rule in self.rules:
            rule.begin(book)

    def _ring(self, at_us: Micros) -> None:
        alarms = self._alarms
        while alarms and alarms[0][0] < at_us:
            due_us, _, judge, book, key = heappop(alarms)
            if book.is_slow():
                self.alarm(at_us + GRACE_US, judge, book, key)
                continue
            self.now = max(self.now, due_us)
            judge(book, key)
        self._next_alarm = alarms[0][0] if alarms else _NEVER

    # -- frames --------------------------------------------------------------------------------------------------------

    def _send(self, book: Book, effect: Send) -> None:
        opened, link = self._seal(book, effect.frame), effect.link
        for judge in self._sent.get(type(opened.message), ()):
            judge(book, link, opened.header, opened.message)

    def _seal(self, book: Book, frame: Frame) -> Envelope | Verified[Message]:
        if isinstance(frame, Envelope):
            opened: Envelope | Verified[Message] = frame
            size_bytes = frame.size_bytes
        else:
            try:
                opened = self._open(book, frame)
            except RemoteProtocolError as error:
                self.fail("frames can be read", book, f"makes a frame that nobody can open: {error}")
            size_bytes = len(frame)
        if frame is not book.sealed:
            book.sealed = frame
            for judge in self._sealed:
                judge(book, opened.header, size_bytes)
        return opened

    def _frame(self, book: Book, event: FrameReceived, effects: list[Effect]) -> None:
        frame, link = event.frame, event.link
        if type(frame) is Envelope and frame.signer == frame.header.sender:
            opened: Envelope | Verified[Message] = frame
        else:
            try:
                opened = self._open(book, frame)
            except RemoteProtocolError as error:
                self._must_drop(book, effects, f"it cannot be opened ({error.reason.value})")
                return
        header, message = opened.header, opened.message
        peer = book.links.get(link)
        if peer is None or peer.node != header.sender:
            why = self._why_not(book, link, header, peer, type(message) is Identity)
            if why is not None:
                self._must_drop(book, effects, why)
                return
        known, seq = book.inbox.get(header.sender), header.seq
        if known is not None and seq > known.newest and header.epoch == known.epoch:  # hot: nearly every frame
            known.newest = seq
            known.recent.append(seq)
        elif not is_fresh(book.inbox, header.sender, header.epoch, seq):
            self._must_drop(book, effects, f"(epoch, seq) ({header.epoch}, {header.seq}) of its sender came before")
            return
        if peer is None:
            book.links[link] = Peer(header.sender, message.role)  # type: ignore[attr-defined]  # it is an Identity
        for judge in self._received.get(type(message), ()):
            judge(book, link, header, message)

    def _why_not(self, book: Book, link: LinkId, header: Header, peer: Peer | None, is_identity: bool) -> str | None:
        """Why a node must not take a frame; None where it is the first word of a link's peer."""
        if not book.is_ready or link not in book.links:
            return "it came over a link that is not up"
        if peer is not None:
            return "its sender is not the peer of its link"
        if not is_identity or header.sender == book.node:
            return "nobody has identified itself on its link"
        return None

    def _must_drop(self, book: Book, effects: list[Effect], why: str) -> None:
        """A frame that must not be taken may leave a note, a wake-up, the range of versions or the epoch that is known,
        and nothing else."""
        for effect in effects:
            kind = type(effect)
            if kind is WakeAt or (kind is Trace and type(effect.record) is Dropped):  # type: ignore[attr-defined]
                continue
            if kind is Send and type(self._opened(book, effect.frame).message) in _NOTICES:  # type: ignore[attr-defined]
                continue
            self.fail("frames count once", book, f"acted on a frame although {why}")

    def _opened(self, book: Book, frame: Frame) -> Envelope | Verified[Message]:
        return frame if type(frame) is Envelope else self._open(book, frame)

    def _open(self, book: Book, frame: Frame) -> Verified[Message]:
        """Decode a frame of a run with `wire: encoded`."""
        network = book.cluster.network_id
        verifier = self._verifiers.get(network)
        if verifier is None:
            verifier = self._verifiers[network] = ByteVerifier(IdealKeys(), network)
        return verifier.open(frame)


def _identified(book: Book, link: LinkId, _: Header, __: Identity) -> None:
    """A node that identifies itself on a link has taken it."""
    book.links.setdefault(link, None)


def _link_down(book: Book, event: LinkDown) -> None:
    book.links.pop(event.link, None)
    if book.coordinator_link == event.link:
        book.coordinator_link = None
