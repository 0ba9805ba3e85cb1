"""YAML 1.2 files as plain Python values that remember their lines.

Decides how a file is read and how a mistake in it is located; what the values mean is left to the reader of the data.
Every mistake is a ConfigError, so that no YAML file can end a command with a traceback.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from edgecoder.errors import ConfigError

Where = tuple[str | int, ...]
"""The way to a value from the top of a file: keys of mappings and positions in lists."""

VALUES_MAX = 100_000
"""More values than this (aliases count each time) are refused; the largest scenario here has about a hundred."""


class YamlFile(NamedTuple):
    """What a file says, and on which line it says it."""

    path: str
    data: object
    """Plain dicts, lists and scalars; None for an empty file."""
    lines: dict[Where, int]
    """The line, from 1, of each key and each list element."""

    def line(self, where: Where) -> int | None:
        """The line of a value, or of the closest value around it; None for the file as a whole."""
        for length in range(len(where), 0, -1):
            if (line := self.lines.get(where[:length])) is not None:
                return line
        return None

    def error(self, where: Where, problem: str, hint: str) -> ConfigError:
        """The error to raise about a value."""
        return ConfigError(self.path, self.line(where), problem, hint)


def read_yaml(path: Path) -> YamlFile:
    """Read one YAML document. Raises ConfigError for a file that is missing, unreadable or no YAML."""
    shown = str(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(shown, None, "there is no such file", "check the path") from None
    except UnicodeDecodeError:
        raise ConfigError(shown, None, "the file is no UTF-8 text", "save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(shown, None, f"cannot be read: {error.strerror}", "give a file that can be read") from None
    return parse_yaml(text, shown)


def parse_yaml(text: str, path: str) -> YamlFile:
    """Parse one YAML document; `path` is what errors call it. Raises ConfigError."""
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
        if node is None:
            return YamlFile(path, None, {})
        lines = _lines(node, path)
        return YamlFile(path, yaml.constructor.construct_document(node), lines)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        problem = str(error.problem or error.context or "cannot be read")
        raise ConfigError(path, line, problem, "mend the YAML") from None
    except YAMLError as error:
        raise ConfigError(path, None, str(error).splitlines()[0], "mend the YAML") from None
    except RecursionError:
        raise ConfigError(path, None, "values are nested too deep", "flatten the file") from None
    except ValueError as error:  # a date or number that looks right and is not, such as 2026-02-31
        raise ConfigError(path, None, str(error), "put the value in quotes, or mend it") from None


def _lines(root: Node, path: str) -> dict[Where, int]:
    """The line of every value under `root`. The caller has parsed the text, so that the nodes' marks are known."""
    lines: dict[Where, int] = {}
    todo: list[tuple[Where, Node]] = [((), root)]
    while todo:
        where, node = todo.pop()
        children: list[tuple[str | int, Node, Node]] = []
        if isinstance(node, MappingNode):
            children = [(str(key.value), key, value) for key, value in node.value]
        elif isinstance(node, SequenceNode):
            children = [(position, value, value) for position, value in enumerate(node.value)]
        for name, marked, value in children:
            lines[(*where, name)] = marked.start_mark.line + 1
            todo.append(((*where, name), value))
        if len(lines) > VALUES_MAX:
            raise ConfigError(path, None, f"more than {VALUES_MAX} values", "use fewer values or aliases")
    return lines
