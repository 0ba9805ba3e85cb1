"""The reason that stands beside each request: who asked for it to be made, or what made the planner ask the CDN."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgecoder.core.effects import Source, Trace
from edgecoder.core.events import PieceFetched
from edgecoder.core.ids import NodeId
from edgecoder.protocol import CDN_ID
from edgecoder.seeding.planner import Plan, Why
from edgecoder.trace import PieceSought
from tests.unit.test_transfer import PEER, SECOND, TICKET, Bench


def granted(bench: Bench) -> None:
    bench.grant(0)


def granted_of_the_cdn(bench: Bench) -> None:
    bench.grant(0, sender=CDN_ID)


def near(bench: Bench) -> None:
    assert bench.transfer.ask_near(Source.WIFI_DIRECT, PEER, 1, 0b1)


def without_a_broker(bench: Bench) -> None:
    """A peer that a broker has named gives a piece, and says that it has all."""
    bench.grant(0, ticket=TICKET)
    (first,) = bench.asked()
    bench.around.broker = False
    bench.context.out.clear()
    bench.context.ops.complete(PieceFetched(first.op, 0b1111))


def planned(why: Why) -> Callable[[Bench], None]:
    def ask(bench: Bench) -> None:
        bench.planner.plan_now = Plan(why, 30 * SECOND)
        bench.transfer.look()

    return ask


CDN_REASONS = (Why.ALONE, Why.BEHIND, Why.LATE, Why.NEXT_RUNG)
ASKED: list[tuple[Callable[[Bench], None], Why, Source, NodeId | None]] = [
    (granted, Why.GRANTED, Source.MESH, PEER),
    (granted_of_the_cdn, Why.GRANTED, Source.CDN, None),
    (near, Why.NEAR, Source.WIFI_DIRECT, PEER),
    (without_a_broker, Why.RAREST, Source.MESH, PEER),
    *((planned(why), why, Source.CDN, None) for why in CDN_REASONS),
]


@pytest.mark.parametrize(("happen", "why", "source", "peer"), ASKED, ids=[why.value for _, why, *_ in ASKED])
def test_why(happen: Callable[[Bench], None], why: Why, source: Source, peer: NodeId | None) -> None:
    bench = Bench()
    bench.allocate()
    happen(bench)
    records = [effect.record for effect in bench.context.out if isinstance(effect, Trace)]
    sought = [record for record in records if isinstance(record, PieceSought)]
    assert {(record.why, record.source, record.peer) for record in sought} == {(why.value, source.value, peer)}


def test_every_reason_is_here() -> None:
    assert {why for _, why, _, _ in ASKED} == set(Why)
