"""Who fetches pieces from peers: a source for the store for each request, over HTTP, with the ticket that came along.

Nothing that a peer sends is believed: neither where its bytes belong, nor how many there are, nor why there are none.
Whether they are the file's is told leaf by leaf, in the store. How long a peer gets for a piece is the core's to say;
here is only what keeps a dead one from holding a socket.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec

from edgecoder.core.effects import FetchPiece
from edgecoder.core.ids import NodeId
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.transfer import wire
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

    def __init__(self, node: NodeId, patience: Patience | None = None) -> None:
        """`node` is who asks."""
        self._node = node
        self._patience = patience or Patience()
        self._lines = Lines(self._patience.connect_s)

    async def close(self) -> None:
        """Close all connections."""
        self._lines.close()

    def source(self, effect: FetchPiece) -> Peer:
        """The peer that a piece is to come from. Raises Refused where it has no address, or there is no ticket."""
        place = wire.endpoint_of(effect.endpoint)
        if place is None:
            raise Refused(Reason.PEER_LOST, f"{effect.endpoint!r} is no address of a peer")
        if effect.ticket is None:
            raise Refused(Reason.NO_TICKET)
        authorization = wire.write_pass(self._node, effect.ticket)
        return Peer(self._lines, Place(*place), authorization, self._patience)


class Peer:
    """One peer. A `PeerSource` of the store."""

    def __init__(self, lines: Lines, place: Place, authorization: str, patience: Patience) -> None:
        self._lines = lines
        self._place = place
        self._authorization = authorization
        self._patience = patience
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
        headers = [("authorization", self._authorization), ("range", f"bytes={first}-{end - 1}")]
        path, line, is_whole = wire.path_of(entry, is_hashes=is_hashes), None, False
        try:
            async with asyncio.timeout(self._patience.first_byte_s):
                line = await self._lines.take(self._place)
                status, told = await line.ask(path, headers)
            self.have = wire.read_have(told.get(wire.HAVE), entry.layout.piece_count)
            _check(status, told, first, end, wire.size_of(entry.layout, is_hashes=is_hashes))
            async with aclosing(line.body(end - first, self._patience.silence_s)) as coming:
                async for data in coming:
                    yield data
            is_whole = True
        except TimeoutError as error:
            raise Refused(Reason.NO_ANSWER, f"{self._place.name}: silent") from error
        except (LostError, OSError) as error:
            raise Refused(Reason.PEER_LOST, f"{self._place.name}: {str(error) or type(error).__name__}") from error
        finally:
            if line is not None and is_whole:
                self._lines.give_back(line)
            elif line is not None:
                line.close()


def _check(status: int, told: dict[str, str], first: int, end: int, size: int) -> None:
    """Raises Refused unless the body is what was asked for, as far as the head tells."""
    if status >= 400:
        raise Refused(wire.refusal_of(told.get(wire.REASON)), f"status {status}")
    found = _CONTENT_RANGE.fullmatch(told.get("content-range", ""))
    span = None if found is None else tuple(map(int, found.groups()))
    length, encoding = told.get("content-length"), told.get("content-encoding", "identity")
    is_that = span == (first, end - 1, size) and length == str(end - first) and encoding == "identity"
    if status != 206 or not is_that or "transfer-encoding" in told:
        raise Refused(Reason.INVALID, f"status {status}, {span} of {length} bytes")
