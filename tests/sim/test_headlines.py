"""The lines at a run's end: true to the figures, and they add up."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder_sim.headlines import outcome_lines, percents

SUMMARY: dict[str, Any] = {
    "scenario": "made",
    "nodes": 5,
    "sim_s": 60.0,
    "wall_s": 1.0,
    "events": 10,
    "digest": "00",
    "rng_seed": 1,
    "run_dir": None,
    "invariants": {"checked": 10, "violated": 0},
}


def told(**metrics: float) -> str:
    """The lines for a run with these figures."""
    return "\n".join(outcome_lines(SUMMARY | {"metrics": metrics}, has_report=False))


@pytest.mark.parametrize(
    ("failed", "kept", "empty", "text"),
    [
        (28, 26, 2, "284 done, 28 failed (26 kept a model, 2 left none), 0 refused"),
        (3, 1, 0, "284 done, 3 failed (1 kept a model, 2 cut off by a restart), 0 refused"),
        (0, 0, 0, "284 done, 0 failed, 0 refused"),
    ],
)
def test_failed_swaps_say_what_they_left(failed: int, kept: int, empty: int, text: str) -> None:
    assert text in told(swaps_done=284, swaps_failed=failed, swaps_failed_kept=kept, swaps_failed_empty=empty)


def test_nodes_without_a_model_are_told_where_there_are_any() -> None:
    said = told(no_model_nodes=14, no_model_longest_s=239.4, boot_loads=110, boot_loads_failed=12)
    assert "no model    14 nodes at some time, up to 239 s; 12 of 110 loads at a start failed" in said
    assert "no model" not in told(no_model_nodes=0, no_model_longest_s=0.0, boot_loads=110, boot_loads_failed=0)


def test_receipts_are_told_where_there_are_any() -> None:
    said = told(receipts_signed=784, receipts_taken=780, receipts_waiting=4)
    assert "receipts    784 signed offline, 780 at coordinators, 4 wait where they were earned" in said
    assert "receipts" not in told()


def test_the_ways_of_answers_add_up_and_none_is_hidden() -> None:
    assert percents([0.545, 0.405, 0.0488, 0.0012]) == ["55 %", "40 %", "5 %", "below 1 %"]
    assert percents([1.0, 0.0]) == ["100 %", "0 %"]


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=4).filter(any))
def test_whole_percent_add_up_to_a_hundred(counts: list[int]) -> None:
    texts = percents([count / sum(counts) for count in counts])
    shown = sum(int(text.split()[0]) for text in texts if text != "below 1 %")
    assert 100 - texts.count("below 1 %") <= shown <= 100
    assert [count for count, text in zip(counts, texts, strict=True) if (text == "0 %") != (count == 0)] == []


def test_wrong_rows_stand_beside_the_share_of_time_in_which_there_were_any() -> None:
    lines = told(registry_wrong_share=0.00001, online_share=0.3421).splitlines()
    assert "  wrong rows  share of time: registries below 0.01 %" in lines
    assert "  online      34.21 % of node-time; who is offline has no row that could be wrong" in lines


@pytest.mark.parametrize(
    ("wall_s", "said"), [(0.5, "120 × real"), (40.0, "1.5 × real"), (150.0, "0.4 × real"), (7000.0, "0.0086 × real")]
)
def test_a_slow_run_does_not_come_out_as_none(wall_s: float, said: str) -> None:
    assert f"({said} time)" in outcome_lines(SUMMARY | {"wall_s": wall_s, "metrics": {}}, has_report=False)[0]


def test_no_line_names_an_interval_that_a_scenario_may_change() -> None:
    said = told(summaries_wrong_share=0.6)
    assert "from the first change of one of its counts to the next summary" in said
    assert "minute" not in said
    assert "summary" not in told(registry_wrong_share=0.6), "where there are none"


def test_downloads_are_told_where_files_came_piece_by_piece() -> None:
    crowd = {
        "transfers_done": 100,
        "transfers_failed": 1,
        "transfer_p50_s": 1949.2,
        "transfer_p99_s": 1960.0,
        "finish_over_bound": 1.0344,
        "offload_share": 0.99,
        "offload_bound_share": 0.9901,
        "origin_copies": 1.0,
        "upload_gini": 0.013,
    }
    said = told(**crowd)
    assert "  downloads   100 done piece by piece, 1 given up\n" in said
    assert (
        "p50 1,949 s, p99 1,960 s; the last was there after 1.034 times the fluid bound, no piece bound applies\n"
        in said
    )
    assert "the fluid bound, 1.014 times that of whole pieces\n" in told(**crowd, finish_over_piece_bound=1.0138)
    given_by = "99.00 % of the bytes from peers (at most 99.01 %), the origin sent 1.000 copies"
    assert f"{given_by}, Gini of what nodes gave 0.01\n" in said
    assert "downloads" not in told()
    assert told(transfers_done=0, transfers_failed=1).count("downloads") == 1


def test_files_stand_beside_what_else_could_have_come_of_them() -> None:
    known = {"last_over_oracle": 1.04, "copies_oracle": 1.0}
    file = {"model": "one", "wanted": 5, "copies": 1.5, "over_alone": 0.2, "radio_pct": math.nan, **known}
    less = file | dict.fromkeys(known, math.nan)
    files = [file, less | {"model": "few", "wanted": 4}, less | {"over_alone": math.nan, "radio_pct": 88.26}]
    said = "\n".join(outcome_lines(SUMMARY | {"metrics": {}}, has_report=False, files=files))
    assert "  compared    one: last finish 1.040 × the oracle's; 1.500 copies from the origin, by the oracle 1" in said
    assert "              one: 88.3 % of what those who met could have carried\n" in said
    assert "              few: slowest 0.2 × the CDN alone\n" in said
