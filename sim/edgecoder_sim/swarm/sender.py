"""The sending half of a connection: what waits to be sent, the quota for it, and the requests that are served.

Source: fill_send_buffer, setup_send, wanted_transfer, request_bandwidth and on_send_data of peer_connection.cpp in
libtorrent 2.1. All bytes need quota, those of the smallest message too, and go out in order.

Fidelity boundary: a write is done when its last byte has arrived, so that the network buffers nothing beyond it. A disk
read takes a fixed time and never fails. A seed does not hash what it sends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from edgecoder_sim.bandwidth import Flow, FlowNetwork
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.swarm.limiter import RateLimiter
from edgecoder_sim.swarm.messages import HEADER_BYTES, Kind, Message, ip_overhead
from edgecoder_sim.swarm.rates import Rate
from edgecoder_sim.swarm.settings import Settings, Torrent

DISK_READ_US: Final = 1000
"""One tick of the kernel (I): a block in the page cache takes a fraction of that."""

Arrived = Callable[[int, int, list[Message]], None]
"""Told, at the other end, of bytes that arrived, of those the bytes of blocks, and the messages that are whole now."""


class _Waiting:
    """A message in the send buffer, of which `left` bytes have not been sent."""

    __slots__ = ("block_bytes", "left", "message")

    def __init__(self, message: Message, size: int) -> None:
        self.message = message
        self.left = size
        self.block_bytes = 0


class Sender:
    """Sends over one connection, from node `src` to node `dst` of the network."""

    def __init__(
        self,
        kernel: Kernel,
        network: FlowNetwork,
        route: tuple[int, int],
        limiter: RateLimiter,
        settings: Settings,
        torrent: Torrent,
        arrived: Arrived,
    ) -> None:
        self._kernel = kernel
        self._network = network
        self._src, self._dst = route
        self._limiter = limiter
        self._settings = settings
        self._torrent = torrent
        self._arrived = arrived
        self._buffer: deque[_Waiting] = deque()
        self._buffered = 0
        self._reading = 0
        self._quota = 0
        self._waits_for_quota = False
        self._is_writing = False
        self._is_corked = False
        self.requests: deque[int] = deque()
        """Blocks that the other end has asked for and that were not read yet."""
        self.payload = Rate()
        self._protocol = Rate()
        self.overhead = Rate()
        """What is estimated for headers of packets, either way."""
        self._last_second = 0

    def send(self, kind: Kind, about: int = 0, extra_bytes: int = 0) -> None:
        """Queue a message."""
        size = HEADER_BYTES[kind] + extra_bytes
        self._buffer.append(_Waiting((kind, about), size))
        self._buffered += size
        self._pump()

    def serve(self, block: int) -> None:
        """Take a request."""
        self.requests.append(block)
        self.fill()

    def cork(self) -> None:
        """Send nothing until `uncork`."""
        self._is_corked = True

    def uncork(self) -> None:
        """Send what has gathered."""
        self._is_corked = False
        self._pump()

    def assign(self, quota_bytes: int) -> None:
        """The limiter gives what was asked for."""
        self._quota += quota_bytes
        self._waits_for_quota = False
        self._pump()

    def tick(self, passed_ms: int) -> None:
        """A second has passed."""
        self._last_second = self.payload.since_tick
        for rate in (self.payload, self._protocol, self.overhead):
            rate.tick(passed_ms)

    def fill(self) -> None:
        """Read blocks that were asked for, as far as the send buffer may grow."""
        settings = self._settings
        watermark = self._last_second * settings.send_buffer_watermark_percent // 100
        watermark = min(watermark, settings.send_buffer_watermark_bytes)
        watermark = max(watermark, settings.send_buffer_low_watermark_bytes)
        while self.requests and self._buffered + self._reading < watermark:
            block = self.requests.popleft()
            self._reading += self._torrent.block_bytes(block)
            self._kernel.call_at(self._kernel.now + DISK_READ_US, self._has_read, block)

    def _has_read(self, block: int, _: object) -> None:
        """Queue a block. Its header goes first, and asks for quota by itself."""
        size = self._torrent.block_bytes(block)
        self._reading -= size
        waiting = _Waiting((Kind.PIECE, block), HEADER_BYTES[Kind.PIECE])
        self._buffer.append(waiting)
        self._buffered += waiting.left
        self._pump()
        waiting.block_bytes = size
        waiting.left += size
        self._buffered += size
        self._pump()

    def _ask_for_quota(self) -> None:
        if self._waits_for_quota:
            return
        rate = self.payload.bytes_per_s + self._protocol.bytes_per_s + self.overhead.bytes_per_s
        wanted = max(self._reading, self._buffered, rate * 2 * self._settings.tick_interval_ms // 1000)
        if self._quota >= wanted:
            return
        granted = self._limiter.request(self, wanted - self._quota)
        self._quota += granted
        self._waits_for_quota = not granted

    def _pump(self) -> None:
        if not self._buffer:
            return
        self._ask_for_quota()
        size = min(self._buffered, self._quota)
        if self._is_writing or self._is_corked or size == 0:
            return
        self._is_writing = True
        self._network.start(self._src, self._dst, size, self._has_written)

    def _has_written(self, flow: Flow) -> None:
        size = flow.size_bytes
        block_bytes, messages = self._cut(size)
        self._is_writing = False
        self._buffered -= size
        self._quota -= size
        self.payload.add(block_bytes)
        self._protocol.add(size - block_bytes)
        self.overhead.add(ip_overhead(size))
        self.fill()
        self._pump()
        self._arrived(size, block_bytes, messages)

    def _cut(self, size: int) -> tuple[int, list[Message]]:
        """Take bytes from the front of the buffer: how many were of blocks, and the messages that ended in them."""
        block_bytes = 0
        messages = []
        while size:
            waiting = self._buffer[0]
            taken = min(size, waiting.left)
            before = min(waiting.left, waiting.block_bytes)
            waiting.left -= taken
            block_bytes += before - min(waiting.left, waiting.block_bytes)
            size -= taken
            if not waiting.left:
                messages.append(waiting.message)
                self._buffer.popleft()
        return block_bytes, messages
