"""What a run keeps of people, and what its report shows of it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from edgecoder_sim.people import SAMPLED_MAX
from edgecoder_sim.people_charts import contacts_over_time, map_points, people_figures, people_met
from edgecoder_sim.report import write_report
from edgecoder_sim.results import Run
from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.traces import TraceName, load_trace

SMALL = ("phones.count=40", "agents.count=4", "workload.swaps=[]", "duration_s=300")


def _run(tmp_path: Path, name: str, *sets: str) -> Run:
    outcome = run_scenario(load_scenario(name, sets), root=tmp_path, reproduce="")
    assert outcome.directory is not None
    return Run(outcome.directory)


def _contacts(*rows: tuple[float, float, int, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["begin_s", "end_s", "first", "second"])


def test_contacts_over_time_are_those_that_are_open() -> None:
    frame = contacts_over_time(_contacts((0, 60, 0, 1), (30, 120, 1, 2), (90, 100, 0, 1)), 120)
    at = dict(zip(frame["at_s"], frame["open"], strict=True))
    assert [at[when] for when in (10.5, 40.5, 70.5, 95.5, 110.5)] == [1, 2, 1, 2, 1]


def test_a_pair_that_meets_twice_met_once() -> None:
    met = people_met(_contacts((0, 60, 0, 1), (90, 100, 0, 1), (30, 120, 1, 2)))
    assert met.to_dict() == {0: 1, 1: 2, 2: 1}


def test_a_world_that_moves_leaves_contacts_and_places(tmp_path: Path) -> None:
    run = _run(tmp_path, "office", *SMALL, "mobility.phones=random_waypoint", "mobility.pause_s=[0, 20]")
    contacts, positions = run.contacts, run.positions
    assert len(contacts) == run.summary["metrics"]["contacts"] > 100
    assert (contacts["first"] < contacts["second"]).all()
    assert (contacts["end_s"] >= contacts["begin_s"]).all()
    assert contacts["distance_m"].max() <= 15
    assert contacts["end_s"].max() == 300
    assert run.summary["metrics"]["contact_p50_s"] == pytest.approx(
        (contacts["end_s"] - contacts["begin_s"]).median(), abs=5
    )
    assert positions["x_m"].between(0, 60).all()
    assert positions["y_m"].between(0, 40).all()
    phones = positions[positions["node"] < 40].groupby("node")["x_m"].nunique()
    assert phones.min() > 1
    points, at_s = map_points(run)
    assert len(points) == positions.groupby("at_s").size().max() == (positions["at_s"] == at_s).sum()
    assert set(points["role"]) == {"phone", "agent"}
    page = write_report(run).read_text(encoding="utf-8")
    assert 'id="people-map"' in page
    assert 'id="people-met"' in page


def test_where_nobody_moves_there_is_a_map_and_no_list(tmp_path: Path) -> None:
    run = _run(tmp_path, "office", *SMALL)
    assert run.contacts.empty
    assert run.positions.empty
    assert "contacts" not in run.summary["metrics"]
    assert [figure.key for figure in people_figures(run)] == ["people-map"]


def test_a_replay_leaves_the_contacts_of_the_trace(tmp_path: Path) -> None:
    run = _run(tmp_path, "hospital_trace", "duration_s=3600", "workload.tasks=[]")
    window = load_trace(TraceName.HOSPITAL).window(151_200, 3600)
    found = run.contacts[["begin_s", "end_s", "first", "second"]].astype(int)
    told = [(contact.begin_s, contact.end_s, contact.first, contact.second) for contact in window]
    assert sorted(found.itertuples(index=False, name=None)) == sorted(told)
    assert run.positions.empty
    assert [figure.key for figure in people_figures(run)] == ["contacts-time", "contact-lengths", "people-met"]


def test_the_map_of_many_is_a_sample(tmp_path: Path) -> None:
    many = ("phones.count=1500", "agents.count=0", "coordinators.count=1", "workload.tasks=[]", "duration_s=3")
    run = _run(tmp_path, "idle", *many, "workload.swaps=[]")
    points, _ = map_points(run)
    assert SAMPLED_MAX / 2 < len(points) <= SAMPLED_MAX
