"""The charts of the report, as Vega-Lite specifications.

Decides marks, scales and words; the numbers come from `chart_data`, colours and type from the page, which has a light and
a dark theme. Nothing here names a colour: series take the page's palette in the order of their domain.

Fidelity boundary: what a chart leaves out, its caption says.
"""

from __future__ import annotations

from typing import Any, Final

import altair as alt
import msgspec
import pandas as pd

from edgecoder_sim import chart_data as data
from edgecoder_sim.results import Run
from edgecoder_sim.tables import BELIEFS

HEIGHT: Final = 250
"""Of a chart, px."""
SMALL_HEIGHT: Final = 120
DIGITS: Final = 4
"""Significant digits of embedded numbers."""
Spec = dict[str, Any]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One chart with its words."""

    key: str
    """Its id in the page."""
    title: str
    caption: str = ""
    spec: Spec
    wide: bool = False
    """Whether it takes the whole width of the page."""


class Legend(msgspec.Struct, frozen=True):
    """A legend that several charts share: labels in the order of the palette."""

    labels: tuple[str, ...]


class Gallery(msgspec.Struct, frozen=True, kw_only=True):
    """The charts of a run by section. A list is empty where there is nothing to show."""

    tasks: list[Figure]
    availability: list[Figure]
    availability_legend: Legend
    loading: list[Figure]
    swaps: list[Figure]
    staleness: list[Figure]
    messages: list[Figure]

    def figures(self) -> list[Figure]:
        """All charts."""
        return [*self.tasks, *self.availability, *self.loading, *self.swaps, *self.staleness, *self.messages]


def gallery(run: Run) -> Gallery:
    """All charts of a run. Raises ConfigError where a table cannot be read."""
    sim_s = float(run.summary["sim_s"])
    unit = data.time_unit(sim_s)
    models = data.availability(run.timeline, unit)
    return Gallery(
        tasks=_tasks(run),
        availability=[_model(number, model, frame, unit) for number, (model, frame) in enumerate(models.items())],
        availability_legend=Legend(_WHO),
        loading=_loading(run, unit),
        swaps=_swaps(run),
        staleness=_staleness(run, unit),
        messages=_messages(run, sim_s, unit),
    )


_WHO: Final = ("true", "in the registries", "in a coordinator's eyes")
_LOG: Final = alt.Scale(type="log", nice=False)
_PERCENT: Final = alt.Scale(domain=[0, 100])


def _tasks(run: Run) -> list[Figure]:
    by_kind, by_via = data.latency_by_kind(run.tasks), data.latency_by_via(run.tasks)
    figures = []
    if len(by_kind):
        figures.append(
            Figure(
                key="latency-kind",
                title="How fast answers come, by kind of task",
                caption="Share of the tasks of a kind that were answered within a time. A curve that ends below 100 % "
                "lacks the tasks that were not answered.",
                spec=_cdf(by_kind, "kind", "latency", "share of tasks, %"),
            )
        )
    if len(by_via):
        figures.append(
            Figure(
                key="latency-via",
                title="How fast answers come, by who found them",
                caption="self: the asking node answered. peer: a node in reach. coordinator: one of its other nodes. "
                "federation: a node of another coordinator. Answered tasks only.",
                spec=_cdf(by_via, "via", "latency", "share of answers, %"),
            )
        )
    return figures


def _model(number: int, model: str, frame: pd.DataFrame, unit: data.TimeUnit) -> Figure:
    x = alt.X("at:Q", title=unit.title, axis=alt.Axis(grid=False, tickCount=6))
    y = alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=3, format="~g"), scale=alt.Scale(zero=True, nice=True))
    colour = alt.Color("who:N", scale=alt.Scale(domain=list(_WHO)), legend=None)
    tooltip = ["who:N", alt.Tooltip("value:Q", title="nodes", format=".3~g"), alt.Tooltip("at:Q", title=unit.title, format=".1f")]
    base = alt.Chart(_rounded(frame.drop(columns="key"))).encode(x=x, y=y, color=colour, tooltip=tooltip)
    is_true = alt.datum.who == "true"
    area = base.transform_filter(is_true).mark_area(interpolate="step-after", opacity=0.18, line=False)
    lines = base.mark_line(interpolate="step-after", strokeWidth=1.6).encode(
        strokeDash=alt.StrokeDash("who:N", scale=alt.Scale(domain=list(_WHO), range=[[1, 0], [5, 3], [2, 2]]), legend=None)
    )
    return Figure(key=f"model-{number}", title=model, spec=_spec(area + lines, SMALL_HEIGHT))


def _loading(run: Run, unit: data.TimeUnit) -> list[Figure]:
    frame = data.series(run.timeline, "nodes_loading", unit)
    if not len(frame):
        return []
    chart = (
        alt.Chart(_rounded(frame.drop(columns="key")))
        .mark_area(interpolate="step-after", opacity=0.5, line={"strokeWidth": 1.2})
        .encode(
            x=alt.X("at:Q", title=unit.title, axis=alt.Axis(grid=False)),
            y=alt.Y("value:Q", title="nodes", axis=alt.Axis(tickCount=3, format="~g")),
            color=alt.datum("changing", scale=alt.Scale(domain=["changing"]), legend=None),
            tooltip=[alt.Tooltip("value:Q", title="nodes"), alt.Tooltip("at:Q", title=unit.title, format=".1f")],
        )
    )
    caption = "Nodes that serve nobody because a swap is under way, as seen at each sample."
    return [
        Figure(key="loading", title="Nodes changing their model", caption=caption, spec=_spec(chart, SMALL_HEIGHT), wide=True)
    ]


def _swaps(run: Run) -> list[Figure]:
    profile = data.swap_profile(run.swaps, run.nodes["name"])
    if not len(profile):
        return []
    phases = list(data.PHASE_LABELS.values())
    count, shown = len(data.made_swaps(run.swaps)), int(profile["rank"].max())
    which = f"All {count} swaps" if shown == count else f"{shown} of {count} swaps, evenly picked"
    bars = (
        alt.Chart(_rounded(profile))
        .mark_bar(stroke=None)
        .encode(
            x=alt.X("rank:O", title=None, axis=None, scale=alt.Scale(paddingInner=0.12, paddingOuter=0)),
            y=alt.Y("seconds:Q", title="seconds", stack="zero"),
            color=alt.Color("phase:N", title=None, scale=alt.Scale(domain=phases)),
            order=alt.Order("order:Q"),
            tooltip=["who:N", "model:N", "outcome:N", "phase:N", _seconds("seconds"), _seconds("total_s")],
        )
    )
    return [
        Figure(
            key="swap-profile",
            title="Every swap, phase by phase",
            caption=f"{which}, the longest first; a bar is one swap, from the first phase at the bottom.",
            spec=_spec(bars, HEIGHT),
            wide=True,
        ),
        _spread(data.phase_spread(run.swaps)),
    ]


def _spread(frame: pd.DataFrame) -> Figure:
    order = [*data.PHASE_LABELS.values(), data.WHOLE]
    tooltip = ["phase:N", "swaps:Q", *(_seconds(name) for name in ("p5", "p25", "p50", "p75", "p95", "max"))]
    base = alt.Chart(_rounded(frame)).encode(
        y=alt.Y("phase:N", sort=order, title=None, axis=alt.Axis(grid=False, ticks=False, domain=False)),
        color=alt.Color("phase:N", scale=alt.Scale(domain=order), legend=None),
        tooltip=tooltip,
    )
    x = alt.X("p5:Q", scale=_LOG, title="seconds, logarithmic", axis=_log_axis())
    whisker = base.mark_rule(strokeWidth=2).encode(x=x, x2="p95:Q")
    box = base.mark_bar(size=14, opacity=0.45).encode(x="p25:Q", x2="p75:Q")
    middle = base.mark_tick(size=20, thickness=3).encode(x="p50:Q")
    most = base.mark_point(size=28, shape="diamond", filled=True).encode(x="max:Q")
    return Figure(
        key="swap-phases",
        title="How long each phase takes",
        caption="Thick mark: median. Box: the middle half. Line: 5 % to 95 %. Diamond: the longest. Over the swaps that went "
        "through the phase.",
        spec=_spec(whisker + box + middle + most, HEIGHT),
        wide=True,
    )


def _staleness(run: Run, unit: data.TimeUnit) -> list[Figure]:
    figures = []
    for key, value, title, caption in (
        (
            "news-delay",
            "delay_s",
            "How old news is when it arrives",
            "From a node's change, or a coordinator's sending of a summary, to whoever learned of it. News of another model "
            "or of loading, not of load.",
        ),
        (
            "news-wrong",
            "wrong_s",
            "How long the old word stood",
            "For how long a node had believed something that was no longer so, when news put it right. A summary waits for "
            "its next minute, and any change of a count makes it wrong.",
        ),
    ):
        frame = data.news_delay(run.gossip, value)
        if len(frame):
            spec = _cdf(frame, "channel", "time", "share of news, %", list(data.CHANNELS.values()))
            figures.append(Figure(key=key, title=title, caption=caption, spec=spec))
    for key, metric, title, caption in (
        (
            "stale-mean",
            "staleness_mean_s",
            "How stale the tables are, on average",
            "How long a row has differed from the truth, mean over all rows; right rows count 0.",
        ),
        ("stale-max", "staleness_max_s", "The stalest row", "The same for the row that has been wrong for longest."),
    ):
        frame = data.series(run.timeline, metric, unit)
        if len(frame) and frame["value"].max() > 0:
            figures.append(Figure(key=key, title=title, caption=caption, spec=_over_time(frame, unit)))
    return figures


def _over_time(frame: pd.DataFrame, unit: data.TimeUnit) -> Spec:
    scale = alt.Scale(type="symlog", constant=0.01, nice=False)
    ticks = [0, 0.01, 0.1, 1, 10, 60, 600]
    most = float(frame["value"].max())
    axis = alt.Axis(values=[tick for tick in ticks if tick <= most * 1.5], format="~g", grid=True)
    chart = (
        alt.Chart(_rounded(frame))
        .mark_line(strokeWidth=1.6, interpolate="step-after")
        .encode(
            x=alt.X("at:Q", title=unit.title, axis=alt.Axis(grid=False)),
            y=alt.Y("value:Q", title="seconds, logarithmic", scale=scale, axis=axis),
            color=alt.Color("key:N", title=None, scale=alt.Scale(domain=list(BELIEFS))),
            tooltip=["key:N", _seconds("value"), alt.Tooltip("at:Q", title=unit.title, format=".1f")],
        )
    )
    return _spec(chart, HEIGHT - 50)


def _messages(run: Run, sim_s: float, unit: data.TimeUnit) -> list[Figure]:
    totals = data.message_totals(run.messages)
    if not len(totals):
        return []
    nodes = len(run.nodes)
    figures = []
    for value, what in (("count", "Envelopes"), ("bytes", "Bytes")):
        figures.append(
            Figure(key=f"message-{value}", title=f"{what} by type", spec=_by_type(totals, value, what.lower()))
        )
    for value, what in (("count", "Envelopes"), ("bytes", "Bytes")):
        rates = data.message_rates(run.messages, nodes, sim_s, unit, value)
        figures.append(
            Figure(
                key=f"message-rate-{value}",
                title=f"{what} per node and minute",
                caption=f"Delivered on all links, divided by {nodes} nodes.",
                spec=_rates(rates, what.lower(), unit),
            )
        )
    return figures


def _by_type(totals: pd.DataFrame, value: str, what: str) -> Spec:
    order = list(totals.groupby("type")[value].sum().sort_values(ascending=False).index)
    chart = (
        alt.Chart(_rounded(totals[["type", "medium", value]]))
        .mark_bar(size=13)
        .encode(
            y=alt.Y("type:N", sort=order, title=None, axis=alt.Axis(grid=False, ticks=False, domain=False)),
            x=alt.X(f"{value}:Q", title=what, axis=alt.Axis(format="~s", tickCount=5)),
            color=alt.Color("medium:N", title=None, scale=alt.Scale(domain=["ble", "lan", "wan"])),
            tooltip=["type:N", "medium:N", alt.Tooltip(f"{value}:Q", title=what, format=",")],
        )
    )
    return _spec(chart, 40 + 22 * len(order))


def _rates(rates: pd.DataFrame, what: str, unit: data.TimeUnit) -> Spec:
    order = list(dict.fromkeys(rates["type"]))
    chart = (
        alt.Chart(_rounded(rates))
        .mark_area(interpolate="step", opacity=0.85)
        .encode(
            x=alt.X("at:Q", title=unit.title, axis=alt.Axis(grid=False)),
            y=alt.Y("rate:Q", title=what, stack="zero", axis=alt.Axis(format="~s", tickCount=4)),
            color=alt.Color("type:N", title=None, scale=alt.Scale(domain=order)),
            tooltip=["type:N", alt.Tooltip("rate:Q", title=f"{what} per node and minute", format=".3~s")],
        )
    )
    return _spec(chart, HEIGHT - 50)


def _cdf(frame: pd.DataFrame, by: str, what: str, share: str, order: list[str] | None = None) -> Spec:
    """Cumulative curves over a logarithmic time axis."""
    found = list(dict.fromkeys(frame[by]))
    domain = found if order is None else [name for name in order if name in found]
    x = alt.X("x:Q", scale=_LOG, title=f"{what}, seconds, logarithmic", axis=_log_axis())
    y = alt.Y("share:Q", scale=_PERCENT, title=share, axis=alt.Axis(values=[0, 25, 50, 75, 90, 100]))
    colour = alt.Color(f"{by}:N", title=None, scale=alt.Scale(domain=domain))
    tooltip = [f"{by}:N", _seconds("x", what), alt.Tooltip("share:Q", title=share, format=".1f")]
    base = alt.Chart(_rounded(frame)).encode(x=x, y=y, color=colour)
    line = base.mark_line(interpolate="step-after", strokeWidth=2)
    return _spec(line + base.mark_point(size=60, opacity=0).encode(tooltip=tooltip), HEIGHT)


def _log_axis() -> alt.Axis:
    return alt.Axis(values=[0.001, 0.01, 0.1, 1, 10, 100, 1000, 10_000], format="~g", grid=True)


def _seconds(field: str, title: str | None = None) -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", title=title or field, format=".3~g")


def _spec(chart: alt.Chart | alt.LayerChart, height: int) -> Spec:
    spec: Spec = chart.properties(width="container", height=height).to_dict()
    del spec["config"]  # the page's theme decides
    return spec


def _rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers to DIGITS significant digits, so that the page stays small."""
    rounded = frame.copy()
    for name in frame.select_dtypes("float").columns:
        rounded[name] = [float(f"{value:.{DIGITS}g}") for value in frame[name]]
    return rounded
