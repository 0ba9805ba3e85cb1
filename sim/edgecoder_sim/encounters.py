"""What came over radios, beside what those who met could have carried to each other.

A contact is a link over Bluetooth as the systems of both ends agree on, and one over Wi-Fi Direct where both have it,
each less the least time in which it comes up. `bounds.meetings` makes a graph of them and gives, for each receiver, the
most bytes that all who held a file at first could have brought to it.

Fidelity boundary: that of `bounds.meetings`; nodes count as up, with radio on, as long as their people meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import pandas as pd

from edgecoder_sim.bounds.meetings import Meeting, MeetingGraph, steps_of
from edgecoder_sim.radio_model import agreed
from edgecoder_sim.results import Run
from edgecoder_sim.scenario_model import Scenario

STEP_S: Final = 20.0
"""Contacts that are measured come in such steps;"""
STEPS_MAX: Final = 240
"""a long run has fewer and longer ones, which makes the bound a few percent higher."""
WORK_MAX: Final = 2_000_000
"""Steps of pairs times receivers: some ten seconds."""


class Radio(NamedTuple):
    """What a node's radio can do."""

    system: str
    is_wide: bool
    """Whether it has Wi-Fi Direct."""


def meetings_of(
    scenario: Scenario, contacts: Iterable[tuple[float, float, int, int]], radios: Mapping[int, Radio]
) -> list[Meeting]:
    """Contacts (begin, end and both nodes) as links could use them: over Bluetooth, and over Wi-Fi Direct beside it."""
    ble, wifi, systems = scenario.radio.ble, scenario.radio.wifi_direct, scenario.systems
    setup_s = ble.setup_us / 1e6
    found: list[Meeting] = []
    for begin_s, end_s, first, second in contacts:
        if first not in radios or second not in radios:
            continue
        ends = radios[first], radios[second]
        goodput = agreed(ble, *(systems[end.system] for end in ends)).goodput_kbit_per_s
        found.append(Meeting(begin_s, end_s, first, second, goodput * 125, setup_s))
        if wifi is not None and all(end.is_wide for end in ends):
            group_s = wifi.setup_ms / 2 / 1e3  # a group takes half of the mean at least
            found.append(Meeting(begin_s, end_s, first, second, float(wifi.bytes_per_s), setup_s + group_s))
    return found


def radios_of(run: Run) -> dict[int, Radio]:
    """The radios of a run's nodes."""
    scenario = run.scenario
    nodes = run.nodes[run.nodes["system"].notna()]
    wide = {name: device.wifi_direct for name, device in scenario.devices.items()}
    return {
        int(node): Radio(system, wide[device] and scenario.systems[system].wifi_direct)
        for node, device, system in zip(nodes["node"], nodes["device"], nodes["system"], strict=True)
    }


def over_bound(run: Run, found: pd.DataFrame) -> dict[str, float]:
    """By model, bytes that came over what those who met could have carried to who wanted it; `found` is
    `distribution_data.downloads`. Of files that came over radios alone, in a run that knows its contacts; nothing where
    the graph would be too large."""
    carried = run.transfers.groupby("model")[["ble_bytes", "wifi_direct_bytes", "mesh_bytes", "cdn_bytes"]].sum()
    by_radio = carried["ble_bytes"] + carried["wifi_direct_bytes"]
    models = [model for model in carried.index if by_radio[model] and not carried.loc[model].iloc[2:].any()]
    wanted = found[found["model"].isin(models) & (found["had_pieces"] == 0)]
    if run.contacts.empty or wanted.empty:
        return {}
    sim_s = float(run.summary["sim_s"])
    columns = (run.contacts[column] for column in ("begin_s", "end_s", "first", "second"))
    meetings = meetings_of(run.scenario, zip(*columns, strict=True), radios_of(run))
    steps = steps_of(meetings, max(STEP_S, sim_s / STEPS_MAX), sim_s)
    if len(steps) * len(wanted) > WORK_MAX:
        return {}
    graph, shares = MeetingGraph(steps), {}
    for model, rows in wanted.groupby("model"):
        holders = run.nodes.loc[[model in held.split() for held in run.nodes["holds"]], "node"].tolist()
        size = int(rows["size_bytes"].iloc[0])
        most = sum(graph.most_bytes(holders, int(node), size) for node in rows["node"])
        if most:
            shares[str(model)] = float(by_radio[model]) / most
    return shares
