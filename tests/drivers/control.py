"""An agent with drivers in memory behind a real control server on loopback, and raw requests to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from edgecoder.core.effects import Progress, Result
from edgecoder.core.ids import CommandId, NodeId
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry, Platform
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.host import AsyncHost
from edgecoder_drivers.http.app import make_app
from edgecoder_drivers.http.connection import Limits
from edgecoder_drivers.http.server import Binding, ControlServer
from edgecoder_drivers.metrics import TraceMetrics
from tests.catalogs import CATALOG, LARGE, SMALL, claim_of
from tests.drivers.memory import MemoryDriver
from tests.drivers.rig import has, living


class MemoryNode:
    """A `ServedNode` on a host."""

    node_id: NodeId = bytes(32)
    engine = "llama.cpp"

    def __init__(self, host: AsyncHost, folder: Path) -> None:
        self._host = host
        self._folder = folder
        self.rot = b""
        """What its files have in front that is wrong."""

    def is_engine_healthy(self) -> bool:
        return True

    def is_catalog_stale(self) -> bool:
        return False

    def begin(
        self, kind: Any, *, on_progress: Callable[[Progress], None] | None = None, **fields: Any
    ) -> tuple[CommandId, asyncio.Future[Result]]:
        return self._host.begin(kind, on_progress=on_progress, **fields)

    def find(self, model: str) -> CatalogEntry | None:
        return CATALOG.find(model, Platform.IOS)

    def source_of(self, entry: CatalogEntry) -> str:  # noqa: ARG002
        return "cdn"

    async def import_model(self, path: Path) -> str:
        try:
            path.read_bytes()  # noqa: ASYNC240 - a test
        except (OSError, ValueError) as error:
            raise Refused(Reason.NOT_INSTALLED, str(error)[:100]) from None
        return "small"

    async def export_model(self, entry: CatalogEntry) -> Path:
        path = self._folder / "blob"
        path.write_bytes(self.rot + claim_of(entry.model_id))
        return path

    async def bytes_at(self, entry: CatalogEntry) -> Path:
        return await self.export_model(entry)

    def fetched_by_ollama(self, entry: CatalogEntry) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()


class Response(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Control:
    """A running agent."""

    def __init__(
        self, port: int, driver: MemoryDriver, host: AsyncHost, server: ControlServer, node: MemoryNode
    ) -> None:
        self.port = port
        self.driver = driver
        self.host = host
        self.server = server
        self.node = node

    async def raw(self, request: bytes) -> Response:
        """Send bytes, and read the answer to its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        await writer.drain()
        content = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        head, _, body = content.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            body = _unchunked(body)
        return Response(int(first.split()[1]) if first else 0, headers, body)

    async def ask(self, method: str, path: str, value: Any = None, **headers: str) -> Response:
        """A well-formed request, with further headers."""
        body = b"" if value is None else json.dumps(value).encode()
        fields = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"}
        if value is not None:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        fields |= {name.replace("_", "-"): text for name, text in headers.items()}
        head = "".join(f"{name}: {text}\r\n" for name, text in fields.items())
        return await self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + rest[:length], rest[length + 2 :]
    return whole


@asynccontextmanager
async def controlled(
    folder: Path,
    *,
    token: str | None = None,
    swap_wait_s: float = 30.0,
    deadline_ms_max: int = 600_000,
    certificate: Path | None = None,
    limits: Limits | None = None,
) -> AsyncIterator[Control]:
    """An agent that has two models; `certificate` has its key too."""
    driver, metrics = MemoryDriver(), TraceMetrics()
    async with living([driver], has(SMALL, LARGE), seen=metrics) as host:
        node = MemoryNode(host, folder)
        binding = Binding(port=0, certificate=certificate, key=certificate)
        app = make_app(
            node,
            metrics.shown,
            hosts=binding.hosts,
            token=token,
            swap_wait_s=swap_wait_s,
            deadline_ms_max=deadline_ms_max,
        )
        server = ControlServer(app, binding, limits)
        server.start()
        try:
            yield Control(server.port, driver, host, server, node)
        finally:
            await server.stop()
