"""Living a journalled life again: the core gets what the node got, and has to answer as it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgecoder import __version__
from edgecoder.core import events, giving
from edgecoder.core.effects import Effect
from edgecoder.core.events import Event
from edgecoder.core.ids import Micros, NodeId
from edgecoder.core.node import Node, Setup
from edgecoder.errors import UNREADABLE, ConfigError, LocalProtocolError
from edgecoder.journal.format import ENDED, FORMAT, DamagedError, Head, Life, Word, digest_of, lives
from edgecoder.models.catalog import Catalog
from edgecoder.wire.envelope import ByteSigner, ByteVerifier

_EVENTS = {
    name: kind
    for module in (events, giving)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, Event)
}


class Turn(NamedTuple):
    """An event that is worth to be told of."""

    number: int
    """Of the event in its life, from 1."""
    now: Micros
    event: Event
    effects: list[Effect]
    """What the core answers today."""
    error: Exception | None
    """What ends the core today."""


class Replayed(NamedTuple):
    """How the replay of one life went."""

    events: int
    last: Micros = 0
    """When the last of them was."""
    difference: Turn | None = None
    """Where it first went another way."""
    end: Turn | None = None
    """What ended the node, then as today."""
    rest: int = 0
    """Bytes of an event behind it that was not written whole."""
    version: str = __version__
    """The EdgeCoder that can replay it; another one than this has not."""


Watch = Callable[[Head], Callable[[Turn], None]]
"""Who looks on: is told who the node is, and says who is to see the events of this life, each once it was answered as
then."""


class _Recorded:
    """Keys that say what they said then."""

    def __init__(self, node_id: NodeId, public_bytes: bytes) -> None:
        self.node_id = node_id
        self.public_bytes = public_bytes
        self.signatures: list[bytes] = []
        self.verdicts: list[bool] = []

    def sign(self, data: bytes) -> bytes:  # noqa: ARG002
        """The next signature; where there was none, an empty one, which makes a difference."""
        return self.signatures.pop(0) if self.signatures else bytes(64)

    def verify(self, sender: NodeId, data: bytes, signature: bytes, public_key: bytes = b"") -> bool:  # noqa: ARG002
        """The next verdict."""
        return self._next()

    def knows(self, sender: NodeId) -> bool:  # noqa: ARG002
        """The next verdict."""
        return self._next()

    def _next(self) -> bool:
        return self.verdicts.pop(0) if self.verdicts else False


def replay(path: Path, watch: Watch | None = None) -> Iterator[Replayed]:
    """Live the lives of a journal again, each up to the first difference. Raises ConfigError where the file is no
    journal, or is damaged."""
    number = 0
    try:
        for number, life in enumerate(lives(path), start=1):
            yield _Replay(path, number, life, watch).run()
    except DamagedError as error:
        raise _damaged(path, number, error) from None
    if not number:
        hint = "an agent or device writes one with --journal"
        raise ConfigError(str(path), None, "this is no journal", hint)


def _damaged(path: Path, life: int, problem: object) -> ConfigError:
    return ConfigError(str(path), None, f"life {life} is damaged: {problem}", "take a whole journal")


class _Version(msgspec.Struct):
    """What the head of a life has in every format."""

    format: int
    version: str


class _Replay:
    """One life that is lived again."""

    def __init__(self, path: Path, number: int, life: Life, watch: Watch | None) -> None:
        self._path, self._number, self._life, self._watch = path, number, life, watch

    def run(self) -> Replayed:
        """Up to its end, or the first difference."""
        values = iter(self._life)
        first = next(values, None)
        if first is None:
            return Replayed(0, rest=self._life.rest)
        try:
            made_by = msgspec.msgpack.decode(first, type=_Version)
            if (made_by.format, made_by.version) != (FORMAT, __version__):
                return Replayed(0, version=made_by.version)
            head = msgspec.msgpack.decode(first, type=Head)
            catalog = Catalog(head.catalog, version=head.catalog_version, age_ms=head.catalog_age_ms)
        except UNREADABLE as error:
            raise _damaged(self._path, self._number, error) from None
        return self._live(head, catalog, values)

    def _live(self, head: Head, catalog: Catalog, values: Iterator[bytes]) -> Replayed:
        keys = _Recorded(head.node_id, head.public_key)
        setup = Setup(
            role=head.role,
            cluster=head.cluster,
            config=head.config,
            catalog=catalog,
            platform=head.platform,
            languages=head.languages,
        )
        node = Node(setup, ByteSigner(keys), ByteVerifier(keys, head.cluster.network_id), head.rng_seed)
        see = None if self._watch is None else self._watch(head)
        count, now = 0, 0
        for count, value in enumerate(values, start=1):
            try:
                word = msgspec.msgpack.decode(value, type=Word)
                event = msgspec.convert(word.event, _EVENTS[word.type], builtin_types=(bytes,))
            except (KeyError, *UNREADABLE) as error:
                raise _damaged(self._path, self._number, f"event {count}: {error}") from None
            keys.signatures, keys.verdicts, now = list(word.signatures), list(word.verdicts), word.now
            turn = self._turn(node, count, word, event)
            if not self._is_same(turn, word):
                return Replayed(count, now, difference=turn)
            if see is not None:
                see(turn)
            if turn.error is not None:
                return Replayed(count, now, end=turn)
        return Replayed(count, now, rest=self._life.rest)

    def _is_same(self, turn: Turn, word: Word) -> bool:
        """Whether the node answers as it did then."""
        if turn.error is not None:
            return word.digest == ENDED
        try:
            return digest_of(turn.effects) == word.digest
        except OverflowError as error:  # no clock and no counter of a host has come so far
            raise _damaged(self._path, self._number, f"event {turn.number}: {error}") from None

    def _turn(self, node: Node, count: int, word: Word, event: Event) -> Turn:
        try:
            return Turn(count, word.now, event, node.handle(word.now, event), None)
        except LocalProtocolError as error:
            if word.digest != ENDED:  # no host has done that: it ended no life
                raise _damaged(self._path, self._number, f"event {count}: {error}") from None
            return Turn(count, word.now, event, [], error)
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            return Turn(count, word.now, event, [], error)
