"""The timer table: order, moving, cancelling, and actions that set timers themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgecoder.core.timers import TimerTable


class Fired:
    """Notes which timers went off."""

    def __init__(self) -> None:
        self.table = TimerTable()
        self.names: list[int] = []

    def set(self, key: int, deadline: int) -> None:
        self.table.set(("t", key), deadline, lambda: self.names.append(key))

    def due(self, now: int) -> list[int]:
        """The timers that go off at `now`."""
        before = len(self.names)
        self.table.fire_due(now)
        return self.names[before:]


def test_an_empty_table_has_no_deadline() -> None:
    table = TimerTable()
    table.fire_due(1 << 60)
    assert table.next_deadline is None
    assert len(table) == 0


def test_due_timers_go_off_in_order_of_deadlines_then_of_setting() -> None:
    fired = Fired()
    for key, deadline in [(1, 30), (2, 10), (3, 20), (4, 10)]:
        fired.set(key, deadline)
    assert fired.table.next_deadline == 10
    assert fired.due(9) == []
    assert fired.due(20) == [2, 4, 3]
    assert fired.table.next_deadline == 30
    assert fired.due(30) == [1]
    assert len(fired.table) == 0


def test_a_timer_goes_off_once() -> None:
    fired = Fired()
    fired.set(1, 5)
    assert fired.due(5) == [1]
    assert fired.due(5) == []


def test_setting_again_moves_a_timer_either_way() -> None:
    fired = Fired()
    fired.set(1, 10)
    fired.set(1, 20)
    assert fired.table.next_deadline == 20
    assert fired.due(15) == []
    fired.set(1, 17)
    assert fired.table.next_deadline == 17
    assert fired.due(30) == [1]
    assert fired.due(30) == []


def test_a_cancelled_timer_does_not_go_off() -> None:
    fired = Fired()
    fired.set(1, 10)
    fired.set(2, 11)
    fired.table.cancel(("t", 1))
    fired.table.cancel(("t", 99))
    assert fired.table.next_deadline == 11
    assert fired.due(20) == [2]


def test_what_an_action_sets_waits_for_the_next_wake_up() -> None:
    """Else two timers that set each other would hold the node for ever."""
    table, count = TimerTable(), [0]

    def again() -> None:
        count[0] += 1
        table.set(("t", 0), 0, again)

    again()
    for expected in (2, 3):
        table.fire_due(10)
        assert count == [expected]
    assert table.next_deadline == 0


def test_an_action_may_cancel_another_that_is_due() -> None:
    fired = Fired()
    fired.table.set(("first", 0), 1, lambda: fired.table.cancel(("t", 1)))
    fired.set(1, 2)
    assert fired.due(5) == []


def test_moving_a_timer_for_ever_does_not_grow_the_heap() -> None:
    fired = Fired()
    for deadline in range(10_000):
        fired.set(1, deadline)
    assert len(fired.table) == 1
    assert len(fired.table._heap) <= 65
    assert fired.due(9_998) == []
    assert fired.due(9_999) == [1]


@given(
    st.lists(st.tuples(st.sampled_from(["set", "cancel", "fire"]), st.integers(0, 5), st.integers(0, 50)), max_size=120)
)
def test_the_table_is_a_dict_of_deadlines(operations: list[tuple[str, int, int]]) -> None:
    """Against the simplest model: a dict from name to (deadline, order of setting)."""
    fired, model, order = Fired(), dict[int, tuple[int, int]](), 0
    for what, key, at in operations:
        if what == "set":
            order += 1
            model[key] = (at, order)
            fired.set(key, at)
        elif what == "cancel":
            model.pop(key, None)
            fired.table.cancel(("t", key))
        else:
            due = sorted(name for name, (deadline, _) in model.items() if deadline <= at)
            due.sort(key=lambda name: model[name])
            assert fired.due(at) == due
            for name in due:
                del model[name]
        assert len(fired.table) == len(model)
        assert fired.table.next_deadline == min((deadline for deadline, _ in model.values()), default=None)
