"""Connections to peers, each for one request at a time and kept for the next. h11 reads heads, a body passes as it is.

A receiver asks for a piece some hundred times a second, so what stands between the socket and the store is short.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, NamedTuple

import h11

from edgecoder_drivers.bare.heads import HEAD_BYTES_MAX

IDLE_S: Final = 5.0
"""A connection is kept for the next piece so long: a third of what the server allows."""
READ_BYTES: Final = 1 << 18
"""What waits to be taken, at most twice as much; then the sender waits."""
_COMMON: Final = [("accept-encoding", "identity"), ("user-agent", "edgecoder")]


class Place(NamedTuple):
    """Where a peer listens."""

    host: str
    port: int

    @property
    def name(self) -> str:
        """As in an address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class LostError(Exception):
    """The other end is not there, went away, or does not speak HTTP."""


class Line:
    """One connection. Closed by `close`."""

    def __init__(self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.place = place
        self._reader = reader
        self._writer = writer
        self._is_kept = False
        """Whether both ends want it after this request."""

    async def ask(self, path: str, headers: list[tuple[str, str]]) -> tuple[int, dict[str, str]]:
        """Send a GET; status and headers of the answer, its body is to come. Raises LostError, OSError."""
        http = h11.Connection(h11.CLIENT)
        request = h11.Request(method="GET", target=path, headers=[("host", self.place.name), *_COMMON, *headers])
        self._writer.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            if len(head) > HEAD_BYTES_MAX:
                raise LostError("a long head")
            http.receive_data(head)
            event = http.next_event()
            if not isinstance(event, h11.Response):  # nor is there anything to be informed of
                raise LostError("no answer")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, h11.RemoteProtocolError) as error:
            raise LostError(str(error)) from error
        told = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        self._is_kept = event.http_version == b"1.1" and "close" not in told.get("connection", "").lower()
        return event.status_code, told

    async def body(self, size: int, silence_s: float) -> AsyncGenerator[bytes, None]:
        """So many bytes as they come. Raises LostError, OSError, and TimeoutError where none come for so long."""
        while size:
            async with asyncio.timeout(silence_s):
                data = await self._reader.read(min(size, READ_BYTES))
            if not data:
                raise LostError(f"it ended {size} bytes early")
            size -= len(data)
            yield data

    @property
    def is_good(self) -> bool:
        """Whether it may be asked again, once the body has come."""
        return self._is_kept and not self._reader.at_eof() and not self._writer.is_closing()

    def close(self) -> None:
        """Now."""
        self._writer.transport.abort()


class Lines:
    """The connections that wait for a request. Closed by `close`."""

    def __init__(self, connect_s: float) -> None:
        self._connect_s = connect_s
        self._waiting: dict[Place, list[tuple[Line, asyncio.TimerHandle]]] = {}

    async def take(self, place: Place) -> Line:
        """A connection to a peer, for the caller alone until it is given back or closed. Raises LostError, OSError."""
        while place in self._waiting:
            line = self._pop(place)
            if line.is_good:
                return line
            line.close()
        try:
            async with asyncio.timeout(self._connect_s):
                reader, writer = await asyncio.open_connection(place.host, place.port, limit=READ_BYTES)
        except TimeoutError as error:
            raise LostError("it does not take the call") from error
        except UnicodeError as error:
            raise LostError(f"{place.host!r} is no name of a host") from error
        return Line(place, reader, writer)

    def give_back(self, line: Line) -> None:
        """Its answer has come to the end."""
        if not line.is_good:
            line.close()
            return
        timer = asyncio.get_running_loop().call_later(IDLE_S, self._drop, line)
        self._waiting.setdefault(line.place, []).append((line, timer))

    def _pop(self, place: Place) -> Line:
        """The one that was used last."""
        waiting = self._waiting[place]
        line, timer = waiting.pop()
        timer.cancel()
        if not waiting:
            del self._waiting[place]
        return line

    def _drop(self, line: Line) -> None:
        """It has waited long enough; those before it are gone."""
        waiting = self._waiting[line.place]
        del waiting[0]
        if not waiting:
            del self._waiting[line.place]
        line.close()

    def close(self) -> None:
        """Close those that wait."""
        for place in list(self._waiting):
            while place in self._waiting:
                self._pop(place).close()
