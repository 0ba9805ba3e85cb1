"""A whole mesh of processes on this machine: coordinators, devices with llama.cpp, and the wires between them.

Every node is a life of `edgecoder`, begun as a user begins it; what is asked of one goes through its control port. A
small and slow origin has the models, so that it is worth while to get them from each other. Links go through relays,
which can cut them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from edgecoder.models.catalog import CatalogEntry
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder_drivers.demo import tiny_gguf
from edgecoder_drivers.demo.processes import free_port
from edgecoder_drivers.identity import load_identity
from tests.drivers.cdn_server import Request, head, serving
from tests.drivers.cutting import Relay
from tests.drivers.device_process import environ
from tests.files import hashes_of

SHAPES = ("nano", "micro", "small", "small", "medium", "nano", "small", "medium")
"""Of the models, in their order: files of 75 kB to 12 MB."""
UP_S = 120.0
CDN_CHUNK_BYTES = 32_768
CDN_PAUSE_S = 0.04
"""After each chunk: an origin of 6 Mbit/s a connection."""


class Lost(Exception):
    """The other end went away before its answer was whole."""


async def request(port: int, method: str, path: str, value: Any = None) -> tuple[int, bytes]:
    """One request: status and body. Raises Lost."""
    body = b"" if value is None else json.dumps(value).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
    if value is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        raise Lost(str(error)) from None
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        content = await reader.read()
    except OSError as error:
        raise Lost(str(error)) from None
    finally:
        writer.transport.abort()
    return _parsed(content)


def _parsed(content: bytes) -> tuple[int, bytes]:
    """Status and body. Raises Lost where it is not whole."""
    top, mark, body = content.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").lower().split("\r\n")
    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if not mark:
        raise Lost("no answer")
    if fields.get("transfer-encoding") == "chunked":
        if not body.endswith(b"0\r\n\r\n"):
            raise Lost("an answer that breaks off")
    elif len(body) != int(fields.get("content-length", "-1")):
        raise Lost("an answer that breaks off")
    return int(first.split()[1]), body


class Process:
    """One participant, over all its lives."""

    def __init__(self, folder: Path, command: Sequence[str], temporary: Path) -> None:
        """Everything of the participant's lies in `folder`."""
        self.folder = folder
        self.log = folder / "node.log"
        self._command = [sys.executable, "-m", "edgecoder", *command]
        self._environ = {**environ(), "TMPDIR": str(temporary)}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.life = 0
        """Grows with every begin and every end of a life."""
        self.frozen = False

    @property
    def pid(self) -> int:
        """Of the life that there is, or was."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_up(self) -> bool:
        """Whether it runs and has said so."""
        return self.port > 0 and self._process is not None and self._process.poll() is None

    @property
    def has_begun(self) -> bool:
        """Whether there is a life, or was."""
        return self._process is not None

    async def start(self) -> None:
        """Begin a life, and wait until it is up. Raises AssertionError."""
        at = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it is awaited below
                self._command, stdout=log, stderr=log, env=self._environ
            )
        self.life += 1
        async with asyncio.timeout(UP_S):
            while (port := self._said(at)) is None:
                assert self._process.poll() is None, f"it does not come up: {self.log}"
                await asyncio.sleep(0.1)
        self.port = port

    def _said(self, at: int) -> int | None:
        with self.log.open("rb") as log:
            log.seek(at)
            for line in log:
                if b'"event": "up"' in line and line.endswith(b"\n"):
                    return int(json.loads(line)["port"])
        return None

    def kill(self) -> None:
        """Kill -9 it alone."""
        assert self._process is not None
        self.life += 1
        self.port = 0
        self._process.kill()
        self._process.wait(30)

    def end(self) -> int:
        """Tell it to end; its exit code."""
        assert self._process is not None
        self.port = 0
        self._process.terminate()
        return self._process.wait(60)

    def freeze(self, *, on: bool) -> None:
        """Stop it where it stands, as a laptop that is closed; or let it go on."""
        self.frozen = on
        os.kill(self.pid, signal.SIGSTOP if on else signal.SIGCONT)

    async def ask(self, method: str, path: str, value: Any = None) -> tuple[int, Any]:
        """A request: status and JSON. Raises Lost."""
        if not self.is_up:
            raise Lost("it is down")
        status, body = await request(self.port, method, path, value)
        return status, json.loads(body)

    async def metric(self, name: str) -> int | None:
        """A gauge of its."""
        with contextlib.suppress(Lost):
            _, body = await request(self.port, "GET", "/metrics")
            for line in body.decode().splitlines():
                if line.startswith(f"{name} "):
                    return round(float(line.split()[1]))
        return None

    async def events(self, value: Any) -> list[str]:
        """A task that is streamed: the names of its events. Raises Lost."""
        if not self.is_up:
            raise Lost("it is down")
        _, body = await request(self.port, "POST", "/task", {**value, "stream": True})
        lines = body.decode(errors="replace").splitlines()
        return [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]


class Origin:
    """The CDN, which has all models and is slow, or away."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files
        self.away = asyncio.Event()
        """Whether it gives nothing now."""
        self.sent_bytes = 0

    async def answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """See `cdn_server.Answer`."""
        data = self._files.get(request.path)
        if data is None or self.away.is_set():
            writer.write(head("503 Service Unavailable" if self.away.is_set() else "404 Not Found", content_length=0))
            return
        first, last = request.range or (0, len(data) - 1)
        part = data[first : last + 1]
        where = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        status = "200 OK" if request.range is None else "206 Partial Content"
        writer.write(head(status, content_range=where, content_length=len(part)))
        for at in range(0, len(part), CDN_CHUNK_BYTES):
            if self.away.is_set():
                return
            writer.write(part[at : at + CDN_CHUNK_BYTES])
            await writer.drain()
            self.sent_bytes += len(part[at : at + CDN_CHUNK_BYTES])
            await asyncio.sleep(CDN_PAUSE_S)


class Mesh:
    """All of it."""

    def __init__(self, folder: Path, origin: Origin, models: list[CatalogEntry]) -> None:
        self.folder = folder
        self.origin = origin
        self.models = {entry.model_id: entry for entry in models}
        self.temporary = folder / "tmp"
        self.coordinators: list[Process] = []
        self.agents: list[Process] = []
        self.relays: list[Relay] = []
        """One for the links to each coordinator."""
        self.ids: list[str] = []
        """Of the coordinators."""

    @property
    def all(self) -> list[Process]:
        """Every participant."""
        return [*self.coordinators, *self.agents]


def make_models(folder: Path) -> tuple[list[CatalogEntry], dict[str, bytes]]:
    """The catalog, and what the origin has."""
    entries, files = [], {}
    for number, shape in enumerate(SHAPES):
        path = folder / f"tiny-{number}.gguf"
        entry = tiny_gguf.make(path, shape, number, name=path.stem)
        data = path.read_bytes()
        root = hashes_of(entry.layout, data).root.hex()
        urls = (f"cdn:{path.name}",)
        entries.append(msgspec.structs.replace(entry, piece_root=root, download_urls=urls))
        files[f"/{path.name}"], files[f"/{path.name}.leaves"] = data, b"".join(leaf_hashes(data))
    (folder / "catalog.json").write_bytes(msgspec.json.encode(entries))
    return entries, files


@asynccontextmanager
async def meshed(folder: Path, coordinators: int, agents: int, settings: Sequence[str]) -> AsyncIterator[Mesh]:
    """A mesh that is up: every process has said so. `settings` are those of all nodes, KEY=VALUE each."""
    entries, files = make_models(folder)
    origin = Origin(files)
    async with serving(origin.answer) as cdn:
        mesh = Mesh(folder, origin, entries)
        mesh.temporary.mkdir()
        common = ["--catalog", str(folder / "catalog.json")]
        common += [word for setting in settings for word in ("--set", setting)]
        hubs, nodes = [f"hub-{number}" for number in range(coordinators)], [f"agent-{n}" for n in range(agents)]
        ports = [free_port() for _ in hubs]
        mesh.ids = [_key(folder / name) for name in hubs]
        listed = [f"member {_key(folder / name)}" for name in nodes] + [f"coordinator {id_}" for id_ in mesh.ids]
        (folder / "members.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")
        for port in ports:
            relay = Relay(port)
            await relay.start()
            mesh.relays.append(relay)
        addresses = [f"{id_}@127.0.0.1:{relay.port}" for id_, relay in zip(mesh.ids, mesh.relays, strict=True)]
        for number, name in enumerate(hubs):
            others = [address for other, address in enumerate(addresses) if other < number]
            command = ["coordinator", *_data(folder / name), "--port", str(ports[number]), *common]
            command += ["--members", str(folder / "members.txt"), *_towards(others)]
            told = f"node.endpoints=[127.0.0.1:{mesh.relays[number].port}]"  # else links go around the relay
            command += ["--set", told]
            mesh.coordinators.append(Process(folder / name, command, mesh.temporary))
        for number, name in enumerate(nodes):
            at = number % coordinators
            command = ["device", *_data(folder / name), "--port", "0", "--transfer-port", "0", "--threads", "1"]
            command += [*common, "--cdn", cdn.url(""), *_towards([*addresses[at:], *addresses[:at]])]
            mesh.agents.append(Process(folder / name, command, mesh.temporary))
        try:
            await _start(mesh)
            yield mesh
        finally:
            for process in mesh.all:
                if process.has_begun:  # it may not be up yet
                    process.kill()
            for relay in mesh.relays:
                await relay.stop()


def _key(folder: Path) -> str:
    (folder / "data").mkdir(parents=True)
    return load_identity(folder / "data" / "node.key").node_id.hex()


def _data(folder: Path) -> list[str]:
    return ["--data", str(folder / "data")]


def _towards(addresses: Sequence[str]) -> list[str]:
    return [word for address in addresses for word in ("--coordinator", address)]


async def _start(mesh: Mesh) -> None:
    await asyncio.gather(*(each.start() for each in mesh.coordinators))
    rng = random.Random(1)
    rest = rng.sample(mesh.agents, len(mesh.agents))
    while rest:  # a few at a time: each takes a second of a core
        now, rest = rest[:4], rest[4:]
        await asyncio.gather(*(each.start() for each in now))
