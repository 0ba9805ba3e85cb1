"""Where a node's configuration comes from: preset, file, environment, flag; the later wins.

Decides the order and the spelling in each place. Which fields there are and what they trade is `config`'s, how a
mistake is located and worded is `yamlio`'s; a daemon and `edgecoder config show` both start here.

A field's key is its section and name, `node.slots` or `cluster.network_id`. In the file the sections are mappings, with
`preset` beside them; in the environment the key is `EDGECODER_NODE_SLOTS`; a flag is `--set node.slots=4`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import msgspec.inspect
import platformdirs

from edgecoder.config import PRESETS, ClusterConfig, NodeConfig
from edgecoder.errors import ConfigError
from edgecoder.yamlio.document import Document, load, parse
from edgecoder.yamlio.explain import dotted, one_of, show

ENV_PREFIX: Final = "EDGECODER_"
ENV_PRESET: Final = "EDGECODER_PRESET"
ENV_FILE: Final = "EDGECODER_CONFIG"
PRESET_DEFAULT: Final = "phone"
SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {"cluster": ClusterConfig, "node": NodeConfig}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be said; a section may be empty."""

    preset: str = PRESET_DEFAULT
    cluster: ClusterConfig | None = None
    node: NodeConfig | None = None


_FILE: Final = msgspec.inspect.type_info(_File)


class Settings(NamedTuple):
    """A complete, valid configuration and where each of its values came from."""

    preset: str
    cluster: ClusterConfig
    node: NodeConfig
    origins: dict[str, str]
    """By key, in the order of the sections and their fields: `default`, `preset laptop` where the preset differs from
    it, `node.yaml:3`, the variable, or the flag."""


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
    document = parse("", "") if file is None else load(file)
    _take_environment(document, environ or {})
    for override in overrides:
        document.override(override, _FILE)
    if preset is not None:
        document.set("preset", preset, _FILE, f"--preset {preset}")
    _refuse_misplaced(document)
    said = document.convert(_File, (), {})
    if said.preset not in PRESETS:
        raise document.error(("preset",), f"preset is {show(said.preset)}", one_of("it is", PRESETS, said.preset))
    cluster = said.cluster or ClusterConfig()
    node = document.convert(NodeConfig, ("node",), msgspec.to_builtins(PRESETS[said.preset]()))
    for section, config in (("cluster", cluster), ("node", node)):
        try:
            config.validate()
        except ConfigError as error:
            raise document.blame((section,), error) from None
    preset_node, default_node = PRESETS[said.preset](), NodeConfig()
    origins: dict[str, str] = {}
    for section, struct in SECTIONS.items():
        for name in struct.__struct_fields__:
            is_preset = section == "node" and getattr(preset_node, name) != getattr(default_node, name)
            unsaid = f"preset {said.preset}" if is_preset else "default"
            has_said = document.has((section, name))
            origins[f"{section}.{name}"] = str(document.place((section, name))) if has_said else unsaid
    return Settings(said.preset, cluster, node, origins)


def _take_environment(document: Document, environ: Mapping[str, str]) -> None:
    """Put in what EDGECODER_PRESET, EDGECODER_NODE_… and EDGECODER_CLUSTER_… say; other variables belong to others."""
    if environ.get(ENV_PRESET):
        document.set("preset", environ[ENV_PRESET], _FILE, ENV_PRESET)
    for variable in sorted(environ):
        section, _, name = variable.removeprefix(ENV_PREFIX).lower().partition("_")
        if variable.startswith(ENV_PREFIX) and section in SECTIONS:
            document.set(f"{section}.{name}", environ[variable], _FILE, variable)


def _refuse_misplaced(document: Document) -> None:
    """Say where a field belongs that stands outside its section."""
    for where in document.places():
        for section, struct in SECTIONS.items():
            if where and where[-1] in struct.__struct_fields__ and where[:-1] != (section,):
                raise document.error(where, f"unknown key {dotted(where)}", f"did you mean {section}.{where[-1]}?")
