"""Bodies in, bodies and events out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from edgecoder.errors import UNREADABLE
from edgecoder_drivers.http.contract import Body
from edgecoder_drivers.http.problems import BUG, Rejected, reject

B = TypeVar("B", bound=Body)
_encoder = msgspec.json.Encoder()
_NO_STORE = {"cache-control": "no-store"}


KEEP_ALIVE_S = 10.0
"""A proxy between may cut off what is silent for longer, and who follows sees that the node lives."""


async def read(request: Request, kind: type[B], missing: str) -> B:
    """The body of a request. Raises Rejected: `missing` is the code where what has to be there is not."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise reject(415, "json_required", "the body is not JSON", "send Content-Type: application/json")
    content = await request.body()
    try:
        value = _whole(msgspec.json.decode(content or b"{}"))
    except UNREADABLE as error:
        raise reject(400, "invalid", "the body is no JSON", "see /openapi.json", str(error)) from None
    try:
        return msgspec.convert(value, kind)
    except UNREADABLE as error:
        code = missing if _lacks(value, kind) else "invalid"
        raise reject(400, code, "the body is not what is asked for", "see /openapi.json", str(error)) from None


def _whole(value: Any) -> Any:
    """The fields of a body, with 1.0 as 1: JSON has one kind of number."""
    if not isinstance(value, dict):
        return value
    return {
        name: int(field) if isinstance(field, float) and field.is_integer() else field for name, field in value.items()
    }


def _lacks(value: Any, kind: type[Body]) -> bool:
    """Whether something is not there that has to be, or is there and says nothing."""
    required = [field.encode_name for field in msgspec.structs.fields(kind) if field.required]
    return isinstance(value, dict) and any(value.get(name) in (None, "") for name in required)


def answer(value: msgspec.Struct | dict[str, Any] | None, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(_encoder.encode(value), status, media_type="application/json", headers=_NO_STORE)


def events(told: AsyncIterator[tuple[str, msgspec.Struct]]) -> StreamingResponse:
    """Server-sent events: a name and a JSON value each, and a comment where there is none for a while. The head is sent
    by then, so what is refused or goes wrong within is told as an event `failed`, the last."""

    async def lines() -> AsyncIterator[bytes]:
        while True:
            coming = asyncio.ensure_future(anext(told, None))
            try:
                while not (await asyncio.wait({coming}, timeout=KEEP_ALIVE_S))[0]:
                    yield b":\n\n"
            finally:
                coming.cancel()
            try:
                event = await coming
            except Rejected as rejected:
                yield _written("failed", rejected.problem)
                return
            except Exception:
                yield _written("failed", BUG)
                raise  # to be logged
            if event is None:
                return
            yield _written(*event)

    return StreamingResponse(lines(), media_type="text/event-stream", headers=_NO_STORE)


def _written(name: str, value: msgspec.Struct) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encoder.encode(value))
