"""The harness of swarms over real sockets: what it measures is what came, and what it promises of deaths holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from benchmarks.socket_nodes import folder_of
from benchmarks.socket_origin import Release
from benchmarks.socket_swarm import MIB, ORIGIN, Arrival, NodeOutcome, Outcome, SetUp, run
from edgecoder.journal.replay import replay

KIB = 1024
SMALL = SetUp(
    uplinks_bytes_per_s=(MIB, MIB, MIB // 2),
    file_size_bytes=MIB,
    piece_size_bytes=64 * KIB,
    origin_bytes_per_s=MIB,
    processes=2,
    journals=True,
)


def node(number: int, *arrivals: Arrival, finish_s: float | None = None) -> NodeOutcome:
    return NodeOutcome(number, finish_s, finish_s, arrivals, 0)


def test_times_and_shares_are_those_of_the_nodes_that_finished() -> None:
    first = node(0, Arrival(1.0, 0, ORIGIN, 60), Arrival(4.0, 1, 1, 40), finish_s=4.0)
    second = node(1, Arrival(2.0, 1, ORIGIN, 40), Arrival(3.0, 0, 0, 60), finish_s=3.0)
    dead = node(2, Arrival(0.5, 0, ORIGIN, 60))
    outcome = Outcome((first, second, dead), 150, 100, (0.0,), (0.0,))
    assert outcome.last_finish_s == 4.0
    assert outcome.origin_copies == 1.5
    assert [outcome.reached_s(share) for share in (0.1, 0.5, 0.9, 1.0)] == [1.0, 2.0, 4.0, 4.0]
    assert (first.origin_bytes, first.peer_bytes) == (60, 40)


def test_a_release_comes_to_all_nodes_and_every_byte_is_told(tmp_path: Path) -> None:
    outcome = run(SMALL, tmp_path)
    data = Release(SMALL).data
    digest = hashlib.sha256(data).hexdigest()
    assert [each.number for each in outcome.nodes] == [0, 1, 2]
    for each in outcome.nodes:
        assert (folder_of(tmp_path, each.number) / "blobs" / f"sha256-{digest}").read_bytes() == data
        assert sorted(arrival.piece for arrival in each.arrivals) == list(range(16))
        assert each.origin_bytes + each.peer_bytes == MIB
        assert each.finish_s is not None
        assert each.installed_s is not None
        assert 0 < each.finish_s <= each.installed_s
    leaves_bytes = MIB // 512
    assert outcome.origin_bytes >= sum(each.origin_bytes for each in outcome.nodes) + leaves_bytes
    assert 0 < outcome.reached_s(0.1) <= outcome.reached_s(0.9) <= outcome.last_finish_s
    assert sum(each.peer_bytes for each in outcome.nodes) > 0
    assert len(outcome.late_p99_s) == len(outcome.cpu_s) == 1 + SMALL.processes
    for kept in (*(folder_of(tmp_path, number) for number in range(3)), tmp_path / "coordinator"):
        assert [life.difference for life in replay(kept / "journal")] == [None]


def test_who_dies_does_not_finish_and_the_others_do(tmp_path: Path) -> None:
    outcome = run(
        SetUp(
            uplinks_bytes_per_s=(MIB,) * 3,
            file_size_bytes=2 * MIB,
            piece_size_bytes=64 * KIB,
            origin_bytes_per_s=MIB // 2,
            deaths_s={1: 0.7},
        ),
        tmp_path,
    )
    assert [each.finish_s is not None for each in outcome.nodes] == [True, False, True]
    assert outcome.nodes[1].installed_s is None
    assert len(outcome.nodes[1].arrivals) < 32


def test_a_swarm_that_cannot_end_in_time_says_so(tmp_path: Path) -> None:
    set_up = SetUp(uplinks_bytes_per_s=(MIB,), file_size_bytes=4 * MIB, origin_bytes_per_s=MIB // 8, limit_s=0.2)
    with pytest.raises(RuntimeError, match="TimeoutError"):
        run(set_up, tmp_path)
