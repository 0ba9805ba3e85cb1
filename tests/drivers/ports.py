"""The three ports of the mesh, each with a real node behind it, to be asked by clients of bad will."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from edgecoder.models.catalog import Catalog
from edgecoder_drivers.http.connection import Limits as ControlLimits
from edgecoder_drivers.links import dial, server
from edgecoder_drivers.links.tls import client_context
from edgecoder_drivers.transfer import wire
from edgecoder_drivers.transfer.connection import Limits as TransferLimits
from tests.drivers.control import controlled
from tests.drivers.mesh_rig import coordinator
from tests.drivers.transfer_rig import DATA, FILE, place, real_giver

SHORT_S: Final = 2.0
LONG_S: Final = 600.0
"""What a stranger gets of each kind of time: so little that a test sees it end, or so much that it does not."""
RECEIVER: Final = bytes([2]) * 32


class Port(NamedTuple):
    """A port that listens."""

    number: int
    asks: bytes
    """A request that is answered, up to the end of its head."""
    is_answer: Callable[[bytes], bool]
    """Whether a whole answer is the one to that request."""
    tls: ssl.SSLContext | None = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection, through its TLS handshake where there is TLS."""
        return await asyncio.open_connection("127.0.0.1", self.number, ssl=self.tls)

    async def answers(self) -> bool:
        """Whether somebody who asks as one should is answered."""
        reader, writer = await self.connect()
        async with leaving(writer):
            writer.write(self.asks)
            return self.is_answer(await reader.read())


@asynccontextmanager
async def leaving(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """The client's end of a connection, for as long as the block runs."""
    try:
        yield
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


def _is_ok(answer: bytes) -> bool:
    return answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 206 "))


@asynccontextmanager
async def _coordinator(
    folder: Path, patch: pytest.MonkeyPatch, patience_s: float, *, is_tls: bool
) -> AsyncIterator[Port]:
    patch.setitem(dial.COMMON, "open_timeout", patience_s)
    patch.setattr(server, "CONNECT_S", patience_s)
    patch.setattr(server, "HANDSHAKE_S", patience_s)
    async with coordinator(folder, host="0.0.0.0" if is_tls else "127.0.0.1") as hub:
        asks = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        yield Port(hub.port, asks, _is_ok, client_context() if is_tls else None)


@asynccontextmanager
async def _control(folder: Path, patience_s: float, certificate: Path | None = None) -> AsyncIterator[Port]:
    limits = ControlLimits(request_s=patience_s, taking_s=patience_s)
    tls = None if certificate is None else ssl.create_default_context(cafile=certificate)
    if tls is not None:
        tls.check_hostname = False
    async with controlled(folder, certificate=certificate, limits=limits) as control:
        asks = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        yield Port(control.port, asks, _is_ok, tls)


@asynccontextmanager
async def _transfer(folder: Path, patience_s: float) -> AsyncIterator[Port]:
    place(folder, FILE)
    limits = TransferLimits(head_s=patience_s, idle_s=patience_s, stall_s=patience_s)
    async with real_giver(folder, Catalog((FILE,)), limits=limits) as giver:
        shown = wire.write_pass(RECEIVER, giver.ticket(RECEIVER, FILE))
        lines = [f"GET {wire.path_of(FILE)} HTTP/1.1", "Host: here", f"Authorization: {shown}", "Connection: close"]
        yield Port(giver.server.port, "\r\n".join([*lines, "", ""]).encode(), lambda said: said.endswith(DATA))


PORTS: Final = ("4301", "4302", "4303")
TLS_PORTS: Final = ("4301", "4302")


@asynccontextmanager
async def opened(
    name: str, folder: Path, patch: pytest.MonkeyPatch, patience_s: float = SHORT_S
) -> AsyncIterator[Port]:
    """One of `PORTS`."""
    made = {
        "4301": lambda: _coordinator(folder, patch, patience_s, is_tls=False),
        "4302": lambda: _control(folder, patience_s),
        "4303": lambda: _transfer(folder, patience_s),
    }
    async with made[name]() as port:
        yield port


@asynccontextmanager
async def opened_tls(name: str, folder: Path, patch: pytest.MonkeyPatch, certificate: Path) -> AsyncIterator[Port]:
    """One of `TLS_PORTS`, with TLS, whose handshakes have a short time too."""
    patch.setattr("asyncio.constants.SSL_HANDSHAKE_TIMEOUT", SHORT_S)
    made = {
        "4301": lambda: _coordinator(folder, patch, SHORT_S, is_tls=True),
        "4302": lambda: _control(folder, SHORT_S, certificate),
    }
    async with made[name]() as port:
        yield port


async def while_answering(port: Port, hostile: Awaitable[None]) -> int:
    """How often others were answered while somebody did this; each time they were."""
    doing, answered = asyncio.ensure_future(hostile), 0
    try:
        while not doing.done():
            assert await port.answers()
            answered += 1
        await doing
    finally:
        doing.cancel()
        await asyncio.wait({doing})
    return answered
