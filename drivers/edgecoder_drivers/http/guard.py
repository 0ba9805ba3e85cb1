"""What a request must be before anybody looks at what it asks: from here, for here, and small.

A page in a browser may send requests to any port of its user's machine. So the Host must be one of ours (DNS rebinding
comes with another), an Origin must be ours too, and a body must be JSON (`wire.read`), which no form can send. Off
loopback a token is needed besides.
"""

from __future__ import annotations

import hmac
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgecoder_drivers.http.problems import Rejected, reject, respond

BODY_BYTES_MAX: Final = 2 << 20
"""The longest prompt that a node can be configured to take, twice; so the usual one may be written in escapes alone."""
HEADER_BYTES_MAX: Final = 16_384
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str | None) -> None:
        """`hosts` are names without ports, in lower case; `token` is asked for where there is one."""
        self._app = app
        self._hosts = hosts
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except Rejected as rejected:
            await respond(rejected.problem)(scope, receive, send)
            return
        await self._app(scope, _Counted(receive), send)

    def _check(self, scope: Scope) -> None:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES_MAX:
            raise headers_too_large()
        hosts = headers.get("host", [])
        if len(hosts) != 1 or _name_of(hosts[0]) not in self._hosts:
            shown = ", ".join(sorted(self._hosts))
            raise reject(421, "host_not_allowed", "this host is not served here", f"ask one of {shown}")
        for origin in headers.get("origin", []):
            scheme, _, rest = origin.partition("://")
            if scheme not in ("http", "https") or rest.lower() != hosts[0].lower():
                raise reject(403, "origin_not_allowed", "pages of other origins may not ask", "ask from a program")
        if headers.get("sec-fetch-site", ["none"])[0] not in ("none", "same-origin"):
            raise reject(403, "origin_not_allowed", "pages of other sites may not ask", "ask from a program")
        self._check_token(headers.get("authorization", []))
        lengths = headers.get("content-length", [])
        if lengths and (not lengths[0].isdigit() or int(lengths[0]) > BODY_BYTES_MAX):
            raise _too_large()

    def _check_token(self, given: list[str]) -> None:
        if self._token is None:
            return
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._token.encode()):
            hint = "give it with --token or EDGECODER_TOKEN; a program sends Authorization: Bearer TOKEN"
            raise reject(401, "token_required", "no valid token came along", hint)


class _Counted:
    """Passes a body on, up to the limit."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size_bytes = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._size_bytes += len(message.get("body", b""))
        if self._size_bytes > BODY_BYTES_MAX:
            raise _too_large()
        return message


def headers_too_large() -> Rejected:
    """The refusal of a head that is too long."""
    return reject(431, "too_large", "the headers are too large", f"at most {HEADER_BYTES_MAX} bytes")


def _too_large() -> Rejected:
    return reject(413, "too_large", "the body is too large", f"at most {BODY_BYTES_MAX} bytes")


def _name_of(host: str) -> str:
    """A Host header without its port, in lower case; what is no host is no name."""
    host = host.strip().lower()
    if host.startswith("["):
        name, closing, port = host.partition("]")
        name += closing
        colon, port = port[:1], port[1:]
    else:
        name, colon, port = host.partition(":")
    return name if colon in ("", ":") and (not port or (port.isdigit() and len(port) <= 5)) else ""
