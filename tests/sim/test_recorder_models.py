"""What the recorder says of loads that failed, and of nodes that are left without a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecoder.errors import Reason
from edgecoder.trace import NodeReady, SwapEnded
from tests.sim import made_runs as made
from tests.sim.made_runs import AGENT, LARGE, PEER, PHONE, SECOND, SMALL, rows


def test_what_a_failed_load_leaves_behind_is_told_apart() -> None:
    recorder = made.recorder()
    for node, requests, active in ((PHONE, 1, SMALL), (PEER, 1, None), (AGENT, 0, None)):
        made.phases(recorder, node, 1, {"announcing": 0, "loading": SECOND, "failed": 2 * SECOND})
        recorder.record(2 * SECOND, node, SwapEnded(1, LARGE, active, Reason.LOAD_FAILED, requests, "user"))
    metrics = recorder.close(8 * SECOND)
    names = ("swaps_failed", "swaps_failed_kept", "swaps_failed_empty", "boot_loads", "boot_loads_failed")
    assert [metrics[name] for name in names] == [2, 1, 1, 1, 1]


def test_nodes_without_a_model_are_counted_from_the_failed_load_to_the_next(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    made.boot(recorder)
    made.capabilities(recorder, 2 * SECOND, PHONE, 2, None, loading=True)
    made.capabilities(recorder, 3 * SECOND, PHONE, 3, None, loading=False)
    recorder.sample(10 * SECOND)
    made.phases(recorder, PHONE, 2, {"announcing": 18 * SECOND})
    recorder.sample(20 * SECOND)
    made.capabilities(recorder, 21 * SECOND, AGENT, 2, None, loading=False)
    metrics = recorder.close(30 * SECOND)
    counts = {row["at_s"]: row["value"] for row in rows(tmp_path, "timeline") if row["metric"] == "nodes_without_model"}
    assert counts == {10.0: 1.0, 20.0: 0.0, 30.0: 1.0}
    assert (metrics["no_model_nodes"], metrics["no_model_longest_s"]) == (2, 15.0)
    assert metrics["no_model_share"] == pytest.approx((15 + 9) / (3 * 30))


def test_a_new_life_is_not_without_a_model_until_it_says_so() -> None:
    recorder = made.recorder()
    made.boot(recorder)
    made.capabilities(recorder, 2 * SECOND, PHONE, 2, None, loading=False)
    recorder.record(5 * SECOND, PHONE, NodeReady(epoch=2))
    assert recorder.close(30 * SECOND)["no_model_longest_s"] == 3.0
