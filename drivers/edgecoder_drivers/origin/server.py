"""The server of an origin: GET and HEAD of the files of one folder, with ranges and conditional requests (RFC 9110).

What a stranger may not do is `bare.connection`'s. Whether a file is what the catalog says is told by who fetches it.
"""

from __future__ import annotations

import re
import socket
from email.utils import formatdate
from typing import Final

import h11

from edgecoder_drivers.bare.connection import BareConnection, Limits, reject
from edgecoder_drivers.bare.heads import range_of
from edgecoder_drivers.bare.pace import Pace
from edgecoder_drivers.bare.server import BareServer
from edgecoder_drivers.origin.folder import Folder, Opened, parts_of

PORT: Final = 4380
ALLOWED: Final = (b"GET", b"HEAD")
TYPES: Final = {".yaml": "application/yaml", ".json": "application/json"}
_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')


class OriginConnection(BareConnection):
    """A stranger who fetches files."""

    def __init__(self, sock: socket.socket, folder: Folder, limits: Limits, pace: Pace) -> None:
        super().__init__(sock, limits, pace)
        self._folder = folder

    async def _answer(self, request: h11.Request) -> None:
        """See `BareConnection`."""
        if request.method not in ALLOWED:
            raise reject(405, "method_not_allowed", "only GET and HEAD", "ask with GET", ("allow", "GET, HEAD"))
        parts = parts_of(request.target)
        opened = None if parts is None else self._folder.open(parts)
        if parts is None or opened is None:
            hint = "ask for a file of the origin's folder; links and hidden files are none"
            raise reject(404, "not_found", "there is no file at this address", hint)
        with opened.file:
            said = {name.lower(): value.decode("latin-1") for name, value in request.headers.raw_items()}
            await self._give(opened, TYPES.get(_ending(parts[-1]), "application/octet-stream"), said)

    async def _give(self, opened: Opened, kind: str, said: dict[bytes, str]) -> None:
        headers = [("etag", opened.tag), ("last-modified", formatdate(opened.modified_s, usegmt=True))]
        if _is_known(said.get(b"if-none-match"), opened.tag):
            await self._send(h11.Response(status_code=304, headers=headers))
            self._end()
            return
        wished = said.get(b"range") if said.get(b"if-range", opened.tag) == opened.tag else None
        span = range_of(wished, opened.size_bytes) if opened.size_bytes or wished else range(0)
        if span is None:
            where = ("content-range", f"bytes */{opened.size_bytes}")
            raise reject(416, "range", "there are no such bytes", "ask for one range within the file", where)
        headers += [("content-type", kind), ("content-length", str(len(span))), ("accept-ranges", "bytes")]
        is_part = wished is not None and wished.startswith("bytes=")
        if is_part:
            headers.append(("content-range", f"bytes {span.start}-{span.stop - 1}/{opened.size_bytes}"))
        response = h11.Response(status_code=206 if is_part else 200, headers=headers)
        await self._send(response, more=self._has_body and len(span) > 0)
        if self._has_body:
            await self._send_file(opened.file, span.start, span.stop)
        self._end()


def _ending(name: bytes) -> str:
    return f".{name.decode('latin-1').rpartition('.')[2].lower()}"


def _is_known(header: str | None, tag: str) -> bool:
    """Whether who asks has the file as it is (RFC 9110, 13.1.2)."""
    return header is not None and (header.strip() == "*" or tag in _TAG.findall(header))


class OriginServer(BareServer):
    """An origin that gives the files of a folder."""

    def __init__(self, folder: Folder, listening: socket.socket, *, limits: Limits | None = None) -> None:
        bounds, pace = limits or Limits(), Pace(0)
        super().__init__(
            listening, lambda sock: OriginConnection(sock, folder, bounds, pace), bounds, "edgecoder origin"
        )
