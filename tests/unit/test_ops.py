"""Operations: ids that no two lives share, and one completion each."""

from __future__ import annotations

from edgecoder.core.events import Completion, Persisted, PersistFailed
from edgecoder.core.ops import OpTable
from edgecoder.errors import Reason


def test_each_completion_reaches_who_waits_for_it() -> None:
    table, heard = OpTable(), list[tuple[str, Completion]]()
    first = table.begin(lambda completion: heard.append(("first", completion)))
    second = table.begin(lambda completion: heard.append(("second", completion)))
    assert len(table) == 2
    assert table.complete(PersistFailed(second, Reason.DISK_FULL))
    assert table.complete(Persisted(first))
    assert heard == [("second", PersistFailed(second, Reason.DISK_FULL)), ("first", Persisted(first))]
    assert len(table) == 0


def test_a_second_completion_reaches_nobody() -> None:
    table, heard = OpTable(), list[Completion]()
    op = table.begin(heard.append)
    assert table.complete(Persisted(op))
    assert not table.complete(Persisted(op))
    assert len(heard) == 1


def test_completions_of_an_earlier_life_reach_nobody() -> None:
    table, heard = OpTable(), list[Completion]()
    table.epoch = 1
    old = table.begin(heard.append)
    reborn = OpTable()
    reborn.epoch = 2
    new = reborn.begin(heard.append)
    assert new != old
    assert (old >> 32, new >> 32) == (1, 2)
    assert not reborn.complete(Persisted(old))
    assert heard == []


def test_a_waiter_may_begin_the_next_operation() -> None:
    table, begun = OpTable(), list[int]()
    op = table.begin(lambda _: begun.append(table.begin(lambda _: None)))
    table.complete(Persisted(op))
    assert len(table) == 1
    assert begun[0] != op
