"""Scenarios whose people cannot be, move or meet as written."""

from __future__ import annotations

from tests.sim.broken_scenarios.base import Broken, flag

_HOSPITAL = "contacts={trace: hospital}"

CASES: list[Broken] = [
    flag(
        "buildings too large",
        "buildings={count: 4, size_m: [60, 10]}",
        problem="4 buildings of 60 by 10 m do not fit: each has 30 by 20 m",
        hint="make them smaller or fewer, or enlarge radio.area_m",
        label="--set buildings={count: 4, size_m: [60, 10]}",
    ),
    flag(
        "speeds in the wrong order",
        "mobility.speed_m_per_s=[2, 1]",
        problem="mobility.speed_m_per_s is [2, 1]",
        hint="write the smaller one first",
        label="--set mobility.speed_m_per_s=[2, 1]",
    ),
    flag(
        "pauses in the wrong order",
        "mobility.pause_s=[20, 10]",
        problem="mobility.pause_s is [20, 10]",
        hint="write the smaller one first",
        label="--set mobility.pause_s=[20, 10]",
    ),
    flag(
        "unknown way to move",
        "mobility.phones=dance",
        problem='mobility.phones is "dance"',
        hint="it is one of still, random_waypoint, working_day",
        label="--set mobility.phones=dance",
    ),
    flag(
        "moves and a trace",
        "mobility.phones=random_waypoint",
        _HOSPITAL,
        problem="phones move on the floor, and contacts come from a trace",
        hint="leave out one of mobility and contacts",
        label="--set mobility.phones=random_waypoint",
    ),
    flag(
        "moves without a radio",
        "mobility.agents=random_waypoint",
        "radio.links_max=0",
        problem="agents move, and radio.links_max is 0, so that nobody meets",
        hint="let them be still, or give radio.links_max",
        label="--set mobility.agents=random_waypoint",
    ),
    flag(
        "leaves before coming",
        "day.leave_h=8",
        problem="day.leave_h is 8, arrive_h 9",
        hint="people leave after they have come",
        label="--set day.leave_h=8",
    ),
    flag(
        "more phones than people",
        "phones.count=76",
        _HOSPITAL,
        problem="there are 76 phones, and 75 people in the trace hospital",
        hint="a phone needs somebody who carries it: lower the count",
        label="--set phones.count=76",
    ),
    flag(
        "a trace without a radio",
        "radio.links_max=0",
        _HOSPITAL,
        problem="contacts are replayed, and radio.links_max is 0, so that nobody meets",
        hint="leave out contacts, or give radio.links_max",
        label=f"--set {_HOSPITAL}",
    ),
    flag(
        "after the trace",
        "contacts={trace: hospital, starts_at_s: 400000}",
        problem="contacts.starts_at_s is 400000, and the trace ends at 347520 s",
        hint="begin before it ends",
        label="--set contacts={trace: hospital, starts_at_s: 400000}",
    ),
    flag(
        "unknown trace",
        "contacts={trace: hospitl}",
        problem='contacts.trace is "hospitl"',
        hint="it is one of hospital, primary_school, high_school",
        label="--set contacts={trace: hospitl}",
    ),
    flag(
        "sessions and a working day",
        "presence.phones={session_s: 60, by_day: true}",
        problem="presence.phones has both by_day and session_s",
        hint="keep by_day for a working day, session_s for sessions",
        label="--set presence.phones={session_s: 60, by_day: true}",
    ),
    flag(
        "charges in the wrong order",
        "presence.agents.charging={until_pct: [90, 80]}",
        problem="presence.agents.charging.until_pct is [90, 80]",
        hint="write the lower charge first",
        label="--set presence.agents.charging={until_pct: [90, 80]}",
    ),
    flag(
        "plugged in and out at once",
        "presence.phones.charging={below_pct: [20, 80]}",
        problem="presence.phones.charging: people may unplug at a charge at which they plug in",
        hint="let until_pct begin above the end of below_pct",
        label="--set presence.phones.charging={below_pct: [20, 80]}",
    ),
    flag(
        "no session at all",
        "presence.phones.session_s=0",
        problem="presence.phones.session_s is 0",
        hint="a length in s is 1 or more",
        label="--set presence.phones.session_s=0",
    ),
]
