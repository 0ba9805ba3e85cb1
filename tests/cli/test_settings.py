"""Precedence, origins and located mistakes of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgecoder.config import PRESETS, ClusterConfig, DeviceType, NodeConfig
from edgecoder.errors import ConfigError
from edgecoder.settings import SECTIONS, default_file, load_settings


def write(folder: Path, text: str) -> Path:
    path = folder / "node.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_any_source_everything_is_preset_or_default() -> None:
    settings = load_settings()
    assert settings.node == PRESETS["phone"]()
    assert settings.cluster == ClusterConfig()
    fields = [f"{section}.{name}" for section, struct in SECTIONS.items() for name in struct.__struct_fields__]
    assert list(settings.origins) == fields
    assert set(settings.origins.values()) == {"default"}, "the preset of a phone is the default"


def test_a_preset_is_the_origin_of_what_it_changes_alone() -> None:
    origins = load_settings(preset="laptop").origins
    changed = {key.removeprefix("node.") for key, origin in origins.items() if origin == "preset laptop"}
    assert changed == {
        "device_type",
        "has_radio",
        "memory_mb",
        "memory_share_pct",
        "context_tokens",
        "slots",
        "task_queue_max",
        "links_max",
    }


def test_each_source_wins_over_the_one_before(tmp_path: Path) -> None:
    file = write(tmp_path, "node:\n  slots: 11\n  peers_max: 11\n  links_max: 11\n")
    environ = {"EDGECODER_NODE_PEERS_MAX": "12", "EDGECODER_NODE_LINKS_MAX": "12"}
    settings = load_settings(preset="laptop", file=file, environ=environ, overrides=["node.links_max=13"])
    node, origins = settings.node, settings.origins
    assert (node.memory_mb, node.slots, node.peers_max, node.links_max) == (16_384, 11, 12, 13)
    assert origins["node.memory_mb"] == "preset laptop"
    assert origins["node.slots"] == f"{file}:2"
    assert origins["node.peers_max"] == "EDGECODER_NODE_PEERS_MAX"
    assert origins["node.links_max"] == "--set node.links_max=13"


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
    file = write(tmp_path, text)
    assert load_settings(file=file).node == NodeConfig()
    assert load_settings(file=file, overrides=["node.slots=2"]).node.slots == 2


def mistake(**arguments: Any) -> str:
    """The message of the ConfigError that loading raises."""
    with pytest.raises(ConfigError) as caught:
        load_settings(**arguments)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "1: the file is a list; it is a mapping with preset, cluster, node"),
        ("a: 1\n\tb: 2\n", "2: a tab where YAML wants spaces; indent with spaces"),
        ("nodes:\n  slot: 1\n", "1: unknown key nodes; did you mean node?"),
        (
            "node: 3\n",
            "1: node is 3; it is a mapping with device_type, memory_mb, memory_share_pct, context_tokens, … or null",
        ),
        ("node:\n  slot: 1\n", "2: unknown key node.slot; did you mean slots?"),
        (
            "node:\n  heartbeat_interval_ms: 1\n",
            "2: unknown key node.heartbeat_interval_ms; did you mean cluster.heartbeat_interval_ms?",
        ),
        ("slots: 1\n", "1: unknown key slots; did you mean node.slots?"),
        ("node:\n  slots: 0\n", "2: node.slots is 0; it is 1 or more"),
        ("node:\n  slots: '4'\n", '2: node.slots is "4"; it is a whole number, from 1 to 256'),
        ("node:\n  slots:\n", "2: node.slots is empty; it is a whole number, from 1 to 256"),
        (
            "\nnode:\n\n  device_type: tablet\n",
            '4: node.device_type is "tablet"; it is one of phone, laptop, workstation',
        ),
        ("cluster:\n  network_id: ''\n", "2: cluster.network_id has 0 characters; it has from 1 to 32"),
        ("cluster:\n  network_id: 7\n", "2: cluster.network_id is 7; it is text in quotes"),
        ("preset: tablet\n", '1: preset is "tablet"; it is one of phone, laptop, server'),
        ("preset: labtop\n", '1: preset is "labtop"; did you mean laptop?'),
        ("preset: [phone]\n", "1: preset is a list; it is text"),
        (
            "node:\n  memory_mb: 300\n",
            "2: node: 50 % of 300 MB leaves 150 MB for a model; the smallest model needs 256 MB",
        ),
        (
            "cluster:\n  heartbeat_interval_ms: 60000\n",
            (
                "2: cluster: agent_alive_ms is 45000, heartbeat_interval_ms 60000; "
                "an agent must live longer than one interval; use three intervals"
            ),
        ),
    ],
)
def test_mistakes_in_a_file_are_located(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path, text)
    assert mistake(file=file) == f"{file}:{message}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"environ": {"EDGECODER_NODE_SLOTS": "many"}},
            'EDGECODER_NODE_SLOTS: node.slots is "many"; it is a whole number, from 1 to 256',
        ),
        (
            {"environ": {"EDGECODER_NODE_SLOT": "1"}},
            "EDGECODER_NODE_SLOT: unknown key node.slot; did you mean slots?",
        ),
        ({"environ": {"EDGECODER_NODE_": "1"}}, "EDGECODER_NODE_: a part of the key is empty; write --set a.b.c=value"),
        (
            {"environ": {"EDGECODER_PRESET": "x"}},
            'EDGECODER_PRESET: preset is "x"; it is one of phone, laptop, server',
        ),
        ({"preset": "7"}, '--preset 7: preset is "7"; it is one of phone, laptop, server'),
        ({"overrides": ["node.slots"]}, "--set node.slots: there is no `=`; write --set key=value"),
        ({"overrides": ["slots=1"]}, "--set slots=1: unknown key slots; did you mean node.slots?"),
        (
            {"overrides": ["node.slots="]},
            "--set node.slots=: node.slots is empty; it is a whole number, from 1 to 256",
        ),
        (
            {"overrides": ["node.local_cost_max=999"]},
            "--set node.local_cost_max=999: node: local_cost_max is 999, cost_max 200; it cannot be more than cost_max",
        ),
    ],
)
def test_mistakes_in_flags_and_environment_are_located(arguments: dict[str, Any], message: str) -> None:
    assert mistake(**arguments) == message


@pytest.mark.parametrize("flag", ["--set node.slots=1", "EDGECODER_NODE_SLOTS", "--preset phone"])
def test_a_file_that_is_no_mapping_is_shown_before_what_changes_it(tmp_path: Path, flag: str) -> None:
    file = write(tmp_path, "- 1\n")
    arguments: dict[str, dict[str, Any]] = {
        "--set node.slots=1": {"overrides": ["node.slots=1"]},
        "EDGECODER_NODE_SLOTS": {"environ": {"EDGECODER_NODE_SLOTS": "1"}},
        "--preset phone": {"preset": "phone"},
    }
    assert mistake(file=file, **arguments[flag]) == f"{file}:1: the file is a list; write `key: value` lines"


def test_a_wrong_relation_is_shown_where_it_was_said_last(tmp_path: Path) -> None:
    file = write(tmp_path, "node:\n  local_cost_max: 150\n")
    assert mistake(file=file, overrides=["node.cost_max=140"]) == (
        "--set node.cost_max=140: node: local_cost_max is 150, cost_max 140; it cannot be more than cost_max"
    )


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
