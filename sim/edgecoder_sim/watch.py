"""Observers of a run: the trace digest, the recorder of tables, the checkers.

The digest covers every frame that was delivered (when, from whom, to whom, header and body) and every trace record. Two
runs with one scenario and seed have one digest, whichever the process, the hash seed or the wire mode.
"""

from __future__ import annotations

import hashlib
import struct
import traceback
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final, NoReturn, Protocol

import msgspec

from edgecoder.core.effects import Effect
from edgecoder.core.events import Event
from edgecoder.errors import InvariantViolated
from edgecoder.trace import LifeEnded, Record
from edgecoder.wire.envelope import Envelope, Frame, Header, peek
from edgecoder.wire.messages import NAMES
from edgecoder_sim.host import SimNode
from edgecoder_sim.kernel import Kernel

_BUFFER_BYTES = 1 << 16
_encode = msgspec.msgpack.Encoder().encode
_pack_head = struct.Struct(">QIIII").pack
_pack_header = struct.Struct(">32sQQQ").pack
_FRAME, _RECORD = 0, 1
NEVER_RAISES: Final = "handle never raises"
"""The invariant that needs no checker: it is judged in every run."""


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
        buffer += _pack_head(at_us, _FRAME, sender, receiver, size_bytes)
        buffer += type_name.encode()
        buffer += _pack_header(header.sender, header.epoch, header.seq, header.ttl_ms)
        buffer += body
        if len(buffer) > _BUFFER_BYTES:
            self._flush()

    def record(self, at_us: int, node: int, record: Record) -> None:
        """A node traced something."""
        self._buffer += _pack_head(at_us, _RECORD, node, 0, 0)
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

    def __init__(self, kernel: Kernel, checkers: Sequence[Checker], rng_seed: int, reproduce: str) -> None:
        """`rng_seed` and `reproduce`, the command that shows it again, are named where a node raises."""
        self._kernel = kernel
        self._rng_seed, self._reproduce = rng_seed, reproduce
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

    def raised(self, node: SimNode, event: Event, error: Exception) -> NoReturn:
        """A node raised. The exception is the cause of the InvariantViolated that this raises."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        what = type(error).__name__ + (f": {error}" if str(error) else "")
        where = f"{PurePath(frame.filename).name}:{frame.lineno} ({frame.name})"
        problem = f"{node.name} raised {' '.join(what.split())} in {where}, given {type(event).__name__}"
        raise InvariantViolated(NEVER_RAISES, self._rng_seed, self._kernel.now, problem, self._reproduce) from error

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
