"""Dialling a receiver that cannot dial this node: it is offered the connection, and its requests are served over that.

What the core says is done: whom, where, and with which leave. Other servers than a transfer server may be at the
address, so nothing is taken for consent but the upgrade that was asked for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Final

import h11

from edgecoder.core.effects import DialPeer, Effect, Operation
from edgecoder.core.events import Completion
from edgecoder.core.giving import PeerDialled
from edgecoder.core.ids import NodeId
from edgecoder.errors import Reason
from edgecoder_drivers.bare.heads import HEAD_BYTES_MAX
from edgecoder_drivers.bare.server import prepare
from edgecoder_drivers.driver import Operate, Perform, Post, Refused
from edgecoder_drivers.transfer import wire
from edgecoder_drivers.transfer.server import TransferServer

READ_BYTES: Final = 16_384


class Dialler:
    """See `driver.Driver`. It dials for one node."""

    def __init__(self, node: NodeId, server: TransferServer) -> None:
        """`server` serves whoever takes a connection."""
        self._node = node
        self._server = server

    def open(self, post: Post) -> None:
        """See `driver.Driver`: it has nothing to say unasked."""

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`."""
        return {DialPeer: self._dial}

    def effects(self) -> Mapping[type[Effect], Perform]:
        """See `driver.Driver`."""
        return {}

    async def close(self) -> None:
        """See `driver.Driver`: what it opened is the server's."""

    async def _dial(self, effect: DialPeer) -> Completion:
        """Carry one out. Raises Refused. The core says how long it may take."""
        place = wire.endpoint_of(effect.endpoint)
        if place is None:
            raise Refused(Reason.PEER_LOST, f"{effect.endpoint!r} is no address of a peer")
        host, port = place
        if not self._server.has_room(host):
            raise Refused(Reason.BUSY)
        try:
            sock = await _connect(host, port)
            try:
                received = await self._offer(sock, effect)
                has_room = await self._server.make_room(host)
            except BaseException:
                sock.close()
                raise
        except (OSError, UnicodeError, h11.RemoteProtocolError) as error:  # a name may be none
            raise Refused(Reason.PEER_LOST, f"{effect.endpoint}: {error}") from error
        if not has_room:
            sock.close()
            raise Refused(Reason.BUSY)
        self._server.serve(sock, host, received)
        return PeerDialled(effect.op)

    async def _offer(self, sock: socket.socket, effect: DialPeer) -> bytes:
        """Offer the connection; what came behind the consent. Raises Refused, OSError, h11.RemoteProtocolError."""
        loop = asyncio.get_running_loop()
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        headers = [
            ("host", effect.endpoint),
            ("connection", "upgrade"),
            ("upgrade", wire.REVERSE),
            ("authorization", wire.write_pass(self._node, effect.ticket)),
        ]
        request = http.send(h11.Request(method="GET", target=wire.offer_path(effect.file), headers=headers))
        await loop.sock_sendall(sock, (request or b"") + (http.send(h11.EndOfMessage()) or b""))
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(await loop.sock_recv(sock, READ_BYTES))
        if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
            return http.trailing_data[0]
        headers_said = dict(event.headers) if isinstance(event, h11.Response) else {}
        raise Refused(wire.reason_of(headers_said.get(wire.REASON.encode(), b"").decode("latin-1")))


async def _connect(host: str, port: int) -> socket.socket:
    """A connection to one of the addresses of a host. Raises OSError."""
    loop, error = asyncio.get_running_loop(), OSError("it has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        prepare(sock)
        try:
            await loop.sock_connect(sock, address)
        except OSError as failed:
            sock.close()
            error = failed
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise error
