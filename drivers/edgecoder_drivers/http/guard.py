"""What a request must be before anybody looks at what it asks: from here, for here, and small.

A page in a browser may send requests to any port of its user's machine. So the Host must be one of ours (DNS rebinding
comes with another), an Origin must be ours too, and a body must be JSON (`wire.read`), which no form can send. Off
this machine a token is needed besides; where there is none, nobody else is answered.
"""

from __future__ import annotations

import hmac
import ipaddress
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
        """`hosts` are names without ports, in lower case; `token` is asked for where there is one, and without one only
        this machine is answered."""
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
        if self._token is not None:
            _check_token(self._token, headers.get("authorization", []))
        elif not is_of_this_machine(scope):
            hint = "its operator can let others ask, with --token-file"
            raise reject(401, "token_required", "only programs of its own machine may ask here", hint)
        lengths = headers.get("content-length", [])
        if lengths and (not lengths[0].isdigit() or int(lengths[0]) > BODY_BYTES_MAX):
            raise _too_large()


def is_of_this_machine(scope: Scope) -> bool:
    """Whether a request comes from where it is answered: over loopback, or from the address that it is for."""
    ends = (scope.get("client") or ("",), scope.get("server") or ("",))
    try:
        came_from, is_at = (ipaddress.ip_address(end[0].partition("%")[0]) for end in ends)
    except ValueError:
        return False
    mapped = came_from.ipv4_mapped if isinstance(came_from, ipaddress.IPv6Address) else None
    return (mapped or came_from).is_loopback or came_from == is_at


def _check_token(token: str, given: list[str]) -> None:
    scheme, _, shown = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode(), token.encode()):
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
