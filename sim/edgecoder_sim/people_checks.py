"""Relations between the values of a scenario's people: what no type can say.

Decides whether people can be, move and meet as written; a mistake is a ConfigError at the line of the value that has to
change.
"""

from __future__ import annotations

from edgecoder.yamlio.document import Document
from edgecoder.yamlio.explain import Where, dotted
from edgecoder_sim.floor import grid_of
from edgecoder_sim.people_model import Moves, Stay
from edgecoder_sim.scenario_model import Scenario
from edgecoder_sim.traces import DURATION_S, PEOPLE


def check_people(document: Document, scenario: Scenario) -> None:
    """Check every relation among people, floor and contacts. Raises ConfigError."""
    _buildings(document, scenario)
    _ordered(document, scenario)
    _moves(document, scenario)
    _day(document, scenario)
    _replay(document, scenario)
    for group, stay in (("phones", scenario.presence.phones), ("agents", scenario.presence.agents)):
        _stay(document, ("presence", group), stay)


def _buildings(document: Document, scenario: Scenario) -> None:
    buildings = scenario.buildings
    if buildings is None:
        return
    columns, rows = grid_of(scenario.radio.area_m, buildings.count)
    cell_m = (scenario.radio.area_m[0] / columns, scenario.radio.area_m[1] / rows)
    if any(size > cell for size, cell in zip(buildings.size_m, cell_m, strict=True)):
        problem = (
            f"{buildings.count} buildings of {buildings.size_m[0]:g} by {buildings.size_m[1]:g} m do not fit: each has "
            f"{cell_m[0]:.0f} by {cell_m[1]:.0f} m"
        )
        hint = "make them smaller or fewer, or enlarge radio.area_m"
        raise document.error(("buildings", "size_m"), problem, hint)


def _ordered(document: Document, scenario: Scenario) -> None:
    for field in ("speed_m_per_s", "pause_s"):
        low, high = getattr(scenario.mobility, field)
        if low > high:
            problem = f"mobility.{field} is [{low:g}, {high:g}]"
            raise document.error(("mobility", field), problem, "write the smaller one first")


def _moves(document: Document, scenario: Scenario) -> None:
    for group, moves in (("phones", scenario.mobility.phones), ("agents", scenario.mobility.agents)):
        if moves is Moves.STILL:
            continue
        where = ("mobility", group)
        if scenario.contacts is not None:
            problem = f"{group} move on the floor, and contacts come from a trace"
            raise document.error(where, problem, "leave out one of mobility and contacts")
        if scenario.radio.links_max == 0:
            problem = f"{group} move, and radio.links_max is 0, so that nobody meets"
            raise document.error(where, problem, "let them be still, or give radio.links_max")


def _day(document: Document, scenario: Scenario) -> None:
    day = scenario.day
    if day.leave_h <= day.arrive_h:
        problem = f"day.leave_h is {day.leave_h:g}, arrive_h {day.arrive_h:g}"
        raise document.error(("day", "leave_h"), problem, "people leave after they have come")


def _replay(document: Document, scenario: Scenario) -> None:
    replay = scenario.contacts
    if replay is None:
        return
    people = PEOPLE[replay.trace]
    if scenario.phones.count > people:
        problem = f"there are {scenario.phones.count} phones, and {people} people in the trace {replay.trace.value}"
        raise document.error(("phones", "count"), problem, "a phone needs somebody who carries it: lower the count")
    if scenario.radio.links_max == 0:
        problem = "contacts are replayed, and radio.links_max is 0, so that nobody meets"
        raise document.error(("contacts",), problem, "leave out contacts, or give radio.links_max")
    end_s = DURATION_S[replay.trace]
    if replay.starts_at_s >= end_s:
        problem = f"contacts.starts_at_s is {replay.starts_at_s:g}, and the trace ends at {end_s} s"
        raise document.error(("contacts", "starts_at_s"), problem, "begin before it ends")


def _stay(document: Document, where: Where, stay: Stay) -> None:
    if stay.by_day and stay.session_s is not None:
        problem = f"{dotted(where)} has both by_day and session_s"
        raise document.error((*where, "session_s"), problem, "keep by_day for a working day, session_s for sessions")
    for field in ("below_pct", "until_pct") if stay.charging is not None else ():
        low, high = getattr(stay.charging, field)
        if low > high:
            problem = f"{dotted((*where, 'charging', field))} is [{low:g}, {high:g}]"
            raise document.error((*where, "charging", field), problem, "write the lower charge first")
    if stay.charging is not None and stay.charging.below_pct[1] >= stay.charging.until_pct[0]:
        problem = f"{dotted((*where, 'charging'))}: people may unplug at a charge at which they plug in"
        hint = "let until_pct begin above the end of below_pct"
        raise document.error((*where, "charging", "below_pct"), problem, hint)
