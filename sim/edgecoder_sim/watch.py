"""Observers of a run: the trace digest, the recorder of tables, the checkers.

The digest covers every frame that was delivered (when, from which node to which, header and body) and every trace
record. Two runs with one scenario and seed have one digest, whichever the process, the hash seed or the wire mode.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Protocol

import msgspec

from edgecoder.core.effects import Effect
from edgecoder.core.events import Event
from edgecoder.trace import LifeEnded, Record
from edgecoder.wire.envelope import Envelope, Frame, Header, peek
from edgecoder.wire.messages import NAMES
from edgecoder_sim.host import SimNode
from edgecoder_sim.kernel import Kernel

_BUFFER_BYTES = 1 << 16
_encode = msgspec.msgpack.Encoder().encode
_pack_record = struct.Struct(">QII").pack
_pack_frame = struct.Struct(">QIIIIIQI").pack
_RECORD = 0
_FRAMES = {type_name: code for code, type_name in enumerate(NAMES.values(), 1)}


class TraceSink(Protocol):
    """Where records and message counts go: the recorder of tables."""

    def record(self, at_us: int, node: int, record: Record) -> None:
        """A trace record of a node."""
        ...

    def message(self, type_name: str, medium: str, size_bytes: int) -> None:
        """A frame was delivered."""
        ...

    def command(self, command: int, kind: str) -> None:
        """A user gives this command; `kind` is the name of its load."""
        ...


class Checker(Protocol):
    """Judges what nodes do. It knows no state of a node: only what goes in and comes out."""

    name: str

    def saw(self, at_us: int, node: SimNode, event: Event, effects: list[Effect]) -> None:
        """A node handled an event. Raises InvariantViolated."""
        ...

    def died(self, at_us: int, node: SimNode) -> None:
        """A node's life ended without a word: nothing that was open in it is owed any more."""
        ...

    def finish(self, at_us: int) -> None:
        """The run is over. Raises InvariantViolated."""
        ...


class TraceDigest:
    """BLAKE2b over all that happened."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._buffer = bytearray()

    def frame(
        self, at_us: int, sender: int, receiver: int, size_bytes: int, type_name: str, header: Header, body: bytes
    ) -> None:
        """A frame arrived."""
        buffer = self._buffer
        code = _FRAMES[type_name]
        buffer += _pack_frame(at_us, code, sender, receiver, size_bytes, header.epoch, header.seq, header.ttl_ms)
        buffer += body
        if len(buffer) > _BUFFER_BYTES:
            self._flush()

    def record(self, at_us: int, node: int, record: Record) -> None:
        """A node traced something."""
        self._buffer += _pack_record(at_us, _RECORD, node)
        self._buffer += _encode(record)
        if len(self._buffer) > _BUFFER_BYTES:
            self._flush()

    def hexdigest(self) -> str:
        """32 hex digits over everything so far."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._hash.update(self._buffer)
        self._buffer.clear()


class Watch:
    """Hands what the hosts see to digest, sink and checkers."""

    def __init__(self, kernel: Kernel, checkers: Sequence[Checker]) -> None:
        self._kernel = kernel
        self.sink: TraceSink | None = None
        self.digest = TraceDigest()
        self._digest_frame = self.digest.frame
        self.checkers: Sequence[Checker] = checkers
        self.checked = 0
        """Events that the checkers judged."""

    def traced(self, node: SimNode, record: Record) -> None:
        """A node told something."""
        at_us = self._kernel.now
        self.digest.record(at_us, node.index, record)
        if self.sink is not None:
            self.sink.record(at_us, node.index, record)

    def saw(self, node: SimNode, event: Event, effects: list[Effect]) -> None:
        """A node handled an event."""
        self.checked += 1
        for checker in self.checkers:
            checker.saw(self._kernel.now, node, event, effects)

    def died(self, node: SimNode) -> None:
        """A node's life ended without a word."""
        self.traced(node, LifeEnded())
        for checker in self.checkers:
            checker.died(self._kernel.now, node)

    def delivered(self, sender: SimNode, receiver: SimNode, medium: str, frame: Frame, size_bytes: int) -> None:
        """A frame reached a node."""
        if type(frame) is Envelope:
            type_name, header, body = NAMES[type(frame.message)], frame.header, frame.body
        else:
            type_name, header, body = peek(frame)  # type: ignore[arg-type]  # a frame is an envelope or bytes
        self._digest_frame(self._kernel.now, sender.index, receiver.index, size_bytes, type_name, header, body)
        if self.sink is not None:
            self.sink.message(type_name, medium, size_bytes)

    def finish(self) -> None:
        """The run is over: let the checkers judge what is still open."""
        for checker in self.checkers:
            checker.finish(self._kernel.now)
