"""From what a scenario says of faults to a plan that leaves nothing open: random faults drawn, groups and counts become
names. The same scenario and seed give the same plan, in any process, and drawing it disturbs no other draw.

Fidelity boundary: kinds, times and victims are independent uniform draws; real faults come in clusters.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edgecoder.core.ids import Medium
from edgecoder.core.rng import Stream
from edgecoder_sim.faults.model import GROUPS, MOMENTARY, Direction, Fault, FaultKind, RandomFaults
from edgecoder_sim.host import Disk
from edgecoder_sim.population import weighted
from edgecoder_sim.scenario_model import Scenario

_DISKS: Final = {Disk.KEPT: 0.5, Disk.OLD_COPY: 0.3, Disk.LOST: 0.2}
_MEDIA: Final[dict[tuple[Medium, ...], float]] = {(): 0.4, (Medium.LAN,): 0.3, (Medium.BLE,): 0.15, (Medium.WAN,): 0.15}
_DIRECTIONS: Final = {Direction.BOTH: 0.6, Direction.OUT: 0.2, Direction.IN: 0.2}
_SHARES_PCT: Final = (5, 20, 50, 100)
_DELAYS_MS: Final = (50, 500, 3000)
SHORTEST_S: Final = 0.1
"""No drawn fault is shorter."""
_JUMPS_S: Final = (-86_400, -3_600, -60, 60, 3_600, 86_400)


def node_names(scenario: Scenario) -> dict[str, list[str]]:
    """The names of all nodes, by group."""
    counts = (scenario.phones.count, scenario.agents.count, scenario.coordinators.count)
    return {
        group: [f"{group.removesuffix('s')}-{number}" for number in range(count)]
        for group, count in zip(GROUPS, counts, strict=True)
    }


def resolve(scenario: Scenario) -> Scenario:
    """The scenario with a plan that leaves nothing to be drawn but the fate of each frame."""
    faults = scenario.faults
    if not faults.plan and faults.random is None:
        return scenario
    names = node_names(scenario)
    plan = list(faults.plan)
    if faults.random is not None:
        plan += _Drawer(scenario, faults.random).draw()
    taken = {fault.name for fault in plan}
    whole = tuple(_named(scenario, names, _free_name(fault, number, taken), fault) for number, fault in enumerate(plan))
    return msgspec.structs.replace(scenario, faults=msgspec.structs.replace(faults, plan=whole, random=None))


def _free_name(fault: Fault, number: int, taken: set[str]) -> str:
    """The name of a fault; of one without, kind and number, or the next number that is free."""
    if fault.name:
        return fault.name
    while (name := f"{fault.kind.value}-{number}") in taken:
        number += 1
    taken.add(name)
    return name


def _named(scenario: Scenario, names: dict[str, list[str]], name: str, fault: Fault) -> Fault:
    chosen = [one for each in fault.nodes or names for one in names.get(each, [each])]
    chosen = list(dict.fromkeys(chosen))
    if fault.count is not None:
        drawn = set(Stream(scenario.rng_seed, b"", f"sim.fault.{name}.nodes").shuffled(chosen)[: fault.count])
        chosen = [one for one in chosen if one in drawn]
    nodes = () if fault.kind is FaultKind.CDN_OUTAGE else tuple(chosen)
    return msgspec.structs.replace(fault, name=name, nodes=nodes, count=None)


class _Drawer:
    """Draws one schedule."""

    def __init__(self, scenario: Scenario, knobs: RandomFaults) -> None:
        self._knobs = knobs
        self._names = [name for group in node_names(scenario).values() for name in group]
        self._stream = Stream(scenario.rng_seed, b"", "sim.faults")
        self._until_s = scenario.duration_s / 2 if knobs.until_s is None else knobs.until_s

    def draw(self) -> list[Fault]:
        """So many faults as the knobs allow, in the order of their begin."""
        low, high = self._knobs.count
        count = low + self._stream.below(high - low + 1)
        faults: list[Fault] = []
        for _ in range(count):
            faults += self._fault()
        return sorted(faults, key=lambda fault: fault.at_s)

    def _fault(self) -> list[Fault]:
        kinds = self._knobs.kinds or dict.fromkeys(FaultKind, 1.0)
        kind = weighted(self._stream, kinds) or FaultKind.LOSS
        least_s = self._least_s(kind)
        at_s = min(self._between(self._knobs.from_s, self._until_s), round(self._until_s - least_s, 3))
        nodes = tuple(
            sorted(self._stream.shuffled(self._names)[: 1 + self._stream.below(max(1, len(self._names) // 2))])
        )
        if kind is FaultKind.CRASH:
            return self._crash(at_s, self._duration(at_s, least_s), nodes)
        if kind is FaultKind.CDN_OUTAGE:
            nodes = ()
        fields: dict[str, object] = {"nodes": nodes}
        if kind not in MOMENTARY:
            fields["for_s"] = self._duration(at_s, least_s)
        return [Fault(kind=kind, at_s=at_s, **(fields | self._details(kind)))]  # type: ignore[arg-type]

    def _details(self, kind: FaultKind) -> dict[str, object]:
        """What only some kinds have."""
        stream = self._stream
        details: dict[str, object] = {}
        if kind in (FaultKind.LOSS, FaultKind.DUPLICATION, FaultKind.REORDERING, FaultKind.DELAY, FaultKind.PARTITION):
            media: tuple[Medium, ...] | None = weighted(stream, _MEDIA)
            details["media"] = media or ()
            direction: Direction | None = weighted(stream, _DIRECTIONS)
            details["direction"] = direction
        if kind in (FaultKind.LOSS, FaultKind.DUPLICATION, FaultKind.REORDERING):
            details["share_pct"] = float(stream.choice(_SHARES_PCT[:3] if kind is FaultKind.LOSS else _SHARES_PCT))
        if kind in (FaultKind.FAILING_WRITES, FaultKind.FAILING_LOADS):
            details["share_pct"] = float(stream.choice(_SHARES_PCT[1:]))
        if kind in (FaultKind.DUPLICATION, FaultKind.REORDERING, FaultKind.DELAY, FaultKind.SLOW_DISK):
            details["delay_ms"] = float(stream.choice(_DELAYS_MS))
        if kind is FaultKind.CLOCK_JUMP:
            details["by_s"] = float(stream.choice(_JUMPS_S))
        return details

    def _crash(self, at_s: float, for_s: float, nodes: tuple[str, ...]) -> list[Fault]:
        """A crash and a restart. An old copy often comes with a clock that went back too: a virtual machine that was
        restored, a phone with an empty battery."""
        disk = weighted(self._stream, _DISKS) or Disk.KEPT
        copied_at_s = self._between(self._knobs.from_s, at_s) if disk is Disk.OLD_COPY else None
        crash = Fault(
            kind=FaultKind.CRASH,
            at_s=at_s,
            for_s=for_s,
            nodes=nodes,
            disk=disk,
            copied_at_s=copied_at_s,
            silent=self._stream.below(2) == 1,
        )
        if disk is Disk.OLD_COPY and self._stream.below(2):
            jump = Fault(kind=FaultKind.CLOCK_JUMP, at_s=at_s, nodes=nodes, by_s=-3_600.0)
            return [crash, jump]
        return [crash]

    def _least_s(self, kind: FaultKind) -> float:
        """How long a fault of a kind lasts at least, s."""
        if kind in MOMENTARY:
            return 0.0
        return min(
            1.0 if kind is FaultKind.CRASH else SHORTEST_S, self._until_s - self._knobs.from_s, self._knobs.longest_s
        )

    def _duration(self, at_s: float, least_s: float) -> float:
        longest_s = max(SHORTEST_S, min(self._knobs.longest_s, self._until_s - at_s))
        return min(longest_s, max(least_s, self._between(SHORTEST_S, longest_s)))

    def _between(self, low_s: float, high_s: float) -> float:
        """A uniform time, whole milliseconds, so that it reads the same in a file."""
        low_ms, high_ms = round(low_s * 1000), round(high_s * 1000)
        return (low_ms + self._stream.below(max(1, high_ms - low_ms + 1))) / 1000
