"""Sockets to the port of a coordinator, well-behaved up to where a test wants them not to be."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from edgecoder.core.events import Event
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder_drivers.identity import Identity
from edgecoder_drivers.links.address import PATH
from edgecoder_drivers.links.driver import LinksDriver
from edgecoder_drivers.links.handshake import NONCE_BYTES, WELCOME, Caller, Guest, Self
from edgecoder_drivers.links.server import LinksServer, listen
from tests.drivers.mesh_rig import identity

A, HUB = identity(1), identity(9)


def uri(port: int, path: str = PATH) -> str:
    return f"ws://127.0.0.1:{port}{path}"


@asynccontextmanager
async def dialled(port: int, **how: Any) -> AsyncIterator[ClientConnection]:
    """A socket that has said nothing yet."""
    async with connect(uri(port), proxy=None, compression=None, close_timeout=1, max_size=None, **how) as connection:
        yield connection


async def greet(connection: ClientConnection, wanted: bytes, key: Identity = A, role: Role = Role.AGENT) -> None:
    """A handshake as it should be."""
    caller = Caller(Self(key, role, "edgecoder"), wanted, secrets.token_bytes(NONCE_BYTES), b"")
    await connection.send(caller.hello())
    challenge = await connection.recv()
    assert isinstance(challenge, bytes)
    proof, _ = caller.prove(challenge)
    await connection.send(proof)
    assert await connection.recv() == WELCOME


async def closed(connection: ClientConnection) -> int:
    """The code with which the other end closes, after whatever it still says."""
    try:
        while True:
            await asyncio.wait_for(connection.recv(), 20)
    except ConnectionClosed as end:
        return end.rcvd.code if end.rcvd is not None else 1006


class Post:
    """Takes the events of a driver."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.dropped: list[tuple[str, Reason]] = []

    def drop(self, what: str, reason: Reason) -> None:
        self.dropped.append((what, reason))

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Anybody:
    """A door that is open."""

    def admits(self, guest: Guest) -> bool:  # noqa: ARG002
        return True


@asynccontextmanager
async def listening(
    links_max: int = 100, pages: ASGIApp | None = None, listener: socket.socket | None = None
) -> AsyncIterator[tuple[int, LinksDriver, Post]]:
    """A server without a core behind it, and without pages unless a test gives some."""
    post = Post()
    links = LinksDriver(
        Self(HUB, Role.COORDINATOR, "edgecoder"), lambda public: public, dropped=post.drop, links_max=links_max
    )
    links.open(post.events.append)

    async def no_page(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    at = listener or listen("127.0.0.1", 0)
    serving = LinksServer(links, Anybody(), pages or no_page, at, links_max=links_max, dropped=post.drop)
    await serving.start()
    try:
        yield serving.port, links, post
    finally:
        await serving.stop()
        await links.close()
