"""Who opens connections and says nothing keeps nobody out, and leaves the node its file handles."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgecoder.core.effects import LoadModel
from edgecoder_drivers.http.connection import Limits, limits_here
from tests.drivers.control import Control, controlled

HALF = b"GET /healthz HTTP/1.1\r\nHost: localh"
CLOSE = b"\r\nConnection: close\r\n\r\n"
SLOW_BODY = b"POST /task HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"


def run(folder: Path, limits: Limits, test: Callable[[Control], Awaitable[None]]) -> None:
    """Run a test against an agent."""

    async def bounded() -> None:
        async with asyncio.timeout(30), controlled(folder, limits=limits) as control:
            await test(control)

    asyncio.run(bounded())


@contextlib.asynccontextmanager
async def connected(control: Control, sent: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection over which so much is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", control.port, limit=1024)
    try:
        writer.write(sent)
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def end_of(reader: asyncio.StreamReader) -> bytes | None:
    """All that still comes; None where the connection was cut off."""
    try:
        return await reader.read() or None
    except ConnectionResetError:
        return None


def test_of_too_many_connections_those_go_that_were_silent_the_longest(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        async with contextlib.AsyncExitStack() as stack:
            silent = [await stack.enter_async_context(connected(control, HALF)) for _ in range(20)]
            assert (await control.ask("GET", "/healthz")).status == 200
            assert [await end_of(reader) for reader, _ in silent[:17]] == [None] * 17
            for reader, writer in silent[17:]:
                writer.write(b"ost" + CLOSE)
                assert (await end_of(reader) or b"").startswith(b"HTTP/1.1 200")

    run(tmp_path, Limits(connections_max=4), test)


def test_who_is_being_answered_is_not_put_out(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def waits() -> None:
            begun.set()
            await goes_on.wait()

        control.driver.before[LoadModel] = waits
        swap = asyncio.ensure_future(control.ask("POST", "/model/swap", {"model": "small", "wait": True}))
        await begun.wait()
        async with contextlib.AsyncExitStack() as stack:
            silent = [await stack.enter_async_context(connected(control, HALF)) for _ in range(10)]
            assert await end_of(silent[0][0]) is None
            goes_on.set()
            assert (await swap).json["active"] == "small"

    run(tmp_path, Limits(connections_max=4), test)


@pytest.mark.parametrize("begun", [b"", HALF, SLOW_BODY])
def test_a_request_that_is_not_whole_in_time_ends(tmp_path: Path, begun: bytes) -> None:
    async def test(control: Control) -> None:
        async with connected(control, begun) as (reader, _):
            assert await end_of(reader) is None

    run(tmp_path, Limits(request_s=0.1), test)


def test_a_body_that_comes_in_drops_ends_too(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        async with connected(control, SLOW_BODY) as (reader, writer):
            ended = asyncio.ensure_future(end_of(reader))
            for _ in range(80):
                writer.write(b" ")
                await asyncio.wait({ended}, timeout=0.02)
            assert ended.done()
            assert ended.result() is None

    run(tmp_path, Limits(request_s=0.2), test)


def test_each_request_has_its_own_time(tmp_path: Path) -> None:
    """Also behind one that was answered before it was whole."""

    async def test(control: Control) -> None:
        head, body = SLOW_BODY.replace(b"localhost", b"evil.example")[:-1], b" " * 99
        async with connected(control, b"") as (reader, writer):
            for _ in range(8):
                writer.write(head)
                assert b" 421 " in await reader.readuntil(b"\r\n\r\n")
                await reader.readuntil(b"}")
                writer.write(body)
                await asyncio.sleep(0.1)

    run(tmp_path, Limits(request_s=0.5), test)


def test_who_does_not_take_the_answers_is_cut_off(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        async with connected(control, asked * 2_000 + asked.replace(b"\r\n\r\n", CLOSE)) as (reader, _):
            await asyncio.sleep(1)
            answers = await end_of(reader) or b""
            assert answers.count(b"HTTP/1.1 200") < 2_000

    run(tmp_path, Limits(taking_s=0.2), test)


@pytest.mark.parametrize(("handles_max", "connections_max"), [(256, 85), (1024, 341), (1 << 20, 512), (-1, 512)])
def test_the_node_keeps_file_handles_for_itself(
    monkeypatch: pytest.MonkeyPatch, handles_max: int, connections_max: int
) -> None:
    limit = (handles_max, handles_max)
    resource = SimpleNamespace(RLIMIT_NOFILE=7, RLIM_INFINITY=-1, getrlimit=lambda _: limit)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setitem(sys.modules, "resource", resource)
    assert limits_here().connections_max == connections_max


def test_a_system_without_such_limits_has_the_usual_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert limits_here() == Limits()
