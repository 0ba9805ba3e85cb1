"""Lives that were journalled and are lived again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecoder.core.effects import LoadModel, SwapResult
from edgecoder.core.events import PullModel, QueryModels, QueryStatus, SubmitTask, SwapModel
from edgecoder.errors import ConfigError
from edgecoder.models.swap import Swap
from edgecoder_drivers.journal import FileJournal, values
from edgecoder_drivers.replay import replay
from tests.catalogs import LARGE, SMALL
from tests.drivers.memory import MemoryDriver
from tests.drivers.rig import has, living


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """The journal of a life with swaps, a pull and a task."""
    path = tmp_path / "life.journal"

    async def live() -> None:
        driver = MemoryDriver()
        driver.before[LoadModel] = lambda: asyncio.sleep(0.002)
        async with living([driver], has(SMALL, LARGE), journal=path) as host:
            await host.ask(SwapModel, model="small")
            await asyncio.gather(host.ask(SwapModel, model="large"), host.ask(SubmitTask, prompt="def"))
            await host.ask(PullModel, model="tiny")
            await host.ask(QueryStatus)
            await host.ask(QueryModels)

    asyncio.run(live())
    return path


def test_a_life_is_lived_again(journal: Path) -> None:
    replayed = replay(journal)
    assert replayed.difference is None
    assert replayed.events > 20
    assert replayed.last > 4_000


def test_only_its_user_can_read_it(journal: Path) -> None:
    assert journal.stat().st_mode & 0o777 == 0o600


def test_one_that_broke_off_is_replayed_up_to_there(journal: Path) -> None:
    whole = replay(journal).events
    journal.write_bytes(journal.read_bytes()[:-7])
    replayed = replay(journal)
    assert replayed.difference is None
    assert replayed.events == whole - 1


def test_another_core_is_told_where_it_differs(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Swap, "request", lambda *_args: False)
    difference = replay(journal).difference
    assert difference is not None
    assert difference.number > 1
    assert difference.effects, "what the core answers today"


def test_what_is_no_journal_says_so(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    for content in (b"", b"hello", b"\x00\x00\x00\x02\x93\x01"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="no journal"):
            replay(path)


def test_a_damaged_event_says_which(journal: Path) -> None:
    parts = list(values(journal))
    parts[3] = b"\x95" + parts[3][1:]
    journal.write_bytes(b"".join(len(part).to_bytes(4, "big") + part for part in parts))
    with pytest.raises(ConfigError, match="event 3 is damaged"):
        replay(journal)


def test_another_version_is_named(journal: Path) -> None:
    content = journal.read_bytes()
    start = content.index(b"version") + len(b"version")
    journal.write_bytes(content[: start + 1] + b"9" + content[start + 2 :])
    with pytest.raises(ConfigError, match="replay it with EdgeCoder 9"):
        replay(journal)


def test_a_disk_that_is_full_ends_the_journal_and_not_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "life.journal"
    monkeypatch.setattr(FileJournal, "__init__", _full(FileJournal.__init__))

    async def live() -> None:
        async with living([MemoryDriver()], has(SMALL), journal=path) as host:
            assert await host.ask(SwapModel, model="small") == SwapResult(None, "small", 1.5)

    asyncio.run(live())
    assert replay(path).events == 0


def _full(init: Callable[..., None]) -> Callable[..., None]:
    """After the head there is no room any more."""

    def full(journal: Any, *args: Any) -> None:
        init(journal, *args)
        journal._file.close()
        journal._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - the journal closes it

    return full
