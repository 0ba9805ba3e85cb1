"""What others have in the memory of an Ollama: it counts as used, it is left as it was, and a node says what went."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from edgecoder.config import NodeConfig
from edgecoder.core.events import OthersLoaded
from edgecoder.errors import Reason
from tests.drivers.ollama_rig import CONTEXT_TOKENS, WHERE, Site, refusal, run, site, tiny, until
from tests.drivers.test_ollama_engine import answer, with_models

everywhere = pytest.mark.parametrize("where", WHERE)


@everywhere
def test_what_others_have_loaded_is_left_to_them(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            good, other = await with_models(there)
            await there.others.load(other.aliases[0], CONTEXT_TOKENS, "10m")
            engine = there.watched(there.engine())
            await engine.load(other, CONTEXT_TOKENS)
            await engine.unload()
            assert await there.running() == ["edgecoder-test-other:tiny"]
            if where != "real":
                (runner,) = there.double.double.runners.all()
                assert 300 < runner.keep_alive_s <= 600, "as long as they wanted, not for ever"
            await engine.load(good, CONTEXT_TOKENS)
            await engine.unload()
            assert await there.running() == ["edgecoder-test-other:tiny"]

    run(test)


@everywhere
def test_models_of_others_count_as_used_memory(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            good, other = await with_models(there)
            big = msgspec.structs.replace(good, min_memory_mb=NodeConfig().memory_budget_mb)
            engine = there.watched(there.engine())
            await engine.load(big, CONTEXT_TOKENS)
            await engine.unload()
            await engine.load(other, CONTEXT_TOKENS)
            await engine.unload()
            if where != "real":
                there.double.double.runners.size_bytes_min = 1 << 20
            await there.others.load(other.aliases[0], CONTEXT_TOKENS)
            assert await refusal(engine.load(big, CONTEXT_TOKENS)) is Reason.INSUFFICIENT_MEMORY
            assert await there.running() == ["edgecoder-test-other:tiny"]
            await there.others.free(other.aliases[0])

    run(test)


def test_what_served_a_moment_ago_is_never_refused_its_room(tmp_path: Path) -> None:
    """It goes back to where it was when the load of another one failed, whatever others have loaded by then."""

    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, other = await with_models(there)
            big = msgspec.structs.replace(good, min_memory_mb=NodeConfig().memory_budget_mb)
            engine = there.watched(there.engine())
            await engine.load(big, CONTEXT_TOKENS)
            await engine.unload()
            there.double.double.runners.size_bytes_min = 1 << 30
            await there.others.load(other.aliases[0], CONTEXT_TOKENS)
            absent, _ = tiny(tmp_path, "absent", 3)
            assert await refusal(engine.load(absent, CONTEXT_TOKENS)) is Reason.NOT_INSTALLED
            await engine.load(big, CONTEXT_TOKENS)
            await there.others.free(good.aliases[0])
            await until(lambda: there.failed == [Reason.NO_MODEL])
            assert await refusal(engine.load(big, CONTEXT_TOKENS)) is Reason.INSUFFICIENT_MEMORY, "others took it out"

    run(test)


def test_where_ollama_is_full_of_others_none_of_them_is_put_out(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, other = await with_models(there)
            engine = there.watched(there.engine())
            named = await fill(there)
            assert await refusal(engine.load(good, CONTEXT_TOKENS)) is Reason.INSUFFICIENT_MEMORY
            assert await there.running() == named
            await there.others.free(named[0])
            await there.others.load(other.aliases[0], CONTEXT_TOKENS)
            await engine.load(other, CONTEXT_TOKENS)  # what is there takes no place

    run(test)


async def fill(there: Site) -> list[str]:
    """Others load as many models as Ollama has room for."""
    named = []
    for number in range(3):
        entry, path = tiny(there.folder, f"more{number}", 10 + number)
        await there.others.create(entry.aliases[0], entry.sha256, path)
        await there.others.load(entry.aliases[0], CONTEXT_TOKENS, "1h")
        named.append(entry.aliases[0])
    return named


def test_who_was_put_out_all_the_same_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MAX_LOADED_MODELS", "9")  # so its administrator told us, and not Ollama

    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, _ = await with_models(there)
            named = await fill(there)
            engine = there.watched(there.engine())
            with capture_logs() as said:
                await engine.load(good, CONTEXT_TOKENS)
            (gone,) = set(named) - set(await there.running())
            assert [line["models"] for line in said if "put out" in line["event"]] == [gone]

    run(test)


@everywhere
def test_the_core_hears_what_others_have_loaded(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            good, other = await with_models(there)
            engine, told = there.engine(), list[OthersLoaded]()
            engine.on_others = told.append
            there.watched(engine)
            await engine.load(good, CONTEXT_TOKENS)
            await there.others.load(other.aliases[0], CONTEXT_TOKENS, "1h")
            await until(lambda: told != [])
            assert [other.sha256 in model.sha256s for model in told[0].models] == [True]
            assert (told[0].models[0].name, told[0].is_full) == (other.aliases[0], False)
            await there.others.free(other.aliases[0])
            await until(lambda: len(told) == 2)
            assert told[1] == OthersLoaded(())

    run(test)


def test_who_frees_what_was_in_the_way_is_not_refused_for_it_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecoder_drivers.ollama.engine.SHARED_POLL_S", 0.02)

    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, _ = await with_models(there)
            await there.others.load(good.aliases[0], CONTEXT_TOKENS, "1h")
            engine, told = there.engine(poll_s=60), list[OthersLoaded]()
            engine.on_others = told.append
            there.watched(engine)
            await until(lambda: len(told) == 1)
            await there.others.free(good.aliases[0])
            await until(lambda: len(told) == 2)

    run(test)


@everywhere
def test_what_was_lost_is_not_ours_when_others_load_it(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            good, other = await with_models(there)
            engine = there.watched(there.engine())
            await engine.load(good, CONTEXT_TOKENS)
            await there.others.free(good.aliases[0])
            await until(lambda: there.failed != [])
            await there.others.load(good.aliases[0], CONTEXT_TOKENS, "1h")
            await engine.load(other, CONTEXT_TOKENS)
            assert await there.running() == [good.aliases[0], other.aliases[0]]

    run(test)


@everywhere
def test_what_an_earlier_life_noted_may_be_in_use_by_others_since(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            good, other = await with_models(there)
            first = there.engine()
            await first.load(good, CONTEXT_TOKENS)
            await there.others.load(good.aliases[0], CONTEXT_TOKENS, "1h")
            second = there.watched(there.engine())
            await second.load(good, CONTEXT_TOKENS)
            await second.unload()
            assert await there.running() == [good.aliases[0]]
            await second.load(other, CONTEXT_TOKENS)
            assert await there.running() == [good.aliases[0], other.aliases[0]]

    run(test)


@pytest.mark.parametrize(
    ("wanted", "least_s", "most_s"), [(-1, math.inf, math.inf), ("2h", 7000, 7200), ("5s", 300, 300)]
)
@pytest.mark.parametrize("is_cut_off", [False, True])
def test_what_others_had_loaded_goes_back_as_it_was(
    wanted: int | str, least_s: float, most_s: float, is_cut_off: bool, tmp_path: Path
) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, other = await with_models(there)
            await there.others.load(good.aliases[0], CONTEXT_TOKENS, wanted)
            engine = there.engine()
            await engine.load(good, CONTEXT_TOKENS)
            (runner,) = there.double.double.runners.all()
            assert runner.keep_alive_s == math.inf
            if is_cut_off:
                await there.watched(there.engine()).load(other, CONTEXT_TOKENS)
            else:
                await engine.close()
            assert least_s <= runner.keep_alive_s <= most_s
            assert runner in there.double.double.runners.all()

    run(test)


def test_a_model_that_others_use_too_stays_all_the_same(tmp_path: Path) -> None:
    """Some programs give whatever they use half an hour: the node would lose its model, and then be without one."""

    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, _ = await with_models(there)
            engine = there.watched(there.engine())
            await engine.load(good, CONTEXT_TOKENS)
            (runner,) = there.double.double.runners.all()
            await there.others.load(good.aliases[0], CONTEXT_TOKENS, "30m")
            await until(lambda: runner.keep_alive_s == math.inf)
            await there.others.load(good.aliases[0], CONTEXT_TOKENS // 2, "30m")
            (smaller,) = there.double.double.runners.all()
            asked = there.double.faults.asked
            asked.clear()
            await until(lambda: asked.count("/api/ps") > 3)
            assert (smaller.keep_alive_s, there.double.double.runners.all()) == (1800, [smaller])

    run(test)


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_what_others_wish_meanwhile_is_what_they_get_back(is_cut_off: bool, tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, other = await with_models(there)
            await there.others.load(good.aliases[0], CONTEXT_TOKENS, "10m")
            engine = there.engine(poll_s=0.02)
            engine.watch(there.failed.append)
            await engine.load(good, CONTEXT_TOKENS)
            (runner,) = there.double.double.runners.all()
            await there.others.load(good.aliases[0], CONTEXT_TOKENS, "2h")
            await until(lambda: runner.keep_alive_s == math.inf)
            if is_cut_off:
                await there.watched(there.engine()).load(other, CONTEXT_TOKENS)
            await engine.close()
            assert 7000 <= runner.keep_alive_s <= 7200

    run(test)


@everywhere
def test_freeing_what_is_gone_loads_nothing(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            good, _ = await with_models(there)
            await there.others.load(good.aliases[0], CONTEXT_TOKENS, "1h")
            engine = there.engine()
            await engine.load(good, CONTEXT_TOKENS)
            await there.others.free(good.aliases[0])
            await engine.close()
            assert await there.running() == []

    run(test)


def test_a_model_of_others_keeps_the_context_that_it_has(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, _ = await with_models(there)
            await there.others.load(good.aliases[0], 2 * CONTEXT_TOKENS, "1h")
            (theirs,) = there.double.double.runners.all()
            engine = there.engine(poll_s=60)
            await engine.load(good, CONTEXT_TOKENS)
            await answer(engine)
            assert there.double.double.runners.all() == [theirs]
            await there.others.load(good.aliases[0], 4 * CONTEXT_TOKENS)
            (larger,) = there.double.double.runners.all()
            there.watched(engine)  # it looks now
            await until(lambda: engine.is_healthy)
            await answer(engine)
            await engine.unload()
            assert there.double.double.runners.all() == [larger]

    run(test)


def test_a_model_that_was_deleted_while_it_runs_can_be_given_up(tmp_path: Path) -> None:
    """Ollama has it run on, and knows no name any more by which it could be freed."""

    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, other = await with_models(there)
            engine = there.watched(there.engine())
            await engine.load(good, CONTEXT_TOKENS)
            await there.others.delete(good.aliases[0])
            with capture_logs() as said:
                await engine.unload()
            assert [line["hint"] for line in said if "deleted" in line["event"]] == ["restart Ollama to free 0 MB"]
            await engine.load(other, CONTEXT_TOKENS)
            assert len(await there.running()) == 2

    run(test)
