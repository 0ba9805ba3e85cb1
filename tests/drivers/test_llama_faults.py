"""What goes wrong in the process of a model is a completion with a reason here, and the next model gets a new one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecoder.config import NodeConfig
from edgecoder.errors import DriverError, Reason
from edgecoder_drivers.demo.tiny_gguf import entry_of, make
from edgecoder_drivers.llamacpp import child, port, process
from edgecoder_drivers.llamacpp.engine import LlamaEngine
from edgecoder_drivers.llamacpp.memory import OOM_SCORE
from edgecoder_drivers.llamacpp.process import Patience
from tests.drivers.faulty_llama import CROWD
from tests.drivers.llama_rig import CONTEXT_TOKENS, LIBRARY, ROOT, Bench, Files, benches, kill, pid_of, run


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    return benches(tmp_path, monkeypatch)


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
from tests.drivers.llama_rig import Files, engine_of
from edgecoder_drivers.demo.tiny_gguf import make
files = Files()
path = Path({str(tmp_path / "hangs.gguf")!r})
asyncio.run(engine_of(files, {LIBRARY!r}).load(files.add(path, make(path)), 512))
"""
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)})
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


def test_who_takes_the_name_of_a_file_that_was_checked_is_not_loaded(tmp_path: Path) -> None:
    """On Linux, where an open file has a path."""
    checked, other = tmp_path / "checked", tmp_path / "other"
    checked.write_text("checked", encoding="ascii")
    other.write_text("other", encoding="ascii")
    with checked.open("rb") as file:
        other.replace(checked)
        loaded = child.path_of(file).read_text(encoding="ascii")
    assert loaded == ("checked" if sys.platform == "linux" else "other")


def test_a_load_leaves_no_folder_however_it_ends(
    bench: Callable[..., Bench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, folder = bench(load_timeout_ms=4000), tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    async def test() -> None:
        for fault in ("aborts", "fails", "hangs"):
            await there.refused(there.load(fault))
            used = Path((tmp_path / f"{fault}.folder").read_text(encoding="utf-8"))
            assert used.parent == folder
            assert list(folder.iterdir()) == []

    run(there, test)


def test_without_room_for_a_folder_there_is_no_engine(
    bench: Callable[..., Bench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = bench()

    async def test() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
            refused = await there.refused(there.load())
            assert refused.reason is Reason.UNAVAILABLE
            assert "nowhere" in str(refused)

    run(there, test)


def test_memory_is_free_when_a_model_was_freed(bench: Callable[..., Bench]) -> None:
    there = bench()

    async def test() -> None:
        await there.load()
        pid = pid_of(there.engine)
        await there.engine.unload()
        assert not is_running(pid)

    run(there, test)


def test_the_system_takes_the_process_of_a_model_before_the_device(bench: Callable[..., Bench]) -> None:
    there = bench()

    async def test() -> None:
        await there.load()
        assert is_taken_first(pid_of(there.engine)) is (True if sys.platform == "linux" else None)
        await there.engine.unload()

    run(there, test)


def is_taken_first(pid: int) -> bool | None:
    """As the system sees it; None where it does not say."""
    told = Path(f"/proc/{pid}/oom_score_adj")
    return int(told.read_text(encoding="ascii")) == int(OOM_SCORE) if told.exists() else None


def test_an_interrupt_at_the_terminal_is_not_for_the_process(bench: Callable[..., Bench]) -> None:
    there = bench()

    async def test() -> None:
        before = signal.getsignal(signal.SIGINT)
        await there.load()
        assert os.getpgid(pid_of(there.engine)) != os.getpgid(0)
        assert signal.getsignal(signal.SIGINT) is before
        await there.engine.unload()

    run(there, test)
