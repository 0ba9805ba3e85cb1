"""When a node says that it has nothing to do, and how often."""

from __future__ import annotations

from itertools import pairwise

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.context import Context
from edgecoder.core.ids import Micros
from edgecoder.seeding.idle import LAST_MS, REST_MS, Idle
from edgecoder_sim.crypto import crypto, node_id

MILLI = 1000


class Bench:
    """A node that is idle when the test says so."""

    def __init__(self, first: Micros | None = REST_MS * MILLI) -> None:
        signer, _ = crypto(node_id("here"), "edgecoder", encoded=False)
        self.context = Context(ClusterConfig(), NodeConfig(), signer, 1)
        self.idle = True
        self.said_ms: list[int] = []
        self.times = Idle(
            self.context,
            "idle",
            lambda: self.idle,
            lambda: self.said_ms.append(self.context.now // MILLI),
            None if first is None else lambda: first,
        )

    def pass_s(self, seconds: float) -> None:
        until = self.context.now + round(seconds * 1_000_000)
        while (deadline := self.context.timers.next_deadline) is not None and deadline <= until:
            self.context.now = deadline
            self.context.timers.fire_due(deadline)
        self.context.now = until


def gaps(bench: Bench) -> list[int]:
    return [later - sooner for sooner, later in pairwise([0, *bench.said_ms])]


def test_who_has_nothing_to_send_says_so_soon_then_less_and_less_often_then_no_more() -> None:
    bench = Bench()
    bench.times.look()
    bench.pass_s(100)
    assert gaps(bench) == [250, 500, 1000, 2000, 4000, 8000]


def test_who_gets_nothing_says_so_as_long_as_it_does() -> None:
    bench = Bench(first=None)
    bench.times.look()
    bench.pass_s(60)
    assert gaps(bench) == [LAST_MS] * 7


def test_who_works_says_nothing_and_begins_anew() -> None:
    bench = Bench()
    bench.times.look()
    bench.pass_s(1)
    bench.idle = False
    bench.times.look()
    bench.pass_s(100)
    assert bench.said_ms == [250, 750]
    bench.idle = True
    bench.times.look()
    bench.times.look()
    bench.pass_s(0.3)
    assert bench.said_ms[2:] == [101_250]
