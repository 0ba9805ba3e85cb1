"""A door for those who fetch files: a socket on the loop for each stranger, so many and no more."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from typing import Final

import structlog

from edgecoder_drivers.bare.connection import BareConnection, Limits

BACKLOG: Final = 128
LOWER_EFFORT: Final = 1 << 2
"""Traffic class of what may wait for everything else (DSCP 1, RFC 8622)."""
UNSENT_BYTES: Final = 1 << 20
"""What the system takes of one connection before it has left: so a piece that was sent has left, but for so much."""
ALIVE_S: Final = 30
"""A stranger who waits and is silent is asked after this whether it is there; without a word it is gone in a minute."""
PAUSE_S: Final = 0.1
"""After the system could not take another connection."""
_NONE: Final = -1
"""An option that no system has."""
_NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", _NONE)
_log = structlog.get_logger("edgecoder.bare")


class BareServer:
    """Takes connections on a socket that listens."""

    def __init__(
        self,
        listening: socket.socket | None,
        connect: Callable[[socket.socket], BareConnection],
        limits: Limits,
        name: str,
    ) -> None:
        """Without a socket it takes only those connections that it is given."""
        self._socket = listening
        self.port: int = 0 if listening is None else listening.getsockname()[1]
        """Where it listens; 0: it does not."""
        self._connect = connect
        self._limits = limits
        self._name = name
        self._open: dict[asyncio.Task[None], tuple[BareConnection, str]] = {}
        """The connections that there are, oldest first, and where they come from."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take connections from now on."""
        if self._socket is not None:
            self._task = asyncio.get_running_loop().create_task(self._listen(self._socket), name=self._name)

    async def stop(self) -> None:
        """Hang up on all of them, and listen no more."""
        tasks = [*self._open, *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self.hang_up()

    def hang_up(self) -> None:
        """Listen no more; of a server that was never started."""
        if self._socket is not None:
            self._socket.close()

    async def _listen(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError as error:  # who came is gone again, or there are too many open files
                _log.warning("no connection", server=self._name, detail=str(error))
                await asyncio.sleep(PAUSE_S)
                continue
            try:
                has_room = await self.make_room(address[0])
            except BaseException:
                sock.close()
                raise
            if not has_room:
                sock.close()
                continue
            prepare(sock)
            self.take(self._connect(sock), address[0])
            await asyncio.sleep(0)  # what it has asked for already is read, before it might have to go for the next

    def take(self, connection: BareConnection, address: str) -> None:
        """One more, from an address."""
        task = asyncio.get_running_loop().create_task(connection.run(), name=f"{self._name} to {address}")
        self._open[task] = connection, address
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        connection, _ = self._open.pop(task)
        connection.close()  # which a task that was cancelled before it began has not
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("connection failed", server=self._name, exc_info=error)

    def has_room(self, address: str) -> bool:
        """Whether one more of an address might come; if need be, for one that asks for nothing."""
        of_address = sum(1 for _, other in self._open.values() if other == address)
        if of_address >= self._limits.per_address_max and not _is_loopback(address):
            return False
        return not self._is_full() or self._idle() is not None

    async def make_room(self, address: str) -> bool:
        """Whether one more of an address may be taken, now; the oldest that asks for nothing has gone for it."""
        while self.has_room(address):
            if not self._is_full():
                return True
            idle = self._idle()
            if idle is not None:
                idle.cancel()
                await asyncio.wait([idle])  # meanwhile another may have come
        return False

    def _is_full(self) -> bool:
        return len(self._open) >= self._limits.connections_max

    def _idle(self) -> asyncio.Task[None] | None:
        return next((task for task, (connection, _) in self._open.items() if connection.is_idle), None)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.strip("[]").partition("%")[0]).is_loopback
    except ValueError:  # a name
        return False


def prepare(sock: socket.socket) -> None:
    """What the system can do for the rest of the household; where it cannot, nothing is lost."""
    sock.setblocking(False)
    level, option = (socket.IPPROTO_IP, socket.IP_TOS)
    if sock.family == socket.AF_INET6:
        level, option = socket.IPPROTO_IPV6, getattr(socket, "IPV6_TCLASS", 67)
    for where, name, value in (
        (level, option, LOWER_EFFORT),
        (socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT_BYTES),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", _NONE), ALIVE_S),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", _NONE), ALIVE_S // 3),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", _NONE), 3),
    ):
        with contextlib.suppress(OSError):
            sock.setsockopt(where, name, value)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises OSError where the port is taken, or the host none of this machine's."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening
