"""What `edgecoder fit` reads from the journals of a simulated mesh is what that mesh was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgecoder_sim.fit.figures import Basis, Figure
from edgecoder_sim.fit.life import Asked
from edgecoder_sim.fit.scenario import figures, fitted
from edgecoder_sim.fit.writing import yaml_of
from edgecoder_sim.profiles import DEVICES
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.scenario_model import Scenario
from tests.sim.crowd import MODEL, UPLINK, YAML
from tests.sim.fitting import recorded

TASKS = """
name: tasks
duration_s: 600
catalog: qwen2.5-coder
networks:
  line: {latency_ms: 8, jitter_ms: 4, up_mbit_per_s: 50, down_mbit_per_s: 200}
devices:
  slow: {like: laptop, memory_bandwidth_gb_per_s: 60, decode_efficiency_pct: 50, prefill_per_decode: 5}
radio: {links_max: 0}
agents:
  count: 6
  network: line
  devices: {slow: 1}
  installed: {qwen2.5-coder-1.5b: 1, qwen2.5-coder-0.5b: 0.5}
  active: {qwen2.5-coder-1.5b: 1}
coordinators: {count: 1, device: server, network: line}
workload:
  tasks:
    - name: chat
      source: agents
      per_node_per_hour: 60
      prompt_bytes: {mean: 2000, max: 9000}
      output_tokens: {mean: 60, max: 400}
  swaps:
    - {name: mind, source: agents, per_node_per_hour: 12}
"""


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scenario, dict[str, Any]]:
    sets = ("networks.line.latency_ms=20", "cdn.ttfb_ms=80", "config.cluster.cdn_first_byte_ms=70")
    scenario, record = recorded(tmp_path_factory.mktemp("crowd"), YAML, *sets)
    return scenario, fitted(record, "again").tree


def value(tree: Any, *keys: Any) -> Any:
    for key in keys:
        tree = tree[key]
    return tree.value if isinstance(tree, Figure) else tree


def loaded(folder: Path, tree: dict[str, Any]) -> Scenario:
    path = folder / "again.yaml"
    path.write_text(yaml_of(tree, ["a test"]), encoding="utf-8")
    return load_scenario(path)


def test_links_have_the_latency_that_they_had(crowd: tuple[Scenario, dict[str, Any]]) -> None:
    _, tree = crowd
    figure = tree["networks"]["agent"]["latency_ms"]
    assert figure.basis is Basis.MEASURED
    assert figure.value == pytest.approx((20 + 0.5) / 2, rel=0.05)  # half of the way to the coordinator
    assert figure.samples.count > 12


def test_uplinks_have_the_rate_that_they_had(crowd: tuple[Scenario, dict[str, Any]]) -> None:
    _, tree = crowd
    figure = tree["networks"]["agent"]["up_mbit_per_s"]
    assert figure.basis is Basis.MEASURED
    assert figure.value == pytest.approx(UPLINK, rel=0.03)


def test_the_origin_is_as_it_was(crowd: tuple[Scenario, dict[str, Any]]) -> None:
    scenario, tree = crowd
    assert value(tree, "cdn", "egress_mbit_per_s") == pytest.approx(UPLINK, rel=0.1)
    assert value(tree, "cdn", "per_connection_mbit_per_s") == pytest.approx(UPLINK, rel=0.1)
    assert tree["cdn"]["is_told"] is False
    assert value(tree, "config", "cluster", "cdn_first_byte_ms") == scenario.cluster_config().cdn_first_byte_ms


def test_users_did_what_they_did(crowd: tuple[Scenario, dict[str, Any]]) -> None:
    _, tree = crowd
    (pull,) = tree["workload"]["pulls"]
    assert pull["at_s"].value == pytest.approx(10, abs=1.01)  # from the begin of the first node
    assert pull["to"] == {MODEL: 1}
    assert "within_s" not in pull
    assert "share_pct" not in pull
    assert value(tree, "agents", "count") == 12
    assert value(tree, "coordinators", "count") == 1


def test_the_scenario_runs_and_comes_out_alike(crowd: tuple[Scenario, dict[str, Any]], tmp_path: Path) -> None:
    scenario, tree = crowd
    again = loaded(tmp_path, tree)
    assert again.catalog[0].sha256 == scenario.catalog[0].sha256
    assert again.catalog[0].layout.piece_count == scenario.catalog[0].layout.piece_count
    assert again.cluster_config() == scenario.cluster_config()
    _, record = recorded(tmp_path, yaml_of(tree, []))
    spans = [life.taken[-1].end for life in record.lives if life.taken]
    _, first = recorded(tmp_path, YAML, "networks.line.latency_ms=20", "cdn.ttfb_ms=80")
    before = [life.taken[-1].end for life in first.lives if life.taken]
    assert None not in spans
    assert max(each or 0 for each in spans) == pytest.approx(max(each or 0 for each in before), rel=0.1)


def test_nodes_that_die_are_crashes_at_their_time(tmp_path: Path) -> None:
    plan = '[{"kind": "crash", "at_s": 25, "nodes": ["agents"], "count": 3}]'
    _, record = recorded(tmp_path, YAML, f"faults.plan={plan}")
    tree = fitted(record, "deaths").tree
    (fault,) = tree["faults"]["plan"]
    assert (fault["kind"], fault["count"], fault["nodes"]) == ("crash", 3, ["agents"])
    assert fault["at_s"].value == pytest.approx(25, abs=3.0)  # its last word, on a clock of the first node
    assert "for_s" not in fault
    assert "silent" not in fault
    assert len(loaded(tmp_path, tree).faults.plan) == 1


def test_a_node_that_comes_back_is_away_for_as_long_as_it_was(tmp_path: Path) -> None:
    plan = '[{"kind": "crash", "at_s": 25, "for_s": 40, "nodes": ["agent-3"]}]'
    _, record = recorded(tmp_path, YAML, f"faults.plan={plan}")
    (fault,) = fitted(record, "back").tree["faults"]["plan"]
    assert fault["for_s"].value == pytest.approx(40, abs=3.0)


def test_uplinks_of_several_kinds_are_several_networks(tmp_path: Path) -> None:
    sets = ("agents.network=''", f"networks.fast={{like: lan, up_mbit_per_s: {4 * UPLINK}}}")
    _, record = recorded(tmp_path, YAML, *sets, "agents.networks={line: 2, fast: 1}")
    tree = fitted(record, "mixed").tree
    assert tree["agents"]["networks"] == {"agent-1": 8, "agent-2": 4}
    rates = [value(tree, "networks", name, "up_mbit_per_s") for name in ("agent-1", "agent-2")]
    assert rates == pytest.approx([UPLINK, 4 * UPLINK], rel=0.05)
    assert set(loaded(tmp_path, tree).agents.networks) == {"agent-1", "agent-2"}


def test_engines_and_tasks_are_as_they_were(tmp_path: Path) -> None:
    scenario, record = recorded(tmp_path, TASKS)
    tree = fitted(record, "tasks").tree
    device = tree["devices"]["agent"]
    assert value(device, "memory_bandwidth_gb_per_s") == pytest.approx(30, rel=0.05)
    assert value(device, "prefill_per_decode") == pytest.approx(5, rel=0.1)
    laptop = DEVICES["laptop"]
    rate = value(device, "load_cold_gb_per_s")
    assert laptop.load_cold_gb_per_s * 0.9 < rate < laptop.load_warm_gb_per_s * 1.1
    assert value(device, "load_base_ms") == pytest.approx(laptop.load_base_ms, rel=0.5)
    assert value(device, "slots") == 2
    assert device["battery_pct"].basis is Basis.MEASURED
    (tasks,) = tree["workload"]["tasks"]
    assert tasks["per_node_per_hour"].value == pytest.approx(60, rel=0.35)
    assert tasks["prompt_bytes"]["mean"].value == pytest.approx(2000, rel=0.4)
    assert value(tree, "agents", "installed", "qwen2.5-coder-1.5b") == 1
    assert list(tree["agents"]["active"]) == ["qwen2.5-coder-1.5b"]
    assert tree["workload"]["swaps"]
    again = loaded(tmp_path, tree)
    assert [entry.model_id for entry in again.catalog] == [entry.model_id for entry in scenario.catalog]
    jitter = value(tree, "networks", "agent", "jitter_ms")
    assert jitter == pytest.approx(4, rel=0.3)
    assert value(tree, "networks", "agent", "latency_ms") == pytest.approx(8, rel=0.1)


def test_models_that_came_later_and_names_that_nobody_knew_make_a_scenario_too(tmp_path: Path) -> None:
    """As on nodes that begin empty, whose user mistypes."""
    _, record = recorded(tmp_path, TASKS)
    for life in record.lives:
        life.installed = frozenset()
        life.active = None
        life.swaps.append(Asked(at=life.begins, model="nosuch"))
    tree = fitted(record, "late").tree
    assert "model" not in tree["workload"]["tasks"][0]
    assert {load["pull"] for load in tree["workload"]["swaps"]} == {True}
    assert "nosuch" not in {name for load in tree["workload"]["swaps"] for name in load["to"]}
    loaded(tmp_path, tree)


def test_what_is_not_in_the_journals_is_said_to_be_the_simulators(tmp_path: Path) -> None:
    _, record = recorded(tmp_path, YAML, "duration_s=5", "workload.pulls=[]")
    found = dict(figures(fitted(record, "short").tree))
    for key in ("networks.agent.down_mbit_per_s", "networks.hub.up_mbit_per_s"):
        assert found[key].basis is not Basis.MEASURED
    assert found["cdn.ttfb_ms"].basis is Basis.DEFAULT
    assert found["networks.agent.up_mbit_per_s"].basis is Basis.SET
    loaded(tmp_path, fitted(record, "short").tree)
