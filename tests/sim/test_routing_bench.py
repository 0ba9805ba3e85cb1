"""The bench of the routers agrees with closed forms, and the routers of the core with what it is there to show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.routing import WARM_S, closed_form, measure


@pytest.mark.parametrize(
    ("policy", "load", "measured_s"),
    [
        ("random", 0.5, 1_000),
        ("random", 0.7, 1_500),
        ("two", 0.5, 600),
        ("two", 0.7, 600),
        ("two", 0.9, 600),
        ("argmin", 0.7, 600),
        ("argmin", 0.9, 600),
    ],
)
def test_choices_without_a_router_have_their_closed_form(policy: str, load: float, measured_s: int) -> None:
    assert measure(policy, load, WARM_S, measured_s) == pytest.approx(closed_form(policy, load), rel=0.03)


def test_the_closed_forms_are_the_known_ones() -> None:
    vectors = json.loads((Path(__file__).parents[1] / "vectors" / "closed_forms.json").read_text(encoding="utf-8"))
    for load, services in vectors["two_choices"].items():
        assert round(closed_form("two", float(load)), 3) == services
    assert closed_form("random", 0.5) == 2.0
    assert closed_form("random", 0.7) == pytest.approx(10 / 3)
    assert closed_form("argmin", 0.7) == 2101.0


def test_probing_three_is_better_than_two_fresh_choices_and_cost_herds() -> None:
    probe, cost = measure("probe", 0.7, 30, 60), measure("cost", 0.7, 30, 60)
    assert probe < 1.5 < closed_form("two", 0.7)
    assert cost > 5 * probe, "everybody goes where the stale board says that it is quiet"
