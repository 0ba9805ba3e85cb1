"""The door of those who fetch files: so many at every moment, whoever comes and however many at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from edgecoder_drivers.bare.connection import BareConnection, Limits
from edgecoder_drivers.bare.pace import Pace
from edgecoder_drivers.bare.server import BareServer, listen

LIMITS = Limits(connections_max=4)


class Hall:
    """Counts who is in."""

    def __init__(self) -> None:
        self.now = self.most = self.came = 0

    def connect(self, sock: socket.socket) -> BareConnection:
        """One comes."""
        hall = self

        class Counted(BareConnection):
            async def run(self) -> None:
                try:
                    await super().run()
                finally:
                    hall.now -= 1

        hall.now += 1
        hall.came += 1
        hall.most = max(hall.most, hall.now)
        return Counted(sock, LIMITS, Pace(0))


def run(test: Callable[[BareServer, Hall], Awaitable[None]]) -> None:
    """A test of a server."""

    async def live() -> None:
        hall = Hall()
        server = BareServer(listen("127.0.0.1", 0), hall.connect, LIMITS, "test")
        try:
            async with asyncio.timeout(30):
                await test(server, hall)
        finally:
            await server.stop()
        assert hall.now == 0

    asyncio.run(live())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes."""
    for _ in range(5_000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it does not come")


def test_a_burst_never_has_more_than_the_most_inside() -> None:
    async def test(server: BareServer, hall: Hall) -> None:
        visitors = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]  # the system takes them
        server.start()
        await until(lambda: hall.came == len(visitors))
        assert hall.most == LIMITS.connections_max
        for visitor in visitors:
            visitor.close()

    run(test)


def test_one_that_goes_before_it_began_is_closed() -> None:
    async def test(server: BareServer, hall: Hall) -> None:
        near, far = socket.socketpair()
        server.take(BareConnection(near, LIMITS, Pace(0)), "192.0.2.7")
        await server.stop()
        far.settimeout(5)
        assert far.recv(1) == b""
        far.close()
        assert hall.now == 0

    run(test)
