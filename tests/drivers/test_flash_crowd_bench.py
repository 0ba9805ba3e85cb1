"""What the benchmark of flash crowds over sockets prints is what it says."""

from __future__ import annotations

import pytest

from benchmarks.flash_crowd_sockets import FULL, QUICK, TRIES, Crowd, Measured, Series, calmest, of
from benchmarks.socket_swarm import MIB, ORIGIN, Arrival, NodeOutcome, Outcome


def measured(finish: float, late_s: float) -> Measured:
    return Measured(finish, 1.0, late_s, {"cpu_s": 10 * finish})


def test_the_bound_is_that_of_the_origins_uplink_where_all_have_the_same() -> None:
    assert FULL.fluid_s == 16.0
    assert QUICK.fluid_s == 4.0


@pytest.mark.parametrize("crowd", [FULL, QUICK])
def test_our_nodes_are_told_the_crowd_that_libtorrent_is(crowd: Crowd) -> None:
    set_up = crowd.set_up
    assert len(set_up.uplinks_bytes_per_s) == crowd.nodes
    assert {*set_up.uplinks_bytes_per_s, set_up.origin_bytes_per_s} == {2 * MIB}
    assert (set_up.file_size_bytes, set_up.piece_size_bytes) == (crowd.file_size_bytes, crowd.piece_size_bytes)


@pytest.mark.parametrize(
    ("late_ms", "stands", "repeated"),
    [([5.0], 5.0, 0), ([50.0, 19.0], 19.0, 1), ([50.0, 21.0, 30.0], 21.0, TRIES - 1)],
)
def test_a_run_that_was_disturbed_is_repeated_and_the_calmest_stands(
    late_ms: list[float], stands: float, repeated: int
) -> None:
    coming = iter(late_ms)
    run, again = calmest(lambda: measured(1.0, next(coming) / 1000))
    assert (run.late_s * 1000, again) == (stands, repeated)
    assert next(coming, None) is None


def test_a_series_tells_its_medians_and_what_was_disturbed() -> None:
    series = Series([measured(1.3, 0.001), measured(1.1, 0.05), measured(1.2, 0.002)], [0, 2, 1])
    assert series.median("finish_over_fluid") == 1.2
    shown = series.shown()
    assert shown["finish_over_fluid"] == [1.1, 1.2, 1.3]
    assert shown["cpu_s"] == [11, 12, 13]
    assert (shown["repeated_runs"], shown["disturbed_runs"]) == (3, 1)


def test_a_run_is_read_from_what_the_nodes_tell() -> None:
    nodes = (
        NodeOutcome(0, 3.0, 3.5, (Arrival(1.0, 0, ORIGIN, 50), Arrival(3.0, 1, 1, 50)), 7),
        NodeOutcome(1, 4.0, 4.5, (Arrival(2.0, 1, ORIGIN, 50), Arrival(4.0, 0, 0, 50)), 0),
    )
    run = of(Outcome(nodes, 110, 100, (0.001, 0.02, 0.003), (1.0, 2.0, 3.0)), bound_s=2.0)
    assert (run.finish_over_fluid, run.copies, run.late_s) == (2.0, 1.1, 0.02)
    assert run.more == {"t50_s": 2.0, "last_installed_s": 4.5, "wasted_bytes": 7, "cpu_s": 6.0}
