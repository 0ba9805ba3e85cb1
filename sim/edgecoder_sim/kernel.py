"""The simulator's event loop: a `simpy.Environment` with an integer clock in microseconds, and tick lists for calls.

It decides when, and in which order, calls and SimPy events run. What a call means (a delivery, a heartbeat, a finished
download) is the business of whoever made it.

Fidelity boundary: two calls less than a tick apart may happen at the same simulated time, in the order in which they
were asked for, and a call is up to `tick_us - 1` late, never early. Processor time is not modelled here.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from heapq import heappop, heappush
from operator import length_hint
from typing import TYPE_CHECKING, Any, Final

from simpy.core import Environment, StopSimulation
from simpy.events import NORMAL, URGENT, Event, EventPriority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    2. periodic calls: periods in the order of their first use; within a period by unrounded due time (not so where
       the period is a multiple of the tick), then in the order of registration;
    3. calls of `call_at`, in the order of insertion;
    4. all other SimPy events, in the order in which they were scheduled.

    What is added for the present microsecond queues at the end of its own class, and a class that had its turn gets
    another before a later class goes on. The calls of one tick are one SimPy event: nothing comes between them, and a
    `call_at` for the tick that is running joins them. (One exception: a periodic call that is registered for this very
    microsecond after its slot had its turn runs its first time as a call of `call_at` would.)

    Stepping with the stock `Environment.step()` gives the same order as `run()`, which is the same loop, inlined.

    An exception from a call leaves `run()` with `now` at the time of that call. The failed call is not repeated; what
    was left of its tick runs when `run()` is called again. After `KeyboardInterrupt`, which may strike between any two
    instructions, `now` and what the calls recorded can be read, but the call under way is lost: do not continue.
    """

    # Slots, because reading one takes a third of the time of a property, and each call reads `now` and `_queue`.
    __slots__ = ("_due", "_now", "_queue", "_shown_us", "_tick_event", "_ticks", "_wheels", "events", "tick_us")

    events: int
    """Calls of `call_at` and `every` executed, up to the last whole tick. SimPy's own events do not count."""
    tick_us: int
    _now: int
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
        self._due: list[int] = []  # a heap of the times of `_ticks`: integers compare faster than entries of the queue
        self._shown_us = _FOREVER_US  # the first of them has an entry in the queue too; -1 while ticks run
        self._wheels: dict[int, _Wheel] = {}
        self._tick_event = _RecurringEvent(lambda: self._run_ticks(0))

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
        ticks = self._ticks
        if at_us in ticks:
            ticks[at_us] += (fn, a, b)
        else:
            ticks[at_us] = [fn, a, b]
            heappush(self._due, at_us)
            if at_us < self._shown_us:
                self._show(at_us)

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
            wheel = _Wheel(self, self._queue, period_us, _FIRST_WHEEL_EID + len(self._wheels))
            self._wheels[period_us] = wheel
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
        """Schedule a SimPy event in `delay` microseconds. A float is a `TypeError`, a negative delay a `ValueError`."""
        if type(delay) is not int:
            raise TypeError(f"delay is {delay!r}; a delay is an int of microseconds: math.ceil(seconds * 1_000_000)")
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
        callbacks: list[Callable[[Event], None]] | None = until.callbacks  # SimPy's type forgets the None
        if callbacks is None:
            return until.value
        callbacks.append(StopSimulation.callback)
        try:
            self._loop(_FOREVER_US)
        except StopSimulation as stop:
            return stop.args[0]
        finally:
            if StopSimulation.callback in (until.callbacks or ()):
                until.callbacks.remove(StopSimulation.callback)
        raise RuntimeError(f'no event is left, but the "until" event has not happened: {until}')

    def _loop(self, limit_us: int) -> None:
        """Do what repeated `step()` does with all that is due before `limit_us`, with less overhead for calls."""
        queue, tick_event = self._queue, self._tick_event
        while queue:
            now_us, _, _, event = queue[0]
            if now_us >= limit_us:
                return
            if event is tick_event:
                heappop(queue)
                self._now = now_us
                self._run_ticks(limit_us)
            elif type(event) is _Wheel:
                heappop(queue)
                self._now = now_us
                event.turn(limit_us)
            else:
                self.step()

    def _run_ticks(self, limit_us: int) -> None:
        """Run the tick that is due, then those that come before all else in the queue and before `limit_us`.

        With a limit in the past that is one step of SimPy. A stale entry of the queue finds nothing due.
        """
        queue, ticks, due = self._queue, self._ticks, self._due
        if not due or due[0] > self._now:
            return
        self._shown_us = -1
        try:
            while True:
                self._now = now_us = heappop(due)
                calls = ticks[now_us]
                items = iter(calls)
                for fn, a, b in zip(items, items, items):  # noqa: B905 - of three items each
                    fn(a, b)
                self.events += len(calls) // 3
                del ticks[now_us]
                if not due or due[0] >= limit_us or (queue and queue[0][0] <= due[0]):
                    break
        except BaseException:
            self._keep_rest(calls, items)
            raise
        finally:
            self._shown_us = _FOREVER_US
            if due:
                self._show(due[0])

    def _show(self, at_us: int) -> None:
        """Give the first tick an entry in the queue."""
        self._shown_us = at_us
        heappush(self._queue, (at_us, NORMAL, _TICK_EID, self._tick_event))

    def _keep_rest(self, calls: list[Any], triples: Iterator[Any]) -> None:
        """After a call of this tick raised: count what ran, and leave the rest to the next `run()`."""
        done = _whole_triples(calls, triples)
        self.events += done // 3
        del calls[:done]
        if calls:
            heappush(self._due, self._now)
        else:
            del self._ticks[self._now]


class Timer:
    """A periodic call, made by `Kernel.every`. `fn` is None once it is cancelled; the rest is the kernel's."""

    __slots__ = ("a", "b", "fn", "slot")

    def __init__(self, fn: Callable[[Any, Any], object], a: Any, b: Any) -> None:
        self.fn: Callable[[Any, Any], object] | None = fn
        self.a = a
        self.b = b
        self.slot: list[Any] = []

    def cancel(self) -> None:
        """Never call again, not even later in the present tick. Cancelling twice is harmless.

        Of registrations with the same phase and the identical `fn`, `a` and `b`, the last one is taken away. The
        place in the wheel is given back when its turn comes, so that `peek()` may still show that time.
        """
        slot = self.slot
        for index in range(len(slot) - 3, -1, -3):
            if slot[index] is self.fn and slot[index + 1] is self.a and slot[index + 2] is self.b:
                slot[index : index + 3] = (None, None, None)
                break
        self.fn = self.a = self.b = None
        self.slot = []


class _RecurringEvent:
    """A heap event that stock `step()` accepts, and that may happen again: clearing its callbacks has no effect.

    Not a `simpy.Event`, because nothing can wait for it, and one object stands for many entries of the heap.
    """

    __slots__ = ("_callbacks",)
    _ok = True

    def __init__(self, fire: Callable[[], None]) -> None:
        self._callbacks = (lambda _: fire(),)

    @property
    def callbacks(self) -> tuple[Callable[[object], None]]:
        """What `step()` calls."""
        return self._callbacks

    @callbacks.setter
    def callbacks(self, _: object) -> None:
        """Stock `step()` says with this that the event has happened."""


class _Wheel(_RecurringEvent):
    """All timers of one period: slots sorted by phase, a cursor at the next one due, and one heap entry for that.

    A slot is a flat list of fn, a, b of the timers of one phase (due time modulo the period); a cancelled one is None
    until its next turn. Slots before the cursor had their turn in this revolution. Due times are exact; only the
    heap entry is rounded up to a tick.
    """

    __slots__ = (
        "_cursor",
        "_due_us",
        "_eid",
        "_kernel",
        "_period_us",
        "_phases_us",
        "_queue",
        "_ran",
        "_revolution_us",
        "_slots",
    )

    def __init__(
        self, kernel: Kernel, queue: list[tuple[int, EventPriority, int, Any]], period_us: int, eid: int
    ) -> None:
        super().__init__(lambda: self.turn(0))
        self._kernel = kernel
        self._queue = queue
        self._period_us = period_us
        self._eid = eid
        self._phases_us = array("q")  # an array moves its items much faster than a list when one is inserted
        self._slots: list[list[Any]] = []
        self._cursor = 0
        self._ran = 0  # items of the slot at the cursor that had their turn before one of them raised
        self._revolution_us = 0  # when this revolution began: a multiple of the period
        self._due_us = _FOREVER_US  # of the slot at the cursor

    def join(self, timer: Timer, due_us: int) -> None:
        """Let `timer` run at `due_us` and each period after that, unless it is cancelled."""
        if timer.fn is None:
            return
        kernel = self._kernel
        # All due times of a wheel lie within one period, and what was due by the last whole tick had its turn: a timer
        # that starts further ahead than that joins when its first turn has come.
        last_tick_us = _round_up(kernel.now, kernel.tick_us) - kernel.tick_us
        if due_us > last_tick_us + self._period_us:
            start: Any = _RecurringEvent(lambda: self.join(timer, due_us))
            kernel.schedule(start, URGENT, _round_up(due_us, kernel.tick_us) - kernel.now)
            return
        phase_us = due_us % self._period_us
        index = bisect_left(self._phases_us, phase_us)
        if index == len(self._slots) or self._phases_us[index] != phase_us:
            self._insert(index, due_us)
        slot = timer.slot = self._slots[index]
        slot += (timer.fn, timer.a, timer.b)
        next_us = self._revolution_us + phase_us + (self._period_us if index < self._cursor else 0)
        if next_us > due_us:
            # The slot has had its turn at this very time.
            kernel.call_at(due_us, _call_unless_cancelled, timer)

    def _insert(self, index: int, due_us: int) -> None:
        """Make an empty slot at `index`, to run first at `due_us`."""
        phase_us = due_us % self._period_us
        if not self._slots or due_us < self._revolution_us:
            self._revolution_us = due_us - phase_us
            self._cursor = len(self._slots)
        elif due_us - phase_us > self._revolution_us:
            self._cursor += 1
        self._phases_us.insert(index, phase_us)
        self._slots.insert(index, [])
        if due_us < self._due_us:
            self._due_us = due_us
            heappush(self._queue, (_round_up(due_us, self._kernel.tick_us), NORMAL, self._eid, self))

    def turn(self, limit_us: int) -> None:
        """Run the slots that are due, then those that come before all else on the heap and before `limit_us`.

        With a limit in the past that is one step of SimPy. A stale heap entry finds nothing due.
        """
        kernel, queue, slots = self._kernel, self._queue, self._slots
        if self._due_us > kernel.now:
            return
        while True:
            ran = self._ran
            calls = slots[self._cursor]
            triples = iter(calls) if not ran else _iterate_from(calls, ran)
            cancelled = 0
            try:
                for fn, a, b in zip(triples, triples, triples):  # noqa: B905 - of three items each
                    if fn is None:
                        cancelled += 1
                    else:
                        fn(a, b)
            except BaseException:
                self._break_off(_whole_triples(calls, triples), cancelled)
                raise
            self._ran = 0
            kernel.events += (len(calls) - ran) // 3 - cancelled
            if cancelled and not self._drop_cancelled(calls):
                return
            cursor = self._cursor + 1
            if cursor == len(slots):
                cursor = 0
                self._revolution_us += self._period_us
            self._cursor = cursor
            self._due_us = at_us = self._revolution_us + self._phases_us[cursor]
            rest_us = at_us % kernel.tick_us
            if rest_us:
                at_us += kernel.tick_us - rest_us
            if at_us > kernel.now:
                if at_us >= limit_us or (queue and queue[0][0] <= at_us):
                    heappush(queue, (at_us, NORMAL, self._eid, self))
                    return
                kernel._now = at_us

    def _break_off(self, ran: int, cancelled: int) -> None:
        """After a timer raised: count what ran, and leave the rest of the slot to the next `run()`."""
        self._kernel.events += (ran - self._ran) // 3 - cancelled
        self._ran = ran
        heappush(self._queue, (self._kernel.now, NORMAL, self._eid, self))

    def _drop_cancelled(self, calls: list[Any]) -> bool:
        """Clear the slot at the cursor, and step back if nothing of it is left. False if the wheel is empty then."""
        for index in range(len(calls) - 3, -1, -3):
            if calls[index] is None:
                del calls[index : index + 3]
        if not calls:
            del self._slots[self._cursor], self._phases_us[self._cursor]
            self._cursor -= 1
        if not self._slots:
            self._due_us = _FOREVER_US
        return bool(self._slots)


def _call_unless_cancelled(timer: Timer, _: None) -> None:
    if timer.fn is not None:
        timer.fn(timer.a, timer.b)


def _iterate_from(calls: list[Any], start: int) -> Iterator[Any]:
    items = iter(calls)
    for _ in range(start):
        next(items)
    return items


def _whole_triples(calls: list[Any], triples: Iterator[Any]) -> int:
    """How many items of `calls` its iterator handed out, in whole triples: one that was cut short did not run."""
    done = len(calls) - length_hint(triples)
    return done - done % 3


def _round_up(at_us: int, step_us: int) -> int:
    return -(-at_us // step_us) * step_us


def _require_int(name: str, value: object) -> None:
    if type(value) is not int:
        raise TypeError(f"{name} is {value!r}; it is an int of microseconds")


if not TYPE_CHECKING:
    # The slot under its public name: reading it is a third of the price of a property.
    Kernel.now = vars(Kernel)["_now"]
