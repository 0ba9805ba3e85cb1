"""Where a node's configuration comes from: preset, file, environment, flag; the later wins.

Decides the order, the spelling in each place and the wording of mistakes. Which fields there are and what they trade is
`config`'s; a daemon and `edgecoder config show` both start here.

A field's key is its section and name, `node.slots` or `cluster.network_id`. In the file the sections are mappings, with
`preset` beside them; in the environment the key is `EDGECODER_NODE_SLOTS`; a flag is `--set node.slots=4`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple, get_type_hints

import msgspec
import platformdirs

from edgecoder.config import PRESETS, ClusterConfig, NodeConfig
from edgecoder.errors import ConfigError
from edgecoder.yamlfile import YamlFile, read_yaml

ENV_PREFIX: Final = "EDGECODER_"
ENV_PRESET: Final = "EDGECODER_PRESET"
ENV_FILE: Final = "EDGECODER_CONFIG"
PRESET_DEFAULT: Final = "phone"
SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {"cluster": ClusterConfig, "node": NodeConfig}


class Source(Enum):
    """Where a value was said, weakest first."""

    DEFAULT = "default"
    PRESET = "preset"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


class Origin(NamedTuple):
    """The place where a value was said."""

    source: Source
    name: str
    """The preset's name, the file's path, the variable, or the flag."""
    line: int | None = None

    def __str__(self) -> str:
        if self.source is Source.DEFAULT:
            return "default"
        if self.source is Source.PRESET:
            return f"preset {self.name}"
        return self.name if self.line is None else f"{self.name}:{self.line}"

    def error(self, problem: str, hint: str) -> ConfigError:
        """The error to raise about a value that was said here."""
        return ConfigError(self.name or str(self), self.line, problem, hint)


class Settings(NamedTuple):
    """A complete, valid configuration and where each of its values came from."""

    preset: str
    cluster: ClusterConfig
    node: NodeConfig
    origins: dict[str, Origin]
    """By key, in the order of the sections and their fields."""


class _Said(NamedTuple):
    """One value that somebody said, as it was written."""

    value: object
    origin: Origin
    text: bool
    """Whether it came as text (environment, flag), so that "4" may be a number."""


def field_types() -> dict[str, Any]:
    """The type of every field by its key, with the bounds that msgspec checks."""
    return {
        f"{section}.{name}": hint
        for section, struct in SECTIONS.items()
        for name, hint in get_type_hints(struct, include_extras=True).items()
        if name in struct.__struct_fields__
    }


def default_file(environ: Mapping[str, str]) -> Path | None:
    """The file that is read when no flag names one: EDGECODER_CONFIG, else the user's `config.yaml` if there is one."""
    if named := environ.get(ENV_FILE):
        return Path(named)
    file = platformdirs.user_config_path("edgecoder", appauthor=False) / "config.yaml"
    return file if file.is_file() else None


def load_settings(
    *,
    preset: str | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
) -> Settings:
    """Merge preset, file, environment and flags into one configuration.

    `preset` and `overrides` (each `key=value`) are what flags said; `environ` is usually `os.environ`. Raises
    ConfigError, located where the value was said, for unknown keys, wrong values and impossible relations.
    """
    environ = environ or {}
    types = field_types()
    document = None if file is None else read_yaml(file)
    said: dict[str, _Said] = {}
    from_file = {} if document is None else _from_file(document, types)
    said |= {key: value for key, value in from_file.items() if key != "preset"}
    said |= _from_environment(environ, types)
    said |= _from_flags(overrides, types)
    chosen = _preset(preset, environ, from_file.get("preset"))

    sections: dict[str, msgspec.Struct] = {"cluster": ClusterConfig(), "node": PRESETS[chosen]()}
    bases = {"cluster": Origin(Source.DEFAULT, ""), "node": Origin(Source.PRESET, chosen)}
    origins = {key: said[key].origin if key in said else bases[key.partition(".")[0]] for key in types}
    for section, base in sections.items():
        changes = {
            key.partition(".")[2]: _convert(key, types[key], value)
            for key, value in said.items()
            if key.startswith(f"{section}.")
        }
        sections[section] = msgspec.structs.replace(base, **changes)
    cluster, node = sections["cluster"], sections["node"]
    assert isinstance(cluster, ClusterConfig)
    assert isinstance(node, NodeConfig)
    for section, checked in (("cluster", cluster), ("node", node)):
        try:
            checked.validate()
        except ConfigError as error:
            raise _located(section, error, origins) from None
    return Settings(chosen, cluster, node, origins)


def _preset(flag: str | None, environ: Mapping[str, str], in_file: _Said | None) -> str:
    """The preset that the strongest source names."""
    if flag is not None:
        said = _Said(flag, Origin(Source.FLAG, "--preset"), text=True)
    elif environ.get(ENV_PRESET):
        said = _Said(environ[ENV_PRESET], Origin(Source.ENVIRONMENT, ENV_PRESET), text=True)
    elif in_file is not None:
        said = in_file
    else:
        return PRESET_DEFAULT
    if not isinstance(said.value, str) or said.value not in PRESETS:
        raise said.origin.error(f"there is no preset {said.value!r}", f"use one of {', '.join(PRESETS)}")
    return said.value


def _from_file(document: YamlFile, types: Mapping[str, Any]) -> dict[str, _Said]:
    """The values that a file says, by key; `preset` among them."""
    if document.data is None:
        return {}
    if not isinstance(document.data, dict):
        raise document.error((), "the file is no mapping", f"write sections: {', '.join(SECTIONS)}")
    said: dict[str, _Said] = {}
    for section, body in document.data.items():
        origin = Origin(Source.FILE, document.path, document.line((str(section),)))
        if section == "preset":
            said["preset"] = _Said(body, origin, text=False)
            continue
        if section not in SECTIONS:
            raise origin.error(f"{section!r} is no section", _meant(str(section), [*SECTIONS, "preset"]))
        if body is None:
            continue
        if not isinstance(body, dict):
            raise origin.error(f"{section} is {body!r}", f"write one `name: value` a line under {section}:")
        for name, value in body.items():
            line = document.line((section, str(name)))
            _put(said, f"{section}.{name}", _Said(value, Origin(Source.FILE, document.path, line), text=False), types)
    return said


def _from_environment(environ: Mapping[str, str], types: Mapping[str, Any]) -> dict[str, _Said]:
    """The values in EDGECODER_NODE_… and EDGECODER_CLUSTER_… variables, by key; other variables belong to others."""
    said: dict[str, _Said] = {}
    for variable in sorted(environ):
        section, _, name = variable.removeprefix(ENV_PREFIX).lower().partition("_")
        if variable.startswith(ENV_PREFIX) and section in SECTIONS:
            origin = Origin(Source.ENVIRONMENT, variable)
            _put(said, f"{section}.{name}", _Said(environ[variable], origin, text=True), types)
    return said


def _from_flags(overrides: Iterable[str], types: Mapping[str, Any]) -> dict[str, _Said]:
    """The values of `--set key=value`, by key; of two for one key the later wins."""
    said: dict[str, _Said] = {}
    for override in overrides:
        origin = Origin(Source.FLAG, f"--set {override}")
        key, equals, value = override.partition("=")
        if not equals:
            raise origin.error("there is no `=`", "write --set key=value")
        _put(said, key.strip(), _Said(value.strip(), origin, text=True), types)
    return said


def _put(said: dict[str, _Said], key: str, value: _Said, types: Mapping[str, Any]) -> None:
    """Add a value under a key that exists."""
    if key not in types:
        raise value.origin.error(f"there is no field {key}", _meant(key, types))
    said[key] = value


def _meant(wrong: str, names: Iterable[str]) -> str:
    """A hint: the names close to a wrong one, else where to see them all."""
    names = list(names)
    close = difflib.get_close_matches(wrong, names, n=2, cutoff=0.6)
    close += [name for name in names if name.partition(".")[2] == wrong and name not in close]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"use one of {', '.join(names)}" if len(names) <= 4 else "`edgecoder config show` lists them"


def _convert(key: str, hint: Any, said: _Said) -> object:
    """A value as its field's type. Raises ConfigError that says what was expected."""
    try:
        return msgspec.convert(said.value, hint, strict=not said.text)
    except msgspec.ValidationError as error:
        expected = str(error).replace("`", "")
        if isinstance(hint, type) and issubclass(hint, Enum):
            expected = f"expected one of {', '.join(str(member.value) for member in hint)}"
        raise said.origin.error(f"{key} is {said.value!r}", expected[0].lower() + expected[1:]) from None


def _located(section: str, error: ConfigError, origins: Mapping[str, Origin]) -> ConfigError:
    """A relation's error, moved to the place where one of its fields was said.

    `validate` names a field and mentions the others. What nobody said (a default, a preset) cannot be the mistake, so
    the strongest origin among them is shown.
    """
    named = [f"{section}.{name}" for name in SECTIONS[section].__struct_fields__ if name in error.problem.split()]
    key = f"{section}.{error.path}"
    strength = list(Source)
    origin = max((origins[name] for name in [key, *named]), key=lambda origin: strength.index(origin.source))
    return origin.error(error.problem, error.hint)
