"""The text of one YAML document as plain values, and the place where each was written.

Decides which YAML is read (the core schema of version 1.2, without anchors, aliases, tags and merge keys) and how a
mistake in it is put into words. Whatever the text is, the only exception is ConfigError.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

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
from edgecoder.yamlio.explain import Where, dotted, show

DEPTH_MAX: Final = 32
"""Deeper nesting is refused; the files shipped here need 5 levels."""

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
"""What the parser says, and what it means to somebody who writes a file."""


class Place(NamedTuple):
    """Where a value was written: a file and its line, or a flag or variable and None."""

    label: str
    line: int | None

    def __str__(self) -> str:
        return self.label if self.line is None else f"{self.label}:{self.line}"


def read(text: str, label: str) -> tuple[object, dict[Where, Place]]:
    """The value of a document, None of an empty one, and the place of each value in it, () being the document's own.
    `label` is what errors call it. Raises ConfigError."""
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
    return builder.root, builder.places


def _syntax(said: str) -> tuple[str, str]:
    """Problem and hint for what the parser said."""
    for sign, problem, hint in _SYNTAX:
        if sign in said:
            return problem, hint
    return said.replace("\n", " "), "mend the YAML here"


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

    def _text(self, event: Any) -> str:
        text = str(event.value)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            problem = f"the escape \\u{ord(text[error.start]):04x} is half of a character"
            raise self._error(problem, "write the character itself, or \\U and its eight digits") from None
        return text

    def _key(self, event: Any) -> None:
        key = self._text(event)
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
        text = self._text(event)
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
