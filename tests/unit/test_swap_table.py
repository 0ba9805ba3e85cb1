"""The swap's table: every row is reached by driving a node, and what has no row changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from edgecoder.core.effects import Advertise, LoadModel, Persist, RunTask, UnloadModel
from edgecoder.core.events import EngineReturned
from edgecoder.errors import Reason
from edgecoder.models.swap import TABLE, Swap, SwapState, SwapStep
from edgecoder.trace import SwapPhase
from tests.catalogs import LARGE, SMALL
from tests.harness import Cluster
from tests.hosts import HANGS, Host, fails
from tests.steps import ids, missing, watch

S, T = SwapState, SwapStep
LOAD_FAILS = fails(Reason.LOAD_FAILED)
CANNOT_WRITE = fails(Reason.STORE_FAILED, after_us=5_000)


def serving(cluster: Cluster) -> Host:
    """A phone that serves `small` and has `large`."""
    phone = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    cluster.drive()
    return phone


def empty(cluster: Cluster) -> Host:
    """A phone that has both and serves none."""
    phone = cluster.add("phone", installed=[SMALL, LARGE])
    cluster.drive()
    return phone


def swapping(cluster: Cluster, phone: Host) -> Host:
    """Swap to the end."""
    phone.swap("large")
    cluster.drive()
    return phone


def failed(cluster: Cluster) -> Host:
    """A phone whose swap and roll-back both failed."""
    phone = serving(cluster)
    phone.plan(LoadModel, LOAD_FAILS, LOAD_FAILS)
    return swapping(cluster, phone)


def intent_lost(cluster: Cluster) -> Host:
    phone = serving(cluster)
    phone.plan(Persist, CANNOT_WRITE)
    return swapping(cluster, phone)


def intent_lost_bare(cluster: Cluster) -> Host:
    phone = empty(cluster)
    phone.plan(Persist, CANNOT_WRITE)
    return swapping(cluster, phone)


def intent_lost_and_engine_too(cluster: Cluster) -> Host:
    phone = serving(cluster)
    phone.plan(Persist, CANNOT_WRITE)
    phone.swap("large")
    phone.crash_engine(Reason.LOAD_FAILED)
    cluster.drive()
    return phone


def unload_failed(cluster: Cluster) -> Host:
    phone = serving(cluster)
    phone.plan(UnloadModel, fails(Reason.UNLOAD_FAILED))
    return swapping(cluster, phone)


def rolled_back(cluster: Cluster) -> Host:
    phone = serving(cluster)
    phone.plan(LoadModel, LOAD_FAILS)
    return swapping(cluster, phone)


def load_failed_from_empty(cluster: Cluster) -> Host:
    phone = empty(cluster)
    phone.plan(LoadModel, LOAD_FAILS)
    return swapping(cluster, phone)


def engine_lost(cluster: Cluster) -> Host:
    phone = serving(cluster)
    phone.crash_engine()
    cluster.drive()
    return phone


def engine_lost_twice(cluster: Cluster) -> Host:
    phone = engine_lost(cluster)
    phone.crash_engine()
    cluster.drive()
    return phone


def engine_taken_twice(cluster: Cluster) -> Host:
    phone = serving(cluster)
    for _ in range(2):
        phone.crash_engine(Reason.NO_MODEL)
        cluster.drive()
    return phone


def engine_came_back(cluster: Cluster) -> Host:
    phone = serving(cluster)
    phone.plan(LoadModel, fails(Reason.UNAVAILABLE))
    phone.crash_engine(Reason.UNAVAILABLE)
    cluster.drive()
    phone.take(EngineReturned())
    cluster.drive()
    return phone


def swapped(cluster: Cluster) -> Host:
    return swapping(cluster, serving(cluster))


def swapped_from_empty(cluster: Cluster) -> Host:
    return swapping(cluster, empty(cluster))


def swapped_after_failure(cluster: Cluster) -> Host:
    return swapping(cluster, failed(cluster))


ROWS: dict[tuple[SwapState, SwapStep], tuple[SwapState, Callable[[Cluster], Host]]] = {
    (S.EMPTY, T.BOOTED): (S.ANNOUNCING, serving),
    (S.FAILED, T.BOOTED): (S.ANNOUNCING, engine_came_back),
    (S.EMPTY, T.REQUESTED): (S.ANNOUNCING, swapped_from_empty),
    (S.READY, T.REQUESTED): (S.ANNOUNCING, swapped),
    (S.FAILED, T.REQUESTED): (S.ANNOUNCING, swapped_after_failure),
    (S.ANNOUNCING, T.INTENT_KEPT): (S.ANNOUNCING, swapped),
    (S.ANNOUNCING, T.INTENT_LOST): (S.READY, intent_lost),
    (S.ANNOUNCING, T.INTENT_LOST_BARE): (S.EMPTY, intent_lost_bare),
    (S.ANNOUNCING, T.ENGINE_FAILED): (S.ROLLING_BACK, intent_lost_and_engine_too),
    (S.ANNOUNCING, T.ANNOUNCED): (S.DRAINING, swapped),
    (S.DRAINING, T.DRAINED): (S.UNLOADING, swapped),
    (S.DRAINING, T.DRAINED_BARE): (S.LOADING, swapped_from_empty),
    (S.UNLOADING, T.UNLOADED): (S.LOADING, swapped),
    (S.UNLOADING, T.UNLOAD_FAILED): (S.READY, unload_failed),
    (S.LOADING, T.LOADED): (S.READY, swapped),
    (S.LOADING, T.LOAD_FAILED): (S.ROLLING_BACK, rolled_back),
    (S.LOADING, T.LOAD_FAILED_BARE): (S.EMPTY, load_failed_from_empty),
    (S.ROLLING_BACK, T.LOADED): (S.READY, rolled_back),
    (S.ROLLING_BACK, T.LOAD_FAILED): (S.FAILED, failed),
    (S.READY, T.ENGINE_FAILED): (S.ROLLING_BACK, engine_lost),
    (S.READY, T.ENGINE_FAILED_BARE): (S.FAILED, engine_lost_twice),
    (S.READY, T.ENGINE_TAKEN): (S.EMPTY, engine_taken_twice),
}


@pytest.mark.parametrize("row", TABLE, ids=ids)
def test_row(row: tuple[SwapState, SwapStep], cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    following, scenario = ROWS[row]
    assert TABLE[row][0] is following
    steps = watch(monkeypatch, Swap, SwapState, SwapStep)
    phone = scenario(cluster)
    assert steps.following(*row), "the scenario does not get there"
    phases = ["empty", *(record.phase for record in phone.traced(SwapPhase))]
    if following is not row[0]:
        assert (row[0].value, following.value) in list(pairwise(phases))


def hanging(kind: type, *before: object) -> Callable[[Cluster], Host]:
    """A phone whose swap waits for an operation of this kind."""

    def build(cluster: Cluster) -> Host:
        phone = serving(cluster)
        phone.plan(kind, *before, HANGS)  # type: ignore[arg-type]  # the callers give outcomes
        phone.swap("large")
        cluster.run_for(100)
        return phone

    return build


def draining(cluster: Cluster) -> Host:
    phone = serving(cluster)
    phone.plan(RunTask, HANGS)
    phone.submit()
    phone.swap("large")
    cluster.run_for(100)
    return phone


IN_STATE: dict[SwapState, Callable[[Cluster], Host]] = {
    S.EMPTY: empty,
    S.READY: serving,
    S.ANNOUNCING: hanging(Advertise),
    S.DRAINING: draining,
    S.UNLOADING: hanging(UnloadModel),
    S.LOADING: hanging(LoadModel),
    S.ROLLING_BACK: hanging(LoadModel, LOAD_FAILS),
    S.FAILED: failed,
}


@pytest.mark.parametrize("pair", missing(TABLE, SwapState, SwapStep), ids=ids)
def test_without_a_row_nothing_changes(pair: tuple[SwapState, SwapStep], cluster: Cluster) -> None:
    phone = IN_STATE[pair[0]](cluster)
    swap, out = phone.member.swap, phone.alive.context.out
    assert swap.state is pair[0]
    before = (swap.active, swap.serving, swap.is_settled)
    out.clear()
    swap._step(pair[1])
    assert swap.state is pair[0]
    assert (swap.active, swap.serving, swap.is_settled) == before
    assert out == []


@pytest.mark.parametrize("state", SwapState, ids=lambda state: state.value)
def test_every_state_comes_to_an_end(state: SwapState, cluster: Cluster) -> None:
    """Whatever it waits for ends or is given up: no state keeps a node for ever."""
    phone = IN_STATE[state](cluster)
    for operation in list(phone.open.values()):
        phone.end(operation)
    cluster.drive()
    assert phone.member.swap.is_settled
