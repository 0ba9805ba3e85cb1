"""Parameters: their ranges, their relations, and the digest that nodes compare."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgecoder.config import PRESETS, ClusterConfig, NodeConfig
from edgecoder.errors import ConfigError


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_valid(name: str) -> None:
    preset = PRESETS[name]()
    preset.validate()
    assert msgspec.convert(msgspec.to_builtins(preset), NodeConfig) == preset


def test_the_cluster_defaults_are_the_protocols() -> None:
    config = ClusterConfig()
    config.validate()
    assert config.summary_interval_ms == 60_000  # seed
    assert config.agent_alive_ms == config.missed_heartbeats_max * config.heartbeat_interval_ms == 45_000


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"local_cost_max": 201}, "local_cost_max"),
        ({"relay_answer_ms": 5_000}, "relay_answer_ms"),
        ({"memory_mb": 511}, "memory_mb"),
    ],
)
def test_relations_of_a_node(fields: dict[str, Any], at_fault: str) -> None:
    with pytest.raises(ConfigError) as error:
        NodeConfig(**fields).validate()
    assert error.value.path == at_fault
    assert error.value.hint


def test_relations_of_a_cluster() -> None:
    with pytest.raises(ConfigError, match="agent_alive_ms is 15000"):
        ClusterConfig(agent_alive_ms=15_000).validate()


@pytest.mark.parametrize("fields", [{"slots": 0}, {"slots": 257}, {"drain_ms": 0}, {"memory_share_pct": 101}, {"x": 1}])
def test_ranges_and_unknown_fields(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(fields, NodeConfig)


def test_the_digest_differs_when_any_value_does() -> None:
    base = ClusterConfig()
    changed = [
        msgspec.structs.replace(base, **{field.name: "other" if field.name == "network_id" else 77})
        for field in msgspec.structs.fields(ClusterConfig)
    ]
    digests = {config.digest() for config in [base, *changed]}
    assert len(digests) == len(changed) + 1
    assert {len(digest) for digest in digests} == {8}
    assert base.digest() == ClusterConfig().digest()


def test_the_digest_is_the_same_in_every_process() -> None:
    assert ClusterConfig().digest().hex() == "db5a2b293264fbce"
