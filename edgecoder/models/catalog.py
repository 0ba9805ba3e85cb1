"""The catalog: which model files exist, what they are called, and where each may run.

A file is its SHA-256. Ids and aliases are keys that resolve to one entry per platform; the same name may mean two
files (Ollama's build of a model and its GGUF release differ). Where the bytes are and how they travel is left to
`inventory` and to the seeding folder, when an edition is believed to `editions`; signatures come later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Annotated

import msgspec

from edgecoder.errors import UnknownModel
from edgecoder.seeding.pieces import Layout, layout_of

MODEL_NAME = r"[a-z0-9][a-z0-9._-]{0,95}(/[a-z0-9][a-z0-9._-]{0,95})?(:[a-z0-9][a-z0-9._-]{0,95})?"
"""Grammar of a model id or alias: at most one `/` level and one `:tag`. A name never becomes a path."""
NAME_PART_MAX = 96
"""Characters of each of its parts."""
PARAM_SIZE_MAX = 10_000
"""Billions."""
_MODEL_NAME = re.compile(MODEL_NAME)
_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_SIZE_TOKEN = re.compile(r"(?:(\d+)x)?(\d+(?:\.\d+)?)\s*([bm])", re.IGNORECASE)
_SIZE_IN_TAG = re.compile(r"(?:^|[-_.])((?:\d+x)?\d+(?:\.\d+)?[bm])(?=$|[-_.])", re.IGNORECASE)

ModelName = Annotated[str, msgspec.Meta(pattern=f"^{MODEL_NAME}$")]
Sha256Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
RootHex = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]


class Platform(Enum):
    """Where a file runs (seed, "Model Catalog"): `ios` is any llama.cpp device, `node` any Ollama agent."""

    IOS = "ios"
    NODE = "node"


class CatalogEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One model file. Field names on disk and on the wire are the seed's camelCase."""

    model_id: ModelName
    display_name: str
    param_size: Annotated[float, msgspec.Meta(gt=0, le=PARAM_SIZE_MAX)] | None
    """Billions of parameters; None where nobody tells."""
    quantization: str
    file_size_bytes: Annotated[int, msgspec.Meta(gt=0)]
    sha256: Sha256Hex
    min_memory_mb: Annotated[int, msgspec.Meta(gt=0)]
    platforms: tuple[Platform, ...]
    download_urls: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    aliases: tuple[ModelName, ...] = ()
    """Other names, Ollama tags such as `qwen2.5-coder:7b` among them."""
    architecture: str = ""
    context_length: int = 0
    """Tokens."""
    kv_bytes_per_token: int = 0
    """Bytes of key and value cache a token of context costs; 0 is unknown."""
    license: str = ""
    piece_root: RootHex = ""
    """Root of the file's Merkle tree (BEP 52), 64 hexadecimal digits; empty where nobody has hashed the file."""
    piece_size_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Bytes of a piece, a power of two from 16384; 0 takes the rule's, at least 266 pieces of 64 KiB to 16 MiB."""

    def __post_init__(self) -> None:
        """Check what becomes keys and file names, and the sizes, however an entry is made. Raises ValueError.

        (The patterns above, which the schema shows, let a last newline pass.)"""
        for name in (self.model_id, *self.aliases):
            if not is_model_name(name):
                raise ValueError(f"{name!r} is no model name")
        if _SHA256_HEX.fullmatch(self.sha256) is None:
            raise ValueError(f"{self.sha256!r} is no SHA-256")
        if self.piece_root and _SHA256_HEX.fullmatch(self.piece_root) is None:
            raise ValueError(f"{self.piece_root!r} is no root of a Merkle tree")
        try:
            layout_of(self.file_size_bytes, self.piece_size_bytes)
        except ValueError as error:
            raise ValueError(f"{self.model_id}: {error}") from None

    def is_file_of(self, other: CatalogEntry | None) -> bool:
        """Whether both are one file, whatever else an edition of the catalog says of it."""
        return other is not None and self.sha256 == other.sha256

    @property
    def layout(self) -> Layout:
        """Where the file's leaves and pieces lie."""
        return layout_of(self.file_size_bytes, self.piece_size_bytes)


class Catalog:
    """Resolves names to entries. Entries keep their order; a (name, platform) pair that two files claim is refused.

    A node whose engine has files of its own adds them (`models.held`), and one with an origin hears of newer editions
    (`models.editions`), so its catalog must be nobody else's."""

    def __init__(self, entries: Iterable[CatalogEntry], *, version: int = 0, age_ms: int | None = None) -> None:
        """`version` 0: it has none. `age_ms` is the time since its origin vouched for it, None: it has no origin."""
        self._listed = tuple(entries)
        self.version = version
        self.age_ms = age_ms
        """When it was made."""
        self._local: dict[str, CatalogEntry] = {}
        self._withdrawn: dict[str, CatalogEntry] = {}
        self.entries: tuple[CatalogEntry, ...] = ()
        self.by_digest: dict[str, CatalogEntry] = {}
        self._by_name: dict[tuple[str, Platform], CatalogEntry] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._index()

    def add_local(self, entry: CatalogEntry) -> None:
        """Take in a file of this machine alone. Where its name is another file's alias, it means this one from now on.
        Raises ValueError where it is another file's id."""
        for other in self.entries:
            if other.model_id == entry.model_id and set(other.platforms) & set(entry.platforms):
                raise ValueError(f"{entry.model_id} is another file's id")
        self._local[entry.sha256] = entry
        self._index()

    def remove_local(self, entry: CatalogEntry) -> None:
        """That file is gone."""
        del self._local[entry.sha256]
        self._index()

    def release(self, version: int, entries: Iterable[CatalogEntry], is_kept: Callable[[CatalogEntry], bool]) -> None:
        """A newer edition takes the place of what is listed. What did not change is the same object as before; what is
        left out stays as withdrawn where it `is_kept`. Raises ValueError, and nothing has changed, where it is none."""
        listed = Catalog(self._same(entry) for entry in entries)
        for entry in listed.entries:
            self._check_pieces(entry)
        before = {entry.sha256: entry for entry in (*self._withdrawn.values(), *self._listed)}
        self._withdrawn = {
            sha256: _beside(entry, listed.entries)
            for sha256, entry in before.items()
            if sha256 not in listed.by_digest and is_kept(entry)
        }
        self._local = {
            sha256: _beside(entry, listed.entries)
            for sha256, entry in self._local.items()
            if sha256 not in listed.by_digest
        }
        self._listed, self.version = listed.entries, version
        self._index()

    def withdraw(self, entries: Iterable[CatalogEntry]) -> None:
        """Know of what editions of earlier lives have left out, if this one has it not."""
        for entry in entries:
            if entry.sha256 not in self.by_digest:
                self._withdrawn[entry.sha256] = _beside(entry, self._listed)
        self._index()

    @property
    def withdrawn(self) -> tuple[CatalogEntry, ...]:
        """What the newest edition has left out, and there is something of."""
        return tuple(self._withdrawn.values())

    def is_withdrawn(self, entry: CatalogEntry) -> bool:
        """Whether the newest edition has left it out: it may run where it is, and be removed."""
        return entry.sha256 in self._withdrawn

    def _check_pieces(self, entry: CatalogEntry) -> None:
        """A file that is known keeps its pieces: what nodes hold of it, and brokers count, is by their numbers. Raises
        ValueError."""
        held = self.by_digest.get(entry.sha256)
        if held is not None and held.piece_root and (held.piece_root, held.layout) != (entry.piece_root, entry.layout):
            raise ValueError(f"{entry.model_id} has other pieces than before")

    def _same(self, entry: CatalogEntry) -> CatalogEntry:
        held = self.by_digest.get(entry.sha256)
        return held if held == entry and held is not None else entry

    @property
    def listed(self) -> tuple[CatalogEntry, ...]:
        """What the catalog itself has."""
        return self._listed

    @property
    def local(self) -> tuple[CatalogEntry, ...]:
        """The files of this machine alone."""
        return tuple(self._local.values())

    def _index(self) -> None:
        self.entries = (*self._listed, *self._withdrawn.values(), *self._local.values())
        self.by_digest = {entry.sha256: entry for entry in self.entries}
        self._by_name, self._names = {}, {}
        for entry in self.entries:
            names = names_of(entry)
            for name in names:
                self._names[name] = self._names.get(name, frozenset()) | frozenset(names)
                for platform in entry.platforms:
                    other = self._by_name.setdefault((name, platform), entry)
                    if entry.sha256 in self._local:
                        self._by_name[name, platform] = entry
                    elif other is not entry and entry.sha256 not in self._withdrawn:
                        raise ValueError(f"{name} on {platform.value} is claimed by two files")

    def resolve(self, name: str, platform: Platform) -> CatalogEntry:
        """The entry that `name` means on `platform`. Raises UnknownModel."""
        entry = self.find(name, platform)
        if entry is None:
            raise UnknownModel(f"{name}: not in the catalog for {platform.value}")
        return entry

    def find(self, name: str, platform: Platform) -> CatalogEntry | None:
        """The entry that `name` means on `platform`, or None."""
        return self._by_name.get((normalise(name), platform))

    def file(self, sha256: str) -> CatalogEntry | None:
        """The entry of a file, in the newest edition."""
        return self.by_digest.get(sha256)

    def knows(self, name: str) -> bool:
        """Whether any platform has a file of this name."""
        return normalise(name) in self._names

    def same_model(self, name: str) -> frozenset[str]:
        """Every name that shares a file with `name`, itself included: what a query by any alias must find."""
        name = normalise(name)
        return self._names.get(name) or frozenset((name,))


def _beside(entry: CatalogEntry, listed: Iterable[CatalogEntry]) -> CatalogEntry:
    """An entry that is not listed, and gives its names up where another file has its id now."""
    platforms, own = set(entry.platforms), normalise(entry.model_id)
    if all(normalise(other.model_id) != own or platforms.isdisjoint(other.platforms) for other in listed):
        return entry
    return msgspec.structs.replace(entry, model_id=told_apart(entry.model_id, entry.sha256), aliases=())


def told_apart(name: str, sha256: str) -> str:
    """What a file is called whose name is another's: with the first eight digits of its SHA-256 behind it."""
    base, colon, tag = name.partition(":")
    digits = sha256[:8]
    return f"{base}:{tag[: NAME_PART_MAX - len(digits) - 1]}-{digits}" if colon else f"{base}:{digits}"


def names_of(entry: CatalogEntry) -> tuple[str, ...]:
    """The id and the aliases of an entry, normalised, in order, each once."""
    return tuple(dict.fromkeys(normalise(name) for name in (entry.model_id, *entry.aliases)))


def normalise(name: str) -> str:
    """Ollama's rule for names: case does not count and `x` is `x:latest`; here the bare `x` is the kept form."""
    return name.lower().removesuffix(":latest")


def is_model_name(text: str) -> bool:
    """Whether `text` fits the grammar of a model name."""
    return _MODEL_NAME.fullmatch(text) is not None


def parse_param_size(text: str) -> float | None:
    """Billions of parameters from a size with its unit: `7.6B` 7.6, `494.03M` 0.49403, `8x7B` 56; else None."""
    match = _SIZE_TOKEN.fullmatch(text.strip())
    if match is None:
        return None
    count, size, unit = match.groups()
    value = float(size) * int(count or 1)
    return round(value / 1000, 9) if unit in "mM" else value


def show_param_size(param_size: float | None) -> str:
    """Billions of parameters with a unit, as Ollama shows them: 7.6B, 494M, 61.6K; empty where nobody tells."""
    if param_size is None:
        return ""
    unit, size = next(
        ((unit, size) for unit, size in (("B", 1.0), ("M", 1e-3), ("K", 1e-6)) if param_size >= size), ("K", 1e-6)
    )
    return f"{param_size / size:.3g}{unit}"


def param_size_of(name: str, details: str = "", entry: CatalogEntry | None = None) -> float | None:
    """Billions of parameters of a model as Ollama lists it: the catalog's value, else the size token of the tag, else
    `details` (Ollama's `details.parameter_size`), else None. Never bytes."""
    if entry is not None:
        return entry.param_size
    _, _, tag = name.partition(":")
    token = _SIZE_IN_TAG.search(tag)
    return parse_param_size(token.group(1)) if token else parse_param_size(details)
