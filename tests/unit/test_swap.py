"""The swap as users and peers see it: the six steps and their order, single flight, roll-back, quarantine."""

from __future__ import annotations

import msgspec
import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import (
    Advertise,
    CancelOp,
    Effect,
    LoadModel,
    ModelStatus,
    Operation,
    Persist,
    Reply,
    RunTask,
    SwapResult,
    UnloadModel,
)
from edgecoder.core.events import QueryStatus, SwapCause
from edgecoder.core.ids import Medium, Role
from edgecoder.errors import Reason
from edgecoder.models.inventory import DownloadState
from edgecoder.models.swap import KEY, SwapJournal, SwapState
from edgecoder.trace import SwapEnded
from edgecoder.wire.messages import Heartbeat, Load
from tests.catalogs import LARGE, SMALL, TINY
from tests.harness import Cluster
from tests.hosts import HANGS, Host, Outcome, fails

LOAD_FAILS = fails(Reason.LOAD_FAILED)
BREAKS: dict[str, type[Operation]] = {
    "persist": Persist,
    "advertise": Advertise,
    "drain": RunTask,
    "unload": UnloadModel,
    "load": LoadModel,
    "rollback": LoadModel,
}
"""What a swap waits for in each of its phases."""
SWAP_EFFECTS = (Persist, Advertise, UnloadModel, LoadModel, Reply)


@pytest.fixture
def phone(cluster: Cluster) -> Host:
    """A phone that serves `small` and has two more models."""
    host = cluster.add("phone", installed=[SMALL, LARGE, TINY], active=SMALL)
    cluster.drive()
    host.effects.clear()
    return host


def journal(effect: Persist) -> SwapJournal:
    """What a write of the swap says."""
    assert effect.key == KEY
    return msgspec.msgpack.decode(effect.value, type=SwapJournal)


def told(host: Host) -> list[tuple[str | None, bool]]:
    """The model and whether it was loading, in each advertisement."""
    return [
        (effect.capabilities.active_model, effect.capabilities.current_load.is_loading)
        for effect in host.did(Advertise)
    ]


# -- the six steps -----------------------------------------------------------------------------------------------------


def test_the_six_steps_in_their_order(cluster: Cluster, phone: Host) -> None:
    command = phone.swap("large")
    cluster.drive()
    done = [effect for effect in phone.effects if isinstance(effect, SWAP_EFFECTS)]
    assert [type(effect) for effect in done] == [
        Persist,  # the intent
        Advertise,  # loading
        UnloadModel,
        LoadModel,
        Persist,  # the active model
        Advertise,  # ready
        Reply,
    ]
    persists = phone.did(Persist)
    assert journal(persists[0]) == SwapJournal(SMALL.sha256, LARGE.sha256)
    assert journal(persists[1]) == SwapJournal(LARGE.sha256, None)
    assert told(phone) == [("small", True), ("large", False)]
    assert phone.replies[command] == SwapResult("small", "large", 7.0)


@pytest.mark.parametrize(
    ("waits_for", "not_yet"),
    [
        (Persist, Advertise),
        (Advertise, UnloadModel),
        (RunTask, UnloadModel),
        (UnloadModel, LoadModel),
        (LoadModel, Reply),
    ],
)
def test_each_step_waits_for_the_one_before(
    waits_for: type[Effect], not_yet: type[Effect], cluster: Cluster, phone: Host
) -> None:
    phone.plan(waits_for, HANGS)  # type: ignore[arg-type]  # all of them are operations
    task = phone.submit()
    phone.effects.clear()
    phone.swap("large")
    cluster.run_for(200)
    assert not phone.did(not_yet) or task in phone.replies
    assert len(phone.did(not_yet)) == (1 if not_yet is Reply else 0)
    (waiting,) = phone.opened(waits_for)
    phone.end(waiting)  # type: ignore[arg-type]
    cluster.run_for(200)
    assert len(phone.did(not_yet)) > (1 if not_yet is Reply else 0)


def test_the_reply_comes_when_the_new_model_is_durable(cluster: Cluster, phone: Host) -> None:
    phone.plan(Persist, Outcome(), HANGS)
    command = phone.swap("large")
    cluster.run_for(1_000)
    assert phone.member.swap.serving is LARGE
    assert command not in phone.replies
    phone.end(phone.opened(Persist)[0])
    assert command in phone.replies


def test_the_next_heartbeat_carries_the_new_model(cluster: Cluster, phone: Host) -> None:
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.link(phone, hub)
    cluster.drive()
    phone.swap("large")
    cluster.run_for(1_100)
    beats = [(beat.active_model, beat.model_swap_in_progress) for beat in cluster.sent(Heartbeat)]
    assert ("small", True) in beats
    assert beats[-1] == ("large", False)


def test_a_node_without_a_radio_does_not_wait_for_one(cluster: Cluster) -> None:
    agent = cluster.add("agent", Role.AGENT, config=NodeConfig(has_radio=False), installed=[SMALL, LARGE], active=SMALL)
    cluster.drive()
    command = agent.swap("large")
    cluster.drive()
    assert agent.result(command, SwapResult).active == "large"
    assert agent.did(Advertise) == []


def test_a_radio_that_fails_stops_no_swap(cluster: Cluster, phone: Host) -> None:
    phone.plan(Advertise, fails(Reason.ADVERTISE_FAILED), fails(Reason.ADVERTISE_FAILED))
    command = phone.swap("large")
    cluster.drive()
    assert phone.result(command, SwapResult).active == "large"


def test_the_advertisement_has_a_deadline(cluster: Cluster, phone: Host) -> None:
    phone.swap("large")
    cluster.run_for(1)
    (loading,) = phone.did(Advertise)
    began = next(at for at, _, effects in phone.log if loading in effects)
    assert loading.deadline == began + phone.setup.config.advertise_wait_ms * 1000


# -- refusals, before anything is touched ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("nobody", Reason.UNKNOWN_MODEL),
        ("../x", Reason.UNKNOWN_MODEL),
        ("desk", Reason.INCOMPATIBLE),
        ("huge", Reason.INSUFFICIENT_MEMORY),
        ("pocket", Reason.NOT_INSTALLED),
    ],
)
def test_a_refused_swap_touches_nothing(model: str, reason: Reason, cluster: Cluster, phone: Host) -> None:
    command = phone.swap(model)
    assert phone.replies[command] == SwapResult("small", "small", 1.5, reason)
    assert cluster.is_at_rest
    assert not any(phone.did(kind) for kind in (Persist, Advertise, UnloadModel, LoadModel))
    assert phone.member.swap.state is SwapState.READY


def test_a_swap_to_the_active_model_is_done_at_once(phone: Host) -> None:
    command = phone.swap("small-coder:1.5b")
    assert phone.replies[command] == SwapResult("small", "small", 1.5)
    assert phone.did(LoadModel) == []


# -- draining ----------------------------------------------------------------------------------------------------------


def test_running_tasks_may_end_and_waiting_ones_are_refused(cluster: Cluster, phone: Host) -> None:
    phone.plan(RunTask, Outcome(after_us=2_000_000))
    running, waiting = phone.submit(), phone.submit(deadline_ms=5_000)
    swap = phone.swap("large")
    cluster.drive()
    assert phone.task(running).reason is None
    assert phone.task(running).model == "small"
    assert phone.task(waiting).model == "large"
    assert phone.result(swap, SwapResult).active == "large"


def test_the_drain_ends_at_its_deadline(cluster: Cluster, phone: Host) -> None:
    phone.plan(RunTask, HANGS)
    task = phone.submit()
    began = cluster.now
    phone.swap("large")
    while not phone.did(CancelOp):
        cluster.step()
    drain_us = phone.setup.config.drain_ms * 1000
    assert began + drain_us <= cluster.now < began + drain_us + 100_000
    assert phone.member.swap.serving is SMALL
    cluster.drive()
    assert phone.member.swap.serving is LARGE
    assert phone.task(task).reason is Reason.DRAINED


def test_an_answer_that_overtakes_its_cancelling_counts(cluster: Cluster, phone: Host) -> None:
    drain_us = phone.setup.config.drain_ms * 1000
    phone.plan(RunTask, Outcome(after_us=drain_us + 500_000, ignores_cancel=True))
    task = phone.submit()
    phone.swap("large")
    cluster.drive()
    assert phone.task(task).reason is None
    assert phone.member.swap.serving is LARGE


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_load_that_fails_brings_the_old_model_back(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, LOAD_FAILS)
    command = phone.swap("large")
    cluster.drive()
    assert phone.replies[command] == SwapResult("small", "small", 1.5, Reason.LOAD_FAILED)
    assert [load.entry for load in phone.did(LoadModel)] == [LARGE, SMALL]
    assert told(phone) == [("small", True), ("small", False)]
    assert journal(phone.did(Persist)[-1]) == SwapJournal(SMALL.sha256, None)
    generations = [effect.capabilities.generation for effect in phone.did(Advertise)]
    assert generations == sorted(set(generations))


def test_where_the_roll_back_fails_too_nothing_serves_and_peers_know(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, LOAD_FAILS, fails(Reason.OUT_OF_MEMORY))
    command = phone.swap("large")
    cluster.drive()
    assert phone.replies[command] == SwapResult("small", None, None, Reason.LOAD_FAILED)
    assert phone.member.swap.state is SwapState.FAILED
    assert told(phone)[-1] == (None, False)
    status = phone.result(phone.ask(QueryStatus), ModelStatus)
    assert (status.model, status.status) == (None, "error")


def test_a_load_that_takes_too_long_has_failed(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, HANGS)
    command, began = phone.swap("large"), cluster.now
    cluster.drive()
    timeout_us = phone.setup.config.load_timeout_ms * 1000
    assert phone.result(command, SwapResult).reason is Reason.LOAD_TIMEOUT
    assert phone.member.swap.serving is SMALL
    assert cluster.now - began < timeout_us + 1_000_000


def test_a_load_that_overtakes_its_timeout_counts(cluster: Cluster, phone: Host) -> None:
    timeout_us = phone.setup.config.load_timeout_ms * 1000
    phone.plan(LoadModel, Outcome(after_us=timeout_us + 1_000, ignores_cancel=True))
    command = phone.swap("large")
    cluster.drive()
    assert phone.replies[command] == SwapResult("small", "large", 7.0)


def test_a_roll_back_that_hangs_is_given_up(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, LOAD_FAILS, HANGS)
    command = phone.swap("large")
    cluster.drive()
    assert phone.result(command, SwapResult).active is None


def test_a_model_that_cannot_be_freed_goes_on_serving(cluster: Cluster, phone: Host) -> None:
    phone.plan(UnloadModel, fails(Reason.ENGINE_CRASHED))
    command = phone.swap("large")
    cluster.drive()
    assert phone.replies[command] == SwapResult("small", "small", 1.5, Reason.UNLOAD_FAILED)
    assert phone.did(LoadModel) == []
    task = phone.submit()
    cluster.drive()
    assert phone.task(task).reason is None


def test_a_model_that_crashed_the_engine_twice_is_quarantined(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, fails(Reason.ENGINE_CRASHED), Outcome(), fails(Reason.OUT_OF_MEMORY))
    reasons = []
    for _ in range(3):
        command = phone.swap("large")
        cluster.drive()
        reasons.append(phone.result(command, SwapResult).reason)
    assert reasons == [Reason.ENGINE_CRASHED, Reason.OUT_OF_MEMORY, Reason.QUARANTINED]
    assert phone.member.inventory.state(LARGE) is DownloadState.QUARANTINED
    assert phone.member.swap.serving is SMALL


def test_crashes_are_counted_across_restarts(cluster: Cluster, phone: Host) -> None:
    for _ in range(2):
        phone.plan(LoadModel, fails(Reason.ENGINE_CRASHED))
        phone.swap("large")
        cluster.drive()
        cluster.restart(phone)
        cluster.drive()
    assert phone.member.inventory.state(LARGE) is DownloadState.QUARANTINED


def test_an_engine_that_loses_its_model_loads_it_again(cluster: Cluster, phone: Host) -> None:
    phone.plan(RunTask, HANGS)
    task = phone.submit()
    phone.crash_engine()
    cluster.drive()
    assert told(phone)[:2] == [("small", True), ("small", False)]
    assert phone.member.swap.serving is SMALL
    assert phone.task(task).reason is None  # it waited, and was answered by the model that came back
    assert phone.task(task).text == "one two three"


def test_tasks_that_end_late_do_not_hold_up_those_that_come_after_a_recovery(cluster: Cluster, phone: Host) -> None:
    phone.plan(RunTask, Outcome(reason=Reason.ENGINE_CRASHED, after_us=3_000_000))
    phone.submit()
    phone.crash_engine(tasks_fail=False)
    cluster.run_for(1_000)
    assert phone.member.swap.serving is SMALL
    late = phone.submit()
    cluster.run_for(5_000)
    assert phone.task(late).reason is None


@pytest.mark.parametrize("phase", BREAKS)
def test_an_engine_that_crashes_during_a_swap(phase: str, cluster: Cluster, phone: Host) -> None:
    slow = Outcome(after_us=50_000)
    kind = BREAKS[phase]
    phone.plan(kind, *([LOAD_FAILS] if phase == "rollback" else []), slow)
    if phase == "drain":
        phone.submit()
    command = phone.swap("large")
    cluster.run_for(20)
    phone.crash_engine()
    cluster.drive()
    assert phone.member.swap.is_settled
    serving = phone.member.swap.serving
    assert phone.result(command, SwapResult).active == (serving and serving.model_id)
    assert serving is (SMALL if phase == "rollback" else LARGE)
    assert phone.member.load() == Load.of(0)


def test_an_unload_that_fails_because_the_engine_crashed_goes_on(cluster: Cluster, phone: Host) -> None:
    phone.plan(UnloadModel, fails(Reason.ENGINE_CRASHED, after_us=50_000))
    command = phone.swap("large")
    cluster.run_for(20)
    phone.crash_engine()
    cluster.drive()
    assert phone.replies[command] == SwapResult("small", "large", 7.0)


def test_a_crash_that_quarantines_the_old_model_leaves_nothing_to_roll_back_to(cluster: Cluster, phone: Host) -> None:
    phone.crash_engine()
    cluster.drive()
    phone.plan(Advertise, Outcome(after_us=50_000))
    phone.plan(LoadModel, LOAD_FAILS)
    command = phone.swap("large")
    cluster.run_for(20)
    phone.crash_engine()
    cluster.drive()
    assert phone.result(command, SwapResult).active is None
    assert phone.member.swap.state is SwapState.EMPTY
    assert phone.member.inventory.state(SMALL) is DownloadState.QUARANTINED


def test_an_intent_that_cannot_be_written_changes_nothing(cluster: Cluster, phone: Host) -> None:
    phone.plan(Persist, fails(Reason.DISK_FULL))
    command = phone.swap("large")
    cluster.drive()
    assert phone.replies[command] == SwapResult("small", "small", 1.5, Reason.DISK_FULL)
    assert phone.did(UnloadModel) == []


def test_a_result_that_cannot_be_written_is_said(cluster: Cluster, phone: Host) -> None:
    phone.plan(Persist, Outcome(), fails(Reason.DISK_FULL))
    command = phone.swap("large")
    cluster.drive()
    assert phone.replies[command] == SwapResult("small", "large", 7.0, Reason.DISK_FULL)


# -- single flight -----------------------------------------------------------------------------------------------------


def test_a_second_swap_to_the_same_model_joins_the_first(cluster: Cluster, phone: Host) -> None:
    first, second = phone.swap("large"), phone.swap("large-coder:7b")
    cluster.drive()
    assert phone.replies[first] == phone.replies[second] == SwapResult("small", "large", 7.0)
    assert len(phone.did(LoadModel)) == 1
    assert [record.requests for record in phone.traced(SwapEnded)] == [0, 2]


def test_the_latest_wish_wins(cluster: Cluster, phone: Host) -> None:
    first, second, third = phone.swap("large"), phone.swap("tiny"), phone.swap("small")
    cluster.drive()
    assert phone.result(first, SwapResult).active == "large"
    assert phone.result(second, SwapResult).reason is Reason.SUPERSEDED
    assert phone.replies[third] == SwapResult("large", "small", 1.5)
    assert [load.entry for load in phone.did(LoadModel)] == [LARGE, SMALL]


def test_wishing_for_the_current_target_again_drops_who_waited(cluster: Cluster, phone: Host) -> None:
    first, second, third = phone.swap("large"), phone.swap("tiny"), phone.swap("large")
    cluster.drive()
    assert phone.result(second, SwapResult).reason is Reason.SUPERSEDED
    assert phone.replies[first] == phone.replies[third] == SwapResult("small", "large", 7.0)
    assert len(phone.did(LoadModel)) == 1


def test_two_may_wait_for_one_model(cluster: Cluster, phone: Host) -> None:
    phone.swap("large")
    second, third = phone.swap("tiny"), phone.swap("tiny")
    cluster.drive()
    assert phone.replies[second] == phone.replies[third] == SwapResult("large", "tiny", 0.5)


def test_what_waited_is_judged_again(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, fails(Reason.ENGINE_CRASHED), Outcome(), fails(Reason.ENGINE_CRASHED))
    phone.swap("large")
    cluster.drive()
    first, waiting = phone.swap("large"), phone.swap("tiny")
    again = phone.swap("large")
    cluster.drive()
    assert phone.result(first, SwapResult).reason is Reason.ENGINE_CRASHED
    assert phone.result(waiting, SwapResult).reason is Reason.SUPERSEDED
    assert phone.result(again, SwapResult).reason is Reason.ENGINE_CRASHED
    assert phone.result(phone.swap("large"), SwapResult).reason is Reason.QUARANTINED


# -- minimal residency -------------------------------------------------------------------------------------------------


def test_tasks_cannot_change_a_young_model_and_users_can(cluster: Cluster, phone: Host) -> None:
    assert phone.result(phone.swap("large", cause=SwapCause.TASK), SwapResult).reason is Reason.RESIDENT
    assert phone.result(phone.swap("small", cause=SwapCause.TASK), SwapResult).reason is None
    command = phone.swap("large", cause=SwapCause.USER)
    cluster.drive()
    assert phone.result(command, SwapResult).active == "large"


def test_tasks_can_change_a_model_that_served_its_time(cluster: Cluster, phone: Host) -> None:
    cluster.run_for(phone.setup.config.min_residency_ms)
    command = phone.swap("large", cause=SwapCause.TASK)
    cluster.drive()
    assert phone.result(command, SwapResult).active == "large"


def test_an_empty_node_takes_what_tasks_ask_for(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL])
    cluster.drive()
    command = phone.swap("small", cause=SwapCause.TASK)
    cluster.drive()
    assert phone.result(command, SwapResult).active == "small"


# -- what peers see meanwhile ------------------------------------------------------------------------------------------


def test_peers_in_radio_range_hear_of_every_change(cluster: Cluster, phone: Host) -> None:
    near = cluster.add("near")
    cluster.link(phone, near, Medium.BLE)
    cluster.drive()
    phone.swap("large")
    while phone.did(UnloadModel) == []:
        cluster.step()
    heard = near.member.peers.rows[phone.node_id].capabilities
    assert heard is not None
    assert heard.current_load.is_loading or cluster.now < phone.did(Advertise)[0].deadline
    cluster.drive()
    heard = near.member.peers.rows[phone.node_id].capabilities
    assert heard is not None
    assert (heard.active_model, heard.current_load) == ("large", Load.of(0))


def test_status_follows_the_swap(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, HANGS)
    phone.swap("large")
    cluster.run_for(100)
    status = phone.result(phone.ask(QueryStatus), ModelStatus)
    assert (status.model, status.status, status.load) == (None, "loading", Load.LOADING)
    phone.end(phone.opened(LoadModel)[0])
    status = phone.result(phone.ask(QueryStatus), ModelStatus)
    assert (status.model, status.param_size, status.status) == ("large", 7.0, "ready")
