"""What a test may have the double do wrong: it hangs, talks nonsense, breaks off, or says no. Else it is the stand-in
of the demo, which speaks Ollama's protocol over real llama.cpp."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgecoder_drivers.demo.ollama_stand_in.conduct import Conduct

JSON = [(b"content-type", b"application/json")]


@dataclass
class Faults(Conduct):
    """Set by a test at any time; they hold from the next request on. Paths are such as `/api/ps`."""

    version: str = Conduct.version
    more_rows: list[dict[str, Any]] = field(default_factory=list)
    """What `/api/tags` says beside what is on the disk."""
    hangs: set[str] = field(default_factory=set)
    """Requests that are never answered."""
    says: dict[str, bytes] = field(default_factory=dict)
    """Requests that are answered with these bytes, whatever they ask."""
    refuses: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Requests that are answered with this status and error."""
    cuts_after: int | None = None
    """Streams break off in the middle of the line after that many."""
    fails_after: tuple[int, str] | None = None
    """Streams end with an error after that many lines."""
    first_line_s: float = 0.0
    """How late the first line of a stream comes."""
    load_s: float = 0.0
    """How much longer a load takes."""
    asked: list[str] = field(default_factory=list)
    """The paths of all requests."""
    broken_off: int = 0
    """Streams that the client closed before their end."""

    def rows(self) -> list[dict[str, Any]]:
        return self.more_rows

    async def before_load(self) -> None:
        await asyncio.sleep(self.load_s)

    async def before_first_line(self) -> None:
        await asyncio.sleep(self.first_line_s)

    async def lines(self, parts: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
        sent, is_whole = 0, False
        try:
            async for part in parts:
                if self.fails_after is not None and sent == self.fails_after[0]:
                    yield json.dumps({"error": self.fails_after[1]}).encode() + b"\n"
                    break
                line = json.dumps(part).encode() + b"\n"
                if sent == self.cuts_after:
                    yield line[: len(line) // 2]
                    break
                yield line
                sent += 1
            is_whole = True
        finally:
            self.broken_off += not is_whole
            await parts.aclose()  # type: ignore[attr-defined]


class Faulty:
    """The double's application behind its faults."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        path = scope.get("path", "")
        faults = self._faults
        faults.asked.append(path)
        if path in faults.hangs:
            await _until_gone(receive)
        elif path in faults.says:
            await _answer(send, 200, faults.says[path])
        elif path in faults.refuses:
            status, words = faults.refuses[path]
            await _answer(send, status, json.dumps({"error": words}).encode())
        else:
            await self._app(scope, receive, send)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, status: int, body: bytes) -> None:
    start: Message = {"type": "http.response.start", "status": status, "headers": JSON}
    await send(start)
    await send({"type": "http.response.body", "body": body})
