"""Bodies in, bodies and events out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from edgecoder_drivers.http.contract import Body
from edgecoder_drivers.http.problems import reject

B = TypeVar("B", bound=Body)
_encoder = msgspec.json.Encoder()
_NO_STORE = {"cache-control": "no-store"}


async def read(request: Request, kind: type[B], missing: str) -> B:
    """The body of a request. Raises Rejected: `missing` is the code where what has to be there is not."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise reject(415, "json_required", "the body is not JSON", "send Content-Type: application/json")
    content = await request.body()
    try:
        return msgspec.convert(_whole(msgspec.json.decode(content or b"{}")), kind)
    except msgspec.ValidationError as error:
        text = str(error)
        code = missing if "missing required field" in text else "invalid"
        raise reject(400, code, "the body is not what is asked for", "see /openapi.json", text) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise reject(400, "invalid", "the body is no JSON", "see /openapi.json", str(error)) from None


def _whole(value: Any) -> Any:
    """The fields of a body, with 1.0 as 1: JSON has one kind of number."""
    if not isinstance(value, dict):
        return value
    return {
        name: int(field) if isinstance(field, float) and field.is_integer() else field for name, field in value.items()
    }


def answer(value: msgspec.Struct | dict[str, Any] | None, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(_encoder.encode(value), status, media_type="application/json", headers=_NO_STORE)


def events(told: AsyncIterator[tuple[str, msgspec.Struct]]) -> StreamingResponse:
    """Server-sent events: a name and a JSON value each."""

    async def lines() -> AsyncIterator[bytes]:
        async for name, value in told:
            yield b"event: %s\ndata: %s\n\n" % (name.encode(), _encoder.encode(value))

    return StreamingResponse(lines(), media_type="text/event-stream", headers=_NO_STORE)
