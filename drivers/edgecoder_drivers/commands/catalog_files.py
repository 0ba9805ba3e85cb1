"""How a catalog is written: entries are put into the file that there is, whose comments, order and other entries stay,
and its version grows with every change.
"""

from __future__ import annotations

import io
import os
from collections.abc import Container
from enum import Enum
from pathlib import Path
from typing import Any, Final

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from edgecoder.errors import ConfigError
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.models.editions import Edition
from edgecoder.yamlio.document import FILE_SIZE_BYTES_MAX, load, parse
from edgecoder_drivers.catalogs import MODELS, UNVERSIONED, VERSION, read_edition

LINE_CHARS: Final = 4096
"""Folded lines lose spaces at their ends."""
REQUIRED: Final = ("displayName", "paramSize", "quantization", "platforms")
HEXADECIMAL: Final = ("sha256", "pieceRoot")
HEAD: Final = "A catalog of EdgeCoder. A file is its SHA-256; whoever changes an entry raises the version.\n"


class Change(Enum):
    """What became of an entry."""

    ADDED = "added"
    CHANGED = "changed"
    NONE = "none"


class Draft:
    """A catalog that is being changed."""

    def __init__(self, path: Path, *, replace: bool = False) -> None:
        """`replace` lets a file take the place of another under its id. Raises ConfigError where the catalog that there
        is is none."""
        self._path = path
        self._replace = replace
        self._yaml = YAML()
        self._yaml.width = LINE_CHARS
        self._yaml.preserve_quotes = True
        self._is_changed = False
        self._edition = Edition(UNVERSIONED, ())
        self._data: Any = CommentedMap({VERSION: UNVERSIONED, MODELS: CommentedSeq()})
        self._data.yaml_set_start_comment(HEAD)
        if path.exists():
            document = load(path)
            if document.data is not None:
                self._edition = read_edition(document)
                self._data = _as_mapping(self._yaml.load(path.read_text(encoding="utf-8-sig")))

    @property
    def entries(self) -> tuple[CatalogEntry, ...]:
        """As they are now."""
        return self._edition.entries

    def put(self, entry: CatalogEntry, given: Container[str]) -> Change:
        """Add an entry, or bring that of the same file up to date; of what the file itself says nothing, only the
        fields that are `given` change. Raises ConfigError where the id is another file's."""
        entries = self.entries
        place = next((at for at, other in enumerate(entries) if other.sha256 == entry.sha256), None)
        if place is not None:
            entry = _updated(entries[place], entry, given)
        else:
            place = next((at for at, other in enumerate(entries) if other.model_id == entry.model_id), None)
            if place is not None and not self._replace:
                hint = "give this one another with --id, or let it take the place with --replace"
                problem = f"{entry.model_id} is the id of another file, SHA-256 {entries[place].sha256[:12]}…"
                raise ConfigError(str(self._path), None, problem, hint)
        if place is not None and entries[place] == entry:
            return Change.NONE
        after = [*entries, entry] if place is None else [*entries[:place], entry, *entries[place + 1 :]]
        try:
            Catalog(after)
        except ValueError as error:
            raise ConfigError(str(self._path), None, str(error), "give each name to one file a platform") from None
        if place is None:
            self._data[MODELS].append(_written(entry))
        else:
            _rewrite(self._data[MODELS][place], entries[place], entry)
        self._edition = Edition(self._edition.version, tuple(after))
        self._is_changed = True
        return Change.CHANGED if place is not None else Change.ADDED

    def save(self) -> int:
        """Write it, whole or not at all, if it was changed; its version. Raises ConfigError and OSError."""
        if not self._is_changed:
            return self._edition.version
        version = self._edition.version + 1
        self._data[VERSION] = version
        text = io.StringIO()
        self._yaml.dump(self._data, text)
        content = text.getvalue()
        if read_edition(parse(content, str(self._path))) != Edition(version, self.entries):
            problem = "a name or text in it cannot be written in YAML as it is"
            raise ConfigError(str(self._path), None, problem, "write it in plain characters")
        if len(content.encode()) > FILE_SIZE_BYTES_MAX:
            problem = "the catalog would be larger than 1 MiB, which no node reads"
            raise ConfigError(str(self._path), None, problem, "make two of it")
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            partial.write_text(content, encoding="utf-8")
            partial.replace(self._path)
        finally:
            partial.unlink(missing_ok=True)
        return version


def _as_mapping(data: Any) -> Any:
    """A list gets a version; what stands above it stays above."""
    if not isinstance(data, CommentedSeq):
        return data
    mapping = CommentedMap({VERSION: UNVERSIONED, MODELS: data})
    if data.ca.comment and data.ca.comment[1]:
        mapping.ca.comment, data.ca.comment = [None, data.ca.comment[1]], None
    return mapping


def _updated(old: CatalogEntry, new: CatalogEntry, given: Container[str]) -> CatalogEntry:
    """What is known anew of a file; its names stay, as what a person may have corrected."""
    changed = {name: getattr(new, name) for name in new.__struct_fields__ if name in given}
    if not old.piece_root:
        changed["piece_root"] = new.piece_root
    if not old.download_urls and new.download_urls:
        changed["download_urls"] = new.download_urls
    return msgspec.structs.replace(old, **changed)


def _written(entry: CatalogEntry) -> CommentedMap:
    """An entry as people write one: what says nothing is left out, lists stand on a line."""
    written = CommentedMap()
    for key, value in msgspec.to_builtins(entry).items():
        if value or key in REQUIRED:
            written[key] = _shown(key, value)
    return written


def _rewrite(model: CommentedMap, before: CatalogEntry, entry: CatalogEntry) -> None:
    """Change what differs, so that comments and the order stay."""
    old = msgspec.to_builtins(before)
    for key, value in msgspec.to_builtins(entry).items():
        if old[key] != value:
            model[key] = _shown(key, value)


def _shown(key: str, value: Any) -> Any:
    """Lists on a line, hexadecimal digits as the text that they are."""
    if key in HEXADECIMAL:
        return DoubleQuotedScalarString(value)
    if not isinstance(value, list | tuple):
        return value
    items = CommentedSeq(value)
    items.fa.set_flow_style()
    return items
