"""A server on loopback that gives everybody the same answer: another program at the port, or an agent made up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import NamedTuple


class Other(NamedTuple):
    """Where it is, and what it was asked for: the path, and what came along as Authorization."""

    url: str
    asked: list[str]


@contextmanager
def other_server(
    content: bytes, media_type: str = "application/json", status: int = 200, **headers: str
) -> Iterator[Other]:
    """A server as long as the block."""
    asked: list[str] = []
    fields = {"Content-Type": media_type, "Content-Length": str(len(content)), **headers}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers['Authorization']}")
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield Other(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
