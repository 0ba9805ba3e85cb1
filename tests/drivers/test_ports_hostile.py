"""Clients of bad will at 4301, 4302 and 4303: a byte now and then, ten gigabytes, a handshake without end. Each is cut
off, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from edgecoder.protocol import FRAME_BYTES_MAX
from edgecoder_drivers.links import dial
from edgecoder_drivers.links.handshake import MESSAGE_BYTES_MAX
from edgecoder_drivers.links.server import listen
from tests.drivers.links_rig import HUB, dialled, greet, listening
from tests.drivers.mesh_rig import raw, run, until
from tests.drivers.ports import LONG_S, PORTS, TLS_PORTS, Port, leaving, opened, opened_tls, while_answering

TEN_GB = 10 << 30
MIB = bytes(1 << 20)
TAKEN_MIB_MAX = 64
"""What the systems of both ends may have taken before the end is seen; a body has 160 times as much."""
DROPS = 3_000
PAUSE_S = 0.02
HEAD = "{} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODIES = {
    "a length": "Content-Length: {size}\r\n\r\n",
    "no length and no end": "Transfer-Encoding: chunked\r\n\r\n",
    "a length, once it is let": "Content-Length: {size}\r\nExpect: 100-continue\r\n\r\n",
}
ASKED = ["POST /task", "GET /healthz", "POST /nothing", "PUT /blobs/sha256:" + "0" * 64]


async def drip(port: Port, first: bytes, rest: bytes) -> None:
    """Send something, then byte by byte the rest, until the other end has enough."""
    reader, writer = await port.connect()
    async with leaving(writer):
        writer.write(first)
        for byte in rest:
            if writer.transport.is_closing():
                return
            writer.write(bytes([byte]))
            with contextlib.suppress(TimeoutError, ConnectionError):
                await asyncio.wait_for(reader.read(4096), PAUSE_S)
            if reader.at_eof():
                await asyncio.sleep(PAUSE_S)
    raise AssertionError("it is still listened to")


async def flood(port: Port, head: bytes, blocks: Iterable[bytes]) -> int:
    """Send a body until the other end has enough. How many blocks went."""
    reader, writer = await port.connect()
    async with leaving(writer):
        writer.write(head)
        sent = 0
        with contextlib.suppress(ConnectionError):
            for block in blocks:
                writer.write(block)
                await writer.drain()
                if writer.transport.is_closing():
                    break
                sent += 1
                assert sent <= TAKEN_MIB_MAX, "all of it is taken"
                await asyncio.sleep(0)
        del reader
    return sent


SLOW = {
    "a request": (b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * DROPS),
    "empty lines": (b"", b"\r\n" * DROPS),
    "a body": (HEAD.format("POST /task").encode() + b"Content-Length: 9999\r\n\r\n{", b" " * DROPS),
    "chunks": (HEAD.format("POST /task").encode() + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * DROPS),
}


@pytest.mark.parametrize("what", SLOW)
@pytest.mark.parametrize("name", PORTS)
def test_a_byte_now_and_then_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, what: str) -> None:
    async def test() -> None:
        async with opened(name, tmp_path, monkeypatch) as port:
            assert await while_answering(port, drip(port, *SLOW[what]))

    run(test())


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", PORTS)
def test_ten_gigabytes_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str, asked: str
) -> None:
    """Also where nobody's time is short: it is the bytes that are too many."""
    head = (HEAD.format(asked) + BODIES[body].format(size=TEN_GB)).encode()
    block = MIB if "Content-Length" in BODIES[body] else b"100000\r\n%s\r\n" % MIB
    blocks = (block for _ in range(TEN_GB // len(MIB)))

    async def test() -> None:
        async with opened(name, tmp_path, monkeypatch, LONG_S) as port:

            async def hostile() -> None:
                await flood(port, head, blocks)

            assert await while_answering(port, hostile())

    run(test())


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)])
@pytest.mark.parametrize("name", TLS_PORTS)
def test_a_tls_handshake_without_end_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: Path, name: str, begun: bytes
) -> None:
    async def test() -> None:
        async with opened_tls(name, tmp_path, monkeypatch, certificate) as port:
            assert await while_answering(port, drip(port._replace(tls=None), begun, bytes(DROPS)))

    run(test())


@pytest.mark.parametrize("size", [MESSAGE_BYTES_MAX, FRAME_BYTES_MAX])
def test_a_frame_byte_by_byte_is_cut_off_before_the_handshake(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("edgecoder_drivers.links.server.HANDSHAKE_S", 2.0)
    run(_drip_a_frame(size, is_member=False))


def test_a_frame_byte_by_byte_is_cut_off_from_a_member_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot answer a ping meanwhile."""
    monkeypatch.setitem(dial.COMMON, "ping_interval", 0.3)
    monkeypatch.setitem(dial.COMMON, "ping_timeout", 0.3)
    run(_drip_a_frame(FRAME_BYTES_MAX, is_member=True))


async def _drip_a_frame(size: int, *, is_member: bool) -> None:
    frame = Frame(Opcode.BINARY, bytes(size)).serialize(mask=True)
    async with listening() as (port, links, _):
        async with dialled(port, ping_interval=None) as connection:
            if is_member:
                await greet(connection, HUB.node_id)
                await until(lambda: links.open_links)
            for byte in frame[:DROPS]:
                if connection.transport.is_closing():
                    break
                connection.transport.write(bytes([byte]))
                await asyncio.sleep(PAUSE_S)
            else:
                raise AssertionError("it is still listened to")
            connection.transport.abort()
        await until(lambda: not links.open_links)
        async with dialled(port) as other:
            await greet(other, HUB.node_id)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /mesh/capabilities HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 413),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10737418240\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 413),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1_000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
    ],
)
def test_what_a_coordinator_does_not_take_it_refuses_as_a_problem(request_: bytes, status: int) -> None:
    async def test() -> None:
        async with listening() as (port, _, _):
            got, kind, body = await raw(port, request_)
            assert (got, kind) == (status, "application/problem+json")
            assert b'"hint":"' in body

    run(test())


def test_an_answer_is_whole_however_slowly_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library waits for the end of a socket only so long, and counts from before the answer has left."""
    monkeypatch.setitem(dial.COMMON, "close_timeout", 0.05)
    page = bytes(24 << 10)

    async def shown(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": page})

    async def test() -> None:
        loop, listener = asyncio.get_running_loop(), listen("127.0.0.1", 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        async with listening(pages=shown, listener=listener) as (port, _, _):
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                client.setblocking(False)
                await loop.sock_connect(client, ("127.0.0.1", port))
                await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await asyncio.sleep(0.2)
                came = b""
                while data := await loop.sock_recv(client, 1024):
                    came += data
                assert came.endswith(b"\r\n\r\n" + page)

    run(test())
