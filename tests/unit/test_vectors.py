"""The conformance vectors in `tests/vectors`: every row, and every key that it lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgecoder.config import DeviceType, NodeConfig
from edgecoder.coordinator.ledger import micro_credits
from edgecoder.core.ids import Role
from edgecoder.core.rng import Stream
from edgecoder.mesh.router import UNKNOWN_QUALITY, Candidate, CostRouter, PeerStats, cost, signal_penalty
from edgecoder.models.catalog import param_size_of
from edgecoder.seeding.credits import CreditBook, SeedRule, shown_credits
from edgecoder.seeding.receipts import quality_milli
from edgecoder.wire.messages import Heartbeat, Receipt, Summary, load_from_wire
from tests.harness import Cluster
from tests.strategies import full_heartbeat

VECTORS = Path(__file__).parents[1] / "vectors"


def vectors(name: str) -> dict[str, Any]:
    """One file of vectors."""
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


ROUTING = vectors("routing_cost")
SUMMARIES = vectors("capability_summary")
PARAM_SIZES = vectors("param_size")
CREDITS = vectors("seed_credits")


def candidate(row: dict[str, Any], quality: int) -> Candidate:
    """The node that a row of `routing_cost` describes."""
    return Candidate(
        b"n" * 32,
        row["paramSize"],
        load_from_wire(row["currentLoad"]),
        DeviceType(row["deviceType"]),
        row["batteryPct"],
        row["rssi"],
        0.0,
        quality,
    )


def quality_after(rssi_dbm: int) -> int:
    """The quality of a peer whose signal was measured once."""
    stats = PeerStats()
    stats.note_rssi(rssi_dbm)
    return stats.quality()


def is_eligible(chosen: Candidate) -> bool:
    """Whether the router may take it."""
    return CostRouter(NodeConfig(), Stream(1, b"", "routing")).choose([chosen]).node is not None


@pytest.mark.parametrize("row", ROUTING["rows"])
def test_routing_cost(row: dict[str, Any]) -> None:
    known = {"paramSize", "currentLoad", "deviceType", "batteryPct", "rssi", "note", "eligible_after_one_sample"}
    quality = quality_after(row["rssi"])
    got: dict[str, float] = {
        "cost_quality_100": cost(candidate(row, 100)),
        "quality_after_one_sample": quality,
        "cost_after_one_sample": cost(candidate(row, quality)),
        "cost_unknown_peer": cost(candidate(row, UNKNOWN_QUALITY)),
    }
    assert row.keys() <= known | got.keys()
    for key in got.keys() & row.keys():
        assert got[key] == pytest.approx(row[key], abs=1e-9), key
    assert is_eligible(candidate(row, quality)) is row["eligible_after_one_sample"]


def test_an_unknown_peer_has_the_quality_that_the_vectors_assume() -> None:
    assert PeerStats().quality() == UNKNOWN_QUALITY


@pytest.mark.parametrize(("rssi", "penalty"), ROUTING["signal_penalty"].items())
def test_signal_penalty(rssi: str, penalty: float) -> None:
    assert signal_penalty(int(rssi)) == penalty


@pytest.mark.parametrize("row", ROUTING["reliability_penalty"])
def test_reliability_penalty(row: dict[str, int]) -> None:
    stats = PeerStats()
    for _ in range(row["ok"]):
        stats.note_success(100)
    for _ in range(row["fail"]):
        stats.note_failure(0, NodeConfig())
    base = candidate(ROUTING["rows"][0], 100)
    tried = Candidate(
        base.node, base.param_size, base.load, base.device_type, base.battery_pct, base.rssi_dbm, stats.fail_rate, 100
    )
    assert cost(tried) - cost(base) == pytest.approx(row["penalty"], abs=1e-9)


@pytest.mark.parametrize(("rssi", "quality"), ROUTING["quality_single_rssi"].items())
def test_quality_after_one_signal_measurement(rssi: str, quality: int) -> None:
    assert quality_after(int(rssi)) == quality


def test_routing_cost_has_no_other_key() -> None:
    assert ROUTING.keys() == {"about", "rows", "signal_penalty", "reliability_penalty", "quality_single_rssi"}


@pytest.mark.parametrize("case", SUMMARIES["cases"])
def test_capability_summary(case: dict[str, Any], both: Cluster) -> None:
    hub = both.add("hub", Role.COORDINATOR)
    other = both.puppet("other", Role.COORDINATOR)
    for number, agent in enumerate(case["agents"]):
        puppet = both.puppet(f"agent {number}", Role.AGENT)
        link = both.link(puppet, hub)
        puppet.say(
            link,
            full_heartbeat(agent["activeModel"], agent["activeModelParamSize"], load_from_wire(agent["currentLoad"])),
        )
    both.drive()
    assert len(both.sent(Heartbeat)) == len(case["agents"])
    both.link(other, hub)
    both.drive()
    summary = other.last(Summary)
    assert case.keys() <= {"agents", "agentCount", "modelAvailability", "note"}
    assert summary.agent_count == case["agentCount"]
    assert summary.model_availability.keys() == case["modelAvailability"].keys()
    for model, expected in case["modelAvailability"].items():
        row = summary.model_availability[model]
        assert row.agent_count == expected["agentCount"]
        assert row.total_param_capacity == pytest.approx(expected["totalParamCapacity"], abs=1e-9)
        assert row.avg_load == pytest.approx(expected["avgLoad"], abs=1e-9)


@pytest.mark.parametrize("row", PARAM_SIZES["rows"])
def test_param_size(row: dict[str, Any]) -> None:
    assert row.keys() == {"name", "details", "paramSize"}
    size = param_size_of(row["name"], row["details"])
    assert size == (None if row["paramSize"] is None else pytest.approx(row["paramSize"], abs=1e-9))


@pytest.mark.parametrize("row", CREDITS["rows"])
def test_seed_credits(row: dict[str, Any]) -> None:
    assert row.keys() == {"bytes", "seeders", "credits"}
    book = CreditBook(SeedRule())
    for part in (row["bytes"] // 3, row["bytes"] - row["bytes"] // 3):
        book.add(b"n" * 32, part, row["seeders"])
    assert float(shown_credits(book.micro_credits(b"n" * 32))) == row["credits"]


@pytest.mark.parametrize(("param_size", "quality"), CREDITS["quality_multiplier"].items())
def test_quality_multiplier(param_size: str, quality: float) -> None:
    assert quality_milli(float(param_size)) == quality * 1000


@pytest.mark.parametrize("row", CREDITS["compute"])
def test_compute_credits(row: dict[str, Any]) -> None:
    assert row.keys() == {"cpuSeconds", "paramSize", "credits"}
    receipt = Receipt(
        payer=b"p" * 32,
        server=b"s" * 32,
        task_id=b"t" * 16,
        tokens=1,
        cpu_ms=int(row["cpuSeconds"] * 1000),
        quality_milli=quality_milli(row["paramSize"]),
        signature=b"x" * 64,
    )
    assert float(shown_credits(micro_credits(receipt))) == row["credits"]


def test_seed_credits_has_no_other_key() -> None:
    assert CREDITS.keys() == {"about", "rows", "quality_multiplier", "compute"}
