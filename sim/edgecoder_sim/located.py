"""YAML documents whose every value knows where it was written, so that a mistake can be shown at its line.

Decides how a file is read, how `--set` changes it and how a wrong value is located; what the values mean is left to the
types that a document is converted to, and how a wrong value is put into words to `explain`. Whatever the bytes are, the
only exception is ConfigError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import msgspec.inspect as mi
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from edgecoder.errors import ConfigError
from edgecoder_sim.explain import Where, dotted, first_fault, one_of, show

FILE_SIZE_BYTES_MAX: Final = 1 << 20
"""A larger file is refused; the scenarios shipped here have a few kilobytes."""
DEPTH_MAX: Final = 32
"""Deeper nesting is refused; a scenario needs 5 levels."""
LABEL_CHARS_MAX: Final = 80
"""A longer `--set key=value` is cut in messages."""

T = TypeVar("T")

# The core schema of YAML 1.2.2, section 10.3.2: no dates, no `yes`, no `1_000`; those are text.
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INT_MAX: Final = 2**63 - 1
_INT_CHARS_MAX: Final = 24

_SYNTAX: Final = (
    ("found character '\\t'", "a tab where YAML wants spaces", "indent with spaces"),
    ("mapping values are not allowed", "a `:` where no key can stand", "check the indentation, or quote the text"),
    ("could not find expected ':'", "a line without `:` where a key is expected", "write `key: value`"),
    (
        "expected <block end>",
        "this does not fit the lines above",
        "check its indentation, and quotes and brackets above",
    ),
    ("unexpected end of stream", "a quoted text has no end", "close the quotes"),
    ("expected ',' or ']'", "a list in brackets has no end", "close it with `]`, commas between its elements"),
    ("expected ',' or '}'", "a mapping in braces has no end", "close it with `}`, commas between its elements"),
    ("that cannot start any token", "a character that no value can start with", "quote the text"),
)
"""What the parser says, and what it means to somebody who writes a scenario."""


class Place(NamedTuple):
    """Where a value was written: a file and its line, or a flag and None."""

    label: str
    line: int | None


class Document:
    """One YAML document: plain `data` (dicts with text keys, lists, scalars), and the place of each value.

    A `Where` is the way to a value from the top. `set` and the other changes alter the document in place.
    """

    def __init__(self, path: str, data: object, places: dict[Where, Place]) -> None:
        self.path = path
        self.data = data
        self._places = places

    def line_of(self, where: Where) -> int | None:
        """The line of a value, from 1, or of the nearest value around it; None for what a flag said."""
        return self._place(where).line

    def error(self, where: Where, problem: str, hint: str) -> ConfigError:
        """The error to raise about the value at `where`."""
        place = self._place(where)
        return ConfigError(place.label, place.line, problem, hint)

    def places(self) -> dict[Where, Place]:
        """Where each value was written; () is the document as a whole."""
        return dict(self._places)

    def get(self, where: Where) -> object:
        """The value at `where`; None where there is none."""
        node = self.data
        for step in where:
            if isinstance(node, dict):
                node = node.get(step)
            elif isinstance(node, list) and isinstance(step, int) and 0 <= step < len(node):
                node = node[step]
            else:
                return None
        return node

    def has(self, where: Where) -> bool:
        """Whether somebody wrote this very value; a filled-in default was written by nobody."""
        return where in self._places

    def set(self, key: str, text: str, type_: mi.Type | None = None) -> None:
        """Carry out `--set key=text`: `text` is YAML, such as `3`, `[1, 2]` or `{a: 1}`.

        `key` is dotted. A part is a key, which may hold dots itself where that key exists, stands in double quotes, or
        is a free name in a mapping of plain values (which only `type_`, the type of the document, can tell). In a list
        a part is a position or the `name` of an element: `phones.count`, `phones.installed.qwen2.5-coder-3b`,
        `workload.tasks.chat.deadline_s`, `workload.tasks[0].deadline_s`. Raises ConfigError that names the flag.
        """
        label = f"--set {key}={text}"
        label = label if len(label) <= LABEL_CHARS_MAX else f"--set {key}=…"
        try:
            value = parse(text, label).data
        except ConfigError as error:
            raise ConfigError(label, None, error.problem, error.hint) from None
        self.put(self._find(key, label, type_), value, label)

    def put(self, where: Where, value: object, label: str) -> None:
        """Replace or add a value that a flag gave; `label` is what errors call the flag."""
        self._replace(where, value, dict.fromkeys(_wheres(value), Place(label, None)))

    def fill(self, where: Where, defaults: Mapping[str, object]) -> None:
        """Add what the mapping at `where` lacks. Nothing happens where that is no mapping."""
        node = self.get(where)
        if isinstance(node, dict):
            for key, value in defaults.items():
                node.setdefault(key, value)

    def remove(self, where: Where) -> None:
        """Drop a key from its mapping."""
        parent = self.get(where[:-1])
        assert isinstance(parent, dict)
        del parent[where[-1]]
        self._forget(where)

    def graft(self, where: Where, other: Document) -> None:
        """Put another document in the place of a value. Its values keep their own file and lines."""
        self._replace(where, other.data, other.places())

    def convert(self, type_: type[T], where: Where = (), defaults: Mapping[str, object] | None = None) -> T:
        """The value at `where` as `type_`, by msgspec's strict rules. `defaults` stand for keys that a mapping lacks.

        Raises ConfigError at the first value that does not fit, in the order of the file.
        """
        value = self.get(where)
        if defaults is not None and isinstance(value, dict | None):
            value = {**defaults, **(value or {})}
        try:
            return msgspec.convert(value, type_, str_keys=True)
        except msgspec.ValidationError as error:
            fault = first_fault(value, mi.type_info(type_), where)
            if fault is None:
                raise self.error(where, str(error), "see the scenario's schema") from None
            raise self.error(fault.where, fault.problem, fault.hint) from None

    def _place(self, where: Where) -> Place:
        for length in range(len(where), 0, -1):
            if (place := self._places.get(where[:length])) is not None:
                return place
        return self._places.get((), Place(self.path, 1))

    def _forget(self, where: Where) -> None:
        length = len(where)
        self._places = {known: place for known, place in self._places.items() if known[:length] != where}

    def _replace(self, where: Where, value: object, places: Mapping[Where, Place]) -> None:
        """Put `value` at `where`, with mappings on the way where there is nothing yet."""
        flag = places.get((), Place(self.path, 1))
        if self.data is None:
            self.data = {}
        node: Any = self.data
        for length, step in enumerate(where[:-1], start=1):
            if isinstance(node, dict) and node.get(step) is None:
                node[step] = {}
                self._places[where[:length]] = flag
            node = node[step]
        node[where[-1]] = value
        self._forget(where)
        self._places |= {where + below: place for below, place in places.items()}

    def _find(self, key: str, label: str, type_: mi.Type | None) -> Where:
        """The way that a dotted key means in this document."""
        where: Where = ()
        rest = re.sub(r"\[(\d+)\]", r".\1", key)
        while True:
            node = self.get(where)
            step: str | int
            if isinstance(node, list):
                step, rest = _list_step(node, rest, where, label)
            elif isinstance(node, dict | None):
                step, rest = _map_step(node or {}, rest, label, free=_holds_plain_values(type_))
            else:
                problem = f"{dotted(where)} is {show(node)} and has no parts"
                raise ConfigError(label, None, problem, f"set {dotted(where)} itself")
            where, type_ = (*where, step), _below(type_, step)
            if not rest:
                return where
            rest = rest[1:]


def load(path: Path, shown: str | None = None) -> Document:
    """Read one document; `shown` is what errors call the file. Raises ConfigError, located in the file."""
    label = shown or str(path)
    try:
        with path.open("rb") as file:
            content = file.read(FILE_SIZE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ConfigError(label, None, "there is no such file", "check the path") from None
    except IsADirectoryError:
        raise ConfigError(label, None, "this is a directory", "name a file in it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(label, None, f"cannot be read: {reason}", "name a file that can be read") from None
    if len(content) > FILE_SIZE_BYTES_MAX:
        raise ConfigError(label, None, "the file is larger than 1 MiB", "is it the right file?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(label, line, "this is no UTF-8 text", "save the file as UTF-8") from None
    document = parse(text, label)
    if document.data is None:
        raise ConfigError(label, 1, "the file is empty", "write `key: value` lines")
    return document


def parse(text: str, label: str) -> Document:
    """Parse one document; `label` is what errors call it. Empty text gives data None. Raises ConfigError."""
    builder = _Builder(label)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.take(event)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character U+{ord(text[error.position]):04X} is not allowed in YAML"
        raise ConfigError(label, line, problem, "remove it") from None
    except MarkedYAMLError as error:
        said = str(error.problem or error.context)
        opened = said.startswith(("expected ',' or ']'", "expected ',' or '}'"))  # show where, not where it was missed
        mark = (error.context_mark if opened else None) or error.problem_mark or error.context_mark
        raise ConfigError(label, builder.line if mark is None else mark.line + 1, *_syntax(said)) from None
    except (YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(label, builder.line, str(error).partition("\n")[0], "mend the YAML here") from None
    return Document(label, builder.root, builder.places)


def _wheres(value: object, where: Where = ()) -> list[Where]:
    """The ways to a value and all in it."""
    parts: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    return [where, *(below for step, part in parts for below in _wheres(part, (*where, step)))]


def _syntax(said: str) -> tuple[str, str]:
    """Problem and hint for what the parser said."""
    for sign, problem, hint in _SYNTAX:
        if sign in said:
            return problem, hint
    return said.replace("\n", " "), "mend the YAML here"


def _list_step(node: list[Any], rest: str, where: Where, label: str) -> tuple[int, str]:
    """The position that the first part of `rest` means in a list, and what is left of `rest`."""
    part = rest.partition(".")[0]
    names = [str(item["name"]) for item in node if isinstance(item, dict) and "name" in item]
    matches = [name for name in names if rest == name or rest.startswith(f"{name}.")]
    if matches:
        name = max(matches, key=len)
        position = next(i for i, item in enumerate(node) if isinstance(item, dict) and str(item.get("name")) == name)
        return position, rest[len(name) :]
    if part.isdecimal() and int(part) < len(node):
        return int(part), rest[len(part) :]
    hint = one_of("an element is", [*names, *(str(i) for i in range(len(node)) if not names)], part)
    raise ConfigError(label, None, f"{dotted(where)} has no element {part}", hint)


def _map_step(node: Mapping[str, object], rest: str, label: str, *, free: bool) -> tuple[str, str]:
    """The key that the first part of `rest` means in a mapping, and what is left of `rest`. The longest match wins.
    `free` says that any other name may be a new key, dots and all."""
    matches = [key for key in node if rest == key or rest.startswith(f"{key}.")]
    if matches:
        key = max(matches, key=len)
        return key, rest[len(key) :]
    if quoted := re.match(r'"([^"]+)"(?=\.|$)', rest):
        return quoted.group(1), rest[quoted.end() :]
    key = rest if free else rest.partition(".")[0]
    if not key.strip():
        raise ConfigError(label, None, "a part of the key is empty", "write --set a.b.c=value")
    return key, rest[len(key) :]


def _below(type_: mi.Type | None, step: str | int) -> mi.Type | None:
    """The type of a part of a value, where that can be told."""
    match type_:
        case mi.Metadata():
            return _below(type_.type, step)
        case mi.StructType():
            return next((field.type for field in type_.fields if field.encode_name == step), None)
        case mi.DictType():
            return type_.value_type
        case mi.ListType() | mi.VarTupleType():
            return type_.item_type
    return None


def _holds_plain_values(type_: mi.Type | None) -> bool:
    """Whether a type is a mapping from names to plain values, so that nothing lies below its keys."""
    if isinstance(type_, mi.Metadata):
        return _holds_plain_values(type_.type)
    if not isinstance(type_, mi.DictType):
        return False
    value = type_.value_type.type if isinstance(type_.value_type, mi.Metadata) else type_.value_type
    return not isinstance(value, mi.StructType | mi.DictType | mi.ListType | mi.VarTupleType)


class _Open(NamedTuple):
    """A mapping or list that is being read."""

    where: Where
    node: dict[str, object] | list[object]
    keys: list[str]
    """In a mapping the key that waits for its value; else empty."""


class _Builder:
    """Makes plain values from the parser's events, without recursion."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.root: object = None
        self.places: dict[Where, Place] = {}
        self.line = 1
        """The line of the last event."""
        self._open: list[_Open] = []
        self._documents = 0

    def take(self, event: Event) -> None:
        """Take the next event. Raises ConfigError for what a scenario may not hold."""
        self.line = event.start_mark.line + 1
        match event:
            case DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise self._error("a second document begins here", "keep one document in a file")
            case AliasEvent():
                raise self._error(f"`*{event.anchor}` is an alias", "write the value out; aliases are not supported")
            case ScalarEvent() if self._wants_key():
                self._refuse_extras(event)
                self._key(event)
            case MappingStartEvent() | SequenceStartEvent():
                self._begin(event, {} if isinstance(event, MappingStartEvent) else [])
            case MappingEndEvent() | SequenceEndEvent():
                self._open.pop()
            case ScalarEvent():
                self._refuse_extras(event)
                self._place(self._scalar(event))

    def _error(self, problem: str, hint: str) -> ConfigError:
        return ConfigError(self.label, self.line, problem, hint)

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].node, dict) and not self._open[-1].keys

    def _refuse_extras(self, event: Any) -> None:
        if event.anchor is not None:
            raise self._error(f"`&{event.anchor}` is an anchor", "write the value out; anchors are not supported")
        if event.tag is not None:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            raise self._error(f"`{tag}` is a tag", "remove it; the key decides the type")

    def _key(self, event: Any) -> None:
        key = str(event.value)
        mapping = self._open[-1]
        assert isinstance(mapping.node, dict)
        where = (*mapping.where, key)
        if key == "<<":
            raise self._error("`<<` is a merge key", "write the values out; merge keys are not supported")
        if where in self.places:
            first = self.places[where].line
            raise self._error(f"{dotted(where)} is here a second time", f"the first is on line {first}; keep one")
        self.places[where] = Place(self.label, self.line)
        mapping.keys.append(key)

    def _begin(self, event: Any, node: dict[str, object] | list[object]) -> None:
        if self._wants_key():
            raise self._error("a key is a list or a mapping", "write keys as plain text")
        self._refuse_extras(event)
        if len(self._open) == DEPTH_MAX:
            raise self._error(f"nested deeper than {DEPTH_MAX} levels", "flatten the file")
        where = self._place(node)
        self._open.append(_Open(where, node, []))

    def _place(self, value: object) -> Where:
        """Put a value where it belongs, and say where that is."""
        if not self._open:
            self.root = value
            self.places[()] = Place(self.label, 1)
            return ()
        parent = self._open[-1]
        where: Where
        if isinstance(parent.node, dict):
            where = (*parent.where, parent.keys[0])
            parent.node[parent.keys.pop()] = value
        else:
            where = (*parent.where, len(parent.node))
            self.places[where] = Place(self.label, self.line)
            parent.node.append(value)
        return where

    def _scalar(self, event: Any) -> object:
        """The value of a scalar by YAML 1.2's core schema. Numbers are finite and fit 64 bits."""
        text = str(event.value)
        if not event.implicit[0]:  # quoted, or a block of text
            return text
        if text in _NULL:
            return None
        if text in _BOOLS:
            return _BOOLS[text]
        if _INT.fullmatch(text):
            base = 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10
            number = int(text, base) if len(text) <= _INT_CHARS_MAX else _INT_MAX + 1
            if abs(number) > _INT_MAX:
                raise self._error(f"{show(text)} is too large", "a whole number fits 64 bits")
            return number
        if _FLOAT.fullmatch(text):
            value = float(text)
            if abs(value) == float("inf"):
                raise self._error(f"{show(text)} is too large", "write a number below 1e308")
            return value
        if _NOT_FINITE.fullmatch(text):
            raise self._error(f"{text} is no finite number", "write a finite number")
        return text
