"""What the users of a record did, and which of its nodes went away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from edgecoder.core.ids import Role
from edgecoder.models.catalog import names_of, normalise
from edgecoder_sim.fit.figures import Figure, measured
from edgecoder_sim.fit.life import Asked, Life
from edgecoder_sim.fit.record import Machine, Record
from edgecoder_sim.fit.samples import rounded

HOUR_US: Final = 3_600_000_000
CROWD_US: Final = 10_000_000
"""What nodes ask for within so long, once each, is a crowd."""
PER_HOUR_MAX: Final = 36_000
TOGETHER_US: Final = 500_000
"""Nodes that went within so long went together."""
NOTICED_US: Final = 2_000_000
"""A link that broke within this told its peer; later it was the peer's own patience."""
SOURCES: Final = {Role.PHONE: "phones", Role.AGENT: "agents"}

Tree = dict[str, Any]
"""A part of a scenario: figures, lists and trees by key."""


def pulls(record: Record) -> list[Tree]:
    """Downloads that users asked for."""
    return _changes(record, lambda life: life.pulls, "pull")


def swaps(record: Record) -> list[Tree]:
    """Swaps that users asked for; to a model that nobody had at first, they fetch it."""
    had, loads = _had(record), _changes(record, lambda life: life.swaps, "swap")
    return [load if had.issuperset(map(normalise, load["to"])) else {**load, "pull": True} for load in loads]


def _changes(record: Record, of: Callable[[Life], list[Asked]], what: str) -> list[Tree]:
    """Loads of one kind: a model that many asked for at once is a crowd, the rest a steady stream. Nothing came of a
    name that nobody knew."""
    loads = []
    known = {name for machine in record.machines for entry in machine.head.catalog for name in names_of(entry)}
    for role, source in SOURCES.items():
        machines = record.of(role)
        by_model: dict[str, list[tuple[int, Machine]]] = {}
        for machine in machines:
            for life in machine.lives:
                for each in of(life):
                    if each.model is None or normalise(each.model) not in known:
                        continue
                    by_model.setdefault(str(each.model), []).append((life.unix(each.at), machine))
        for number, (model, asked) in enumerate(sorted(by_model.items()), start=1):
            load: Tree = {"name": f"{source}-{what}-{number}", "source": source}
            loads.append({**load, **_when(record, asked, len(machines)), "to": {model: 1}})
    return loads


def _when(record: Record, asked: Sequence[tuple[int, Machine]], nodes: int) -> Tree:
    times = sorted(at for at, _ in asked)
    askers = {machine.head.node_id for _, machine in asked}
    if len(askers) == len(asked) and times[-1] - times[0] <= CROWD_US:
        says = f"{len(asked)} of {nodes} nodes asked for it within {(times[-1] - times[0]) / 1e6:.2f} s"
        begin: Tree = {"at_s": measured(rounded(record.moment_s(times[0])), says)}
        if times[-1] > times[0]:
            begin["within_s"] = (times[-1] - times[0]) / 1e6
        if len(askers) < nodes:
            begin["share_pct"] = rounded(100 * len(askers) / nodes)
        return begin
    return {"per_node_per_hour": _rate(record, len(asked), "of them")}


def _rate(record: Record, count: int, what: str) -> Figure:
    up_us = sum(machine.up_us() for machine in record.of(*SOURCES)) or 1
    rate = min(PER_HOUR_MAX, rounded(count * HOUR_US / up_us))
    return measured(rate, f"{count} {what} in {up_us / 1e6:.0f} s of all nodes together")


def tasks(record: Record) -> list[Tree]:
    """Tasks that users asked for; one kind for each role. Where they asked for models that nobody had at first, the
    scenario's ask for any: it would have nobody for them until then."""
    loads = []
    had = _had(record)
    for role, source in SOURCES.items():
        lives = [life for machine in record.of(role) for life in machine.lives]
        asked = [each for life in lives for each in life.tasks]
        if not asked:
            continue
        up_us = sum(life.ends - life.begins for life in lives) or 1
        rate = min(PER_HOUR_MAX, rounded(len(asked) * HOUR_US / up_us))
        answers = [answer.tokens for life in record.lives for answer in life.answers if answer.end is not None]
        models = Counter(each.model for each in asked if each.model is not None and normalise(each.model) in had)
        says = f"{len(asked)} tasks in {up_us / 1e6:.0f} s of all {source} together"
        lengths = f"{len(answers)} answers" if answers else "no answer ended: what was asked for at most"
        loads.append(
            {
                "name": f"{source}-tasks",
                "source": source,
                "per_node_per_hour": measured(rate, says),
                "prompt_bytes": _amount([each.prompt_bytes for each in asked], f"{len(asked)} prompts"),
                "output_tokens": _amount(answers or [each.tokens for each in asked], lengths),
                **({"model": dict(models)} if sum(models.values()) == len(asked) else {}),
            }
        )
    return loads


def _had(record: Record) -> set[str]:
    """The names of the models that some node had at first."""
    lives = [machine.lives[0] for machine in record.of(*SOURCES)]
    entries = [entry for life in lives for entry in life.head.catalog if entry.sha256 in life.installed]
    return {name for entry in entries for name in names_of(entry)}


def _amount(sizes: Sequence[int], says: str) -> Tree:
    mean = max(1.0, sum(sizes) / len(sizes))
    return {"mean": measured(rounded(mean), says), "max": max(*sizes, 1 + int(mean))}


def departures(record: Record) -> list[Tree]:
    """Nodes that went before the others, as crashes: those of a role that went together are one fault."""
    gone = [
        (life.ends, _away_us(machine, index), _is_noticed(record, life), life.was_shut_down, machine.role)
        for machine in record.of(*SOURCES)
        for index, life in enumerate(machine.lives)
        if life.ends < record.leave_us or index + 1 < len(machine.lives)
    ]
    gone.sort(key=lambda each: each[0])
    faults: list[Tree] = []
    groups: list[list[tuple[int, int, bool, bool, Role]]] = []
    for each in gone:
        last = groups[-1][0] if groups else None
        if last is None or each[0] - last[0] > TOGETHER_US or each[2:] != last[2:] or (each[1] < 0) != (last[1] < 0):
            groups.append([])
        groups[-1].append(each)
    for group in groups:
        at, away, is_noticed, was_shut_down, role = group[0]
        how = "shut down" if was_shut_down else "said no word more"
        links = "their links went down at once" if is_noticed else "no coordinator saw their links go down then"
        fault: Tree = {"kind": "crash", "at_s": measured(rounded(record.moment_s(at)), f"{how}; {links}")}
        if away >= 0:
            fault["for_s"] = measured(rounded(max(0.001, away / 1e6)), "until their next life")
        fault |= {"nodes": [SOURCES[role]], "count": len(group)}
        faults.append(fault if is_noticed else {**fault, "silent": True})
    return faults


def _away_us(machine: Machine, index: int) -> int:
    """Until the next life of a node, -1: there was none."""
    following = machine.lives[index + 1 : index + 2]
    return following[0].begins - machine.lives[index].ends if following else -1


def _is_noticed(record: Record, life: Life) -> bool:
    """Whether a coordinator saw the link break at once; where none kept a journal, that is taken to be so."""
    hubs = [hub for machine in record.of(Role.COORDINATOR) for hub in machine.lives]
    lost = [hub.unix(hub.lost[life.head.node_id]) for hub in hubs if life.head.node_id in hub.lost]
    return not hubs or any(abs(at - life.ends) <= NOTICED_US for at in lost)


def installed(machines: Sequence[Machine]) -> dict[str, Figure]:
    """The models that nodes had at first, and which share of the nodes had each."""
    counts: Counter[str] = Counter()
    for machine in machines:
        first = machine.lives[0]
        counts.update(entry.model_id for entry in first.head.catalog if entry.sha256 in first.installed)
    return {
        model: measured(rounded(count / len(machines)), f"{count} of {len(machines)} nodes had it at first")
        for model, count in sorted(counts.items())
    }


def active(machines: Sequence[Machine]) -> dict[str, Figure]:
    """Which of them served at first."""
    counts: Counter[str] = Counter()
    for machine in machines:
        first = machine.lives[0]
        counts.update(entry.model_id for entry in first.head.catalog if entry.sha256 == first.active)
    return {model: measured(count, f"{count} nodes") for model, count in sorted(counts.items())}
