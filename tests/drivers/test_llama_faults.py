"""What goes wrong in the process of a model is a completion with a reason here, and the next model gets a new one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from edgecoder.config import NodeConfig
from edgecoder.errors import DriverError, Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.llamacpp import port, process
from edgecoder_drivers.llamacpp.engine import LlamaEngine
from edgecoder_drivers.llamacpp.process import Patience
from tests.drivers.faulty_llama import CROWD
from tests.drivers.llama_rig import Files, engine_of, kill, pid_of
from tests.drivers.tiny_gguf import entry_of, make

ROOT = Path(__file__).parents[2]
LIBRARY = "tests.drivers.faulty_llama"
CONTEXT_TOKENS = 512
LONG = 30
"""Words that take longer to write, slowly, than a task may hang."""


@pytest.fixture(autouse=True)
def _library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child finds the tests."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


class Bench:
    """An engine with the faulty library, and what it said unasked."""

    def __init__(self, folder: Path, engine: LlamaEngine, files: Files) -> None:
        self.folder, self.engine, self.files = folder, engine, files
        self.failures: list[Reason] = []
        engine.watch(self.failures.append)

    def entry(self, fault: str) -> CatalogEntry:
        path = self.folder / f"{fault}.gguf"
        return self.files.add(path, make(path, name=fault.replace(" ", "-")))

    async def load(self, fault: str = "sound") -> int:
        return await self.engine.load(self.entry(fault), CONTEXT_TOKENS)

    async def answer(self, prompt: str = "well", max_tokens: int = 3) -> str:
        return "".join([part.text async for part in self.engine.generate(prompt, max_tokens)])

    async def refused(self, awaited: Awaitable[object]) -> Refused:
        with pytest.raises(Refused) as refused:
            await awaited
        return refused.value


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    def make_bench(patience: Patience = Patience(), load_timeout_ms: int = 60_000, slots: int = 2) -> Bench:  # noqa: B008
        files = Files()
        config = NodeConfig(slots=slots, load_timeout_ms=load_timeout_ms)
        return Bench(tmp_path, engine_of(files, LIBRARY, patience=patience, config=config), files)

    return make_bench


def run(bench: Bench, test: Callable[[], Awaitable[None]]) -> None:
    """Run a test; then the engine is closed, and works no worse than before where it is not."""

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()
            await bench.load()
            assert await bench.answer() == "word word word "
            await bench.engine.close()

    asyncio.run(bounded())


@pytest.mark.parametrize(
    ("fault", "reason", "detail"),
    [
        ("aborts", Reason.ENGINE_CRASHED, "SIGABRT"),
        ("is killed", Reason.ENGINE_CRASHED, "SIGKILL"),
        ("exits", Reason.ENGINE_CRASHED, "exit code 3"),
        ("takes memory", Reason.OUT_OF_MEMORY, "MemoryError"),
        ("aborts for memory", Reason.OUT_OF_MEMORY, "bad_alloc"),
        ("fails for memory", Reason.OUT_OF_MEMORY, "failed to allocate"),
        ("fails", Reason.LOAD_FAILED, "it does not load: E a tensor is missing"),
        ("says nonsense", Reason.ENGINE_CRASHED, "no message"),
    ],
)
def test_a_load_that_fails_says_why(bench: Callable[..., Bench], fault: str, reason: Reason, detail: str) -> None:
    there = bench()

    async def test() -> None:
        refused = await there.refused(there.load(fault))
        assert refused.reason is reason
        assert detail in str(refused)
        assert there.failures == []

    run(there, test)


def test_one_that_the_system_kills_for_memory_is_known_by_its_count(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    there, counts = bench(), iter((3, 4))
    monkeypatch.setattr(process, "kills_for_memory", lambda: next(counts, 4))

    async def test() -> None:
        refused = await there.refused(there.load("is killed"))
        assert refused.reason is Reason.OUT_OF_MEMORY
        assert "for want of memory" in str(refused)

    run(there, test)


def test_a_load_that_hangs_is_given_up(bench: Callable[..., Bench]) -> None:
    there = bench(load_timeout_ms=4000)

    async def test() -> None:
        assert (await there.refused(there.load("stops"))).reason is Reason.LOAD_TIMEOUT

    run(there, test)


def test_what_a_library_prints_is_no_message(bench: Callable[..., Bench]) -> None:
    there = bench()

    async def test() -> None:
        await there.load("prints")
        assert await there.answer("prints") == "word word word "
        await there.engine.unload()

    run(there, test)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("aborts", Reason.ENGINE_CRASHED),
        ("is killed", Reason.ENGINE_CRASHED),
        ("takes memory", Reason.OUT_OF_MEMORY),
        ("aborts for memory", Reason.OUT_OF_MEMORY),
        ("hangs", Reason.ENGINE_CRASHED),
        ("says nonsense", Reason.ENGINE_CRASHED),
    ],
)
def test_a_task_that_takes_the_engine_down_is_told_to_all(
    bench: Callable[..., Bench], fault: str, reason: Reason
) -> None:
    there = bench(Patience(silent_s=30, stalled_s=1 if fault == "hangs" else 60))

    async def test() -> None:
        await there.load()
        tasks = [there.refused(there.answer(prompt)) for prompt in (fault, "hangs")]
        assert {refused.reason for refused in await asyncio.gather(*tasks)} == {reason}
        assert there.failures == [reason]
        assert (await there.refused(there.answer())).reason is Reason.NO_MODEL

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


def test_what_cannot_be_sent_leaves_nothing_behind(bench: Callable[..., Bench]) -> None:
    there = bench(Patience(silent_s=60, stalled_s=1))

    async def test() -> None:
        await there.load()
        with pytest.raises(UnicodeEncodeError):
            await there.answer("half a pair: \ud800")
        assert there.engine._parts == {}
        assert await there.answer() == "word word word "
        await there.engine.unload()

    run(there, test)


def test_an_old_word_does_not_explain_a_crash(bench: Callable[..., Bench]) -> None:
    there = bench()

    async def test() -> None:
        await there.load("mentions memory")
        assert (await there.refused(there.answer("aborts"))).reason is Reason.ENGINE_CRASHED

    run(there, test)


def test_a_process_that_says_nothing_is_ended(bench: Callable[..., Bench]) -> None:
    there = bench(Patience(silent_s=3, stalled_s=60))

    async def test() -> None:
        await there.load()
        refused = await there.refused(there.answer("stops"))
        assert refused.reason is Reason.ENGINE_CRASHED
        assert "was silent" in str(refused)
        assert there.failures == [Reason.ENGINE_CRASHED]

    run(there, test)


def test_a_task_that_fails_leaves_the_model(bench: Callable[..., Bench]) -> None:
    there = bench()

    async def test() -> None:
        await there.load()
        assert (await there.refused(there.answer("fails"))).reason is Reason.UNAVAILABLE
        assert await there.answer() == "word word word "
        await there.engine.unload()
        assert there.failures == []

    run(there, test)


def test_a_task_that_leaves_its_thread_has_an_end(bench: Callable[..., Bench]) -> None:
    there = bench()

    async def test() -> None:
        await there.load()
        for _ in range(3):  # there are two slots
            assert (await there.refused(there.answer("leaves"))).reason is Reason.UNAVAILABLE
        await there.engine.unload()
        assert there.failures == []

    run(there, test)


def test_whoever_ends_all_processes_leaves_this_one_to_its_parent(bench: Callable[..., Bench]) -> None:
    """As systemd does: a task goes on to its end, and the parent drains."""
    there = bench()

    async def test() -> None:
        assert await there.load("is told to end") > 0
        for number in (signal.SIGTERM, signal.SIGINT):
            kill(there.engine, number)
            assert await there.answer("is told to end") == "word word word "
        await there.engine.unload()
        assert there.failures == []

    run(there, test)


def test_a_crowd_is_answered_at_once(bench: Callable[..., Bench]) -> None:
    there = bench(slots=CROWD)

    async def test() -> None:
        await there.load()
        crowd = await asyncio.gather(*[there.answer("waits for a crowd") for _ in range(CROWD)])
        assert crowd == ["word word word "] * CROWD
        await there.engine.unload()
        assert there.failures == []

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


def test_a_cancelled_task_gives_its_slot_back(bench: Callable[..., Bench]) -> None:
    there = bench()

    async def test() -> None:
        await there.load()
        for _ in range(3):  # there are two slots
            endless = there.engine.generate("well", 1 << 40)
            assert (await anext(endless)).text == "word "
            await endless.aclose()  # type: ignore[attr-defined]
        assert await there.answer() == "word word word "
        await there.engine.unload()

    run(there, test)


def test_a_library_never_sees_what_is_no_sound_file(bench: Callable[..., Bench], tmp_path: Path) -> None:
    there, path = bench(), tmp_path / "unsound.gguf"
    make(path)
    path.write_bytes(path.read_bytes()[:-1])
    entry = there.files.add(path, entry_of(path, "unsound"))

    async def test() -> None:
        refused = await there.refused(there.engine.load(entry, CONTEXT_TOKENS))
        assert refused.reason is Reason.LOAD_FAILED
        assert "the tensors end at" in str(refused)

    run(there, test)
    assert not path.with_suffix(".pid").exists()


def test_a_process_without_a_parent_ends(tmp_path: Path) -> None:
    """Also one that is in the middle of a load."""
    script = f"""
import asyncio
from pathlib import Path
from tests.drivers.faulty_llama import CROWD
from tests.drivers.llama_rig import Files, engine_of
from tests.drivers.tiny_gguf import make
files = Files()
path = Path({str(tmp_path / "hangs.gguf")!r})
asyncio.run(engine_of(files, {LIBRARY!r}).load(files.add(path, make(path)), 512))
"""
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    told = tmp_path / "hangs.pid"
    while not (told.exists() and told.read_text(encoding="ascii")):
        assert parent.poll() is None
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    while is_running(int(told.read_text(encoding="ascii"))):
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def test_without_a_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "find_spec", lambda name: None)
    with pytest.raises(DriverError, match=r"pip install 'edgecoder\[llama\]'"):
        LlamaEngine(Files().find, NodeConfig())


def test_a_file_that_is_not_there_is_refused(bench: Callable[..., Bench], tmp_path: Path) -> None:
    there = bench()

    async def test() -> None:
        unknown = make(tmp_path / "unknown.gguf")
        assert (await there.refused(there.engine.load(unknown, CONTEXT_TOKENS))).reason is Reason.NOT_INSTALLED
        gone = there.entry("gone")
        (tmp_path / "gone.gguf").unlink()
        refused = await there.refused(there.engine.load(gone, CONTEXT_TOKENS))
        assert refused.reason is Reason.LOAD_FAILED
        assert "No such file" in str(refused)

    run(there, test)


def test_memory_is_free_when_a_model_was_freed(bench: Callable[..., Bench]) -> None:
    there = bench()

    async def test() -> None:
        await there.load()
        pid = pid_of(there.engine)
        await there.engine.unload()
        assert not is_running(pid)

    run(there, test)


def test_an_interrupt_at_the_terminal_is_not_for_the_process(bench: Callable[..., Bench]) -> None:
    there = bench()

    async def test() -> None:
        await there.load()
        assert os.getpgid(pid_of(there.engine)) != os.getpgid(0)
        assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        await there.engine.unload()

    run(there, test)
