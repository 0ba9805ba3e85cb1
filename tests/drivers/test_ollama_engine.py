"""The engine on an Ollama that others use too: what is ours, what is theirs, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from edgecoder.config import NodeConfig
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.engine import Part
from edgecoder_drivers.ollama.client import Timeouts
from edgecoder_drivers.ollama.engine import OllamaEngine
from tests.drivers.engine_bench import DriverBench, driver_bench
from tests.drivers.engine_contract import Bad, ContextContract
from tests.drivers.ollama_rig import (
    CONTEXT_TOKENS,
    REAL,
    WHERE,
    Site,
    refusal,
    run,
    site,
    tiny,
    until,
)

ENDLESS_TOKENS = 50_000
everywhere = pytest.mark.parametrize("where", WHERE)


class OllamaContract(ContextContract):
    where: str

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    @asynccontextmanager
    async def bench(self) -> AsyncIterator[DriverBench]:
        good, good_path = tiny(self.folder, "good", endless=True)
        other, other_path = tiny(self.folder, "other", 1, endless=True)
        absent, _ = tiny(self.folder, "absent", 2)
        big = msgspec.structs.replace(good, min_memory_mb=1_000_000)
        bad = {"absent": Bad(absent, Reason.NOT_INSTALLED), "too big": Bad(big, Reason.INSUFFICIENT_MEMORY)}
        async with site(self.where, self.folder) as there:
            files = there.files()
            await files.take(good, good_path)
            await files.take(other, other_path)
            engine = there.engine(poll_s=60)
            async with driver_bench(engine, (good, other), bad, lambda: self.crash(there), 131_072) as bench:
                yield bench

    def crash(self, there: Site) -> None:
        there.double.double.runners.crash()


class TestDouble(OllamaContract):
    where = "double"


class TestDoubleOfToday(OllamaContract):
    where = "double of today"


if REAL is not None:

    class TestReal(OllamaContract):
        where = "real"

        def test_a_crash_ends_tasks_and_is_told_once(self) -> None:
            """Its processes are not ours to kill."""


async def with_models(there: Site) -> tuple[CatalogEntry, CatalogEntry]:
    """Two models that the server has."""
    (good, good_path), (other, other_path) = tiny(there.folder, "good", endless=True), tiny(there.folder, "other", 1)
    files = there.files()
    await files.take(good, good_path)
    await files.take(other, other_path)
    return good, other


async def answer(engine: OllamaEngine, max_tokens: int = 20) -> list[Part]:
    return [part async for part in engine.generate("def add(a, b):", max_tokens)]


@everywhere
def test_a_model_stays_and_answers_without_being_loaded_again(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            good, _ = await with_models(there)
            engine = there.watched(there.engine())
            assert await engine.load(good, CONTEXT_TOKENS) > 0
            assert await there.running() == ["edgecoder-test-good:tiny"]
            if where != "real":
                (before,) = there.double.double.runners.all()
                assert before.keep_alive_s == float("inf")
            assert sum(part.tokens for part in await answer(engine)) == 20
            if where != "real":
                assert there.double.double.runners.all() == [before]
                assert before.keep_alive_s == float("inf")
            await engine.unload()
            assert await there.running() == []
            assert there.failed == []

    run(test)


@everywhere
def test_a_model_that_others_free_is_told_once(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            good, _ = await with_models(there)
            engine = there.watched(there.engine())
            await engine.load(good, CONTEXT_TOKENS)
            await there.others.free(good.aliases[0])
            await until(lambda: there.failed != [])
            await asyncio.sleep(0.1)
            assert there.failed == [Reason.NO_MODEL]
            assert await refusal(answer(engine)) is Reason.NO_MODEL
            await engine.load(good, CONTEXT_TOKENS)
            assert await answer(engine)

    run(test)


@everywhere
def test_a_life_that_was_cut_off_leaves_its_model_to_the_next(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            good, other = await with_models(there)
            await there.engine().load(good, CONTEXT_TOKENS)
            second = there.engine()
            await second.load(good, CONTEXT_TOKENS)  # it is ours still
            await second.unload()
            assert await there.running() == []
            await there.engine().load(good, CONTEXT_TOKENS)
            third = there.watched(there.engine())
            await third.load(other, CONTEXT_TOKENS)
            assert await there.running() == ["edgecoder-test-other:tiny"]

    run(test)


@everywhere
def test_an_end_frees_what_is_ours(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            good, _ = await with_models(there)
            engine = there.engine()
            engine.watch(there.failed.append)
            await engine.load(good, CONTEXT_TOKENS)
            assert (tmp_path / "loaded").exists()
            await engine.close()
            assert await there.running() == []
            assert not (tmp_path / "loaded").exists()

    run(test)


@everywhere
def test_a_name_that_means_another_build_is_not_the_model(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            good, _ = await with_models(there)
            newer, _ = tiny(tmp_path, "newer", 5)
            renamed = msgspec.structs.replace(newer, aliases=good.aliases)
            engine = there.watched(there.engine())
            assert await refusal(engine.load(renamed, CONTEXT_TOKENS)) is Reason.NOT_INSTALLED
            assert await there.running() == []

    run(test)


@everywhere
def test_a_model_that_somebody_uses_is_not_freed(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            good, _ = await with_models(there)
            engine = there.watched(there.engine(timeouts=Timeouts(unload=0.2)))
            await engine.load(good, 131_072)
            parts = there.others.generate(good.aliases[0], "def", context_tokens=131_072, max_tokens=ENDLESS_TOKENS)
            await anext(parts)
            assert await refusal(engine.unload()) is Reason.UNLOAD_FAILED
            await parts.aclose()

    run(test)


def test_a_load_that_is_called_off_leaves_nothing_in_memory(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, _ = await with_models(there)
            engine = there.watched(there.engine())
            there.double.faults.hangs.add("/api/generate")
            loading = asyncio.ensure_future(engine.load(good, CONTEXT_TOKENS))
            await until(lambda: "/api/generate" in there.double.faults.asked)
            await there.others.running()
            there.double.faults.hangs.clear()
            await there.others.load(good.aliases[0], CONTEXT_TOKENS)  # what was under way gets there all the same
            loading.cancel()
            with suppress(asyncio.CancelledError):
                await loading
            assert loading.cancelled()
            assert await there.running() == []

    run(test)


def test_a_task_that_is_called_off_ends_the_stream(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, _ = await with_models(there)
            engine = there.watched(there.engine())
            await engine.load(good, 131_072)
            parts = engine.generate("def", ENDLESS_TOKENS)
            await anext(parts)
            await parts.aclose()  # type: ignore[attr-defined]
            await until(lambda: there.double.faults.broken_off == 1)
            (runner,) = there.double.double.runners.all()
            await until(lambda: runner.users == 0)
            assert await answer(engine)

    run(test)


def test_a_server_that_is_away_is_seen_again_by_itself(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, _ = await with_models(there)
            engine = there.watched(there.engine())
            await until(lambda: engine.is_healthy)
            await engine.load(good, CONTEXT_TOKENS)
            await there.double.stop()
            await until(lambda: there.failed == [Reason.UNAVAILABLE])
            assert not engine.is_healthy
            assert await refusal(engine.load(good, CONTEXT_TOKENS)) is Reason.UNAVAILABLE
            await there.double.start()
            await until(lambda: there.times_back == 2)
            assert await engine.load(good, CONTEXT_TOKENS) > 0
            assert there.failed == [Reason.UNAVAILABLE]

    run(test)


def test_a_server_that_dies_between_two_looks_is_told_of_by_a_load(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, _ = await with_models(there)
            engine = there.watched(there.engine(poll_s=0.3))
            await until(lambda: engine.is_healthy)
            await there.double.stop()
            assert await refusal(engine.load(good, CONTEXT_TOKENS)) is Reason.UNAVAILABLE
            await there.double.start()
            await until(lambda: there.times_back == 2)

    run(test)


def test_with_the_server_the_model_is_gone_so_freeing_it_is_no_failure(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, _ = await with_models(there)
            engine = there.engine()
            await engine.load(good, CONTEXT_TOKENS)
            await there.double.stop()
            await engine.unload()
            await there.double.start()

    run(test)


def test_a_server_that_is_too_old_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, _ = await with_models(there)
            engine = there.watched(there.engine())
            for version in ("0.17.0", "0.9.6", "0.17.0-rc1", "nonsense"):
                there.double.faults.version = version
                with pytest.raises(Refused, match=r"too old: install 0.17.1 or later") as refused:
                    await engine.load(good, CONTEXT_TOKENS)
                assert refused.value.reason is Reason.UNAVAILABLE
            for version in ("0.17.1", "0.18.0-rc0", "1.0"):
                there.double.faults.version = version
                await engine.load(good, CONTEXT_TOKENS)
                await engine.unload()

    run(test)


def test_a_server_that_hangs_three_times_has_lost_the_model(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, _ = await with_models(there)
            client = there.client()
            engine = there.watched(OllamaEngine(client, NodeConfig(), tmp_path / "loaded", poll_s=0.02))
            await engine.load(good, CONTEXT_TOKENS)
            faults = there.double.faults
            client.timeouts = Timeouts(answer=0.2)
            faults.asked.clear()
            await until(lambda: "/api/ps" in faults.asked)
            faults.hangs |= {"/api/version", "/api/ps"}
            faults.asked.clear()
            await until(lambda: there.failed == [Reason.UNAVAILABLE])
            assert len([path for path in faults.asked if path in faults.hangs]) >= 3
            faults.hangs.clear()
            await until(lambda: engine.is_healthy)

    run(test)


def test_a_task_ends_when_its_model_counts_as_lost(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, _ = await with_models(there)
            engine = there.watched(there.engine())
            await engine.load(good, CONTEXT_TOKENS)
            there.double.faults.first_line_s = 120.0
            task = asyncio.ensure_future(answer(engine))
            await until(lambda: there.double.faults.asked.count("/api/generate") == 3)
            there.double.double.runners.crash()
            assert await refusal(task) is Reason.NO_MODEL
            assert there.failed == [Reason.NO_MODEL]

    run(test)
