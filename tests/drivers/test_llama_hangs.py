"""What takes too long in the process of a model, and who is blamed for it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from edgecoder.errors import Reason
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.llamacpp.process import Patience
from tests.drivers.llama_rig import Bench, benches, run

LONG = 30
"""Words that take longer to write, slowly, than a task may hang."""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    return benches(tmp_path, monkeypatch)


def test_a_load_that_hangs_is_given_up(bench: Callable[..., Bench]) -> None:
    there = bench(load_timeout_ms=4000)

    async def test() -> None:
        assert (await there.refused(there.load("stops"))).reason is Reason.LOAD_TIMEOUT

    run(there, test)


def test_one_task_that_hangs_is_seen_beside_others_that_do_not(bench: Callable[..., Bench]) -> None:
    there = bench(Patience(silent_s=60, stalled_s=1))

    async def test() -> None:
        await there.load()
        hanging = asyncio.create_task(there.refused(there.answer("hangs")))
        while not hanging.done():
            with suppress(Refused):
                await there.answer()
            await asyncio.sleep(0.01)
        refused = await hanging
        assert refused.reason is Reason.ENGINE_CRASHED
        assert "a task did not get on" in str(refused)
        assert there.failures == [Reason.ENGINE_CRASHED]

    run(there, test)


def test_a_task_that_waits_for_its_turn_does_not_hang(bench: Callable[..., Bench]) -> None:
    there = bench(Patience(silent_s=60, stalled_s=1), slots=1)

    async def test() -> None:
        await there.load()
        answers = await asyncio.gather(there.answer("is written slowly", LONG), there.answer())
        assert list(answers) == ["word " * LONG, "word word word "]
        await there.engine.unload()
        assert there.failures == []

    run(there, test)


def test_a_prompt_that_is_read_after_another_does_not_hang(bench: Callable[..., Bench]) -> None:
    there = bench(Patience(silent_s=60, stalled_s=1))

    async def test() -> None:
        await there.load()
        await asyncio.gather(there.answer("is read in many batches"), there.answer("is read after it"))
        await there.engine.unload()
        assert there.failures == []

    run(there, test)


def test_a_machine_that_is_slow_is_no_fault(bench: Callable[..., Bench]) -> None:
    """A batch of a prompt takes longer there than a task may hang elsewhere."""
    there = bench(Patience(silent_s=60, stalled_s=0.5))

    async def test() -> None:
        await there.load("slow")
        assert await there.answer("is read slowly") == "word word word "
        await there.engine.unload()
        assert there.failures == []

    run(there, test)


@pytest.mark.parametrize(("tokens_per_s", "stalled_s"), [(100, 120), (8.6, 120), (2, 512), (0.5, 2048)])
def test_patience_is_that_of_the_machine(tokens_per_s: float, stalled_s: float) -> None:
    assert Patience().stalled_s_at(tokens_per_s) == stalled_s


@pytest.mark.parametrize(
    ("fault", "reason"), [("forks and fails", Reason.LOAD_FAILED), ("forks and hangs", Reason.LOAD_TIMEOUT)]
)
def test_who_is_left_behind_by_a_load_does_not_hold_it_up(
    bench: Callable[..., Bench], fault: str, reason: Reason, tmp_path: Path
) -> None:
    there = bench(load_timeout_ms=8000)

    async def test() -> None:
        assert (await there.refused(there.load(fault))).reason is reason
        end_group(tmp_path / f"{fault}.pid")

    run(there, test)


def test_who_is_left_behind_by_a_crash_does_not_hold_it_up(bench: Callable[..., Bench], tmp_path: Path) -> None:
    there = bench()

    async def test() -> None:
        await there.load()
        assert (await there.refused(there.answer("forks and aborts"))).reason is Reason.ENGINE_CRASHED
        end_group(tmp_path / "sound.pid")

    run(there, test)


def end_group(told: Path) -> None:
    """End those whom a process has left behind, of whom there are some."""
    os.killpg(int(told.read_text(encoding="ascii")), signal.SIGKILL)


def test_a_process_that_says_nothing_is_ended(bench: Callable[..., Bench]) -> None:
    there = bench(Patience(silent_s=3, stalled_s=60))

    async def test() -> None:
        await there.load()
        refused = await there.refused(there.answer("stops"))
        assert refused.reason is Reason.ENGINE_CRASHED
        assert "was silent" in str(refused)
        assert there.failures == [Reason.ENGINE_CRASHED]

    run(there, test)


def test_a_hanging_task_is_left_at_once_and_its_slot_is_lost_for_as_long(bench: Callable[..., Bench]) -> None:
    there = bench()

    async def test() -> None:
        await there.load()
        hanging = there.engine.generate("hangs", 10)
        assert (await anext(hanging)).text == "word "
        await hanging.aclose()  # type: ignore[attr-defined]
        assert await there.answer() == "word word word "
        await there.engine.unload()

    run(there, test)
