"""The kernel: rounding to ticks, order, drift, SimPy on the same clock, and what is left after an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st
from simpy.core import StopSimulation

from edgecoder_sim.kernel import Kernel, Timer, _whole_triples

Log = list[tuple[int, object]]


def recorder(kernel: Kernel, log: Log) -> Callable[[Any, Any], None]:
    """A call that notes when it ran, and with what."""
    return lambda a, _: log.append((kernel.now, a))


def step_all(kernel: Kernel, until_us: int) -> None:
    """What `run(until_us)` does, by SimPy's own means."""
    while kernel.peek() < until_us:
        simpy.Environment.step(kernel)


class TestCallAt:
    @pytest.mark.parametrize(
        ("tick_us", "at_us", "runs_at_us"),
        [(1000, 0, 0), (1000, 1, 1000), (1000, 999, 1000), (1000, 1000, 1000), (1000, 1001, 2000), (1, 1234, 1234)],
    )
    def test_rounds_up_to_a_tick(self, tick_us: int, at_us: int, runs_at_us: int) -> None:
        kernel, log = Kernel(tick_us), Log()
        kernel.call_at(at_us, recorder(kernel, log), "x")
        kernel.run()
        assert log == [(runs_at_us, "x")]

    def test_passes_both_arguments(self) -> None:
        kernel = Kernel()
        seen: list[tuple[Any, Any]] = []
        kernel.call_at(0, lambda a, b: seen.append((a, b)), "a", "b")
        kernel.call_at(0, lambda a, b: seen.append((a, b)))
        kernel.run()
        assert seen == [("a", "b"), (None, None)]

    def test_one_tick_keeps_the_order_of_insertion_whatever_the_unrounded_times(self) -> None:
        kernel, log = Kernel(), Log()
        for at_us in (900, 100, 1000, 500):
            kernel.call_at(at_us, recorder(kernel, log), at_us)
        kernel.run()
        assert log == [(1000, 900), (1000, 100), (1000, 1000), (1000, 500)]

    @pytest.mark.parametrize("waiting", [0, 1, 2])
    def test_a_call_for_the_running_tick_runs_in_it_after_what_is_there(self, waiting: int) -> None:
        kernel, log = Kernel(), Log()
        note = recorder(kernel, log)

        def first(_a: object, _b: object) -> None:
            note("first", None)
            kernel.call_at(kernel.now, note, "added")

        kernel.call_at(3000, first)
        for i in range(waiting):
            kernel.call_at(3000, note, i)
        kernel.run()
        assert log == [(3000, "first"), *((3000, i) for i in range(waiting)), (3000, "added")]
        assert kernel.events == waiting + 2

    def test_a_time_in_the_past_is_an_error_even_where_it_would_round_up_to_now(self) -> None:
        kernel = Kernel()
        kernel.call_at(5000, lambda _a, _b: kernel.call_at(4999, print))
        with pytest.raises(ValueError, match="at_us is 4999, in the past: it is 5000 now"):
            kernel.run()

    @pytest.mark.parametrize("at_us", [1.0, True, "1"])
    def test_only_an_int_is_a_time(self, at_us: Any) -> None:
        with pytest.raises(TypeError, match="int of microseconds"):
            Kernel().call_at(at_us, print)

    def test_between_ticks_now_is_rounded_up_too(self) -> None:
        kernel, log = Kernel(), Log()

        def process() -> Iterator[simpy.Event]:
            yield kernel.timeout(1500)
            kernel.call_at(kernel.now, recorder(kernel, log), "x")

        kernel.process(process())  # type: ignore[arg-type]
        kernel.run()
        assert log == [(2000, "x")]


class TestEvery:
    @pytest.mark.parametrize("tick_us", [1, 1000])
    @pytest.mark.parametrize(("period_us", "offset_us"), [(1000, 0), (2500, 300), (3333, 10_001), (15_000, 14_999)])
    def test_point_k_is_offset_plus_k_periods_rounded_up(self, tick_us: int, period_us: int, offset_us: int) -> None:
        kernel, log = Kernel(tick_us), Log()
        kernel.every(period_us, offset_us, recorder(kernel, log), "x")
        kernel.run(until=1_000_000)
        points = [-(-(offset_us + k * period_us) // tick_us) * tick_us for k in range(1000)]
        assert log == [(at_us, "x") for at_us in points if at_us < 1_000_000]

    def test_registered_at_its_own_time_it_runs_at_once(self) -> None:
        kernel, log = Kernel(), Log()
        note = recorder(kernel, log)
        kernel.every(5000, 0, note, "old")
        kernel.call_at(5000, lambda _a, _b: kernel.every(5000, 5000, note, "new"))
        kernel.call_at(5000, note, "call")
        kernel.run(until=11_000)
        assert log == [(0, "old"), (5000, "old"), (5000, "call"), (5000, "new"), (10_000, "old"), (10_000, "new")]

    def test_registered_by_its_own_slot_it_runs_in_the_same_turn(self) -> None:
        kernel, log = Kernel(), Log()
        note = recorder(kernel, log)
        kernel.every(5000, 5000, lambda _a, _b: kernel.now == 5000 and kernel.every(5000, 5000, note, "new"))
        kernel.every(5000, 5000, note, "old")
        kernel.run(until=11_000)
        assert log == [(5000, "old"), (5000, "new"), (10_000, "old"), (10_000, "new")]

    def test_two_points_of_a_wheel_in_one_tick_run_in_the_order_of_their_times(self) -> None:
        kernel, log = Kernel(), Log()
        note = recorder(kernel, log)
        kernel.every(1500, 900, note, "late")
        kernel.every(1500, 200, note, "early")
        kernel.run(until=4000)
        assert log == [(1000, "early"), (1000, "late"), (2000, "early"), (3000, "late")]

    def test_joining_while_a_turn_waits_for_its_tick_disturbs_neither(self) -> None:
        kernel, log = Kernel(), Log()
        note = recorder(kernel, log)
        kernel.every(2500, 4300, note, "waiting")

        def join(_: simpy.Event) -> None:
            kernel.every(2500, 4640, note, "joining")

        kernel.timeout(4650).callbacks.append(join)
        kernel.run(until=8500)
        assert log == [(5000, "waiting"), (7000, "waiting"), (8000, "joining")]

    def test_a_cancelled_timer_is_silent_and_the_others_go_on(self) -> None:
        kernel, log = Kernel(), Log()
        note = recorder(kernel, log)
        timers = [kernel.every(2000, 0, note, name) for name in "abc"]
        kernel.call_at(3000, lambda _a, _b: timers[1].cancel())
        kernel.call_at(3000, lambda _a, _b: timers[1].cancel())
        kernel.run(until=5000)
        assert [name for at_us, name in log if at_us == 2000] == ["a", "b", "c"]
        assert [name for at_us, name in log if at_us == 4000] == ["a", "c"]
        assert kernel.events == len(log) + 2

    def test_cancelled_by_an_earlier_timer_of_its_turn_it_does_not_run(self) -> None:
        kernel, log = Kernel(), Log()
        later: list[Timer] = []
        kernel.every(2000, 2000, lambda _a, _b: later[0].cancel())
        later.append(kernel.every(2000, 2000, recorder(kernel, log), "x"))
        kernel.run(until=9000)
        assert log == []
        assert kernel.events == 4

    def test_a_timer_may_cancel_itself_and_start_anew(self) -> None:
        kernel, log = Kernel(), Log()
        timers: list[Timer] = []

        def beat(_a: object, _b: object) -> None:
            log.append((kernel.now, "beat"))
            timers.pop().cancel()
            timers.append(kernel.every(3000, kernel.now + 3000, beat))

        timers.append(kernel.every(3000, 0, beat))
        kernel.run(until=10_000)
        assert log == [(at_us, "beat") for at_us in (0, 3000, 6000, 9000)]

    def test_cancelling_before_a_distant_start_leaves_nothing(self) -> None:
        kernel, log = Kernel(), Log()
        kernel.every(1000, 50_000, recorder(kernel, log), "x").cancel()
        kernel.run()
        assert log == []

    def test_a_wheel_with_nothing_left_leaves_the_heap_and_may_come_back(self) -> None:
        kernel, log = Kernel(), Log()
        timer = kernel.every(1000, 0, lambda _a, _b: None)
        kernel.run(until=2500)
        timer.cancel()
        kernel.run()
        assert (kernel.events, kernel.now, kernel.peek()) == (3, 3000, float("inf"))
        kernel.every(1000, 4000, recorder(kernel, log), "x")
        kernel.run(until=6000)
        assert log == [(4000, "x"), (5000, "x")]

    def test_of_identical_registrations_the_one_whose_turn_comes_last_leaves(self) -> None:
        kernel, log = Kernel(), Log()
        timers: list[Timer] = []

        def beat(_a: object, _b: object) -> None:
            log.append((kernel.now, "beat"))
            timers[1].cancel()

        timers.extend(kernel.every(1000, 0, beat) for _ in range(2))
        kernel.run(until=1500)
        assert log == [(0, "beat"), (1000, "beat")]

    @pytest.mark.parametrize(
        ("period_us", "offset_us", "error"),
        [(999, 0, ValueError), (0, 0, ValueError), (1000, -1, ValueError), (1e6, 0, TypeError), (1000, 0.5, TypeError)],
    )
    def test_refuses(self, period_us: Any, offset_us: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="_us is"):
            Kernel().every(period_us, offset_us, print)

    @given(st.data())
    def test_any_mix_of_joining_and_leaving_keeps_every_grid(self, data: st.DataObject) -> None:
        """Timers join and leave while wheels turn; each runs at the points of its grid between the two, at no other."""
        tick_us = data.draw(st.sampled_from([1, 10, 1000]))
        kernel = Kernel(tick_us)
        periods_us = st.sampled_from([tick_us, 2 * tick_us, 7 * tick_us, 3 * tick_us + tick_us // 3])
        plans = data.draw(
            st.lists(
                st.tuples(
                    periods_us,
                    st.integers(0, 40 * tick_us),
                    st.integers(0, 15 * tick_us),
                    st.integers(0, 40),
                    st.booleans(),
                ),
                max_size=12,
            )
        )
        logs: list[Log] = [[] for _ in plans]

        def join(number: int) -> None:
            period_us, _, ahead_us, lifetime, starts_behind = plans[number]
            offset_us = max(0, kernel.now - ahead_us) if starts_behind else kernel.now + ahead_us
            timer = kernel.every(period_us, offset_us, recorder(kernel, logs[number]), offset_us)
            kernel.timeout(lifetime * tick_us + tick_us // 2 + 1).callbacks.append(lambda _: timer.cancel())

        for number, plan in enumerate(plans):
            kernel.timeout(plan[1], number).callbacks.append(lambda event: join(event.value))
        kernel.run(until=100 * tick_us)
        for (period_us, begin_us, ahead_us, lifetime, starts_behind), log in zip(plans, logs, strict=True):
            end_us = begin_us + lifetime * tick_us + tick_us // 2 + 1
            first_us = max(0, begin_us - ahead_us) if starts_behind else begin_us + ahead_us
            points = [first_us + k * period_us for k in range(200) if first_us + k * period_us >= begin_us]
            rounded = [-(-at_us // tick_us) * tick_us for at_us in points]
            # Where leaving falls on a tick, the periodic calls of that tick came first.
            assert [at_us for at_us, _ in log] == [at_us for at_us in rounded if at_us <= end_us]


class TestTies:
    def test_the_classes_run_in_the_order_of_the_tie_rule(self) -> None:
        kernel, log = Kernel(), Log()
        note = recorder(kernel, log)
        kernel.timeout(6000).callbacks.append(lambda _: note("timeout", None))
        kernel.call_at(6000, note, "call")
        kernel.every(3000, 6000, note, "second period")
        kernel.every(2000, 6000, note, "third period")
        urgent = kernel.event()
        urgent.callbacks.append(lambda _: note("urgent", None))
        urgent._ok, urgent._value = True, None
        kernel.schedule(urgent, simpy.events.URGENT, 6000)
        kernel.every(2000, 6000, note, "third period again")
        kernel.run(until=6001)
        names = ["urgent", "second period", "third period", "third period again", "call", "timeout"]
        assert log == [(6000, name) for name in names]

    def test_timers_that_share_all_their_ticks_keep_the_order_of_registration(self) -> None:
        kernel, log = Kernel(), Log()
        note = recorder(kernel, log)
        kernel.every(2000, 900, note, "first")
        kernel.every(2000, 200, note, "second")
        kernel.run(until=2000)
        assert log == [(1000, "first"), (1000, "second")]

    def test_a_call_made_by_a_simpy_event_goes_before_the_later_simpy_events(self) -> None:
        kernel, log = Kernel(), Log()
        note = recorder(kernel, log)
        kernel.timeout(1000).callbacks.append(lambda _: kernel.call_at(1000, note, "call"))
        kernel.timeout(1000).callbacks.append(lambda _: note("second", None))
        kernel.run()
        assert log == [(1000, "call"), (1000, "second")]


def scripted(kernel: Kernel, plan: list[tuple[int, int, int]], log: Log) -> None:
    """A world of calls, timers and processes that make each other; the plan decides which."""
    note = recorder(kernel, log)

    def call(number: int, more: int) -> None:
        note(("call", number), None)
        if more:
            kernel.call_at(kernel.now + (number * 700) % 2500, call, number + 1, more - 1)

    def process(number: int, delay_us: int) -> Iterator[simpy.Event]:
        for _ in range(3):
            yield kernel.timeout(delay_us)
            note(("process", number), None)
            kernel.call_at(kernel.now, call, number, 1)

    for number, (kind, at_us, size) in enumerate(plan):
        if kind == 0:
            kernel.call_at(at_us, call, number, size)
        elif kind == 1:
            kernel.every(1000 + size * 500, at_us, note, ("timer", number))
        else:
            kernel.process(process(number, at_us))  # type: ignore[arg-type]


PLANS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9000), st.integers(0, 4)), max_size=15)


class TestSimpy:
    @given(PLANS)
    def test_stock_step_and_fast_run_agree(self, plan: list[tuple[int, int, int]]) -> None:
        stepped, ran = Kernel(), Kernel()
        by_step, by_run = Log(), Log()
        scripted(stepped, plan, by_step)
        scripted(ran, plan, by_run)
        step_all(stepped, 20_000)
        ran.run(until=20_000)
        assert by_step == by_run
        assert stepped.events == ran.events

    @given(PLANS, st.lists(st.integers(1, 19_999), max_size=5))
    def test_stopping_on_the_way_changes_nothing(self, plan: list[tuple[int, int, int]], stops_us: list[int]) -> None:
        paused, straight = Kernel(), Kernel()
        with_pauses, without = Log(), Log()
        scripted(paused, plan, with_pauses)
        scripted(straight, plan, without)
        for stop_us in sorted(set(stops_us)):
            paused.run(until=stop_us)
            assert paused.now == stop_us
        paused.run(until=20_000)
        straight.run(until=20_000)
        assert with_pauses == without

    @given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**6)), max_size=20))
    def test_a_chain_is_late_by_less_than_a_tick_a_link_against_the_oracle(self, chains: list[tuple[int, int]]) -> None:
        """What rounding costs: each call is less than one tick later than in the world of tick 1, never earlier."""
        links = 3
        worlds = Kernel(1), Kernel(1000)
        times: list[dict[tuple[int, int], int]] = [{}, {}]
        for kernel, at in zip(worlds, times, strict=True):

            def link(key: tuple[int, int], delay_us: int, kernel: Kernel = kernel, at: Any = at) -> None:
                at[key] = kernel.now
                if key[1] < links:
                    kernel.call_at(kernel.now + delay_us, link, (key[0], key[1] + 1), delay_us)

            for number, (begin_us, delay_us) in enumerate(chains):
                kernel.call_at(begin_us, link, (number, 1), delay_us)
            kernel.run()
        exact, coarse = times
        assert exact.keys() == coarse.keys()
        assert all(0 <= coarse[key] - exact[key] < 1000 * key[1] for key in exact)

    def test_resources_of_simpy_work_on_the_clock(self) -> None:
        kernel, log = Kernel(), Log()
        desk = simpy.Resource(kernel, capacity=1)

        def visitor(name: str) -> Iterator[simpy.Event]:
            with desk.request() as turn:
                yield turn
                yield kernel.timeout(1500)
                log.append((kernel.now, name))

        kernel.process(visitor("a"))  # type: ignore[arg-type]
        kernel.process(visitor("b"))  # type: ignore[arg-type]
        kernel.run()
        assert log == [(1500, "a"), (3000, "b")]
        assert kernel.events == 0

    @pytest.mark.parametrize("delay", [0.5, 1.0, float("nan"), True])
    def test_a_delay_that_is_no_int_is_refused(self, delay: float) -> None:
        with pytest.raises(TypeError, match="int of microseconds"):
            Kernel().timeout(delay)

    def test_a_negative_delay_is_refused(self) -> None:
        kernel = Kernel()
        with pytest.raises(ValueError, match="delay is -1"):
            kernel.schedule(kernel.event(), delay=-1)


class TestRun:
    def test_until_a_time_excludes_it_and_ends_there(self) -> None:
        kernel, log = Kernel(), Log()
        for at_us in (4000, 5000):
            kernel.call_at(at_us, recorder(kernel, log), at_us)
        kernel.run(until=5000)
        assert (log, kernel.now) == ([(4000, 4000)], 5000)
        kernel.run(until=5001)
        assert log == [(4000, 4000), (5000, 5000)]

    def test_until_an_event_returns_its_value(self) -> None:
        kernel = Kernel()
        kernel.every(1000, 0, lambda _a, _b: None)
        done = kernel.event()
        kernel.call_at(5000, lambda a, _: done.succeed(a), "value")
        assert kernel.run(until=done) == "value"
        assert kernel.now == 5000
        kernel.run(until=6000)
        assert kernel.run(until=done) == "value"

    def test_until_a_process_that_fails_raises_its_error(self) -> None:
        kernel = Kernel()

        def process() -> Iterator[simpy.Event]:
            yield kernel.timeout(10)
            raise LookupError("gone")

        with pytest.raises(LookupError, match="gone"):
            kernel.run(until=kernel.process(process()))  # type: ignore[arg-type]
        assert kernel.now == 10

    def test_until_an_event_that_never_happens_is_an_error(self) -> None:
        kernel = Kernel()
        kernel.call_at(1000, lambda _a, _b: None)
        with pytest.raises(RuntimeError, match="has not happened"):
            kernel.run(until=kernel.event())

    def test_an_error_on_the_way_to_an_event_leaves_no_stop_behind(self) -> None:
        kernel, log = Kernel(), Log()
        done = kernel.event()
        kernel.call_at(1000, lambda _a, _b: 1 / 0)
        kernel.call_at(2000, lambda _a, _b: done.succeed())
        kernel.call_at(3000, recorder(kernel, log), "x")
        with pytest.raises(ZeroDivisionError):
            kernel.run(until=done)
        kernel.run(until=4000)
        assert log == [(3000, "x")]

    @pytest.mark.parametrize(("until", "error"), [(0, ValueError), (-1, ValueError), (1e6, TypeError)])
    def test_refuses(self, until: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="until is"):
            Kernel().run(until=until)

    @pytest.mark.parametrize(("tick_us", "error"), [(0, ValueError), (-1, ValueError), (1e3, TypeError)])
    def test_a_tick_is_an_int_of_one_or_more(self, tick_us: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="tick_us is"):
            Kernel(tick_us)


class TestErrors:
    @pytest.mark.parametrize("by_step", [True, False])
    @pytest.mark.parametrize("failing", [0, 1, 2])
    @pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, StopSimulation])
    def test_the_rest_of_a_tick_survives(self, by_step: bool, failing: int, error: type[BaseException]) -> None:
        kernel, log = Kernel(), Log()
        note = recorder(kernel, log)

        def call(number: int, _: object) -> None:
            if number == failing:
                kernel.call_at(kernel.now, note, "added")
                raise error("value")
            note(number, None)

        for number in range(3):
            kernel.call_at(1000, call, number)
        kernel.call_at(2000, note, "later")
        if by_step:
            with pytest.raises(error):
                simpy.Environment.step(kernel)
        elif error is StopSimulation:
            assert kernel.run() == "value"
        else:
            with pytest.raises(error):
                kernel.run()
        assert kernel.now == 1000
        assert kernel.events == failing + 1
        kernel.run()
        assert log == [*((1000, number) for number in range(3) if number != failing), (1000, "added"), (2000, "later")]
        assert kernel.events == 5

    @pytest.mark.parametrize("by_step", [True, False])
    @pytest.mark.parametrize("failing", [0, 1, 2])
    def test_the_rest_of_a_turn_survives(self, by_step: bool, failing: int) -> None:
        kernel, log = Kernel(), Log()

        def beat(number: int, _: object) -> None:
            log.append((kernel.now, number))
            if number == failing and kernel.now == 1000:
                raise ZeroDivisionError

        for number in range(3):
            kernel.every(1000, 1000, beat, number)
        kernel.call_at(1000, recorder(kernel, log), "call")
        with pytest.raises(ZeroDivisionError):
            step_all(kernel, 3000) if by_step else kernel.run(until=3000)
        assert (kernel.now, kernel.events) == (1000, failing + 1)
        kernel.run(until=3000)
        assert log == [(1000, 0), (1000, 1), (1000, 2), (1000, "call"), (2000, 0), (2000, 1), (2000, 2)]
        assert kernel.events == 7

    @pytest.mark.parametrize(("taken", "whole"), [(0, 0), (1, 0), (2, 0), (3, 3), (5, 3), (6, 6)])
    def test_a_call_whose_arguments_were_not_all_taken_did_not_run(self, taken: int, whole: int) -> None:
        calls = list(range(6))
        items = iter(calls)
        for _ in range(taken):
            next(items)
        assert _whole_triples(calls, items) == whole
