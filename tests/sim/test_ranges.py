"""Discoveries: the book that times them, and what a run and its report show of radios that scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from edgecoder.core.ids import Medium, NodeId
from edgecoder.trace import LifeEnded, NodeReady, PeerForgotten, PeerLearned, Record
from edgecoder_sim.link_charts import links_over_time, radio_figures
from edgecoder_sim.recording.ranges import RangeBook
from edgecoder_sim.report import write_report
from edgecoder_sim.results import Run
from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario

SECOND = 1_000_000
NAMES: dict[NodeId, int] = {bytes([number]) * 32: number for number in range(3)}
SMALL = ("phones.count=12", "agents.count=1", "radio.area_m=[10, 8]", "workload.swaps=[]", "duration_s=120")


class Told:
    """A book, and the rows that it has written."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.book = RangeBook(NAMES, self.rows.append)

    def tell(self, at_s: float, node: int, record: Record) -> None:
        self.book.handlers[type(record)](round(at_s * SECOND), node, record)

    def near(self, at_s: float, a: int, b: int, is_near: bool = True) -> None:
        self.book.changed(round(at_s * SECOND), a, b, is_near)

    def learns(self, at_s: float, node: int, peer: int) -> None:
        self.tell(at_s, node, PeerLearned(bytes([peer]) * 32, 1, False, Medium.BLE))


@pytest.fixture
def told() -> Told:
    """Three nodes that are up."""
    told = Told()
    for node in range(3):
        told.tell(0, node, NodeReady(epoch=1))
    return told


def test_a_pair_is_timed_each_way_from_coming_into_range(told: Told) -> None:
    told.near(10, 0, 1)
    told.learns(13, 1, 0)
    told.learns(15.5, 0, 1)
    told.learns(20, 0, 1)  # news of who is known
    assert told.rows == [(13.0, 1, 0, 3.0), (15.5, 0, 1, 5.5)]


def test_a_node_that_is_down_is_not_in_range_yet() -> None:
    told = Told()
    told.near(0, 0, 1)
    told.tell(1, 0, NodeReady(epoch=1))
    told.tell(4, 1, NodeReady(epoch=1))
    told.learns(6, 0, 1)
    assert told.rows == [(6.0, 0, 1, 2.0)]


def test_who_is_known_still_is_not_discovered_again_and_who_was_forgotten_is(told: Told) -> None:
    told.near(0, 0, 1)
    told.learns(1, 0, 1)
    told.near(5, 0, 1, is_near=False)
    told.near(9, 0, 1)
    told.learns(10, 0, 1)
    assert len(told.rows) == 1
    told.near(20, 0, 1, is_near=False)
    told.tell(80, 0, PeerForgotten(bytes([1]) * 32))
    told.near(100, 0, 1)
    told.learns(104, 0, 1)
    assert told.rows[1:] == [(104.0, 0, 1, 4.0)]


def test_who_begins_another_life_has_everybody_to_discover(told: Told) -> None:
    told.near(0, 0, 1)
    told.learns(1, 0, 1)
    told.tell(30, 0, LifeEnded())
    told.tell(50, 0, NodeReady(epoch=1))
    told.learns(53, 0, 1)
    assert told.rows[1:] == [(53.0, 0, 1, 3.0)]


def test_what_took_a_minute_or_never_came_counts(told: Told) -> None:
    told.near(0, 0, 1)
    told.near(0, 0, 2)
    told.learns(2, 0, 1)  # soon
    told.learns(61, 1, 0)  # late
    told.near(90, 0, 2, is_near=False)  # 0 and 2 never came to know each other
    told.near(95, 1, 2)
    told.near(99, 1, 2, is_near=False)  # no time for it
    told.near(100, 1, 2)
    figures = told.book.metrics(100 * SECOND)
    assert figures["discoveries"] == 2
    assert figures["discovered_in_minute_share"] == 1 / 4
    assert told.book.metrics(170 * SECOND)["discovered_in_minute_share"] == 1 / 6


def test_without_a_discovery_there_are_no_figures(told: Told) -> None:
    assert told.book.metrics(SECOND) == {}


def test_links_are_of_the_media_that_are_used() -> None:
    rows = [(10, "links", "ble", 3.0), (10, "links", "wan", 0.0), (20, "links", "ble", 0.0), (20, "fault", "x", 1.0)]
    found = links_over_time(pd.DataFrame(rows, columns=["at_s", "metric", "key", "value"]))
    assert found.to_dict("list") == {"at_s": [10, 20], "medium": ["Bluetooth"] * 2, "links": [3.0, 0.0]}


def _run(tmp_path: Path, *sets: str) -> Run:
    outcome = run_scenario(load_scenario("office", [*SMALL, *sets]), root=tmp_path, reproduce="")
    assert outcome.directory is not None
    return Run(outcome.directory)


def test_a_run_whose_radios_scan_shows_links_and_discoveries(tmp_path: Path) -> None:
    run = _run(tmp_path)
    metrics, discoveries = run.summary["metrics"], run.discoveries
    assert len(discoveries) == metrics["discoveries"] >= 12 * 11
    assert metrics["discovered_in_minute_share"] == 1
    assert discoveries["took_s"].max() < 60
    assert discoveries["took_s"].median() == pytest.approx(metrics["discovery_p50_s"], rel=0.1)
    links = links_over_time(run.timeline)
    assert set(links["medium"]) >= {"local network"}
    assert [figure.key for figure in radio_figures(run)] == ["radio-links", "radio-discovery"]
    page = write_report(run).read_text(encoding="utf-8")
    assert 'id="radio-links"' in page
    assert 'id="radio-discovery"' in page


def test_a_run_whose_radios_do_not_scan_shows_neither(tmp_path: Path) -> None:
    run = _run(tmp_path, "radio.scanning=false")
    assert run.discoveries.empty
    assert radio_figures(run) == []
    assert "discoveries" not in run.summary["metrics"]
    assert 'id="radio"' not in write_report(run).read_text(encoding="utf-8")
