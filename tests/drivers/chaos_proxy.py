"""A network of bad will between two sockets of this machine: a TCP proxy that delays, throttles, falls silent, cuts
off, half-closes, turns bits and refuses.

What happens, and when, is drawn from a seed: one stream of random numbers for each connection and direction, so that
what befalls one connection does not depend on what others do. How bytes fall into reads is the system's, so two runs
need not be the same to the byte. All faults can be changed while it runs; `budget` bounds how often it strikes.

Fidelity boundary: it acts on streams, not on packets. A bit that it turns is one that TCP's checksum has let pass, as
broken routers and memories do; packets that are lost, late or out of order show as delay, which is all that a socket
sees of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

READ_BYTES: Final = 16_384


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What a network does. The default does nothing."""

    delay_s: tuple[float, float] = (0.0, 0.0)
    """How long each read waits, drawn between the two."""
    bytes_per_s: float = 0.0
    """Of each direction of each connection; 0 is no limit."""
    is_mute: bool = False
    """Nothing passes, and connections stay: a cable that was pulled."""
    refuses: float = 0.0
    """The share of connections that end before a byte has passed."""
    cut_bytes: int = 0
    """A connection is reset after so many bytes of a direction, on average; 0: never."""
    half_bytes: int = 0
    """A direction ends after so many bytes, on average, while the other goes on."""
    flip_bytes: int = 0
    """A bit is turned after so many bytes, on average."""


class Counts:
    """What it has done."""

    def __init__(self) -> None:
        self.connections = self.passed_bytes = self.refused = self.cut = self.halved = self.flipped = 0

    @property
    def strikes(self) -> int:
        """How often it did harm."""
        return self.refused + self.cut + self.halved + self.flipped


class _Pipe:
    """One connection: both directions, and how each is to fare."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.ends = (near, far)

    def reset(self) -> None:
        """End it at once, at both ends."""
        for end in self.ends:
            sock = end.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):  # it is closed already
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.transport.abort()


class ChaosProxy:
    """See the module."""

    def __init__(self, target: int, faults: Faults, rng_seed: int, budget: int | None = None) -> None:
        """`target` is a port of this machine."""
        self.target = target
        self.counts = Counts()
        self._faults = faults
        self._rng_seed = rng_seed
        self._budget = budget
        self._pipes: dict[_Pipe, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def faults(self) -> Faults:
        """What it does now."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        self._changed.set()
        self._changed = asyncio.Event()

    def cut(self) -> None:
        """Reset all connections that there are."""
        for pipe in tuple(self._pipes):
            self.counts.cut += 1
            pipe.reset()

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def close(self) -> None:
        """End everything."""
        assert self._server is not None
        self._server.close()
        for pipe in tuple(self._pipes):
            pipe.reset()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    def _may_strike(self) -> bool:
        return self._budget is None or self.counts.strikes < self._budget

    def _stream(self, number: int, direction: str) -> random.Random:
        return random.Random(f"{self._rng_seed}/{number}/{direction}")

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        number = self.counts.connections = self.counts.connections + 1
        if self._may_strike() and self._stream(number, "opens").random() < self._faults.refuses:
            self.counts.refused += 1
            near.transport.abort()
            return
        try:
            from_far, far = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            near.transport.abort()
            return
        pipe = _Pipe(near, far)
        self._pipes[pipe] = None
        directions = [
            asyncio.ensure_future(self._pump(pipe, reader, far, self._stream(number, "up"))),
            asyncio.ensure_future(self._pump(pipe, from_far, near, self._stream(number, "down"))),
        ]
        try:
            await asyncio.wait(directions)
        finally:
            pipe.reset()
            for direction in directions:
                direction.cancel()
            await asyncio.wait(directions)
            del self._pipes[pipe]

    async def _pump(
        self, pipe: _Pipe, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: random.Random
    ) -> None:
        """One direction, until it ends."""
        flip, cut, half = (_Countdown(rng) for _ in range(3))
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(READ_BYTES):
                await self._wait(len(data), rng)
                size, faults, may_strike = len(data), self._faults, self._may_strike()
                if flip.is_due(size, faults.flip_bytes) and may_strike:
                    self.counts.flipped += 1
                    data = _flipped(data, rng)
                is_cut = cut.is_due(size, faults.cut_bytes) and may_strike
                is_halved = half.is_due(size, faults.half_bytes) and may_strike and not is_cut
                if is_cut or is_halved:
                    data = data[: rng.randrange(size + 1)]
                writer.write(data)
                await writer.drain()
                self.counts.passed_bytes += len(data)
                self.counts.cut += is_cut
                self.counts.halved += is_halved
                if is_cut:
                    pipe.reset()
                if is_cut or is_halved:
                    break
            writer.write_eof()
            while await reader.read(READ_BYTES):
                pass  # what comes on a direction that was ended goes nowhere

    async def _wait(self, size: int, rng: random.Random) -> None:
        """For as long as these bytes are on their way."""
        while self._faults.is_mute:
            await self._changed.wait()
        faults = self._faults
        wait_s = rng.uniform(*faults.delay_s) + (size / faults.bytes_per_s if faults.bytes_per_s else 0.0)
        if wait_s:
            await asyncio.sleep(wait_s)


class _Countdown:
    """Bytes up to the next strike of one fault."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._left: float | None = None

    def is_due(self, size: int, mean: int) -> bool:
        """Whether it strikes within these bytes, where it does so every `mean` ones; 0: never."""
        if not mean:
            self._left = None
            return False
        if self._left is None:
            self._left = self._rng.expovariate(1 / mean)
        self._left -= size
        if self._left > 0:
            return False
        self._left = None
        return True


def _flipped(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


@asynccontextmanager
async def between(
    target: int, faults: Faults | None = None, rng_seed: int = 1, budget: int | None = None
) -> AsyncIterator[ChaosProxy]:
    """A proxy for as long as the block runs; `target` may be set later."""
    proxy = ChaosProxy(target, faults or Faults(), rng_seed, budget)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
