"""An HTTP server on this machine that has one file, and may lie about it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple


class Request(NamedTuple):
    """What somebody asked for."""

    path: str
    headers: dict[str, str]

    @property
    def range(self) -> tuple[int, int] | None:
        """First and last byte."""
        found = self.headers.get("range")
        if found is None:
            return None
        first, _, last = found.removeprefix("bytes=").partition("-")
        return int(first), int(last)


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """See `serving`."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.port = 0
        self.scheme = "http"

    def url(self, path: str = "/model.gguf") -> str:
        return f"{self.scheme}://localhost:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head[1:] if line}
            request = Request(head[0].split(" ")[1], headers)
            self.requests.append(request)
            await self.answer(request, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server for as long as the block runs."""
    server = Server(answer)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    server.scheme = "http" if tls is None else "https"
    async with listening:
        yield server


def head(status: str, **headers: object) -> bytes:
    """The beginning of an answer."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", "connection: close", *lines, "", ""]).encode()


def has(data: bytes, tag: str = '"1"') -> Answer:
    """A server that does what it should."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.range is None or request.headers.get("if-range", tag) != tag:
            writer.write(head("200 OK", content_length=len(data), etag=tag) + data)
            return
        first, last = request.range
        if first >= len(data):
            writer.write(head("416 Range Not Satisfiable", content_range=f"bytes */{len(data)}", content_length=0))
            return
        part = data[first : last + 1]
        where = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        writer.write(head("206 Partial Content", content_range=where, content_length=len(part), etag=tag) + part)

    return answer


def says(answer: bytes) -> Answer:
    """A server that has one answer for everybody."""

    async def always(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return always
