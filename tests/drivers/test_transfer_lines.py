"""Connections to peers: one request at a time on each, kept for the next as long as both ends want it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from edgecoder_drivers.transfer import lines as lines_module
from edgecoder_drivers.transfer.lines import Line, Lines, LostError, Place

Live = Callable[["Peer", Lines], Awaitable[None]]
BODY = bytes(range(256)) * 1000
GOOD = b"HTTP/1.1 206 Partial Content\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


class Peer:
    """A server that says the same to every request."""

    def __init__(self, says: bytes) -> None:
        self.says = says
        self.writers: list[asyncio.StreamWriter] = []
        """Of each connection that was made."""
        self.gone = 0
        """Connections that the other end has closed."""
        self.place = Place("127.0.0.1", 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self.says)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone += 1
            writer.close()


@asynccontextmanager
async def peer(says: bytes) -> AsyncIterator[Peer]:
    made = Peer(says)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.place = Place("127.0.0.1", server.sockets[0].getsockname()[1])
    async with server:
        yield made


async def fetch(lines: Lines, place: Place, size: int = len(BODY)) -> bytes:
    """One request."""
    line = await lines.take(place)
    status, told = await line.ask("/", [("range", "bytes=0-1")])
    assert (status, told["content-length"]) == (206, str(len(BODY)))
    came = b"".join([data async for data in line.body(size, 10.0)])
    lines.give_back(line)
    return came


async def until(what: Callable[[], bool]) -> None:
    for _ in range(5_000):
        if what():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it does not come")


def run(live: Live, says: bytes = GOOD) -> None:
    async def whole() -> None:
        lines = Lines(10.0)
        async with asyncio.timeout(60), peer(says) as made:
            await live(made, lines)
            lines.close()
            await until(lambda: made.gone == len(made.writers))

    asyncio.run(whole())


def test_the_next_request_goes_over_the_same_connection() -> None:
    async def live(made: Peer, lines: Lines) -> None:
        for _ in range(3):
            assert await fetch(lines, made.place) == BODY
        assert len(made.writers) == 1

    run(live)


def test_requests_at_once_have_a_connection_each() -> None:
    async def live(made: Peer, lines: Lines) -> None:
        assert await asyncio.gather(*(fetch(lines, made.place) for _ in range(3))) == [BODY] * 3
        assert len(made.writers) == 3
        await fetch(lines, made.place)
        assert len(made.writers) == 3

    run(live)


@pytest.mark.parametrize(
    "says", [GOOD.replace(b"\r\n", b"\r\nconnection: Close\r\n", 1), GOOD.replace(b"1.1", b"1.0", 1)]
)
def test_who_wants_to_close_is_not_asked_again(says: bytes) -> None:
    async def live(made: Peer, lines: Lines) -> None:
        for _ in range(2):
            assert await fetch(lines, made.place) == BODY
        assert len(made.writers) == 2

    run(live, says)


def test_a_connection_that_the_peer_has_closed_meanwhile_is_left() -> None:
    async def live(made: Peer, lines: Lines) -> None:
        await fetch(lines, made.place)
        made.writers[0].close()
        await until(lambda: made.gone == 1)
        await asyncio.sleep(0.05)  # its end has to get here
        assert await fetch(lines, made.place) == BODY
        assert len(made.writers) == 2

    run(live)


def test_a_connection_that_nobody_uses_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "IDLE_S", 0.01)

    async def live(made: Peer, lines: Lines) -> None:
        await asyncio.gather(fetch(lines, made.place), fetch(lines, made.place))
        await until(lambda: made.gone == 2)
        assert await fetch(lines, made.place) == BODY

    run(live)


def test_an_answer_that_was_not_read_to_its_end_spoils_no_other() -> None:
    async def live(made: Peer, lines: Lines) -> None:
        line = await lines.take(made.place)
        await line.ask("/", [])
        line.close()
        assert await fetch(lines, made.place) == BODY
        assert len(made.writers) == 2

    run(live)


@pytest.mark.parametrize(
    "says", [b"", b"no\r\n\r\n", b"HTTP/1.1 206 x\r\n" + b"a: b\r\n" * 3_000 + b"\r\n", b"HTTP/1.1 206 x\r\n" * 50_000]
)
def test_what_is_no_answer_is_lost(says: bytes) -> None:
    async def live(made: Peer, lines: Lines) -> None:
        line = await lines.take(made.place)
        if not says:
            await until(lambda: bool(made.writers))
            made.writers[0].close()
        with pytest.raises((LostError, ConnectionError)):
            await line.ask("/", [])
        line.close()

    run(live, says)


def test_a_body_that_ends_early_gives_what_came() -> None:
    came = bytearray()

    async def rest(line: Line) -> None:
        async for data in line.body(len(BODY) + 1, 10.0):
            came.extend(data)

    async def live(made: Peer, lines: Lines) -> None:
        line = await lines.take(made.place)
        await line.ask("/", [])
        reading = asyncio.ensure_future(rest(line))
        await until(lambda: len(came) == len(BODY))
        made.writers[0].close()
        with pytest.raises(LostError, match="1 bytes early"):
            await reading
        line.close()

    run(live)
    assert came == BODY


def test_who_does_not_take_the_call_is_lost() -> None:
    async def live() -> None:
        async with peer(b"") as made:
            place = made.place
        with pytest.raises(OSError):  # nobody listens there any more  # noqa: PT011
            await Lines(10.0).take(place)
        with pytest.raises(LostError):
            await Lines(10.0).take(Place("a..b", 1))

    asyncio.run(live())
