"""An origin on loopback: one file over HTTP by ranges, its leaf hashes beside it, and an uplink that all share."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import time
from collections.abc import AsyncIterator
from typing import Final

from benchmarks.socket_setup import SetUp
from edgecoder.models.catalog import CatalogEntry, Platform
from edgecoder.seeding.merkle import Rows, leaf_hashes
from edgecoder.seeding.pieces import layout_of
from edgecoder_drivers.addresses import LEAVES

MODEL: Final = "release"
_TARGET: Final = re.compile(r"GET (\S+) HTTP/1\.1")
_RANGE: Final = re.compile(r"range: bytes=(\d+)-(\d+)", re.IGNORECASE)
PART_S: Final = 1 / 16
"""What leaves in one go is what the uplink takes in so long."""
LOOK_S: Final = 0.01


class Release:
    """The file that all want."""

    def __init__(self, set_up: SetUp) -> None:
        self.data = random.Random(set_up.content_seed).randbytes(set_up.file_size_bytes)
        hashes = list(leaf_hashes(self.data))
        self.leaves = b"".join(hashes)
        layout = layout_of(set_up.file_size_bytes, set_up.piece_size_bytes)
        self._root = Rows(hashes, 0, layout.tree_height).root.hex()
        self._piece_size_bytes = set_up.piece_size_bytes

    def entry(self, url: str) -> CatalogEntry:
        """Its row in a catalog."""
        return CatalogEntry(
            model_id=MODEL,
            display_name="A release",
            param_size=1.0,
            quantization="Q4_K_M",
            file_size_bytes=len(self.data),
            sha256=hashlib.sha256(self.data).hexdigest(),
            min_memory_mb=64,
            platforms=(Platform.IOS, Platform.NODE),
            download_urls=(url,),
            piece_root=self._root,
            piece_size_bytes=self._piece_size_bytes,
        )


class Origin:
    """A running origin. What it gives at once is served in turn, a part of each after a part of the other, and no byte
    is there before its uplink can have brought it: after a rest nothing leaves faster."""

    def __init__(self, release: Release, bytes_per_s: int) -> None:
        self._files = {f"/{MODEL}": release.data, f"/{MODEL}{LEAVES}": release.leaves}
        self._bytes_per_s = bytes_per_s
        self._free_s = 0.0
        """When the uplink has sent all that was to be sent so far."""
        self.sent_bytes = 0
        """Of bodies."""
        self.url = ""

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """It answers as long as the block runs."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{MODEL}"
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                await self._answer((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"), writer)
        writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> None:
        target, span = _TARGET.match(head), _RANGE.search(head)
        data = self._files.get(target[1]) if target is not None else None
        if data is None or span is None:
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        first, end = int(span[1]), min(int(span[2]) + 1, len(data))
        where = f"content-range: bytes {first}-{end - 1}/{len(data)}\r\ncontent-length: {end - first}\r\n\r\n"
        writer.write(b"HTTP/1.1 206 Partial Content\r\n" + where.encode())
        part_bytes = max(1, int(self._bytes_per_s * PART_S))
        for at in range(first, end, part_bytes):
            part = data[at : min(end, at + part_bytes)]
            await self._through(len(part))
            self.sent_bytes += len(part)
            writer.write(part)
            await writer.drain()

    async def _through(self, size: int) -> None:
        """Wait until so many bytes are through the uplink. Who is woken late has lost nothing."""
        now_s = time.monotonic()
        self._free_s = max(self._free_s, now_s) + size / self._bytes_per_s
        await asyncio.sleep(self._free_s - now_s)


class Lateness:
    """How late a coroutine that sleeps is woken."""

    def __init__(self) -> None:
        self._late_s: list[float] = []

    async def watch(self) -> None:
        """Look on until cancelled."""
        while True:
            due_s = time.monotonic() + LOOK_S
            await asyncio.sleep(LOOK_S)
            self._late_s.append(time.monotonic() - due_s)

    @property
    def p99_s(self) -> float:
        """The 99th percentile."""
        return sorted(self._late_s)[len(self._late_s) * 99 // 100] if self._late_s else 0.0
