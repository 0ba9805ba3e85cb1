"""The charts of the report, as Vega-Lite specifications.

Decides marks, scales and words; the numbers come from `chart_data`, colours and type from the page, which has a light
and a dark theme. Nothing here names a colour: series take the page's palette in the order of their domain.
"""

from __future__ import annotations

import math
from typing import Any, Final

import altair as alt
import msgspec
import numpy as np
import pandas as pd

from edgecoder.core.ids import Role
from edgecoder_sim import chart_data as data
from edgecoder_sim.recording.tasks import VIAS
from edgecoder_sim.results import Run
from edgecoder_sim.tables import BELIEF_NAMES, BELIEFS, MEDIUM_NAMES

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
    news: list[Figure]
    ages: list[Figure]
    messages: list[Figure]

    def figures(self) -> list[Figure]:
        """All charts."""
        return [*self.tasks, *self.availability, *self.loading, *self.swaps, *self.news, *self.ages, *self.messages]


def gallery(run: Run) -> Gallery:
    """All charts of a run. Raises ConfigError where a table cannot be read."""
    sim_s = float(run.summary["sim_s"])
    unit = data.axis_unit(sim_s, run.scenario_values)
    who = _WHO if (run.nodes["role"] == Role.COORDINATOR.value).any() else _WHO[:1]
    found = data.availability(run.timeline, unit)
    models = _by_size(run, {model: frame[frame["who"].isin(who)] for model, frame in found.items()})
    is_served = bool(models) or len(run.swaps) > 0 or run.nodes["model"].notna().any()
    return Gallery(
        tasks=_tasks(run),
        availability=[_model(number, names, frame, sim_s, unit) for number, (names, frame) in enumerate(models)],
        availability_legend=Legend(who),
        loading=_loading(run, sim_s, unit) if is_served else [],  # else nobody was to have a model
        swaps=_swaps(run),
        news=_news(run),
        ages=_ages(run, sim_s, unit),
        messages=_messages(run, sim_s, unit),
    )


_WHO: Final = ("true", "in the registries", "in a coordinator's eyes")
_AWAY: Final = ("changing the model", "without a model")
_MEAN_SHOWN_FROM: Final = 0.02
"""A mean that stays below this share of an axis lies on its ground line; it is said in words instead."""
_LOG: Final = alt.Scale(type="log", nice=False)
_LOG_TICKS_MIN: Final = 2
"""Labels without which a logarithmic axis cannot be read."""
_BARE: Final = alt.Axis(labels=False, ticks=False, grid=False)
_PERCENT: Final = alt.Scale(domain=[0, 100])


_DELAY: Final = (
    "From a node's change, or a coordinator's sending of a summary, to whoever learned of it. News of another model or "
    "of loading, not of load."
)
_WRONG: Final = (
    "For how long a node had believed something that was no longer so, when news put it right. A summary waits for its "
    "turn, and any change of a count makes it wrong."
)


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
                spec=_cdf(by_via, "via", "latency", "share of answers, %", list(VIAS)),
            )
        )
    return figures


def _by_size(run: Run, models: dict[str, pd.DataFrame]) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """Models by their size: display name and id (two builds may differ in little more), and what to show."""
    entries = {entry["modelId"]: entry for entry in run.scenario_values["catalog"]}

    def size(model: str) -> tuple[float, str]:
        return (entries[model]["paramSize"] if model in entries else math.inf, model)

    shown = ((model, entries.get(model, {}).get("displayName", model)) for model in sorted(models, key=size))
    return [((name, model if model != name else ""), models[model]) for model, name in shown]


def _model(number: int, names: tuple[str, str], frame: pd.DataFrame, sim_s: float, unit: data.TimeUnit) -> Figure:
    x = time_axis(sim_s, unit, ticks=6)
    y = alt.Y("value:Q", title="nodes", axis=count_axis(3))
    colour = alt.Color("who:N", scale=alt.Scale(domain=list(_WHO)), legend=None)
    tooltip = [text_tip("who"), number_tip("value", "nodes"), number_tip("at", unit.title)]
    base = alt.Chart(rounded(frame)).encode(x=x, y=y, color=colour, tooltip=tooltip)
    area = base.transform_filter(alt.datum.who == _WHO[0]).mark_area(interpolate="step-after", opacity=0.3)
    dashes = alt.Scale(domain=list(_WHO[1:]), range=[[6, 3], [2, 2]])
    lines = (
        base.transform_filter(alt.datum.who != _WHO[0])
        .mark_line(interpolate="step-after", strokeWidth=1.6)
        .encode(strokeDash=alt.StrokeDash("who:N", scale=dashes, legend=None))
    )
    title, caption = names
    return Figure(key=f"model-{number}", title=title, caption=caption, spec=as_spec(area + lines, SMALL_HEIGHT))


def _loading(run: Run, sim_s: float, unit: data.TimeUnit) -> list[Figure]:
    changing, without = data.loading(run.swaps, sim_s, unit), data.without_model(run.timeline, unit)
    if not changing["value"].any() and not without["value"].any():
        return []
    frame = pd.concat([changing.assign(what=_AWAY[0]), without.assign(what=_AWAY[1])])
    base = alt.Chart(rounded(frame)).encode(
        x=time_axis(sim_s, unit),
        y=alt.Y("value:Q", title="nodes", axis=alt.Axis(tickCount=4)),
        color=alt.Color("what:N", title=None, scale=alt.Scale(domain=list(_AWAY))),
        tooltip=[text_tip("what"), number_tip("value", "nodes"), number_tip("at", unit.title)],
    )
    area = base.transform_filter(alt.datum.what == _AWAY[0]).mark_area(interpolate="step-after", opacity=0.6)
    line = base.transform_filter(alt.datum.what == _AWAY[1]).mark_line(interpolate="step-after", strokeWidth=1.6)
    caption = (
        f"Changing: a swap is under way, mean over bars of {sim_s / data.LOADING_BINS:.3g} s; the load at a start does "
        "not count. Without: the last load failed, and no other is under way; at each sample."
    )
    spec = as_spec(area + line, SMALL_HEIGHT)
    return [Figure(key="loading", title="Nodes out of service", caption=caption, spec=spec, wide=True)]


def _swaps(run: Run) -> list[Figure]:
    profile = data.swap_profile(run.swaps, run.nodes["name"])
    if not len(profile):
        return []
    phases = list(data.PHASE_LABELS.values())
    count, shown = len(data.made_swaps(run.swaps)), int(profile["rank"].max())
    which = f"All {count} swaps" if shown == count else f"{shown} of {count} swaps, evenly picked"
    bars = (
        alt.Chart(rounded(profile))
        .mark_bar(stroke=None)
        .encode(
            x=alt.X(
                "rank:O",
                title="swaps, the longest first",
                axis=_BARE,
                scale=alt.Scale(paddingInner=0.12, paddingOuter=0),
            ),
            y=alt.Y("seconds:Q", title="seconds", stack="zero"),
            color=alt.Color("phase:N", title=None, scale=alt.Scale(domain=phases)),
            order=alt.Order("order:Q"),
            tooltip=[*map(text_tip, ("who", "model", "outcome", "phase")), _seconds("seconds"), _seconds("total_s")],
        )
    )
    return [
        Figure(
            key="swap-profile",
            title="Every swap, phase by phase" if shown == count else "Swaps, phase by phase",
            caption=f"{which}, the longest first; a bar is one swap, from the first phase at the bottom.",
            spec=as_spec(bars, HEIGHT),
            wide=True,
        ),
        _spread(data.phase_spread(run.swaps)),
    ]


def _spread(frame: pd.DataFrame) -> Figure:
    order = [*data.PHASE_LABELS.values(), data.WHOLE]
    tooltip = [
        text_tip("phase"),
        number_tip("swaps", "swaps"),
        *(_seconds(name) for name in ("p5", "p25", "p50", "p75", "p95", "max")),
    ]
    base = alt.Chart(rounded(frame)).encode(
        y=alt.Y("phase:N", sort=order, title=None, axis=alt.Axis(grid=False, ticks=False, domain=False)),
        color=alt.Color("phase:N", scale=alt.Scale(domain=order), legend=None),
        tooltip=tooltip,
    )
    scale = alt.Scale(type="log", nice=False, padding=12)
    x = alt.X("p5:Q", scale=scale, title="seconds, logarithmic", axis=log_axis(pd.concat([frame["p5"], frame["max"]])))
    whisker = base.mark_rule(strokeWidth=2).encode(x=x, x2="p95:Q")
    box = base.mark_bar(size=14, opacity=0.45).encode(x="p25:Q", x2="p75:Q")
    middle = base.mark_tick(size=20, thickness=3).encode(x="p50:Q")
    most = base.mark_point(size=55, shape="diamond", filled=True).encode(x="max:Q")
    return Figure(
        key="swap-phases",
        title="How long each phase takes",
        caption="Thick mark: median. Box: the middle half. Line: 5 % to 95 %. Diamond: the longest. Over the swaps "
        "that went through the phase.",
        spec=as_spec(whisker + box + middle + most, HEIGHT),
        wide=True,
    )


def _news(run: Run) -> list[Figure]:
    figures = []
    for key, value, title, caption in (
        (
            "news-delay",
            "delay_s",
            "How old news is when it arrives",
            _DELAY,
        ),
        (
            "news-wrong",
            "wrong_s",
            "How long the old word stood",
            _WRONG,
        ),
    ):
        frame = data.news_delay(run.gossip, value)
        if len(frame):
            spec = _cdf(frame, "channel", "time", "share of news, %", list(data.CHANNELS.values()))
            figures.append(Figure(key=key, title=title, caption=caption, spec=spec))
    return figures


def _ages(run: Run, sim_s: float, unit: data.TimeUnit) -> list[Figure]:
    figures = []
    for kind, what in BELIEFS.items():
        largest = data.binned(run.timeline, "staleness_max_s", kind, sim_s, unit)
        mean = data.binned(run.timeline, "staleness_mean_s", kind, sim_s, unit)
        if len(largest) and largest["max"].max() > 0:
            highest = mean["mean"].max()
            is_seen = highest >= _MEAN_SHOWN_FROM * largest["max"].max()
            figures.append(
                Figure(
                    key=f"stale-{kind}",
                    title=f"Age of what is wrong: {BELIEF_NAMES[kind]}",
                    caption=f"{what[0].upper()}{what[1:]}. Bars of {sim_s / data.BINS:.3g} s: the row that had been "
                    f"wrong for longest. {_mean_text(highest, seen=is_seen)}",
                    spec=_age(largest.assign(mean=mean["mean"].to_numpy()), sim_s, unit, with_mean=is_seen),
                )
            )
    return figures


def _mean_text(highest_s: float, *, seen: bool) -> str:
    mean = "ean over all rows and the time of a bar, right rows counting 0"
    return f"Line: m{mean}." if seen else f"The m{mean}, stays below {int(highest_s * 1000) + 1} ms and is not drawn."


def _age(frame: pd.DataFrame, sim_s: float, unit: data.TimeUnit, *, with_mean: bool) -> Spec:
    base = alt.Chart(rounded(frame)).encode(
        x=time_axis(sim_s, unit, ticks=6),
        tooltip=[_seconds("max", "longest, s"), _seconds("mean", "mean, s"), number_tip("at", unit.title)],
    )
    y = alt.Y("max:Q", title="seconds", axis=alt.Axis(tickCount=4))
    area = base.mark_area(interpolate="step-after", opacity=0.3).encode(y=y)
    line = base.mark_line(interpolate="step-after", strokeWidth=1.6).encode(y="mean:Q")
    return as_spec(area + line if with_mean else area, SMALL_HEIGHT + 20)


def _messages(run: Run, sim_s: float, unit: data.TimeUnit) -> list[Figure]:
    totals = data.message_totals(run.messages)
    if not len(totals):
        return []
    nodes = len(run.nodes)
    figures = []
    for value, what in (("count", "Envelopes"), ("bytes", "Bytes")):
        figures.append(
            Figure(
                key=f"message-{value}",
                title=f"{what} by type",
                caption="Local network: the LAN, and the Wi-Fi of phones.",
                spec=_by_type(totals, value, what.lower()),
            )
        )
    for value, what in (("count", "Envelopes"), ("bytes", "Bytes")):
        rates = data.message_rates(run.messages, nodes, sim_s, unit, value)
        figures.append(
            Figure(
                key=f"message-rate-{value}",
                title=f"{what} per node and minute",
                caption=f"Delivered on all links, divided by {nodes} nodes.",
                spec=_rates(rates, what.lower(), sim_s, unit),
            )
        )
    return figures


def _by_type(totals: pd.DataFrame, value: str, what: str) -> Spec:
    order = list(totals.groupby("type")[value].sum().sort_values(ascending=False).index)
    chart = (
        alt.Chart(rounded(totals[["type", "medium", value]].replace({"medium": MEDIUM_NAMES})))
        .mark_bar(size=13)
        .encode(
            y=alt.Y("type:N", sort=order, title=None, axis=alt.Axis(grid=False, ticks=False, domain=False)),
            x=alt.X(f"{value}:Q", title=what, axis=count_axis(5)),
            color=alt.Color("medium:N", title=None, scale=alt.Scale(domain=list(MEDIUM_NAMES.values()))),
            tooltip=[text_tip("type"), text_tip("medium"), alt.Tooltip(f"{value}:Q", title=what, format=",")],
        )
    )
    return as_spec(chart, 40 + 22 * len(order))


def _rates(rates: pd.DataFrame, what: str, sim_s: float, unit: data.TimeUnit) -> Spec:
    order = list(dict.fromkeys(rates["type"]))
    chart = (
        alt.Chart(rounded(rates))
        .mark_area(interpolate="step-after", opacity=0.85)
        .encode(
            x=time_axis(sim_s, unit),
            y=alt.Y("rate:Q", title=what, stack="zero", axis=count_axis(4)),
            color=alt.Color("type:N", title=None, scale=alt.Scale(domain=order)),
            tooltip=[text_tip("type"), number_tip("rate", f"{what} per node and minute")],
        )
    )
    return as_spec(chart, HEIGHT - 50)


def _cdf(frame: pd.DataFrame, by: str, what: str, share: str, order: list[str] | None = None) -> Spec:
    """Cumulative curves over a logarithmic time axis; the legend says how many values each has."""
    found = list(dict.fromkeys(frame[by]))
    counts = frame.groupby(by)["values"].first()
    labels = {name: f"{name} ({counts[name]:,.0f})" for name in (order or found) if name in found}
    frame = frame.assign(**{by: frame[by].map(labels)}).drop(columns="values")
    order_by = alt.Order("share:Q")  # several points may stand at one x
    axis = log_axis(frame["x"])
    x = alt.X("x:Q", scale=_LOG, title=f"{what}, seconds, logarithmic", axis=axis)
    y = alt.Y("share:Q", scale=_PERCENT, title=share, axis=alt.Axis(values=[0, 25, 50, 75, 90, 100]))
    legend = alt.Legend(symbolType="stroke")
    colour = alt.Color(f"{by}:N", title=None, scale=alt.Scale(domain=list(labels.values())), legend=legend)
    tooltip = [text_tip(by), _seconds("x", f"{what}, s"), number_tip("share", share)]
    base = alt.Chart(rounded(frame)).encode(x=x, y=y, color=colour)
    line = base.mark_line(interpolate="step-after", strokeWidth=2).encode(order=order_by)
    return as_spec(line + base.mark_point(size=60, opacity=0).encode(tooltip=tooltip), HEIGHT)


def time_axis(sim_s: float, unit: data.TimeUnit, ticks: int = 12) -> alt.X:
    """The axis of simulated time, the whole run."""
    scale = alt.Scale(domain=[0, sim_s / unit.seconds], nice=False)
    if unit.starts_h is None:
        return alt.X("at:Q", title=unit.title, scale=scale, axis=alt.Axis(grid=False, tickCount=ticks))
    minutes = f"round(datum.value * {unit.seconds / 60:g} + {unit.starts_h * 60:g})"
    clock = f"format(floor({minutes} / 60) % 24, '02') + ':' + format({minutes} % 60, '02')"
    axis = alt.Axis(grid=False, tickCount=ticks, labelExpr=clock)
    return alt.X("at:Q", title="time of day", scale=scale, axis=axis)


def log_axis(values: pd.Series) -> alt.Axis:
    """Ticks at 1 and 3 of each power of ten, or finer ones where less than two of those are among the values, s."""
    low, high = values.min(), values.max()
    for bases in ((1, 3), range(1, 10), np.arange(10, 100) / 10):
        ticks = [float(base) * 10.0**power for power in range(-3, 5) for base in bases]
        if sum(low <= tick <= high for tick in ticks) >= _LOG_TICKS_MIN:
            break
    return alt.Axis(values=[float(f"{tick:.2g}") for tick in ticks], format="~g", grid=True)


def count_axis(ticks: int) -> alt.Axis:
    """Whole numbers, the large ones with an SI prefix; a tick between two of them has no label."""
    label = "datum.value % 1 ? '' : format(datum.value, '~s')"
    return alt.Axis(tickCount=ticks, tickMinStep=1, labelExpr=label)


def text_tip(field: str) -> alt.Tooltip:
    """A line of a tooltip: text."""
    return alt.Tooltip(f"{field}:N")


def number_tip(field: str, title: str) -> alt.Tooltip:
    """A line of a tooltip: a number."""
    return alt.Tooltip(f"{field}:Q", title=title, format=",.4~r")


def _seconds(field: str, title: str | None = None) -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", title=title or field, format=".3~r")


def as_spec(chart: alt.Chart | alt.LayerChart, height: int) -> Spec:
    """The specification of a chart as wide as its place, in the page's looks."""
    spec: Spec = chart.properties(width="container", height=height).to_dict()
    del spec["config"]  # the page's theme decides
    return spec


def rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers to DIGITS significant digits, so that the page stays small."""
    shorter = frame.copy()
    for name in frame.select_dtypes("float").columns:
        shorter[name] = [float(f"{value:.{DIGITS}g}") for value in frame[name]]
    return shorter
