"""The report: complete, readable without a network, true to the tables, and safe with any text in them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import pytest
import vl_convert
from ruamel.yaml import YAML

from edgecoder.core.ids import Medium
from edgecoder.errors import ConfigError
from edgecoder.trace import PeerLearned
from edgecoder_sim import chart_data, charts, report
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.recording.histogram import Histogram
from edgecoder_sim.results import Run
from edgecoder_sim.scenario import load_scenario, resolved_yaml
from tests.sim import made_runs as made
from tests.sim.made_runs import AGENT, IDS, PEER, PHONE, SECOND, made_run

HOSTILE = "</script><script>alert(1)</script> & <b>bold</b>"


class Page(HTMLParser):
    """What a browser would load, run and show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.shown = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._inside = tag
        if tag == "script":
            self.scripts.append("")
        self.loads += [value or "" for name, value in attrs if name == "src" or (tag == "link" and name == "href")]
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if tag == "a" else []

    def handle_endtag(self, _: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.shown += data


def read(run: Run) -> tuple[str, Page, dict[str, Any]]:
    """The report's text, its page, and the charts in it."""
    text = report.write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    specs = re.search(r"const specs = (\{.*\});", page.scripts[1])
    assert specs is not None
    return text, page, json.loads(specs[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was made by hand."""
    return made_run(tmp_path_factory.mktemp("runs"))


def test_one_file_that_loads_nothing(run: Run) -> None:
    text, page, specs = read(run)
    assert page.loads == []
    assert "@import" not in text
    assert "url(" not in text.partition("</style>")[0]
    assert len(page.scripts) == 2  # the library, once, and the charts
    assert "vegaEmbed" in page.scripts[0]
    assert len(text.encode()) - len(page.scripts[0].encode()) < 2_000_000
    assert len(specs) > 8


def test_every_chart_has_its_place_and_every_link_its_target(run: Run) -> None:
    _, page, specs = read(run)
    assert len(page.ids) == len(set(page.ids))
    assert specs.keys() <= set(page.ids)
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= set(page.ids)


def test_vega_draws_every_chart(run: Run) -> None:
    _, _, specs = read(run)
    for key, spec in specs.items():
        assert "config" not in spec, key
        svg = vl_convert.vegalite_to_svg({**spec, "width": 400})
        drawn = re.findall(r'<path[^>]*aria-roledescription="[^"]*"|aria-roledescription="\w+ mark container"', svg)
        assert drawn, key
        assert "NaN" not in svg, key


def test_the_words_say_what_the_tables_hold(run: Run) -> None:
    _, page, _ = read(run)
    shown = " ".join(page.shown.split())
    assert (
        "5 nodes, 60 s of their time, in 0.5 s of ours. 66.7 % of the 3 tasks that ended were answered, half of "
        "them within 1 s." in shown
    )
    assert "1,234 events checked" in shown
    assert "1 no_route" in shown
    assert run.summary["digest"] in shown
    assert f"edgecoder run {run.path.as_posix()}/scenario.resolved.yaml" in shown
    assert f"edgecoder why {run.path.as_posix()} task phone-0:3" in shown
    assert "name: office" in shown  # the scenario
    assert "pyarrow " in shown
    assert "stopped early" not in shown
    assert "violated. What follows" not in shown


def test_the_boundaries_are_those_of_the_docstrings(run: Run) -> None:
    found = dict(report.boundaries(run.scenario_values))
    assert {"host", "network", "engine", "radio", "workload", "recorder"} <= found.keys()
    assert found.keys().isdisjoint({"walks", "traces", "presence", "faults.draw"}), "of parts not in use"
    assert "crypto" in found
    assert all(text.endswith(".") and "Fidelity" not in text for text in found.values())
    _, page, _ = read(run)
    assert "which nobody in a real mesh could" in page.shown


def test_the_boundaries_of_parts_that_are_used_are_there() -> None:
    used = {"hospital_trace": "traces", "office_day": "walks", "blackout": "faults.schedule"}
    for scenario, part in used.items():
        values = YAML(typ="safe").load(resolved_yaml(load_scenario(scenario)))
        found = dict(report.boundaries(values))
        assert [other for other in used.values() if other in found] == [part]
    for is_scanning in (True, False):
        office = load_scenario("office", [f"radio.scanning={str(is_scanning).lower()}"])
        found = dict(report.boundaries(YAML(typ="safe").load(resolved_yaml(office))))
        assert ("scanning" in found) is is_scanning
    assert "presence" in dict(report.boundaries(YAML(typ="safe").load(resolved_yaml(load_scenario("office_day")))))


def test_tasks_worth_a_look_are_named_as_the_command_line_does(run: Run) -> None:
    _, page, _ = read(run)
    assert "task phone-0:3" in page.shown
    assert made.task_id(3).hex() not in page.shown


@pytest.mark.parametrize(("low_s", "high_s"), [(0.001, 100.0), (0.012, 0.022), (0.04, 0.09), (1.1, 1.9), (14.0, 15.0)])
def test_a_logarithmic_axis_has_labels_whatever_its_range(low_s: float, high_s: float) -> None:
    ticks = charts.log_axis(pd.Series([low_s, high_s])).to_dict()["values"]
    assert len([tick for tick in ticks if low_s <= tick <= high_s]) >= 2


def test_where_people_live_by_the_clock_axes_count_it() -> None:
    still, moving = (YAML(typ="safe").load(resolved_yaml(load_scenario(name))) for name in ("office", "office_day"))
    assert chart_data.axis_unit(43_200.0, still).starts_h is None
    unit = chart_data.axis_unit(43_200.0, moving)
    assert unit.starts_h == 7.0
    marks = alt.Chart(pd.DataFrame({"at": [0.0, 12.0]})).mark_point().encode(x=charts.time_axis(43_200.0, unit))
    drawn = vl_convert.vegalite_to_svg(charts.as_spec(marks, 100) | {"width": 900})
    assert ">07:00<" in drawn
    assert ">19:00<" in drawn


def test_without_coordinators_nothing_is_said_of_their_registries(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    run.nodes = run.nodes[run.nodes["role"] != "coordinator"]
    shown = charts.gallery(run)
    assert shown.availability_legend.labels == ("true",)
    assert "in the registries" not in {
        row["who"] for figure in shown.availability for rows in figure.spec["datasets"].values() for row in rows
    }


def test_text_of_a_user_stays_text(tmp_path: Path) -> None:
    def tell(recorder: Recorder) -> None:
        recorder.command(1, HOSTILE)
        recorder.record(SECOND, PHONE, made.submitted(1))
        recorder.record(2 * SECOND, PHONE, made.ended(1, PHONE))

    run = made_run(tmp_path, description="Ann's & Bob's <office>.", tell=tell)
    text, page, specs = read(run)
    assert "<script>alert" not in text
    assert len(page.scripts) == 2
    assert HOSTILE in page.shown
    assert "Ann's & Bob's <office>." in page.shown
    assert HOSTILE in json.dumps(specs["latency-kind"])


def test_a_run_in_which_nothing_happened_has_a_report(tmp_path: Path) -> None:
    _, page, specs = read(made_run(tmp_path, tell=lambda recorder: None))
    assert specs.keys() == {"people-map"}  # where nodes are is known before anything happens
    assert not {"tasks", "models", "swaps", "knowledge", "messages"} & set(page.ids)
    assert "0 of its" not in page.shown


def test_a_run_without_a_second_of_time_has_a_report(tmp_path: Path) -> None:
    _, page, _ = read(made_run(tmp_path, tell=lambda recorder: None, partial=True, sim_s=0.0))
    assert "This run was stopped early." in page.shown


@pytest.mark.parametrize(
    ("summary", "notice"),
    [
        ({"partial": True}, "This run was stopped early."),
        ({"partial": True, "invariants": {"checked": 5, "violated": 1}}, "An invariant was violated."),
    ],
)
def test_a_run_that_ended_badly_says_so_first(tmp_path: Path, summary: dict[str, Any], notice: str) -> None:
    _, page, _ = read(made_run(tmp_path, **summary))
    assert notice in page.shown


def test_a_torn_table_is_an_error_and_leaves_the_old_report(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    path = report.write_report(run)
    before = path.stat()
    (run.path / "tasks.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match="torn"):
        report.write_report(Run(run.path))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


# -- the numbers of the charts -----------------------------------------------------------------------------------------


def test_a_curve_of_latency_ends_at_the_share_that_was_answered(run: Run) -> None:
    frame = chart_data.latency_by_kind(run.tasks)
    assert frame[frame["kind"] == "chat"].to_dict("list") == {
        "kind": ["chat", "chat", "chat"],
        "x": [1.0, 1.0, 2.01],  # from 0 % on, not from the first answer's share
        "share": [0.0, 50.0, 100.0],
        "values": [2, 2, 2],
    }
    assert "review" not in set(frame["kind"])  # none of them was answered
    assert list(dict.fromkeys(chart_data.latency_by_via(run.tasks)["via"])) == ["coordinator", "self"]


def test_a_long_curve_keeps_its_shape_in_few_points() -> None:
    frame = chart_data.cumulative([number / 1000 for number in range(1, 100_001)], total=200_000)
    assert len(frame) < 200
    assert frame["x"].iloc[-1] == 100.0
    assert frame["share"].iloc[-1] == 50.0
    assert (frame["share"] * 2 - frame["x"])[1:].abs().max() < 1e-9
    assert (frame["share"].iloc[0], frame["x"].iloc[0]) == (0.0, 0.001)
    assert frame["share"].is_monotonic_increasing


def test_outcomes_by_kind(run: Run) -> None:
    rows = {row["kind"]: row for row in chart_data.outcomes(run.tasks).to_dict("records")}
    assert (rows["chat"]["asked"], rows["chat"]["answered_pct"], rows["chat"]["self_pct"]) == (2, 100.0, 50.0)
    assert (rows["review"]["answered_pct"], rows["review"]["failed"]) == (0.0, "1 no_route")
    assert pd.isna(rows["review"]["p50_s"])


def test_a_quantile_of_a_table_is_that_of_the_figures() -> None:
    values_s = [0.1, 0.2, 0.4, 7.0]
    histogram = Histogram()
    for value_s in values_s:
        histogram.add(round(value_s * 1e6))
    for share in (0.25, 0.5, 0.9, 0.99):
        assert chart_data.quantile(pd.Series(values_s), share) == pytest.approx(
            histogram.quantile(share) / 1e6, rel=0.0005
        )


def test_nodes_changing_their_model_are_an_exact_mean(run: Run) -> None:
    frame = chart_data.loading(run.swaps, 60.0, chart_data.time_unit(60.0))
    width_s = 60.0 / (len(frame) - 1)
    assert frame["value"].iloc[:-1].sum() * width_s == pytest.approx(4.0)  # one node, 20 s to 24 s
    assert frame.loc[frame["at"].between(20, 23), "value"].tolist() == pytest.approx([1.0] * 8)


def test_the_profile_shows_each_swap_and_picks_evenly_of_many(run: Run) -> None:
    profile = chart_data.swap_profile(run.swaps, run.nodes["name"])
    assert set(profile["who"]) == {"phone-0 · swap 2"}
    assert profile.sort_values("order")["phase"].tolist() == [
        "announcing",
        "draining",
        "unloading",
        "loading",
        "confirming",
    ]
    assert profile["seconds"].sum() == pytest.approx(4.005)
    one = run.swaps[run.swaps["swap"] == 2]
    many = pd.concat([one.assign(swap=number, total_s=float(number)) for number in range(2, 1002)], ignore_index=True)
    ranks = chart_data.swap_profile(many, run.nodes["name"]).groupby("rank")["total_s"].first()
    assert len(ranks) == chart_data.SWAPS_SHOWN
    assert (ranks.iloc[0], ranks.iloc[-1]) == (1001.0, 2.0)


def test_phases_are_spread_over_the_swaps_that_went_through_them(run: Run) -> None:
    frame = chart_data.phase_spread(run.swaps).set_index("phase")
    assert "rolling back" not in frame.index
    assert frame.loc["loading", "p50"] == pytest.approx(2.8)
    assert frame.loc[chart_data.WHOLE, "max"] == pytest.approx(4.005)
    assert frame.loc["loading", "swaps"] == 1  # the first loads do not count


def test_message_rates_add_up_to_the_messages(run: Run) -> None:
    unit = chart_data.time_unit(60.0)
    rates = chart_data.message_rates(run.messages, nodes=5, sim_s=60.0, unit=unit, value="bytes")
    bins = sorted(set(rates["at"]))
    width_min = (bins[1] - bins[0]) / 60
    whole = rates[rates["at"] < bins[-1]]["rate"].sum() * 5 * width_min  # the last edge repeats the last bin
    assert whole == pytest.approx(run.messages["bytes"].sum())
    assert set(rates["type"]) == {"heartbeat", "summary"}


def test_rare_message_types_are_added_up() -> None:
    messages = pd.DataFrame(
        {
            "at_s": [float(number // 10 * 10 + 10) for number in range(100)],
            "type": [f"type{number % 10}" for number in range(100)],
            "medium": ["lan"] * 100,
            "count": [10 - number % 10 for number in range(100)],
            "bytes": [1] * 100,
        }
    )
    rates = chart_data.message_rates(messages, 1, 100.0, chart_data.time_unit(100.0), "count")
    kinds = list(dict.fromkeys(rates["type"]))
    assert kinds == [*(f"type{number}" for number in range(chart_data.TYPES_SHOWN)), chart_data.OTHER]
    assert rates[(rates["type"] == chart_data.OTHER) & (rates["at"] == 0)]["rate"].iloc[0] == pytest.approx(
        10 / (10 / 60)
    )


def test_a_timeline_is_binned_to_mean_and_largest() -> None:
    at_s = [float(second) for second in range(10, 3610, 10)]
    timeline = pd.DataFrame({"at_s": at_s, "metric": "m", "key": "k", "value": [number % 5 for number in range(360)]})
    frame = chart_data.binned(timeline, "m", "k", 3600.0, chart_data.time_unit(3600.0))
    assert len(frame) == chart_data.BINS + 1
    assert set(frame["mean"]) == {2.0}
    assert set(frame["max"]) == {4}
    assert (frame["at"].iloc[0], frame["at"].iloc[-1]) == (0.0, 60.0)


def test_news_of_all_channels_have_a_curve(tmp_path: Path) -> None:
    def tell(recorder: Recorder) -> None:
        made.boot(recorder)
        made.capabilities(recorder, 2 * SECOND, PEER, 2, None, loading=True)
        for holder, medium in ((PHONE, Medium.BLE), (AGENT, Medium.LAN)):
            recorder.record(3 * SECOND, holder, PeerLearned(IDS[PEER], 1, loading=False, medium=medium))
            recorder.record(4 * SECOND, holder, PeerLearned(IDS[PEER], 2, loading=True, medium=medium))
        made.heartbeat(recorder, 5 * SECOND, PEER, 2, None, loading=True)

    run = made_run(tmp_path, tell=tell)
    delays = chart_data.news_delay(run.gossip, "delay_s")
    assert dict(zip(delays["channel"], delays["x"], strict=True)) == {
        "peer, Bluetooth": 2.0,
        "peer, local network": 2.0,
        "heartbeat": 3.0,
    }
    spec = next(figure.spec for figure in charts.gallery(run).figures() if figure.key == "news-delay")
    assert "peer, Bluetooth (1)" in json.dumps(spec)


def figure(run: Run, key: str) -> charts.Figure:
    return next(figure for figure in charts.gallery(run).figures() if figure.key == key)


def test_availability_is_zero_until_somebody_has_the_model(tmp_path: Path) -> None:
    def tell(recorder: Recorder) -> None:
        made.boot(recorder)
        recorder.sample(10 * SECOND)
        made.capabilities(recorder, 11 * SECOND, PHONE, 2, made.LARGE, loading=False)
        recorder.sample(20 * SECOND)

    frames = chart_data.availability(made_run(tmp_path, tell=tell).timeline, chart_data.time_unit(60.0))
    for model, values in ((made.LARGE, [0, 0, 1, 1]), (made.SMALL, [0, 3, 2, 2])):
        true = frames[model][frames[model]["who"] == "true"]
        assert true["at"].tolist() == [0, 10, 20, 60]
        assert true["value"].tolist() == values


def test_models_stand_in_the_order_of_their_size_under_names_that_differ(tmp_path: Path) -> None:
    models = ["qwen2.5-coder-14b", "qwen2.5-coder:7b", "qwen2.5-coder-7b", "unlisted", "qwen2.5-coder-3b"]

    def tell(recorder: Recorder) -> None:
        for generation, model in enumerate(models, start=1):
            made.capabilities(recorder, generation * SECOND, PHONE, generation, model, loading=False)
            recorder.sample(generation * SECOND)

    panels = charts.gallery(made_run(tmp_path, tell=tell)).availability
    assert [(panel.title, panel.caption) for panel in panels] == [
        ("Qwen2.5 Coder 3B", "qwen2.5-coder-3b"),
        ("Qwen2.5 Coder 7B", "qwen2.5-coder-7b"),
        ("Qwen2.5 Coder 7B (Ollama)", "qwen2.5-coder:7b"),
        ("Qwen2.5 Coder 14B", "qwen2.5-coder-14b"),
        ("unlisted", ""),
    ]
    svg = vl_convert.vegalite_to_svg({**panels[0].spec, "width": 300})
    assert ">nodes<" in svg
    assert ">1<" in svg
    assert ">500m<" not in svg, "half a node"


def test_nodes_without_a_model_have_a_line(tmp_path: Path) -> None:
    def tell(recorder: Recorder) -> None:
        made.capabilities(recorder, 2 * SECOND, PHONE, 1, None, loading=False)
        recorder.sample(10 * SECOND)

    run = made_run(tmp_path, tell=tell)
    assert chart_data.without_model(run.timeline, chart_data.time_unit(60.0)).to_dict("list") == {
        "at": [10.0, 60.0],
        "value": [1.0, 1.0],
    }
    assert "without a model" in json.dumps(figure(run, "loading").spec)


def test_a_message_type_has_one_colour_in_all_charts(tmp_path: Path) -> None:
    def tell(recorder: Recorder) -> None:
        for size_bytes, type_name in ((1, "many"), (9000, "large")):
            for _ in range(9 if type_name == "many" else 1):
                recorder.message(type_name, "lan", size_bytes)

    run = made_run(tmp_path, tell=tell)
    domains = [figure(run, f"message-rate-{value}").spec["encoding"]["color"]["scale"] for value in ("count", "bytes")]
    assert domains[0] == domains[1]
    assert "local network" in json.dumps(figure(run, "message-bytes").spec["datasets"])


def test_the_title_of_the_profile_says_whether_all_swaps_are_in_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert figure(run, "swap-profile").title.startswith("Every swap")
    many = pd.concat([run.swaps.assign(swap=number) for number in range(2, 302)], ignore_index=True)
    monkeypatch.setattr(run, "swaps", many)
    profile = figure(run, "swap-profile")
    assert profile.title == "Swaps, phase by phase"
    assert profile.caption.startswith("240 of ")
    assert "swaps, the longest first" in vl_convert.vegalite_to_svg({**profile.spec, "width": 300})


@pytest.mark.parametrize(("mean_s", "is_drawn"), [(0.00005, False), (0.5, True)])
def test_a_mean_that_lies_on_the_axis_is_said_in_words(
    run: Run, monkeypatch: pytest.MonkeyPatch, mean_s: float, is_drawn: bool
) -> None:
    rows = [(10.0, "staleness_max_s", "registry", 2.0), (10.0, "staleness_mean_s", "registry", mean_s)]
    timeline = pd.DataFrame([*rows, (10.0, "nodes_ready", made.SMALL, 1.0)], columns=["at_s", "metric", "key", "value"])
    monkeypatch.setattr(run, "timeline", timeline)
    age = figure(run, "stale-registry")
    assert ("Line: mean" in age.caption) is is_drawn
    assert ("stays below 1 ms" in age.caption) is not is_drawn
    assert ("layer" in age.spec) is is_drawn


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value_s", "text"),
    [
        (0, "0 s"),
        (2.5e-7, "below 1 ms"),
        (0.0069915, "7 ms"),
        (0.99949, "999 ms"),
        (0.9997, "1 s"),
        (2.084, "2.08 s"),
        (125.2, "2 min 5 s"),
        (5400, "1 h 30 min"),
    ],
)
def test_durations_for_people(value_s: float, text: str) -> None:
    assert report.seconds(value_s) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (0.9919, "99.2 %"), (0.99996, "99.996 %"), (0.5, "50 %"), (0.000131, "0.0131 %")],
)
def test_shares_are_never_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert report.percent(share) == text


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (5324.0, "tasks", ("5,324", "tasks")),
        (3.76e-5, "s", ("below 1", "ms")),
        (40.8, "s", ("40.8", "s")),
        (240.0, "s", ("240", "s")),
        (0.25, "share", ("25", "%")),
        (15.126, "envelopes per node and minute", ("15.13", "envelopes per node and minute")),
    ],
)
def test_figures_with_their_units(value: float, unit: str, shown: tuple[str, str]) -> None:
    assert report.number(value, unit) == shown


def test_a_figure_that_is_not_documented_is_shown_all_the_same() -> None:
    assert report.figures({"new_figure": 1.5})["Other"] == [("new_figure", "1.5", "", "")]
