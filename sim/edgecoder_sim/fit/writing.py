"""The YAML of a fitted scenario: each figure with a comment that says where it comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from edgecoder_sim.fit.figures import Figure

WIDTH: Final = 120
_BARE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_WORDS: Final = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def yaml_of(tree: dict[str, Any], head: Sequence[str]) -> str:
    """The scenario as text; `head` are the lines of the comment before it."""
    lines = [f"# {line}".rstrip() for line in head]
    for key, value in tree.items():
        lines += ["", *_entry(key, value, 0)] if isinstance(value, dict | list) else _entry(key, value, 0)
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any, depth: int) -> Iterator[str]:
    pad = "  " * depth
    if isinstance(value, Figure):
        comment = f"# {value.basis.value}: {value.says}"
        line = f"{pad}{_key(key)}: {_scalar(value.value)}"
        if len(line) + 2 + len(comment) <= WIDTH:
            yield f"{line}  {comment}"
        else:
            yield f"{pad}{comment}"
            yield line
    elif isinstance(value, dict) and value:
        yield f"{pad}{_key(key)}:"
        for below, each in value.items():
            yield from _entry(str(below), each, depth + 1)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield f"{pad}{_key(key)}:"
        for item in value:
            yield from _item(item, depth + 1)
    else:
        yield f"{pad}{_key(key)}: {_scalar(value)}"


def _item(item: dict[str, Any], depth: int) -> Iterator[str]:
    """One of a list: its first line begins with a dash, behind its comment."""
    pad = "  " * depth
    is_begun = False
    for key, value in item.items():
        for line in _entry(key, value, depth + 1):
            is_comment = line.lstrip().startswith("#")
            if is_begun or is_comment:
                yield line
            else:
                yield f"{pad}- {line[len(pad) + 2 :]}"
                is_begun = True


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) and key.lower() not in _WORDS else json.dumps(key)


def _scalar(value: Any) -> str:
    """JSON, which YAML has too; plain words without quotes."""
    if isinstance(value, str) and _BARE.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value)
