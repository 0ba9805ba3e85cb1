"""Connections that peers have dialled to give pieces over: HTTP with the roles of the two ends turned round.

Who dials asks for an upgrade, as "reverse HTTP" does (draft-lentczner-rhttp-00), and shows a broker's leave; the core
decides. From then on this node sends the requests, one after the other, and the peer answers as its transfer server
does. What is left here is what keeps a dead or idle one from holding a socket.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import h11

from edgecoder.core.effects import CloseChannel, TakeChannel
from edgecoder.core.giving import ChannelLost, ChannelOffered
from edgecoder.core.ids import ChannelId
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.bare.heads import HEAD_BYTES_MAX
from edgecoder_drivers.driver import Numbers, Post
from edgecoder_drivers.transfer import wire

READ_BYTES: Final = 65_536
REFUSAL_BYTES_MAX: Final = 16_384
IDLE_S: Final = 30.0
"""Nothing is asked for over one for so long: it is closed. Its sender has closed it in half of that, if it is well."""


class ChannelAnswer:
    """The answer to one request: what a peer needs of it."""

    def __init__(self, response: h11.Response, body: AsyncIterator[bytes]) -> None:
        self.status_code = response.status_code
        self.headers = {name.decode("ascii"): value.decode("latin-1") for name, value in response.headers}
        self._body = body

    def aiter_raw(self) -> AsyncIterator[bytes]:
        """The body, as it comes."""
        return self._body


class Channel:
    """One connection that the core has taken. Until its peer has been told so, requests wait."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        """`on_close` is called once."""
        self._sock: socket.socket | None = None
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._begun = asyncio.Event()
        self._turn = asyncio.Lock()
        self._is_open = True
        self._idle: asyncio.TimerHandle | None = None

    def begin(self, sock: socket.socket) -> None:
        """Its peer knows; from now on the socket is the channel's."""
        if not self._is_open:
            sock.close()
            return
        self._sock = sock
        self._begun.set()
        self._rest(sock)

    def close(self) -> None:
        """Ask for nothing more."""
        if self._is_open:
            self._is_open = False
            if self._sock is not None:
                self._wake(self._sock)
                self._sock.close()
            self._begun.set()
            self._on_close()

    def _rest(self, sock: socket.socket) -> None:
        """Nothing is asked for: whatever comes now is the end."""
        self._loop.add_reader(sock, self.close)
        self._idle = self._loop.call_later(IDLE_S, self.close)

    def _wake(self, sock: socket.socket) -> None:
        self._loop.remove_reader(sock)
        if self._idle is not None:
            self._idle.cancel()

    @asynccontextmanager
    async def ask(
        self, first_byte_s: float, silence_s: float, path: str, headers: dict[str, str]
    ) -> AsyncIterator[ChannelAnswer]:
        """Send a request when those before it have ended. Raises OSError, TimeoutError and h11.RemoteProtocolError. An
        answer that is not read to its end ends the connection, unless it is a refusal."""
        async with self._turn:
            await self._begun.wait()
            sock = self._sock
            if sock is None or not self._is_open:
                raise ConnectionResetError("the connection is gone")
            self._wake(sock)
            try:
                lines = [("host", "peer"), *headers.items()]
                request = self._http.send(h11.Request(method="GET", target=path, headers=lines))
                end = self._http.send(h11.EndOfMessage())
                async with asyncio.timeout(silence_s):
                    await self._loop.sock_sendall(sock, (request or b"") + (end or b""))
                event = await self._next(sock, first_byte_s)
                if not isinstance(event, h11.Response):
                    raise ConnectionResetError("no answer came")
                if event.status_code >= 400:
                    await self._skip(sock, silence_s)
                yield ChannelAnswer(event, self._body(sock, silence_s))
            finally:
                is_whole = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
                if is_whole and self._is_open:
                    self._http.start_next_cycle()
                    self._rest(sock)
                else:
                    self.close()

    async def _body(self, sock: socket.socket, silence_s: float) -> AsyncIterator[bytes]:
        while isinstance(event := await self._next(sock, silence_s), h11.Data):
            yield bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            raise ConnectionResetError("the answer has no end")

    async def _skip(self, sock: socket.socket, silence_s: float) -> None:
        """Read what a refusal says, which is little, so that others can be asked for over the connection."""
        left = REFUSAL_BYTES_MAX
        async for data in self._body(sock, silence_s):
            left -= len(data)
            if left < 0:
                raise ConnectionResetError("a refusal without an end")

    async def _next(self, sock: socket.socket, timeout_s: float) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        """The next of what comes, in time, and no more of a head than there may be."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(timeout_s):
                self._http.receive_data(await self._loop.sock_recv(sock, READ_BYTES))
        return event


class Offer:
    """One connection that waits for the core's word."""

    def __init__(self, channel: ChannelId) -> None:
        self.channel = channel
        self.answer: asyncio.Future[Channel | Reason] = asyncio.get_running_loop().create_future()
        """What becomes of it, or why nothing does."""


class Channels:
    """All that peers have offered to this node, in one life."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._offers: dict[ChannelId, Offer] = {}
        self._taken: dict[ChannelId, Channel] = {}
        self._post: Post = lambda event: None

    def open(self, post: Post) -> None:
        """A life begins."""
        self._post = post

    def close(self) -> None:
        """It is over."""
        for channel in list(self._taken.values()):
            channel.close()

    def get(self, channel: ChannelId) -> Channel | None:
        """One that was taken, and is up."""
        return self._taken.get(channel)

    def offer(self, shown: wire.Pass, entry: CatalogEntry) -> Offer:
        """Ask the core about one."""
        offer = Offer(self._numbers.next())
        self._offers[offer.channel] = offer
        self._post(ChannelOffered(offer.channel, shown.node, bytes.fromhex(entry.sha256), shown.ticket))
        return offer

    def leave(self, offer: Offer) -> None:
        """Who offered it is gone, or was told no."""
        self._offers.pop(offer.channel, None)

    def _lost(self, channel: ChannelId) -> None:
        del self._taken[channel]
        self._post(ChannelLost(channel))

    def take(self, effect: TakeChannel) -> None:
        """The core wants it."""
        offer = self._offers.pop(effect.channel, None)
        if offer is None:
            self._post(ChannelLost(effect.channel))
        else:
            channel = self._taken[effect.channel] = Channel(lambda: self._lost(effect.channel))
            offer.answer.set_result(channel)

    def refuse(self, effect: CloseChannel) -> None:
        """The core does not want it."""
        offer = self._offers.pop(effect.channel, None)
        if offer is not None:
            offer.answer.set_result(effect.reason)
