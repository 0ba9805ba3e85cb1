"""A file that changes or goes while a node runs, and one that its user brings."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import ModelRow, Persist, PullResult
from edgecoder.core.events import PullModel, QueryModels
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry, Platform
from edgecoder_drivers.device import Device, Plan
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.parts import Parts
from edgecoder_drivers.store import driver as driver_module
from edgecoder_drivers.store import fetch as fetch_module
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.source import LocalFile
from edgecoder_drivers.store.view import file_name
from tests.catalogs import CATALOG as TINY_CATALOG
from tests.catalogs import SMALL
from tests.drivers.memory import MemoryDriver
from tests.drivers.rig import as_kind, living
from tests.drivers.shelves import CATALOG, IN_PIECES, OTHER, WHOLE, write_to
from tests.drivers.sources import MemorySource, breaks_at, bytes_of, storing


@pytest.mark.parametrize("entry", [WHOLE, IN_PIECES], ids=lambda entry: entry.model_id)
@pytest.mark.parametrize(
    ("harm", "reason"),
    [(Path.unlink, Reason.NOT_INSTALLED), (lambda path: write_to(path, b"mine"), Reason.CHECKSUM_MISMATCH)],
    ids=["deleted", "written to"],
)
def test_a_file_that_is_not_what_it_was_is_refused_and_comes_again(
    tmp_path: Path, entry: CatalogEntry, harm: Callable[[Path], None], reason: Reason
) -> None:
    async def live() -> None:
        async with storing(RealFiles(), CATALOG, root=tmp_path) as (host, driver):
            assert as_kind(await host.ask(PullModel, model=entry.model_id), PullResult).reason is None
            path, _ = driver.find(entry)
            harm(path)
            with pytest.raises(Refused) as refused:
                driver.find(entry)
            assert refused.value.reason is reason
            rows = [as_kind(row, ModelRow) for row in as_kind(await host.ask(QueryModels), tuple)]
            assert [row.state for row in rows if row.entry is entry] == ["partial"]
            assert as_kind(await host.ask(PullModel, model=entry.model_id), PullResult).reason is None
            assert driver.find(entry)[0].read_bytes() == bytes_of(entry.model_id)

    asyncio.run(live())


def test_a_file_that_goes_is_missed_though_nobody_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "LOOK_S", 0.0)

    async def live() -> None:
        async with storing(RealFiles(), CATALOG, root=tmp_path) as (host, _), asyncio.timeout(20):
            await host.ask(PullModel, model="whole")
            (tmp_path / "blobs" / file_name(WHOLE.sha256)).unlink()
            states = {"installed"}
            while "installed" in states:
                rows = as_kind(await host.ask(QueryModels), tuple)
                states = {as_kind(row, ModelRow).state for row in rows}

    asyncio.run(live())


def test_a_file_that_was_only_touched_needs_no_source(tmp_path: Path) -> None:
    source = MemorySource()

    async def live() -> None:
        async with storing(RealFiles(), CATALOG, source, root=tmp_path) as (host, driver):
            await host.ask(PullModel, model="whole")
            os.utime(driver.find(WHOLE)[0])
            with pytest.raises(Refused, match="not what it was"):
                driver.find(WHOLE)
            assert as_kind(await host.ask(PullModel, model="whole"), PullResult).reason is None
            assert driver.find(WHOLE)[0].is_file()

    asyncio.run(live())
    assert len(source.asked) == 1


@pytest.mark.parametrize("entry", [WHOLE, IN_PIECES], ids=lambda entry: entry.model_id)
def test_a_model_goes_to_a_file_and_comes_from_one(tmp_path: Path, entry: CatalogEntry) -> None:
    there, file = tmp_path / "there", tmp_path / "model.gguf"

    async def export() -> None:
        async with storing(RealFiles(), CATALOG, root=tmp_path / "here") as (host, driver):
            await host.ask(PullModel, model=entry.model_id)
            shutil.copyfile(driver.find(entry)[0], file)
            with pytest.raises(Refused, match="other"):
                driver.find(OTHER)

    async def bring() -> None:
        nobody = MemorySource()
        nobody.before = breaks_at(0)
        async with storing(RealFiles(), CATALOG, nobody, root=there) as (host, driver):
            assert await LocalFile(RealFiles(), file).sha256({entry.file_size_bytes}) == entry.sha256
            with driver.offering(entry, file):
                result = as_kind(await host.ask(PullModel, model=entry.model_id), PullResult)
        assert result.reason is None

    asyncio.run(export())
    asyncio.run(bring())
    assert (there / "blobs" / file_name(entry.sha256)).read_bytes() == bytes_of(entry.model_id)
    assert file.exists()


@pytest.mark.parametrize("entry", [WHOLE, IN_PIECES], ids=lambda entry: entry.model_id)
@pytest.mark.parametrize("came", [0, 50_000])
def test_a_file_of_the_users_takes_the_place_of_a_source_that_hangs(
    tmp_path: Path, entry: CatalogEntry, came: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though what came of it is wrong, where nobody could tell."""
    monkeypatch.setattr(fetch_module, "PROGRESS_S", 0.0)
    (tmp_path / "model.gguf").write_bytes(bytes_of(entry.model_id))
    silent = MemorySource()
    if entry is WHOLE:
        silent.lie = lambda data: bytes(len(data))

    async def live() -> None:
        hangs = asyncio.Event()

        async def before(at: int) -> None:
            if at >= came:
                hangs.set()
                await asyncio.Event().wait()

        silent.before = before
        far = NodeConfig(has_radio=False, cdn_retry_ms=60_000)  # nobody waits for the CDN here
        async with (
            asyncio.timeout(30),
            storing(RealFiles(), CATALOG, silent, root=tmp_path / "store", config=far) as (host, driver),
        ):
            pulling = asyncio.ensure_future(host.ask(PullModel, model=entry.model_id))
            await hangs.wait()
            with driver.offering(entry, tmp_path / "model.gguf"):
                assert as_kind(await host.ask(PullModel, model=entry.model_id), PullResult).reason is None
            assert as_kind(await pulling, PullResult).reason is None
            assert driver.find(entry)[0].read_bytes() == bytes_of(entry.model_id)

    asyncio.run(live())


def test_a_file_of_the_users_is_had_at_once_though_the_cdn_is_away(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(bytes_of("pieces"))
    away, asked = MemorySource(), asyncio.Event()

    async def before(_: int) -> None:
        asked.set()
        raise Refused(Reason.NO_SOURCE)

    away.before = before
    config = NodeConfig(has_radio=False, cdn_retry_ms=60_000)

    async def live() -> None:
        async with (
            asyncio.timeout(30),
            storing(RealFiles(), CATALOG, away, root=tmp_path / "store", config=config) as (host, driver),
        ):
            pulling = asyncio.ensure_future(host.ask(PullModel, model="pieces"))
            await asked.wait()
            for _ in range(100):  # until it waits for the CDN
                await host.ask(QueryModels)
            with driver.offering(IN_PIECES, tmp_path / "model.gguf"):
                assert as_kind(await host.ask(PullModel, model="pieces"), PullResult).reason is None
            assert as_kind(await pulling, PullResult).reason is None

    asyncio.run(live())


def test_a_file_of_the_users_is_read_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "PROGRESS_S", 0.0)
    (tmp_path / "model.gguf").write_bytes(bytes_of("whole"))
    liar = MemorySource()
    liar.lie, liar.before = (lambda data: bytes(len(data))), breaks_at(50_000)

    async def live() -> None:
        async with storing(RealFiles(), CATALOG, liar, root=tmp_path / "store") as (host, driver):
            assert as_kind(await host.ask(PullModel, model="whole"), PullResult).reason is Reason.NO_SOURCE
            with driver.offering(WHOLE, tmp_path / "model.gguf"):
                assert as_kind(await host.ask(PullModel, model="whole"), PullResult).reason is None

    asyncio.run(live())


def test_why_an_import_was_not_even_begun_is_said(tmp_path: Path) -> None:
    """The node cannot write the beginning of its life."""

    async def full() -> None:
        raise Refused(Reason.DISK_FULL)

    async def live() -> None:
        driver = MemoryDriver()
        driver.before[Persist] = full
        async with living([driver], {}) as host:
            parts = cast("Parts", Offers())
            plan = cast("Plan", SimpleNamespace(catalog=TINY_CATALOG, platform=Platform.IOS))
            with pytest.raises(Refused) as refused:
                await Device(plan, TINY_CATALOG, parts, host, b"").import_model(tmp_path)
        assert refused.value.reason is Reason.DISK_FULL

    asyncio.run(live())


class Offers:
    """`Parts` that take every file for one."""

    engine = "llama.cpp"

    async def sha256_of(self, path: Path) -> str:  # noqa: ARG002
        return SMALL.sha256

    def offering(self, entry: CatalogEntry, path: Path) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()
