"""What orders the messages of a node: epoch and sequence number of its envelopes, generation of its capabilities."""

from __future__ import annotations

from edgecoder.core.effects import Advertise, Persist
from edgecoder.core.events import Persisted
from edgecoder.core.ids import COUNTER_BITS, LinkId, OpId
from edgecoder.core.node import EPOCH_KEY
from edgecoder.protocol import FRAME_BYTES_MAX
from edgecoder.trace import CapabilitiesChanged
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Capabilities
from edgecoder_sim.checkers.panel import Book, Rule


class Envelopes(Rule):
    """(epoch, seq) of a node's envelopes grows, over all its lives; an epoch is durable before it is used; no envelope
    is longer than others would read."""

    name = "envelopes are ordered"

    def enter(self) -> None:
        """See `Rule`."""
        self._writing: dict[tuple[int, OpId], int] = {}
        self.panel.on(Persist, self._persist)
        self.panel.on(Persisted, self._persisted)
        self.panel.on_sealed(self._sealed)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        if book.is_behind:
            book.sealed_epoch = book.sealed_seq = -1

    def _persist(self, book: Book, effect: Persist) -> None:
        if effect.key == EPOCH_KEY:
            self._writing[book.index, effect.op] = int.from_bytes(effect.value, "big")

    def _persisted(self, book: Book, event: Persisted) -> None:
        epoch = self._writing.pop((book.index, event.op), None) if self._writing else None
        if epoch is not None:
            book.epoch, book.is_ready = epoch, True
            book.newest_epoch = max(book.newest_epoch, epoch)

    def _sealed(self, book: Book, header: Header, size_bytes: int) -> None:
        epoch, seq = header.epoch, header.seq
        if epoch != book.epoch:
            self.fail(book, f"sends with epoch {epoch}, which is not durable (durable is {book.epoch})")
        if epoch == book.sealed_epoch:
            if seq <= book.sealed_seq:
                self.fail(book, f"sends (epoch, seq) {(epoch, seq)} after {(epoch, book.sealed_seq)}")
        elif epoch < book.sealed_epoch:
            newest = (book.sealed_epoch, book.sealed_seq)
            self.fail(book, f"sends (epoch, seq) {(epoch, seq)} after {newest}")
        else:
            book.sealed_epoch = epoch
        book.sealed_seq = seq
        if header.sender != book.node:
            self.fail(book, f"sends in the name of {header.sender.hex()}")
        if size_bytes > FRAME_BYTES_MAX:
            self.fail(book, f"makes a frame of {size_bytes} bytes; longer than {FRAME_BYTES_MAX} is dropped unread")


class Generations(Rule):
    """The generation of a node's capabilities grows with every change and never goes back, over all its lives."""

    name = "generation grows"

    def enter(self) -> None:
        """See `Rule`."""
        self._newest: dict[int, int] = {}
        self.panel.on(CapabilitiesChanged, self._changed)
        self.panel.on(Advertise, self._advertise)
        self.panel.on_sent(Capabilities, self._sent)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        if book.is_behind:
            self._newest.pop(book.index, None)

    def _changed(self, book: Book, record: CapabilitiesChanged) -> None:
        newest = self._newest.get(book.index, -1)
        if record.generation <= newest:
            self.fail(book, f"changes its capabilities to generation {record.generation}, after {newest}")
        if book.is_ready and record.generation >> COUNTER_BITS != book.epoch:
            self.fail(book, f"has generation {record.generation}, which is not of its epoch {book.epoch}")
        self._newest[book.index] = record.generation

    def _advertise(self, book: Book, effect: Advertise) -> None:
        self._judge(book, "advertises", effect.capabilities.generation)

    def _sent(self, book: Book, _: LinkId, __: Header, message: Capabilities) -> None:
        self._judge(book, "sends", message.generation)

    def _judge(self, book: Book, verb: str, generation: int) -> None:
        newest = self._newest.get(book.index, -1)
        if generation < newest:
            self.fail(book, f"{verb} generation {generation}, after {newest}")
