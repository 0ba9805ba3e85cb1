"""The asyncio host: commands get their one reply, operations their one completion, and an end is an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog

from edgecoder.config import NodeConfig
from edgecoder.core.effects import (
    LoadModel,
    ModelStatus,
    Persist,
    Progress,
    PullResult,
    RunTask,
    SwapResult,
    TaskResult,
)
from edgecoder.core.events import (
    CancelTask,
    LinkUp,
    PullModel,
    QueryStatus,
    ShutDown,
    SubmitTask,
    SwapModel,
    Wake,
)
from edgecoder.core.ids import Medium
from edgecoder.errors import LocalProtocolError, Reason
from edgecoder.trace import NodeReady
from edgecoder_drivers import host as host_module
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.host import AsyncHost
from tests.catalogs import LARGE, SMALL, TINY
from tests.drivers.memory import MemoryDriver
from tests.drivers.rig import Seen, as_kind, has, living


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run an asynchronous test, at most for half a minute."""

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


def refuses(reason: Reason) -> Callable[[], Any]:
    async def refuse() -> None:
        raise Refused(reason)

    return refuse


def test_a_swap_is_carried_out_and_replied_to() -> None:
    async def test() -> None:
        driver, seen = MemoryDriver(), Seen()
        async with living([driver], has(SMALL, LARGE), seen=seen) as host:
            first = await host.ask(SwapModel, model="small")
            second = await host.ask(SwapModel, model="large")
            assert first == SwapResult(None, "small", 1.5)
            assert second == SwapResult("small", "large", 7.0)
            status = as_kind(await host.ask(QueryStatus), ModelStatus)
            assert (status.model, status.status) == ("large", "ready")
        assert driver.is_closed
        assert len([record for record in seen.records if isinstance(record, NodeReady)]) == 1

    run(test)


def test_a_task_streams_its_parts() -> None:
    async def test() -> None:
        parts: list[Progress] = []
        async with living([MemoryDriver()], has(SMALL)) as host:
            await host.ask(SwapModel, model="small")
            result = await host.ask(SubmitTask, on_progress=parts.append, prompt="def")
        assert as_kind(result, TaskResult).text == "def add"
        assert [part.text for part in parts] == ["def ", "add"]

    run(test)


def test_64_swaps_at_once_end_each_with_an_answer_and_one_winner() -> None:
    async def test() -> None:
        driver = MemoryDriver()
        driver.before[LoadModel] = lambda: asyncio.sleep(0.002)
        async with living([driver], has(SMALL, LARGE, TINY)) as host:
            names = ("small", "large", "tiny")
            asked = [host.ask(SwapModel, model=names[number % 3]) for number in range(64)]
            results = [as_kind(result, SwapResult) for result in await asyncio.gather(*asked)]
            status = as_kind(await host.ask(QueryStatus), ModelStatus)
        assert all(result.reason in (None, Reason.SUPERSEDED, Reason.OVERFLOW) for result in results)
        assert [result.active for result in results if result.reason is None][-1] == status.model

    run(test)


def test_what_a_driver_refuses_fails_with_its_reason_and_the_old_model_serves_again() -> None:
    async def test() -> None:
        driver = MemoryDriver()
        async with living([driver], has(SMALL, LARGE)) as host:
            await host.ask(SwapModel, model="small")
            driver.before[LoadModel] = _once(driver, refuses(Reason.OUT_OF_MEMORY))
            assert await host.ask(SwapModel, model="large") == SwapResult("small", "small", 1.5, Reason.OUT_OF_MEMORY)

    run(test)


def _once(driver: MemoryDriver, wait: Callable[[], Any]) -> Callable[[], Any]:
    async def waited() -> None:
        del driver.before[LoadModel]
        await wait()

    return waited


def test_a_driver_that_raises_ends_an_operation_and_not_the_node() -> None:
    async def test() -> None:
        async def breaks() -> None:
            raise ZeroDivisionError

        driver = MemoryDriver()
        driver.before[LoadModel] = breaks
        async with living([driver], has(SMALL)) as host:
            with structlog.testing.capture_logs() as logs:
                result = as_kind(await host.ask(SwapModel, model="small"), SwapResult)
            assert result.reason is Reason.UNAVAILABLE
            assert any(entry["event"] == "driver failed" and entry["what"] == "LoadModel" for entry in logs)
            assert as_kind(await host.ask(QueryStatus), ModelStatus).status in ("error", "no_model")

    run(test)


def test_an_operation_that_no_driver_carries_out_is_unavailable() -> None:
    class NoEngine(MemoryDriver):
        def operations(self) -> Any:
            return {kind: operate for kind, operate in super().operations().items() if kind is not LoadModel}

    async def test() -> None:
        async with living([NoEngine()], has(SMALL)) as host:
            assert as_kind(await host.ask(SwapModel, model="small"), SwapResult).reason is Reason.UNAVAILABLE

    run(test)


def test_a_cancelled_task_ends_as_cancelled_also_before_it_has_begun() -> None:
    async def test() -> None:
        driver = MemoryDriver()
        driver.before[RunTask] = lambda: asyncio.sleep(20)
        async with living([driver], has(SMALL)) as host:
            await host.ask(SwapModel, model="small")
            command, reply = host.begin(SubmitTask, prompt="def")
            host.begin(CancelTask, task=command)
            assert as_kind(await reply, TaskResult).reason is Reason.CANCELLED
            command, reply = host.begin(SubmitTask, prompt="def")
            await asyncio.sleep(0.05)
            host.begin(CancelTask, task=command)
            assert as_kind(await reply, TaskResult).reason is Reason.CANCELLED
        assert not [effect for effect in driver.done if isinstance(effect, RunTask)]

    run(test)


def test_who_stops_waiting_calls_nothing_off() -> None:
    async def test() -> None:
        driver = MemoryDriver()
        driver.before[LoadModel] = lambda: asyncio.sleep(0.05)
        async with living([driver], has(SMALL)) as host:
            asked = asyncio.ensure_future(host.ask(SwapModel, model="small"))
            await asyncio.sleep(0.01)
            asked.cancel()
            _, reply = host.begin(SwapModel, model="small")
            reply.cancel()
            await asyncio.sleep(0.1)
            assert as_kind(await host.ask(QueryStatus), ModelStatus).model == "small"

    run(test)


def test_an_end_drains_and_answers_all() -> None:
    async def test() -> None:
        driver, gate = MemoryDriver(), asyncio.Event()
        driver.before[RunTask] = gate.wait
        async with living([driver], has(SMALL), config=NodeConfig(has_radio=False, slots=1)) as host:
            await host.ask(SwapModel, model="small")
            _, task = host.begin(SubmitTask, prompt="def")
            _, waiting = host.begin(SubmitTask, prompt="def")
            await host.ask(QueryStatus)
            draining = asyncio.ensure_future(host.drain())
            assert as_kind(await waiting, TaskResult).reason is Reason.SHUTTING_DOWN
            assert not task.done()
            gate.set()
            await draining
            assert as_kind(await task, TaskResult).text == "def add"
            _, late = host.begin(QueryStatus)
            await host.stop()
            assert await late is Reason.RESTARTED

    run(test)


def test_an_end_waits_for_what_is_being_written() -> None:
    async def test() -> None:
        driver = MemoryDriver()
        async with living([driver], has(SMALL)) as host:
            await host.ask(SwapModel, model="small")
            driver.before[Persist] = lambda: asyncio.sleep(0.05)
            host.begin(PullModel, model="large")
            await asyncio.sleep(0.01)
            kept = dict(driver.disk)
            await host.stop()
            assert driver.disk != kept

    run(test)


def test_progress_of_a_pull_is_heard() -> None:
    async def test() -> None:
        heard: list[Progress] = []
        async with living([MemoryDriver()], has()) as host:
            assert await host.ask(PullModel, on_progress=heard.append, model="small") == PullResult("small")
        assert [news.bytes_done for news in heard] == [SMALL.file_size_bytes // 2]

    run(test)


def test_two_drivers_for_one_thing_are_refused() -> None:
    async def test() -> None:
        async with living([MemoryDriver()]) as host:
            with pytest.raises(ValueError, match=r"two drivers carry out .*LoadModel"):
                AsyncHost(host._node, [MemoryDriver(), MemoryDriver()])

    run(test)


def test_a_full_inbox_drops_news_and_no_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        driver = MemoryDriver()
        async with living([driver], has(SMALL)) as host:
            await host.ask(QueryStatus)
            monkeypatch.setattr(host_module, "INBOX_MAX", 3)
            with structlog.testing.capture_logs() as logs:
                for number in range(10):
                    driver.say(LinkUp(number, Medium.LAN))
            assert len(logs) == 7
            monkeypatch.undo()
            assert as_kind(await host.ask(SwapModel, model="small"), SwapResult).reason is None

    run(test)


def test_what_ends_a_node_is_raised_to_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with living([MemoryDriver()]) as host:

            def handle(*_: object) -> None:
                raise LocalProtocolError("broken")

            monkeypatch.setattr(host._node, "handle", handle)
            host.post(Wake())
            with pytest.raises(LocalProtocolError, match="broken"):
                await host.wait()

    run(test)


def test_shut_down_twice_is_answered_twice() -> None:
    async def test() -> None:
        async with living([MemoryDriver()]) as host:
            assert set(await asyncio.gather(host.ask(ShutDown), host.ask(ShutDown))) == {None}

    run(test)
