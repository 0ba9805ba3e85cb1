"""Living a journalled life again: the core gets what the node got, and has to answer as it did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

import edgecoder.core.events
from edgecoder import __version__
from edgecoder.core.effects import Effect
from edgecoder.core.events import Event
from edgecoder.core.ids import Micros, NodeId
from edgecoder.core.node import Node, Setup
from edgecoder.errors import ConfigError
from edgecoder.models.catalog import Catalog
from edgecoder.wire.envelope import ByteSigner, ByteVerifier
from edgecoder_drivers.journal import FORMAT, Head, Word, digest_of, values

_EVENTS = {
    name: kind
    for name, kind in vars(edgecoder.core.events).items()
    if isinstance(kind, type) and issubclass(kind, Event)
}


class Difference(NamedTuple):
    """Where a life first went another way."""

    number: int
    """Of the event, from 1."""
    now: Micros
    event: Event
    effects: list[Effect]
    """What the core answers today."""


class Replayed(NamedTuple):
    """How a replay went."""

    events: int
    last: Micros
    """When the last of them was."""
    difference: Difference | None


class _Recorded:
    """Keys that say what they said then."""

    def __init__(self, node_id: NodeId) -> None:
        self.node_id = node_id
        self.signatures: list[bytes] = []
        self.verdicts: list[bool] = []

    def sign(self, data: bytes) -> bytes:  # noqa: ARG002
        """The next signature; where there was none, an empty one, which makes a difference."""
        return self.signatures.pop(0) if self.signatures else bytes(64)

    def verify(self, sender: NodeId, data: bytes, signature: bytes) -> bool:  # noqa: ARG002
        """The next verdict."""
        return self.verdicts.pop(0) if self.verdicts else False


def replay(path: Path) -> Replayed:
    """Live a life again, up to the first difference. Raises ConfigError where the file is no journal of this version,
    or is damaged."""
    rest = values(path)
    head = _head(path, rest)
    keys = _Recorded(head.node_id)
    setup = Setup(
        role=head.role,
        cluster=head.cluster,
        config=head.config,
        catalog=Catalog(head.catalog),
        platform=head.platform,
        languages=head.languages,
    )
    node = Node(setup, ByteSigner(keys), ByteVerifier(keys, head.cluster.network_id), head.rng_seed)
    number, now = 0, 0
    for number, value in enumerate(rest, start=1):
        try:
            word = msgspec.msgpack.decode(value, type=Word)
            event = msgspec.convert(word.event, _EVENTS[word.type], builtin_types=(bytes,))
        except (msgspec.MsgspecError, KeyError) as error:
            raise ConfigError(str(path), None, f"event {number} is damaged: {error}", "take a whole journal") from None
        keys.signatures, keys.verdicts, now = list(word.signatures), list(word.verdicts), word.now
        effects = node.handle(now, event)
        if digest_of(effects) != word.digest:
            return Replayed(number, now, Difference(number, now, event, effects))
    return Replayed(number, now, None)


def _head(path: Path, rest: Iterator[bytes]) -> Head:
    try:
        head = msgspec.msgpack.decode(next(rest), type=Head)
    except (StopIteration, msgspec.MsgspecError):
        hint = "an agent or device writes one with --journal"
        raise ConfigError(str(path), None, "this is no journal", hint) from None
    if (head.format, head.version) != (FORMAT, __version__):
        hint = f"replay it with EdgeCoder {head.version}"
        raise ConfigError(str(path), None, f"it is of EdgeCoder {head.version}, this is {__version__}", hint)
    return head
