"""Who fetches pieces from peers: a source for the store for each request, over HTTP, with the ticket that came along.

Nothing that a peer sends is believed: neither where its bytes belong, nor how many there are, nor why there are none.
Whether they are the file's is told leaf by leaf, in the store. How long a peer gets for a piece is the core's to say;
here is only what keeps a dead one from holding a socket.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import Final, Protocol

import h11
import msgspec

from edgecoder.core.effects import FetchPiece
from edgecoder.core.ids import ChannelId, NodeId
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.transfer import wire
from edgecoder_drivers.transfer.channels import Channels
from edgecoder_drivers.transfer.lines import Lines, LostError, Place

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a peer may take."""

    connect_s: float = 5.0
    first_byte_s: float = 600.0
    """From the request to the end of the answer's head. Others may be served before, and the largest piece takes 524 s
    at the slowest rate that the core waits for: it has called the request off by then."""
    silence_s: float = 60.0
    """Between bytes."""


class Peers:
    """All of them. Closed by `close`."""

    def __init__(self, node: NodeId, patience: Patience | None = None, channels: Channels | None = None) -> None:
        """`node` is who asks; `channels` are those that it was offered."""
        self._node = node
        self._channels = channels
        self._patience = patience or Patience()
        self._lines = Lines(self._patience.connect_s)

    async def close(self) -> None:
        """Close all connections."""
        self._lines.close()

    def source(self, effect: FetchPiece) -> Peer:
        """The peer that a piece is to come from. Raises Refused where it has no address, its connection is gone, or
        there is no ticket."""
        if effect.channel is not None:
            return self._offered(effect, effect.channel)
        place = wire.endpoint_of(effect.endpoint)
        if place is None:
            raise Refused(Reason.PEER_LOST, f"{effect.endpoint!r} is no address of a peer")
        if effect.ticket is None:
            raise Refused(Reason.NO_TICKET)
        where = Place(*place)
        way = partial(_dialled, self._lines, where, self._patience)
        return Peer(way, where.name, wire.write_pass(self._node, effect.ticket))

    def _offered(self, effect: FetchPiece, number: ChannelId) -> Peer:
        channel = None if self._channels is None else self._channels.get(number)
        if channel is None:
            raise Refused(Reason.PEER_LOST, "the connection is gone")
        if effect.ticket is None:
            raise Refused(Reason.NO_TICKET)

        def way(path: str, headers: dict[str, str], _: int) -> AbstractAsyncContextManager[Answer]:
            return channel.ask(self._patience.first_byte_s, self._patience.silence_s, path, headers)

        return Peer(way, "offered", wire.write_pass(self._node, effect.ticket))


class Answer(Protocol):
    """What comes back."""

    @property
    def status_code(self) -> int:
        """The status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By name, in lower case."""
        ...

    def aiter_raw(self) -> AsyncIterator[bytes]:
        """The body, as it comes."""
        ...


Way = Callable[[str, dict[str, str], int], AbstractAsyncContextManager[Answer]]
"""How a peer is asked: takes path, headers and how many bytes are to come. Raises what `Peer` turns into reasons."""


class _LineAnswer:
    """An answer over a connection that this node has opened."""

    def __init__(self, status: int, headers: dict[str, str], body: AsyncGenerator[bytes, None]) -> None:
        self.status_code, self.headers, self._body = status, headers, body

    def aiter_raw(self) -> AsyncIterator[bytes]:
        """See `Answer`."""
        return self._body


@asynccontextmanager
async def _dialled(
    lines: Lines, place: Place, patience: Patience, path: str, headers: dict[str, str], size: int
) -> AsyncIterator[Answer]:
    """Ask a peer over a connection that this node opens, or has open."""
    line, is_whole = None, False
    try:
        async with asyncio.timeout(patience.first_byte_s):
            line = await lines.take(place)
            status, told = await line.ask(path, list(headers.items()))
        async with aclosing(line.body(size, patience.silence_s)) as body:
            yield _LineAnswer(status, told, body)
        is_whole = True
    finally:
        if line is not None and is_whole:
            lines.give_back(line)
        elif line is not None:
            line.close()


class Peer:
    """One peer. A `PeerSource` of the store."""

    def __init__(self, way: Way, name: str, authorization: str) -> None:
        """`name` stands in what is said of failures."""
        self._way = way
        self._name = name
        self._authorization = authorization
        self.have = 0
        """The pieces of the file that it says it has, a bit a piece."""

    async def read(
        self,
        entry: CatalogEntry,
        first_byte: int,
        end_byte: int,
        *,
        is_patient: bool = False,  # noqa: ARG002
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a file from one on and before another, exactly. Raises Refused. There are others to ask."""
        async with aclosing(self._read(entry, first_byte, end_byte, is_hashes=False)) as coming:
            async for data in coming:
                yield data

    async def leaf_hashes(self, entry: CatalogEntry) -> bytes:
        """The SHA-256 of each leaf of a file. Raises Refused."""
        size = wire.size_of(entry.layout, is_hashes=True)
        async with aclosing(self._read(entry, 0, size, is_hashes=True)) as coming:
            return b"".join([data async for data in coming])

    async def _read(self, entry: CatalogEntry, first: int, end: int, *, is_hashes: bool) -> AsyncGenerator[bytes, None]:
        headers = {"authorization": self._authorization, "range": f"bytes={first}-{end - 1}"}
        url = self._name + wire.path_of(entry, is_hashes=is_hashes)
        try:
            async with self._way(wire.path_of(entry, is_hashes=is_hashes), headers, end - first) as answer:
                self.have = wire.read_have(answer.headers.get(wire.HAVE), entry.layout.piece_count)
                _check(answer, first, end, wire.size_of(entry.layout, is_hashes=is_hashes))
                async for data in answer.aiter_raw():
                    yield data
        except TimeoutError as error:
            raise Refused(Reason.NO_ANSWER, f"{url}: silent") from error
        except (LostError, h11.RemoteProtocolError, OSError) as error:
            raise Refused(Reason.PEER_LOST, f"{url}: {str(error) or type(error).__name__}") from error


def _check(answer: Answer, first: int, end: int, size: int) -> None:
    """Raises Refused unless the body is what was asked for, as far as the head tells."""
    status, told = answer.status_code, answer.headers
    if status >= 400:
        raise Refused(wire.refusal_of(told.get(wire.REASON)), f"status {status}")
    found = _CONTENT_RANGE.fullmatch(told.get("content-range", ""))
    span = None if found is None else tuple(map(int, found.groups()))
    length, encoding = told.get("content-length"), told.get("content-encoding", "identity")
    is_that = span == (first, end - 1, size) and length == str(end - first) and encoding == "identity"
    if status != 206 or not is_that or "transfer-encoding" in told:
        raise Refused(Reason.INVALID, f"status {status}, {span} of {length} bytes")
