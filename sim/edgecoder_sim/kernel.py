"""The simulator's event loop: a `simpy.Environment` whose clock is integer microseconds and whose calls live in tick lists.

It decides when, and in which order, calls and SimPy events run. What a call means (a delivery, a heartbeat, a finished
download) is the business of whoever made it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

from simpy.core import Environment, StopSimulation
from simpy.events import NORMAL, URGENT, Event, EventPriority

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_TICK_US: Final = 1000
"""One millisecond: a twentieth of the shortest latency (20 ms) that the kernel's benchmark draws."""

_FOREVER_US: Final = 1 << 62
# The third item of a heap entry breaks ties. SimPy's own events count up from 0; these come before all of them.
_TICK_EID: Final = -1
_FIRST_WHEEL_EID: Final = -(1 << 32)


class Kernel(Environment):
    """A SimPy environment with integer microseconds, cheap one-shot calls and periodic calls that do not drift.

    Generator processes, timeouts, events and resources of SimPy work unchanged on the same clock. Only the unit
    differs: every delay is an `int` of microseconds. A float is refused with `TypeError`, because a rounding
    that nobody wrote down would decide the order of events: convert with `math.ceil(seconds * 1_000_000)`.

    `call_at` and `every` round up to a multiple of `tick_us`; SimPy events do not. While a call runs, `now` is the time
    of its tick. With `tick_us=1` nothing is rounded: that is the oracle for any coarser tick.

    **Tie rule.** What falls on the same microsecond runs in this order:

    1. SimPy events of priority URGENT (the start of a process, an interrupt);
    2. periodic calls: periods in the order of their first use, within a period by unrounded due time, then in the
       order of registration;
    3. calls of `call_at`, in the order of insertion;
    4. all other SimPy events, in the order in which they were scheduled.

    What is added for the present microsecond queues at the end of its own class. The calls of one tick are one SimPy
    event: nothing comes between them, but a `call_at` for this very tick joins the same list and still runs in it. A
    class whose turn is over gets another turn when something is added to it, before any later class goes on.

    Stepping with the stock `Environment.step()` gives the same order as `run()`, which is the same loop, inlined.

    An exception from a call leaves `run()` with `now` at the time of that call. The failed call is not repeated; the
    rest of its tick is kept and runs first when `run()` is called again (a periodic round then finishes after the calls
    that its tick already held). After `KeyboardInterrupt`, which may strike between any two instructions, `now` and
    `events` are right, but the call under way is lost: read the results, do not continue.

    Fidelity boundary: two calls less than a tick apart happen at the same simulated time, in the order in which they
    were asked for, and a call is up to `tick_us - 1` late, never early. Processor time is not modelled here.
    """

    # Slots, because a slot is read in a third of the time of a property, and `now` and `_queue` are read by each call.
    __slots__ = ("_now", "_queue", "_tick_event", "_ticks", "_wheels", "events", "tick_us")

    events: int
    """Calls executed so far: those of `call_at` and of `every`, up to the last whole tick; SimPy events do not count."""
    tick_us: int
    _queue: list[tuple[int, EventPriority, int, Any]]  # type: ignore[assignment]

    def __init__(self, tick_us: int = DEFAULT_TICK_US) -> None:
        """Start at time 0 with nothing to do; `tick_us` is 1 or more."""
        _require_int("tick_us", tick_us)
        if tick_us < 1:
            raise ValueError(f"tick_us is {tick_us}; a tick is 1 us or more")
        super().__init__(0)
        self.tick_us = tick_us
        self.events = 0
        self._ticks: dict[int, list[Any]] = {}
        self._wheels: dict[int, _Wheel] = {}
        self._tick_event = _Tick(self)

    if TYPE_CHECKING:

        @property
        def now(self) -> int:
            """The simulated time in microseconds."""

    def call_at(self, at_us: int, fn: Callable[[Any, Any], object], a: Any = None, b: Any = None) -> None:
        """Run `fn(a, b)` once at `at_us`, rounded up to a tick. A time in the past is a `ValueError`."""
        if type(at_us) is not int:
            raise TypeError(f"at_us is {at_us!r}; a time is an int of microseconds")
        if at_us < self._now:
            raise ValueError(f"at_us is {at_us}, in the past: it is {self._now} now")
        rest_us = at_us % self.tick_us
        if rest_us:
            at_us += self.tick_us - rest_us
        calls = self._ticks.get(at_us)
        if calls is None:
            self._ticks[at_us] = [fn, a, b]
            heappush(self._queue, (at_us, NORMAL, _TICK_EID, self._tick_event))
        else:
            calls.append(fn)
            calls.append(a)
            calls.append(b)

    def every(
        self, period_us: int, offset_us: int, fn: Callable[[Any, Any], object], a: Any = None, b: Any = None
    ) -> Timer:
        """Run `fn(a, b)` at `offset_us + k * period_us` for k = 0, 1, ..., each rounded up to a tick on its own.

        `offset_us` is a time of the clock, not a delay. Points of that grid before `now` are passed over; one at
        `now` still runs. Calls of one period share a wheel, so that a waiting timer costs no heap entry. Raises
        `ValueError` for a period shorter than a tick or a negative offset.
        """
        _require_int("period_us", period_us)
        _require_int("offset_us", offset_us)
        if period_us < self.tick_us:
            raise ValueError(f"period_us is {period_us}; a period is at least one tick, {self.tick_us} us")
        if offset_us < 0:
            raise ValueError(f"offset_us is {offset_us}; an offset is 0 or more")
        wheel = self._wheels.get(period_us)
        if wheel is None:
            wheel = self._wheels[period_us] = _Wheel(self, period_us, _FIRST_WHEEL_EID + len(self._wheels))
        due_us = offset_us
        if due_us < self._now:
            due_us += _round_up(self._now - due_us, period_us)
        if period_us % self.tick_us == 0:
            # All calls of this phase share their ticks for ever, so they may share a slot too.
            due_us = _round_up(due_us, self.tick_us)
        timer = Timer(fn, a, b)
        wheel.join(timer, due_us)
        return timer

    def schedule(self, event: Event, priority: EventPriority = NORMAL, delay: int = 0) -> None:  # type: ignore[override]
        """Schedule a SimPy event `delay` microseconds from now; a float is a `TypeError`, a negative one a `ValueError`."""
        if type(delay) is not int:
            raise TypeError(f"delay is {delay!r}; a delay is an int of microseconds (math.ceil(seconds * 1_000_000))")
        if delay < 0:
            raise ValueError(f"delay is {delay}; a delay is 0 or more")
        heappush(self._queue, (self._now + delay, priority, next(self._eid), event))

    def run(self, until: int | Event | None = None) -> Any:  # type: ignore[override]
        """Run up to, not including, the time `until`; or until that event has happened; or until nothing is left.

        Returns the event's value, else None. As in SimPy, an `until` that is not later than now is a `ValueError`, an
        event that never happens a `RuntimeError`, and an event that failed raises its exception. Without
        `until` the call does not return while a periodic call is registered.
        """
        if isinstance(until, Event):
            return self._run_until_event(until)
        if until is not None:
            _require_int("until", until)
            if until <= self._now:
                raise ValueError(f"until is {until}; it must be later than now, {self._now}")
        try:
            self._loop(_FOREVER_US if until is None else until)
        except StopSimulation as stop:
            return stop.args[0]
        if until is not None:
            self._now = until
        return None

    def _run_until_event(self, until: Event) -> Any:
        if until.callbacks is None:
            return until.value
        until.callbacks.append(StopSimulation.callback)
        try:
            self._loop(_FOREVER_US)
        except StopSimulation as stop:
            return stop.args[0]
        except BaseException:
            if until.callbacks is not None:
                until.callbacks.remove(StopSimulation.callback)
            raise
        raise RuntimeError(f'no event is left, but the "until" event has not happened: {until}')

    def _loop(self, limit_us: int) -> None:
        """Do what repeated `step()` does with all that is due before `limit_us`; ticks and wheels without its overhead."""
        queue, ticks, tick_event = self._queue, self._ticks, self._tick_event
        while queue:
            entry = queue[0]
            now_us = entry[0]
            if now_us >= limit_us:
                return
            event = entry[3]
            if event is tick_event:
                heappop(queue)
                self._now = now_us
                calls = ticks.get(now_us)
                if calls is None:
                    continue
                if len(calls) == 3:
                    fn, a, b = calls
                    try:
                        fn(a, b)
                    except BaseException:
                        self._keep_rest(calls, len(calls) - 3)
                        raise
                    self.events += 1
                    if len(calls) == 3:
                        del ticks[now_us]
                        continue
                    del calls[:3]
                triples = iter(calls)
                try:
                    for fn, a, b in zip(triples, triples, triples):
                        fn(a, b)
                except BaseException:
                    self._keep_rest(calls, triples.__length_hint__())
                    raise
                self.events += len(calls) // 3
                del ticks[now_us]
            elif type(event) is _Wheel:
                heappop(queue)
                self._now = now_us
                event.turn()
            else:
                self.step()

    def _run_tick(self) -> None:
        """Run the calls of the present tick: what `_loop` has inlined, for the stock `step()`."""
        calls = self._ticks.get(self._now)
        if calls is None:
            return
        triples = iter(calls)
        try:
            for fn, a, b in zip(triples, triples, triples, strict=False):
                fn(a, b)
        except BaseException:
            self._keep_rest(calls, triples.__length_hint__())
            raise
        self.events += len(calls) // 3
        del self._ticks[self._now]

    def _keep_rest(self, calls: list[Any], rest: int) -> None:
        """After a call of this tick raised: count what ran, and leave the last `rest` items to the next `run()`."""
        done = len(calls) - rest
        self.events += done // 3
        del calls[:done]
        if calls:
            heappush(self._queue, (self._now, NORMAL, _TICK_EID, self._tick_event))
        else:
            del self._ticks[self._now]


class Timer:
    """A periodic call, made by `Kernel.every`."""

    __slots__ = ("a", "b", "fn")

    def __init__(self, fn: Callable[[Any, Any], object], a: Any, b: Any) -> None:
        self.fn: Callable[[Any, Any], object] | None = fn
        self.a = a
        self.b = b

    def cancel(self) -> None:
        """Never call again, not even later in the present tick. Cancelling twice is harmless.

        The timer's place in its wheel is given back when its turn comes, so that `peek()` may still show that time.
        """
        self.fn = self.a = self.b = None


class _Tick:
    """The heap event of every tick list. One object serves them all: the list is found by the time."""

    __slots__ = ("_kernel",)
    _ok = True

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    @property
    def callbacks(self) -> tuple[Callable[[object], None]]:
        """What the stock `step()` calls."""
        return (self._fire,)

    @callbacks.setter
    def callbacks(self, _: object) -> None:
        """The stock `step()` clears the callbacks of an event that happened; this one happens again."""

    def _fire(self, _: object) -> None:
        self._kernel._run_tick()


class _Wheel:
    """All timers of one period: slots sorted by phase, a cursor at the next one due, and one heap entry for that.

    A slot holds the timers of one phase (due time modulo the period). Slots before the cursor had their turn in this
    revolution. Due times are exact; only the heap entry is rounded up to a tick.
    """

    __slots__ = ("_cursor", "_due_us", "_eid", "_kernel", "_period_us", "_phases_us", "_revolution_us", "_slots")
    _ok = True

    def __init__(self, kernel: Kernel, period_us: int, eid: int) -> None:
        self._kernel = kernel
        self._period_us = period_us
        self._eid = eid
        self._phases_us = array("q")  # an array, because it moves its items much faster than a list when one is inserted
        self._slots: list[list[Timer]] = []
        self._cursor = 0
        self._revolution_us = 0  # when this revolution began: a multiple of the period
        self._due_us = _FOREVER_US  # of the slot at the cursor

    @property
    def callbacks(self) -> tuple[Callable[[object], None]]:
        """What the stock `step()` calls."""
        return (self._fire,)

    @callbacks.setter
    def callbacks(self, _: object) -> None:
        """The stock `step()` clears the callbacks of an event that happened; this one happens again."""

    def _fire(self, _: object) -> None:
        self.turn()

    def join(self, timer: Timer, due_us: int) -> None:
        """Let `timer` run at `due_us` and each period after that."""
        kernel = self._kernel
        if due_us >= min(kernel._now, self._due_us) + self._period_us:
            self._join_later(timer, due_us)
            return
        phase_us = due_us % self._period_us
        index = bisect_left(self._phases_us, phase_us)
        if index == len(self._slots) or self._phases_us[index] != phase_us:
            self._insert(index, due_us, timer)
            return
        self._slots[index].append(timer)
        next_us = self._revolution_us + phase_us + (self._period_us if index < self._cursor else 0)
        if next_us > due_us:
            # The slot has had its turn at this very time.
            kernel.call_at(due_us, _run_timer, timer)

    def _join_later(self, timer: Timer, due_us: int) -> None:
        """A slot comes round once a period, so a timer that starts further ahead joins when its first turn is due."""
        kernel = self._kernel
        start = Event(kernel)
        start._ok = True
        start._value = None
        start.callbacks.append(lambda _: self.join(timer, due_us) if timer.fn is not None else None)
        kernel.schedule(start, URGENT, _round_up(due_us, kernel.tick_us) - kernel._now)

    def _insert(self, index: int, due_us: int, timer: Timer) -> None:
        phase_us = due_us % self._period_us
        if not self._slots or due_us < self._revolution_us:
            self._revolution_us = due_us - phase_us
            self._cursor = len(self._slots)
        elif due_us - phase_us > self._revolution_us:
            self._cursor += 1
        self._phases_us.insert(index, phase_us)
        self._slots.insert(index, [timer])
        if due_us < self._due_us:
            self._due_us = due_us
            self._push()

    def turn(self) -> None:
        """Run every slot that is due now, then put the next one on the heap. Nothing is due at a stale heap entry."""
        kernel = self._kernel
        if self._due_us > kernel._now:
            return
        while self._due_us <= kernel._now:
            skipped = 0
            timers = self._slots[self._cursor]
            waiting = iter(timers)
            try:
                for timer in waiting:
                    fn = timer.fn
                    if fn is None:
                        skipped += 1
                    else:
                        fn(timer.a, timer.b)
            except BaseException:
                self._break_off(timers, waiting.__length_hint__(), skipped)
                raise
            kernel.events += len(timers) - skipped
            self._advance(skipped)
        self._push()

    def _break_off(self, timers: list[Timer], rest: int, skipped: int) -> None:
        """After a timer raised: end the slot's turn, and leave the `rest` timers that had no call to this tick's list."""
        kernel = self._kernel
        done = len(timers) - rest
        kernel.events += done - skipped
        for timer in timers[done:]:
            kernel.call_at(kernel._now, _run_timer, timer)
        self._advance(skipped)
        self._push()

    def _advance(self, skipped: int) -> None:
        """Put the cursor on the next slot. Timers that the turn skipped are cancelled and leave."""
        cursor = self._cursor
        if skipped:
            self._slots[cursor] = [timer for timer in self._slots[cursor] if timer.fn is not None]
        if self._slots[cursor]:
            cursor += 1
        else:
            del self._slots[cursor], self._phases_us[cursor]
        if cursor == len(self._slots):
            cursor = 0
            self._revolution_us += self._period_us
        self._cursor = cursor
        self._due_us = self._revolution_us + self._phases_us[cursor] if self._slots else _FOREVER_US

    def _push(self) -> None:
        if not self._slots:
            return
        kernel = self._kernel
        at_us = self._due_us
        rest_us = at_us % kernel.tick_us
        if rest_us:
            at_us += kernel.tick_us - rest_us
        heappush(kernel._queue, (at_us, NORMAL, self._eid, self))


def _run_timer(timer: Timer, _: object) -> None:
    if timer.fn is not None:
        timer.fn(timer.a, timer.b)


def _round_up(at_us: int, step_us: int) -> int:
    return -(-at_us // step_us) * step_us


def _require_int(name: str, value: object) -> None:
    if type(value) is not int:
        raise TypeError(f"{name} is {value!r}; it is an int of microseconds")


if not TYPE_CHECKING:
    # The slot under its public name: reading it is a third of the price of a property.
    Kernel.now = Kernel._now
