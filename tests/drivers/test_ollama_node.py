"""A node whose engine is an Ollama: it serves whatever others do to the server, and says what it cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import LoadModel, ModelStatus, RunTask, SwapResult, TaskResult, UnloadModel
from edgecoder.core.events import QueryStatus, SubmitTask, SwapModel
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog
from edgecoder.trace import SwapPhase
from edgecoder_drivers.host import AsyncHost
from edgecoder_drivers.ollama.engine import OllamaDriver
from edgecoder_drivers.ollama.health import check_server
from tests.drivers.memory import MemoryDriver
from tests.drivers.ollama_rig import TURNS_MAX, WHERE, Site, run, site, tiny, until
from tests.drivers.rig import Seen, as_kind, has, living

ENGINE = {LoadModel, UnloadModel, RunTask}
everywhere = pytest.mark.parametrize("where", WHERE)


class Rest(MemoryDriver):
    """All of a node but its engine."""

    def operations(self) -> Any:
        return {kind: operate for kind, operate in super().operations().items() if kind not in ENGINE}


class Served:
    """A node that runs, and its server."""

    def __init__(self, host: AsyncHost, there: Site, seen: Seen) -> None:
        self.host, self.there, self._seen = host, there, seen

    def phases(self) -> list[str]:
        """What the model that serves went through."""
        return [record.phase for record in self._seen.records if isinstance(record, SwapPhase)]

    async def swap(self, model: str) -> SwapResult:
        return as_kind(await self.host.ask(SwapModel, model=model), SwapResult)

    async def status(self) -> tuple[str | None, str]:
        status = as_kind(await self.host.ask(QueryStatus), ModelStatus)
        return status.model, status.status

    async def task(self) -> TaskResult:
        return as_kind(await self.host.ask(SubmitTask, prompt="def add", max_tokens=5), TaskResult)

    async def until(self, status: tuple[str | None, str]) -> None:
        for _ in range(TURNS_MAX):
            if await self.status() == status:
                return
            await self.there.others.running()
        raise AssertionError(await self.status())


@asynccontextmanager
async def node(there: Site, rest: Rest, *, is_first: bool = True) -> AsyncIterator[Served]:
    """A life of a node with two models, both of which Ollama has."""
    (good, good_path), (other, other_path) = tiny(there.folder, "good", endless=True), tiny(there.folder, "other", 1)
    if is_first:
        await there.files().take(good, good_path)
        await there.files().take(other, other_path)
        rest.disk |= has(good, other)
    driver = OllamaDriver(there.engine())
    config, seen = NodeConfig(has_radio=False, context_tokens=512), Seen()
    catalog = Catalog((good, other))
    async with living([driver, rest], dict(rest.disk), config=config, catalog=catalog, seen=seen) as host:
        yield Served(host, there, seen)


def with_node(where: str, folder: Path, test: Callable[[Served], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        async with site(where, folder) as there, node(there, Rest()) as served:
            await test(served)

    run(all_of_it)


@everywhere
def test_a_swap_frees_one_and_loads_the_other(where: str, tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        assert (await served.swap("edgecoder-test-good:tiny")).active == "edgecoder-test-good-gguf"
        assert (await served.swap("edgecoder-test-other:tiny")).previous == "edgecoder-test-good-gguf"
        assert await served.there.running() == ["edgecoder-test-other:tiny"]
        answer = await served.task()
        assert answer.reason is None
        assert 0 < answer.tokens <= 5

    with_node(where, tmp_path, test)


@everywhere
def test_what_others_free_comes_back_once(where: str, tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        await served.swap("edgecoder-test-good:tiny")
        await served.there.others.free("edgecoder-test-good:tiny")
        await until(lambda: "rollingBack" in served.phases())
        await served.until(("edgecoder-test-good-gguf", "ready"))
        await served.there.others.free("edgecoder-test-good:tiny")
        await served.until((None, "no_model"))
        assert await served.there.running() == []

    with_node(where, tmp_path, test)


@everywhere
def test_a_model_that_was_deleted_behind_our_back_leaves_the_old_one_serving(where: str, tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        await served.swap("edgecoder-test-good:tiny")
        await served.there.others.delete("edgecoder-test-other:tiny")
        before = served.phases()
        assert (await served.swap("edgecoder-test-other:tiny")).reason is Reason.NOT_INSTALLED
        assert served.phases()[len(before) :] == ["announcing", "draining", "unloading", "ready"]
        assert await served.status() == ("edgecoder-test-good-gguf", "ready")
        assert (await served.task()).reason is None

    with_node(where, tmp_path, test)


def test_a_server_that_restarts_serves_the_model_again(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        await served.swap("edgecoder-test-good:tiny")
        await served.there.double.stop()
        while await served.status() != (None, "error"):
            pass
        assert (await served.swap("edgecoder-test-other:tiny")).reason is Reason.UNAVAILABLE
        await served.there.double.start()
        await served.until(("edgecoder-test-good-gguf", "ready"))
        assert (await served.task()).reason is None

    with_node("double", tmp_path, test)


def test_an_agent_that_starts_before_its_server_waits_for_it(tmp_path: Path) -> None:
    async def test() -> None:
        rest = Rest()
        async with site("double", tmp_path) as there:
            async with node(there, rest) as served:
                await served.swap("edgecoder-test-good:tiny")
            assert await there.running() == []
            await there.double.stop()
            async with node(there, rest, is_first=False) as served:
                while await served.status() != (None, "no_model"):
                    pass
                await there.double.start()
                await served.until(("edgecoder-test-good-gguf", "ready"))

    run(test)


@everywhere
def test_a_doctor_finds_a_server_and_says_what_to_do_about_none(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            found = await check_server(there.host)
            assert found.ok
            assert found.detail.startswith("Ollama 0.")
            if where != "real":
                there.double.faults.version = "0.9.6"
                old = await check_server(there.host)
                assert not old.ok
                assert "0.9.6 is too old: install 0.17.1 or later" in old.detail
                there.double.faults.refuses = {"/api/version": (404, "404 page not found")}
                other = await check_server(there.host)
                assert not other.ok
                assert "404 page not found" in other.detail
            nowhere = await check_server("[no address")
            assert not nowhere.ok
            assert "OLLAMA_HOST" in nowhere.hint
            none = await check_server("127.0.0.1:9")
            assert not none.ok
            assert "https://ollama.com/download" in none.hint

    run(test)
