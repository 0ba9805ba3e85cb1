"""The report's charts of people: a map, contacts over time, how long contacts last, and how many each person met."""

from __future__ import annotations

from typing import Final

import altair as alt
import numpy as np
import pandas as pd

from edgecoder_sim import chart_data as data
from edgecoder_sim.charts import HEIGHT, Figure, Spec, as_spec
from edgecoder_sim.people import SAMPLED_MAX
from edgecoder_sim.results import Run

MAP_HEIGHT: Final = 440
BINS: Final = 120
"""Points of the contacts over time."""
POINTS_MAX: Final = 200
"""Points of a cumulative curve."""
NO_MODEL: Final = "no model"


def people_figures(run: Run) -> list[Figure]:
    """The charts of a run's people; none where nobody has a place and nobody met. Raises ConfigError where a table
    cannot be read."""
    return [*_map(run), *_contacts(run)]


def map_points(run: Run) -> tuple[pd.DataFrame, float]:
    """Where nodes were in the sample with most of them, what they are and which model they began with; and the time of
    that, s."""
    nodes = run.nodes.set_index("node")
    if len(run.positions):
        counts = run.positions["at_s"].value_counts().sort_index()
        at_s = float(counts.index.to_numpy()[counts.to_numpy().argmax()])
        places = run.positions[run.positions["at_s"] == at_s].set_index("node")[["x_m", "y_m"]]
    else:
        at_s, places = 0.0, nodes[["x_m", "y_m"]].dropna()
    places = places.iloc[:: max(1, -(-len(places) // SAMPLED_MAX))]
    found = places.join(nodes[["name", "role", "model"]])
    return found.assign(model=found["model"].fillna(NO_MODEL)).reset_index(drop=True), at_s


def contacts_over_time(contacts: pd.DataFrame, sim_s: float) -> pd.DataFrame:
    """Contacts that are open at BINS times: columns `at_s` and `open`."""
    at_s = (np.arange(BINS) + 0.5) * sim_s / BINS
    begun = np.searchsorted(np.sort(contacts["begin_s"].to_numpy()), at_s, side="right")
    ended = np.searchsorted(np.sort(contacts["end_s"].to_numpy()), at_s, side="right")
    return pd.DataFrame({"at_s": at_s, "open": begun - ended})


def people_met(contacts: pd.DataFrame) -> pd.Series:
    """How many others each node met, of those that met anybody; by node."""
    pairs = contacts[["first", "second"]].drop_duplicates()
    ends = pd.concat([pairs["first"], pairs["second"]])
    met: pd.Series = ends.value_counts().sort_index()
    return met


def _map(run: Run) -> list[Figure]:
    points, at_s = map_points(run)
    if points.empty:
        return []
    when = "at the begin of the run" if at_s == 0 else f"after {at_s:,.0f} s, when most were there"
    which = f"{len(points):,} nodes" + (", evenly picked" if len(run.nodes) > SAMPLED_MAX else "")
    chart = (
        alt.Chart(points.assign(x_m=points["x_m"].round(1), y_m=points["y_m"].round(1)))
        .mark_point(filled=True, size=28, opacity=0.75)
        .encode(
            x=alt.X("x_m:Q", title="metres", axis=alt.Axis(grid=False, tickCount=12)),
            y=alt.Y("y_m:Q", title="metres", axis=alt.Axis(grid=False)),
            color=alt.Color("model:N", title=None),
            shape=alt.Shape("role:N", title=None, scale=alt.Scale(domain=["phone", "agent"])),
            tooltip=[alt.Tooltip("name:N"), alt.Tooltip("model:N")],
        )
    )
    caption = f"Where nodes with a radio were {when}: {which}. Colour: the model that a node began with."
    return [
        Figure(key="people-map", title="Where people are", caption=caption, spec=as_spec(chart, MAP_HEIGHT), wide=True)
    ]


def _contacts(run: Run) -> list[Figure]:
    contacts = run.contacts
    if contacts.empty:
        return []
    sim_s = float(run.summary["sim_s"])
    unit = data.axis_unit(sim_s, run.scenario_values)
    over_time = contacts_over_time(contacts, sim_s)
    over_time = pd.DataFrame({"at": (over_time["at_s"] / unit.seconds).round(4), "open": over_time["open"]})
    whole = alt.Scale(domain=[0, sim_s / unit.seconds], nice=False)
    area = (
        alt.Chart(over_time)
        .mark_area(interpolate="step", opacity=0.5)
        .encode(
            x=alt.X("at:Q", title=unit.title, scale=whole, axis=alt.Axis(grid=False, tickCount=12)),
            y=alt.Y("open:Q", title="contacts", axis=alt.Axis(tickCount=4, format="~s")),
            tooltip=[alt.Tooltip("at:Q", title=unit.title, format=".3~r"), alt.Tooltip("open:Q", title="contacts")],
        )
    )
    lengths_s, met = contacts["end_s"] - contacts["begin_s"], people_met(contacts)
    return [
        Figure(
            key="contacts-time",
            title="Contacts at a time",
            caption=f"Pairs of people in range of each other, nodes on or off; {len(contacts):,} contacts in all.",
            spec=as_spec(area, HEIGHT // 2),
            wide=True,
        ),
        Figure(
            key="contact-lengths",
            title="How long contacts last",
            caption=f"Half last {lengths_s.median():,.0f} s or less. Contacts are cut at both ends of the run.",
            spec=share_curve(lengths_s, "seconds, logarithmic", "share of contacts, %", is_log=True),
        ),
        Figure(
            key="people-met",
            title="How many others a node meets",
            caption=f"In the whole run, of the {len(met):,} nodes that met anybody; {met.mean():,.1f} on average.",
            spec=share_curve(met, "other nodes", "share of nodes, %", is_log=False),
        ),
    ]


def share_curve(values: pd.Series, what: str, share: str, *, is_log: bool) -> Spec:
    """How many per cent of the values are at most x, at POINTS_MAX points."""
    ordered = np.sort(values.to_numpy(dtype=float))
    steps = np.unique(np.linspace(0, len(ordered) - 1, POINTS_MAX).astype(int))
    frame = pd.DataFrame({"x": ordered[steps], "share": (100 * (steps + 1) / len(ordered)).round(2)})
    if is_log:
        frame = frame[frame["x"] > 0]
    scale = alt.Scale(type="log", nice=False) if is_log else alt.Scale(zero=True)
    chart = (
        alt.Chart(frame.assign(x=frame["x"].round(3)))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("x:Q", title=what, scale=scale, axis=alt.Axis(tickCount=6, format="~s")),
            y=alt.Y("share:Q", title=share, scale=alt.Scale(domain=[0, 100])),
            order=alt.Order("share:Q"),
            tooltip=[alt.Tooltip("x:Q", title=what, format=".3~r"), alt.Tooltip("share:Q", title=share)],
        )
    )
    return as_spec(chart, HEIGHT)
