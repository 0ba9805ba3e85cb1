"""The replay window against the plainest model: the set of everything that was seen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgecoder.mesh.replay import ReplayWindow
from edgecoder.protocol import REPLAY_WINDOW

near = st.tuples(st.integers(0, 2), st.integers(0, 3 * REPLAY_WINDOW))
far = st.tuples(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 63) - 1))


@given(st.lists(near | far, max_size=150))
def test_new_is_what_was_not_seen_and_is_not_too_old(arrivals: list[tuple[int, int]]) -> None:
    window, seen = ReplayWindow(), set[tuple[int, int]]()
    for epoch, seq in arrivals:
        newest = max(seen, default=(-1, 0))
        too_old = epoch < newest[0] or (epoch == newest[0] and seq <= newest[1] - REPLAY_WINDOW)
        assert window.accept(epoch, seq) is not (too_old or (epoch, seq) in seen)
        if not too_old:
            seen.add((epoch, seq))


def test_the_window_is_as_wide_as_the_protocol_says() -> None:
    window = ReplayWindow()
    assert window.accept(1, REPLAY_WINDOW)
    assert window.accept(1, 1)
    assert not window.accept(1, 0)
    assert window.seen < 1 << REPLAY_WINDOW


def test_an_earlier_life_is_over() -> None:
    window = ReplayWindow()
    assert window.accept(2, 1)
    assert not window.accept(1, 1_000_000)
    assert window.accept(3, 0)
    assert not window.accept(2, 2)


def test_overtaking_is_no_replay() -> None:
    window = ReplayWindow()
    assert [window.accept(1, seq) for seq in (5, 3, 4, 3, 5, 6)] == [True, True, True, False, False, True]
