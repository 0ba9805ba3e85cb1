"""The server of an origin: what it gives, what it keeps to itself, and what a stranger may not do."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder_drivers.bare.connection import Limits
from edgecoder_drivers.bare.server import listen
from edgecoder_drivers.origin.folder import Folder, parts_of
from edgecoder_drivers.origin.server import OriginServer

CONTENT = bytes(range(256)) * 9000


class Stranger:
    """Asks on one connection, in bytes of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def say(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to one request."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = {key.lower(): value for key, value in re.findall(r"(?m)^([\w-]+): ?(.*)\r$", head)}
            status = int(head.split()[1])
            has_body = not request.startswith(b"HEAD") and status != 304
            body = await reader.readexactly(int(headers.get("content-length", "0"))) if has_body else b""
            return status, headers, body
        finally:
            writer.close()

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """One request as it should be."""
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
        return await self.say("\r\n".join([*lines, "", ""]).encode("latin-1"))


def run(folder: Path, test: Callable[[Stranger], Awaitable[None]], limits: Limits | None = None) -> None:
    """A test of an origin that gives the files of `folder`."""

    async def life() -> None:
        opened = Folder(folder)
        server = OriginServer(opened, listen("127.0.0.1", 0), limits=limits)
        server.start()
        try:
            await test(Stranger(server.port))
        finally:
            await server.stop()
            opened.close()

    asyncio.run(life())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to be given, beside which there are secrets."""
    root = tmp_path / "origin"
    (root / "models").mkdir(parents=True)
    (root / "models" / "a b.gguf").write_bytes(CONTENT)
    (root / "catalog.yaml").write_text("version: 1\nmodels: []\n", encoding="utf-8")
    (root / "empty").write_bytes(b"")
    (root / ".hidden").write_text("secret", encoding="utf-8")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("secret", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret", encoding="utf-8")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "inner.txt").symlink_to(root / "catalog.yaml")
    (root / "door").symlink_to(tmp_path / "outside")
    os.mkfifo(root / "pipe")
    return root


def test_a_file_whole_and_in_parts(folder: Path) -> None:
    async def test(ask: Stranger) -> None:
        status, headers, body = await ask.get("/models/a%20b.gguf")
        assert (status, body) == (200, CONTENT)
        assert headers["accept-ranges"] == "bytes"
        status, headers, body = await ask.get("/models/a%20b.gguf?token=1", Range="bytes=100-299")
        assert (status, body) == (206, CONTENT[100:300])
        assert headers["content-range"] == f"bytes 100-299/{len(CONTENT)}"
        assert (await ask.get("/models/a%20b.gguf", Range="bytes=-7"))[2] == CONTENT[-7:]
        assert (await ask.get("/models/a%20b.gguf", Range=f"bytes={len(CONTENT)}-"))[0] == 416
        assert (await ask.get("/models/a%20b.gguf", Range="bytes=0-1", If_Range='"other"'))[0] == 200
        status, headers, body = await ask.get("/models/a%20b.gguf", "HEAD")
        assert (status, headers["content-length"], body) == (200, str(len(CONTENT)), b"")
        assert (await ask.get("/empty"))[0::2] == (200, b"")

    run(folder, test)


def test_a_catalog_that_one_has_is_not_sent_again(folder: Path) -> None:
    async def test(ask: Stranger) -> None:
        status, headers, body = await ask.get("/catalog.yaml")
        assert (status, headers["content-type"]) == (200, "application/yaml")
        assert body.startswith(b"version: 1")
        for known in (headers["etag"], f'"x", W/{headers["etag"]}', "*"):
            assert (await ask.get("/catalog.yaml", If_None_Match=known))[0::2] == (304, b"")
        partial = folder / "new"
        partial.write_text("version: 2\nmodels: []\n", encoding="utf-8")
        partial.replace(folder / "catalog.yaml")
        status, _, body = await ask.get("/catalog.yaml", If_None_Match=headers["etag"])
        assert (status, body[:10]) == (200, b"version: 2")

    run(folder, test)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/models", "/models/", "/nothing", "/link.txt", "/inner.txt", "/door/secret.txt", "/pipe", "/.hidden",
        "/.git/config", "/../secret.txt", "/models/../../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt",
        "//etc/passwd", "/models//a%20b.gguf", "/%00", "/models\\..\\..\\secret.txt", "http://x/catalog.yaml", "*",
        "/" + "a/" * 200 + "b", "/" + "x" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_plain_file_of_the_folder(folder: Path, path: str) -> None:
    async def test(ask: Stranger) -> None:
        status, headers, body = await ask.get(path)
        assert status == 404
        assert headers["content-type"] == "application/problem+json"
        assert b"secret" not in body

    run(folder, test)


def test_what_is_no_request_for_a_file(folder: Path) -> None:
    async def test(ask: Stranger) -> None:
        assert (await ask.get("/catalog.yaml", "POST"))[0] == 405
        body = b"GET /catalog.yaml HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
        assert (await ask.say(body))[0] == 413
        assert (await ask.say(b"\x16\x03\x01 nonsense\r\n\r\n"))[0] == 400
        long = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000
        assert (await ask.say(long))[0] in (400, 431)
        assert (await ask.get("/catalog.yaml"))[0] == 200

    run(folder, test)


def test_so_many_connections_and_no_more(folder: Path) -> None:
    async def test(ask: Stranger) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", ask.port) for _ in range(8)]
        assert (await ask.get("/catalog.yaml"))[0] == 200  # the oldest that asks for nothing makes room
        for reader, writer in idle[:5]:
            assert await reader.read() == b""
            writer.close()
        for _, writer in idle[5:]:
            writer.close()

    run(folder, test, Limits(connections_max=4))


def test_who_does_not_read_is_left(folder: Path) -> None:
    (folder / "big").write_bytes(bytes(64 << 20))

    async def test(ask: Stranger) -> None:
        sock = socket.create_connection(("127.0.0.1", ask.port))
        sock.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.setblocking(False)
        loop, came = asyncio.get_running_loop(), 0
        await asyncio.sleep(1.0)
        try:
            while data := await loop.sock_recv(sock, 1 << 20):
                came += len(data)
        except ConnectionError:
            pass
        sock.close()
        assert came < 64 << 20

    run(folder, test, Limits(stall_s=0.1, slowest_bytes_per_s=1 << 30))


@given(st.binary(max_size=200))
def test_no_target_leads_out(target: bytes) -> None:
    parts = parts_of(b"/" + target)
    for part in parts or ():
        assert part not in (b"", b".", b"..")
        assert b"/" not in part
        assert b"\0" not in part
