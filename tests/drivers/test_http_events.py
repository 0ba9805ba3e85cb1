"""Answers that are told event by event: whatever goes wrong within one, its last event says how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from edgecoder_drivers.http.contract import TaskPart
from edgecoder_drivers.http.problems import reject
from edgecoder_drivers.http.wire import events


async def content_of(failure: Exception) -> tuple[bytes, Exception | None]:
    """What an answer that fails in its midst says, and what is left to log."""

    async def told() -> AsyncIterator[tuple[str, msgspec.Struct]]:
        yield "part", TaskPart("a", 1)
        raise failure

    said = b""
    try:
        async for part in events(told()).body_iterator:
            assert isinstance(part, bytes)
            said += part
    except RuntimeError as error:
        return said, error
    return said, None


@pytest.mark.parametrize(
    ("failure", "code", "is_logged"),
    [(reject(503, "busy", "too many"), "busy", False), (RuntimeError("a bug"), "internal", True)],
)
def test_what_fails_within_an_answer_is_its_last_event(failure: Exception, code: str, is_logged: bool) -> None:
    said, left = asyncio.run(content_of(failure))
    first, last, rest = said.split(b"\n\n")
    assert (first.startswith(b"event: part\n"), rest) == (True, b"")
    name, _, data = last.partition(b"\ndata: ")
    assert (name, msgspec.json.decode(data)["code"]) == (b"event: failed", code)
    assert (left is failure) is is_logged
