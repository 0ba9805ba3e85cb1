"""Scenario files: found by path or name, changed by flags, checked, and written back complete.

Decides how a file becomes a `Scenario`; what one may say is left to `scenario_model`, `profiles` and `scenario_checks`.
Whatever is wrong with a file or a flag is a ConfigError at its line.

`python -m edgecoder_sim.scenario --write-schema` writes `scenarios/schema.json`.
"""

from __future__ import annotations

import argparse
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import msgspec.inspect
from ruamel.yaml import YAML

from edgecoder.errors import ConfigError
from edgecoder.settings import SECTIONS
from edgecoder.yamlio.document import Document, load, parse
from edgecoder.yamlio.explain import Where, one_of, show
from edgecoder_sim.check_words import shortened
from edgecoder_sim.people_checks import check_people
from edgecoder_sim.profiles import DEVICES, NETWORKS
from edgecoder_sim.radio_model import SYSTEMS
from edgecoder_sim.scenario_checks import check
from edgecoder_sim.scenario_model import DEVICE_DECIDES, Scenario
from edgecoder_sim.scenario_schema import schema

__all__ = ["find_scenario", "load_scenario", "packaged_scenarios", "resolved_yaml", "scenario_folder", "schema"]

_HEADER: Final = """\
# The scenario that ran, resolved by EdgeCoder. Fields of NodeConfig that `config` does not name have the defaults of
# the version in provenance.json.
"""
_IS_PATH: Final = re.compile(r"[/\\]|\.ya?ml$")
"""What is a path and no name."""
_PROFILES: Final[dict[str, Mapping[str, msgspec.Struct]]] = {
    "networks": NETWORKS,
    "devices": DEVICES,
    "systems": SYSTEMS,
}


def scenario_folder() -> Path:
    """The folder of the scenarios that come with EdgeCoder: in a wheel beside this module, else in the repository."""
    here = Path(__file__).resolve()
    installed = here.parent / "scenarios"
    return installed if installed.is_dir() else here.parents[2] / "scenarios"


def packaged_scenarios() -> list[str]:
    """The names of the scenarios that come with EdgeCoder, sorted."""
    return sorted(path.stem for path in scenario_folder().glob("*.yaml"))


def find_scenario(name: str) -> Path:
    """The file that a path or a packaged scenario's name means. Raises ConfigError that lists what there is."""
    packaged = packaged_scenarios()
    if name in packaged and not Path(name).is_file():
        return scenario_folder() / f"{name}.yaml"
    if _exists(name):
        return Path(name)
    if _IS_PATH.search(name):
        stem = re.split(r"[/\\]", name)[-1].partition(".")[0]
        if stem in packaged:
            raise ConfigError(name, None, "there is no such file", f"{stem} comes with EdgeCoder: give its name alone")
        raise ConfigError(name, None, "there is no such file", one_of("packaged is", packaged, stem))
    raise ConfigError(name, None, "there is no such file or scenario", one_of("packaged is", packaged, name))


def load_scenario(path_or_name: str | Path, sets: Sequence[str] = (), rng_seed: int | None = None) -> Scenario:
    """Load a scenario: file, then each `key=value` of `sets` in turn, then `rng_seed`.

    The result is complete: its catalog is inline, and `devices` and `networks` hold those that it uses, whole. A
    `duration_s` in `sets` leaves out the storms that begin after the end, so that a short run is the beginning of a
    long one. Raises ConfigError, located in the file or naming the flag.
    """
    path = find_scenario(str(path_or_name))
    document = load(path, _shown(path))
    type_ = msgspec.inspect.type_info(Scenario)
    for override in sets:
        _refuse_own_settings(override)
        document.override(override, type_)
    if rng_seed is not None:
        document.set("rng_seed", str(rng_seed), type_, f"--rng-seed {rng_seed}")
    _complete_catalog(document, path.parent)
    if document.get(("faults",)) == "random":
        document.graft(("faults",), parse("random: {}", "faults"))
    for kind, known in _PROFILES.items():
        _complete_profiles(document, kind, known)
    scenario = document.convert(Scenario)
    check(document, scenario)
    check_people(document, scenario)
    return _used_alone(_cut(scenario) if shortened(document) else scenario)


def resolved_yaml(scenario: Scenario) -> str:
    """The whole scenario as YAML that needs no other file; loading it gives an equal scenario."""
    dumper = YAML(typ="safe", pure=True)
    dumper.default_flow_style = False
    dumper.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    dumper.allow_unicode = False
    dumper.width = 120
    text = io.StringIO()
    dumper.dump(_plain(msgspec.to_builtins(scenario)), text)
    return _HEADER + text.getvalue()


def _refuse_own_settings(flag: str) -> None:
    """Say where a key belongs that `edgecoder config show` prints for a node of this machine."""
    key = flag.partition("=")[0].strip()
    section, _, name = key.partition(".")
    if section not in SECTIONS or name not in SECTIONS[section].__struct_fields__:
        return
    if section == "cluster":
        hint = f"did you mean config.cluster.{name}?"
    elif name in DEVICE_DECIDES:
        hint = f"in a scenario the device decides it: set devices.<name>.{DEVICE_DECIDES[name]}"
    else:
        hint = f"a scenario says it by role: set config.phones.{name}, config.agents.{name}, config.coordinators.{name}"
    raise ConfigError(f"--set {flag}", None, f"unknown key {key}", hint)


def _exists(path: str | Path) -> bool:
    """Whether there is something of this name; no name is too strange to ask."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _shown(path: Path) -> str:
    """What errors call a file: as it was given, or without the current directory in front."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _complete_catalog(document: Document, folder: Path) -> None:
    """Put the catalog file that a scenario names in the place of its name."""
    where: Where = ("catalog",)
    name = document.get(where)
    if not isinstance(name, str):
        return
    catalogs = scenario_folder() / "catalogs"
    packaged = sorted(path.stem for path in catalogs.glob("*.yaml"))
    path = folder / name if _IS_PATH.search(name) else catalogs / f"{name}.yaml"
    if not _exists(path):
        hint = one_of("packaged is", packaged, name)
        raise document.error(where, f"there is no catalog {show(name)}", hint)
    entries = load(path, _shown(path))
    if not isinstance(entries.data, list):
        problem = f"a catalog file is {show(entries.data)}"
        raise entries.error((), problem, "write a list of models, each beginning with `-`")
    document.graft(where, entries)


def _complete_profiles(document: Document, kind: str, known: Mapping[str, msgspec.Struct]) -> None:
    """Make every profile whole: one that is built in, or `like` one, takes from it what the file does not say."""
    written = document.get((kind,))
    if written is None and not document.has((kind,)):
        document.fill((), {kind: {}})
        written = document.get((kind,))
    if not isinstance(written, dict):
        return
    for name, body in written.items():
        if not isinstance(body, dict):
            continue
        where = (kind, name, "like")
        like = body.get("like")
        if "like" in body:
            if not isinstance(like, str) or like not in known:
                problem = f"{kind}.{name}.like is {show(like)}"
                raise document.error(where, problem, one_of("built in is", known, str(like)))
            document.remove(where)
        if (base := known.get(like or name)) is not None:
            document.fill((kind, name), msgspec.to_builtins(base))
    document.fill((kind,), {name: msgspec.to_builtins(profile) for name, profile in known.items()})


def _cut(scenario: Scenario) -> Scenario:
    """The scenario without the storms and crowds that begin after its end."""
    workload = scenario.workload
    swaps = tuple(swap for swap in workload.swaps if (swap.at_s or 0) < scenario.duration_s)
    pulls = tuple(pull for pull in workload.pulls if (pull.at_s or 0) < scenario.duration_s)
    return msgspec.structs.replace(scenario, workload=msgspec.structs.replace(workload, swaps=swaps, pulls=pulls))


def _used_alone(scenario: Scenario) -> Scenario:
    """The scenario without the devices and networks that no group names, and without their systems."""
    devices = {*scenario.phones.devices, *scenario.agents.devices, scenario.coordinators.device}
    networks = {*scenario.phones.access, *scenario.agents.access}
    networks |= {scenario.coordinators.network, scenario.coordinators.federation_network}
    systems = {name for key, device in scenario.devices.items() if key in devices for name in device.system_weights}
    return msgspec.structs.replace(
        scenario,
        devices={name: device for name, device in scenario.devices.items() if name in devices},
        networks={name: network for name, network in scenario.networks.items() if name in networks},
        systems={name: system for name, system in scenario.systems.items() if name in systems},
    )


def _plain(value: Any) -> Any:
    """Tuples as lists, which is what YAML has."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def schema_text() -> str:
    """`schema.json` as it is checked in."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the schema beside the scenarios."""
    parser = argparse.ArgumentParser(
        prog="python -m edgecoder_sim.scenario", description="Write scenarios/schema.json."
    )
    parser.add_argument("--write-schema", action="store_true", required=True, help="write scenarios/schema.json")
    parser.parse_args(arguments)
    (scenario_folder() / "schema.json").write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
