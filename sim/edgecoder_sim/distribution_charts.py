"""The report's view of files that came piece by piece: how soon, from where, from whom, and why.

Decides which charts there are and their words; what they show is `distribution_data`, marks and looks are those of
`charts`. Amounts in a grid are shades of one colour.
"""

from __future__ import annotations

from typing import Any, Final

import altair as alt
import pandas as pd

from edgecoder.errors import REASONS
from edgecoder_sim import chart_data as data
from edgecoder_sim import distribution_data as of
from edgecoder_sim.charts import (
    HEIGHT,
    SMALL_HEIGHT,
    Figure,
    Spec,
    as_spec,
    count_axis,
    number_tip,
    rounded,
    text_tip,
    time_axis,
)
from edgecoder_sim.results import Run

_GROUPED: Final = " Nodes are put together by how much they gave in all, most first."
_ROW_PX: Final = 15
_BAR_PX: Final = 24
_SIZES: Final = alt.Axis(tickCount=4, format="~s")
_SHADES: Final = alt.Scale(range=[0.06, 1])
_REASON_TEXT: Final = {reason.value: info.message for reason, info in REASONS.items()} | {
    "duplicate": "it had come before from another source"
}


def distribution_figures(run: Run) -> list[Figure]:
    """The charts of a run; none where no file came piece by piece. Raises ConfigError where a table cannot be read."""
    if run.transfers.empty:
        return []
    sim_s = float(run.summary["sim_s"])
    unit = data.axis_unit(sim_s, run.scenario_values)
    figures = _rates(run, sim_s, unit) + _finishes(of.downloads(run))
    figures += _swarm(run, sim_s, unit) + _lorenz(run) + _whys(run) + _losses(run)
    if len(run.uploads):
        figures += [_senders(run, sim_s, unit), *_matrix(run)]
    return figures


def _rates(run: Run, sim_s: float, unit: data.TimeUnit) -> list[Figure]:
    frame = of.rates(run.timeline, sim_s)
    if frame.empty:
        return []
    names = [name for name in of.SOURCE_NAMES.values() if name in set(frame["source"])]
    area = (
        alt.Chart(rounded(frame.assign(at=frame["at_s"] / unit.seconds).drop(columns="at_s")))
        .mark_area(interpolate="step-after", opacity=0.85)
        .encode(
            x=time_axis(sim_s, unit),
            y=alt.Y("value:Q", title="bytes a second", stack="zero", axis=_SIZES),
            color=alt.Color("source:N", title=None, scale=alt.Scale(domain=names)),
            order=alt.Order("source:N"),
            tooltip=[text_tip("source"), _bytes_tip("value", "bytes a second"), number_tip("at", unit.title)],
        )
    )
    return [
        Figure(
            key="distribution-sources",
            title="Where bytes came from, over time",
            caption="Verified bytes of all nodes together; a piece counts when it is there.",
            spec=as_spec(area, 2 * SMALL_HEIGHT),
            wide=True,
        )
    ]


def _finishes(found: pd.DataFrame) -> list[Figure]:
    frame, what, left_out = of.finishes(found)
    if frame.empty:
        return []
    bounded = "times" in what
    caption = "By class of device. " + (
        "1 is the least time that any policy needs for this node: its downlink, what all others can send, and the "
        "origin's uplink since the first node asked, in water that flows at once."
        if bounded
        else "From asking to the last piece."
    )
    if left_out:
        caption += f" Without {left_out:,} that came over radios or had begun before, of which no such time is known."
    labels = {name: f"{name} ({int(group['values'].iloc[0]):,})" for name, group in frame.groupby("device")}
    frame = frame.assign(device=frame["device"].map(labels)).drop(columns="values")
    frame = frame[frame["share"] > 0]
    base = alt.Chart(rounded(frame)).encode(
        x=alt.X(
            "x:Q", title=what, scale=alt.Scale(domainMin=1 if bounded else 0, nice=True), axis=alt.Axis(tickCount=6)
        ),
        y=alt.Y("share:Q", title="share of downloads, %", scale=alt.Scale(domain=[0, 100])),
        color=alt.Color(
            "device:N",
            title=None,
            scale=alt.Scale(domain=list(labels.values())),
            legend=alt.Legend(symbolType="stroke"),
        ),
    )
    lines = base.mark_line(interpolate="step-after", strokeWidth=2).encode(order=alt.Order("share:Q"))
    tips = base.mark_point(size=60, opacity=0).encode(
        tooltip=[text_tip("device"), number_tip("x", what), number_tip("share", "share of downloads, %")]
    )
    return [
        Figure(
            key="distribution-finish",
            title="How soon downloads were done",
            caption=caption,
            spec=as_spec(lines + tips, HEIGHT),
        )
    ]


def _swarm(run: Run, sim_s: float, unit: data.TimeUnit) -> list[Figure]:
    frame = of.swarm_sizes(run.timeline, sim_s)
    if frame.empty:
        return []
    lines = (
        alt.Chart(rounded(frame.assign(at=frame["at_s"] / unit.seconds).drop(columns="at_s")))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            order="at:Q",
            x=time_axis(sim_s, unit, 6),
            y=alt.Y("value:Q", title="nodes", axis=count_axis(4)),
            color=alt.Color("what:N", title=None, legend=alt.Legend(symbolType="stroke"), sort=None),
            tooltip=[text_tip("what"), number_tip("value", "nodes"), number_tip("at", unit.title)],
        )
    )
    return [
        Figure(
            key="distribution-swarm",
            title="The swarm",
            caption="Nodes as brokers know them, all files together; one node counts once for each file.",
            spec=as_spec(lines, HEIGHT),
        )
    ]


def _lorenz(run: Run) -> list[Figure]:
    amounts = of.given(run)
    if not amounts.sum():
        return []
    frame = of.lorenz(amounts)
    even = pd.DataFrame({"nodes": [0.0, 100.0], "given": [0.0, 100.0]})
    axes: dict[str, Any] = {
        "x": alt.X("nodes:Q", title="nodes, those who gave least first, %", scale=alt.Scale(domain=[0, 100])),
        "y": alt.Y("given:Q", title="share of the bytes given, %", scale=alt.Scale(domain=[0, 100])),
    }
    curve = (
        alt.Chart(rounded(frame))
        .mark_area(opacity=0.35, line=True)
        .encode(**axes, tooltip=[number_tip("nodes", "nodes, %"), number_tip("given", "bytes given, %")])
    )
    line = alt.Chart(even).mark_line(strokeDash=[3, 3], strokeWidth=1).encode(**axes)
    gini = run.summary["metrics"].get("upload_gini")
    said = "" if gini is None else f" Gini coefficient: {gini:.2f}."
    return [
        Figure(
            key="distribution-lorenz",
            title="How evenly nodes gave",
            caption=f"The {len(amounts):,} nodes that wanted or gave a file; dashed: all give alike.{said}",
            spec=as_spec(curve + line, HEIGHT),
        )
    ]


def _whys(run: Run) -> list[Figure]:
    frame = of.sought(run.summary["metrics"])
    if frame.empty:
        return []
    bars = (
        alt.Chart(frame)
        .mark_bar(size=13)
        .encode(
            y=alt.Y(
                "why:N", sort=None, title=None, axis=alt.Axis(grid=False, ticks=False, domain=False, labelLimit=200)
            ),
            x=alt.X("value:Q", title="pieces", axis=count_axis(4)),
            tooltip=[text_tip("why"), text_tip("code"), alt.Tooltip("value:Q", title="pieces", format=",")],
        )
    )
    return [
        Figure(
            key="distribution-why",
            title="Why a source was asked",
            caption="Pieces by the reason code of whoever decided. A broker grants peers or the origin; near and "
            "rarest lead to peers, the others to the CDN.",
            spec=as_spec(bars, 40 + _BAR_PX * len(frame)),
        )
    ]


def _losses(run: Run) -> list[Figure]:
    losses = run.losses.groupby(["source", "reason"], as_index=False)[["requests", "wasted_bytes"]].sum()
    if losses.empty:
        return []
    frame = losses.assign(
        source=losses["source"].map(of.SOURCE_NAMES), meaning=losses["reason"].map(_REASON_TEXT).fillna("")
    )
    order = list(frame.groupby("reason")["requests"].sum().sort_values(ascending=False).index)
    names = [name for name in of.SOURCE_NAMES.values() if name in set(frame["source"])]
    bars = (
        alt.Chart(frame)
        .mark_bar(size=13)
        .encode(
            y=alt.Y(
                "reason:N", sort=order, title=None, axis=alt.Axis(grid=False, ticks=False, domain=False, labelLimit=200)
            ),
            x=alt.X("requests:Q", title="requests", axis=count_axis(4)),
            color=alt.Color("source:N", title=None, scale=alt.Scale(domain=names)),
            tooltip=[
                text_tip("reason"),
                text_tip("meaning"),
                text_tip("source"),
                alt.Tooltip("requests:Q", format=","),
                _bytes_tip("wasted_bytes", "wasted bytes"),
            ],
        )
    )
    wasted, came = float(losses["wasted_bytes"].sum()), float(run.uploads["bytes"].sum())
    share = f", {100 * wasted / came:.2g} % of what came" if came else ""
    return [
        Figure(
            key="distribution-losses",
            title="What did not come, and what came in vain",
            caption=f"Requests that did not bring what they were to, by reason. Wasted: {_size(wasted)}{share}.",
            spec=as_spec(bars, 60 + _BAR_PX * len(order)),
        )
    ]


def _senders(run: Run, sim_s: float, unit: data.TimeUnit) -> Figure:
    frame = of.senders_over_time(run, sim_s)
    rows = list(frame.sort_values("order")["row"].drop_duplicates())
    frame = frame.assign(at=frame["at_s"] / unit.seconds, to=frame["to_s"] / unit.seconds)
    grouped = _GROUPED if _is_grouped(rows) else ""
    return Figure(
        key="distribution-senders",
        title="Who gave when",
        caption=f"Verified bytes a second of a sender: the darker, the more.{grouped}",
        spec=_shades(
            frame[["row", "at", "to", "value"]],
            {"x": time_axis(sim_s, unit), "x2": "to:Q"},
            alt.Y("row:N", sort=rows, title=None, axis=alt.Axis(grid=False, ticks=False, domain=False, labelLimit=110)),
            [text_tip("row"), number_tip("at", unit.title), _bytes_tip("value", "bytes a second")],
            len(rows),
        ),
        wide=True,
    )


def _is_grouped(rows: list[str]) -> bool:
    return any(" to " in row for row in rows)


def _matrix(run: Run) -> list[Figure]:
    frame = of.who_to_whom(run)
    if len({of.ORIGIN, *frame["sender"], *frame["receiver"]}) == 2:
        return []  # one node, which the other charts show
    rows = sorted(set(frame["sender"]), key=lambda name: (name != of.ORIGIN, _natural(name)))
    columns = sorted(set(frame["receiver"]), key=_natural)
    grouped = _GROUPED if _is_grouped(rows) else ""
    figure = Figure(
        key="distribution-matrix",
        title="Who gave to whom",
        caption=f"Verified bytes in the whole run, from the row to the column: the darker, the more.{grouped}",
        spec=_shades(
            frame.rename(columns={"sender": "row", "bytes": "value"}),
            {
                "x": alt.X(
                    "receiver:N",
                    sort=columns,
                    title="receiver",
                    axis=alt.Axis(
                        grid=False, ticks=False, domain=False, labelAngle=-45, labelLimit=90, labelOverlap=True
                    ),
                )
            },
            alt.Y(
                "row:N", sort=rows, title="sender", axis=alt.Axis(grid=False, ticks=False, domain=False, labelLimit=110)
            ),
            [alt.Tooltip("row:N", title="sender"), text_tip("receiver"), _bytes_tip("value", "bytes")],
            len(rows),
        ),
        wide=True,
    )
    return [figure]


def _shades(frame: pd.DataFrame, across: dict[str, Any], down: alt.Y, tips: list[alt.Tooltip], rows: int) -> Spec:
    """A grid in which more is darker."""
    grid = (
        alt.Chart(rounded(frame))
        .mark_rect()
        .encode(y=down, opacity=alt.Opacity("value:Q", legend=None, scale=_SHADES), tooltip=tips, **across)
    )
    return as_spec(grid, max(60, _ROW_PX * rows))


def _natural(name: str) -> tuple[str, int]:
    """So that agent-10 comes after agent-9, and those who gave most first."""
    begin = name.partition(" to ")[0].replace(",", "")
    if begin.isdecimal():
        return ("", int(begin))
    stem, _, number = name.rpartition("-")
    return (stem, int(number)) if number.isdecimal() else (name, 0)


def _bytes_tip(field: str, title: str) -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", title=title, format=".3~s")


def _size(size_bytes: float) -> str:
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.3g} {unit}"
    return f"{size_bytes:.0f} bytes"
