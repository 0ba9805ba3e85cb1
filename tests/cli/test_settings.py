"""Precedence, origins and located mistakes of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgecoder.config import PRESETS, ClusterConfig, DeviceType, NodeConfig
from edgecoder.errors import ConfigError
from edgecoder.settings import default_file, field_types, load_settings


def write(folder: Path, text: str) -> Path:
    path = folder / "node.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_any_source_everything_is_preset_or_default() -> None:
    settings = load_settings()
    assert settings.node == PRESETS["phone"]()
    assert settings.cluster == ClusterConfig()
    assert list(settings.origins) == list(field_types())
    assert {str(origin) for origin in settings.origins.values()} == {"default", "preset phone"}


def test_each_source_wins_over_the_one_before(tmp_path: Path) -> None:
    file = write(tmp_path, "node:\n  slots: 11\n  peers_max: 11\n  links_max: 11\n")
    environ = {"EDGECODER_NODE_PEERS_MAX": "12", "EDGECODER_NODE_LINKS_MAX": "12"}
    settings = load_settings(preset="laptop", file=file, environ=environ, overrides=["node.links_max=13"])
    node, origins = settings.node, settings.origins
    assert (node.memory_mb, node.slots, node.peers_max, node.links_max) == (16_384, 11, 12, 13)
    assert str(origins["node.memory_mb"]) == "preset laptop"
    assert str(origins["node.slots"]) == f"{file}:2"
    assert str(origins["node.peers_max"]) == "EDGECODER_NODE_PEERS_MAX"
    assert str(origins["node.links_max"]) == "--set node.links_max=13"


@pytest.mark.parametrize(
    ("flag", "environ", "text", "expected"),
    [
        (None, {}, "preset: server\n", "server"),
        (None, {"EDGECODER_PRESET": "laptop"}, "preset: server\n", "laptop"),
        ("phone", {"EDGECODER_PRESET": "laptop"}, "preset: server\n", "phone"),
    ],
)
def test_the_preset_has_the_same_precedence(
    tmp_path: Path, flag: str | None, environ: dict[str, str], text: str, expected: str
) -> None:
    assert load_settings(preset=flag, file=write(tmp_path, text), environ=environ).preset == expected


def test_text_becomes_the_field_s_type() -> None:
    settings = load_settings(overrides=["node.device_type=laptop", "cluster.network_id=7"], environ={})
    assert settings.node.device_type is DeviceType.LAPTOP
    assert settings.cluster.network_id == "7"


def test_of_two_flags_for_one_field_the_later_wins() -> None:
    assert load_settings(overrides=["node.slots=2", "node.slots=3"]).node.slots == 3


@pytest.mark.parametrize("text", ["", "# only a comment\n", "node:\n", "node: {}\ncluster: {}\n"])
def test_a_file_may_say_nothing(tmp_path: Path, text: str) -> None:
    assert load_settings(file=write(tmp_path, text)).node == NodeConfig()


@pytest.mark.parametrize(
    ("text", "line", "problem", "hint"),
    [
        ("- 1\n", None, "the file is no mapping", "write sections: cluster, node"),
        ("nodes:\n  slots: 1\n", 1, "'nodes' is no section", "did you mean node?"),
        ("node: 3\n", 1, "node is 3", "write one `name: value` a line under node:"),
        ("node:\n  slot: 1\n", 2, "there is no field node.slot", "did you mean node.slots"),
        ("node:\n  heartbeat_interval_ms: 1\n", 2, "there is no field", "cluster.heartbeat_interval_ms"),
        ("node:\n  qqq: 1\n", 2, "there is no field node.qqq", "`edgecoder config show` lists them"),
        ("node:\n  slots: 0\n", 2, "node.slots is 0", "expected int >= 1"),
        ("node:\n  slots: '4'\n", 2, "node.slots is '4'", "expected int, got str"),
        ("node:\n  slots:\n", 2, "node.slots is None", "expected int, got null"),
        ("\nnode:\n\n  device_type: tablet\n", 4, "node.device_type is 'tablet'", "phone, laptop, workstation"),
        ("cluster:\n  network_id: ''\n", 2, "cluster.network_id is ''", "length >= 1"),
        ("preset: tablet\n", 1, "there is no preset 'tablet'", "use one of phone, laptop, server"),
        ("preset: [phone]\n", 1, "there is no preset ['phone']", "use one of"),
        ("node:\n  memory_mb: 300\n", 2, "leaves 150 MB for a model", "256 MB"),
        ("cluster:\n  heartbeat_interval_ms: 60000\n", 2, "agent_alive_ms is 45000", "three intervals"),
    ],
)
def test_mistakes_in_a_file_are_located(tmp_path: Path, text: str, line: int | None, problem: str, hint: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_settings(file=file)
    error = caught.value
    assert (error.path, error.line) == (str(file), line)
    assert problem in error.problem
    assert hint in error.hint


@pytest.mark.parametrize(
    ("arguments", "where", "problem"),
    [
        ({"environ": {"EDGECODER_NODE_SLOTS": "many"}}, "EDGECODER_NODE_SLOTS", "node.slots is 'many'"),
        ({"environ": {"EDGECODER_NODE_SLOT": "1"}}, "EDGECODER_NODE_SLOT", "there is no field node.slot"),
        ({"environ": {"EDGECODER_PRESET": "x"}}, "EDGECODER_PRESET", "there is no preset 'x'"),
        ({"preset": "x"}, "--preset", "there is no preset 'x'"),
        ({"overrides": ["node.slots"]}, "--set node.slots", "there is no `=`"),
        ({"overrides": ["slots=1"]}, "--set slots=1", "there is no field slots"),
        ({"overrides": ["node.slots="]}, "--set node.slots=", "node.slots is ''"),
        ({"overrides": ["node.local_cost_max=999"]}, "--set node.local_cost_max=999", "local_cost_max is 999"),
    ],
)
def test_mistakes_in_flags_and_environment_are_located(arguments: dict[str, Any], where: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(**arguments)
    assert caught.value.path == where
    assert caught.value.line is None
    assert problem in caught.value.problem
    assert caught.value.hint


def test_a_wrong_relation_is_shown_where_it_was_said_last(tmp_path: Path) -> None:
    file = write(tmp_path, "node:\n  local_cost_max: 150\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(file=file, overrides=["node.cost_max=140"])
    assert caught.value.path == "--set node.cost_max=140"


def test_other_variables_are_left_alone() -> None:
    assert load_settings(environ={"EDGECODER_RUNS": "x", "NODE_SLOTS": "9", "HOME": "/"}).node == NodeConfig()


def test_the_file_is_the_named_one_or_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_file({"EDGECODER_CONFIG": "other.yaml"}) == Path("other.yaml")
    assert default_file({}) is None
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_args, **_options: tmp_path)
    (tmp_path / "config.yaml").write_text("preset: laptop\n", encoding="utf-8")
    assert default_file({}) == tmp_path / "config.yaml"
