"""Scenarios: what is shipped loads, what is broken says so, and what is written back loads as the same."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from edgecoder.config import DeviceType
from edgecoder.core.events import SwapCause
from edgecoder.core.ids import Role
from edgecoder.describing import field_docs
from edgecoder.errors import ConfigError
from edgecoder.models.catalog import Platform
from edgecoder_sim.profiles import DEVICES, NETWORKS, Device
from edgecoder_sim.scenario import (
    find_scenario,
    load_scenario,
    main,
    packaged_scenarios,
    resolved_yaml,
    scenario_folder,
    schema,
    schema_text,
)
from edgecoder_sim.scenario_model import Scenario, Source, Wire
from edgecoder_sim.world import World
from tests.sim.broken_scenarios import faults, files, machines, people, pulls, work
from tests.sim.broken_scenarios.base import BASE, Broken

FIXTURE_ONCE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
"""The folder may serve all examples, and no example is judged by the clock."""
SHIPPED = ("office", "swap_storm")
BROKEN = [*files.CASES, *machines.CASES, *people.CASES, *work.CASES, *pulls.CASES, *faults.CASES]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(BASE, encoding="utf-8")
    return path


# -- what is shipped ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_scenarios_load(name: str) -> None:
    assert load_scenario(name).name == name


def test_the_shipped_scenarios_are_those_in_the_folder() -> None:
    assert set(SHIPPED) <= set(packaged_scenarios())
    for name in packaged_scenarios():
        load_scenario(name)


def test_the_office_is_the_office() -> None:
    office = load_scenario("office")
    assert (office.phones.count, office.agents.count, office.coordinators.count) == (200, 20, 2)
    assert office.duration_us == 3_600_000_000
    swaps = sum(
        (swap.per_node_per_hour or swap.share) * sum(group.count for group in office.groups(swap.source).values())
        for swap in office.workload.swaps
    )
    assert 200 <= swaps <= 400


def test_the_catalog_is_the_real_one() -> None:
    catalog = load_scenario("office").models()
    found = {
        (name, platform): catalog.resolve(f"qwen2.5-coder:{name}", platform)
        for name in ("0.5b", "1.5b", "3b", "7b", "14b")
        for platform in Platform
    }
    sizes = {key: entry.file_size_bytes for key, entry in found.items()}
    assert sizes == {
        ("0.5b", Platform.IOS): 491400064, ("0.5b", Platform.NODE): 491400064,
        ("1.5b", Platform.IOS): 1117320768, ("1.5b", Platform.NODE): 1117320768,
        ("3b", Platform.IOS): 2104932800, ("3b", Platform.NODE): 2104932800,
        ("7b", Platform.IOS): 4683073536, ("7b", Platform.NODE): 4683074048,
        ("14b", Platform.IOS): 8988110272, ("14b", Platform.NODE): 8988110272,
    }  # fmt: skip
    assert len({entry.sha256 for entry in catalog.entries}) == len(catalog.entries) == 6
    assert catalog.resolve("qwen2.5-coder-7b", Platform.NODE) == found["7b", Platform.NODE]
    assert catalog.same_model("qwen2.5-coder:7b") == {"qwen2.5-coder:7b", "qwen2.5-coder-7b"}
    assert found["1.5b", Platform.IOS].kv_bytes_per_token == 28 * 1024


def test_it_loads_from_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_scenario("office").name == "office"
    assert find_scenario("office") == scenario_folder() / "office.yaml"


# -- finding -----------------------------------------------------------------------------------------------------------


def test_a_path_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "swap_storm").mkdir()
    (tmp_path / "office").write_text(BASE, encoding="utf-8")
    assert load_scenario("office").name == "tiny"
    assert load_scenario("swap_storm").name == "swap_storm"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ofice", "ofice: there is no such file or scenario; did you mean office?"),
        ("x", "x: there is no such file or scenario; packaged is one of office, swap_storm"),
        ("sub/office.yaml", "sub/office.yaml: there is no such file; office comes with EdgeCoder: give its name alone"),
        ("lab.yaml", "lab.yaml: there is no such file; packaged is one of office, swap_storm"),
        ("folder/", "folder: this is a directory; name a file in it"),
        ("a\0b", "a\0b: there is no such file or scenario; packaged is one of office, swap_storm"),
    ],
)
def test_what_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgecoder_sim.scenario.packaged_scenarios", lambda: list(SHIPPED))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError) as caught:
        load_scenario(name)
    assert str(caught.value) == message


def test_a_catalog_beside_the_scenario(tmp_path: Path) -> None:
    shipped = (scenario_folder() / "catalogs" / "qwen2.5-coder.yaml").read_text(encoding="utf-8")
    (tmp_path / "models.yaml").write_text(shipped.replace("paramSize: 14", "paramSize: -14"), encoding="utf-8")
    path = tmp_path / "tiny.yaml"
    path.write_text(BASE.replace("catalog: qwen2.5-coder", "catalog: ./models.yaml"), encoding="utf-8")
    line = 1 + shipped[: shipped.index("paramSize: 14")].count("\n")
    with pytest.raises(ConfigError) as caught:
        load_scenario(path)
    assert str(caught.value) == f"{tmp_path / 'models.yaml'}:{line}: catalog[5].paramSize is -14; it is more than 0"
    (tmp_path / "models.yaml").write_text("models: []\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match="a catalog file is a mapping; write a list of models, each beginning with `-`"
    ):
        load_scenario(path)


# -- what is broken ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BROKEN, ids=[case.name.replace(" ", "-") for case in BROKEN])
def test_a_broken_scenario_says_what_where_and_how_to_mend_it(
    case: Broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    case.write(Path("tiny.yaml"))
    with pytest.raises(ConfigError) as caught:
        load_scenario("tiny.yaml", case.sets)
    assert str(caught.value) == case.message("tiny.yaml")
    assert caught.value.exit_code == 2


def test_there_are_enough_broken_scenarios() -> None:
    assert len(BROKEN) >= 45
    assert len({case.name for case in BROKEN}) == len(BROKEN)


def test_a_wrong_seed_names_its_flag(base: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_scenario(base, rng_seed=-1)
    assert str(caught.value) == "--rng-seed -1: rng_seed is -1; a seed is 0 or more"


# -- values ------------------------------------------------------------------------------------------------------------


def test_flags_win_over_the_file_and_later_over_earlier(base: Path) -> None:
    sets = ["phones.count=5", "phones.count=7", "workload.tasks.chat.deadline_s=9", "wire=encoded"]
    scenario = load_scenario(base, sets, rng_seed=99)
    assert scenario.phones.count == 7
    assert scenario.workload.tasks[0].deadline_ms == 9000
    assert scenario.wire is Wire.ENCODED
    assert scenario.rng_seed == 99
    assert load_scenario(base).rng_seed == 1


def test_a_profile_is_changed_in_part_and_kept_whole(base: Path) -> None:
    scenario = load_scenario(base, ["devices.laptop.slots=3", "networks.home.like=wifi", "agents.network=home"])
    assert scenario.devices["phone_mid"] == msgspec.structs.replace(DEVICES["phone_mid"], load_failure_pct=1.0)
    assert scenario.devices["laptop"] == msgspec.structs.replace(DEVICES["laptop"], slots=3)
    assert scenario.networks["home"] == NETWORKS["wifi"]
    assert set(scenario.devices) == {"phone_mid", "laptop", "server"}
    assert set(scenario.networks) == {"wifi", "home", "lan", "wan"}


def test_a_new_device_like_another(base: Path) -> None:
    sets = ["devices.pixel.like=phone_high", "devices.pixel.memory_mb=16384", "phones.devices={pixel: 1}"]
    pixel = load_scenario(base, sets).devices["pixel"]
    assert pixel == msgspec.structs.replace(DEVICES["phone_high"], memory_mb=16384)


def test_a_node_is_configured_by_its_device_then_by_the_scenario(base: Path) -> None:
    scenario = load_scenario(base, ["config.agents.context_tokens=1024"])
    phone = scenario.node_config(Role.PHONE, scenario.devices["phone_mid"])
    agent = scenario.node_config(Role.AGENT, scenario.devices["laptop"])
    server = scenario.node_config(Role.COORDINATOR, scenario.devices["server"])
    assert (phone.device_type, phone.memory_mb, phone.slots, phone.drain_ms) == (DeviceType.PHONE, 6144, 1, 1000)
    assert (agent.device_type, agent.memory_mb, agent.context_tokens) == (DeviceType.LAPTOP, 16384, 1024)
    assert (server.device_type, server.links_max) == (DeviceType.WORKSTATION, 20_000)
    assert (phone.has_radio, agent.has_radio, server.has_radio) == (True, True, False)
    silent = load_scenario(base, ["radio.links_max=0"])
    assert not silent.node_config(Role.PHONE, silent.devices["phone_mid"]).has_radio
    bearing = load_scenario(base, ["devices.server.ble=true"])
    assert not bearing.node_config(Role.COORDINATOR, bearing.devices["server"]).has_radio


def test_a_group_is_divided_among_its_networks(base: Path) -> None:
    sets = ["agents.network=''", "agents.count=10", "agents.networks={wifi: 1, slow: 3}", "networks.slow.like=lan"]
    scenario = load_scenario(base, [*sets, "networks.slow.up_mbit_per_s=2"])
    assert {"wifi", "slow"} <= set(scenario.networks)
    world = World(scenario)
    names = [place.network for place in world.agents]
    assert names.count("slow") in (7, 8)
    told = [place.sim.node.setup.config.upload_kbit_per_s for place in world.agents]
    assert told == [2_000 if name == "slow" else 100_000 for name in names]
    uplinks = {row.name: row.up_bytes_per_s for row in world.describe()}
    assert [uplinks[place.sim.name] for place in world.agents] == [kbit * 125 for kbit in told]
    assert {place.network for place in world.phones} == {scenario.phones.network}


def test_what_fits_is_what_the_core_would_admit(base: Path) -> None:
    scenario = load_scenario(base)
    small, *_, big = scenario.catalog
    phone = scenario.devices["phone_mid"]
    assert scenario.fits(small, Role.PHONE, phone)
    assert not scenario.fits(big, Role.PHONE, phone)
    ollama = scenario.models().resolve("qwen2.5-coder:7b", Platform.NODE)
    assert not scenario.fits(ollama, Role.PHONE, msgspec.structs.replace(phone, memory_mb=65536))


def test_an_offline_scenario_needs_no_coordinator(base: Path) -> None:
    scenario = load_scenario(base, ["coordinators={}", "radio.links_max=5"])
    assert scenario.node_count == 4
    assert "wan" not in scenario.networks


def test_a_shortened_run_leaves_out_what_comes_after_its_end(base: Path, tmp_path: Path) -> None:
    assert [swap.name for swap in load_scenario(base, ["duration_s=10.5"]).workload.swaps] == ["mind", "storm"]
    short = load_scenario(base, ["duration_s=5"])
    assert [swap.name for swap in short.workload.swaps] == ["mind"]
    path = tmp_path / "short.yaml"
    path.write_text(resolved_yaml(short), encoding="utf-8")
    assert load_scenario(path) == short


def test_a_run_shorter_than_the_sample_interval_is_sampled_at_its_end(base: Path) -> None:
    short = load_scenario(base, ["duration_s=5", "sample_interval_s=10"])
    assert short.sample_interval_us == short.duration_us == 5_000_000
    assert load_scenario(base, ["duration_s=15"]).sample_interval_us == 10_000_000


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("duration_s", [1, 5, 120, 1000])
def test_a_shortened_run_is_the_beginning_of_the_whole_one(name: str, duration_s: int) -> None:
    whole, short = load_scenario(name), load_scenario(name, [f"duration_s={duration_s}"])
    swaps = tuple(swap for swap in whole.workload.swaps if (swap.at_s or 0) < duration_s)
    pulls = tuple(pull for pull in whole.workload.pulls if (pull.at_s or 0) < duration_s)
    workload = msgspec.structs.replace(whole.workload, swaps=swaps, pulls=pulls)
    assert short == msgspec.structs.replace(whole, duration_s=duration_s, workload=workload)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shortened_run_runs_again_from_its_directory(name: str, tmp_path: Path) -> None:
    short = load_scenario(name, ["duration_s=70"])
    (tmp_path / "short.yaml").write_text(resolved_yaml(short), encoding="utf-8")
    assert load_scenario(tmp_path / "short.yaml") == short


def test_a_pull_may_name_what_nobody_has(base: Path) -> None:
    pull = ["workload.swaps.mind.pull=true", "workload.swaps.mind.to={qwen2.5-coder-3b: 1}"]
    ask = "workload.tasks.chat.min_param_size={3: 1}"
    scenario = load_scenario(base, ["agents.count=0", *pull, ask])  # and tasks may ask for it, though nobody has it yet
    assert [swap.pull for swap in scenario.workload.swaps] == [True, False]
    with pytest.raises(ConfigError, match=r"the largest that a node can run has 1\.5 B"):
        load_scenario(base, ["agents.count=0", ask])
    anything = load_scenario(base, ["agents.count=0", pull[0], "workload.swaps.mind.to={}", ask])
    assert anything.workload.swaps[0].to == {}


def test_storms_and_streams(base: Path) -> None:
    stream, storm = load_scenario(base).workload.swaps
    assert (stream.at_us, stream.per_node_per_hour, stream.cause) == (None, 4.0, SwapCause.USER)
    assert (storm.at_us, storm.within_us, storm.share) == (10_000_000, 20_000_000, 1.0)
    assert list(load_scenario(base).groups(Source.ALL)) == [Role.PHONE, Role.AGENT]
    assert list(load_scenario(base).groups(Source.AGENTS)) == [Role.AGENT]


# -- writing back ------------------------------------------------------------------------------------------------------


def orders(scenario: Scenario) -> list[list[str]]:
    """The orders that draws depend on."""
    groups = (scenario.phones, scenario.agents)
    return [list(mapping) for group in groups for mapping in (group.devices, group.installed, group.active)]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_resolved_scenario_is_the_same_and_stands_alone(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name, ["duration_s=1800.25"], rng_seed=2**63 - 1)
    path = tmp_path / "scenario.resolved.yaml"
    path.write_text(resolved_yaml(scenario), encoding="utf-8")
    again = load_scenario(path)
    assert again == scenario
    assert orders(again) == orders(scenario)
    assert resolved_yaml(again) == resolved_yaml(scenario)


@settings(FIXTURE_ONCE, max_examples=50)
@given(
    description=st.text(max_size=200),
    duration_s=st.floats(1e-3, 1e7),
    rng_seed=st.integers(0, 2**63 - 1),
    weight=st.floats(0, 1e9, exclude_min=True),
    name=st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,63}\Z"),
)
def test_any_values_survive_being_written(
    base: Path, description: str, duration_s: float, rng_seed: int, weight: float, name: str
) -> None:
    scenario = load_scenario(base)
    group = msgspec.structs.replace(scenario.phones, devices={"phone_mid": weight})
    scenario = msgspec.structs.replace(
        scenario, name=name, description=description, duration_s=duration_s + 60, rng_seed=rng_seed, phones=group
    )
    path = base.parent / "again.yaml"
    path.write_bytes(resolved_yaml(scenario).encode("utf-8"))
    assert load_scenario(path) == scenario


# -- hostile files -----------------------------------------------------------------------------------------------------

scalars = st.sampled_from(["-1", "0", "1.5", "x", "null", "true", "[]", "{}", "[x]", "{x: 1}", '""', "1e300", ".inf"])


@FIXTURE_ONCE
@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_configuration_error(base: Path, content: bytes) -> None:
    path = base.parent / "hostile.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        load_scenario(path)


LINES = BASE.splitlines()
KEYS = [line for line in LINES if ":" in line]


@FIXTURE_ONCE
@given(st.data())
def test_no_change_of_a_scenario_raises_anything_but_a_configuration_error(base: Path, data: st.DataObject) -> None:
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        key = lines[at].partition(":")[0]
        value = data.draw(scalars)
        change = data.draw(st.sampled_from(["value", "drop", "double", "flow"]))
        if change == "value":
            lines[at] = f"{key}: {value}"
        elif change == "flow" and "{" in lines[at]:
            head, _, tail = lines[at].rpartition(": ")
            lines[at] = f"{head}: {value}{'}' * tail.count('}')}"
        elif change == "drop":
            del lines[at]
        else:
            lines.insert(at, lines[at])
    path = base.parent / "changed.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    with contextlib.suppress(ConfigError):
        assert load_scenario(path).node_count > 0


# -- schema ------------------------------------------------------------------------------------------------------------


def plain_yaml(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def test_the_schema_that_is_checked_in_is_up_to_date() -> None:
    path = scenario_folder() / "schema.json"
    hint = "run: python -m edgecoder_sim.scenario --write-schema"
    assert path.read_text(encoding="utf-8") == schema_text(), hint


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("name", SHIPPED)
def test_the_schema_takes_what_is_shipped(name: str) -> None:
    path = find_scenario(name)
    assert "# yaml-language-server: $schema=schema.json" in path.read_text(encoding="utf-8").splitlines()
    assert [error.message for error in validator().iter_errors(plain_yaml(path))] == []


def test_the_schema_takes_a_complete_scenario() -> None:
    resolved = YAML(typ="safe", pure=True).load(resolved_yaml(load_scenario("office")))
    text = json.loads(json.dumps(resolved))  # JSON knows no numbers as keys
    assert [error.message for error in validator().iter_errors(text)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("phones.cuont", 3),
        ("phones.count", -3),
        ("wire", "fast"),
        ("devices.phone_mid.load_failure_pct", 101),
        ("config.phones.drain_s", 3),
        ("config.phones.memory_mb", 8192),
        ("config.cluster.heartbeat_interval_ms", 0),
        ("catalog", 3),
        ("workload.swaps.0.cause", "whim"),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(path: str, value: object, base: Path) -> None:
    data = plain_yaml(base)
    *parents, last = path.split(".")
    node = data
    for step in parents:
        node = node[int(step)] if isinstance(node, list) else node.setdefault(step, {})
    node[last] = value
    assert list(validator().iter_errors(data))
    with pytest.raises(ConfigError):
        load_scenario(base, [f"{path}={json.dumps(value)}"])


def test_every_field_of_the_schema_is_described() -> None:
    schema_ = schema()
    objects = {"Scenario": schema_, **schema_["$defs"]}
    fields = {
        f"{name}.{field}": body
        for name, definition in objects.items()
        for field, body in definition.get("properties", {}).items()
    }
    assert len(fields) > 130
    assert [name for name, body in fields.items() if not (body.get("title") and body.get("description"))] == []


def test_field_docs_are_one_line_each() -> None:
    docs = field_docs(Device)
    assert docs["ble"] == "Whether it has a Bluetooth radio that takes part in the mesh."
    assert list(docs) == list(Device.__struct_fields__)
    assert all("\n" not in doc for doc in itertools.chain(docs.values()))


def test_the_command_writes_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecoder_sim.scenario.scenario_folder", lambda: tmp_path)
    main(["--write-schema"])
    assert (tmp_path / "schema.json").read_text(encoding="utf-8") == schema_text()


def test_loading_is_the_same_under_any_hash_seed() -> None:
    code = "from edgecoder_sim.scenario import *; print(resolved_yaml(load_scenario('office')), schema())"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": "utf-8"},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(printed) == 1
