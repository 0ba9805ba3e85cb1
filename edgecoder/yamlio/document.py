"""YAML documents whose every value knows where it was written, so that a mistake can be shown at its line.

Decides how flags change what a file says, and whose line an error shows. How text becomes values is left to `reader`,
what they mean to the types that a document is converted to, and how a wrong value is put into words to `explain`.
Whatever the bytes are, the only exception is ConfigError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import msgspec.inspect as mi

from edgecoder.errors import ConfigError
from edgecoder.yamlio.explain import Where, dotted, first_fault, one_of, show
from edgecoder.yamlio.reader import Place, read

FILE_SIZE_BYTES_MAX: Final = 1 << 20
"""A larger file is refused; the files shipped here have a few kilobytes."""
LABEL_CHARS_MAX: Final = 80
"""A longer `--set key=value` is cut in messages."""

T = TypeVar("T")


class Document:
    """One YAML document: plain `data` (dicts with text keys, lists, scalars), and the place of each value.

    A `Where` is the way to a value from the top. `set` and the other changes alter the document in place.
    """

    def __init__(self, path: str, data: object, places: dict[Where, Place]) -> None:
        self.path = path
        self.data = data
        self._places = places

    def place(self, where: Where) -> Place:
        """Where a value was written, or the nearest value around it; lines count from 1."""
        for length in range(len(where), 0, -1):
            if (place := self._places.get(where[:length])) is not None:
                return place
        return self._places.get((), Place(self.path, 1))

    def places(self) -> dict[Where, Place]:
        """Where each value was written, in the order of writing; () is the document as a whole."""
        return dict(self._places)

    def error(self, where: Where, problem: str, hint: str) -> ConfigError:
        """The error to raise about the value at `where`."""
        place = self.place(where)
        return ConfigError(place.label, place.line, problem, hint)

    def blame(self, where: Where, complaint: ConfigError) -> ConfigError:
        """What `validate` of the struct at `where` complains of, as an error about the value to change: of the fields
        that it names (one in place of a path, others in words), the one that was written last."""
        named = [(*where, word.strip(",")) for word in (complaint.path, *complaint.problem.split())]
        written = [known for known in self._places if known in named]
        wrong = written[-1] if written else named[0]
        return self.error(wrong, f"{dotted(where)}: {complaint.problem}", complaint.hint)

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

    def override(self, flag: str, type_: mi.Type | None = None) -> None:
        """Carry out `--set flag`, where `flag` is `key=text`; see `set`."""
        key, equals, text = flag.partition("=")
        label = f"--set {flag}"
        if not equals:
            raise ConfigError(label, None, "there is no `=`", "write --set key=value")
        self.set(key.strip(), text, type_, label if len(label) <= LABEL_CHARS_MAX else f"--set {key}=…")

    def set(self, key: str, text: str, type_: mi.Type | None, label: str) -> None:
        """Replace or add the value of `key`. `text` is YAML, such as `3`, `[1, 2]` or `{a: 1}`; where text belongs, `3`
        is text too. `label` is what errors call the flag or variable that says so.

        `key` is dotted. A part is a key, which may hold dots itself where that key exists, stands in double quotes, or
        is a free name in a mapping of plain values (which only `type_`, the type of the document, can tell). In a list
        a part is a position or the `name` of an element: `phones.count`, `phones.installed.qwen2.5-coder-3b`,
        `workload.tasks.chat.deadline_s`, `workload.tasks[0].deadline_s`. Raises ConfigError that names the label.
        """
        try:
            value = parse(text, label).data
        except ConfigError as error:
            raise ConfigError(label, None, error.problem, error.hint) from None
        where, type_ = self._find(key, label, type_)
        if isinstance(_bare(type_), mi.StrType) and not isinstance(value, str):
            value = text
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
                raise self._refused(where, str(error)) from None
            raise self.error(fault.where, fault.problem, fault.hint) from None

    def _refused(self, where: Where, said: str) -> ConfigError:
        """What a type's own check says, `problem; hint`, as an error about the value that msgspec found it in."""
        said, _, path = said.partition(" - at `$")
        steps = re.match(r"(?:\.\w+|\[\d+\])*", path)
        found = re.findall(r"\.(\w+)|\[(\d+)\]", steps[0] if steps else "")
        problem, _, hint = said.partition("; ")
        return self.error((*where, *(name or int(number) for name, number in found)), problem, hint)

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

    def _find(self, key: str, label: str, type_: mi.Type | None) -> tuple[Where, mi.Type | None]:
        """The way that a dotted key means in this document, and the type of what belongs there."""
        where: Where = ()
        if not isinstance(self.data, dict | None):
            raise self.error(where, f"the file is {show(self.data)}", "write `key: value` lines")
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
                return where, type_
            rest = rest[1:]


def load(path: Path, shown: str | None = None) -> Document:
    """Read one document; `shown` is what errors call the file. A file that says nothing gives data None. Raises
    ConfigError, located in the file."""
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
    return parse(text, label)


def parse(text: str, label: str) -> Document:
    """Parse one document; `label` is what errors call it. Empty text gives data None. Raises ConfigError."""
    return Document(label, *read(text, label))


def _wheres(value: object, where: Where = ()) -> list[Where]:
    """The ways to a value and all in it."""
    parts: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    return [where, *(below for step, part in parts for below in _wheres(part, (*where, step)))]


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


def _bare(type_: mi.Type | None) -> mi.Type | None:
    """A type without its limits."""
    return type_.type if isinstance(type_, mi.Metadata) else type_


def _below(type_: mi.Type | None, step: str | int) -> mi.Type | None:
    """The type of a part of a value, where that can be told."""
    match _bare(type_):
        case mi.StructType(fields=fields):
            return next((field.type for field in fields if field.encode_name == step), None)
        case mi.DictType(value_type=value_type):
            return value_type
        case mi.ListType(item_type=item_type) | mi.VarTupleType(item_type=item_type):
            return item_type
        case mi.UnionType(types=types):
            return next((below for option in types if (below := _below(option, step)) is not None), None)
    return None


def _holds_plain_values(type_: mi.Type | None) -> bool:
    """Whether a type is a mapping from names to plain values, so that nothing lies below its keys."""
    bare = _bare(type_)
    parts = mi.StructType | mi.DictType | mi.ListType | mi.VarTupleType
    return isinstance(bare, mi.DictType) and not isinstance(_bare(bare.value_type), parts)
