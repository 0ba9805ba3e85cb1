"""One connection of the transfer server: a request after the other, each put to the core, its bytes by `sendfile`.

Here is what a stranger may not do: send a slow or long head, or a body; ask for what has no address; read slowly, or
not at all. What it asks for piece by piece, or all at once, is put to the core piece by piece.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol, cast

import h11
import msgspec

from edgecoder.core.effects import ServePiece
from edgecoder.core.ids import Wanted
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.seeding.losses import SLOWEST_BYTES_PER_S
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.transfer import wire
from edgecoder_drivers.transfer.desk import Ask, Desk
from edgecoder_drivers.transfer.pace import Pace

READ_BYTES: Final = 16_384
ALLOWED: Final = (b"GET", b"HEAD")
CLOSE: Final = ("connection", "close")
"""Who shows no good ticket has to come again: so each of its tickets costs it a connection."""
_MORE: Final = getattr(socket, "MSG_MORE", 0)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a stranger may take."""

    connections_max: int = 256
    """At once; where there are so many, one that asks for nothing makes room for the next."""
    per_address_max: int = 64
    """Of one address, but for this machine's own. An office behind one address has as many."""
    head_s: float = 10.0
    """From the first byte of a request to the end of its head."""
    idle_s: float = 15.0
    """Between requests."""
    answer_s: float = 600.0
    """Until the core has said something: longer than any receiver waits."""
    stall_s: float = 10.0
    """For one part to leave, beside the time that it takes at"""
    slowest_bytes_per_s: int = SLOWEST_BYTES_PER_S
    """the slowest rate for which receivers wait."""


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


class _Rejected(Exception):
    """A request that gets no bytes."""

    def __init__(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


class _BrokenError(Exception):
    """Nothing sensible can be said to the other end any more."""


class _Counted:
    """Stands for bytes that `sendfile` sends, where h11 counts them."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


def _reject(status: int, code: str, title: str, hint: str, *headers: tuple[str, str]) -> _Rejected:
    return _Rejected(status, wire.problem_of(status, code, title, hint), *headers)


class Connection:
    """A stranger."""

    def __init__(self, sock: socket.socket, house: House) -> None:
        self._sock = sock
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=wire.HEAD_BYTES_MAX)
        self._task: asyncio.Task[Any] | None = None
        self._has_body = True
        """Whether answers have a body; those to HEAD have none."""
        self.is_idle = True
        """Whether it has asked for nothing."""

    async def run(self) -> None:
        """Until either end has enough."""
        self._task = asyncio.current_task()
        try:
            while (request := await self._request()) is not None:
                await self._answer(request)
                if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    return
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._complain(error)
        except (_BrokenError, OSError):
            return
        finally:
            self._sock.close()

    def drop(self) -> None:
        """End it now."""
        if self._task is not None:
            self._task.cancel()

    # -- what comes ----------------------------------------------------------------------------------------------------

    async def _request(self) -> h11.Request | None:
        """The next request, which has no body; None where the other end has gone, or takes too long."""
        limits, loop, request = self._house.limits, self._loop, None
        self.is_idle = True
        try:
            async with asyncio.timeout(limits.idle_s) as due:
                while True:
                    event = self._http.next_event()
                    if event is h11.NEED_DATA:
                        if self._http.they_are_waiting_for_100_continue:
                            raise h11.RemoteProtocolError("a body is announced", error_status_hint=413)
                        data = await loop.sock_recv(self._sock, READ_BYTES)
                        if self.is_idle and data:
                            self.is_idle = False
                            due.reschedule(loop.time() + limits.head_s)
                        self._http.receive_data(data)
                    elif isinstance(event, h11.Request):
                        self.is_idle, request = False, event
                    elif isinstance(event, h11.EndOfMessage):
                        return request
                    elif isinstance(event, h11.Data):
                        raise h11.RemoteProtocolError("no body is taken", error_status_hint=413)
                    else:
                        return None
        except TimeoutError:
            return None

    async def _decision(self, ask: Ask) -> None:
        """Wait for the core. Raises _BrokenError where who asked goes away meanwhile."""
        gone: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._sock, self._look, gone)
        try:
            either: set[asyncio.Future[Any]] = {ask.answer, gone}
            await asyncio.wait(either, timeout=self._house.limits.answer_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._loop.remove_reader(self._sock)
        if not ask.answer.done():
            raise _BrokenError

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

    # -- what goes -----------------------------------------------------------------------------------------------------

    async def _answer(self, request: h11.Request) -> None:
        self._has_body = request.method != b"HEAD"
        try:
            asked = self._read(request)
            if not self._has_body:
                await self._tell(asked)
            elif asked.is_hashes:
                await self._give_hashes(asked)
            else:
                await self._give_bytes(asked)
        except _Rejected as rejected:
            await self._refuse(rejected)

    def _read(self, request: h11.Request) -> _Asked:
        """What a request asks for. Raises _Rejected."""
        headers = dict(request.headers.raw_items())
        said = {name.lower(): value.decode("latin-1") for name, value in headers.items()}
        target = wire.target_of(request.target)
        if target is None:
            raise _reject(404, "not_found", "there is nothing at this address", "ask for /blobs/sha256:<hex>")
        if request.method not in ALLOWED:
            raise _reject(405, "method_not_allowed", "only GET and HEAD", "ask with GET", ("allow", "GET, HEAD"))
        shown = wire.read_pass(said.get(b"authorization"))
        if shown is None:
            challenge, hint = ("www-authenticate", wire.SCHEME), "ask the file's broker for one"
            raise _reject(401, "ticket_required", "no ticket came along", hint, challenge, CLOSE)
        entry = self._house.find(target.sha256)
        if entry is None or not entry.piece_root:
            raise _refused(Reason.NOT_HELD)
        size = wire.size_of(entry.layout, is_hashes=target.is_hashes)
        wished = said.get(b"range") if said.get(b"if-range", _tag(entry)) == _tag(entry) else None
        span = wire.range_of(wished, size)
        if span is None:
            where = ("content-range", f"bytes */{size}")
            raise _reject(416, "range", "there are no such bytes", "ask for one range within the file", where)
        is_part = wished is not None and wished.startswith("bytes=")
        return _Asked(entry, target.is_hashes, shown, span, is_part)

    async def _ask(self, asked: _Asked, wanted: Wanted, at: int = 0) -> tuple[Ask, ServePiece]:
        """Put something to the core, which wants it given. Raises _Rejected, _BrokenError."""
        desk, layout = self._house.desk, asked.entry.layout
        piece, leaf = wire.place_of(layout, at) if wanted is Wanted.BYTES else (0, 0)
        ask = desk.ask(asked.shown, asked.entry, wanted, piece, leaf, self.drop)
        try:
            await self._decision(ask)
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
        self._http.send(h11.EndOfMessage())

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
            while hashes:
                part = hashes[: self._house.pace.part_bytes]
                async with self._part(len(part)):
                    await self._loop.sock_sendall(self._sock, part)
                hashes = hashes[len(part) :]
        self._http.send(h11.EndOfMessage())

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
            except _Rejected:
                if at > span.start:  # the head has been sent
                    raise _BrokenError from None
                raise
            at = end
        self._http.send(h11.EndOfMessage())

    async def _send_file(self, file: BinaryIO | FileIO, at: int, end: int) -> None:
        if hasattr(os, "posix_fadvise"):  # `sendfile` would wait for the disk, and the loop with it
            with contextlib.suppress(OSError):
                os.posix_fadvise(file.fileno(), at, end - at, os.POSIX_FADV_WILLNEED)
        while at < end:
            size = min(self._house.pace.part_bytes, end - at)
            async with self._part(size):
                if await self._loop.sock_sendfile(self._sock, file, at, size) != size:
                    raise OSError(errno.EIO, "the file is too short")
            at += size

    @contextlib.asynccontextmanager
    async def _part(self, size: int) -> AsyncIterator[None]:
        """A part leaves: in its turn, and in time."""
        await self._house.pace.take(size)
        self._http.send_with_data_passthrough(h11.Data(data=cast("bytes", _Counted(size))))
        limits = self._house.limits
        async with asyncio.timeout(limits.stall_s + size / limits.slowest_bytes_per_s):
            yield

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

    async def _refuse(self, rejected: _Rejected, *more: tuple[str, str]) -> None:
        headers = [
            ("content-type", "application/problem+json"),
            ("content-length", str(len(rejected.body))),
            *rejected.headers,
            *more,
        ]
        await self._send(h11.Response(status_code=rejected.status, headers=headers))
        if self._has_body:
            await self._send(h11.Data(data=rejected.body))
        self._http.send(h11.EndOfMessage())

    async def _complain(self, error: h11.RemoteProtocolError) -> None:
        """Say what is wrong with what came, if there is somebody to hear it."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        rejected = _reject(error.error_status_hint, "bad_request", "this is no request", "ask with GET, without a body")
        with contextlib.suppress(OSError, TimeoutError, h11.LocalProtocolError):
            await self._refuse(rejected, CLOSE)

    async def _send(self, event: h11.Event, *, more: bool = False) -> None:
        """Send something small; `more` follows at once, and may leave in one packet with it."""
        data = self._http.send(event) or b""
        with contextlib.suppress(BlockingIOError):
            data = data[self._sock.send(data, _MORE if more else 0) :]
        if data:
            async with asyncio.timeout(self._house.limits.stall_s):
                await self._loop.sock_sendall(self._sock, data)


def _tag(entry: CatalogEntry) -> str:
    return f'"sha256:{entry.sha256}"'


def _refused(reason: Reason, *headers: tuple[str, str]) -> _Rejected:
    """A refusal by the core."""
    status, body = wire.problem_of_reason(reason)
    more = (CLOSE,) if reason is Reason.NO_TICKET else ()
    return _Rejected(status, body, (wire.REASON, reason.value), *headers, *more)


@contextlib.contextmanager
def _had(ask: Ask) -> Iterator[None]:
    """What the core wants given is looked for; where it is not there after all, who asked may ask others. Raises
    _Rejected."""
    try:
        yield
    except (OSError, Refused) as error:
        ask.failed(error.reason if isinstance(error, Refused) else Reason.STORE_FAILED)
        raise _refused(Reason.NOT_HELD) from error


def _why(error: OSError) -> Reason:
    if isinstance(error, TimeoutError):
        return Reason.TOO_SLOW
    return Reason.PEER_LOST if isinstance(error, ConnectionError) else Reason.STORE_FAILED
