"""The checkers judge hand-made lives: operations, commands, time. See `test_checkers`."""

from __future__ import annotations

import pytest

from edgecoder.core.effects import CancelOp, Operation, Reply, SwapResult, Trace, WakeAt
from edgecoder.core.events import (
    Advertised,
    CancelTask,
    Command,
    Persisted,
    QueryStatus,
    ShutDown,
    SwapModel,
    TaskDone,
    Wake,
)
from edgecoder.errors import Reason
from edgecoder.trace import SwapEnded
from edgecoder.wire.messages import Load
from edgecoder_sim.checkers.clock import WAKES_MAX
from edgecoder_sim.checkers.operations import COMPLETIONS
from edgecoder_sim.checkers.panel import GRACE_US
from edgecoder_sim.checkers.replies import RESULTS
from tests.catalogs import LARGE, SMALL
from tests.sim.eventful import run
from tests.sim.stage import NEWS, Actor, Stage, breach


@pytest.fixture
def stage() -> Stage:
    """An empty stage."""
    return Stage()


@pytest.fixture
def phone(stage: Stage) -> Actor:
    """A phone that serves SMALL."""
    phone = stage.actor("phone-0", start=False)
    phone.boots(SMALL)
    return phone


# -- operations and commands -------------------------------------------------------------------------------------------


def test_an_operation_has_one_completion(phone: Actor) -> None:
    write = phone.persists("inventory", b"")
    phone.sees(NEWS, write)
    phone.sees(Persisted(write.op))
    with breach("one completion", "phone-0 gets Persisted for operation", "had its completion"):
        phone.sees(Persisted(write.op))


def test_a_completion_is_of_its_own_kind(phone: Actor) -> None:
    write = phone.persists("inventory", b"")
    phone.sees(NEWS, write)
    with breach("one completion", "phone-0 gets Advertised as the completion of Persist"):
        phone.sees(Advertised(write.op, 0))


def test_an_operation_id_is_new(phone: Actor) -> None:
    write = phone.persists("inventory", b"")
    phone.sees(NEWS, write)
    with breach("one completion", "gives Persist the operation id", "after"):
        phone.sees(NEWS, write)


@pytest.mark.parametrize("seconds", [9.0, 11.0])
def test_a_completion_comes_in_time(stage: Stage, phone: Actor, seconds: float) -> None:
    phone.sees(NEWS, phone.persists("inventory", b""))
    stage.wait(seconds)
    if seconds * 1e6 < GRACE_US:
        stage.finish()
    else:
        with breach("one completion", "phone-0 has had no completion for Persist", "overdue"):
            stage.finish()


def test_only_what_is_open_is_cancelled_and_then_it_ends(stage: Stage, phone: Actor) -> None:
    run = phone.runs(phone.task())
    phone.sees(NEWS, run, phone.changes(Load.of(1)))
    phone.sees(NEWS, CancelOp(run.op))
    stage.wait(20)
    with breach("one completion", "phone-0 has had no completion for RunTask"):
        phone.sees(NEWS)
    phone.sees(TaskDone(run.op, 1))
    with breach("one completion", "phone-0 cancels operation", "not open"):
        phone.sees(NEWS, CancelOp(run.op))


def test_operations_of_an_earlier_life_are_forgotten(stage: Stage, phone: Actor) -> None:
    write = phone.persists("inventory", b"")
    phone.sees(NEWS, write)
    phone.start()
    phone.sees(Persisted(write.op))
    stage.wait(20)
    stage.finish()


def test_a_command_has_one_reply(phone: Actor) -> None:
    phone.sees(CancelTask(5, 4), Reply(5, result=False))
    with breach("one reply", "phone-0 replies to command 5, which is not open"):
        phone.sees(NEWS, Reply(5, result=False))


def test_a_reply_is_of_its_own_kind(phone: Actor) -> None:
    with breach("one reply", "phone-0 answers CancelTask 5 with SwapResult instead of bool"):
        phone.sees(CancelTask(5, 4), Reply(5, SwapResult(None, None, None)))
    phone.sees(SwapModel(6, "large"), Reply(6, Reason.OVERFLOW))


def test_a_reply_comes_in_time(stage: Stage, phone: Actor) -> None:
    phone.sees(QueryStatus(5))
    stage.wait(11)
    with breach("one reply", "phone-0 has not replied to QueryStatus 5, which is overdue"):
        stage.finish()


def test_nobody_who_asked_for_a_swap_is_left_waiting(phone: Actor) -> None:
    phone.sees(SwapModel(8, "tiny"))
    with breach("one reply", "phone-0 ended swap 2 and left the swap command 8 to tiny without a reply"):
        phone.swaps(LARGE)


def test_a_refused_swap_is_no_end(phone: Actor) -> None:
    phone.sees(SwapModel(8, "huge"), Trace(SwapEnded(0, "huge", None, Reason.INSUFFICIENT_MEMORY, 1, "user")))


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_node_is_not_woken_early(stage: Stage, phone: Actor) -> None:
    phone.sees(NEWS, WakeAt(2_000_000))
    stage.wait(1.5)
    with breach("woken in time", "phone-0 was woken 500000 µs before its deadline"):
        phone.sees(Wake())


def test_a_node_is_woken(stage: Stage, phone: Actor) -> None:
    phone.sees(NEWS, WakeAt(2_000_000))
    stage.wait(13)
    with breach("woken in time", "phone-0 asked to be woken at 2000000 µs and was not"):
        stage.finish()


def test_timers_do_not_chase_each_other(phone: Actor) -> None:
    with breach("woken in time", "phone-0 was woken 1001 times at one time"):
        for _ in range(WAKES_MAX + 1):
            phone.sees(Wake(), WakeAt(0))


def test_nobody_asks_for_the_distant_past(stage: Stage, phone: Actor) -> None:
    stage.wait(60)
    phone.sees(Wake(), WakeAt(55_000_000))
    with breach("woken in time", "phone-0 asks to be woken 50000000 µs ago"):
        phone.sees(Wake(), WakeAt(10_000_000))


def test_what_a_slow_machine_has_not_got_to_is_not_overdue(stage: Stage, phone: Actor) -> None:
    phone.sees(NEWS, phone.persists("inventory", b""), WakeAt(1_000_000))
    phone.is_behind = True
    for _ in range(3):
        stage.wait(15)
        phone.sees(NEWS)
    phone.is_behind = False
    stage.wait(15)
    with breach("one completion", "phone-0 has had no completion for Persist", "overdue"):
        phone.sees(NEWS)


def test_a_machine_that_is_behind_at_the_end_did_not_forget_to_wake(stage: Stage, phone: Actor) -> None:
    phone.sees(NEWS, WakeAt(2_000_000))
    phone.is_behind = True
    stage.wait(13)
    stage.finish()


def test_who_was_woken_late_may_ask_for_what_is_due_since(stage: Stage, phone: Actor) -> None:
    phone.sees(NEWS, WakeAt(2_000_000))
    stage.wait(40)
    phone.sees(Wake(), WakeAt(17_000_000))
    with breach("woken in time", "phone-0 asks to be woken 37000000 µs ago"):
        phone.sees(Wake(), WakeAt(3_000_000))


@pytest.mark.parametrize("verify_us", [300_000, 1_000_000])
def test_a_machine_that_is_too_slow_is_no_fault_of_its_node(verify_us: int) -> None:
    devices = [f"devices.{name}.verify_us={verify_us}" for name in ("phone_mid", "laptop", "workstation")]
    assert run(*devices, "duration_s=100").watch.checked > 1_000


def test_every_kind_of_operation_and_command_is_judged() -> None:
    assert set(COMPLETIONS) == of_the_core(Operation)
    assert set(RESULTS) == of_the_core(Command)


def of_the_core(base: type) -> set[type]:
    """The kinds that the core defines; other tests make kinds of their own in the same process."""
    kinds: list[type] = base.__subclasses__()
    return {kind for kind in kinds if kind.__module__ == base.__module__}


def test_who_shuts_down_says_loading_and_nothing_else(phone: Actor) -> None:
    phone.sees(ShutDown(1), *phone.advertises(Load.LOADING))
    with breach("told before unload", "phone-0 advertises that it serves while it is shutting down"):
        phone.sees(NEWS, *phone.advertises(Load.of(0)))


def test_who_does_not_shut_down_may_not_say_loading(phone: Actor) -> None:
    with breach("told before unload", "phone-0 advertises that it is loading"):
        phone.sees(NEWS, *phone.advertises(Load.LOADING))
