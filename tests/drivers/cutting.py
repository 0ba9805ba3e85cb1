"""A wire between two processes that can be cut: a TCP relay on loopback.

What is cut is closed at both ends. What is stalled stays open, and nothing passes: a network that went away without a
word.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

CHUNK_BYTES = 65_536


class _Wire:
    """One connection through a relay."""

    def __init__(self, writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.writers = writers
        self.flows = asyncio.Event()
        self.flows.set()

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.flows.set()  # into nothing


class Relay:
    """Passes on what comes to its port, to another."""

    def __init__(self, towards: int) -> None:
        self.towards = towards
        self.port = 0
        self.wires: set[_Wire] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen from now on."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Cut everything."""
        assert self._server is not None
        self._server.close()
        while self.wires:
            for wire in tuple(self.wires):
                wire.cut()
            await asyncio.sleep(0.01)
        await self._server.wait_closed()

    def cut(self, share: float, rng: random.Random) -> int:
        """Cut some of the wires; how many."""
        chosen = [wire for wire in tuple(self.wires) if rng.random() < share]
        for wire in chosen:
            wire.cut()
        return len(chosen)

    def stall(self, share: float, rng: random.Random) -> int:
        """Let nothing pass over some of the wires that there are, until they are gone; how many."""
        chosen = [wire for wire in self.wires if rng.random() < share]
        for wire in chosen:
            wire.flows.clear()
        return len(chosen)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.towards)
        except OSError:
            writer.transport.abort()
            return
        wire = _Wire((writer, other_writer))
        self.wires.add(wire)
        ways = [asyncio.ensure_future(_pass(wire, *way)) for way in ((reader, other_writer), (other_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.wires.discard(wire)
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            wire.cut()


async def _pass(wire: _Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            await wire.flows.wait()
            writer.write(data)
            await writer.drain()
