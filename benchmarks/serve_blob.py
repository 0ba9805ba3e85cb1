"""How fast a node gives a file to one client, beside nginx.

Both serve the same file over loopback, from the file cache, each from a process of its own; one client in a third
process reads it to the end, from one and from the other in turns. The node is a whole one: its core judges the ticket,
and decides piece by piece. `vs_nginx` is its bytes a second ÷ nginx's, each the best of the rounds of one run, which
others on the machine have disturbed least, for the whole file in one request; `vs_nginx_by_piece` is the same where the
client asks for a piece after the other on one connection, as nodes do.

Prints one JSON line. Goal: 0.8 or more. Needs nginx: `apt-get install nginx-light`, or another package of it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgspec
import structlog

from edgecoder.config import NodeConfig
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder_drivers.transfer import wire
from tests.catalogs import entry
from tests.drivers.transfer_rig import real_giver

SIZE_BYTES = 1 << 30
PIECE_BYTES = 1 << 21
"""That of such a file, by the rule; of the smaller one too."""
ROUNDS = 15
QUICK_SIZE_BYTES = 1 << 28
QUICK_ROUNDS = 15
RECEIVER = bytes([9]) * 32
READ_BYTES = 1 << 20
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error; {user}
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream; keepalive_requests 1000000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""


class Server(NamedTuple):
    """Where the file is."""

    port: int
    path: str
    headers: str


def make_file(folder: Path, size_bytes: int) -> CatalogEntry:
    """A file in a store. Nobody checks it here, so its root is made up."""
    block, digest = os.urandom(1 << 20), hashlib.sha256()
    (folder / "blobs").mkdir()
    with (folder / "new").open("wb") as file:
        for _ in range(size_bytes >> 20):
            file.write(block)
            digest.update(block)
    (folder / "new").rename(folder / "blobs" / f"sha256-{digest.hexdigest()}")
    return entry_of(size_bytes, digest.hexdigest())


def entry_of(size_bytes: int, digest: str) -> CatalogEntry:
    """What the catalog says of it."""
    plain = entry("blob", file_size_bytes=size_bytes, piece_root="ab" * 32, piece_size_bytes=PIECE_BYTES)
    return msgspec.structs.replace(plain, sha256=digest)


@contextmanager
def node(folder: Path, size_bytes: int, digest: str) -> Iterator[Server]:
    """A node in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(folder), "--size", str(size_bytes), "--digest", digest],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        port, path, headers = json.loads(process.stdout.readline())
        yield Server(port, path, headers)
    finally:
        process.stdin.close()
        process.wait(30)


async def serve(folder: Path, file: CatalogEntry) -> None:
    """Give the file until nobody wants it any more."""
    config = NodeConfig(has_radio=False, seed_duty_pct=100)
    async with real_giver(folder, Catalog((file,)), config) as giver:
        headers = f"authorization: {wire.write_pass(RECEIVER, giver.ticket(RECEIVER, file))}\r\n"
        print(json.dumps([giver.server.port, wire.path_of(file), headers]), flush=True)
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def nginx(program: str, folder: Path, digest: str) -> Iterator[Server]:
    """The other one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, user=user), encoding="utf-8")
    process = subprocess.Popen([program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")])
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield Server(port, f"/blobs/sha256-{digest}", "")
    finally:
        process.terminate()
        process.wait(30)


class Client:
    """One connection, which reads into one buffer."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._buffer = bytearray(READ_BYTES)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def get(self, first: int | None, end: int) -> None:
        """Read a range, or all, to the end. Raises RuntimeError where something else comes."""
        wanted = "" if first is None else f"range: bytes={first}-{end - 1}\r\n"
        request = f"GET {self._server.path} HTTP/1.1\r\nhost: localhost\r\n{self._server.headers}{wanted}\r\n"
        self._socket.sendall(request.encode())
        head = bytearray()
        while head.find(b"\r\n\r\n") < 0:
            data = self._socket.recv(4096)
            if not data:
                raise RuntimeError(f"no answer: {bytes(head)!r}")
            head += data
        status = bytes(head[9:12])
        left = end - (first or 0) - (len(head) - head.index(b"\r\n\r\n") - 4)
        if status not in (b"200", b"206"):
            raise RuntimeError(f"status {status.decode()}")
        while left:
            count = self._socket.recv_into(self._buffer)
            if not count:
                raise RuntimeError(f"{left} bytes did not come")
            left -= count


def measure(server: Server, file: CatalogEntry, *, by_piece: bool) -> float:
    """Bytes a second."""
    client, layout = Client(server), file.layout
    began = time.perf_counter()
    if by_piece:
        for piece in range(layout.piece_count):
            client.get(layout.piece_offset(piece), layout.piece_offset(piece) + layout.piece_bytes(piece))
    else:
        client.get(None, file.file_size_bytes)
    took_s = time.perf_counter() - began
    client.close()
    return file.file_size_bytes / took_s


def compare(ours: Server, other: Server, file: CatalogEntry, rounds: int) -> dict[str, float]:
    """The ratios, and what the node gives by itself."""
    metrics = {}
    for name, by_piece in (("vs_nginx", False), ("vs_nginx_by_piece", True)):
        rates: tuple[list[float], list[float]] = ([], [])
        for turn in range(rounds + 1):
            for server, found in zip((ours, other), rates, strict=True):
                rate = measure(server, file, by_piece=by_piece)
                if turn:  # the first one fills the file cache
                    found.append(rate)
        best = [max(found) for found in rates]
        metrics[name] = round(best[0] / best[1], 3)
        metrics[name.replace("vs_nginx", "mib_per_s")] = round(best[0] / (1 << 20))
    return metrics


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SIZE_BYTES >> 20} MiB, {QUICK_ROUNDS} rounds")
    for hidden in ("--serve", "--size", "--digest"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    if options.serve:
        asyncio.run(serve(Path(options.serve), entry_of(int(options.size), options.digest)))
        return
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if program is None:
        print(
            "nginx is not installed, and there is nothing to compare with; apt-get install nginx-light", file=sys.stderr
        )
        raise SystemExit(3)
    size_bytes, rounds = (QUICK_SIZE_BYTES, QUICK_ROUNDS) if options.quick else (SIZE_BYTES, ROUNDS)
    with tempfile.TemporaryDirectory(prefix="serve-blob-") as name:
        folder = Path(name)
        file = make_file(folder, size_bytes)
        with node(folder, size_bytes, file.sha256) as ours, nginx(program, folder, file.sha256) as other:
            metrics = compare(ours, other, file, rounds)
    conditions = {
        "clients": 1,
        "mib": size_bytes >> 20,
        "piece_kib": file.layout.piece_size_bytes >> 10,
        "rounds": rounds,
    }
    print(json.dumps({"benchmark": "serve_blob", "metrics": metrics, "conditions": conditions}))


if __name__ == "__main__":
    main()
