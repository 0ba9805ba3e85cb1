"""The asyncio host: commands get their one reply, operations their one completion, and an end is an end."""

from __future__ import annotations

import asyncio
import itertools
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
    Send,
    SwapResult,
    TaskResult,
)
from edgecoder.core.events import (
    CancelTask,
    FrameReceived,
    LinkUp,
    PullModel,
    QueryStatus,
    ShutDown,
    SubmitTask,
    SwapModel,
    TaskChunk,
    TaskDone,
    Wake,
)
from edgecoder.core.ids import Medium
from edgecoder.errors import LocalProtocolError, Reason
from edgecoder.trace import NodeReady, Record, SwapPhase
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


def test_64_swaps_at_once_end_each_with_an_answer_and_one_winner_at_a_time() -> None:
    """No two loads overlap; who wins is what was loaded then, in the order of the answers; all others are told why."""

    async def test() -> None:
        driver, answers = MemoryDriver(), list[SwapResult]()
        loading: list[int] = []

        async def load() -> None:
            assert not loading, "two loads at once"
            loading.append(1)
            await asyncio.sleep(0.002)
            loading.pop()

        driver.before[LoadModel] = load
        async with living([driver], has(SMALL, LARGE, TINY)) as host:

            async def swap(number: int) -> None:
                model = ("small", "large", "tiny")[number % 3]
                answers.append(as_kind(await host.ask(SwapModel, model=model), SwapResult))
                assert answers[-1].reason is not None or answers[-1].active == model

            await asyncio.gather(*map(swap, range(64)))
            status = as_kind(await host.ask(QueryStatus), ModelStatus)
        loads = [effect.entry.model_id for effect in driver.done if isinstance(effect, LoadModel)]
        won = [answer.active for answer in answers if answer.reason is None]
        assert len(answers) == 64
        assert [model for model, _ in itertools.groupby(won)] == loads, "each winner was active when it was told so"
        assert {answer.reason for answer in answers} == {None, Reason.SUPERSEDED}
        assert won[-1] == status.model == loads[-1]

    run(test)


class Streams(MemoryDriver):
    """Writes a word, and the next one when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    def operations(self) -> Any:
        async def run_task(effect: RunTask) -> TaskDone:
            self.say(TaskChunk(effect.op, "def ", 1))
            await self.gate.wait()
            self.say(TaskChunk(effect.op, "add", 1))
            return TaskDone(effect.op, 2)

        return {**super().operations(), RunTask: run_task}


class Phases(Seen):
    """Tells when a swap drains."""

    def __init__(self) -> None:
        super().__init__()
        self.drains = asyncio.Event()

    def record(self, now: int, record: Record) -> None:
        super().record(now, record)
        if isinstance(record, SwapPhase) and record.phase == "draining":
            self.drains.set()


@pytest.mark.parametrize("ends", [True, False])
def test_a_swap_during_a_streamed_task_waits_for_its_last_token_or_the_drain_deadline(ends: bool) -> None:
    async def test() -> None:
        driver, seen, parts = Streams(), Phases(), asyncio.Queue[Progress]()
        config = NodeConfig(has_radio=False, drain_ms=60_000 if ends else 1_000)
        async with living([driver], has(SMALL, LARGE), config=config, seen=seen) as host:
            await host.ask(SwapModel, model="small")
            seen.drains.clear()
            _, task = host.begin(SubmitTask, on_progress=parts.put_nowait, prompt="def")
            assert (await parts.get()).text == "def "
            _, swap = host.begin(SwapModel, model="large")
            await seen.drains.wait()
            await asyncio.wait({swap, task}, timeout=0.02)
            assert not swap.done()
            assert not task.done(), "neither has the swap cut it off"
            if ends:
                driver.gate.set()
            result = as_kind(await task, TaskResult)
            assert (result.text, result.reason) == (("def add", None) if ends else ("def ", Reason.DRAINED))
            assert as_kind(await swap, SwapResult) == SwapResult("small", "large", 7.0)

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


def test_a_full_inbox_drops_frames_and_nothing_that_is_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        driver = MemoryDriver()
        async with living([driver], has(SMALL)) as host:
            await host.ask(SwapModel, model="small")
            gate = asyncio.Event()
            driver.before[RunTask] = gate.wait
            _, task = host.begin(SubmitTask, prompt="def")
            await host.ask(QueryStatus)
            gate.set()
            monkeypatch.setattr(host_module, "INBOX_MAX", 0)
            with structlog.testing.capture_logs() as logs:
                for number in range(10):
                    driver.say(FrameReceived(number, b""))
                    driver.say(LinkUp(number, Medium.LAN))
            assert [entry["dropped"] for entry in logs] == ["FrameReceived"] * 10
            assert host._inbox.qsize() == 10
            assert as_kind(await task, TaskResult).text == "def add", "no part of it is missing"

    run(test)


def test_a_command_that_finds_the_inbox_full_is_refused_and_an_end_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with living([MemoryDriver()], has(SMALL)) as host:
            await host.ask(QueryStatus)
            monkeypatch.setattr(host_module, "INBOX_MAX", 0)
            assert await host.ask(QueryStatus) is Reason.OVERFLOW
            assert await host.ask(ShutDown) is None

    run(test)


def test_a_timer_that_finds_the_inbox_full_goes_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch is written once a second until that works."""

    async def test() -> None:
        driver, tries = MemoryDriver(), asyncio.Queue[None]()

        async def full() -> None:
            tries.put_nowait(None)
            raise Refused(Reason.DISK_FULL)

        driver.before[Persist] = full
        async with living([driver], has(SMALL)):
            await tries.get()
            monkeypatch.setattr(host_module, "INBOX_MAX", 0)
            await tries.get()

    run(test)


def test_who_stops_a_life_twice_waits_for_its_end_twice() -> None:
    async def test() -> None:
        driver, gate = MemoryDriver(), asyncio.Event()
        async with living([driver], has(SMALL)) as host:
            await host.ask(QueryStatus)
            driver.before[Persist] = gate.wait
            host.begin(PullModel, model="large")
            await asyncio.sleep(0.01)
            assert host._writes
            stops = [asyncio.ensure_future(host.stop()) for _ in range(2)]
            await asyncio.wait(stops, timeout=0.05)
            assert not any(stop.done() for stop in stops)
            gate.set()
            await asyncio.gather(*stops)
            assert driver.is_closed

    run(test)


def test_a_node_that_ends_while_it_drains_ends_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        driver = MemoryDriver()
        driver.before[RunTask] = asyncio.Event().wait
        async with living([driver], has(SMALL)) as host:
            await host.ask(SwapModel, model="small")
            _, task = host.begin(SubmitTask, prompt="def")
            await host.ask(QueryStatus)
            draining = asyncio.ensure_future(host.drain())
            await asyncio.sleep(0.01)
            monkeypatch.setattr(host._node, "handle", lambda *_: 1 // 0)
            driver.say(Wake())
            await draining
            with pytest.raises(ZeroDivisionError):
                await host.wait()
            assert await task is Reason.RESTARTED
            assert driver.is_closed

    run(test)


class Breaks(MemoryDriver):
    """A driver of frames alone that raises whatever it is asked."""

    def operations(self) -> Any:
        return {}

    def effects(self) -> Any:
        def send(_: object) -> None:
            raise OSError("the radio is gone")

        return {Send: send}

    async def close(self) -> None:
        raise OSError("it does not close")


class OnlyOperations(MemoryDriver):
    def effects(self) -> Any:
        return {}


class Blind(Seen):
    def record(self, now: int, record: object) -> None:
        raise BrokenPipeError(f"nobody reads of {record} at {now}")


def test_a_driver_or_an_observer_that_raises_is_told_of_and_ends_nothing() -> None:
    async def test() -> None:
        broken, sound = Breaks(), OnlyOperations()
        with structlog.testing.capture_logs() as logs:
            async with living([broken, sound], has(SMALL), seen=Blind()) as host:
                await host.ask(SwapModel, model="small")
                broken.say(LinkUp(1, Medium.LAN))
                assert as_kind(await host.ask(QueryStatus), ModelStatus).model == "small"
        assert sound.is_closed
        assert {entry["event"] for entry in logs} == {"effect failed", "observer failed", "driver not closed"}

    run(test)


def test_a_log_that_raises_keeps_no_operation_open(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def info(self, *_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

    async def test() -> None:
        driver = MemoryDriver()
        driver.before[LoadModel] = refuses(Reason.OUT_OF_MEMORY)
        async with living([driver], has(SMALL)) as host:
            host._loop.set_exception_handler(lambda *_: None)
            monkeypatch.setattr(host_module, "_log", Full())
            assert as_kind(await host.ask(SwapModel, model="small"), SwapResult).reason is Reason.OUT_OF_MEMORY

    run(test)


def test_what_ends_a_node_is_raised_to_who_waits_and_open_commands_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with living([MemoryDriver()]) as host:

            def handle(*_: object) -> None:
                raise LocalProtocolError("broken")

            monkeypatch.setattr(host._node, "handle", handle)
            host.post(Wake())
            _, reply = host.begin(QueryStatus)
            with pytest.raises(LocalProtocolError, match="broken"):
                await host.wait()
            assert await reply is await host.ask(QueryStatus) is Reason.RESTARTED

    run(test)


def test_shut_down_twice_is_answered_twice() -> None:
    async def test() -> None:
        async with living([MemoryDriver()]) as host:
            assert set(await asyncio.gather(host.ask(ShutDown), host.ask(ShutDown))) == {None}

    run(test)
