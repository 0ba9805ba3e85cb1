"""The tables and the figures of what comes piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.errors import Reason
from edgecoder.trace import LifeEnded, PieceKept, PieceLost, PieceSought, Record, TransferBegan, TransferEnded
from edgecoder_sim.recording.shares import gini
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.scenario_model import RECORDED_NODES_MAX
from tests.sim import made_runs as made
from tests.sim.made_runs import AGENT, IDS, LARGE, PEER, PHONE, SECOND, SMALL, rows

HALF = 65_536
"""Bytes of a piece: the large file has two of them, and the origin sends one a second."""


def told(directory: Path, *steps: tuple[float, int, Record], **options: Any) -> dict[str, float]:
    """The figures of these records."""
    recorder = made.recorder(directory, **options)
    for at_s, node, record in steps:
        recorder.record(round(at_s * SECOND), node, record)
    recorder.sample(30 * SECOND)
    return recorder.close(made.MINUTE)


def fetched(node: int, *pieces: tuple[int, int | None], began_s: float = 1.0, every_s: float = 1.0) -> list[Any]:
    """A node gets pieces of the large file from nodes (None: the CDN), one each `every_s`."""
    steps: list[Any] = [(began_s, node, TransferBegan(LARGE, 0, 2))]
    for number, (piece, sender) in enumerate(pieces, start=1):
        peer = None if sender is None else IDS[sender]
        source = "cdn" if sender is None else "mesh"
        steps.append((began_s + number * every_s, node, PieceKept(LARGE, piece, source, peer, HALF)))
    return [*steps, (began_s + len(pieces) * every_s, node, TransferEnded(LARGE, None))]


def test_a_minute_of_everything_fills_the_tables(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    made.distribute(recorder)
    recorder.sample(28_500_000)
    recorder.close(made.MINUTE)
    assert [tuple(row.values()) for row in rows(tmp_path, "transfers")] == [
        (AGENT, LARGE, 25.0, 29.0, None, 0, 0, 0, 65_536, 65_536, 16_384, 1)
    ]
    assert [tuple(row.values()) for row in rows(tmp_path, "uploads")] == [
        (PEER, AGENT, LARGE, "mesh", 0, 16_384, 26.0, 26.0),
        (None, AGENT, LARGE, "cdn", 1, 65_536, 28.0, 28.0),
        (PHONE, AGENT, LARGE, "mesh", 1, 49_152, 29.0, 29.0),
    ]
    assert [tuple(row.values()) for row in rows(tmp_path, "sent")] == [
        (28.5, PEER, "mesh", 16_384),
        (28.5, None, "cdn", 65_536),
        (28.5, PHONE, "mesh", 49_152),
    ]
    assert [tuple(row.values()) for row in rows(tmp_path, "losses")] == [
        (LARGE, "mesh", "piece_corrupt", 1, 16_384, 16_384)
    ]
    pieces = [tuple(row.values()) for row in rows(tmp_path, "pieces")]
    assert [(row[0], row[3], *row[5:]) for row in pieces] == [
        (25.0, 0, "sought", "cdn", None, "alone", 0, 0),
        (25.0, 1, "sought", "mesh", PEER, "granted", 0, 0),
        (26.0, 1, "lost", "mesh", PEER, "piece_corrupt", 16_384, 16_384),
        (27.0, 1, "sought", "mesh", PHONE, "granted", 0, 0),
        (28.0, 0, "kept", "cdn", None, None, 65_536, 0),
        (29.0, 1, "kept", "mesh", PHONE, None, 49_152, 0),
    ]
    assert [tuple(row.values()) for row in rows(tmp_path, "files")] == [
        (SMALL, 65_536, 65_536, 1, 3, 3 * 16_384),
        (LARGE, 131_072, 65_536, 2, 0, 0),
    ]


def test_what_comes_twice_is_waste_and_a_loss(tmp_path: Path) -> None:
    twice = PieceKept(LARGE, 0, "cdn", None, HALF, is_new=False)
    figures = told(tmp_path, *fetched(AGENT, (0, PHONE))[:2], (3, AGENT, twice))
    assert figures["transfer_wasted_bytes"] == HALF
    assert [tuple(row.values()) for row in rows(tmp_path, "losses")] == [(LARGE, "cdn", "duplicate", 1, 0, HALF)]
    event = rows(tmp_path, "pieces")[-1]
    assert (event["event"], event["bytes"], event["wasted_bytes"]) == ("twice", 0, HALF)


def test_no_row_a_piece_unless_it_is_asked_for(tmp_path: Path) -> None:
    sought = PieceSought(LARGE, 0, 1, "cdn", None, "alone")
    told(tmp_path, *fetched(AGENT, (0, None), (1, None)), (3, AGENT, sought), keeps_pieces=False)
    assert rows(tmp_path, "pieces") == []
    assert len(rows(tmp_path, "uploads")) == 1


def test_shares_and_copies_are_those_of_the_tables(tmp_path: Path) -> None:
    first, second = fetched(PHONE, (0, None), (1, None)), fetched(AGENT, (0, PHONE), (1, PHONE), began_s=2.0)
    figures = told(tmp_path, *sorted([*first, *second], key=lambda step: step[0]))
    assert (figures["origin_copies"], figures["offload_share"], figures["offload_bound_share"]) == (1.0, 0.5, 0.5)
    assert figures["upload_gini"] == 0.5  # one of two gave all
    # two nodes with downlinks of a piece a second, an origin of as much, five uplinks of a quarter: two s is the bound
    assert figures["finish_over_bound"] == pytest.approx(3.0 / 2.0)
    assert "finish_over_piece_bound" not in figures  # uplinks are not as fast as the origin


@pytest.mark.parametrize("comes_in_parts", [False, True])
def test_the_piece_bound_is_for_equal_uplinks_and_whole_pieces(tmp_path: Path, *, comes_in_parts: bool) -> None:
    slow = 16_384
    steps = fetched(PHONE, (0, None), (1, None), every_s=5.0)
    steps += fetched(AGENT, (0, PHONE), (1, PHONE), began_s=2.0, every_s=5.0)
    if comes_in_parts:
        steps.append((3.0, AGENT, PieceLost(LARGE, 0, "mesh", IDS[PEER], Reason.PEER_LOST, slow, 0)))
    figures = told(tmp_path, *sorted(steps, key=lambda step: step[0]), origin_bytes_per_s=slow)
    # two pieces of four s each, one after the other, and one doubling for two receivers: 12 s; both are done after 11
    assert figures.get("finish_over_piece_bound") == (None if comes_in_parts else pytest.approx(11 / 12))


def test_a_file_that_somebody_had_needs_no_copy_of_the_origin(tmp_path: Path) -> None:
    began = (1.0, AGENT, TransferBegan(SMALL, 0, 1))
    figures = told(tmp_path, began, (2.0, AGENT, PieceKept(SMALL, 0, "mesh", IDS[PHONE], 100)))
    assert (figures["offload_share"], figures["offload_bound_share"], figures["origin_copies"]) == (1.0, 1.0, 0.0)


def test_nothing_is_said_of_a_file_that_nobody_has_whole(tmp_path: Path) -> None:
    steps = [*fetched(AGENT, (0, None))[:2], (2.0, PHONE, TransferBegan(LARGE, 0, 2))]
    steps += [(3.0, PHONE, PieceKept(LARGE, 0, "mesh", IDS[AGENT], HALF))]
    figures = told(tmp_path, *steps)
    assert (figures["offload_share"], figures["offload_bound_share"]) == (0.5, 1.0)


@pytest.mark.parametrize("unlike", ["late", "unfinished", "had a part", "radio"])
def test_the_bound_is_for_a_crowd_that_comes_at_once(tmp_path: Path, unlike: str) -> None:
    first = fetched(PHONE, (0, None), (1, None))
    second = fetched(AGENT, (0, PHONE), (1, PHONE), began_s=20.0 if unlike == "late" else 2.0)
    if unlike == "unfinished":
        del second[-1]
    if unlike == "had a part":
        second[0] = (2.0, AGENT, TransferBegan(LARGE, 1, 2))
    if unlike == "radio":
        second[1] = (3.0, AGENT, PieceKept(LARGE, 0, "ble", IDS[PHONE], HALF))
    assert "finish_over_bound" not in told(tmp_path, *sorted([*first, *second], key=lambda step: step[0]))


def test_a_life_that_ends_ends_its_downloads(tmp_path: Path) -> None:
    lost = PieceLost(LARGE, 0, "cdn", None, Reason.NO_SOURCE, 0, 0)
    steps = [*fetched(AGENT, (0, None))[:2], (3.0, AGENT, LifeEnded()), (4.0, AGENT, lost)]
    figures = told(tmp_path, *steps, *fetched(AGENT, (1, None), began_s=10.0))
    assert [(row["ended_s"], row["reason"]) for row in rows(tmp_path, "transfers")] == [
        (3.0, "restarted"),
        (11.0, None),
    ]
    assert (figures["transfers_done"], figures["transfers_failed"]) == (1, 0)


def test_gini_by_hand() -> None:
    assert gini([]) == gini([0, 0]) == gini([5, 5, 5]) == 0
    assert gini([0, 0, 0, 8]) == pytest.approx(0.75)
    assert gini([1, 3]) == pytest.approx(0.25)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40).filter(any))
def test_gini_is_half_the_relative_mean_difference(values: list[int]) -> None:
    differences = sum(abs(a - b) for a in values for b in values)
    assert gini(values) == pytest.approx(differences / (2 * len(values) * sum(values)), abs=1e-9)


def test_small_worlds_keep_their_pieces() -> None:
    def keeps(*sets: str) -> bool:
        return load_scenario("flash_crowd", sets).keeps_pieces

    few, many = (f"agents.count={RECORDED_NODES_MAX + more}" for more in (-1, 0))
    assert (keeps(few), keeps(many)) == (True, False)
    assert (keeps(few, "record_pieces=false"), keeps(many, "record_pieces=true")) == (False, True)
