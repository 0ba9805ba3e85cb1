"""The end that dials, up to the point where it knows who is there; and how sockets are, at both ends."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus, WebSocketException

from edgecoder.core.ids import NodeId
from edgecoder.errors import Reason
from edgecoder.protocol import FRAME_BYTES_MAX
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.links.address import PATH, is_at_home, is_loopback
from edgecoder_drivers.links.handshake import NONCE_BYTES, REASONS_BY_CODE, Caller, Peer, Self, Unwelcome
from edgecoder_drivers.links.tls import binding_of, client_context

CONNECT_S: Final = 10.0
HANDSHAKE_S: Final = 10.0
PING_S: Final = 20.0
"""A link is pinged so often; without an answer within as long again it is gone. NATs forget after 30 s at the least."""
CLOSE_S: Final = 2.0
COMMON: Final[dict[str, Any]] = {
    "compression": None,
    "max_size": FRAME_BYTES_MAX,
    "max_queue": 4,
    "open_timeout": CONNECT_S,
    "ping_interval": PING_S,
    "ping_timeout": PING_S,
    "close_timeout": CLOSE_S,
}
"""How sockets are. Envelopes are small and signed: compression would cost more than it saves."""


async def reach(host: str, port: int) -> Connection:
    """A socket to a coordinator. Off this machine with TLS; on it without, unless the other end wants it. Raises
    Refused."""
    name = f"[{host}]" if ":" in host else host
    is_near = is_loopback(host)
    proxy: Literal[True] | None = None if is_at_home(host) else True
    for is_secure in (False, True) if is_near else (True,):
        options: dict[str, Any] = {"ssl": _tls()} if is_secure else {}
        uri = f"{'wss' if is_secure else 'ws'}://{name}:{port}{PATH}"
        try:
            return await connect(uri, proxy=proxy, user_agent_header=None, **COMMON, **options)
        except InvalidMessage:  # no HTTP: it may be TLS
            if is_secure:
                raise Refused(Reason.BAD_FRAME, f"no coordinator at {host}:{port}") from None
        except InvalidStatus as error:
            status = error.response.status_code
            reason = Reason.OVERFLOW if status == 503 else Reason.BAD_FRAME
            raise Refused(reason, f"{host}:{port} answers {status}") from None
        except (OSError, TimeoutError, WebSocketException, ImportError) as error:  # a SOCKS proxy needs a package more
            raise Refused(Reason.PEER_LOST, f"{host}:{port}: {str(error) or type(error).__name__}") from None
    raise AssertionError("the last try returns or raises")


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return client_context()


async def challenged(
    connection: Connection, me: Self, wanted: NodeId, tokens: Sequence[str] = ()
) -> tuple[bytes, Peer]:
    """What to say next, and who is there. Raises Unwelcome."""
    socket = connection.transport.get_extra_info("ssl_object")
    binding = b"" if socket is None else binding_of(socket.getpeercert(binary_form=True))
    caller = Caller(me, wanted, secrets.token_bytes(NONCE_BYTES), binding, tokens)
    await connection.send(caller.hello())
    return caller.prove(await binary(connection))


async def binary(connection: Connection) -> bytes:
    """The next message of a handshake. Raises Unwelcome."""
    message = await connection.recv()
    if not isinstance(message, bytes):
        raise Unwelcome(Reason.BAD_FRAME, "text")
    return message


def as_refused(error: BaseException, where: str) -> BaseException:
    """What ended a handshake, as the core knows it."""
    if isinstance(error, Unwelcome):
        return Refused(error.reason, f"{where}: {error}")
    if isinstance(error, TimeoutError):
        return Refused(Reason.NO_ANSWER, where)
    if isinstance(error, ConnectionClosed):
        code = error.rcvd.code if error.rcvd is not None else 0
        detail = error.rcvd.reason if error.rcvd is not None else "closed"
        reason = REASONS_BY_CODE.get(code, Reason.PEER_LOST)
        return Refused(reason, f"{where}: {detail}")
    return error


async def close(connection: Connection) -> None:
    """Say good-bye; whoever does not answer soon is cut off."""
    try:
        async with asyncio.timeout(2 * CLOSE_S):  # a full socket would take no good-bye
            await connection.close()
    except TimeoutError:
        connection.transport.abort()
    except BaseException:
        connection.transport.abort()
        raise
