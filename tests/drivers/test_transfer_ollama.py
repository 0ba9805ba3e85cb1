"""What an agent gives of files that Ollama keeps."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder_drivers.ollama_parts import GivenFiles
from edgecoder_drivers.shelf import Shelf
from edgecoder_drivers.store.view import file_name
from tests.drivers.ollama_rig import refusal, run, site, tiny
from tests.files import hashes_of


def test_a_file_of_ollamas_is_given_as_one_of_the_store_and_not_once_it_was_changed(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            plain, path = tiny(tmp_path, "good")
            data = path.read_bytes()
            entry = msgspec.structs.replace(plain, piece_root=hashes_of(plain.layout, data).root.hex())
            files, shelf = there.files(), Shelf(tmp_path / "data", Catalog((entry,)))
            given = GivenFiles(shelf, files)
            assert await refusal(given.bytes_at(entry)) is Reason.NOT_HELD
            await files.take(entry, path)
            held = await given.bytes_at(entry)
            assert held.read_bytes() == data
            assert await given.hashes_of(entry) == b"".join(leaf_hashes(data))
            held.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            assert await refusal(given.bytes_at(entry)) is Reason.CHECKSUM_MISMATCH
            await shelf.close()

    run(test)


def test_ollama_is_not_asked_for_each_piece(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, path = tiny(tmp_path, "good")
            files, shelf = there.files(), Shelf(tmp_path / "data", Catalog((entry,)))
            await files.take(entry, path)
            given = GivenFiles(shelf, files)
            first = await given.bytes_at(entry)
            files.give = None  # type: ignore[method-assign, assignment]
            assert await given.bytes_at(entry) == first
            await shelf.close()

    run(test)


def test_a_part_in_the_store_does_not_stand_before_the_whole_file_that_ollama_has(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, path = tiny(tmp_path, "good")
            files, shelf = there.files(), Shelf(tmp_path / "data", Catalog((entry,)))
            part = tmp_path / "data" / "partial" / file_name(entry.sha256)
            part.write_bytes(bytes(entry.file_size_bytes))
            given = GivenFiles(shelf, files)
            assert await given.bytes_at(entry) == part
            await files.take(entry, path)
            assert (await given.bytes_at(entry)).read_bytes() == path.read_bytes()
            await shelf.close()

    run(test)
