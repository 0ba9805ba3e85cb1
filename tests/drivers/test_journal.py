"""Lives that were journalled and are lived again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from edgecoder.core.effects import LoadModel, SwapResult
from edgecoder.core.events import PullModel, QueryModels, QueryStatus, SubmitTask, SwapModel, TaskChunk
from edgecoder.errors import ConfigError
from edgecoder.journal.format import MARK, framed, lives
from edgecoder.journal.replay import Replayed, replay
from edgecoder.models.swap import Swap
from edgecoder_drivers.host import AsyncHost
from tests.catalogs import LARGE, SMALL
from tests.drivers.memory import MemoryDriver
from tests.drivers.rig import has, living


def live(path: Path, test: Callable[[AsyncHost], Awaitable[None]]) -> None:
    """A journalled life."""

    async def lived() -> None:
        driver = MemoryDriver()
        driver.before[LoadModel] = lambda: asyncio.sleep(0.002)
        async with asyncio.timeout(30), living([driver], has(SMALL, LARGE), journal=path) as host:
            await test(host)

    asyncio.run(lived())


async def is_busy(host: AsyncHost) -> None:
    """Swaps, a pull and a task."""
    await host.ask(SwapModel, model="small")
    await asyncio.gather(host.ask(SwapModel, model="large"), host.ask(SubmitTask, prompt="def"))
    await host.ask(PullModel, model="tiny")
    await host.ask(QueryStatus)
    await host.ask(QueryModels)


async def is_asked_once(host: AsyncHost) -> None:
    await host.ask(QueryStatus)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """The journal of a busy life."""
    path = tmp_path / "life.journal"
    live(path, is_busy)
    return path


def only(path: Path) -> Replayed:
    (life,) = replay(path)
    return life


def values(path: Path) -> list[bytes]:
    (found,) = [list(life) for life in lives(path)]
    return found


def write(path: Path, values: list[bytes]) -> None:
    path.write_bytes(MARK + b"".join(map(framed, values)))


def test_a_life_is_lived_again(journal: Path) -> None:
    replayed = only(journal)
    assert replayed.difference is replayed.end is None
    assert replayed.rest == 0
    assert replayed.events > 20
    assert replayed.last > 4_000


def test_a_next_life_leaves_the_earlier_ones_in_the_file(journal: Path) -> None:
    first = only(journal)
    live(journal, is_asked_once)
    live(journal, is_busy)
    replayed = list(replay(journal))
    assert replayed[0] == first
    assert len(replayed) == 3
    assert all(life.events and life.difference is None for life in replayed)


def test_only_its_user_can_read_it_also_one_that_was_there(journal: Path) -> None:
    assert journal.stat().st_mode & 0o777 == 0o600
    journal.chmod(0o644)
    live(journal, is_asked_once)
    assert journal.stat().st_mode & 0o777 == 0o600


def test_what_is_no_journal_is_not_written_to(tmp_path: Path) -> None:
    key, pipe, folder = tmp_path / "node.key", tmp_path / "pipe", tmp_path / "folder"
    key.write_bytes(bytes(32))
    key.chmod(0o640)
    os.mkfifo(pipe)
    folder.mkdir()
    for path, problem in ((key, "something else"), (pipe, "something else"), (folder, "Is a directory")):
        with pytest.raises(ConfigError, match=problem):
            live(path, is_asked_once)
    assert key.read_bytes() == bytes(32)
    assert key.stat().st_mode & 0o777 == 0o640


def test_two_nodes_do_not_write_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "life.journal"

    async def meets_another(host: AsyncHost) -> None:
        await host.ask(QueryStatus)
        with pytest.raises(ConfigError, match="another node writes"):
            async with living([MemoryDriver()], journal=path):
                pass
        await host.ask(QueryStatus)

    live(path, meets_another)
    assert only(path).difference is None


def test_a_life_of_which_nothing_was_said_is_not_there(tmp_path: Path) -> None:
    """Such as one that ends as its port is taken."""
    path = tmp_path / "life.journal"

    async def lived() -> None:
        with pytest.raises(ValueError, match="two drivers"):
            async with living([MemoryDriver(), MemoryDriver()], journal=path):
                pass

    asyncio.run(lived())
    assert path.read_bytes() == b""


def test_one_that_broke_off_is_replayed_up_to_there_and_says_what_is_left(journal: Path) -> None:
    """A life in the middle of the file too."""
    whole, last = only(journal).events, len(framed(values(journal)[-1]))
    content = journal.read_bytes()
    for cut in (1, 7, last - 1, last - 11):
        journal.write_bytes(content[:-cut])
        torn = Replayed(whole - 1, only(journal).last, rest=last - cut)
        assert only(journal) == torn
        live(journal, is_asked_once)
        first, second = replay(journal)
        assert first == torn
        assert second.difference is None


def test_one_that_was_changed_in_the_middle_is_not_said_to_be_the_same(journal: Path) -> None:
    content = journal.read_bytes()
    at = len(MARK) + sum(len(framed(value)) for value in values(journal)[:4])
    for place in (at, at + 5, at + 9, at + 20):
        changed = bytearray(content)
        changed[place] ^= 0x40
        journal.write_bytes(changed)
        with pytest.raises(ConfigError, match=f"life 1 is damaged: the value at byte {at} is not"):
            list(replay(journal))


def test_the_event_that_ended_the_node_is_in_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And ends the core again, as long as its fault is there."""
    path = tmp_path / "life.journal"

    async def ends(host: AsyncHost) -> None:
        await host.ask(QueryStatus)
        host.begin(SwapModel, model="small")
        with pytest.raises(ZeroDivisionError):
            await host.wait()

    with monkeypatch.context() as broken:
        broken.setattr(Swap, "request", lambda *_: 1 // 0)
        live(path, ends)
        told = only(path).end
        assert told is not None
        assert isinstance(told.event, SwapModel)
        assert isinstance(told.error, ZeroDivisionError)
    difference = only(path).difference
    assert difference is not None, "today it goes on"
    assert isinstance(difference.event, SwapModel)
    assert difference.error is None


def test_another_core_is_told_where_it_differs(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Swap, "request", lambda *_args: False)
    difference = only(journal).difference
    assert difference is not None
    assert difference.number > 1
    assert difference.effects, "what the core answers today"


def test_a_core_that_ends_today_is_told_where(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Swap, "request", lambda *_: 1 // 0)
    difference = only(journal).difference
    assert difference is not None
    assert isinstance(difference.error, ZeroDivisionError)


def test_what_is_no_journal_says_so(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    for content in (b"", b"hello", b"\x00\x00\x00\x02\x93\x01"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="no journal"):
            list(replay(path))


def _time_back(words: list[Any]) -> None:
    words[4][0], words[5][0] = 10**9, 0


def _no_such_event(words: list[Any]) -> None:
    words[3][1] = "Nonsense"


def _no_such_field(words: list[Any]) -> None:
    words[3][2] = {"nonsense": 1}


@pytest.mark.parametrize(
    "change", [_time_back, _no_such_event, _no_such_field, lambda words: words.insert(3, words[0])]
)
def test_one_that_was_tampered_with_says_where(journal: Path, change: Callable[[list[Any]], None]) -> None:
    head, *rest = values(journal)
    words = [msgspec.msgpack.decode(value) for value in rest]
    change(words)
    write(journal, [head, *map(msgspec.msgpack.encode, words)])
    with pytest.raises(ConfigError, match=r"life 1 is damaged: event [46]"):
        list(replay(journal))


def test_a_catalog_that_cannot_be_is_damage(journal: Path) -> None:
    head, *rest = values(journal)
    fields = msgspec.msgpack.decode(head)
    fields["catalog"] = fields["catalog"] * 2
    write(journal, [msgspec.msgpack.encode(fields), *rest])
    with pytest.raises(ConfigError, match="life 1 is damaged"):
        list(replay(journal))


def test_another_version_is_named_whatever_its_head_is_like(journal: Path) -> None:
    rest = values(journal)[1:]
    write(journal, [msgspec.msgpack.encode({"format": 9, "version": "9.0", "os": "x"}), *rest])
    live(journal, is_asked_once)
    first, second = replay(journal)
    assert (first.version, first.events) == ("9.0", 0)
    assert second.events, "the lives behind it are replayed"


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_disk_that_is_full_ends_the_journal_and_not_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """It may take a part of what is written."""
    path, write = tmp_path / "life.journal", os.write
    written: list[int] = []

    def full(handle: int, data: bytes) -> int:
        written.append(len(data))
        if len(written) < 4:
            return write(handle, data)
        if share == 0:
            raise OSError(28, "No space left on device")
        return write(handle, data[: int(len(data) * share)])

    async def goes_on(host: AsyncHost) -> None:
        monkeypatch.setattr("edgecoder_drivers.journal.os.write", full)
        with structlog.testing.capture_logs() as logs:
            assert await host.ask(SwapModel, model="small") == SwapResult(None, "small", 1.5)
        monkeypatch.undo()
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["journal ends"]

    live(path, goes_on)
    replayed = only(path)
    assert len(written) == 4
    assert (replayed.events, replayed.difference, replayed.rest > 0) == (3, None, share > 0)


def test_what_is_no_text_ends_the_journal_and_not_the_node(tmp_path: Path) -> None:
    """Half of a character, as an engine may say it."""
    path = tmp_path / "life.journal"

    async def goes_on(host: AsyncHost) -> None:
        await host.ask(QueryStatus)
        host.post(TaskChunk(7, "\ud83d", 1))
        assert await host.ask(SwapModel, model="small") == SwapResult(None, "small", 1.5)

    live(path, goes_on)
    assert only(path).difference is None
    assert 0 < only(path).events < 10
