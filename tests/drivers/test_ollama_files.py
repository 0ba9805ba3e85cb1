"""The files that Ollama keeps: they come and go by their SHA-256, and what belongs to others stays."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from ollama import ProgressResponse

from edgecoder.core.effects import DeleteFile, FetchFile, HashFile, Operation
from edgecoder.core.events import Completion, Event, FetchProgressed, FileDeleted, FileFetched, FileHashed
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.demo.ollama_stand_in.disk import Disk
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.ollama.client import Client
from edgecoder_drivers.ollama.copies import Copies
from edgecoder_drivers.ollama.files import OllamaFiles
from tests.drivers.ollama_double.serving import registry
from tests.drivers.ollama_rig import WHERE, Site, refusal, run, site, tiny, until

everywhere = pytest.mark.parametrize("where", WHERE)


async def operate(files: OllamaFiles, effect: Operation) -> Completion:
    return await files.operations()[type(effect)](effect)


async def names(there: Site) -> list[str]:
    return sorted(model.name for model in await there.others.held())


def publish(disk: Disk, entry: CatalogEntry, path: Path) -> None:
    content = path.read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    disk.blob(digest).write_bytes(content)
    disk.create(entry.aliases[0], digest)


@asynccontextmanager
async def published(folder: Path, entry: CatalogEntry, path: Path) -> AsyncIterator[str]:
    """A registry that has a file as the entry's first alias."""
    disk = Disk(folder / "registry")
    publish(disk, entry, path)
    async with registry(folder / "registry") as address:
        yield address


@everywhere
def test_a_file_is_given_read_hashed_and_deleted(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            entry, path = tiny(tmp_path, "good")
            files = there.files()
            assert not await files.has(entry)
            assert await files.take(entry, path) == entry.aliases[0]
            assert await files.take(entry, path) == entry.aliases[0]
            assert await files.has(entry)
            if where == "double":  # one of today made another file, and a real one's may be hidden from us
                assert (await files.give(entry)).read_bytes() == path.read_bytes()
            assert await operate(files, HashFile(1, entry)) == FileHashed(1, entry.sha256)
            assert await operate(files, DeleteFile(2, entry)) == FileDeleted(2)
            assert not await files.has(entry)
            assert await operate(files, DeleteFile(3, entry)) == FileDeleted(3)
            assert await refusal(operate(files, HashFile(4, entry))) is Reason.STORE_FAILED
            assert await refusal(files.give(entry)) is Reason.NOT_HELD

    run(test)


@everywhere
def test_a_name_that_somebody_uses_for_another_build_is_left_alone(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            theirs, their_path = tiny(tmp_path, "good", 7)
            entry, path = tiny(tmp_path, "newer", 8)
            entry = msgspec.structs.replace(entry, aliases=theirs.aliases)
            files = there.files()
            await files.take(theirs, their_path)
            assert await files.take(entry, path) == entry.model_id
            assert await files.has(theirs)
            assert await files.has(entry)
            await operate(files, DeleteFile(1, entry))
            assert await files.has(theirs)
            nameless = msgspec.structs.replace(entry, model_id=theirs.aliases[0])
            assert await refusal(files.take(nameless, path)) is Reason.IN_USE
            assert await refusal(operate(files, FetchFile(2, entry, 0))) is Reason.CHECKSUM_MISMATCH
            assert await files.has(theirs)

    run(test)


@everywhere
def test_a_file_that_is_not_what_the_catalog_says_is_not_taken(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            entry, path = tiny(tmp_path, "good")
            path.write_bytes(path.read_bytes()[:-1] + b"?")
            assert await refusal(there.files().take(entry, path)) is Reason.CHECKSUM_MISMATCH
            assert entry.aliases[0] not in await names(there)

    run(test)


@everywhere
def test_what_is_no_model_is_not_taken(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            entry, path = tiny(tmp_path, "good")
            path.write_bytes(b"no model at all" * 1000)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            entry = msgspec.structs.replace(entry, sha256=digest)
            assert await refusal(there.files().take(entry, path)) is Reason.STORE_FAILED
            assert await refusal(there.files().take(entry, tmp_path / "none")) is Reason.STORE_FAILED

    run(test)


def test_what_ollama_made_of_a_file_stands_for_it_and_is_not_passed_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double of today", tmp_path) as there:
            entry, path = tiny(tmp_path, "good")
            files = there.files()
            await files.take(entry, path)
            (model,) = await there.others.held()
            made = await there.client().files_of(model)
            assert made > {entry.sha256}
            assert await refusal(files.give(entry)) is Reason.NOT_HELD
            later = Client(there.host, copies=Copies(tmp_path / "agent" / "ollama.copies"))
            assert await later.files_of(model) == made
            stranger = Client(there.host)
            assert await stranger.files_of(model) == made - {entry.sha256}
            await later.close()
            await stranger.close()
            await operate(files, DeleteFile(1, entry))
            assert there.copies.originals(*(made - {entry.sha256})) == frozenset()

    run(test)


def test_what_ollama_does_not_say_to_have_made_is_another_file(tmp_path: Path) -> None:
    """Somebody was quicker: he made a model of that name before we looked."""

    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, _ = tiny(tmp_path, "good")
            theirs, their_path = tiny(tmp_path, "theirs", 5)
            create = there.others.create

            class Late(Client):
                async def create(self, name: str, sha256: str, path: Path) -> frozenset[str]:  # noqa: ARG002
                    await create(name, theirs.sha256, their_path)
                    return frozenset({sha256})

            files = OllamaFiles(Late(there.host, copies=there.copies))
            assert await refusal(files.take(entry, their_path)) is Reason.CHECKSUM_MISMATCH
            assert not await files.has(entry)

    run(test)


def test_a_file_that_was_written_to_is_not_given_away(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, path = tiny(tmp_path, "good")
            files = there.files()
            await files.take(entry, path)
            blob = await files.give(entry)
            assert await files.give(entry) == blob
            content = blob.read_bytes()
            blob.write_bytes(content[:-1] + b"?")
            assert await refusal(files.give(entry)) is Reason.CHECKSUM_MISMATCH
            hashed = await operate(files, HashFile(1, entry))
            assert isinstance(hashed, FileHashed)
            assert hashed.sha256 != entry.sha256
            blob.unlink()
            assert await refusal(files.give(entry)) is Reason.NOT_HELD
            assert await operate(files, HashFile(1, entry)) == FileHashed(1, entry.sha256)

    run(test)


def test_the_servers_folder_may_be_here_under_another_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, path = tiny(tmp_path, "good")
            files = OllamaFiles(there.client(), tmp_path / "ollama")
            await files.take(entry, path)
            told = Path(f"/srv/models/blobs/sha256-{entry.sha256}")
            monkeypatch.setattr(there.double.double.disk, "model_blob", lambda manifest: told)
            assert await files.give(entry) == tmp_path / "ollama/blobs" / f"sha256-{entry.sha256}"
            assert await refusal(there.files().give(entry)) is Reason.NOT_HELD

    run(test)


def test_a_pull_tells_how_far_it_is(tmp_path: Path) -> None:
    async def test() -> None:
        entry, path = tiny(tmp_path, "good")
        async with published(tmp_path, entry, path) as address, site("double", tmp_path, registry=address) as there:
            files, posted = there.files(), list[Event]()
            files.open(posted.append)
            assert await operate(files, FetchFile(5, entry, 0)) == FileFetched(5, entry.file_size_bytes)
            news = [event for event in posted if isinstance(event, FetchProgressed)]
            done = [event.bytes_done for event in news]
            assert len(done) > 1
            assert done == sorted(done)
            assert done[-1] == entry.file_size_bytes
            assert {event.op for event in news} == {5}
            assert await operate(files, HashFile(6, entry)) == FileHashed(6, entry.sha256)
            pulls = there.double.faults.asked.count("/api/pull")
            assert await operate(files, FetchFile(7, entry, 0)) == FileFetched(7, entry.file_size_bytes)
            assert there.double.faults.asked.count("/api/pull") == pulls

    run(test)


def test_another_build_in_the_registry_is_deleted_again(tmp_path: Path) -> None:
    async def test() -> None:
        entry, _ = tiny(tmp_path, "good")
        newer, path = tiny(tmp_path, "newer", 8)
        async with published(tmp_path, entry, path) as address, site("double", tmp_path, registry=address) as there:
            files = there.files()
            assert await refusal(operate(files, FetchFile(1, entry, 0))) is Reason.CHECKSUM_MISMATCH
            assert await names(there) == []
            assert not await files.has(newer)

    run(test)


def test_another_build_is_given_up_as_soon_as_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It came whole, some gigabytes, before it was thrown away."""
    heard: list[str] = []

    async def pull(client: Client, name: str) -> AsyncIterator[ProgressResponse]:  # noqa: ARG001
        sizes = {"manifest": None, "license": 11_000, "another": 130_000, "rest": 130_000}
        for digest, size in sizes.items():
            heard.append(digest)
            yield ProgressResponse(status=f"pulling {digest}", digest=f"sha256:{digest}", total=size)

    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, _ = tiny(tmp_path, "good")
            monkeypatch.setattr(Client, "pull", pull)
            assert await refusal(operate(there.files(), FetchFile(1, entry, 0))) is Reason.CHECKSUM_MISMATCH
            assert heard == ["manifest", "license", "another"]

    run(test)


def test_a_pull_says_why_there_is_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        entry, path = tiny(tmp_path, "good")
        async with published(tmp_path, entry, path) as address, site("double", tmp_path, registry=address) as there:
            files, faults = there.files(), there.double.faults
            absent, _ = tiny(tmp_path, "absent", 3)
            assert await refusal(operate(files, FetchFile(1, absent, 0))) is Reason.NO_SOURCE
            nameless = msgspec.structs.replace(entry, aliases=())
            assert await refusal(operate(files, FetchFile(2, nameless, 0))) is Reason.NO_SOURCE
            for words, reason in {
                "write /blobs/sha256-1: no space left on device": Reason.DISK_FULL,
                "digest mismatch, file must be downloaded again": Reason.CHECKSUM_MISMATCH,
                "max retries exceeded": Reason.NO_SOURCE,
            }.items():
                faults.fails_after = (1, words)
                assert await refusal(operate(files, FetchFile(3, entry, 0))) is reason
            faults.fails_after = None
            assert isinstance(await operate(files, FetchFile(4, entry, 0)), FileFetched)

    run(test)


def test_a_pull_that_is_called_off_goes_on_where_it_was(tmp_path: Path) -> None:
    async def test() -> None:
        entry, path = tiny(tmp_path, "good")
        async with published(tmp_path, entry, path) as address, site("double", tmp_path, registry=address) as there:
            files, posted = there.files(), list[Event]()
            files.open(posted.append)
            pulling = asyncio.ensure_future(operate(files, FetchFile(1, entry, 0)))
            await until(lambda: posted != [])
            pulling.cancel()
            with suppress(asyncio.CancelledError):
                await pulling
            if not pulling.cancelled():
                raise AssertionError("it was over already")
            await until(lambda: there.double.faults.broken_off == 1)
            assert not await files.has(entry)
            assert isinstance(await operate(files, FetchFile(2, entry, 0)), FileFetched)
            assert await files.has(entry)

    run(test)


@everywhere
def test_a_server_that_is_not_there_is_unavailable(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            entry, path = tiny(tmp_path, "good")
            there.host = "127.0.0.1:9"
            files = there.files()
            for effect in (FetchFile(1, entry, 0), HashFile(2, entry), DeleteFile(3, entry)):
                assert await refusal(operate(files, effect)) is Reason.UNAVAILABLE
            assert await refusal(files.take(entry, path)) is Reason.UNAVAILABLE
            with pytest.raises(Refused, match="no Ollama listens there"):
                await files.give(entry)

    run(test)
