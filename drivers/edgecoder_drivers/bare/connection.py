"""One connection of a server that gives files: a request after the other, their bytes by `sendfile`.

Here is what a stranger may not do: send a slow or long head, or a body; read slowly, or not at all. What may be asked
for, and what is said to it, is left to who inherits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator
from io import FileIO
from typing import Any, BinaryIO, Final, cast

import h11
import msgspec

from edgecoder.seeding.losses import SLOWEST_BYTES_PER_S
from edgecoder_drivers.bare.heads import HEAD_BYTES_MAX, problem_of
from edgecoder_drivers.bare.pace import Pace
from edgecoder_drivers.bare.sendfile import send_file

READ_BYTES: Final = 16_384
CLOSE: Final = ("connection", "close")
_MORE: Final = getattr(socket, "MSG_MORE", 0)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a stranger may take."""

    connections_max: int = 256
    """At once; where there are so many, one that asks for nothing makes room for the next."""
    per_address_max: int = 64
    """Of one address, but for this machine's own. An office behind one address has as many."""
    head_s: float = 10.0
    """From the first byte of a request to the end of its head."""
    idle_s: float = 15.0
    """Between requests."""
    stall_s: float = 10.0
    """For one part to leave, beside the time that it takes at"""
    slowest_bytes_per_s: int = SLOWEST_BYTES_PER_S
    """the slowest rate for which receivers wait."""


class Rejected(Exception):
    """A request that gets no bytes."""

    def __init__(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


class BrokenError(Exception):
    """Nothing sensible can be said to the other end any more."""


class _Counted:
    """Stands for bytes that `sendfile` sends, where h11 counts them."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


def reject(status: int, code: str, title: str, hint: str, *headers: tuple[str, str]) -> Rejected:
    """A refusal in words."""
    return Rejected(status, problem_of(status, code, title, hint), *headers)


class BareConnection:
    """A stranger."""

    def __init__(self, sock: socket.socket, limits: Limits, pace: Pace, received: bytes = b"") -> None:
        """`received` came before it was one."""
        self._sock = sock
        self._limits = limits
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        if received:
            self._http.receive_data(received)
        self._is_given = False
        """Whether the socket is somebody else's by now."""
        self._task: asyncio.Task[Any] | None = None
        self._has_body = True
        """Whether answers have a body; those to HEAD have none."""
        self.is_idle = True
        """Whether it has asked for nothing."""

    async def _answer(self, request: h11.Request) -> None:
        """Send one response, `_end` at its end. May raise Rejected before its head, BrokenError and OSError."""
        raise NotImplementedError

    async def run(self) -> None:
        """Until either end has enough."""
        self._task = asyncio.current_task()
        try:
            while (request := await self._request()) is not None:
                self._has_body = request.method != b"HEAD"
                try:
                    await self._answer(request)
                except Rejected as rejected:
                    await self._refuse(rejected)
                if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    return
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._complain(error)
        except (BrokenError, OSError):
            return
        finally:
            self.close()

    def close(self) -> None:
        """Close the socket, where it is still its own."""
        if not self._is_given:
            self._sock.close()

    def drop(self) -> None:
        """End it now."""
        if self._task is not None:
            self._task.cancel()

    def _give_away(self) -> socket.socket:
        """The socket, which somebody else closes from now on; of a connection that has been upgraded."""
        self._is_given = True
        return self._sock

    # -- what comes ----------------------------------------------------------------------------------------------------

    async def _request(self) -> h11.Request | None:
        """The next request, which has no body; None where the other end has gone, or takes too long."""
        limits, loop, request = self._limits, self._loop, None
        self.is_idle = True
        try:
            async with asyncio.timeout(limits.idle_s) as due:
                while True:
                    event = self._http.next_event()
                    if event is h11.NEED_DATA:
                        if self._http.they_are_waiting_for_100_continue:
                            raise h11.RemoteProtocolError("a body is announced", error_status_hint=413)
                        data = await loop.sock_recv(self._sock, READ_BYTES)
                        if self.is_idle and data:
                            self.is_idle = False
                            due.reschedule(loop.time() + limits.head_s)
                        self._http.receive_data(data)
                    elif isinstance(event, h11.Request):
                        self.is_idle, request = False, event
                    elif isinstance(event, h11.EndOfMessage):
                        return request
                    elif isinstance(event, h11.Data):
                        raise h11.RemoteProtocolError("no body is taken", error_status_hint=413)
                    else:
                        return None
        except TimeoutError:
            return None

    # -- what goes -----------------------------------------------------------------------------------------------------

    async def _send_bytes(self, data: memoryview) -> None:
        """Of a body."""
        while data:
            part = data[: self._pace.part_bytes]
            async with self._part(len(part)):
                await self._loop.sock_sendall(self._sock, part)
            data = data[len(part) :]

    async def _send_file(self, file: BinaryIO | FileIO, at: int, end: int) -> None:
        """Bytes of a file, of a body."""
        if hasattr(os, "posix_fadvise"):  # `sendfile` would wait for the disk, and the loop with it
            with contextlib.suppress(OSError):
                os.posix_fadvise(file.fileno(), at, end - at, os.POSIX_FADV_WILLNEED)
        while at < end:
            size = min(self._pace.part_bytes, end - at)
            async with self._part(size):
                if await send_file(self._sock, file, at, size) != size:
                    raise OSError(errno.EIO, "the file is too short")
            at += size

    @contextlib.asynccontextmanager
    async def _part(self, size: int) -> AsyncIterator[None]:
        """A part leaves: in its turn, and in time."""
        await self._pace.take(size)
        self._http.send_with_data_passthrough(h11.Data(data=cast("bytes", _Counted(size))))
        limits = self._limits
        async with asyncio.timeout(limits.stall_s + size / limits.slowest_bytes_per_s):
            yield

    def _end(self) -> None:
        """The response is over."""
        self._http.send(h11.EndOfMessage())

    async def _refuse(self, rejected: Rejected, *more: tuple[str, str]) -> None:
        headers = [
            ("content-type", "application/problem+json"),
            ("content-length", str(len(rejected.body))),
            *rejected.headers,
            *more,
        ]
        await self._send(h11.Response(status_code=rejected.status, headers=headers))
        if self._has_body:
            await self._send(h11.Data(data=rejected.body))
        self._end()

    async def _complain(self, error: h11.RemoteProtocolError) -> None:
        """Say what is wrong with what came, if there is somebody to hear it."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        rejected = reject(error.error_status_hint, "bad_request", "this is no request", "ask with GET, without a body")
        with contextlib.suppress(OSError, TimeoutError, h11.LocalProtocolError):
            await self._refuse(rejected, CLOSE)

    async def _send(self, event: h11.Event, *, more: bool = False) -> None:
        """Send something small; `more` follows at once, and may leave in one packet with it."""
        data = self._http.send(event) or b""
        with contextlib.suppress(BlockingIOError):
            data = data[self._sock.send(data, _MORE if more else 0) :]
        if data:
            async with asyncio.timeout(self._limits.stall_s):
                await self._loop.sock_sendall(self._sock, data)
