"""The server's end of one connection without a node, and a stranger at the other end."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from edgecoder.core.effects import RefusePiece, ServePiece
from edgecoder.core.events import Event
from edgecoder.core.giving import AskWithdrawn, PieceAsked
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder.wire.messages import Ticket
from edgecoder_drivers.bare.pace import Pace
from edgecoder_drivers.driver import Numbers, Refused
from edgecoder_drivers.transfer import wire
from edgecoder_drivers.transfer.channels import Channels
from edgecoder_drivers.transfer.connection import Connection, House, Limits
from edgecoder_drivers.transfer.desk import Desk
from tests.drivers.sources import bytes_of, made

FILE = made("served", 9 * 16_384 + 77, tree=True, piece_size_bytes=4 * 16_384)
DATA = bytes_of("served", FILE.file_size_bytes)
HASHES = b"".join(leaf_hashes(DATA))
RECEIVER = bytes([2]) * 32
TICKET = Ticket(bytes([4]) * 32, 7, 1_900_000_000_000, bytes([5]) * 64)
PASS = wire.write_pass(RECEIVER, TICKET)
HAVE = 0b111


class Answer(NamedTuple):
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes


class Room:
    """What the server's connections share, with a core that gives everything, or what a test says. A `Files`."""

    def __init__(self, path: Path, limits: Limits, kbit_per_s: int = 0) -> None:
        self.path = path
        numbers = Numbers()
        self.desk, self.channels = Desk(numbers), Channels(numbers)
        self.heard: list[PieceAsked | AskWithdrawn] = []
        self.ended: list[Reason | None] = []
        """How each sending ended."""
        self.refuses: Reason | None = None
        self.is_mute = False
        self.have = HAVE
        self.lost: Refused | None = None
        """Why there is nothing here after all."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.desk.open(self._post)
        self.house = House(self.desk, Pace(kbit_per_s), limits, self, {FILE.sha256: FILE}.get, self.channels)

    async def bytes_at(self, entry: CatalogEntry) -> Path:
        assert entry is FILE
        if self.lost is not None:
            raise self.lost
        return self.path

    async def hashes_of(self, entry: CatalogEntry) -> bytes:
        await self.bytes_at(entry)
        return HASHES

    def _post(self, event: Event) -> None:
        assert isinstance(event, PieceAsked | AskWithdrawn), event
        self.heard.append(event)
        if isinstance(event, PieceAsked) and not self.is_mute:
            asyncio.get_running_loop().call_soon(self._answer, event)

    def _answer(self, event: PieceAsked) -> None:
        if self.refuses is not None:
            self.desk.refuse(RefusePiece(event.request, self.refuses, self.have))
            return
        effect = ServePiece(event.request, event.request, FILE, event.piece, event.first_leaf, self.have, event.wanted)
        task = asyncio.get_running_loop().create_task(self._serve(effect))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, effect: ServePiece) -> None:
        try:
            await self.desk.serve(effect)
        except Refused as refused:
            self.ended.append(refused.reason)
        else:
            self.ended.append(None)

    async def quiet(self) -> None:
        """Until nothing is sent any more."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def stop(self) -> None:
        """The node ends."""
        for task in self._tasks:
            task.cancel()

    async def hears(self) -> None:
        """Until something was asked for."""
        for _ in range(2_000):
            if self.heard:
                return
            await asyncio.sleep(0.002)
        raise AssertionError("nobody asks")

    @property
    def asked(self) -> list[tuple[int, int]]:
        """Pieces and leaves."""
        return [(event.piece, event.first_leaf) for event in self.heard if isinstance(event, PieceAsked)]


class Stranger:
    """Who is at the other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, served: asyncio.Task[None]) -> None:
        self.reader, self.writer, self.served = reader, writer, served

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    def ask(self, *, method: str = "GET", path: str | None = None, **headers: str | None) -> None:
        """A request, with a ticket unless `authorization` is another or None."""
        shown: dict[str, str | None] = {"host": "here", "authorization": PASS, **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in shown.items() if value is not None]
        first = f"{method} {path or wire.path_of(FILE)} HTTP/1.1"
        self.say("\r\n".join([first, *lines, "", ""]).encode("latin-1"))

    async def answer(self, *, is_head: bool = False) -> Answer:
        """The next answer. Raises IncompleteReadError where it breaks off."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        found = re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", first)
        assert found is not None, head
        headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
        size = 0 if is_head else int(headers["content-length"])
        return Answer(int(found[1]), headers, await self.reader.readexactly(size))

    async def get(self, **more: str | None) -> Answer:
        self.ask(**more)  # type: ignore[arg-type]
        return await self.answer(is_head=more.get("method") == "HEAD")

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        return await self.reader.read()


@asynccontextmanager
async def visiting(room: Room) -> AsyncIterator[Stranger]:
    """A connection for as long as the block runs."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = Connection(ours, room.house)
    served = asyncio.get_running_loop().create_task(connection.run())
    reader, writer = await asyncio.open_connection(sock=theirs)
    try:
        yield Stranger(reader, writer, served)
    finally:
        writer.close()
        await asyncio.wait({served}, timeout=2)
        connection.drop()
        await asyncio.wait({served})
        await room.quiet()
        if not served.cancelled():
            assert served.exception() is None
