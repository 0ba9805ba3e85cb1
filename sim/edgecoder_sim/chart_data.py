"""What the charts show: a run's tables, boiled down to some hundred points each.

Decides bins, quantiles and what counts; how it is drawn is left to `charts`. Every function takes the tables of
`results.Run` and returns a small frame with plain columns.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from edgecoder_sim.results import swap_numbers
from edgecoder_sim.tables import MEDIUM_NAMES, PHASES

CDF_POINTS: Final = 160
"""Points of one cumulative curve."""
TIME_POINTS: Final = 300
"""Points of one curve over time."""
BINS: Final = 72
"""Bins of time in charts that average."""
LOADING_BINS: Final = 2 * BINS
"""The same for the chart of nodes out of service."""
SWAPS_SHOWN: Final = 240
"""Swaps drawn one by one; of more, every so manieth by length."""
TYPES_SHOWN: Final = 6
"""Message types with a colour of their own; the others are added up."""
OTHER: Final = "other"
WHOLE: Final = "whole swap"
FLOOR_S: Final = 0.001
"""Logarithmic time axes begin here, s."""
CHANNELS: Final = {
    "heartbeat": "heartbeat",
    **{medium: f"peer, {name}" for medium, name in MEDIUM_NAMES.items()},
    "summary": "summary",
}
"""How news travels, as the legend says it."""
PHASE_LABELS: Final = {
    **{column: column.removesuffix("_s").replace("_", " ") for column in PHASES.values()},
    "confirming_s": "confirming",
}
"""Phases of a swap as the legend says them, by column of `swaps`, in the order in which they come."""


class TimeUnit(NamedTuple):
    """The unit of an axis of simulated time."""

    seconds: float
    title: str
    starts_h: float | None = None
    """The hour of the day at which the axis begins, where people live by the clock."""


def time_unit(sim_s: float) -> TimeUnit:
    """Seconds, minutes or hours, so that the axis ends at a number that can be read."""
    if sim_s <= 600:
        return TimeUnit(1, "simulated seconds")
    return TimeUnit(60, "simulated minutes") if sim_s <= 6 * 3600 else TimeUnit(3600, "simulated hours")


def axis_unit(sim_s: float, scenario: dict[str, Any]) -> TimeUnit:
    """The unit of a run's axes of time; where people of its complete scenario live by a day, they count the clock."""
    has_day = "working_day" in scenario["mobility"].values()
    has_day = has_day or any(each["by_day"] for each in scenario["presence"].values())
    return time_unit(sim_s)._replace(starts_h=scenario["day"]["starts_h"] if has_day else None)


def cumulative(values: Iterable[float], total: int | None = None) -> pd.DataFrame:
    """The cumulative distribution of durations, s, from 0 on: `x`, and `share` in percent of `total` (else of the
    values). Column `values` says how many there are."""
    ordered = np.sort(np.asarray(list(values), dtype=float))
    if not len(ordered):
        return pd.DataFrame({"x": [], "share": [], "values": []}, dtype=float)
    ranks = np.unique(np.linspace(0, len(ordered) - 1, CDF_POINTS).round().astype(int))
    tail = len(ordered) - 1 - np.arange(min(20, len(ordered)))  # the last few one by one: that is where tails are
    ranks = np.unique(np.concatenate([ranks, tail]))
    share = np.concatenate([[0.0], 100 * (ranks + 1) / (total or len(ordered))])
    x = np.maximum(FLOOR_S, ordered[np.concatenate([[0], ranks])])
    return pd.DataFrame({"x": x, "share": share, "values": len(ordered)})


def quantile(values: pd.Series, share: float) -> float:
    """The smallest value that `share` (0 to 1) of the values do not exceed, as `recording.histogram` has it; NaN of
    none."""
    return float(np.quantile(values.to_numpy(dtype=float), share, method="inverted_cdf")) if len(values) else math.nan


def cumulative_by(frame: pd.DataFrame, value: str, by: str, totals: dict[str, int] | None = None) -> pd.DataFrame:
    """A cumulative distribution for each value of a column: `by` and what `cumulative` gives. `totals` are what 100 %
    means."""
    parts = []
    for name, group in frame.groupby(by, sort=True, observed=True):
        total = None if totals is None else totals[str(name)]
        parts.append(cumulative(group[value].dropna(), total).assign(**{by: str(name)}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[by, "x", "share", "values"])


def answered(tasks: pd.DataFrame) -> pd.DataFrame:
    """The tasks that were answered."""
    return tasks[tasks["reason"].isna()]


def latency_by_kind(tasks: pd.DataFrame) -> pd.DataFrame:
    """Latency of answers by kind of task, as a share of all tasks of the kind that ended: the gap to 100 % is what was
    not answered."""
    ended = tasks[tasks["ended_s"].notna()]
    return cumulative_by(answered(ended), "latency_s", "kind", _counts(ended["kind"]))


def latency_by_via(tasks: pd.DataFrame) -> pd.DataFrame:
    """Latency of answers by the way they came."""
    return cumulative_by(answered(tasks), "latency_s", "via")


def outcomes(tasks: pd.DataFrame) -> pd.DataFrame:
    """One row a kind of task: how many, the share that was answered, quantiles of latency, why the others failed."""
    rows = []
    for kind, group in tasks.groupby("kind", sort=True):
        ended = group[group["ended_s"].notna()]
        done = answered(ended)
        failed = ended[ended["reason"].notna()]["reason"].value_counts()
        rows.append(
            {
                "kind": kind,
                "asked": len(group),
                "answered_pct": 100 * len(done) / len(ended) if len(ended) else float("nan"),
                **{f"p{percent}_s": quantile(done["latency_s"], percent / 100) for percent in (50, 90, 99)},
                "self_pct": 100 * float((done["via"] == "self").mean()) if len(done) else float("nan"),
                "failed": ", ".join(f"{count} {reason}" for reason, count in failed.head(3).items()),
            }
        )
    return pd.DataFrame(rows)


def series(timeline: pd.DataFrame, metric: str, unit: TimeUnit) -> pd.DataFrame:
    """A metric of the timeline, thinned: `at` in `unit`, `key`, `value`."""
    frame = timeline[timeline["metric"] == metric]
    times = np.sort(frame["at_s"].unique())
    step = max(1, -(-len(times) // TIME_POINTS))
    kept = times[::step]
    frame = frame[frame["at_s"].isin(kept)]
    return pd.DataFrame({"at": frame["at_s"] / unit.seconds, "key": frame["key"], "value": frame["value"]})


def binned(timeline: pd.DataFrame, metric: str, key: str, sim_s: float, unit: TimeUnit) -> pd.DataFrame:
    """A metric of one key in BINS bins of time, mean and largest: `at` in `unit` (a bin's begin), `mean`, `max`."""
    frame = timeline[(timeline["metric"] == metric) & (timeline["key"] == key)]
    width_s = max(sim_s, 1e-6) / BINS
    number = (np.ceil(frame["at_s"] / width_s - 1e-9).astype(int) - 1).clip(lower=0, upper=BINS - 1)
    groups = frame["value"].groupby(number)
    found = pd.DataFrame({"mean": groups.mean(), "max": groups.max()})
    found = found.assign(at=found.index * width_s / unit.seconds)
    return pd.concat([found, found.tail(1).assign(at=sim_s / unit.seconds)])  # or a step would not show the last bin


def loading(swaps: pd.DataFrame, sim_s: float, unit: TimeUnit) -> pd.DataFrame:
    """Nodes that were out of service for a swap, mean over each bin of time: `at` in `unit` (its begin), `value`."""
    if not sim_s:
        return pd.DataFrame({"at": [], "value": []}, dtype=float)
    made = made_swaps(swaps)
    begins = made["started_s"].to_numpy()
    ends = begins + made["total_s"].to_numpy() - made["confirming_s"].to_numpy()
    edges = np.linspace(0, sim_s, LOADING_BINS + 1)
    overlap = np.minimum(ends[:, None], edges[1:]) - np.maximum(begins[:, None], edges[:-1])
    value = np.clip(overlap, 0, None).sum(axis=0) / (edges[1] - edges[0])
    return pd.DataFrame({"at": edges / unit.seconds, "value": np.append(value, value[-1])})


def without_model(timeline: pd.DataFrame, unit: TimeUnit) -> pd.DataFrame:
    """Nodes that have no model and load none, at each sample: `at` in `unit`, `value`."""
    return series(timeline, "nodes_without_model", unit)[["at", "value"]]


def availability(timeline: pd.DataFrame, unit: TimeUnit) -> dict[str, pd.DataFrame]:
    """For each model that some node ever had: what is true, what registries know, what a coordinator sees of the whole
    mesh: `at` from 0 on, `who`, `value`. Before anybody had a model it is 0."""
    labels = {"nodes_ready": "true", "nodes_known": "in the registries", "nodes_seen": "in a coordinator's eyes"}
    frames = {label: series(timeline, metric, unit) for metric, label in labels.items()}
    most = pd.concat(frames.values()).groupby("key")["value"].max()
    found = {}
    for model in _texts(most[most > 0].index):
        parts = []
        for label, frame in frames.items():
            if len(frame):
                times = [0.0, *sorted(frame["at"].unique())]
                values = frame[frame["key"] == model].set_index("at")["value"].reindex(times, fill_value=0.0)
                parts.append(pd.DataFrame({"at": times, "who": label, "value": values.to_numpy()}))
        found[model] = pd.concat(parts, ignore_index=True)
    return found


def made_swaps(swaps: pd.DataFrame) -> pd.DataFrame:
    """The swaps that somebody asked for and that began."""
    return swaps[(swaps["swap"] > 0) & (swaps["cause"] != "boot")]


def swap_profile(swaps: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """The phases of each swap, longest first: `rank`, `phase`, `order`, `seconds`, and what to say of it."""
    made = made_swaps(swaps.assign(number=swap_numbers(swaps)))
    ordered = made.sort_values(["total_s", "node", "number"], ascending=[False, True, True])
    if len(ordered) > SWAPS_SHOWN:
        ordered = ordered.iloc[np.linspace(0, len(ordered) - 1, SWAPS_SHOWN).round().astype(int)]
    wide = ordered.assign(
        rank=range(1, len(ordered) + 1),
        who=[
            f"{names.get(node, node)} · swap {number}"
            for node, number in zip(ordered["node"], ordered["number"], strict=True)
        ],
        outcome=ordered["reason"].fillna("done"),
    )
    long = wide.melt(["rank", "who", "model", "outcome", "total_s"], list(PHASE_LABELS), "column", "seconds")
    long = long[long["seconds"] > 0]
    order = {column: number for number, column in enumerate(PHASE_LABELS)}
    return long.assign(phase=long["column"].map(PHASE_LABELS), order=long["column"].map(order)).drop(columns="column")


def phase_spread(swaps: pd.DataFrame) -> pd.DataFrame:
    """How long the phases take, over the swaps that went through them: quantiles, s."""
    made = made_swaps(swaps)
    rows = []
    for column, label in {**PHASE_LABELS, "total_s": WHOLE}.items():
        values = made.loc[made[column] > 0, column].clip(lower=FLOOR_S)
        if len(values):
            low, first, middle, third, high = (quantile(values, share) for share in (0.05, 0.25, 0.5, 0.75, 0.95))
            rows.append(
                {
                    "phase": label,
                    "swaps": len(values),
                    "p5": low,
                    "p25": first,
                    "p50": middle,
                    "p75": third,
                    "p95": high,
                    "max": values.max(),
                }
            )
    return pd.DataFrame(rows)


def news_delay(gossip: pd.DataFrame, value: str) -> pd.DataFrame:
    """How old news is when it arrives (`delay_s`), or how long the old word had been wrong (`wrong_s`), by channel."""
    learned = gossip[(gossip["event"] == "learned") & (gossip["news"] == "state")]
    return cumulative_by(learned.assign(channel=learned["channel"].map(CHANNELS)), value, "channel")


def message_totals(messages: pd.DataFrame) -> pd.DataFrame:
    """Envelopes and bytes by type and medium over the whole run."""
    return messages.groupby(["type", "medium"], as_index=False)[["count", "bytes"]].sum()


def message_types(messages: pd.DataFrame) -> list[str]:
    """The message types that charts show on their own, for envelopes and bytes alike, so that a type has one colour;
    OTHER stands for the rest. Ordered by their share of envelopes and of bytes, the two added."""
    sums = messages.groupby("type")[["count", "bytes"]].sum()
    shares = (sums / sums.sum()).sum(axis=1)
    types = _texts(shares.sort_values(ascending=False, kind="stable").index)
    return [*types[:TYPES_SHOWN], *([OTHER] if len(types) > TYPES_SHOWN else [])]


def message_rates(messages: pd.DataFrame, nodes: int, sim_s: float, unit: TimeUnit, value: str) -> pd.DataFrame:
    """Messages (`count`) or `bytes` per node and minute over time, by type: `at`, `type`, `rate`."""
    kinds = message_types(messages)
    intervals = messages["at_s"].nunique()
    bins = max(1, min(BINS, intervals))
    width_s = sim_s / bins
    number = (np.ceil(messages["at_s"] / width_s - 1e-9).astype(int) - 1).clip(lower=0, upper=bins - 1)
    kind = messages["type"].where(messages["type"].isin(kinds), OTHER)
    sums = messages[value].groupby([number.rename("bin"), kind.rename("type")]).sum()
    full = pd.MultiIndex.from_product([range(bins), kinds], names=["bin", "type"])
    rates = sums.reindex(full, fill_value=0) / nodes / (width_s / 60)
    frame = rates.rename("rate").reset_index()
    last = frame[frame["bin"] == bins - 1].assign(bin=bins)
    frame = pd.concat([frame, last], ignore_index=True)
    return frame.assign(at=frame["bin"] * width_s / unit.seconds).drop(columns="bin")


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in values.value_counts().items()}


def _texts(labels: Iterable[Hashable]) -> list[str]:
    return [str(label) for label in labels]
