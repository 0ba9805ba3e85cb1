"""The N-th call of a store fails, tears, or is the last before the power goes, for every N.

Whatever happens: nothing that is not verified counts as installed, what somebody was told stays, a second try
succeeds, and then nothing lies on the disk but what belongs there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from edgecoder.core.effects import PullResult, RemoveResult
from edgecoder.core.events import PullModel, QueryModels, RemoveModel
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder_drivers.store.saving import OtherFileError, save
from edgecoder_drivers.store.view import file_name
from tests.drivers.disks import Fault, MemoryDisk
from tests.drivers.rig import as_kind
from tests.drivers.sources import ROOT, bytes_of, installed, made, storing

WHOLE, OTHER = made("whole"), made("other")
IN_PIECES = made("pieces", tree=True, piece_size_bytes=2 * 16_384)
CATALOG = Catalog((WHOLE, OTHER, IN_PIECES))


async def ask(
    disk: MemoryDisk, kind: type[PullModel | RemoveModel], entry: CatalogEntry, source: Path | None = None
) -> bool:
    """A life in which a file is pulled or removed, or imported from `source`; whether that was said to be done. It ends
    with the power."""
    try:
        async with storing(disk, CATALOG) as (host, driver):
            with nullcontext() if source is None else driver.offering(entry, source):
                reply = asyncio.ensure_future(host.ask(kind, model=entry.model_id))
                async with asyncio.timeout(20):
                    while not reply.done() and not disk.is_off:
                        await asyncio.wait({reply}, timeout=0.002)
            reply.cancel()
            result = reply.result() if reply.done() else None
            return isinstance(result, PullResult | RemoveResult) and result.reason is None
    except OSError:  # the store could not be opened
        return False


def put(disk: MemoryDisk, path: Path, data: bytes) -> None:
    """A file of somebody else's, which is durable."""
    handle, offset = disk.open(path, write=True), 0
    while offset < len(data):
        offset += disk.pwrite(handle, data[offset:], offset)
    disk.fsync(handle)
    disk.close(handle)
    disk.fsync_folder(path.parent)


def files_of(*entries: CatalogEntry) -> set[str]:
    """What lies in a store that has these files and no others."""
    paths = {ROOT / "blobs" / file_name(entry.sha256) for entry in entries}
    paths |= {ROOT / "Models" / f"{entry.model_id}.gguf" for entry in entries}
    paths |= {ROOT / "trees" / file_name(entry.sha256) for entry in entries if entry.piece_root}
    paths |= {ROOT / "registry.reserve"}
    return {path.as_posix() for path in paths}


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("entry", [WHOLE, IN_PIECES], ids=lambda entry: entry.model_id)
def test_a_pull(entry: CatalogEntry, fault: Fault) -> None:
    for call in range(1, 1000):
        disk = MemoryDisk()
        asyncio.run(ask(disk, PullModel, OTHER))
        disk.fail(call, fault)
        was_told = asyncio.run(ask(disk, PullModel, entry))
        was_hit = disk.was_hit
        assert disk.open_handles == 0, disk.calls
        disk.power_on()
        now = asyncio.run(installed(disk, CATALOG))
        assert now >= {OTHER.model_id} | ({entry.model_id} if was_told else set()), (call, disk.calls)
        assert asyncio.run(ask(disk, PullModel, entry)), (call, disk.calls)
        assert asyncio.run(installed(disk, CATALOG)) == {OTHER.model_id, entry.model_id}
        assert set(disk.tree()) == files_of(OTHER, entry), call
        if not was_hit:
            return
    pytest.fail("a pull does not end")


@pytest.mark.parametrize("fault", [fault for fault in Fault if not fault.is_cut])
@pytest.mark.parametrize("entry", [WHOLE, IN_PIECES], ids=lambda entry: entry.model_id)
def test_the_same_life_tries_again(entry: CatalogEntry, fault: Fault) -> None:
    async def live(call: int) -> bool:
        disk = MemoryDisk()
        async with storing(disk, CATALOG) as (host, _), asyncio.timeout(20):
            await host.ask(QueryModels)
            disk.fail(call, fault)
            first = as_kind(await host.ask(PullModel, model=entry.model_id), PullResult)
            was_hit = disk.was_hit
            reason = first.reason and Reason.REMOVED
            while reason is Reason.REMOVED:  # what has no room is removed, and may be pulled again when it is gone
                await asyncio.sleep(0.001)
                reason = as_kind(await host.ask(PullModel, model=entry.model_id), PullResult).reason
            assert reason is None, (call, disk.calls)
        late = {f"{ROOT}/Models/{entry.model_id}.gguf", f"{ROOT}/registry.reserve"}  # the next life makes them
        assert set(disk.tree()) | late == files_of(entry), call
        return was_hit

    call = 1
    while asyncio.run(live(call)):
        call += 1
    assert call > 20


@pytest.mark.parametrize("fault", Fault)
def test_a_removal(fault: Fault) -> None:
    for call in range(1, 1000):
        disk = MemoryDisk()
        asyncio.run(ask(disk, PullModel, OTHER))
        asyncio.run(ask(disk, PullModel, IN_PIECES))
        disk.fail(call, fault)
        was_told = asyncio.run(ask(disk, RemoveModel, IN_PIECES))
        was_hit = disk.was_hit
        disk.power_on()
        now = asyncio.run(installed(disk, CATALOG))
        assert OTHER.model_id in now, call
        assert IN_PIECES.model_id not in now or not was_told, (call, disk.calls)
        asyncio.run(ask(disk, RemoveModel, IN_PIECES))  # where a life before was to, it has done it
        assert asyncio.run(installed(disk, CATALOG)) == {OTHER.model_id}, call
        assert set(disk.tree()) == files_of(OTHER), call
        if not was_hit:
            return
    pytest.fail("a removal does not end")


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("entry", [WHOLE, IN_PIECES], ids=lambda entry: entry.model_id)
def test_an_import(entry: CatalogEntry, fault: Fault) -> None:
    file = Path("/elsewhere/model.gguf")
    for call in range(1, 1000):
        disk = MemoryDisk()
        put(disk, file, bytes_of(entry.model_id))
        asyncio.run(ask(disk, PullModel, OTHER))
        disk.fail(call, fault)
        was_told = asyncio.run(ask(disk, PullModel, entry, file))
        was_hit = disk.was_hit
        assert disk.open_handles == 0, disk.calls
        disk.power_on()
        now = asyncio.run(installed(disk, CATALOG))
        assert now >= {OTHER.model_id} | ({entry.model_id} if was_told else set()), (call, disk.calls)
        assert asyncio.run(ask(disk, PullModel, entry, file)), (call, disk.calls)
        assert asyncio.run(installed(disk, CATALOG)) == {OTHER.model_id, entry.model_id}
        assert set(disk.tree()) == {*files_of(OTHER, entry), file.as_posix()}, call
        if not was_hit:
            return
    pytest.fail("an import does not end")


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize(("entry", "is_right"), [(WHOLE, True), (WHOLE, False), (IN_PIECES, False)])
def test_a_life_that_finds_a_file_changed(entry: CatalogEntry, is_right: bool, fault: Fault) -> None:
    """What was written to it may have been the same: then nobody has to be asked for it."""
    for call in range(1, 1000):
        disk = MemoryDisk()
        asyncio.run(ask(disk, PullModel, OTHER))
        asyncio.run(ask(disk, PullModel, entry))
        data = bytes_of(entry.model_id)[5000:5010] if is_right else b"mine"
        disk.write_to(ROOT / "blobs" / file_name(entry.sha256), data, 5000)
        disk.fail(call, fault)
        was_told = asyncio.run(ask(disk, PullModel, entry))
        was_hit = disk.was_hit
        assert disk.open_handles == 0, disk.calls
        disk.power_on()
        now = asyncio.run(installed(disk, CATALOG))
        assert now >= {OTHER.model_id} | ({entry.model_id} if was_told or is_right else set()), (call, disk.calls)
        assert asyncio.run(ask(disk, PullModel, entry)), (call, disk.calls)
        assert asyncio.run(installed(disk, CATALOG)) == {OTHER.model_id, entry.model_id}
        assert set(disk.tree()) == files_of(OTHER, entry), call
        if not was_hit:
            return
    pytest.fail("a life does not end")


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("before", [None, b"old"])
def test_an_export(before: bytes | None, fault: Fault) -> None:
    target, data = Path("/elsewhere/model.gguf"), bytes_of("whole")
    for call in range(1, 100):
        disk = MemoryDisk()
        if before is not None:
            put(disk, target, before)
        disk.fail(call, fault)
        was_told = False
        with suppress(OSError):
            save(disk, target, (data[at : at + 30_000] for at in range(0, len(data), 30_000)), WHOLE.sha256)
            was_told = True
        assert disk.open_handles == 0
        assert fault.is_cut or set(disk.tree()) <= {target.as_posix()}, (call, disk.calls)
        was_hit = disk.was_hit
        disk.power_on()
        assert disk.tree().get(target.as_posix()) in ((data,) if was_told else (before, data)), (call, disk.calls)
        if not was_hit:
            return
    pytest.fail("an export does not end")


def test_an_export_that_is_broken_off_or_another_file_leaves_what_was_there() -> None:
    target = Path("/elsewhere/model.gguf")

    def breaks_off() -> Iterator[bytes]:
        yield b"some"
        raise KeyboardInterrupt

    disk = MemoryDisk()
    put(disk, target, b"old")
    with pytest.raises(KeyboardInterrupt):
        save(disk, target, breaks_off(), WHOLE.sha256)
    with pytest.raises(OtherFileError):
        save(disk, target, [b"another"], WHOLE.sha256)
    assert disk.tree() == {target.as_posix(): b"old"}


def test_power_that_goes_again_while_a_life_mends() -> None:
    for call in range(1, 1000, 6):
        for again in range(1, 1000):
            disk = MemoryDisk()
            disk.fail(call, Fault.CUT_SOME)
            was_told = asyncio.run(ask(disk, PullModel, WHOLE))
            was_hit = disk.was_hit
            disk.power_on()
            disk.fail(again, Fault.CUT_NOTHING)
            was_told |= asyncio.run(ask(disk, PullModel, WHOLE))
            was_hit_again = disk.was_hit
            disk.power_on()
            assert not was_told or asyncio.run(installed(disk, CATALOG)) == {WHOLE.model_id}, (call, again)
            assert asyncio.run(ask(disk, PullModel, WHOLE))
            assert set(disk.tree()) == files_of(WHOLE), (call, again)
            if not was_hit_again:
                break
        if not was_hit:
            return
