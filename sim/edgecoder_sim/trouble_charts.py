"""The report's view of trouble: which faults were on when, what became of tasks meanwhile, and life offline.

Decides what counts as trouble and which charts there are; marks and looks are those of `charts`. Faults are bands
behind every chart over time, so that cause and effect stand in one place.
"""

from __future__ import annotations

from typing import Final

import altair as alt
import numpy as np
import pandas as pd

from edgecoder_sim import chart_data as data
from edgecoder_sim.charts import SMALL_HEIGHT, Figure, as_spec, count_axis, number_tip, rounded, text_tip, time_axis
from edgecoder_sim.faults.model import MOMENTARY
from edgecoder_sim.recording.tasks import VIAS
from edgecoder_sim.results import Run

LANES_MAX: Final = 24
"""Faults that have a lane of their own; of more, the longest."""
BINS_MAX: Final = 60
"""Bins of time in which tasks are counted;"""
BIN_TASKS: Final = 15
"""fewer where one would have less than so many on the average,"""
BINS_MIN: Final = 10
"""and no less than this."""
SHARES: Final = ("tasks answered", "nodes online")
WAYS: Final = dict(zip(VIAS, ("here", "a peer in range", "own coordinator", "another coordinator"), strict=True))
"""How answers come, as the legend says it."""
STEPS: Final = ("signed", "wait where earned", "at coordinators")
_LANE_PX: Final = 22
_MOMENTARY: Final = {kind.value for kind in MOMENTARY}


def trouble_figures(run: Run) -> list[Figure]:
    """The charts of a run; none where nothing went wrong and nobody was offline. Raises ConfigError where a table
    cannot be read."""
    sim_s = float(run.summary["sim_s"])
    unit = data.axis_unit(sim_s, run.scenario_values)
    faults, nodes = fault_times(run, sim_s), nodes_over_time(run.timeline, sim_s)
    bands = _bands(faults, sim_s, unit)
    figures = [_lanes(faults, sim_s, unit), _outcome(run, nodes, bands, sim_s, unit)] if len(faults) else []
    if nodes["offline"].any():
        figures += [_offline(nodes, bands, sim_s, unit), _ways(run.tasks, bands, sim_s, unit)]
    if len(run.receipts):
        figures.append(_receipts(run.receipts, bands, sim_s, unit))
    return figures


# -- what the charts show ----------------------------------------------------------------------------------------------


def fault_times(run: Run, sim_s: float) -> pd.DataFrame:
    """One row a fault that began: `name`, `kind`, `begin_s`, `end_s`; one that strikes at a moment ends as it begins,
    one that is still on with the run."""
    kinds = {fault["name"]: fault["kind"] for fault in run.scenario_values.get("faults", {}).get("plan", [])}
    told = run.timeline[run.timeline["metric"] == "fault"]
    rows = []
    for name, group in told.groupby("key", sort=False):
        kind, begin_s = kinds.get(str(name), str(name)), float(group["at_s"].min())
        over = group[group["value"] == 0]["at_s"]
        end_s = begin_s if kind in _MOMENTARY else float(over.max()) if len(over) else sim_s
        rows.append((str(name), kind, begin_s, end_s))
    return pd.DataFrame(rows, columns=["name", "kind", "begin_s", "end_s"])


def answered_share(tasks: pd.DataFrame, sim_s: float) -> pd.DataFrame:
    """The share of the tasks that ended in each bin of time that were answered: `at_s` (the middle of a bin),
    `value`, percent. Bins in which none ended are left out."""
    ended = tasks[tasks["ended_s"].notna()]
    bins = bins_for(tasks)
    share = 100 * ended["reason"].isna().groupby(_bin(ended["ended_s"], sim_s, bins)).mean()
    return pd.DataFrame({"at_s": (share.index + 0.5) * sim_s / bins, "value": share.to_numpy(dtype=float)})


def answers_by_way(tasks: pd.DataFrame, sim_s: float) -> pd.DataFrame:
    """Answers a minute in each bin of time by the way they came: `at_s` (a bin's begin; the last one ends with the
    run), `way`, `value`."""
    bins = bins_for(tasks)
    done = tasks[tasks["reason"].isna() & tasks["via"].notna() & tasks["ended_s"].notna()]
    way = done["via"].map(WAYS).rename("way")
    full = pd.MultiIndex.from_product([range(bins), list(WAYS.values())], names=["bin", "way"])
    counts = done.groupby([_bin(done["ended_s"], sim_s, bins).rename("bin"), way]).size().reindex(full, fill_value=0)
    frame = (counts / (sim_s / bins / 60)).rename("value").reset_index()
    frame = pd.concat([frame, frame[frame["bin"] == bins - 1].assign(bin=bins)], ignore_index=True)
    return frame.assign(at_s=frame["bin"] * sim_s / bins).drop(columns="bin")


def nodes_over_time(timeline: pd.DataFrame, sim_s: float) -> pd.DataFrame:
    """Nodes whose coordinator answers, and those that lost theirs and have not found one since, whenever one of the two
    changes, and at the end: `at_s`, `online`, `offline`. A node that dies is neither."""
    told = timeline[timeline["metric"].isin(["node_online", "node_up"])]
    online: set[str] = set()
    offline: set[str] = set()
    rows: dict[float, tuple[int, int]] = {0.0: (0, 0)}
    for at_s, metric, key, value in told[["at_s", "metric", "key", "value"]].itertuples(index=False, name=None):
        online.discard(key)
        offline.discard(key)
        if metric == "node_online":
            (online if value else offline).add(key)
        rows[at_s] = (len(online), len(offline))
    rows[sim_s] = (len(online), len(offline))
    frame = pd.DataFrame([(at_s, *counts) for at_s, counts in rows.items()], columns=["at_s", "online", "offline"])
    return frame.iloc[_thinned(len(frame))]


def receipts_over_time(receipts: pd.DataFrame, sim_s: float) -> pd.DataFrame:
    """Receipts that were signed so far, that wait at who served, and that are at a coordinator, each counted once:
    `at_s`, `step`, `value`."""
    first = receipts.drop_duplicates(["receipt", "step"])
    at_s = np.linspace(0, sim_s, data.TIME_POINTS)

    def so_far(*steps: str) -> np.ndarray:
        times = first[first["step"].isin(steps)].drop_duplicates("receipt")["at_s"].to_numpy()
        return np.searchsorted(np.sort(times), at_s, side="right")

    counts = (so_far("signed"), so_far("queued") - so_far("synced", "refused"), so_far("taken"))
    return pd.concat(
        pd.DataFrame({"at_s": at_s, "step": step, "value": count}) for step, count in zip(STEPS, counts, strict=True)
    )


def bins_for(tasks: pd.DataFrame) -> int:
    """Into how many bins of time the tasks of a run are put."""
    return min(BINS_MAX, max(BINS_MIN, int(tasks["ended_s"].notna().sum()) // BIN_TASKS))


def _bin(at_s: pd.Series, sim_s: float, bins: int) -> pd.Series:
    return (at_s / max(sim_s, 1e-6) * bins).astype(int).clip(upper=bins - 1)


def _thinned(count: int) -> np.ndarray:
    """Which of so many rows are drawn: the first, the last, and evenly those between."""
    return np.unique(np.linspace(0, count - 1, min(count, data.TIME_POINTS)).round().astype(int))


# -- how they are drawn ------------------------------------------------------------------------------------------------


def _bands(faults: pd.DataFrame, sim_s: float, unit: data.TimeUnit) -> alt.Chart:
    """Where a fault was on, behind another chart."""
    frame = pd.DataFrame({"at": faults["begin_s"] / unit.seconds, "to": faults["end_s"] / unit.seconds})
    bands = alt.Chart(rounded(frame[frame["to"] > frame["at"]])).mark_rect(style="band")
    found: alt.Chart = bands.encode(x=time_axis(sim_s, unit), x2="to:Q")
    return found


def _lanes(faults: pd.DataFrame, sim_s: float, unit: data.TimeUnit) -> Figure:
    shown = faults.assign(length=faults["end_s"] - faults["begin_s"])
    shown = shown.sort_values("length", ascending=False, kind="stable").head(LANES_MAX).sort_values("begin_s")
    frame = shown.assign(at=shown["begin_s"] / unit.seconds, to=shown["end_s"] / unit.seconds)
    base = alt.Chart(rounded(frame.drop(columns="length"))).encode(
        x=time_axis(sim_s, unit),
        y=alt.Y(
            "name:N",
            sort=list(frame["name"]),
            title=None,
            axis=alt.Axis(grid=True, ticks=False, domain=False, labelLimit=180),
        ),
        tooltip=[text_tip("name"), text_tip("kind"), number_tip("begin_s", "from, s"), number_tip("end_s", "to, s")],
    )
    bars = base.mark_bar(size=10).encode(x2="to:Q")
    moments = base.transform_filter("datum.to === datum.at").mark_point(shape="diamond", size=70, filled=True)
    which = "" if len(shown) == len(faults) else f" The longest {len(shown)} of {len(faults)}."
    return Figure(
        key="faults-when",
        title="What went wrong, and when",
        caption=f"One line a fault of the scenario. A diamond: it strikes at a moment.{which}",
        spec=as_spec(bars + moments, 40 + _LANE_PX * len(shown)),
        wide=True,
    )


def _outcome(run: Run, nodes: pd.DataFrame, bands: alt.Chart, sim_s: float, unit: data.TimeUnit) -> Figure:
    members = max(1, int((run.nodes["role"] != "coordinator").sum()))
    online = pd.DataFrame({"at_s": nodes["at_s"], "value": 100 * nodes["online"] / members, "what": SHARES[1]})
    shares = [answered_share(run.tasks, sim_s).assign(what=SHARES[0]), online]
    frame = pd.concat(shares)
    lines = (
        alt.Chart(rounded(frame.assign(at=frame["at_s"] / unit.seconds).drop(columns="at_s")))
        .mark_line(strokeWidth=2)
        .encode(
            order="at:Q",
            x=time_axis(sim_s, unit),
            y=alt.Y("value:Q", title="%", scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(tickCount=5)),
            color=alt.Color(
                "what:N", title=None, scale=alt.Scale(domain=list(SHARES)), legend=alt.Legend(symbolType="stroke")
            ),
            tooltip=[text_tip("what"), number_tip("value", "%"), number_tip("at", unit.title)],
        )
    )
    return Figure(
        key="faults-outcome",
        title="What became of it",
        caption=f"Of the tasks that ended within {sim_s / bins_for(run.tasks):.3g} s, those that were answered; of "
        "phones and agents, those whose coordinator answers. Bands: a fault is on.",
        spec=as_spec(bands + lines, 2 * SMALL_HEIGHT),
        wide=True,
    )


def _offline(frame: pd.DataFrame, bands: alt.Chart, sim_s: float, unit: data.TimeUnit) -> Figure:
    area = (
        alt.Chart(rounded(frame.assign(at=frame["at_s"] / unit.seconds).drop(columns="at_s")))
        .mark_area(interpolate="step-after", opacity=0.6)
        .encode(
            x=time_axis(sim_s, unit),
            y=alt.Y("offline:Q", title="nodes", stack=None, axis=count_axis(4)),
            tooltip=[number_tip("offline", "nodes"), number_tip("at", unit.title)],
        )
    )
    return Figure(
        key="offline-nodes",
        title="Nodes offline",
        caption="Phones and agents that lost their coordinator and have not found one yet.",
        spec=as_spec(bands + area, SMALL_HEIGHT),
        wide=True,
    )


def _ways(tasks: pd.DataFrame, bands: alt.Chart, sim_s: float, unit: data.TimeUnit) -> Figure:
    frame = answers_by_way(tasks, sim_s)
    area = (
        alt.Chart(rounded(frame.assign(at=frame["at_s"] / unit.seconds).drop(columns="at_s")))
        .mark_area(interpolate="step-after", opacity=0.85)
        .encode(
            x=time_axis(sim_s, unit),
            y=alt.Y("value:Q", title="answers a minute", stack="zero", axis=count_axis(4)),
            color=alt.Color("way:N", title=None, scale=alt.Scale(domain=list(WAYS.values()))),
            tooltip=[text_tip("way"), number_tip("value", "answers a minute"), number_tip("at", unit.title)],
        )
    )
    return Figure(
        key="offline-ways",
        title="Where answers came from",
        caption="Answers a minute by who gave them; a coordinator is reached over the IP network.",
        spec=as_spec(bands + area, 2 * SMALL_HEIGHT),
        wide=True,
    )


def _receipts(receipts: pd.DataFrame, bands: alt.Chart, sim_s: float, unit: data.TimeUnit) -> Figure:
    frame = receipts_over_time(receipts, sim_s)
    base = alt.Chart(rounded(frame.assign(at=frame["at_s"] / unit.seconds).drop(columns="at_s"))).encode(
        x=time_axis(sim_s, unit),
        y=alt.Y("value:Q", title="receipts", stack=None, axis=count_axis(4)),
        color=alt.Color("step:N", title=None, scale=alt.Scale(domain=list(STEPS)), legend=alt.Legend(symbolOpacity=1)),
        tooltip=[text_tip("step"), number_tip("value", "receipts"), number_tip("at", unit.title)],
    )
    area = base.transform_filter(alt.datum.step == STEPS[1]).mark_area(interpolate="step-after", opacity=0.4)
    lines = base.transform_filter(alt.datum.step != STEPS[1]).mark_line(interpolate="step-after", strokeWidth=2)
    return Figure(
        key="offline-receipts",
        title="Receipts for what was answered offline",
        caption="Signed by who asked, waiting on the disk of who served, and brought to a coordinator; each counts "
        "once, wherever it is.",
        spec=as_spec(bands + area + lines, 2 * SMALL_HEIGHT),
        wide=True,
    )
