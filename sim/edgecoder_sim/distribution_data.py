"""What the report shows of files that came piece by piece: a run's tables, boiled down.

Decides bins, classes, and against what a download is measured; how it is drawn is left to `distribution_charts`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pandas as pd

from edgecoder.seeding.planner import Why
from edgecoder_sim import chart_data as data
from edgecoder_sim.counterfactual import alone_s, oracle
from edgecoder_sim.encounters import over_bound
from edgecoder_sim.results import Run

SOURCE_NAMES: Final = {"cdn": "CDN", "mesh": "mesh", "wifi_direct": "Wi-Fi Direct", "ble": "Bluetooth"}
"""Sources as the legend says them, in the order of the palette."""
ORIGIN: Final = "CDN"
NOTHING: Final = "gave nothing"
ROWS_MAX: Final = 40
"""Senders that have a row of their own; more are put together, so many rows of them."""
WHY_TEXT: Final = {
    Why.GRANTED: "the broker said so",
    Why.NEAR: "a peer over a radio link has it",
    Why.ALONE: "no sign of a peer yet",
    Why.BEHIND: "the CDN can only just make it",
    Why.LATE: "asked of a peer that is late",
    Why.RAREST: "there is no broker, and few peers have it",
    Why.NEXT_RUNG: "the rung before gives nothing",
}
"""Reason codes of the planner in plain words."""


def downloads(run: Run) -> pd.DataFrame:
    """One row a node and file, over all lives: `node`, `model`, `device`, `began_s`, `ended_s` (NaN: not done),
    `took_s`, `radio_bytes`, `had_pieces`, and `least_s`, which no policy can beat (see `_least_s`)."""
    rows = run.transfers.sort_values("began_s", kind="stable")
    if rows.empty:
        return pd.DataFrame()
    done = rows[rows["reason"].isna()].groupby(["node", "model"])["ended_s"].first()
    radio = rows.assign(radio_bytes=rows["ble_bytes"] + rows["wifi_direct_bytes"])
    found = radio.groupby(["node", "model"], sort=False).agg(
        began_s=("began_s", "first"), radio_bytes=("radio_bytes", "sum"), had_pieces=("pieces_before", "first")
    )
    found = found.join(done).reset_index()
    found = found.join(run.nodes.set_index("node")[["device", "up_bytes_per_s", "down_bytes_per_s"]], on="node")
    found = found.join(run.files.set_index("model")[["size_bytes", "holders", "holders_up_bytes_per_s"]], on="model")
    found["took_s"] = found["ended_s"] - found["began_s"]
    found["least_s"] = _least_s(run, found)
    return found


def _least_s(run: Run, found: pd.DataFrame) -> pd.Series:
    """The fluid bound of each download alone: the file over the node's downlink, over all that others can send, and,
    where no node has it at first, over the origin's uplink since the first node asked."""
    egress = run.scenario_values["cdn"]["egress_mbit_per_s"]
    origin = math.inf if egress is None else egress * 125_000
    size = found["size_bytes"]
    supply = origin + run.nodes["up_bytes_per_s"].sum() - found["up_bytes_per_s"]
    first_s = found.groupby("model")["began_s"].transform("min")
    from_origin = first_s + size / origin - found["began_s"]
    least = pd.concat([size / found["down_bytes_per_s"], size / supply, from_origin.where(found["holders"] == 0, 0.0)])
    return least.groupby(level=0).max()


def finishes(found: pd.DataFrame) -> tuple[pd.DataFrame, str, int]:
    """How long downloads took, cumulated, by class of device, as a share of all of the class; what `x` is: times the
    least time where that is known of half of them or more, else seconds; and how many are left out, as it is not known
    of them."""
    is_bounded = (found["radio_bytes"] == 0) & (found["had_pieces"] == 0) & (found["least_s"] > 0)
    in_times = 2 * int(is_bounded.sum()) >= len(found)
    shown = found[is_bounded] if in_times else found
    value = shown["took_s"] / shown["least_s"] if in_times else shown["took_s"]
    frame = shown.assign(value=value).dropna(subset="value")
    totals = {str(name): int(count) for name, count in shown["device"].value_counts().items()}
    what = "times the least time" if in_times else "seconds"
    return data.cumulative_by(frame, "value", "device", totals), what, len(found) - len(shown)


def rates(timeline: pd.DataFrame, sim_s: float) -> pd.DataFrame:
    """Bytes a second by source in bins of time: `at_s` (a bin's begin; the last ends with the run), `source`,
    `value`. Sources that gave nothing are left out."""
    told = timeline[timeline["metric"] == "transfer_bytes"]
    bins = max(1, min(data.BINS, told["at_s"].nunique()))
    edges = np.linspace(0, sim_s, bins + 1)
    parts = []
    for key, name in SOURCE_NAMES.items():
        rows = told[told["key"] == key]
        if not rows["value"].any():
            continue
        so_far = np.interp(edges, np.append(0.0, rows["at_s"]), np.append(0.0, rows["value"]))
        value = np.diff(so_far) / np.diff(edges)
        parts.append(pd.DataFrame({"at_s": edges, "source": name, "value": np.append(value, value[-1])}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["at_s", "source", "value"])


def swarm_sizes(timeline: pd.DataFrame, sim_s: float) -> pd.DataFrame:
    """Nodes that brokers know to have all of a file or to want more of it, all files together: `at_s`, `what`,
    `value`."""
    labels = {"seeders": "have the whole file", "receivers": "want more of it"}
    parts = []
    for metric, label in labels.items():
        told = timeline[timeline["metric"] == metric]
        if told.empty:
            continue
        wide = told.pivot_table(index="at_s", columns="key", values="value", aggfunc="last").ffill().fillna(0.0)
        total = wide.sum(axis=1)
        times = np.unique(np.linspace(0, len(total) - 1, min(len(total), data.TIME_POINTS)).round().astype(int))
        total = total.iloc[times]
        parts.append(
            pd.DataFrame(
                {
                    "at_s": [0.0, *total.index, sim_s],
                    "what": label,
                    "value": [0.0, *total.to_numpy(), float(total.iloc[-1])],
                }
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["at_s", "what", "value"])


def given(run: Run) -> pd.Series:
    """What each node gave others, bytes, of those that wanted a file or gave of one; by node, least first."""
    uploads = run.uploads.dropna(subset="sender")
    sums = uploads.groupby(uploads["sender"].astype(int))["bytes"].sum()
    took_part = np.union1d(run.transfers["node"].unique(), sums.index.to_numpy())
    found: pd.Series = sums.reindex(took_part, fill_value=0).sort_values(kind="stable")
    return found


def lorenz(amounts: pd.Series) -> pd.DataFrame:
    """The Lorenz curve of amounts, least first: `nodes` and `given`, both in percent from 0 to 100."""
    count = len(amounts)
    share = np.append(0.0, amounts.to_numpy(dtype=float).cumsum())
    picked = np.unique(np.linspace(0, count, min(count + 1, data.CDF_POINTS)).round().astype(int))
    return pd.DataFrame({"nodes": 100 * picked / count, "given": 100 * share[picked] / share[-1]})


def senders_over_time(run: Run, sim_s: float) -> pd.DataFrame:
    """Who gave how much when: `row`, `order`, `at_s`, `to_s`, `value` in bytes a second and node. The CDN is a row;
    nodes have one each, or are put together by how much they gave in all, most first."""
    sent = run.sent
    ends = np.sort(run.timeline.loc[run.timeline["metric"] == "transfers_open", "at_s"].unique())
    each_bin = -(-len(ends) // data.BINS)  # whole intervals, or some bins would have one more than others
    edges = np.append(0.0, np.append(ends[each_bin - 1 : -1 : each_bin], sim_s))
    labels = _row_labels(run)
    sizes = {row: sum(1 for each in labels.values() if each == row) for row in set(labels.values())}
    order = {row: number for number, row in enumerate(dict.fromkeys(labels.values()))}
    row = [labels[-1 if pd.isna(sender) else int(sender)] for sender in sent["sender"]]
    number = (np.searchsorted(edges, sent["at_s"].to_numpy() - 1e-9) - 1).clip(0, len(edges) - 2)
    sums = sent.assign(row=row, bin=number).groupby(["row", "bin"], as_index=False)["bytes"].sum()
    each = sums["row"].map(sizes)
    return pd.DataFrame(
        {
            "row": sums["row"],
            "order": sums["row"].map(order),
            "at_s": edges[sums["bin"]],
            "to_s": edges[sums["bin"] + 1],
            "value": sums["bytes"] / (edges[sums["bin"] + 1] - edges[sums["bin"]]) / each,
        }
    )


def _row_labels(run: Run) -> dict[int, str]:
    """The row of each sender, the CDN (-1) first, then those who gave most."""
    senders = given(run)
    senders = senders[senders > 0][::-1]
    names = run.nodes.set_index("node")["name"]
    labels = {-1: ORIGIN} if run.sent["sender"].isna().any() else {}
    if len(senders) <= ROWS_MAX:
        return labels | {int(node): str(names[node]) for node in senders.index}
    for part in np.array_split(np.arange(len(senders)), ROWS_MAX):
        label = f"{part[0] + 1:,} to {part[-1] + 1:,}" if len(part) > 1 else f"{part[0] + 1:,}"
        labels |= {int(senders.index[each]): label for each in part}
    return labels


def who_to_whom(run: Run) -> pd.DataFrame:
    """What went from whom to whom in all: `sender`, `receiver`, `bytes`; by node where there are few, else by class
    of device, or, of one class, by how much nodes gave in all. The CDN is a sender."""
    uploads = run.uploads
    nodes = set(uploads["receiver"]) | set(uploads["sender"].dropna().astype(int))
    label = run.nodes.set_index("node")["name" if len(nodes) <= ROWS_MAX else "device"]
    if label[list(nodes)].nunique() == 1 < len(nodes):
        rows = _row_labels(run)
        label = pd.Series({node: rows.get(node, NOTHING) for node in label.index})
    sender = [ORIGIN if pd.isna(each) else str(label[int(each)]) for each in uploads["sender"]]
    frame = pd.DataFrame(
        {"sender": sender, "receiver": uploads["receiver"].map(label).astype(str), "bytes": uploads["bytes"]}
    )
    sums = pd.DataFrame(frame.groupby(["sender", "receiver"], as_index=False)["bytes"].sum())
    return sums[sums["bytes"] > 0]


def sought(metrics: dict[str, float]) -> pd.DataFrame:
    """Pieces that were asked for, by the planner's reason: `why`, `code`, `asked` (CDN or peers), `value`."""
    rows = []
    for why, text in WHY_TEXT.items():
        count = metrics.get(f"pieces_sought_{why.value}", 0)
        if count:
            rows.append((text, why.value, count))
    return pd.DataFrame(rows, columns=["why", "code", "value"])


@lru_cache(maxsize=1)
def files_table(run: Run) -> list[dict[str, Any]]:
    """One row a file that came piece by piece, for the table of the report and the terminal; the last run's is kept."""
    found = downloads(run)
    if found.empty:
        return []
    found, carried = found.assign(alone_s=alone_s(run, found)), over_bound(run, found)
    uploads = run.uploads
    rows: list[dict[str, Any]] = []
    for model, group in found.groupby("model", sort=True):
        of_model = uploads[uploads["model"] == model]
        size = float(group["size_bytes"].iloc[0])
        all_bytes = float(of_model["bytes"].sum())
        cdn_bytes = float(of_model.loc[of_model["source"] == "cdn", "bytes"].sum())
        done = group.dropna(subset="ended_s")
        is_new = len(done) and not group["holders"].iloc[0] and not group["had_pieces"].any()
        ideal = oracle(run, group)
        last_s = done["ended_s"].max() - group["began_s"].min()
        rows.append(
            {
                "model": model,
                "size_bytes": size,
                "wanted": len(group),
                "done": len(done),
                "copies": cdn_bytes / size,
                "copies_oracle": ideal.copies,
                "offload_pct": 100 * (1 - cdn_bytes / all_bytes) if all_bytes else math.nan,
                "offload_most_pct": 100 * (1 - size / all_bytes) if is_new else 100.0,
                "p50_s": data.quantile(done["took_s"], 0.5),
                "last_s": float(done["took_s"].max()) if len(done) else math.nan,
                "last_over_oracle": last_s / ideal.last_s,
                "over_alone": float((done["took_s"] / done["alone_s"]).max()) if len(done) else math.nan,
                "why_no_oracle": ideal.why_not,
                "radio_pct": 100 * carried.get(str(model), math.nan),
            }
        )
    return rows
