"""What people who meet can carry, and what a naive policy does: small cases by hand, and relations of any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder_sim.bounds.epidemic import spread
from edgecoder_sim.bounds.meetings import UNIT_BYTES, Meeting, MeetingGraph, Step, steps_of

KIB = UNIT_BYTES
MUCH = 1 << 40


def chain(*pairs: tuple[int, int, float]) -> list[Step]:
    """A meeting a step: first, second, KiB."""
    return [Step(number, first, second, size * KIB) for number, (first, second, size) in enumerate(pairs)]


def test_a_meeting_is_cut_at_steps_and_costs_its_setup_once() -> None:
    steps = steps_of([Meeting(10, 50, 2, 1, 100.0, setup_s=5)], 20.0, until_s=45)
    assert steps == [Step(0, 1, 2, 500.0), Step(1, 1, 2, 2000.0), Step(2, 1, 2, 500.0)]
    assert steps_of([Meeting(10, 12, 0, 1, 100.0, setup_s=5)], 20.0, until_s=45) == []


def test_what_is_carried_on_is_what_the_narrower_meeting_carries() -> None:
    graph = MeetingGraph(chain((0, 1, 5), (1, 2, 3)))
    assert graph.most_bytes([0], 1, MUCH) == 5 * KIB
    assert graph.most_bytes([0], 2, MUCH) == 3 * KIB
    assert graph.most_bytes([0], 2, 2 * KIB) == 2 * KIB


def test_nothing_goes_back_in_time_and_all_through_one_step() -> None:
    assert MeetingGraph(chain((1, 2, 3), (0, 1, 5))).most_bytes([0], 2, MUCH) == 0
    together = [Step(0, 0, 1, 5 * KIB), Step(0, 1, 2, 3 * KIB)]
    assert MeetingGraph(together).most_bytes([0], 2, MUCH) == 3 * KIB


def test_ways_add_up_and_a_radio_is_one() -> None:
    steps = [Step(0, 0, 2, 4 * KIB), Step(0, 1, 2, 4 * KIB)]
    assert MeetingGraph(steps).most_bytes([0, 1], 2, MUCH) == 8 * KIB
    assert MeetingGraph(steps, 5 * KIB).most_bytes([0, 1], 2, MUCH) == 5 * KIB
    assert MeetingGraph(steps).most_bytes([0, 1], 9, MUCH) == 0


def test_the_naive_policy_takes_files_in_order_from_one_partner_at_a_time() -> None:
    steps = [Step(0, 0, 1, 30.0), Step(0, 0, 2, 30.0), Step(1, 1, 2, 100.0)]
    have = spread(steps, [20, 50], {0: [0, 1]}, {1: [0, 1], 2: [0, 1]})
    assert have == {0: [20.0, 50.0], 1: [20.0, 10.0], 2: [20.0, 10.0]}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 4), st.integers(1, 9)), max_size=12),
    st.integers(1, 40),
)
def test_no_node_has_more_by_the_naive_policy_than_the_flow_to_it(
    rows: list[tuple[int, int, int, int]], file_kib: int
) -> None:
    meetings = [
        Meeting(number * 10, number * 10 + 10, first, second, size * KIB / 10)
        for number, first, second, size in rows
        if first != second
    ]
    steps = steps_of(meetings, 10.0, 40.0)
    graph, size = MeetingGraph(steps), file_kib * KIB
    have = spread(steps, [size], {0: [0]}, {node: [0] for node in range(1, 5)})
    for node in range(1, 5):
        most = graph.most_bytes([0], node, size)
        assert have.get(node, [0.0])[0] <= most + 1e-6
        assert most <= graph.most_bytes([0, 1] if node != 1 else [0], node, size)


@pytest.mark.parametrize("wanted", [0, 7])
def test_nobody_gets_more_than_is_wanted(wanted: int) -> None:
    assert MeetingGraph(chain((0, 1, 5))).most_bytes([0], 1, wanted) == wanted
