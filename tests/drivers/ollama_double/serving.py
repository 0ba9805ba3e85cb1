"""Servers on loopback, on the loop of the test: the double, which may be restarted, and a registry to pull from."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edgecoder_drivers.demo.ollama_stand_in.app import NOWHERE, StandIn
from edgecoder_drivers.demo.ollama_stand_in.disk import Disk
from edgecoder_drivers.demo.ollama_stand_in.names import parse_name
from tests.drivers.ollama_double.faults import Faults, Faulty


class _Uvicorn(uvicorn.Server):
    """One that leaves the signals to the test."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self._serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


class Serving:
    """An application at an address, which it keeps when it is started again."""

    def __init__(self) -> None:
        self._port = 0
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def host(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._port}"

    async def start(self, app: ASGIApp) -> None:
        """Listen."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            app, log_config=None, http="h11", ws="none", lifespan="off", timeout_graceful_shutdown=0
        )
        self._server = _Uvicorn(config)
        self._task = asyncio.get_running_loop().create_task(self._server.serve([listener]))
        await self._server.is_up.wait()

    async def stop(self) -> None:
        """Break off what is being answered, and listen no more."""
        assert self._server is not None
        assert self._task is not None
        self._server.should_exit = True
        await self._task


class Ollama:
    """The double: started, stopped and started again, with the disk that it has."""

    def __init__(self, root: Path, registry: str, places: int) -> None:
        self.faults = Faults()
        self._root, self._registry, self._places = root, registry, places
        self._serving = Serving()
        self.double: StandIn

    @property
    def host(self) -> str:
        """Where it listens, as OLLAMA_HOST would say."""
        return self._serving.host

    async def start(self) -> None:
        """Begin a life: nothing is in memory."""
        self.double = StandIn(self._root, self.faults, self._registry, self._places)
        await self._serving.start(Faulty(self.double.app(), self.faults))

    async def stop(self) -> None:
        """End it."""
        await self._serving.stop()
        for runner in self.double.runners.loaded.values():
            runner.llama = None


@asynccontextmanager
async def doubled(root: Path, *, registry: str = NOWHERE, places: int = 3) -> AsyncIterator[Ollama]:
    """A double with its models in a folder, for the length of a block."""
    ollama = Ollama(root, registry, places)
    await ollama.start()
    try:
        yield ollama
    finally:
        await ollama.stop()


@asynccontextmanager
async def registry(root: Path) -> AsyncIterator[str]:
    """The models of a double's folder, served as Ollama's registry does. Its address."""
    disk, serving = Disk(root), Serving()

    async def manifest(request: Request) -> Response:
        name = parse_name("{namespace}/{model}:{tag}".format_map(request.path_params))
        path = name.path(root)
        return FileResponse(path) if path.exists() else Response(status_code=404)

    async def blob(request: Request) -> Response:
        path = disk.blob(request.path_params["digest"])
        headers = {"location": request.url.path}  # Ollama's own redirects; it asks for a Location in any case
        return FileResponse(path, headers=headers) if path.exists() else Response(status_code=404)

    base = "/v2/{namespace}/{model}"
    await serving.start(
        Starlette(routes=[Route(base + "/manifests/{tag}", manifest), Route(base + "/blobs/{digest}", blob)])
    )
    try:
        yield f"http://{serving.host}"
    finally:
        await serving.stop()
