"""What the benchmark of the swarm prints is what it says."""

from __future__ import annotations

import libtorrent
import pytest

from benchmarks.sim_vs_libtorrent import (
    LIBTORRENT_NAMES,
    UPLOAD_BYTES_PER_S,
    Measured,
    created_us,
    errors,
    simulate,
    summary,
    uplink_use,
)
from edgecoder_sim.swarm.settings import DEFAULT, Torrent

MIB = 1 << 20


def run(finish_s: float, t50_s: float, copies: float) -> Measured:
    return Measured(finish_s, t50_s, copies, wasted_share=0, uplink_use=1)


def test_errors_are_those_of_the_means() -> None:
    real = [run(10, 4, 2), run(30, 6, 2)]
    assert errors([run(22, 5, 1)], real) == {"last_finish_error": 0.1, "t50_error": 0.0, "copies_error": 0.5}


def test_a_summary_has_the_mean_the_least_and_the_most() -> None:
    figures = summary([run(10, 4, 2), run(30, 6, 2)], fluid_s=10)
    assert figures["last_finish_s"] == [20, 10, 30]
    assert figures["finish_over_fluid"] == [2, 1, 3]


def test_uplinks_that_send_all_the_time_are_in_full_use() -> None:
    assert uplink_use(3 * UPLOAD_BYTES_PER_S * 5, peers=2, last_finish_s=5) == 1


def test_both_sides_create_their_sessions_at_the_same_times() -> None:
    assert created_us(20, 1) == created_us(20, 1) != created_us(20, 2)
    assert all(0 <= at_us < 1_000_000 for at_us in created_us(20, 3))


def test_a_simulated_run_is_measured() -> None:
    measured = simulate(Torrent(MIB, MIB // 4), 2, DEFAULT, 1)
    assert measured.last_finish_s > measured.t50_s > 0
    assert 1 <= measured.copies <= 2
    assert 0 < measured.uplink_use < 1


@pytest.mark.parametrize("name", DEFAULT.__dataclass_fields__)
def test_our_defaults_are_those_of_the_libtorrent_that_is_installed(name: str) -> None:
    defaults: dict[str, object] = {**libtorrent.default_settings()}
    assert getattr(DEFAULT, name) == defaults[LIBTORRENT_NAMES.get(name, name)]
