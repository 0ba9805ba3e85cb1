"""An engine that other programs use too: they take its model out, and it goes away and comes back."""

from __future__ import annotations

import pytest

from edgecoder.core.effects import LoadModel, ModelRow, ModelStatus, SwapResult, UnloadModel
from edgecoder.core.events import EngineReturned, OtherModel, OthersLoaded, QueryModels, QueryStatus, ShutDown
from edgecoder.errors import Reason
from edgecoder.models.swap import SwapState
from edgecoder.trace import SwapEnded
from tests.catalogs import LARGE, SMALL
from tests.harness import Cluster
from tests.hosts import Host, fails

AWAY = fails(Reason.UNAVAILABLE)
MINUTE_MS = 60_000


@pytest.fixture
def phone(cluster: Cluster) -> Host:
    """A phone that serves `small` and has `large`."""
    phone = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    cluster.drive()
    return phone


def status(cluster: Cluster, phone: Host) -> ModelStatus:
    command = phone.ask(QueryStatus)
    cluster.run_for(100)
    return phone.result(command, ModelStatus)


def take_out(cluster: Cluster, phone: Host) -> None:
    phone.crash_engine(Reason.NO_MODEL)
    cluster.run_for(5_000)


def test_what_others_took_out_is_loaded_again_once_in_ten_minutes(cluster: Cluster, phone: Host) -> None:
    take_out(cluster, phone)
    assert phone.member.swap.serving is SMALL
    cluster.run_for(9 * MINUTE_MS)
    take_out(cluster, phone)
    told = status(cluster, phone)
    assert (told.model, told.status, told.reason) == (None, "no_model", Reason.NO_MODEL)
    cluster.run_for(20 * MINUTE_MS)
    assert status(cluster, phone).status == "no_model"


def test_it_is_loaded_again_each_time_where_that_is_seldom(cluster: Cluster, phone: Host) -> None:
    for _ in range(4):
        take_out(cluster, phone)
        assert phone.member.swap.serving is SMALL
        cluster.run_for(11 * MINUTE_MS)


def test_a_user_who_wants_it_gets_it_whatever_others_do(cluster: Cluster, phone: Host) -> None:
    for _ in range(2):
        take_out(cluster, phone)
    assert phone.member.swap.serving is None
    command = phone.swap("small")
    cluster.run_for(5_000)
    assert phone.result(command, SwapResult).reason is None
    assert phone.member.swap.serving is SMALL


def test_a_model_that_others_took_out_is_no_suspect(cluster: Cluster, phone: Host) -> None:
    for _ in range(5):
        take_out(cluster, phone)
        cluster.run_for(11 * MINUTE_MS)
    assert phone.member.inventory.row(SMALL).crashes == 0


def test_what_was_left_to_others_is_loaded_by_the_next_life(cluster: Cluster, phone: Host) -> None:
    for _ in range(2):
        take_out(cluster, phone)
    cluster.restart(phone)
    cluster.run_for(5_000)
    assert phone.member.swap.serving is SMALL


def test_an_engine_that_comes_back_gets_the_model_that_served_last(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, AWAY)
    phone.crash_engine(Reason.UNAVAILABLE)
    cluster.run_for(5_000)
    told = status(cluster, phone)
    assert (told.model, told.status, told.reason) == (None, "error", Reason.UNAVAILABLE)
    phone.take(EngineReturned())
    cluster.run_for(5_000)
    assert status(cluster, phone).model == "small"


def test_a_start_before_the_engine_waits_for_it(cluster: Cluster, phone: Host) -> None:
    phone.stop()
    phone.plan(LoadModel, AWAY, AWAY)
    phone.start()
    cluster.run_for(5_000)
    for is_there in (False, True):
        assert phone.member.swap.state is SwapState.EMPTY
        phone.take(EngineReturned())
        cluster.run_for(5_000)
        assert (phone.member.swap.serving is SMALL) is is_there


def test_a_swap_to_another_model_that_found_no_engine_ends_with_the_old_one(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, AWAY, AWAY)
    command = phone.swap("large")
    cluster.run_for(5_000)
    assert phone.result(command, SwapResult) == SwapResult("small", None, None, Reason.UNAVAILABLE)
    phone.take(EngineReturned())
    cluster.run_for(5_000)
    assert phone.member.swap.serving is SMALL


def test_what_serves_again_as_the_engine_is_back_has_no_reason_left(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, AWAY)
    phone.crash_engine(Reason.UNAVAILABLE)
    cluster.run_for(5_000)
    assert status(cluster, phone).reason is Reason.UNAVAILABLE
    phone.take(EngineReturned())
    cluster.run_for(5_000)
    assert (status(cluster, phone).model, status(cluster, phone).reason) == ("small", None)
    assert phone.traced(SwapEnded)[-1].reason is None


@pytest.mark.parametrize("reason", [Reason.LOAD_FAILED, Reason.NO_MODEL, Reason.ENGINE_CRASHED])
def test_an_engine_that_was_there_all_along_changes_nothing(reason: Reason, cluster: Cluster, phone: Host) -> None:
    phone.take(EngineReturned())
    cluster.run_for(5_000)
    assert phone.member.swap.serving is SMALL
    phone.plan(LoadModel, fails(Reason.LOAD_FAILED))
    phone.crash_engine(reason)
    cluster.run_for(5_000)
    loads = len(phone.did(LoadModel))
    phone.take(EngineReturned())
    cluster.run_for(5_000)
    assert len(phone.did(LoadModel)) == loads


def test_a_node_that_leaves_loads_nothing_more(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, AWAY)
    phone.crash_engine(Reason.UNAVAILABLE)
    cluster.run_for(5_000)
    phone.ask(ShutDown)
    cluster.run_for(5_000)
    loads = len(phone.did(LoadModel))
    phone.take(EngineReturned())
    cluster.run_for(5_000)
    assert len(phone.did(LoadModel)) == loads


HUGE = OthersLoaded((OtherModel("theirs:70b", ("a" * 64,), 1_000_000),))


def swap(cluster: Cluster, phone: Host, model: str) -> Reason | None:
    command = phone.swap(model)
    cluster.run_for(5_000)
    return phone.result(command, SwapResult).reason


@pytest.mark.parametrize("others", [HUGE, OthersLoaded((), is_full=True)], ids=["memory", "places"])
def test_what_others_have_loaded_is_counted_before_anything_is_unloaded(
    others: OthersLoaded, cluster: Cluster, phone: Host
) -> None:
    phone.take(others)
    assert swap(cluster, phone, "large") is Reason.INSUFFICIENT_MEMORY
    assert phone.did(UnloadModel) == []
    assert phone.member.swap.serving is SMALL
    assert swap(cluster, phone, "small") is None, "it serves, so it has its room"
    phone.take(OthersLoaded(()))
    assert swap(cluster, phone, "large") is None


@pytest.mark.parametrize("reason", [Reason.INSUFFICIENT_MEMORY, Reason.NOT_INSTALLED, Reason.UNLOAD_FAILED])
def test_an_engine_may_know_in_time_that_the_new_model_cannot_come(
    reason: Reason, cluster: Cluster, phone: Host
) -> None:
    phone.plan(UnloadModel, fails(reason))
    assert swap(cluster, phone, "large") is reason
    assert phone.did(UnloadModel)[-1].successor is LARGE
    assert len(phone.did(LoadModel)) == 1, "small, when it started"
    assert phone.member.swap.serving is SMALL


def test_what_others_have_loaded_themselves_needs_no_room_more(cluster: Cluster, phone: Host) -> None:
    phone.take(OthersLoaded((*HUGE.models, OtherModel("theirs:1b", (LARGE.sha256,), 100)), is_full=True))
    assert swap(cluster, phone, "large") is None


def test_what_others_have_loaded_does_not_keep_the_old_model_from_coming_back(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, fails(Reason.LOAD_FAILED))
    command = phone.swap("large")
    phone.take(HUGE)
    cluster.run_for(5_000)
    assert phone.result(command, SwapResult).active == "small"
    assert phone.member.swap.serving is SMALL


def test_a_model_is_compatible_whatever_others_have_loaded_now(cluster: Cluster, phone: Host) -> None:
    before = compatible(cluster, phone)
    phone.take(HUGE)
    assert compatible(cluster, phone) == before
    assert {"small", "large"} <= before


def compatible(cluster: Cluster, phone: Host) -> set[str]:
    command = phone.ask(QueryModels)
    cluster.run_for(100)
    return {row.entry.model_id for row in phone.result(command, tuple) if isinstance(row, ModelRow) and row.compatible}
