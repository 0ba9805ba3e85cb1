"""What a coordinator's port says to requests that are none, and to those with a body: a problem, as to all it refuses.

The library reads a request up to the end of its head. Where that is no request for it, it hangs up without a word, or
says why in plain text; here it says so as RFC 9457 has it.
"""

from __future__ import annotations

import http
from typing import Final

import msgspec
from websockets.datastructures import Headers
from websockets.exceptions import InvalidMessage
from websockets.http11 import Response
from websockets.server import ServerProtocol
from websockets.typing import StatusLike

_HINTS: Final = {
    http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("no body is taken here", "ask with GET, without a body"),
    http.HTTPStatus.REQUEST_URI_TOO_LONG: ("the address is too long", "ask for a shorter one"),
    http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ("the headers are too large", "send fewer, and shorter ones"),
    http.HTTPStatus.SERVICE_UNAVAILABLE: ("no more can be served now", "come back later"),
    http.HTTPStatus.INTERNAL_SERVER_ERROR: ("this request has failed", "see the coordinator's log"),
}
_OTHER: Final = ("this is no request that is served here", "ask with GET in HTTP/1.1")


def refusal(status: int) -> Response:
    """The answer that a request gets instead of one."""
    known = http.HTTPStatus(status)
    title, hint = _HINTS.get(known, _OTHER)
    code = "invalid" if known < http.HTTPStatus.INTERNAL_SERVER_ERROR else "unavailable"
    code = "too_large" if known in (413, 414, 431) else code
    body = msgspec.json.encode({"title": title, "status": known.value, "code": code, "detail": "", "hint": hint})
    headers = {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    return Response(known.value, known.phrase, Headers(headers), body)


class Requests(ServerProtocol):
    """How requests are read, and refused."""

    def reject(self, status: StatusLike, text: str) -> Response:  # noqa: ARG002 - the library's words, in plain text
        """See `ServerProtocol`."""
        return refusal(int(status))

    def send_eof(self) -> None:
        """See `ServerProtocol`. The library comes here without an answer where it could make no request of what came;
        who sent nothing, or half a request, and went gets none either."""
        error = self.handshake_exc
        if isinstance(error, InvalidMessage) and not isinstance(error.__cause__, EOFError):
            has_body = isinstance(error.__cause__, NotImplementedError) or "body" in str(error.__cause__)
            status = http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE if has_body else http.HTTPStatus.BAD_REQUEST
            self.writes.append(refusal(status).serialize())
        super().send_eof()
