"""What every engine does, simulated or real: told as effects, seen as the events that come of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, TypeVar

from edgecoder.core.effects import LoadModel, Operation, RunTask, UnloadModel
from edgecoder.core.events import (
    Completion,
    EngineFailed,
    Event,
    ModelLoaded,
    ModelLoadFailed,
    ModelUnloaded,
    TaskChunk,
    TaskDone,
    TaskFailed,
)
from edgecoder.core.ids import OpId
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry

TURNS_MAX = 20_000
ENDLESS = 50_000
"""Tokens of an answer that is not over before a test is."""
PROMPT = "def add(a, b):"
LONG_PROMPT = "hello " * 6000
"""More than is read at once, and than a short context holds."""
SHORT_CONTEXT_TOKENS = 1024
C = TypeVar("C", bound=Completion)


class Bad(NamedTuple):
    """A file that does not load, and why."""

    entry: CatalogEntry
    reason: Reason


class Bench(Protocol):
    """An engine with files for it."""

    @property
    def events(self) -> list[Event]:
        """What came of it, in order."""
        ...

    @property
    def files(self) -> tuple[CatalogEntry, CatalogEntry]:
        """Two that load."""
        ...

    @property
    def bad(self) -> Mapping[str, Bad]:
        """Some that do not."""
        ...

    @property
    def context_tokens(self) -> int:
        """Room for an endless answer."""
        ...

    def perform(self, effect: Operation) -> None:
        """Carry out an effect."""
        ...

    def cancel(self, op: OpId) -> None:
        """As by CancelOp."""
        ...

    def crash(self) -> None:
        """Take the engine down while it has a model."""
        ...

    async def turn(self) -> None:
        """Let some milliseconds pass."""
        ...


class Talk:
    """A conversation with an engine."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.good, self.other = bench.files
        self._ops = 0

    def begin_load(self, entry: CatalogEntry, context_tokens: int | None = None) -> OpId:
        return self._begin(lambda op: LoadModel(op, entry, context_tokens or self.bench.context_tokens))

    def begin_task(self, max_tokens: int = ENDLESS, prompt: str = PROMPT) -> OpId:
        return self._begin(lambda op: RunTask(op, bytes([op]), prompt, max_tokens))

    def begin_unload(self) -> OpId:
        return self._begin(UnloadModel)

    def _begin(self, effect: Callable[[OpId], Operation]) -> OpId:
        self._ops += 1
        self.bench.perform(effect(self._ops))
        return self._ops

    async def load(self, entry: CatalogEntry, context_tokens: int | None = None) -> ModelLoaded:
        return await self.completion(self.begin_load(entry, context_tokens), ModelLoaded)

    async def unload(self) -> None:
        await self.completion(self.begin_unload(), ModelUnloaded)

    async def completion(self, op: OpId, kind: type[C]) -> C:
        """The one completion of an operation, which is of this type."""
        await self.until(lambda: self._completions(op) != [])
        (completion,) = self._completions(op)
        assert isinstance(completion, kind), completion
        return completion

    async def until(self, is_so: Callable[[], bool]) -> None:
        for _ in range(TURNS_MAX):
            if is_so():
                return
            await self.bench.turn()
        raise AssertionError(f"it does not come: {self.bench.events[-5:]}")

    async def quiet(self) -> None:
        """Some turns, in which what is not to come could."""
        for _ in range(20):
            await self.bench.turn()

    def chunks(self, op: OpId) -> list[TaskChunk]:
        return [event for event in self.bench.events if isinstance(event, TaskChunk) and event.op == op]

    async def answer(self, max_tokens: int, prompt: str = PROMPT) -> int:
        """The tokens of an answer, which came in parts."""
        op = self.begin_task(max_tokens, prompt)
        done = await self.completion(op, TaskDone)
        assert sum(chunk.tokens for chunk in self.chunks(op)) == done.tokens
        return done.tokens

    def _completions(self, op: OpId) -> list[Completion]:
        return [event for event in self.bench.events if isinstance(event, Completion) and event.op == op]

    def check(self) -> None:
        """Each operation has one completion, and nothing comes of it after that."""
        for op in range(1, self._ops + 1):
            of_op = [event for event in self.bench.events if getattr(event, "op", None) == op]
            ends = [event for event in of_op if isinstance(event, Completion)]
            assert len(ends) == 1, of_op
            assert of_op[-1] is ends[0], "something came after the completion"


class EngineContract:
    """To be inherited by the tests of an engine."""

    def bench(self) -> AbstractAsyncContextManager[Bench]:
        """An engine that is empty, for one test."""
        raise NotImplementedError

    def run(self, test: Callable[[Talk], Awaitable[None]]) -> None:
        """Run a test, and see that each operation got its completion."""

        async def with_bench() -> None:
            async with self.bench() as bench, asyncio.timeout(120):
                talk = Talk(bench)
                await test(talk)
                await talk.quiet()
                talk.check()

        asyncio.run(with_bench())

    def test_a_model_is_loaded_answers_and_is_freed(self) -> None:
        async def test(talk: Talk) -> None:
            assert (await talk.load(talk.good)).tokens_per_s > 0
            assert 0 < await talk.answer(20) <= 20
            await talk.unload()
            failed = await talk.completion(talk.begin_task(), TaskFailed)
            assert failed.reason is Reason.NO_MODEL

        self.run(test)

    def test_two_at_once_are_both_answered(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.load(talk.good)
            assert all(tokens > 0 for tokens in await asyncio.gather(talk.answer(40), talk.answer(20)))

        self.run(test)

    def test_one_after_the_other(self) -> None:
        async def test(talk: Talk) -> None:
            for entry in (talk.good, talk.other, talk.good):
                await talk.load(entry)
                assert await talk.answer(5) > 0
                await talk.unload()

        self.run(test)

    def test_a_file_that_does_not_load_says_why_and_leaves_room_for_one_that_does(self) -> None:
        async def test(talk: Talk) -> None:
            assert talk.bench.bad
            for bad in talk.bench.bad.values():
                failed = await talk.completion(talk.begin_load(bad.entry), ModelLoadFailed)
                assert failed.reason is bad.reason
            await talk.load(talk.good)

        self.run(test)

    def test_a_second_model_is_refused(self) -> None:
        async def test(talk: Talk) -> None:
            loading = talk.begin_load(talk.good)
            await talk.completion(talk.begin_load(talk.other), ModelLoadFailed)
            await talk.completion(loading, ModelLoaded)
            await talk.completion(talk.begin_load(talk.other), ModelLoadFailed)
            assert await talk.answer(5) > 0

        self.run(test)

    def test_a_cancelled_load_leaves_it_empty(self) -> None:
        async def test(talk: Talk) -> None:
            op = talk.begin_load(talk.good)
            await talk.bench.turn()
            talk.bench.cancel(op)
            assert (await talk.completion(op, ModelLoadFailed)).reason is Reason.CANCELLED
            assert (await talk.completion(talk.begin_task(), TaskFailed)).reason is Reason.NO_MODEL
            await talk.load(talk.other)

        self.run(test)

    def test_a_cancelled_task_makes_room_for_the_next(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.load(talk.good)
            op = talk.begin_task()
            await talk.until(lambda: talk.chunks(op) != [])
            talk.bench.cancel(op)
            assert (await talk.completion(op, TaskFailed)).reason is Reason.CANCELLED
            assert await talk.answer(5) > 0

        self.run(test)

    def test_a_task_that_is_cancelled_before_its_first_token_makes_room_too(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.load(talk.good)
            op = talk.begin_task(prompt=LONG_PROMPT)
            await talk.bench.turn()
            talk.bench.cancel(op)
            assert (await talk.completion(op, TaskFailed)).reason is Reason.CANCELLED
            assert talk.chunks(op) == []
            assert await talk.answer(5) > 0

        self.run(test)

    def test_an_empty_prompt_is_answered(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.load(talk.good)
            assert 0 <= await talk.answer(5, "") <= 5
            assert await talk.answer(5) > 0

        self.run(test)

    def test_freeing_a_model_ends_what_runs_on_it(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.load(talk.good)
            op = talk.begin_task()
            await talk.until(lambda: talk.chunks(op) != [])
            await talk.unload()
            assert (await talk.completion(op, TaskFailed)).reason is Reason.CANCELLED
            await talk.load(talk.other)

        self.run(test)

    def test_freeing_nothing_is_no_failure(self) -> None:
        self.run(Talk.unload)

    def test_a_crash_ends_tasks_and_is_told_once(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.load(talk.good)
            op = talk.begin_task()
            await talk.until(lambda: talk.chunks(op) != [])
            talk.bench.crash()
            failed = await talk.completion(op, TaskFailed)
            assert failed.reason is Reason.ENGINE_CRASHED
            await talk.until(lambda: EngineFailed(Reason.ENGINE_CRASHED) in talk.bench.events)
            await talk.load(talk.good)
            assert await talk.answer(5) > 0
            assert talk.bench.events.count(EngineFailed(Reason.ENGINE_CRASHED)) == 1

        self.run(test)


class ContextContract(EngineContract):
    """What those keep to besides that have a context which may be too short."""

    def test_a_prompt_that_is_too_long_is_refused_and_the_next_answered(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.load(talk.good, SHORT_CONTEXT_TOKENS)
            op = talk.begin_task(5, LONG_PROMPT)
            assert (await talk.completion(op, TaskFailed)).reason is Reason.TOO_LARGE
            assert talk.chunks(op) == []
            assert await talk.answer(5) > 0

        self.run(test)

    def test_more_tokens_than_there_is_room_for_are_asked_and_not_written(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.load(talk.good, SHORT_CONTEXT_TOKENS)
            for max_tokens in (1 << 32, (1 << 63) - 1):
                assert SHORT_CONTEXT_TOKENS // 4 < await talk.answer(max_tokens) <= SHORT_CONTEXT_TOKENS

        self.run(test)
