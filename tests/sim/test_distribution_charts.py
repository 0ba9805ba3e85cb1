"""The view of distribution: what its charts count, and when there are any."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import vl_convert

from edgecoder.seeding.planner import Why
from edgecoder_sim import distribution_data as of
from edgecoder_sim.distribution_charts import distribution_figures
from edgecoder_sim.report import write_report
from edgecoder_sim.results import Run
from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario
from tests.sim import made_runs as made


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Sixty nodes that want a file at once: more than have a row of their own."""
    scenario = load_scenario("flash_crowd", ("agents.count=60", "checkers=false"))
    outcome = run_scenario(scenario, root=tmp_path_factory.mktemp("runs"), reproduce="")
    assert outcome.directory is not None
    return Run(outcome.directory)


def test_a_run_without_downloads_has_no_such_view(tmp_path: Path) -> None:
    assert distribution_figures(made.made_run(tmp_path, tell=made.boot)) == []


@pytest.mark.parametrize("is_crowd", [True, False])
def test_vega_draws_all_of_it(crowd: Run, tmp_path: Path, is_crowd: bool) -> None:
    figures = distribution_figures(crowd if is_crowd else made.made_run(tmp_path))
    keys = {figure.key.removeprefix("distribution-") for figure in figures}
    all_keys = {"sources", "finish", "swarm", "lorenz", "why", "losses", "senders", "matrix"}
    assert keys == all_keys - ({"losses"} if is_crowd else set())
    for figure in figures:
        assert "NaN" not in vl_convert.vegalite_to_svg({**figure.spec, "width": 400}), figure.key


def test_the_page_has_a_place_for_each_chart(crowd: Run) -> None:
    text = write_report(crowd).read_text(encoding="utf-8")
    specs = re.search(r"const specs = (\{.*\});", text)
    assert specs is not None
    assert json.loads(specs[1]).keys() == set(re.findall(r'<div class="chart" id="([^"]+)"', text))


def test_no_download_is_faster_than_can_be(crowd: Run) -> None:
    frame, what, left_out = of.finishes(of.downloads(crowd))
    assert (what, left_out) == ("times the least time", 0)
    shown = frame[frame["share"] > 0]
    assert shown["x"].min() >= 1
    assert shown["share"].max() == 100
    metrics = crowd.summary["metrics"]
    assert metrics["finish_over_bound"] >= 1
    assert 0.9 < shown["x"].max() / metrics["finish_over_bound"] < 1.1


def test_a_crowd_is_beside_the_oracle_and_the_cdn_alone(crowd: Run) -> None:
    (row,) = of.files_table(crowd)
    assert row["copies_oracle"] == pytest.approx(1.0)
    assert 1 <= row["last_over_oracle"] <= 1.05 * crowd.summary["metrics"]["finish_over_bound"]
    assert row["over_alone"] == pytest.approx(row["last_s"] / (60 * row["size_bytes"] / 2_500_000), rel=1e-3)
    assert not row["why_no_oracle"]


def test_rates_and_rows_add_up_to_the_bytes(crowd: Run) -> None:
    sim_s = crowd.summary["sim_s"]
    came = crowd.uploads["bytes"].sum()
    rates = of.rates(crowd.timeline, sim_s)
    lengths = rates.groupby("source")["at_s"].diff().shift(-1)
    assert (rates["value"] * lengths.fillna(0)).sum() == pytest.approx(came)
    rows = of.senders_over_time(crowd, sim_s)
    assert rows["row"].nunique() == of.ROWS_MAX + 1
    assert {round(length_s) for length_s in rows["to_s"] - rows["at_s"]} == {60}  # two of the samples each
    alone = rows[rows["row"] == of.ORIGIN]
    cdn = crowd.uploads.loc[crowd.uploads["source"] == "cdn", "bytes"].sum()
    assert (alone["value"] * (alone["to_s"] - alone["at_s"])).sum() == pytest.approx(cdn)
    pairs = of.who_to_whom(crowd)
    assert pairs["bytes"].sum() == came
    senders = set(pairs["sender"]) - {of.ORIGIN}
    assert len(senders) > 20, "one class of device, so by how much they gave"
    assert set(pairs["receiver"]) <= senders | {of.NOTHING}


def test_a_download_over_a_radio_takes_the_least_time_from_no_other(crowd: Run) -> None:
    """One of them, or one that was resumed, and all were shown in seconds."""
    found = of.downloads(crowd)
    found.loc[0, "radio_bytes"], found.loc[1, "had_pieces"] = 5, 1
    frame, what, left_out = of.finishes(found)
    assert (what, left_out) == ("times the least time", 2)
    assert set(frame["values"]) == {58}
    found["radio_bytes"] = 5
    frame, what, left_out = of.finishes(found)
    assert (what, left_out) == ("seconds", 0)
    assert set(frame["values"]) == {60}


def test_few_senders_and_receivers_are_exact(tmp_path: Path) -> None:
    run = made.made_run(tmp_path)
    assert of.who_to_whom(run).to_dict("records") == [
        {"sender": "CDN", "receiver": "agent-0", "bytes": 65_536},
        {"sender": "phone-0", "receiver": "agent-0", "bytes": 49_152},
        {"sender": "phone-1", "receiver": "agent-0", "bytes": 16_384},
    ]
    assert set(of.senders_over_time(run, 60.0)["row"]) == {"CDN", "phone-0", "phone-1"}
    (row,) = of.files_table(run)
    assert (row["copies"], row["offload_pct"], row["last_s"]) == (0.5, 50.0, 4.0)


def test_the_lorenz_curve_by_hand() -> None:
    frame = of.lorenz(pd.Series([0, 1, 3]))
    assert frame["nodes"].tolist() == pytest.approx([0, 100 / 3, 200 / 3, 100])
    assert frame["given"].tolist() == pytest.approx([0, 0, 25, 100])


def test_swarms_of_several_files_add_up() -> None:
    rows = [(1.0, "seeders", "a", 1.0), (2.0, "seeders", "b", 2.0), (3.0, "seeders", "a", 5.0)]
    frame = of.swarm_sizes(pd.DataFrame(rows, columns=["at_s", "metric", "key", "value"]), 10.0)
    assert frame["value"].tolist() == [0.0, 1.0, 3.0, 7.0, 7.0]


def test_every_reason_of_the_planner_has_words() -> None:
    assert of.WHY_TEXT.keys() == set(Why)
    assert of.sought({"pieces_sought_near": 3})["code"].tolist() == ["near"]
