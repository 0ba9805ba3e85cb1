"""People who move: where walks lead, what a crowd's positions are, and which contacts come of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pytest

from edgecoder.core.rng import Stream
from edgecoder_sim.floor import Floor
from edgecoder_sim.host import SimNode
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.mobility import Crowd, Meetings
from edgecoder_sim.people_model import Buildings, Day, Mobility
from edgecoder_sim.walks import Leg, Walk, WorkingDay, hours, random_waypoint

FLOOR = Floor((100.0, 50.0), None)
CAMPUS = Floor((1000.0, 500.0), Buildings(count=8, size_m=(60.0, 40.0)))
MOBILITY = Mobility(speed_m_per_s=(1.0, 2.0), pause_s=(10.0, 20.0))


def _stream(number: int = 1) -> Stream:
    return Stream(1, number.to_bytes(4, "big"), "test")


def _without_gaps(legs: list[Leg]) -> bool:
    return all(a.end_s == b.begin_s for a, b in itertools.pairwise(legs))


@dataclass
class Told:
    """What contacts were told."""

    open: set[tuple[int, int]] = field(default_factory=set)
    log: list[tuple[str, int, int, float]] = field(default_factory=list)

    def contact_begins(self, a: SimNode, b: SimNode, distance_m: float) -> None:
        pair = (cast(int, a), cast(int, b))
        assert pair not in self.open, "begins twice"
        self.open.add(pair)
        self.log.append(("begin", *pair, distance_m))

    def contact_ends(self, a: SimNode, b: SimNode) -> None:
        pair = (cast(int, a), cast(int, b))
        self.open.remove(pair)
        self.log.append(("end", *pair, 0.0))


def _meet(crowd: Crowd, count: int, range_m: float, contacts: Told) -> Meetings:
    """Meetings of people who are their own numbers."""
    return Meetings(cast("list[SimNode]", list(range(count))), crowd, range_m, contacts)


def test_a_waypoint_walker_stays_on_the_floor_and_keeps_the_speed() -> None:
    legs = list(itertools.islice(random_waypoint(FLOOR, MOBILITY, _stream(), 0), 400))
    assert legs[0].begin_s == 0
    assert _without_gaps(legs)
    for stay, way in zip(legs[::2], legs[1::2], strict=True):
        assert stay.start == stay.end == way.start
        assert 10 <= stay.end_s - stay.begin_s <= 20
        assert way.start is not None
        assert way.end is not None
        assert 0 <= way.end[0] <= 100
        assert 0 <= way.end[1] <= 50
        assert 1.0 <= math.dist(way.start, way.end) / (way.end_s - way.begin_s) <= 2.0 + 1e-9


def test_waypoints_are_uniform_over_the_floor() -> None:
    ends = [leg.end for leg in itertools.islice(random_waypoint(FLOOR, MOBILITY, _stream(), 0), 4000)][1::2]
    points = np.array(ends)
    assert points.mean(axis=0) == pytest.approx([50, 25], rel=0.05)
    assert points.std(axis=0) == pytest.approx([100 / math.sqrt(12), 50 / math.sqrt(12)], rel=0.05)


def test_a_working_day_is_away_at_night_and_at_work_by_day() -> None:
    day = Day(starts_h=0, arrive_h=9, arrive_spread_h=0.5, leave_h=17, leave_spread_h=0.5)
    walk = WorkingDay(CAMPUS, MOBILITY, day, _stream(), _stream(2), 3).walk()
    legs = list(itertools.takewhile(lambda leg: leg.begin_s < 5 * 86_400, walk))
    assert _without_gaps(legs)
    away = [leg for leg in legs if leg.start is None]
    assert len(away) in (5, 6)
    assert all(8 <= leg.end_s / 3600 % 24 <= 10 for leg in away[:5])
    assert all(16 <= leg.begin_s / 3600 % 24 <= 18.5 for leg in away[1:])
    left, top, width, depth = CAMPUS.buildings[3]
    desk = max(
        (leg for leg in legs if leg.start == leg.end), key=lambda leg: leg.end_s - leg.begin_s if leg.start else 0
    )
    assert desk.start is not None
    assert left <= desk.start[0] <= left + width
    assert top <= desk.start[1] <= top + depth


def test_who_is_there_when_the_simulation_begins_sits_at_the_desk() -> None:
    first = next(WorkingDay(CAMPUS, MOBILITY, Day(starts_h=13), _stream(), _stream(2), 0).walk())
    assert first.begin_s == 0
    assert first.start is not None


def test_arrivals_follow_the_clock() -> None:
    day = Day(starts_h=6, arrive_h=9, arrive_spread_h=0.5)
    arrivals = np.array([hours(day, 0, _stream(number)).arrive_s for number in range(2000)])
    assert arrivals.mean() == pytest.approx(3 * 3600, rel=0.02)
    assert arrivals.std() == pytest.approx(0.5 * 3600 * 0.959, rel=0.04)  # a normal, held at two deviations
    assert arrivals.min() >= 2 * 3600
    assert arrivals.max() <= 4 * 3600


def _line(start: tuple[float, float], end: tuple[float, float], until_s: float) -> Walk:
    yield Leg(0.0, until_s, start, end)
    yield Leg(until_s, math.inf, end, end)


def test_a_crowd_is_on_the_line_between_its_waypoints() -> None:
    crowd = Crowd([(5.0, 5.0), (0.0, 0.0)], {1: _line((0.0, 0.0), (10.0, 20.0), 10.0)})
    assert crowd.at(0).tolist() == [[5, 5], [0, 0]]
    assert crowd.at(2.5).tolist() == [[5, 5], [2.5, 5]]
    assert crowd.at(10).tolist() == [[5, 5], [10, 20]]
    assert crowd.at(1000).tolist() == [[5, 5], [10, 20]]


def test_two_who_pass_each_other_meet_for_as_long_as_they_are_in_range() -> None:
    walks = {0: _line((0.0, 0.0), (100.0, 0.0), 100.0), 1: _line((100.0, 0.0), (0.0, 0.0), 100.0)}
    contacts, kernel = Told(), Kernel()
    _meet(Crowd([(0.0, 0.0), (100.0, 0.0)], walks), 2, 10.5, contacts).start(kernel, 1_000_000)
    kernel.run(100_000_000)  # they close in by 2 m a second: in range from 44.75 s to 55.25 s
    assert [(kind, a, b) for kind, a, b, _ in contacts.log] == [("begin", 0, 1), ("end", 0, 1)]
    assert contacts.log[0][3] == pytest.approx(10.0)


@pytest.mark.parametrize("seed", range(5))
def test_contacts_are_the_pairs_in_range_at_each_step(seed: int) -> None:
    walks = {number: random_waypoint(FLOOR, MOBILITY, _stream(100 * seed + number), number) for number in range(30)}
    crowd, contacts, kernel = Crowd([(0.0, 0.0)] * 30, walks), Told(), Kernel()
    meetings = _meet(crowd, 30, 12.0, contacts)
    meetings.start(kernel, 5_000_000)
    for second in range(5, 300, 5):
        kernel.run(second * 1_000_000 + 1)
        points = meetings.positions.tolist()
        near = {(i, j) for i, j in itertools.combinations(range(30), 2) if math.dist(points[i], points[j]) <= 12.0}
        assert contacts.open == near
    assert sum(kind == "end" for kind, *_ in contacts.log) > 20


def test_who_is_away_meets_nobody() -> None:
    def leaves() -> Walk:
        yield Leg(0.0, 10.0, (1.0, 0.0), (1.0, 0.0))
        yield Leg(10.0, math.inf, None, None)

    contacts, kernel = Told(), Kernel()
    meetings = _meet(Crowd([(0.0, 0.0), (1.0, 0.0), (2.0, 0.0)], {1: leaves()}), 3, 1.5, contacts)
    meetings.start(kernel, 5_000_000)
    assert contacts.open == {(0, 1), (1, 2)}
    kernel.run(10_000_001)
    assert contacts.open == set()
    assert np.isnan(meetings.positions[1]).all()


def test_who_stands_still_is_looked_at_once() -> None:
    contacts, kernel = Told(), Kernel()
    _meet(Crowd([(0.0, 0.0), (1.0, 0.0)], {}), 2, 1.5, contacts).start(kernel, None)
    assert contacts.open == {(0, 1)}
    assert kernel.peek() == math.inf


def test_buildings_lie_within_the_area_and_apart() -> None:
    assert len(CAMPUS.buildings) == 8
    for left, top, width, depth in CAMPUS.buildings:
        assert left >= 0
        assert top >= 0
        assert left + width <= 1000
        assert top + depth <= 500
    corners = [(left, top) for left, top, _, _ in CAMPUS.buildings]
    assert all(abs(a[0] - b[0]) >= 60 or abs(a[1] - b[1]) >= 40 for a, b in itertools.combinations(corners, 2))
