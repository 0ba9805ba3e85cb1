"""The end that is dialled: one port for links and for pages.

A request for `PATH` becomes a WebSocket and must prove who it is within `HANDSHAKE_S`; any other request goes to an
ASGI application and gets one answer. Requests with a body are refused unread, and a socket that does not come to a
request, or does not take the answer, is closed after `CONNECT_S`.
"""

from __future__ import annotations

import asyncio
import http
import secrets
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import structlog
from starlette.types import ASGIApp, Message
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from edgecoder.errors import ConfigError, Reason
from edgecoder.protocol import FRAME_BYTES_MAX
from edgecoder_drivers.links.address import PATH
from edgecoder_drivers.links.dial import CLOSE_S, COMMON, CONNECT_S, HANDSHAKE_S, binary
from edgecoder_drivers.links.driver import LinksDriver
from edgecoder_drivers.links.handshake import CLOSE_CODES, NONCE_BYTES, WELCOME, Answerer, Door, Peer, Unwelcome
from edgecoder_drivers.links.refusing import Requests, refusal

GREETINGS_MAX: Final = 1024
"""Handshakes under way at once; who comes then is told to come back later."""
WAITING_MAX: Final = 1024
"""Connections that the system keeps until they are taken: all members may come at once."""
STRANGERS_MAX: Final = 512
"""Sockets beside the links: requests for pages, and those that have not come to one yet."""
UNREAD_BYTES_MAX: Final = 1 << 20
"""What may still come of a body after it was refused, so that its sender hears that it was."""
_log = structlog.get_logger("edgecoder.links")


class _Sockets:
    """How many are open, and how many may be."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = 0


class _Counted(ServerConnection):
    """A socket that is closed at once where there are too many, and soon where its request was refused."""

    sockets: _Sockets

    def __init__(self, protocol: ServerProtocol, server: Server, **options: Any) -> None:
        """What the library gives, but with our own words for refusals."""
        super().__init__(Requests(max_size=FRAME_BYTES_MAX, logger=protocol.logger), server, **options)
        self._unread_bytes = 0

    def data_received(self, data: bytes) -> None:
        """What follows on an answer is not read."""
        super().data_received(data)
        if self.protocol.eof_sent and self.protocol.state is State.CONNECTING:
            self._unread_bytes += len(data)
            if self._unread_bytes > UNREAD_BYTES_MAX:
                self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.sockets.open += 1
        if self.sockets.open > self.sockets.most:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.sockets.open -= 1
        super().connection_lost(exc)


class LinksServer:
    """Listens for nodes that dial."""

    def __init__(
        self,
        links: LinksDriver,
        door: Door,
        pages: ASGIApp,
        listening: socket.socket,
        *,
        tls: tuple[ssl.SSLContext, bytes] | None = None,
        links_max: int = 20_000,
        dropped: Callable[[str, Reason], None] = lambda what, reason: None,
    ) -> None:
        """`tls` is a context and what handshakes are bound to."""
        self._links = links
        self._door = door
        self._pages = pages
        self._socket = listening
        self._tls: ssl.SSLContext | None = None if tls is None else tls[0]
        self._binding = b"" if tls is None else tls[1]
        self._dropped = dropped
        self._greetings = 0
        self._server: Server | None = None
        sockets = {"sockets": _Sockets(links_max + STRANGERS_MAX)}
        self._connection: type[ServerConnection] = type("_CountedHere", (_Counted,), sockets)
        self.port: int = listening.getsockname()[1]

    async def start(self) -> None:
        """Listen from now on."""
        options: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls, "ssl_handshake_timeout": CONNECT_S}
        self._server = await serve(
            self._link,
            sock=self._socket,
            process_request=self._request,
            server_header=None,
            create_connection=self._connection,
            **COMMON,
            **options,
        )

    async def stop(self) -> None:
        """Take no more, and say good-bye to everybody."""
        if self._server is not None:
            server = self._server
            server.close(code=1001)
            closing = asyncio.ensure_future(server.wait_closed())
            await asyncio.wait({closing}, timeout=2 * CLOSE_S)
            for connection in list(server.all_connections):  # who reads nothing hears no good-bye
                connection.transport.abort()
            await closing
        self._socket.close()

    # -- links ---------------------------------------------------------------------------------------------------------

    async def _link(self, connection: ServerConnection) -> None:
        self._greetings += 1
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                peer = await self._greet(connection)
        except Unwelcome as unwelcome:
            await self._refuse(connection, unwelcome.reason, str(unwelcome))
            return
        except TimeoutError:
            await self._refuse(connection, Reason.NO_ANSWER, "too slow")
            return
        except ConnectionClosed:
            return
        finally:
            self._greetings -= 1
        await self._links.carry(connection, peer)

    async def _greet(self, connection: ServerConnection) -> Peer:
        answerer = Answerer(self._links.me, secrets.token_bytes(NONCE_BYTES), self._binding)
        await connection.send(answerer.challenge(await binary(connection)))
        if self._links.is_full:
            raise Unwelcome(Reason.OVERFLOW, "come back later")
        guest = answerer.guest(await binary(connection))
        if not await asyncio.to_thread(self._door.admits, guest):
            raise Unwelcome(Reason.UNKNOWN_SENDER, f"{guest.peer.node.hex()} is not enrolled here")
        await connection.send(WELCOME)
        return guest.peer

    async def _refuse(self, connection: ServerConnection, reason: Reason, detail: str) -> None:
        self._dropped("handshake", reason)
        _log.info("refused", reason=reason.value, detail=detail, address=str(connection.remote_address))
        await connection.close(CLOSE_CODES[reason], detail[:120])

    # -- pages ---------------------------------------------------------------------------------------------------------

    async def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        path, _, query = request.path.partition("?")
        headers = request.headers
        if path == PATH and "Origin" not in headers and headers.get("Upgrade", "").lower() == "websocket":
            is_full = self._greetings >= GREETINGS_MAX
            return refusal(http.HTTPStatus.SERVICE_UNAVAILABLE) if is_full else None
        connection.transport.set_write_buffer_limits(high=0)  # `close_timeout` begins when all has left
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http" if self._tls is None else "https",
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers.raw_items()
            ],
            "client": connection.remote_address[:2],
            "server": connection.local_address[:2],
        }
        return await _answer(self._pages, scope)


async def _answer(app: ASGIApp, scope: dict[str, Any]) -> Response:
    """What an application answers to a request without a body."""
    status, headers, body = 500, Headers(), bytearray()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            for name, value in message.get("headers", ()):
                headers[name.decode("latin-1")] = value.decode("latin-1")
        else:
            body.extend(message.get("body", b""))

    await app(scope, receive, send)
    headers["Connection"] = "close"
    if "content-length" not in headers:
        headers["Content-Length"] = str(len(body))
    phrase = http.HTTPStatus(status).phrase if status in http.HTTPStatus._value2member_map_ else ""
    return Response(status, phrase, headers, b"" if scope["method"] == "HEAD" else bytes(body))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ConfigError where there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(WAITING_MAX)
    except OSError as error:
        listening.close()
        hint = "another coordinator may be running; stop it, or choose another port with --port"
        raise ConfigError("--port", None, f"{host}:{port}: {error.strerror}", hint) from None
    listening.setblocking(False)
    return listening
