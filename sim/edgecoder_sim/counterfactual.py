"""What else could have come of a run's downloads: from the CDN alone, and by an oracle that knows who comes when.

The CDN alone (`bounds.alone`) serves all downloads of the run. The oracle (`bounds.oracle`) has everybody done when
they were in the run, with the fewest bytes from the CDN that this takes, and of all such ways by the one that brings
bytes soonest. It sees one file at a time, as if links were free of all others. Where some of a file came over radios,
all radios reach each other, at the rate of the fastest, so that only its copies are worth telling.

Fidelity boundary: the CDN is never out of order here, and nodes count as there from when they ask to the end. Nodes
that ask within a fiftieth of the time ask together for the oracle, when the first of them does, and its finishes are
rounded up to slots.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import pandas as pd

from edgecoder.config import NodeConfig
from edgecoder_sim.bounds.alone import ends_s
from edgecoder_sim.bounds.oracle import Cdn, NodeClass, fewest_cdn_bytes
from edgecoder_sim.radio_model import agreed
from edgecoder_sim.results import Run

CLASSES_MAX: Final = 120
"""The linear program takes a few seconds with so many kinds of nodes."""
SLOTS: Final = 100
COME_PARTS: Final = 50
CROWD_SHARE: Final = 0.2
"""Where half of the downloads take so large a part of the time, or more, slots are short beside them."""
_EARLY: Final = 1e-6
"""What deadlines are extended by, so that rounding does not make them impossible."""


class Oracle(NamedTuple):
    """What the oracle would have done with one file."""

    copies: float = math.nan
    """From the CDN."""
    last_s: float = math.nan
    """From the first wish to the last finish of those who were done; NaN where slots are long beside downloads."""
    why_not: str = ""
    """Why it was not asked; empty where it was."""


def alone_s(run: Run, found: pd.DataFrame) -> pd.Series:
    """How long each download of `distribution_data.downloads` would have taken from the CDN alone, seconds; NaN where
    that cannot be reached."""
    cdn = _cdn(run, connections=1)
    if cdn is None:
        return pd.Series(math.nan, index=found.index)
    columns = ("began_s", "size_bytes", "node", "down_bytes_per_s")
    began_s, size, node, down = (found[column].to_numpy(dtype=float) for column in columns)
    limits = cdn.egress_bytes_per_s, cdn.per_connection_bytes_per_s
    return pd.Series(ends_s(began_s, size, node.astype(int), down, *limits) - began_s, index=found.index)


def oracle(run: Run, rows: pd.DataFrame) -> Oracle:
    """What the oracle would have done; `rows` are the downloads of one file."""
    cdn = _cdn(run, connections=NodeConfig().cdn_requests_max)
    lives = run.transfers[run.transfers["model"] == rows["model"].iloc[0]]
    if cdn is None:
        return Oracle(why_not="there is no CDN")
    if len(lives) > len(rows) or rows["had_pieces"].any():
        return Oracle(why_not="some downloads outlived their node's life")
    if rows["ended_s"].isna().all():
        return Oracle(why_not="nobody was done")
    near = _fastest_radio_bytes_per_s(run) if rows["radio_bytes"].any() else 0.0
    classes, deadlines_s = _classes(rows, near)
    if len(classes) > CLASSES_MAX:
        return Oracle(why_not=f"{len(classes)} kinds of nodes, more than {CLASSES_MAX}")
    size = float(rows["size_bytes"].iloc[0])
    try:
        outcome = fewest_cdn_bytes([size], classes, cdn, deadlines_s, SLOTS)
    except (ValueError, RuntimeError) as error:  # a report is there all the same
        return Oracle(why_not=str(error))
    done = [each for each, due_s in zip(classes, deadlines_s, strict=True) if each.wants and due_s < math.inf]
    last_s = max(outcome.finish_s[each.name] for each in done)
    is_crowd = not near and rows["took_s"].median() >= CROWD_SHARE * last_s
    return Oracle(outcome.cdn_bytes / size, last_s if is_crowd else math.nan)


def _fastest_radio_bytes_per_s(run: Run) -> float:
    """What no link from device to device is faster than, both directions together."""
    radio, systems = run.scenario.radio, run.scenario.systems.values()
    ble = max(agreed(radio.ble, one, other).goodput_kbit_per_s for one in systems for other in systems) * 125
    return 2 * max(ble, 0 if radio.wifi_direct is None else radio.wifi_direct.bytes_per_s)


def _cdn(run: Run, *, connections: int) -> Cdn | None:
    """The CDN of a run; None where it cannot be reached."""
    values = run.scenario_values["cdn"]
    if not values["reachable"]:
        return None
    egress = values["egress_mbit_per_s"]
    return Cdn(
        egress_bytes_per_s=math.inf if egress is None else egress * 125_000,
        per_connection_bytes_per_s=values["per_connection_mbit_per_s"] * 125_000 * connections,
    )


def _classes(rows: pd.DataFrame, near_bytes_per_s: float) -> tuple[list[NodeClass], list[float]]:
    """Equal nodes together, those who hold the file at first too, and when each class was done; times from when the
    first node asked. `near_bytes_per_s` is what each radio carries."""
    first_s = rows["began_s"].min()
    part_s = max((rows["ended_s"].max() - first_s) / COME_PARTS, 1e-6)
    part = ((rows["began_s"] - first_s) // part_s).astype(int)
    keyed = rows.assign(part=part, is_done=rows["ended_s"].notna())
    classes: list[NodeClass] = []
    deadlines_s: list[float] = []
    for number, (_, each) in enumerate(keyed.groupby(["part", "up_bytes_per_s", "down_bytes_per_s", "is_done"])):
        up, down, come = (float(each[key].iloc[0]) for key in ("up_bytes_per_s", "down_bytes_per_s", "part"))
        rates: dict[str, Any] = {"up_bytes_per_s": up, "near_bytes_per_s": near_bytes_per_s}
        when: dict[str, Any] = {"come_s": come * part_s, "down_bytes_per_s": down}
        classes.append(NodeClass(name=str(number), count=len(each), wants=(0,), **rates, **when))
        ends_s = each["ended_s"].max()
        deadlines_s.append(math.inf if math.isnan(ends_s) else (ends_s - first_s) * (1 + _EARLY))
    holders, all_up = (int(rows[column].iloc[0]) for column in ("holders", "holders_up_bytes_per_s"))
    if holders:
        rates = {"up_bytes_per_s": all_up / holders, "near_bytes_per_s": near_bytes_per_s}
        classes.append(NodeClass(name="holders", count=holders, down_bytes_per_s=0.0, holds=(0,), **rates))
        deadlines_s.append(math.inf)
    return classes, deadlines_s
