"""One connection of the control server: bounded in time and number until its request is here, its errors problems too.

Whoever can reach the port can open connections, before any token is looked at. So a request has a time in which it has
to be whole, an answer one in which it has to be taken, and where connections are too many, the one goes that has
been silent the longest: what is asked in earnest gets through, and the node keeps file handles for its engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from typing import Any, Final

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgecoder_drivers.http.guard import headers_too_large
from edgecoder_drivers.http.problems import reject, respond

BACKLOG: Final = 64
"""Connections that the system keeps until they are taken, and that are taken in one turn of the loop."""
UNREAD_BYTES_MAX: Final = 1 << 20
"""What may still come of a body after its request was answered, so that its sender hears the answer."""
_logger = logging.getLogger("edgecoder.http")
_logger.setLevel(logging.ERROR)  # what comes in can make uvicorn warn, as often as it likes


class Limits(msgspec.Struct, frozen=True):
    """What connections may take."""

    connections_max: int = 512
    handshakes_max: int = 96
    """In TLS, of which nothing is known yet. More than `BACKLOG`: what is just taken counts too."""
    request_s: float = 20.0
    """From the first moment, or from the answer before, to the last byte of a request."""
    taking_s: float = 60.0
    """In which somebody who does not take an answer as fast as it comes has to take some of it."""
    keep_alive_s: int = 15
    stop_s: int = 5
    """For requests that are under way when the server stops."""


def limits_here() -> Limits:
    """The limits that leave the node two thirds of the file handles that it may have."""
    if sys.platform == "win32":
        return Limits()
    import resource  # noqa: PLC0415 - there is none on Windows

    handles_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if handles_max == resource.RLIM_INFINITY:
        return Limits()
    return Limits(connections_max=max(8, min(Limits().connections_max, handles_max // 3)))


class Door(socket.socket):
    """The listening socket: beyond so many connections of which nothing is known yet, the oldest of them is shut."""

    def open(self, limits: Limits) -> Door:
        """Before it listens."""
        self._handshakes_max = limits.handshakes_max
        self._fresh: dict[int, socket.socket] = {}
        return self

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection."""
        taken, address = super().accept()
        self.knows(taken.fileno())
        self._fresh[taken.fileno()] = taken
        if len(self._fresh) > self._handshakes_max:
            oldest = self._fresh.pop(next(iter(self._fresh)))
            with contextlib.suppress(OSError):  # it is over by itself
                oldest.shutdown(socket.SHUT_RDWR)
        return taken, address

    def knows(self, handle: int) -> None:
        """A connection has got through its handshake, or its handle is another's by now."""
        self._fresh.pop(handle, None)


class Connection(H11Protocol):
    """What uvicorn makes of a connection, within limits."""

    def __init__(self, *, limits: Limits, door: Door, waiting: dict[Connection, None], **uvicorn: Any) -> None:
        """`waiting` are all connections of the server whose request is not here yet, the longest silent one first."""
        super().__init__(**uvicorn)
        self.logger = _logger
        self._limits = limits
        self._door = door
        self._waiting = waiting
        self._late: asyncio.TimerHandle | None = None
        self._full: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        """Of a body whose request is answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room for it."""
        super().connection_made(transport)
        self._door.knows(transport.get_extra_info("socket").fileno())
        self._look()
        if len(self.connections) > self._limits.connections_max:
            next(iter(self._waiting), self)._give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        super().connection_lost(exc)
        self._rest()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """The rest of a body that nobody wants is not taken for long."""
        super().data_received(data)
        if self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY:
            self._unread_bytes += len(data)
            if self._unread_bytes > UNREAD_BYTES_MAX:
                self._give_up()
        else:
            self._unread_bytes = 0

    def handle_events(self) -> None:
        """Read what has come."""
        super().handle_events()
        self._look()

    def on_response_complete(self) -> None:
        """The next request has its own time."""
        super().on_response_complete()
        self._rest()
        self._look()

    def pause_writing(self) -> None:
        """Somebody does not take what was asked for."""
        super().pause_writing()
        self._full = self._full or self.loop.call_later(self._limits.taking_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It goes on."""
        super().resume_writing()
        if self._full is not None:
            self._full.cancel()
            self._full = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse what is no HTTP, as all else is refused."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # an answer is under way
            self._give_up()
            return
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        is_too_large = getattr(sys.exception(), "error_status_hint", 400) == 431
        refusal = headers_too_large() if is_too_large else reject(400, "invalid", "this is no HTTP", "ask in HTTP/1.1")
        response = respond(refusal.problem)
        headers = [*response.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=response.status_code, headers=headers),
            h11.Data(data=bytes(response.body)),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.conn.send(h11.EndOfMessage())
        self.transport.close()

    def _look(self) -> None:
        """Whether a request is waited for."""
        is_waited_for = self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing()
        if not is_waited_for:
            self._rest()
        elif self._late is None:
            self._late = self.loop.call_later(self._limits.request_s, self._give_up)
            self._waiting[self] = None

    def _rest(self) -> None:
        self._waiting.pop(self, None)
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._rest()
        self.transport.abort()
