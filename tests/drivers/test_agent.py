"""An agent beside Ollama: what Ollama has is here, what is imported Ollama gets, and what has no address it pulls."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgecoder.config import ClusterConfig, laptop
from edgecoder.core.effects import ModelStatus, PullResult, RemoveResult, SwapResult, TaskResult
from edgecoder.core.events import PullModel, QueryModels, QueryStatus, RemoveModel, SubmitTask, SwapModel
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog, CatalogEntry, Platform
from edgecoder_drivers.device import Device, Plan, running
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.http.server import Binding
from edgecoder_drivers.ollama.client import Client
from edgecoder_drivers.ollama.copies import Copies
from edgecoder_drivers.ollama.names import names_held
from edgecoder_drivers.ollama_parts import OllamaParts
from tests.drivers.ollama_rig import TURNS_MAX, WHERE, Site, run, site, tiny
from tests.drivers.ollama_rig import until as eventually
from tests.drivers.rig import as_kind
from tests.drivers.test_ollama_files import published

everywhere = pytest.mark.parametrize("where", WHERE)


@asynccontextmanager
async def agent(there: Site, *entries: CatalogEntry, **config: Any) -> AsyncIterator[Device]:
    """An agent on a server, with a catalog of these files; `config` is what differs from a laptop's."""
    plan = Plan(
        folder=there.folder / "agent",
        role=Role.AGENT,
        platform=Platform.NODE,
        cluster=ClusterConfig(),
        config=msgspec.structs.replace(laptop(), **config),
        catalog=Catalog(entries),
        binding=Binding(port=0),
    )
    async with running(
        plan, lambda plan, catalog: OllamaParts(plan.folder, catalog, plan.config, host=there.host)
    ) as device:
        yield device


async def ask(device: Device, kind: Any, **fields: Any) -> Any:
    _, reply = device.begin(kind, **fields)
    return await reply


async def until(device: Device, is_so: Callable[[ModelStatus], bool]) -> None:
    """Let time pass until the status is so."""
    for _ in range(TURNS_MAX):
        if is_so(as_kind(await ask(device, QueryStatus), ModelStatus)):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it does not come")


async def states(device: Device) -> dict[str, str]:
    return {row.entry.model_id: row.state for row in await ask(device, QueryModels)}


async def is_given(there: Site, entry: CatalogEntry) -> bool:
    """Whether Ollama has a file, by what the agent has noted."""
    client = Client(there.host, copies=Copies(there.folder / "agent" / "ollama.copies"))
    try:
        return bool(await names_held(client, entry))
    finally:
        await client.close()


async def become(device: Device, model: str, state: str | None) -> None:
    """Let time pass until a model is in a state; None: it is not listed."""
    for _ in range(TURNS_MAX):
        if (await states(device)).get(model) == state:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(await states(device))


@pytest.fixture
def quick_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ollama is asked again at once."""
    monkeypatch.setattr("edgecoder_drivers.ollama_parts.LIST_S", 0.05)


@everywhere
def test_what_ollama_has_is_installed_and_swapped_to(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            entry, path = tiny(tmp_path, "held")
            await there.files().take(entry, path)
            async with agent(there, entry) as device:
                assert (await states(device))[entry.model_id] == "installed"
                swapped = as_kind(await ask(device, SwapModel, model=entry.aliases[0]), SwapResult)
                assert (swapped.active, swapped.reason) == (entry.model_id, None)
                assert await there.running() == [entry.aliases[0]]
                answered = as_kind(await ask(device, SubmitTask, prompt="def", max_tokens=4), TaskResult)
                assert (answered.reason, answered.model) == (None, entry.model_id)
                assert device.is_engine_healthy()
            assert await there.running() == [], "what the agent has loaded is freed with it"

    run(test)


@everywhere
def test_what_is_imported_is_given_to_ollama_before_it_is_loaded(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            (first, one), (second, two) = tiny(tmp_path, "one", 1), tiny(tmp_path, "two", 2)
            async with agent(there, first, second) as device:
                assert await device.import_model(one) == first.model_id
                assert await device.import_model(two) == second.model_id
                assert await is_given(there, first)
                assert as_kind(await ask(device, SwapModel, model=first.model_id), SwapResult).reason is None
                swapped = as_kind(await ask(device, SwapModel, model=second.model_id), SwapResult)
                assert (swapped.previous, swapped.active) == (first.model_id, second.model_id)
                assert (await device.export_model(first)).read_bytes() == one.read_bytes()
                assert as_kind(await ask(device, RemoveModel, model=first.model_id), RemoveResult).reason is None
                assert not await is_given(there, first)
                with pytest.raises(Refused):
                    await device.import_model(tmp_path / "nothing.gguf")
            async with agent(there, first, second) as device:
                await until(device, lambda status: status.model == second.model_id)  # it survives a restart

    run(test)


@everywhere
@pytest.mark.usefixtures("quick_lists")
def test_what_ollama_makes_of_a_file_is_that_file_and_no_model_more(where: str, tmp_path: Path) -> None:
    """From 0.30 on it has another SHA-256."""

    async def test() -> None:
        async with site(where, tmp_path) as there:
            entry, path = tiny(tmp_path, "one")
            for _ in range(2):
                async with agent(there, entry) as device:
                    await device.import_model(path)
                    swapped = as_kind(await ask(device, SwapModel, model=entry.model_id), SwapResult)
                    assert (swapped.active, swapped.reason) == (entry.model_id, None)
                    await asyncio.sleep(0.3)  # time for some lists
                    assert await states(device) == {entry.model_id: "installed"}
                    assert (await device.export_model(entry)).read_bytes() == path.read_bytes()
                assert await there.running() == [], "it was ours"
            assert [model.name for model in await there.others.held()] == [entry.aliases[0]], "it was given once"

    run(test)


def test_what_has_no_address_is_pulled_by_ollama(tmp_path: Path) -> None:
    async def test() -> None:
        entry, path = tiny(tmp_path, "far")
        async with (
            published(tmp_path, entry, path) as address,
            site("double", tmp_path, registry=address) as there,
            agent(there, entry) as device,
        ):
            assert device.source_of(entry) == "ollama"
            assert as_kind(await ask(device, PullModel, model=entry.model_id), PullResult).reason is None
            assert (await states(device))[entry.model_id] == "installed"
            assert as_kind(await ask(device, SwapModel, model=entry.model_id), SwapResult).reason is None

    run(test)


def test_an_import_takes_the_place_of_a_pull_that_hangs_in_ollama(tmp_path: Path) -> None:
    async def test() -> None:
        entry, path = tiny(tmp_path, "far")
        async with site("double", tmp_path) as there, agent(there, entry) as device:
            there.double.faults.hangs.add("/api/pull")
            pull = asyncio.ensure_future(ask(device, PullModel, model=entry.model_id))
            await eventually(lambda: "/api/pull" in there.double.faults.asked)
            assert await device.import_model(path) == entry.model_id
            assert as_kind(await pull, PullResult).reason is None
            assert (await device.export_model(entry)).read_bytes() == path.read_bytes()

    run(test)


@everywhere
def test_what_the_catalog_does_not_know_is_swapped_to_all_the_same(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            entry, path = tiny(tmp_path, "mine")
            await there.files().take(entry, path)
            name = entry.aliases[0]
            async with agent(there) as device:
                assert (await states(device))[name] == "installed"
                swapped = as_kind(await ask(device, SwapModel, model=name), SwapResult)
                assert (swapped.active, swapped.reason) == (name, None)
                exported = (await device.export_model(found(device, name))).read_bytes()
                assert hashlib.sha256(exported).hexdigest() == found(device, name).sha256
                answered = as_kind(await ask(device, SubmitTask, prompt="def", max_tokens=4), TaskResult)
                assert (answered.reason, answered.model) == (None, name)
            async with agent(there) as device:
                await until(device, lambda status: status.model == name)  # it survives a restart
                assert as_kind(await ask(device, RemoveModel, model=name), RemoveResult).reason is Reason.IN_USE

    run(test)


def found(device: Device, name: str) -> CatalogEntry:
    entry = device.find(name)
    assert entry is not None
    return entry


@everywhere
@pytest.mark.usefixtures("quick_lists")
def test_what_others_pull_and_delete_beside_it_is_seen(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there, agent(there) as device:
            entry, path = tiny(tmp_path, "mine")
            name = entry.aliases[0]
            assert name not in await states(device)
            await there.others.create(name, entry.sha256, path)
            await become(device, name, "installed")
            await there.others.delete(name)
            await become(device, name, None)

    run(test)


@pytest.mark.usefixtures("quick_lists")
def test_what_went_while_no_agent_ran_is_absent(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(WHERE[0], tmp_path) as there:
            entry, path = tiny(tmp_path, "mine")
            async with agent(there, entry) as device:
                await there.others.create(entry.aliases[0], entry.sha256, path)
                await become(device, entry.model_id, "installed")
            await there.others.delete(entry.aliases[0])
            async with agent(there, entry) as device:
                assert (await states(device))[entry.model_id] == "absent"

    run(test)


@pytest.mark.parametrize("is_listed", [True, False])
def test_what_ollama_has_is_here_though_something_wrote_to_the_agents_file(
    is_listed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_listed:
        monkeypatch.setattr("edgecoder_drivers.ollama_parts.LIST_S", 0.05)

    async def test() -> None:
        async with site(WHERE[0], tmp_path) as there:
            entry, path = tiny(tmp_path, "one")
            async with agent(there, entry) as device:
                await device.import_model(path)
                (blob,) = (there.folder / "agent" / "blobs").iterdir()
                blob.chmod(0o644)
                blob.write_bytes(b"x" * entry.file_size_bytes)
                if is_listed:
                    await asyncio.sleep(0.5)  # for several lists
                    assert (await states(device))[entry.model_id] == "installed"
                else:
                    with suppress(Refused):
                        await device.export_model(entry)  # finds it
                    assert (await states(device))[entry.model_id] == "partial"
                swapped = as_kind(await ask(device, SwapModel, model=entry.model_id, pull=True), SwapResult)
                assert (swapped.active, swapped.reason) == (entry.model_id, None)
                assert blob.exists() is is_listed, "what is not the file goes where it is hashed"

    run(test)


@everywhere
def test_what_the_user_has_of_ones_own_is_removed_only_when_told(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            entry, path = tiny(tmp_path, "mine")
            name = entry.aliases[0]
            await there.others.create(name, entry.sha256, path)
            async with agent(there) as device:
                assert as_kind(await ask(device, RemoveModel, model=name), RemoveResult).reason is None
                assert name not in {model.name for model in await there.others.held()}

    run(test)


def test_without_ollama_at_the_start_its_models_are_known_still(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            (known, one), (mine, two) = tiny(tmp_path, "one", 1), tiny(tmp_path, "two", 2)
            await there.files().take(known, one)
            await there.files().take(mine, two)
            async with agent(there, known) as device:
                await ask(device, SwapModel, model=mine.aliases[0])
            await there.double.stop()
            async with agent(there, known) as device:
                assert await states(device) == {known.model_id: "installed", mine.aliases[0]: "installed"}
                refused = as_kind(await ask(device, SwapModel, model=known.model_id), SwapResult)
                assert refused.reason is Reason.UNAVAILABLE
                await there.double.start()
                await until(device, lambda status: status.model == mine.aliases[0])

    run(test)


def test_what_went_while_nobody_looked_is_absent_when_ollama_is_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, path = tiny(tmp_path, "one")
            await there.files().take(entry, path)
            async with agent(there, entry):
                pass
            await there.others.delete(entry.aliases[0])
            await there.double.stop()
            async with agent(there, entry) as device:
                assert (await states(device))[entry.model_id] == "installed"
                await there.double.start()
                await become(device, entry.model_id, "absent")

    run(test)


@pytest.mark.parametrize("poll_s", [0.02, 60.0], ids=["told", "not told yet"])
def test_no_room_beside_others_is_known_before_the_old_model_goes(
    poll_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecoder_drivers.ollama_parts.POLL_S", poll_s)

    async def test() -> None:
        async with site("double", tmp_path) as there:
            entries = []
            for number, name in enumerate("abc"):
                entry, path = tiny(tmp_path, name, number)
                await there.files().take(entry, path)
                entries.append(entry)
            a, b, c = entries
            async with agent(there, a, b) as device:
                assert as_kind(await ask(device, SwapModel, model=a.model_id), SwapResult).reason is None
                (before,) = there.double.double.runners.all()
                there.double.double.runners.size_bytes_min = 12 << 30
                await there.others.load(c.aliases[0], 256, "1h")
                asked = there.double.faults.asked
                asked.clear()
                if poll_s < 1:
                    await eventually(lambda: asked.count("/api/ps") > 2)
                result = as_kind(await ask(device, SwapModel, model=b.model_id), SwapResult)
                assert (result.reason, result.active) == (Reason.INSUFFICIENT_MEMORY, a.model_id)
                assert before in there.double.double.runners.all()

    run(test)


def test_a_model_that_was_deleted_while_it_serves_does_not_keep_another_from_coming(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            (a, one), (b, two) = tiny(tmp_path, "a", 1), tiny(tmp_path, "b", 2)
            await there.files().take(a, one)
            await there.files().take(b, two)
            async with agent(there, a, b) as device:
                assert as_kind(await ask(device, SwapModel, model=a.model_id), SwapResult).reason is None
                await there.others.delete(a.aliases[0])
                assert as_kind(await ask(device, SwapModel, model=b.model_id), SwapResult).reason is None

    run(test)


def test_what_others_deleted_is_absent_as_soon_as_it_is_wanted(tmp_path: Path) -> None:
    """It said "pull it first", and a pull said that it is there."""

    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, path = tiny(tmp_path, "a")
            await there.files().take(entry, path)
            async with agent(there, entry) as device:
                await there.others.delete(entry.aliases[0])
                first = as_kind(await ask(device, SwapModel, model=entry.model_id), SwapResult)
                assert first.reason is Reason.NOT_INSTALLED
                assert await states(device) == {entry.model_id: "absent"}
                pulled = as_kind(await ask(device, PullModel, model=entry.model_id), PullResult)
                assert pulled.reason is Reason.NO_SOURCE

    run(test)


def test_a_file_is_given_to_its_end_though_the_load_is_given_up(tmp_path: Path) -> None:
    """A load has two minutes; a large file on a slow disk takes longer, and would begin anew with each load."""

    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, path = tiny(tmp_path, "one")
            faults = there.double.faults
            faults.refuses = {"/api/create": (500, "no space left on device")}
            async with agent(there, entry, load_timeout_ms=100) as device:
                await device.import_model(path)
                assert (await states(device))[entry.model_id] == "installed", (
                    "that Ollama cannot take it changes nothing"
                )
                faults.refuses.clear()
                faults.hangs = {"/api/create"}
                failed = as_kind(await ask(device, SwapModel, model=entry.model_id), SwapResult)
                assert failed.reason is Reason.LOAD_TIMEOUT
                creates = faults.asked.count("/api/create")
                again = as_kind(await ask(device, SwapModel, model=entry.model_id), SwapResult)
                assert again.reason is Reason.LOAD_TIMEOUT
                assert faults.asked.count("/api/create") == creates, "it was begun a second time"
                assert as_kind(await ask(device, RemoveModel, model=entry.model_id), RemoveResult).reason is None

    run(test)


@pytest.mark.parametrize("status", [401, 404, 500, 503])
def test_whatever_answers_there_an_agent_starts(status: int, tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, path = tiny(tmp_path, "one")
            await there.files().take(entry, path)
            there.double.faults.refuses = dict.fromkeys(
                ("/api/tags", "/api/ps"), (status, "model list cache unavailable")
            )
            async with agent(there, entry) as device:
                assert not device.is_engine_healthy()
                assert (await states(device))[entry.model_id] == "absent"
                there.double.faults.refuses = {}
                await become(device, entry.model_id, "installed")

    run(test)


def test_a_list_that_takes_long_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecoder_drivers.ollama_parts.FIRST_LIST_S", 0.05)

    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, path = tiny(tmp_path, "one")
            await there.files().take(entry, path)
            there.double.faults.hangs = {"/api/show"}
            async with agent(there, entry) as device:
                assert (await states(device))[entry.model_id] == "absent"

    run(test)


def test_without_ollama_it_says_so_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, path = tiny(tmp_path, "one")
            await there.double.stop()
            async with agent(there, entry) as device:
                assert await device.import_model(path) == entry.model_id
                failed = as_kind(await ask(device, SwapModel, model=entry.model_id), SwapResult)
                assert failed.reason is Reason.UNAVAILABLE
                assert not device.is_engine_healthy()
                await there.double.start()
                assert as_kind(await ask(device, SwapModel, model=entry.model_id), SwapResult).reason is None
                await there.double.stop()
                await until(device, lambda status: status.status != "ready")
                await there.double.start()
                await until(device, lambda status: status.model == entry.model_id)

    run(test)
