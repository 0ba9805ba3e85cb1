"""Closed forms of distribution: the vectors, by hand, and what has to hold between them."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder_sim.bounds.closed import Peer, cdn_bytes_min, client_server_s, fluid_s, offload_max, pieces_s

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "closed_forms.json").read_text(encoding="utf-8")
)
MIB = 1 << 20

capacities = st.floats(1e3, 1e9)
sizes = st.integers(1, 10**10)
peers = st.builds(Peer, st.one_of(st.just(0.0), capacities), st.one_of(st.just(inf), capacities))
swarms = st.lists(peers, min_size=1, max_size=30)


@pytest.mark.parametrize("row", VECTORS["distribution"])
def test_vectors(row: dict[str, Any]) -> None:
    known = {"receivers", "file_bytes", "uplink_bytes_per_s", "piece_bytes", "fluid_s", "pieces_s", "cdn_alone_s"}
    assert row.keys() == known
    receivers, file_bytes, up = row["receivers"], row["file_bytes"], row["uplink_bytes_per_s"]
    assert fluid_s(file_bytes, up, [Peer(up)] * receivers) == row["fluid_s"]
    assert pieces_s(file_bytes, row["piece_bytes"], receivers, up) == row["pieces_s"]
    assert client_server_s(file_bytes, up, receivers) == row["cdn_alone_s"]


@pytest.mark.parametrize(
    ("source", "receivers", "helpers", "expected_s"),
    [
        (100, [Peer(100)] * 3, 0, 10),  # the source's one copy
        (1000, [Peer(1000)] * 3 + [Peer(1000, 50)], 0, 20),  # the slowest downlink
        (100, [Peer(0)] * 4, 0, 40),  # nobody but the source uploads
        (100, [Peer(100)] * 2 + [Peer(0)] * 7, 0, 30),  # free riders: 9 × 1000 / 300
        (100, [Peer(0)] * 4, 100, 20),  # others forward
        (inf, [Peer(0)] * 4, 0, 0),
        (0, [Peer(100)], 0, inf),
        (100, [], 0, 0),
    ],
)
def test_fluid_bound_by_hand(source: float, receivers: list[Peer], helpers: float, expected_s: float) -> None:
    assert fluid_s(1000, source, receivers, helpers) == expected_s


@pytest.mark.parametrize(
    ("receivers", "expected_s"),
    [(0, 0), (1, 4), (2, 5), (3, 5), (4, 6), (7, 6), (8, 7), (1023, 13), (1024, 14)],
)
def test_piece_bound_doubles_holders_after_the_source_has_sent_all(receivers: int, expected_s: float) -> None:
    assert pieces_s(400, 100, receivers, 100) == expected_s


def test_a_short_last_piece_may_leave_last() -> None:
    # 100, 100, 10 bytes at 100 B/s to two: the second whole piece has left at 2 s, and is at both at 3 s
    assert pieces_s(210, 100, 2, 100) == 3.0
    assert pieces_s(210, 100, 1, 100) == 2.1
    assert pieces_s(10, 100, 4, 100) == pytest.approx(0.3)


def test_the_cdn_sends_what_peers_cannot() -> None:
    assert cdn_bytes_min(1000, 4, 100, 10) == 3000
    assert cdn_bytes_min(1000, 4, 100, 40) == 1000
    assert cdn_bytes_min(1000, 4, 100, 40, unheld_bytes=0) == 0
    assert cdn_bytes_min(1000, 4, 100, 35, unheld_bytes=200) == 500
    assert cdn_bytes_min(1000, 4, 0, inf) == 4000
    assert cdn_bytes_min(1000, 0, 100, 10) == 0
    assert offload_max(1000, 4, 100) == 0.75
    assert offload_max(1000, 4, 100, 20) == 0.5
    assert offload_max(1000, 4, 100, unheld_bytes=0) == 1
    assert offload_max(1000, 0, 100) == 0


@given(sizes, capacities, swarms, capacities)
def test_the_fluid_bound_falls_with_capacity_and_grows_with_demand(
    file_bytes: int, source: float, receivers: list[Peer], more: float
) -> None:
    bound_s = fluid_s(file_bytes, source, receivers)
    assert fluid_s(file_bytes, source + more, receivers) <= bound_s
    assert fluid_s(file_bytes, source, receivers, more) <= bound_s
    assert fluid_s(file_bytes + 1, source, receivers) >= bound_s
    assert fluid_s(file_bytes, source, [*receivers, Peer(0, more)]) >= bound_s
    faster = [Peer(peer.up_bytes_per_s + more, peer.down_bytes_per_s + more) for peer in receivers]
    assert fluid_s(file_bytes, source, faster) <= bound_s


@given(sizes, capacities, swarms)
def test_with_peers_is_never_slower_than_the_source_alone(
    file_bytes: int, source: float, receivers: list[Peer]
) -> None:
    slowest = min(peer.down_bytes_per_s for peer in receivers)
    alone_s = client_server_s(file_bytes, source, len(receivers), slowest)
    assert fluid_s(file_bytes, source, receivers) <= alone_s
    mute = [Peer(0, peer.down_bytes_per_s) for peer in receivers]
    assert fluid_s(file_bytes, source, mute) == alone_s


@given(sizes, st.integers(1, 1 << 24), st.integers(1, 10_000), capacities)
def test_the_piece_bound_lies_between_the_fluid_bound_and_its_formula(
    file_bytes: int, piece_bytes: int, receivers: int, up: float
) -> None:
    bound_s = pieces_s(file_bytes, piece_bytes, receivers, up)
    assert bound_s * (1 + 1e-9) >= fluid_s(file_bytes, up, [Peer(up)] * receivers)
    pieces, doublings = -(-file_bytes // piece_bytes), receivers.bit_length() - 1
    formula_s = (pieces + doublings) * file_bytes / (pieces * up)
    if file_bytes % piece_bytes == 0:
        assert bound_s == pytest.approx(formula_s)
    assert bound_s <= (file_bytes + doublings * min(piece_bytes, file_bytes)) / up * (1 + 1e-9)
    assert pieces_s(file_bytes, piece_bytes, receivers + 1, up) >= bound_s


@given(sizes, capacities, swarms, st.floats(0, 1e6), st.floats(0, 1))
def test_fewer_cdn_bytes_with_more_time_and_more_peers(
    file_bytes: int, source: float, receivers: list[Peer], within_s: float, held: float
) -> None:
    count, up = len(receivers), sum(peer.up_bytes_per_s for peer in receivers)
    least = cdn_bytes_min(file_bytes, count, up, within_s)
    assert file_bytes <= least <= count * file_bytes
    assert cdn_bytes_min(file_bytes, count, up, within_s + 1) <= least
    assert cdn_bytes_min(file_bytes, count, up, within_s, held * file_bytes) <= least
    assert cdn_bytes_min(file_bytes, count + 1, up, within_s) >= least
    bound_s = fluid_s(file_bytes, source, receivers)
    assert cdn_bytes_min(file_bytes, count, up, bound_s) <= source * bound_s * (1 + 1e-9)
    assert offload_max(file_bytes, count, up, within_s) <= 1 - 1 / count + 1e-12


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_a_negative_figure_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        fluid_s(1000, bad, [Peer(1)])
    with pytest.raises(ValueError, match="0 or more"):
        fluid_s(1000, 1, [Peer(bad)])
    with pytest.raises(ValueError, match="0 or more"):
        client_server_s(1000, 1, 1, bad)
    with pytest.raises(ValueError, match="0 or more"):
        cdn_bytes_min(1000, 1, 1, bad)
    with pytest.raises(ValueError, match="1 or more"):
        pieces_s(1000, 0, 1, 1)
