"""One connection of the transfer server: each request is put to the core, its bytes leave by `sendfile`.

What it asks for piece by piece, or all at once, is put to the core piece by piece. Who shows no good ticket has to come
again: so each of its tickets costs it a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import h11

from edgecoder.core.effects import ServePiece
from edgecoder.core.ids import Wanted
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.bare import connection
from edgecoder_drivers.bare.connection import CLOSE, BareConnection, BrokenError, Rejected, reject
from edgecoder_drivers.bare.heads import range_of
from edgecoder_drivers.bare.pace import Pace
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.transfer import wire
from edgecoder_drivers.transfer.channels import Channels
from edgecoder_drivers.transfer.desk import Ask, Desk

ALLOWED: Final = (b"GET", b"HEAD")


class Limits(connection.Limits, frozen=True, kw_only=True):
    """What a stranger may take."""

    answer_s: float = 600.0
    """Until the core has said something: longer than any receiver waits."""


class Files(Protocol):
    """Where the bytes are."""

    async def bytes_at(self, entry: CatalogEntry) -> Path:
        """Where a file lies that is here, whole or in parts. Raises Refused (not_held, checksum_mismatch)."""
        ...

    async def hashes_of(self, entry: CatalogEntry) -> bytes:
        """The SHA-256 of each leaf of a file of which there are pieces, one after the other. Raises Refused (not_held,
        store_failed)."""
        ...


class House(NamedTuple):
    """What all connections of a server share."""

    desk: Desk
    pace: Pace
    limits: Limits
    files: Files
    find: Callable[[str], CatalogEntry | None]
    """A file of the catalog, by its SHA-256."""
    channels: Channels
    """What peers offer to this node."""


class _Asked(NamedTuple):
    """A request that is one."""

    entry: CatalogEntry
    is_hashes: bool
    shown: wire.Pass
    span: range
    is_part: bool

    @property
    def size(self) -> int:
        return wire.size_of(self.entry.layout, is_hashes=self.is_hashes)


class Connection(BareConnection):
    """A stranger who asks for pieces."""

    def __init__(self, sock: socket.socket, house: House, received: bytes = b"") -> None:
        """`received` came before it was one."""
        super().__init__(sock, house.limits, house.pace, received)
        self._house = house

    async def _decision(self, answer: asyncio.Future[Any]) -> None:
        """Wait for the core. Raises BrokenError where who asked goes away meanwhile."""
        gone: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._sock, self._look, gone)
        try:
            either: set[asyncio.Future[Any]] = {answer, gone}
            await asyncio.wait(either, timeout=self._house.limits.answer_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._loop.remove_reader(self._sock)
        if not answer.done():
            raise BrokenError

    def _look(self, gone: asyncio.Future[None]) -> None:
        """Something came while nothing should, the end or the next request; that waits for its turn."""
        try:
            data = self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._loop.remove_reader(self._sock)
        if not data and not gone.done():
            gone.set_result(None)

    async def _answer(self, request: h11.Request) -> None:
        """See `BareConnection`."""
        offered = wire.offer_of(request.target)
        if offered is not None:
            await self._take_offer(request, offered)
            return
        asked = self._read(request)
        if not self._has_body:
            await self._tell(asked)
        elif asked.is_hashes:
            await self._give_hashes(asked)
        else:
            await self._give_bytes(asked)

    async def _take_offer(self, request: h11.Request, sha256: str) -> None:
        """Put a connection that is offered to the core; where it is taken the socket is a channel's from then on.
        Raises Rejected, BrokenError, OSError."""
        said = {name: value.decode("latin-1") for name, value in request.headers}
        if request.method != b"GET" or said.get(b"upgrade", "").lower() != wire.REVERSE:
            title, hint = "here connections are offered", f"ask for an upgrade to {wire.REVERSE}"
            raise reject(426, "upgrade_required", title, hint, ("upgrade", wire.REVERSE), CLOSE)
        shown = wire.read_pass(said.get(b"authorization"))
        if shown is None:
            challenge, hint = ("www-authenticate", wire.SCHEME), "show the broker's leave"
            raise reject(401, "ticket_required", "no leave to offer came along", hint, challenge, CLOSE)
        entry = self._house.find(sha256)
        if entry is None:
            raise _refused(Reason.NO_TICKET)
        channels = self._house.channels
        offer = channels.offer(shown, entry)
        try:
            await self._decision(offer.answer)
        finally:
            channels.leave(offer)
        channel = offer.answer.result()
        if isinstance(channel, Reason):
            status, body = wire.problem_of_reason(channel)
            raise Rejected(status, body, (wire.REASON, channel.value), CLOSE)
        try:
            headers = [("connection", "upgrade"), ("upgrade", wire.REVERSE)]
            await self._send(h11.InformationalResponse(status_code=101, headers=headers))
        except BaseException:
            channel.close()
            raise
        channel.begin(self._give_away())

    def _read(self, request: h11.Request) -> _Asked:
        """What a request asks for. Raises Rejected."""
        headers = dict(request.headers.raw_items())
        said = {name.lower(): value.decode("latin-1") for name, value in headers.items()}
        target = wire.target_of(request.target)
        if target is None:
            raise reject(404, "not_found", "there is nothing at this address", "ask for /blobs/sha256:<hex>")
        if request.method not in ALLOWED:
            raise reject(405, "method_not_allowed", "only GET and HEAD", "ask with GET", ("allow", "GET, HEAD"))
        shown = wire.read_pass(said.get(b"authorization"))
        if shown is None:
            challenge, hint = ("www-authenticate", wire.SCHEME), "ask the file's broker for one"
            raise reject(401, "ticket_required", "no ticket came along", hint, challenge, CLOSE)
        entry = self._house.find(target.sha256)
        if entry is None or not entry.piece_root:
            raise _refused(Reason.NOT_HELD)
        size = wire.size_of(entry.layout, is_hashes=target.is_hashes)
        wished = said.get(b"range") if said.get(b"if-range", _tag(entry)) == _tag(entry) else None
        span = range_of(wished, size)
        if span is None:
            where = ("content-range", f"bytes */{size}")
            raise reject(416, "range", "there are no such bytes", "ask for one range within the file", where)
        is_part = wished is not None and wished.startswith("bytes=")
        return _Asked(entry, target.is_hashes, shown, span, is_part)

    async def _ask(self, asked: _Asked, wanted: Wanted, at: int = 0) -> tuple[Ask, ServePiece]:
        """Put something to the core, which wants it given. Raises Rejected, BrokenError."""
        desk, layout = self._house.desk, asked.entry.layout
        piece, leaf = wire.place_of(layout, at) if wanted is Wanted.BYTES else (0, 0)
        ask = desk.ask(asked.shown, asked.entry, wanted, piece, leaf, self.drop)
        try:
            await self._decision(ask.answer)
        except BaseException:
            desk.leave(ask)
            raise
        answer = ask.answer.result()
        if not isinstance(answer, ServePiece):
            have = (wire.HAVE, wire.write_have(answer.have, layout.piece_count))
            raise _refused(answer.reason, *([have] if answer.have else []))
        return ask, answer

    async def _tell(self, asked: _Asked) -> None:
        ask, answer = await self._ask(asked, Wanted.NOTHING)
        with self._giving(ask):
            await self._begin(asked, answer)
        self._end()

    @contextlib.contextmanager
    def _giving(self, ask: Ask) -> Iterator[None]:
        """The core hears how it ends."""
        try:
            yield
            ask.done()
        except OSError as error:
            ask.failed(_why(error))
            raise
        finally:
            self._house.desk.leave(ask)

    async def _give_hashes(self, asked: _Asked) -> None:
        ask, answer = await self._ask(asked, Wanted.HASHES)
        with self._giving(ask):
            with _had(ask):
                hashes = memoryview(await self._house.files.hashes_of(asked.entry))[asked.span.start : asked.span.stop]
            await self._begin(asked, answer)
            await self._send_bytes(hashes)
        self._end()

    async def _give_bytes(self, asked: _Asked) -> None:
        span, layout = asked.span, asked.entry.layout
        at = span.start
        while at < span.stop:
            try:
                ask, answer = await self._ask(asked, Wanted.BYTES, at)
                with self._giving(ask):
                    with _had(ask):
                        path = await self._house.files.bytes_at(asked.entry)
                        file = path.open("rb", buffering=0)
                    with file:
                        if at == span.start:
                            await self._begin(asked, answer)
                        end = min(span.stop, layout.piece_offset(answer.piece) + layout.piece_bytes(answer.piece))
                        await self._send_file(file, at, end)
            except Rejected:
                if at > span.start:  # the head has been sent
                    raise BrokenError from None
                raise
            at = end
        self._end()

    async def _begin(self, asked: _Asked, answer: ServePiece) -> None:
        span = asked.span
        headers = [
            ("content-type", "application/octet-stream"),
            ("content-length", str(len(span))),
            ("accept-ranges", "bytes"),
            ("etag", _tag(asked.entry)),
            (wire.HAVE, wire.write_have(answer.have, asked.entry.layout.piece_count)),
        ]
        if asked.is_part:
            headers.append(("content-range", f"bytes {span.start}-{span.stop - 1}/{asked.size}"))
        response = h11.Response(status_code=206 if asked.is_part else 200, headers=headers)
        await self._send(response, more=self._has_body)


def _tag(entry: CatalogEntry) -> str:
    return f'"sha256:{entry.sha256}"'


def _refused(reason: Reason, *headers: tuple[str, str]) -> Rejected:
    """A refusal by the core."""
    status, body = wire.problem_of_reason(reason)
    more = (CLOSE,) if reason is Reason.NO_TICKET else ()
    return Rejected(status, body, (wire.REASON, reason.value), *headers, *more)


@contextlib.contextmanager
def _had(ask: Ask) -> Iterator[None]:
    """What the core wants given is looked for; where it is not there after all, who asked may ask others. Raises
    Rejected."""
    try:
        yield
    except (OSError, Refused) as error:
        ask.failed(error.reason if isinstance(error, Refused) else Reason.STORE_FAILED)
        raise _refused(Reason.NOT_HELD) from error


def _why(error: OSError) -> Reason:
    if isinstance(error, TimeoutError):
        return Reason.TOO_SLOW
    return Reason.PEER_LOST if isinstance(error, ConnectionError) else Reason.STORE_FAILED
