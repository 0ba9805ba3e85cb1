"""What is told when something fails: the engine, a pull, the agent itself; and what of it is in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from edgecoder.core.effects import DeleteFile, FetchFile, LoadModel, RunTask
from edgecoder.errors import Reason
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.http.connection import Limits
from edgecoder_drivers.http.watch import SELDOM_S, Seldom
from tests.catalogs import TINY
from tests.drivers.control import Control
from tests.drivers.test_http import events_of, run

FOLLOW = "GET {path}/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def fails(reason: Reason) -> Callable[[], Awaitable[None]]:
    async def refuses() -> None:
        raise Refused(reason)

    return refuses


def held() -> tuple[Callable[[], Awaitable[None]], asyncio.Event]:
    """What an operation waits for, and what lets it go on."""
    goes_on = asyncio.Event()

    async def waits() -> None:
        await goes_on.wait()

    return waits, goes_on


@pytest.mark.parametrize("wait", [True, False])
def test_an_engine_that_is_away_is_told_alike_whoever_waits(tmp_path: Path, wait: bool) -> None:
    async def test(control: Control) -> None:
        waits, goes_on = held()

        async def is_away() -> None:
            await waits()
            raise Refused(Reason.UNAVAILABLE)

        control.driver.before[LoadModel] = is_away
        if wait:
            goes_on.set()
            problem = (await control.ask("POST", "/model/swap", {"model": "small"})).json
        else:
            operation = (await control.ask("POST", "/model/swap", {"model": "small", "wait": False})).json["operation"]
            goes_on.set()
            problem = events_of((await control.ask("GET", f"/model/operations/{operation}/events")).body)[-1][1][
                "problem"
            ]
        expected = ("the engine does not answer", 503, "unavailable", "swap small")
        assert tuple(problem[name] for name in ("title", "status", "code", "detail")) == expected
        assert (await control.ask("GET", "/model/status")).json["detail"] == "the engine does not answer"

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("failing", "method", "path", "body"),
    [(RunTask, "POST", "/task", {"prompt": "def"}), (DeleteFile, "DELETE", "/model/large", None)],
)
def test_an_engine_that_is_away_is_503_for_all_that_needs_it(
    tmp_path: Path, failing: Any, method: str, path: str, body: Any
) -> None:
    async def test(control: Control) -> None:
        await control.ask("POST", "/model/swap", {"model": "small"})
        control.driver.before[failing] = fails(Reason.UNAVAILABLE)
        response = await control.ask(method, path, body)
        assert (response.status, response.json["code"]) == (503, "unavailable")

    run(tmp_path, test)


def test_a_pull_that_finds_nobody_names_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = msgspec.structs.replace(
        TINY, download_urls=("https://user:secret@cdn.example/tiny.gguf?signed=secret",)
    )
    monkeypatch.setattr("tests.drivers.control.MemoryNode.find", lambda node, model: published)

    async def test(control: Control) -> None:
        control.driver.before[FetchFile] = fails(Reason.NO_SOURCE)
        problem = (await control.ask("POST", "/model/pull", {"model": "tiny"})).json
        assert problem["code"] == "no_source"
        assert problem["detail"] == "pull tiny from https://cdn.example/tiny.gguf"

    run(tmp_path, test)


def test_the_status_says_why_the_model_of_a_swap_did_not_come(tmp_path: Path) -> None:
    async def reason(control: Control) -> Any:
        status = (await control.ask("GET", "/model/status")).json
        assert ("reason" in status) is ("detail" in status)
        return status.get("reason")

    async def test(control: Control) -> None:
        control.driver.before[FetchFile] = fails(Reason.NO_SOURCE)
        await control.ask("POST", "/model/pull", {"model": "tiny"})
        assert await reason(control) is None, "who pulls changes no model"
        await control.ask("POST", "/model/swap", {"model": "tiny"})
        assert await reason(control) == "no_source"
        await control.ask("POST", "/model/swap", {"model": "small"})
        assert await reason(control) is None
        control.driver.before[FetchFile], goes_on = held()
        late = asyncio.ensure_future(control.ask("POST", "/model/swap", {"model": "tiny", "wait": True}))
        await asyncio.sleep(0.1)
        await control.ask("POST", "/model/swap", {"model": "large"})
        goes_on.set()
        assert (await late).json["code"] == "superseded"
        assert await reason(control) is None, "what the user wished for last is there"

    run(tmp_path, test)


@pytest.mark.parametrize("wait", [False, None])
def test_a_swap_that_fetches_its_model_is_said_to_pull(tmp_path: Path, wait: bool | None) -> None:
    async def test(control: Control) -> None:
        control.driver.before[FetchFile], goes_on = held()
        accepted = await control.ask(
            "POST", "/model/swap", {"model": "tiny", **({} if wait is None else {"wait": wait})}
        )
        assert (accepted.status, accepted.json["status"]) == (202, "pulling")
        goes_on.set()

    run(tmp_path, test, swap_wait_s=0.2)


def test_a_bug_is_500_and_its_traceback_is_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(control: Control) -> None:
        def breaks(node: object) -> bool:  # noqa: ARG001
            raise ValueError("a bug")

        monkeypatch.setattr("tests.drivers.control.MemoryNode.is_engine_healthy", breaks)
        with structlog.testing.capture_logs() as logs:
            response = await control.ask("GET", "/healthz")
        assert (response.status, response.json["code"]) == (500, "internal")
        failed = [entry for entry in logs if entry["event"] == "request failed"]
        assert [(entry["path"], repr(entry["exc_info"])) for entry in failed] == [("/healthz", "ValueError('a bug')")]

    run(tmp_path, test)


def test_who_goes_away_within_a_request_is_no_bug(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(control: Control) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", control.port)
        writer.write(b"POST /task HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 99\r\n\r\n{")
        await asyncio.sleep(0.1)
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.1)
        assert (await control.ask("GET", "/healthz")).status == 200

    run(tmp_path, test)
    assert "failed" not in caplog.text


def test_a_server_that_stops_ends_what_is_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(control: Control) -> None:
        control.driver.before[LoadModel], _ = held()
        operation = (await control.ask("POST", "/model/swap", {"model": "small", "wait": False})).json["operation"]
        follower = asyncio.ensure_future(control.ask("GET", f"/model/operations/{operation}/events"))
        waiter = asyncio.ensure_future(control.ask("POST", "/model/swap", {"model": "small", "wait": True}))
        await asyncio.sleep(0.2)
        await control.server.stop()
        assert [name for name, _ in events_of((await follower).body)] == ["progress"]
        assert ((await waiter).status, (await waiter).json["code"]) == (503, "shutting_down")

    run(tmp_path, test, limits=Limits(stop_s=0))
    assert "Traceback" not in caplog.text


def test_a_follower_hears_that_the_node_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecoder_drivers.http.wire.KEEP_ALIVE_S", 0.05)

    async def test(control: Control) -> None:
        control.driver.before[LoadModel] = lambda: asyncio.sleep(0.3)
        operation = (await control.ask("POST", "/model/swap", {"model": "small", "wait": False})).json["operation"]
        body = (await control.ask("GET", f"/model/operations/{operation}/events")).body
        assert body.count(b"\n:\n") >= 2
        assert body.index(b"event: progress") < body.index(b":\n\n") < body.index(b"event: done")

    run(tmp_path, test)


def test_the_log_says_who_changed_something_and_seldom_who_was_refused(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        with structlog.testing.capture_logs() as logs:
            await control.ask("POST", "/model/swap", {"model": "small"}, Authorization="Bearer secret")
            for _ in range(5):
                await control.ask("GET", "/model/%1b[2J", Authorization="Bearer guess")
        told = [entry for entry in logs if entry["event"] in ("asked", "refused") and "path" in entry]
        assert [(entry["event"], entry["path"], entry["status"], entry["client"]) for entry in told] == [
            ("asked", "/model/swap", 200, "127.0.0.1"),
            ("refused", "/model/%1b[2J", 401, "127.0.0.1"),
        ]
        assert "guess" not in str(logs)

    run(tmp_path, test, token="secret")


def test_what_is_seldom_told_is_counted() -> None:
    now = [0.0]
    seldom = Seldom(lambda: now[0])
    assert [seldom("a"), seldom("a"), seldom("b"), seldom("a")] == [1, 0, 1, 0]
    now[0] = SELDOM_S
    assert [seldom("a"), seldom("a")] == [3, 0]
