"""How a GGUF file becomes an entry of a catalog: what it says of itself, what its user says, and what it hashes to."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from urllib.parse import quote

import msgspec

from edgecoder.errors import ConfigError, DriverError
from edgecoder.models.catalog import CatalogEntry, Platform, is_model_name
from edgecoder.seeding.merkle import Rows, leaf_hashes
from edgecoder.seeding.pieces import layout_of
from edgecoder_drivers.addresses import LEAVES
from edgecoder_drivers.llamacpp.describing import Description, describe
from edgecoder_drivers.llamacpp.header import BadHeader

ENDING: Final = ".gguf"
PART_BYTES: Final = 1 << 22
"""Read at a time; a whole number of leaves."""
MIB: Final = 1 << 20
NAME_MAX: Final = 96


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the user says of the files; None: nothing."""

    model_id: str | None = None
    display_name: str | None = None
    aliases: Sequence[str] | None = None
    languages: Sequence[str] | None = None
    license: str | None = None
    urls: Sequence[str] | None = None
    platforms: Sequence[Platform] | None = None
    param_size: float | None = None
    quantization: str | None = None
    min_memory_mb: int | None = None

    def check(self, files: Sequence[Path]) -> None:
        """Raises ConfigError where it cannot be meant of the files."""
        for option, value in (("--id", self.model_id), ("--name", self.display_name), ("--alias", self.aliases),
                              ("--url", self.urls), ("--param-size", self.param_size)):  # fmt: skip
            if value and len(files) > 1:
                raise ConfigError(option, None, f"it is of one file, and there are {len(files)}", "build one by one")
        for option, names in (
            ("--id", [self.model_id] if self.model_id is not None else []),
            ("--alias", self.aliases),
        ):
            for name in names or ():
                if not is_model_name(name):
                    hint = "write one such as my-model or my-model:0.5b: lower case, digits and . _ -"
                    raise ConfigError(option, None, f"{name!r} is no model name", hint)

    @property
    def given(self) -> frozenset[str]:
        """The fields of an entry that the user has said something of."""
        fields = {"urls": "download_urls"}
        return frozenset(fields.get(name, name) for name in self.__struct_fields__ if getattr(self, name) is not None)


class Hashes(NamedTuple):
    """What a file hashes to."""

    sha256: str
    root: str
    leaves: bytes
    """The SHA-256 of each leaf, one after the other."""


def models_in(paths: Sequence[Path]) -> tuple[list[Path], Path | None]:
    """The files that are meant, and the folder where one was named. Raises ConfigError."""
    if len(paths) == 1 and paths[0].is_dir():
        found = sorted(
            path for path in paths[0].rglob(f"*{ENDING}") if path.is_file() and not _is_hidden(path, paths[0])
        )
        if not found:
            raise ConfigError(str(paths[0]), None, f"no {ENDING} file is in this folder", "put the models there")
        return found, paths[0]
    for path in paths:
        if path.is_dir():
            raise ConfigError(str(path), None, "this is a folder", "name one folder alone, or files")
        if not path.exists():
            raise ConfigError(str(path), None, "there is no such file", "check the path")
    return list(dict.fromkeys(paths)), None


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def entry_of(path: Path, folder: Path, wish: Wish, *, leaves: bool) -> CatalogEntry:
    """The entry of a file in a catalog that lies in `folder`. Writes the leaf hashes beside the file where `leaves`
    says so. Raises ConfigError where it is no model, DriverError where it cannot be read."""
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            described = _described(path, file.fileno(), size_bytes)
            hashed = hashes_of(file, size_bytes)
        if leaves:
            _write(path.with_name(path.name + LEAVES), hashed.leaves)
    except OSError as error:
        raise DriverError(f"{error.filename or path}: {error.strerror}; see who may read and write there") from None
    model_id = wish.model_id or _id_of(path)
    try:
        return CatalogEntry(
            model_id=model_id,
            display_name=wish.display_name or described.name or path.stem,
            param_size=wish.param_size or described.param_size,
            quantization=wish.quantization or described.quantization or "unknown",
            file_size_bytes=size_bytes,
            sha256=hashed.sha256,
            min_memory_mb=wish.min_memory_mb or -(-size_bytes // MIB),
            platforms=tuple(wish.platforms or Platform),
            download_urls=tuple(wish.urls or _beside(path, folder)),
            languages=tuple(wish.languages or ()),
            aliases=tuple(wish.aliases or ()),
            architecture=described.architecture,
            context_length=described.context_length,
            kv_bytes_per_token=described.cache_bytes_per_token,
            license=wish.license or described.license,
            piece_root=hashed.root,
        )
    except ValueError as error:
        raise ConfigError(str(path), None, str(error), "see `edgecoder catalog build --help`") from None


def _described(path: Path, handle: int, size_bytes: int) -> Description:
    hint = "name a GGUF file, as llama.cpp and Ollama run them"
    if not size_bytes:
        raise ConfigError(str(path), None, "the file is empty", hint)
    with mmap.mmap(handle, 0, access=mmap.ACCESS_READ) as data:
        try:
            return describe(data)
        except BadHeader as error:
            raise ConfigError(str(path), None, f"this is no GGUF file, or a broken one: {error}", hint) from None


def hashes_of(file: BinaryIO, size_bytes: int) -> Hashes:
    """Read a file once, from where it is."""
    whole, leaves = hashlib.sha256(), bytearray()
    while data := file.read(PART_BYTES):
        whole.update(data)
        leaves += b"".join(leaf_hashes(data))
    row = [bytes(leaves[at : at + 32]) for at in range(0, len(leaves), 32)]
    root = Rows(row, 0, layout_of(size_bytes).tree_height).root
    return Hashes(whole.hexdigest(), root.hex(), bytes(leaves))


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _id_of(path: Path) -> str:
    """A model name made of the file's."""
    name = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._")[:NAME_MAX]
    if not is_model_name(name):
        raise ConfigError(str(path), None, "no model id can be made of this name", "give one with --id")
    return name


def _beside(path: Path, folder: Path) -> tuple[str, ...]:
    """The address of a file relative to its catalog's; none where it lies elsewhere."""
    try:
        below = path.resolve().relative_to(folder.resolve())
    except ValueError:
        return ()
    return (quote(below.as_posix()),)
