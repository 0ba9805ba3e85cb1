"""Two machines that run with one node's key, as a copied folder or an image makes them: who notices, and who stays.

A second link of a node is nothing strange: its first may be dead without this end having noticed it, and a node that
was restarted comes with a new epoch. So before a life takes the place of another, the other's link is asked, with a
nonce. An answer shows that somebody lives there: two lives at once, which one machine never has. The one that was
there first stays, and the other is told why and let go; it asks again as rarely as who is not enrolled. Where nothing
comes in time, or the link goes, the life that came takes its place. A life whose place was taken while it could not be
heard is asked when it speaks again. Two that chose one epoch are told apart by the number that each drew for its life.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from edgecoder.core.context import MILLI, Context
from edgecoder.core.effects import CloneRow, Disconnect
from edgecoder.core.ids import LinkId, Micros, NodeId
from edgecoder.core.labels import Label
from edgecoder.mesh.gate import IDENTITY_TTL_MS, Gate, Link
from edgecoder.trace import CloneSeen
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Cloned, Identity, Message, Stale

_TIMER = "clone"
NONCE_BYTES = 8
ROWS_MAX = 64
"""Nodes that are shown; of more the one that was seen longest ago goes."""
SHOWN_MS = 3_600_000
"""A row is shown for so long after the last time: a machine that was turned off is no news any more."""


class CloneState(Label):
    """What is known of a node's lives."""

    ONE = "one"
    ASKED = "asked"
    TWO = "two"


class CloneStep(Label):
    """What can happen to that."""

    MET = "met"
    ANSWERED = "answered"
    SILENT = "silent"
    LEFT = "left"


CLONE_TABLE: Mapping[tuple[CloneState, CloneStep], CloneState] = MappingProxyType(
    {
        (CloneState.ONE, CloneStep.MET): CloneState.ASKED,
        (CloneState.ASKED, CloneStep.ANSWERED): CloneState.TWO,
        (CloneState.ASKED, CloneStep.SILENT): CloneState.ONE,
        (CloneState.ASKED, CloneStep.LEFT): CloneState.ONE,
        (CloneState.TWO, CloneStep.MET): CloneState.ASKED,
    }
)


class _Question(msgspec.Struct):
    """Whether two links of a node are of two lives."""

    stays: LinkId
    """Of the one that was there first."""
    goes: LinkId
    asked: tuple[LinkId, ...]
    """Who has to answer before it is known that there are two."""
    nonce: bytes
    is_held: bool = False
    """Whether what comes over `goes`, in this epoch, waits for the answer."""
    epoch: int = 0
    answers: dict[LinkId, tuple[int, bytes]] = msgspec.field(default_factory=dict)
    """Epoch and life, by link."""
    waiting: list[LinkId] = msgspec.field(default_factory=list)
    """Further links that came meanwhile: they are judged when this is known."""


class _Known(msgspec.Struct):
    """What is known of one node."""

    state: CloneState = CloneState.ONE
    question: _Question | None = None
    times: int = 0
    last_at: Micros = 0
    told_at: Micros | None = None
    wheres: tuple[str, str] = ("", "")


class Clones:
    """The nodes of a coordinator that are more than one machine. A `gate.Judge`."""

    def __init__(self, context: Context, gate: Gate) -> None:
        self._context = context
        self._gate = gate
        self._stream = context.stream("clones")
        self.known: dict[NodeId, _Known] = {}

    # -- gate.Judge ----------------------------------------------------------------------------------------------------

    def holds(self, link: Link, header: Header, newest: int) -> bool:
        """See `gate.Judge`."""
        first = self._other(link, header.sender)
        if first is None or header.epoch == newest or (header.epoch < newest and link.sure is None):
            return False
        known = self.known.get(header.sender)
        if known is not None and known.question is not None:
            known.question.waiting.append(link.id)
            return True
        self._ask(header.sender, _Question(first.id, link.id, (first.id,), self._nonce(), True, header.epoch))
        return True

    def overheard(self, link: Link, header: Header, message: Message, newest: int) -> None:
        """See `gate.Judge`."""
        node = header.sender
        if isinstance(message, Identity) and message.echo:
            self._answered(link, header, message)
            return
        current = self._other(link, node)
        if current is not None:
            if not self._is_open(node):
                self._ask(node, _Question(current.id, link.id, (link.id,), self._nonce()))
        elif link.told_epoch != newest:  # its place was taken by one that has gone again
            link.told_epoch = newest
            self._context.send(link.id, Stale(epoch=newest), IDENTITY_TTL_MS)

    def answered(self, link: Link, header: Header, identity: Identity) -> None:
        """See `gate.Judge`."""
        self._answered(link, header, identity)

    # -- the hub's part ------------------------------------------------------------------------------------------------

    def link_bound(self, link: Link) -> None:
        """A node identified itself on a link. Another of its links says the same epoch: one life, as it seems."""
        node = link.peer
        first = None if node is None else self._other(link, node)
        if node is None or first is None or self._is_open(node):
            return
        self._ask(node, _Question(first.id, link.id, (first.id, link.id), self._nonce()))

    def link_down(self, link: LinkId) -> None:
        """A link is gone, and the question about it."""
        for node, known in list(self.known.items()):
            question = known.question
            if question is not None and link in (question.stays, question.goes):
                self._close(node, known, CloneStep.LEFT)

    def rows(self) -> tuple[CloneRow, ...]:
        """Who was seen twice of late, the last one first."""
        now = self._context.now
        shown = [
            CloneRow(node, *known.wheres, known.times, (now - known.last_at) // MILLI)
            for node, known in self.known.items()
            if known.times and now - known.last_at <= SHOWN_MS * MILLI
        ]
        return tuple(sorted(shown, key=lambda row: row.age_ms))

    # -- questions -----------------------------------------------------------------------------------------------------

    def _other(self, link: Link, node: NodeId) -> Link | None:
        """The newest other link over which a node is known, and may still be heard."""
        others = [each for each in self._gate.links.values() if each.peer == node and each.id != link.id]
        return next((each for each in reversed(others) if not each.is_silent), None)

    def _is_open(self, node: NodeId) -> bool:
        known = self.known.get(node)
        return known is not None and known.question is not None

    def _nonce(self) -> bytes:
        return self._stream.word().to_bytes(NONCE_BYTES, "big")

    def _ask(self, node: NodeId, question: _Question) -> None:
        known = self.known.setdefault(node, _Known())
        known.question = question
        self._step(known, CloneStep.MET)
        for link in question.asked:
            self._gate.identify(link, ask=question.nonce)
        until = self._context.in_ms(self._context.config.clone_answer_ms)
        self._context.timers.set((_TIMER, node), until, lambda: self._silent(node, known))

    def _answered(self, link: Link, header: Header, identity: Identity) -> None:
        known = self.known.get(header.sender)
        question = None if known is None else known.question
        if known is None or question is None or identity.echo != question.nonce or link.id not in question.asked:
            return
        question.answers[link.id] = (header.epoch, identity.life)
        if len(question.answers) < len(question.asked):
            return
        if self._is_one_life(question):
            self._close(header.sender, known, CloneStep.SILENT)
            return
        self._close(header.sender, known, CloneStep.ANSWERED)
        self._part(header.sender, known, question)

    def _is_one_life(self, question: _Question) -> bool:
        """Of two links in one epoch both were asked; else the one that answered is of another epoch than the other."""
        if len(question.asked) > 1:
            return len(set(question.answers.values())) == 1
        return question.is_held and question.answers[question.stays][0] == question.epoch

    def _silent(self, node: NodeId, known: _Known) -> None:
        """Nobody has answered in time."""
        question = known.question
        if question is None:
            return
        if question.is_held:  # whoever was there is gone, whatever its link says
            first = self._gate.links.get(question.stays)
            if first is not None:
                first.is_silent = True
                self._context.out.append(Disconnect(first.id))
        self._close(node, known, CloneStep.SILENT)

    def _close(self, node: NodeId, known: _Known, step: CloneStep) -> None:
        question, known.question = known.question, None
        self._context.timers.cancel((_TIMER, node))
        self._step(known, step)
        if question is not None:
            goes = (question.goes,) if question.is_held and step is not CloneStep.ANSWERED else ()
            for link in (*goes, *question.waiting):
                self._gate.release(link)
        if step is not CloneStep.ANSWERED and not known.times:
            del self.known[node]

    def _part(self, node: NodeId, known: _Known, question: _Question) -> None:
        """There are two: the second goes, and both are told."""
        context, links = self._context, self._gate.links
        stays, goes = links.get(question.stays), links.get(question.goes)
        wheres = tuple("" if link is None else link.where for link in (stays, goes))
        self._note(node, known, (wheres[0], wheres[1]))
        if stays is not None and len(question.asked) > 1:  # the other has used up its numbers
            context.send(stays.id, Stale(epoch=question.answers[stays.id][0]), IDENTITY_TTL_MS)
        if goes is not None:
            context.send(goes.id, Cloned(stays=False, where=known.wheres[0]), IDENTITY_TTL_MS)
            context.out.append(Disconnect(goes.id))
        repeat_us = context.config.clone_repeat_ms * MILLI
        if known.told_at is not None and context.now - known.told_at < repeat_us:
            return
        known.told_at = context.now
        context.trace(CloneSeen(node, *known.wheres))
        if stays is not None:
            context.send(stays.id, Cloned(stays=True, where=known.wheres[1]), IDENTITY_TTL_MS)

    def _note(self, node: NodeId, known: _Known, wheres: tuple[str, str]) -> None:
        known.times += 1
        known.last_at, known.wheres = self._context.now, wheres
        self.known[node] = self.known.pop(node)  # the newest last
        closed = [each for each, row in self.known.items() if row.question is None]
        if len(closed) > ROWS_MAX:
            del self.known[closed[0]]

    def _step(self, known: _Known, step: CloneStep) -> None:
        known.state = CLONE_TABLE.get((known.state, step), known.state)
