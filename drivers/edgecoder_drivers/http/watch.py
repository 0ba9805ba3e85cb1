"""What becomes of each request: its line in the log, and its answer where the agent has failed or stops.

What changes something is logged with who asked for it. Who is refused is logged too, but seldom: whoever reaches
the port could fill the disk else.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgecoder.errors import Reason
from edgecoder_drivers.http.contract import Problem
from edgecoder_drivers.http.problems import BUG, BrokenOff, problem_of, respond

REFUSED: Final = frozenset({401, 403, 421})
"""Statuses of requests that are not from here, or not for here."""
SELDOM_S: Final = 10.0
_log = structlog.get_logger("edgecoder.http")


class Seldom:
    """Lets one of a kind through in a while, and counts the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted: Counter[Any] = Counter()
        self._told_at: dict[Any, float] = {}

    def __call__(self, kind: Any) -> int:
        """How many there were since the last one that was let through, this one included; 0 where it is not."""
        self._counted[kind] += 1
        now = self._clock()
        if now - self._told_at.get(kind, -SELDOM_S) < SELDOM_S:
            return 0
        self._told_at[kind] = now
        return self._counted.pop(kind)


class Watch:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._is_told = Seldom()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request in any case."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun: list[Message] = []

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.append(message)
                self._write(scope, message["status"])
            await send(message)

        async def ends(problem: Problem) -> None:
            if not begun:
                await respond(problem)(scope, receive, told)
            elif not any(name == b"content-length" for name, _ in begun[0]["headers"]):
                await send({"type": "http.response.body", "body": b""})

        try:
            await self._app(scope, receive, told)
        except asyncio.CancelledError:  # the server stops
            await ends(problem_of(Reason.SHUTTING_DOWN))
        except ClientDisconnect:
            return
        except BrokenOff as broken:
            _log.warning("answer broken off", **_of(scope), detail=str(broken))
        except Exception as error:  # noqa: BLE001 - a bug is answered and logged, and ends nothing
            _log.error("request failed", **_of(scope), exc_info=error)
            await ends(BUG)

    def _write(self, scope: Scope, status: int) -> None:
        if status in REFUSED:
            times = self._is_told(status)
            if times:
                _log.warning("refused", **_of(scope), status=status, times=times)
        elif scope["method"] in ("GET", "HEAD"):
            _log.debug("asked", **_of(scope), status=status)
        else:
            _log.info("asked", **_of(scope), status=status)


def _of(scope: Scope) -> dict[str, Any]:
    """The request, its path as it came: what it encodes could steer a terminal."""
    client, path = scope.get("client"), scope["raw_path"].decode("ascii", "replace")
    return {"method": scope["method"], "path": path[:200], "client": client[0] if client else None}
