"""Ways that people take: each walk yields legs, straight lines at one speed, and stays.

A leg says where somebody is from one moment to another; `mobility` asks for the next one when it has run out. Each
person draws from a stream of their own.

Fidelity boundary: people walk in straight lines at one speed a way and avoid neither walls nor each other; they go to
meetings alone, so that who meets whom is chance and the rooms' doing; a day is like the one before but for its draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from edgecoder.core.rng import Stream
from edgecoder_sim.floor import Floor, Point
from edgecoder_sim.people_model import Day, Mobility

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
MEETING_LEAST_S = 300.0
LUNCH_SPREAD_H = 0.5
DEVIATIONS_MAX = 2.0
"""Hours of people are cut at so many standard deviations."""


class Leg(NamedTuple):
    """Somebody goes from one point to another, or stays where both are one; None is away from the floor."""

    begin_s: float
    end_s: float
    start: Point | None
    end: Point | None


Walk = Iterator[Leg]
"""Legs without gaps from the begin of the simulation; it never ends."""


def random_waypoint(floor: Floor, mobility: Mobility, stream: Stream, index: int) -> Walk:
    """To uniform points of the whole area, with pauses; the first is where the node's building is."""
    now_s, here = 0.0, floor.spot(stream, floor.of(index))
    while True:
        pause_s = _between(stream, mobility.pause_s)
        yield Leg(now_s, now_s + pause_s, here, here)
        now_s += pause_s
        there = floor.spot(stream)
        leg = _go(now_s, here, there, mobility, stream)
        yield leg
        now_s, here = leg.end_s, there


class Hours(NamedTuple):
    """One person's day, s of the simulation."""

    arrive_s: float
    leave_s: float
    lunch_s: float


def hours(day: Day, number: int, stream: Stream) -> Hours:
    """When a person comes, leaves and eats on day `number`; nobody leaves before coming."""
    midnight_s = number * DAY_S - day.starts_h * HOUR_S
    arrive_h = _normal(stream, day.arrive_h, day.arrive_spread_h)
    leave_h = max(arrive_h, _normal(stream, day.leave_h, day.leave_spread_h))
    lunch_h = _normal(stream, day.lunch_h, LUNCH_SPREAD_H)
    return Hours(*(midnight_s + hour * HOUR_S for hour in (arrive_h, leave_h, lunch_h)))


class WorkingDay:
    """The days of one person."""

    def __init__(
        self, floor: Floor, mobility: Mobility, day: Day, stream: Stream, hours_stream: Stream, index: int
    ) -> None:
        """`hours_stream` is drawn from for the hours of each day alone: who else has it knows them."""
        self._hours_stream = hours_stream
        self._floor, self._mobility, self._day, self._stream = floor, mobility, day, stream
        self._building = floor.of(index)
        self._desk = floor.spot(stream, self._building)
        self._rooms = rooms(floor, self._building, day)
        self._now_s = 0.0
        self._here: Point | None = None

    def walk(self) -> Walk:
        """Away, at work, away, and so on."""
        number = 0
        while True:
            of_day = hours(self._day, number, self._hours_stream)
            number += 1
            if of_day.leave_s <= self._now_s:
                continue
            if of_day.arrive_s > self._now_s:
                yield self._stay(of_day.arrive_s)
                self._here = self._floor.door(self._building)
            elif self._here is None:
                self._here = self._desk  # at work already when the simulation begins
            yield from self._work(of_day)
            self._here = None

    def _work(self, of_day: Hours) -> Walk:
        yield from self._to(self._desk)
        lunch_s = of_day.lunch_s if self._day.lunch_min and of_day.lunch_s > self._now_s else math.inf
        while self._now_s < of_day.leave_s:
            meeting_s = self._now_s + self._until_meeting_s()
            until_s = min(meeting_s, lunch_s, of_day.leave_s)
            yield self._stay(max(until_s, self._now_s))
            if until_s == of_day.leave_s:
                break
            if until_s == lunch_s:
                lunch_s = math.inf
                yield from self._visit(self._floor.spot(self._stream, 0), self._day.lunch_min * 60.0, of_day)
            else:
                length_s = max(MEETING_LEAST_S, _exponential(self._stream, self._day.meeting_min * 60.0))
                yield from self._visit(self._stream.choice(self._rooms), length_s, of_day)
        yield from self._to(self._floor.door(self._building))

    def _visit(self, there: Point, length_s: float, of_day: Hours) -> Walk:
        """Go there and back; nobody stays longer than the day."""
        yield from self._to(there)
        yield self._stay(max(self._now_s, min(self._now_s + length_s, of_day.leave_s)))
        yield from self._to(self._desk)

    def _to(self, there: Point) -> Walk:
        assert self._here is not None
        leg = _go(self._now_s, self._here, there, self._mobility, self._stream)
        self._now_s, self._here = leg.end_s, there
        yield leg

    def _stay(self, until_s: float) -> Leg:
        leg = Leg(self._now_s, until_s, self._here, self._here)
        self._now_s = until_s
        return leg

    def _until_meeting_s(self) -> float:
        per_day = self._day.meetings_per_day
        return _exponential(self._stream, 8 * HOUR_S / per_day) if per_day else math.inf


def rooms(floor: Floor, building: int, day: Day) -> list[Point]:
    """The meeting rooms of a building: the same for everybody in it, along its back wall."""
    left, top, width, depth = floor.buildings[building]
    return [(left + (number + 0.5) * width / day.rooms, top + 0.9 * depth) for number in range(day.rooms)]


def _go(begin_s: float, here: Point, there: Point, mobility: Mobility, stream: Stream) -> Leg:
    return Leg(begin_s, begin_s + math.dist(here, there) / _between(stream, mobility.speed_m_per_s), here, there)


def _between(stream: Stream, span: tuple[float, float]) -> float:
    return span[0] + stream.uniform() * (span[1] - span[0])


def _exponential(stream: Stream, mean: float) -> float:
    return -math.log(1.0 - stream.uniform()) * mean


def _normal(stream: Stream, mean: float, deviation: float) -> float:
    """A normal draw by Box and Muller, cut at DEVIATIONS_MAX."""
    radius = math.sqrt(-2.0 * math.log(1.0 - stream.uniform()))
    drawn = radius * math.cos(2.0 * math.pi * stream.uniform())
    return mean + deviation * max(-DEVIATIONS_MAX, min(DEVIATIONS_MAX, drawn))
