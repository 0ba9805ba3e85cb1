"""Starts that take long, because a disk is slow or fails: what users, peers and checkers see of them. The explorer
found each of these, and the reducer left what it takes."""

from __future__ import annotations

import pytest

from edgecoder_sim.faults.explore import run_seed
from edgecoder_sim.scenario import load_scenario

PLANS = {
    "a user who asks meanwhile is told": (
        42,
        "{kind: crash, name: crash-1, at_s: 15.146, for_s: 12.827, nodes: [phone-2]}",
        "{kind: failing_writes, name: failing_writes-3, at_s: 24.057, for_s: 20.442, nodes: [phone-2], share_pct: 100}",
    ),
    "a life that ends in it leaves its epoch to the next": (
        48,
        "{kind: crash, name: c, at_s: 24.2, for_s: 22.225, nodes: [coordinator-1], disk: old_copy, copied_at_s: 9}",
        "{kind: slow_disk, name: slow_disk-7, at_s: 36.263, for_s: 19.032, nodes: [coordinator-1], delay_ms: 3000}",
        "{kind: crash, name: crash-9, at_s: 46.768, for_s: 0.096, nodes: [coordinator-1]}",
    ),
    "a task is routed by all that came meanwhile": (
        73,
        "{kind: failing_writes, name: failing_writes-2, at_s: 28.537, for_s: 19.324, nodes: [phone-0], share_pct: 100}",
        "{kind: crash, name: crash-3, at_s: 29.38, for_s: 6.684, nodes: [agent-1, phone-0]}",
    ),
    "a link that came and went meanwhile is not used": (
        233,
        "{kind: crash, name: crash-2, at_s: 22.97, for_s: 16.409, nodes: [phone-3]}",
        "{kind: failing_writes, name: failing_writes-3, at_s: 38.86, for_s: 22.077, nodes: [phone-3], share_pct: 100}",
        "{kind: crash, name: crash-6, at_s: 59.164, for_s: 0.094, nodes: [agent-0]}",
    ),
    "nothing is said over a link that is gone": (
        131,
        "{kind: crash, name: crash-7, at_s: 47.345, for_s: 15.621, nodes: [phone-1], disk: lost}",
        "{kind: slow_disk, name: slow_disk-8, at_s: 47.466, for_s: 17.925, nodes: [phone-1], delay_ms: 3000}",
        "{kind: crash, name: crash-13, at_s: 64.763, for_s: 0.07, nodes: [coordinator-0], disk: lost}",
    ),
    "an operation of an earlier life with the same id is another one": (
        129,
        (
            "{kind: crash, name: a, at_s: 13.288, for_s: 27.975, nodes: [agent-0, agent-1, phone-0, phone-3], "
            "disk: old_copy, copied_at_s: 11.336}"
        ),
        "{kind: clock_jump, name: clock_jump-1, at_s: 13.288, nodes: [agent-0], by_s: -3600}",
        "{kind: crash, name: crash-4, at_s: 23.442, for_s: 5.55, nodes: [agent-0]}",
        "{kind: crash, name: b, at_s: 39.307, for_s: 4.883, nodes: [agent-0, phone-2], disk: old_copy, copied_at_s: 8}",
    ),
}


BUSY = ("workload.removals[0].per_node_per_hour=300", "workload.swaps[1].per_node_per_hour=200")
"""What some of them need beside."""


@pytest.mark.parametrize("busy", [(), BUSY], ids=["usual", "busy"])
@pytest.mark.parametrize("name", PLANS)
def test_a_long_start(name: str, busy: tuple[str, ...]) -> None:
    rng_seed, *plan = PLANS[name]
    sets = ["faults.random=null", f"faults.plan=[{', '.join(map(str, plan))}]", *busy]
    assert run_seed(load_scenario("random_faults", sets, int(rng_seed)), "").violation is None
