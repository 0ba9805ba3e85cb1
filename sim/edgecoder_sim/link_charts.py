"""The report's charts of radios that scan: links that are open, and how long nodes take to know each other."""

from __future__ import annotations

from typing import Final

import altair as alt
import pandas as pd

from edgecoder_sim import chart_data as data
from edgecoder_sim.charts import HEIGHT, Figure, Spec, as_spec
from edgecoder_sim.people_charts import share_curve
from edgecoder_sim.results import Run
from edgecoder_sim.tables import MEDIUM_NAMES

TICKS: Final = (0, 1, 10, 100, 1000, 10_000, 100_000)
"""Of the links: a few over Bluetooth stand beside hundreds over IP."""
SOON_S: Final = 60.0
"""By then who is in range should be known."""


def radio_figures(run: Run) -> list[Figure]:
    """The charts of a run's radios; none where they do not scan. Raises ConfigError where a table cannot be read."""
    links = links_over_time(run.timeline)
    figures = []
    if not links.empty:
        figures.append(
            Figure(
                key="radio-links",
                title="Links that are open",
                caption="At each sample, by medium; the axis is logarithmic above 1. A link over Bluetooth is open "
                "while it is read or used; those over IP lead to coordinators.",
                spec=_links(links, float(run.summary["sim_s"])),
                wide=True,
            )
        )
    took_s = run.discoveries["took_s"]
    if len(took_s):
        soon = (took_s <= SOON_S).mean()
        figures.append(
            Figure(
                key="radio-discovery",
                title="How soon who is in range is known",
                caption=f"{len(took_s):,} discoveries, half of them within {took_s.median():,.1f} s and "
                f"{100 * soon:.1f} % within a minute. Who parted before is not among them.",
                spec=share_curve(took_s, "seconds, logarithmic", "share of discoveries, %", is_log=True),
            )
        )
    return figures


def links_over_time(timeline: pd.DataFrame) -> pd.DataFrame:
    """Links at the samples, of media that were used: columns `at_s`, `medium` as people are told of it, `links`."""
    rows = timeline[timeline["metric"] == "links"]
    used = rows.groupby("key")["value"].transform("max") > 0
    found = rows[used].assign(medium=lambda frame: frame["key"].map(MEDIUM_NAMES), links=lambda frame: frame["value"])
    return found[["at_s", "medium", "links"]].reset_index(drop=True)


def _links(links: pd.DataFrame, sim_s: float) -> Spec:
    unit = data.time_unit(sim_s)
    frame = links.assign(at=(links["at_s"] / unit.seconds).round(4))[["at", "medium", "links"]]
    whole = alt.Scale(domain=[0, sim_s / unit.seconds], nice=False)
    chart = (
        alt.Chart(frame)
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("at:Q", title=unit.title, scale=whole, axis=alt.Axis(grid=False, tickCount=12)),
            y=alt.Y("links:Q", title="links", scale=alt.Scale(type="symlog"), axis=alt.Axis(values=TICKS, format="~s")),
            color=alt.Color("medium:N", title=None),
            tooltip=[
                alt.Tooltip("at:Q", title=unit.title, format=".3~r"),
                alt.Tooltip("medium:N", title="medium"),
                alt.Tooltip("links:Q", title="links"),
            ],
        )
    )
    return as_spec(chart, HEIGHT // 2)
