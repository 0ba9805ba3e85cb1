"""When a node says that it has nothing to send, and how often."""

from __future__ import annotations

from itertools import pairwise

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.context import Context
from edgecoder.core.ids import Micros
from edgecoder.seeding.rests import FIRST_MS, Rests
from edgecoder_sim.crypto import crypto, node_id

MILLI = 1000


class Bench:
    """A node whose uplink rests when the test says so."""

    def __init__(self, rtt: Micros = 10 * MILLI) -> None:
        signer, _ = crypto(node_id("here"), "edgecoder", encoded=False)
        self.context = Context(ClusterConfig(), NodeConfig(), signer, 1)
        self.rests = True
        self.said_ms: list[int] = []
        self.times = Rests(
            self.context, lambda: self.rests, lambda: self.said_ms.append(self.context.now // MILLI), lambda: rtt
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


def test_an_order_and_its_answer_have_time_to_come() -> None:
    bench = Bench(rtt=FIRST_MS * MILLI)
    bench.times.look()
    bench.pass_s(0.49)
    assert bench.said_ms == []
    bench.pass_s(0.02)
    assert bench.said_ms == [500]


def test_who_works_says_nothing_and_begins_anew() -> None:
    bench = Bench()
    bench.times.look()
    bench.pass_s(1)
    bench.rests = False
    bench.times.look()
    bench.pass_s(100)
    assert bench.said_ms == [250, 750]
    bench.rests = True
    bench.times.look()
    bench.times.look()
    bench.pass_s(0.3)
    assert bench.said_ms[2:] == [101_250]
