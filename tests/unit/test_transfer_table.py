"""The table of transfers: every row is reached by what happens to one, and what has no row is never tried."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from edgecoder.core.events import AllocateFailed, PieceFailed, PieceFetched
from edgecoder.core.ids import Micros
from edgecoder.errors import Reason
from edgecoder.seeding.planner import Plan, Why
from edgecoder.seeding.transfer import Transfer
from edgecoder.seeding.transfer_table import TRANSFER_TABLE, TransferState, TransferStep
from tests.steps import ids, missing, watch
from tests.unit.test_transfer import PIECES, Bench

S, T = TransferState, TransferStep
NEVER: Micros = 1 << 60


def fetching(bench: Bench) -> None:
    """Two pieces are on their way from a peer."""
    bench.allocate()
    bench.grant(0, 1)


def done(bench: Bench) -> None:
    """All pieces are here, one of them came from the CDN, and the peer that was asked too has not stopped yet."""
    fetching(bench)
    bench.grant(2, 3)
    bench.planner.plan_now = Plan(Why.LATE, NEVER, doubles=True)
    bench.transfer.look()
    doubled = bench.asked()[-1]
    for effect in bench.asked():
        if effect.piece != doubled.piece or effect is doubled:
            bench.context.ops.complete(PieceFetched(effect.op))


def failed(bench: Bench) -> None:
    """Called off, while two pieces are on their way."""
    fetching(bench)
    bench.transfer.call_off(Reason.REMOVED)


def failed_early(bench: Bench) -> None:
    """Called off, while room is being kept."""
    bench.transfer.call_off(Reason.REMOVED)


BEFORE: dict[TransferState, tuple[Callable[[Bench], None], ...]] = {
    S.ALLOCATING: (lambda _: None,),
    S.FETCHING: (fetching, lambda bench: bench.allocate()),
    S.DONE: (done,),
    S.FAILED: (failed, failed_early),
}
"""How a transfer gets into each state, by which way."""


def all_come(bench: Bench) -> None:
    """Whatever is on its way comes, and so do the pieces that were never asked for."""
    for piece in range(PIECES):
        bench.holdings.keep(bench.holding, piece)
    for effect in bench.asked():
        bench.context.ops.complete(PieceFetched(effect.op))
    bench.transfer.look()


def nothing_comes(bench: Bench) -> None:
    """What is on its way breaks off, and for a long time nobody gives anything."""
    for effect in bench.asked():
        bench.context.ops.complete(PieceFailed(effect.op, Reason.PEER_LOST))
    bench.context.now += bench.context.config.transfer_patience_ms * 1000
    bench.transfer.look()


def the_disk_is_full(bench: Bench) -> None:
    """There is no room, or no more."""
    bench.context.ops.complete(AllocateFailed(bench.allocation, Reason.DISK_FULL))
    bench.grant(PIECES - 1)
    for effect in bench.asked():
        bench.context.ops.complete(PieceFailed(effect.op, Reason.DISK_FULL))


HAPPEN: dict[TransferStep, tuple[Callable[[Bench], None], ...]] = {
    T.ALLOCATED: (lambda bench: bench.allocate(),),
    T.WHOLE: (all_come,),
    T.GAVE_UP: (the_disk_is_full, nothing_comes),
    T.CALLED_OFF: (lambda bench: bench.transfer.call_off(Reason.REMOVED),),
}
"""What makes a transfer take each step, where it can."""
ROWS: dict[tuple[TransferState, TransferStep], TransferState] = {
    (S.ALLOCATING, T.ALLOCATED): S.FETCHING,
    (S.ALLOCATING, T.GAVE_UP): S.FAILED,
    (S.ALLOCATING, T.CALLED_OFF): S.FAILED,
    (S.FETCHING, T.WHOLE): S.DONE,
    (S.FETCHING, T.GAVE_UP): S.FAILED,
    (S.FETCHING, T.CALLED_OFF): S.FAILED,
}
REASONS: dict[TransferStep, tuple[Reason | None, ...]] = {
    T.WHOLE: (None,),
    T.GAVE_UP: (Reason.DISK_FULL, Reason.NO_SOURCE),
    T.CALLED_OFF: (Reason.REMOVED,),
}


@pytest.mark.parametrize("row", TRANSFER_TABLE, ids=ids)
def test_row(row: tuple[TransferState, TransferStep], monkeypatch: pytest.MonkeyPatch) -> None:
    assert TRANSFER_TABLE[row] is ROWS[row]
    steps = watch(monkeypatch, Transfer, TransferState, TransferStep)
    for bring, happen in product(BEFORE[row[0]], HAPPEN[row[1]]):
        if row == (S.ALLOCATING, T.GAVE_UP) and happen is nothing_comes:
            continue  # a disk takes what time it needs
        bench = Bench()
        bring(bench)
        assert bench.transfer.state is row[0]
        steps.taken.clear()
        happen(bench)
        assert steps.taken == [(*row, ROWS[row])]
        ends(bench, row[1])


def ends(bench: Bench, step: TransferStep) -> None:
    """When nothing is under way any more it has said once that it is over, and why."""
    bench.allocate()
    for effect in bench.asked():
        bench.context.ops.complete(PieceFailed(effect.op, Reason.CANCELLED))
    if step is T.ALLOCATED:
        assert bench.ends == []
    else:
        (reason,) = bench.ends
        assert reason in REASONS[step]
        assert bench.context.timers.is_idle(bench.transfer._timer)


@pytest.mark.parametrize("pair", missing(TRANSFER_TABLE, TransferState, TransferStep), ids=ids)
def test_without_a_row_the_step_is_not_tried(
    pair: tuple[TransferState, TransferStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is looked up without a default: a step that it lacks would raise."""
    steps = watch(monkeypatch, Transfer, TransferState, TransferStep)
    for bring, happen in product(BEFORE[pair[0]], HAPPEN[pair[1]]):
        bench = Bench()
        bring(bench)
        assert bench.transfer.state is pair[0]
        steps.taken.clear()
        happen(bench)
        assert steps.taken == []
        assert bench.transfer.state is pair[0]
        assert len(bench.ends) <= 1


def test_what_is_whole_at_first_still_waits_for_its_room() -> None:
    """A file of which all pieces came in an earlier life has its room; a disk that has lost it would say so."""
    bench = Bench()
    bench.holding.have = bench.holding.layout.all_pieces
    bench.transfer.look()
    assert bench.ends == []
    bench.allocate()
    assert bench.transfer.state is S.DONE
    assert bench.ends == [None]
