"""The driver of links: sockets whose other end is known, each with a bounded queue of envelopes that wait to be sent.

It dials coordinators, takes the sockets that a server hands over, and carries envelopes both ways, one binary message
each. What is sent to a link whose queue is full is dropped and counted. A reader who takes nothing for `STALL_S` is cut
off, and so is one who sends what no envelope can be. From a socket no more is read while too many events wait for the
core, and then its sender waits: nobody fills this node's memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from edgecoder.core.effects import DialCoordinator, Disconnect, Effect, Operation, Send
from edgecoder.core.events import Completion, Connected, FrameReceived, LinkDown, LinkUp
from edgecoder.core.ids import LinkId, Medium, NodeId, Role
from edgecoder.errors import Reason
from edgecoder_drivers.driver import Operate, Perform, Post, Refused
from edgecoder_drivers.links.address import split
from edgecoder_drivers.links.dial import HANDSHAKE_S, as_refused, binary, challenged, close, reach
from edgecoder_drivers.links.handshake import WELCOME, Peer, Self, Unwelcome

_log = structlog.get_logger("edgecoder.links")
STALL_S: Final = 20.0
QUEUE_FRAMES_MAX: Final = 256
QUEUE_BYTES_MAX: Final = 4 << 20
WHERE_CHARS_MAX: Final = 64
PER_PEER_MAX: Final = 2
"""Links of one node: a new one and the one that it may have lost without this end having noticed."""


class _Open:
    """A link that is up."""

    def __init__(self, link: LinkId, connection: Connection, peer: Peer) -> None:
        self.link = link
        self.connection = connection
        self.peer = peer
        self.queue: deque[bytes] = deque()
        self.queued_bytes = 0
        self.news = asyncio.Event()
        self.is_closing = False
        """Whether this end wants it closed."""

    def put(self, frame: bytes) -> bool:
        """Queue a frame; False where there is no room."""
        if len(self.queue) >= QUEUE_FRAMES_MAX or self.queued_bytes + len(frame) > QUEUE_BYTES_MAX:
            return False
        self.queue.append(frame)
        self.queued_bytes += len(frame)
        self.news.set()
        return True

    def finish(self) -> None:
        """Close when what was queued has been sent."""
        self.is_closing = True
        self.news.set()


class LinksDriver:
    """See `driver.Driver`."""

    def __init__(
        self,
        me: Self,
        know: Callable[[bytes], object],
        *,
        tokens: Sequence[str] = (),
        dropped: Callable[[str, Reason], None] = lambda what, reason: None,
        links_max: int = 64,
    ) -> None:
        """`know` takes the public key of a peer before its first envelope; `dropped` is told of what had no room;
        `tokens` let this node join coordinators that do not know it."""
        self.me = me
        self._know = know
        self._tokens = tokens
        self._dropped = dropped
        self._links_max = links_max
        self._post: Post = lambda event: None
        self.room: Callable[[], Awaitable[None]] = _no_wait
        """Waits until the core has room for more events."""
        self.open_links: dict[LinkId, _Open] = {}
        self._by_peer: dict[NodeId, list[_Open]] = {}
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    # -- driver.Driver -------------------------------------------------------------------------------------------------

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""
        self._post = post

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`."""
        return {DialCoordinator: self._dial}

    def effects(self) -> Mapping[type[Effect], Perform]:
        """See `driver.Driver`."""
        return {Send: self._send, Disconnect: self._disconnect}

    async def close(self) -> None:
        """See `driver.Driver`: say good-bye on every link, but wait for nobody long."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # -- links ---------------------------------------------------------------------------------------------------------

    async def carry(self, connection: Connection, peer: Peer) -> None:
        """Carry envelopes over a socket whose other end is known, until it closes. What a server calls for each."""
        link = self._admit(connection, peer)
        if link is not None:
            await self._carry(link)

    def count_of(self, role: Role) -> int:
        """Links to nodes of a role."""
        return sum(1 for link in self.open_links.values() if link.peer.role is role)

    @property
    def is_full(self) -> bool:
        """Whether there are as many links as there may be."""
        return len(self.open_links) >= self._links_max

    def _admit(self, connection: Connection, peer: Peer) -> _Open | None:
        """A link for a socket, and the core's word of it; None where there are too many."""
        same = self._by_peer.get(peer.node, [])
        if len(same) >= PER_PEER_MAX:
            same[0].connection.transport.abort()
        if self.is_full:
            self._dropped("link", Reason.OVERFLOW)
            return None
        try:
            self._know(peer.public)
        except ValueError:
            self._dropped("key", Reason.OVERFLOW)
            return None
        self._count += 1
        link = self.open_links[self._count] = _Open(self._count, connection, peer)
        self._by_peer.setdefault(peer.node, []).append(link)
        is_wide = peer.role is Role.COORDINATOR and self.me.role is Role.COORDINATOR
        medium = Medium.WAN if is_wide else Medium.LAN
        where = connection.remote_address
        host = str(where[0])[:WHERE_CHARS_MAX] if where else ""
        self._post(LinkUp(link.link, medium, peer=peer.node, role=peer.role, where=host))
        return link

    async def _carry(self, link: _Open) -> None:
        writing = asyncio.create_task(self._write(link), name=f"edgecoder link {link.link}")
        lost = True
        try:
            await self._read(link)
        except ConnectionClosed as closed:
            lost = not link.is_closing and closed.rcvd is None
        finally:
            self._forget(link)
            self._post(LinkDown(link.link, lost=lost))
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({writing})
                await close(link.connection)

    def _forget(self, link: _Open) -> None:
        del self.open_links[link.link]
        same = self._by_peer[link.peer.node]
        same.remove(link)
        if not same:
            del self._by_peer[link.peer.node]

    async def _read(self, link: _Open) -> None:
        while True:
            message = await link.connection.recv()
            if not isinstance(message, bytes):
                await link.connection.close(1003, "binary messages only")
                return
            self._post(FrameReceived(link.link, message))
            await self.room()

    async def _write(self, link: _Open) -> None:
        connection = link.connection
        try:
            while True:
                while link.queue:
                    frame = link.queue.popleft()
                    link.queued_bytes -= len(frame)
                    async with asyncio.timeout(STALL_S):
                        await connection.send(frame)
                if link.is_closing:
                    await connection.close()
                    return
                link.news.clear()
                await link.news.wait()
        except TimeoutError:
            self._dropped("slow reader", Reason.OVERFLOW)
            connection.transport.abort()
        except ConnectionClosed:
            pass  # the reader sees it too
        except Exception:  # noqa: BLE001 - a link that cannot send must not look as if it were up
            _log.exception("link failed", link=link.link)
            connection.transport.abort()

    def _send(self, effect: Send) -> None:
        link = self.open_links.get(effect.link)
        frame = effect.frame
        assert isinstance(frame, bytes), "a node with a real key seals bytes"
        if link is not None and not link.is_closing and not link.put(frame):
            self._dropped("frame", Reason.OVERFLOW)

    def _disconnect(self, effect: Disconnect) -> None:
        link = self.open_links.get(effect.link)
        if link is not None:
            link.finish()

    # -- dialling ------------------------------------------------------------------------------------------------------

    async def _dial(self, effect: DialCoordinator) -> Completion:
        try:
            host, port = split(effect.endpoint)
        except ValueError as error:
            raise Refused(Reason.INVALID, str(error)) from None
        connection = await reach(host, port)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                peer = await self._greet(connection, effect.coordinator)
            link = self._admit(connection, peer)
        except (Unwelcome, TimeoutError, ConnectionClosed, asyncio.CancelledError) as error:
            await close(connection)
            raise as_refused(error, f"{host}:{port}") from None
        if link is None:
            await close(connection)
            raise Refused(Reason.OVERFLOW, "too many links")
        task = asyncio.create_task(self._carry(link), name=f"edgecoder link {link.link}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Connected(effect.op, link.link)

    async def _greet(self, connection: Connection, wanted: NodeId) -> Peer:
        proof, peer = await challenged(connection, self.me, wanted, self._tokens)
        await connection.send(proof)
        if await binary(connection) != WELCOME:
            raise Unwelcome(Reason.BAD_FRAME, "no welcome")
        return peer


async def _no_wait() -> None:
    pass
