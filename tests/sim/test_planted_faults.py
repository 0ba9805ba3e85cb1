"""A checker is worth what it catches: each planted fault is seen, and without it the same run is clean.

What no checker can see, because it shows only between two runs or over a long time, has a test of its own here, which
passes without the fault and fails with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecoder.core.context import Context
from edgecoder.core.ids import Role
from edgecoder.core.rng import Stream
from edgecoder.errors import InvariantViolated
from edgecoder.mesh.heartbeat import _PERIODIC, HeartbeatSender
from edgecoder.wire.messages import Heartbeat
from tests.harness import Cluster
from tests.sim import blackout, faults, faults_of_pieces, faults_of_receipts, faults_of_the_mesh, faults_of_the_radio
from tests.sim.eventful import build, run, run_alone, run_scanning
from tests.sim.planted import Fault

ROOT = Path(__file__).parents[2]
FAULTS = [
    *faults.FAULTS,
    *faults_of_the_mesh.FAULTS,
    *faults_of_the_radio.FAULTS,
    *faults_of_receipts.FAULTS,
    *faults_of_pieces.FAULTS,
]
SEEDS = (1, 2, 3)
"""A fault that shows only now and then is looked for in several runs."""


@pytest.mark.parametrize("sets", [(), ("wire=encoded",), ("tick_us=1",)], ids=["reference", "encoded", "exact"])
def test_without_a_fault_the_run_is_clean(sets: tuple[str, ...]) -> None:
    for rng_seed in SEEDS:
        assert run(*sets, rng_seed=rng_seed).watch.checked > 5_000
        assert run_alone(*sets, rng_seed=rng_seed).watch.checked > 100
        assert run_scanning(*sets, rng_seed=rng_seed).watch.checked > 2_000
        assert blackout.run(*sets, rng_seed=rng_seed).watch.checked > 1_000
        assert faults_of_pieces.run(*sets, rng_seed=rng_seed).watch.checked > 3_000


def run_with(fault: Fault) -> None:
    """Run where the fault shows."""
    for rng_seed in SEEDS:
        fault.run(rng_seed=rng_seed)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.plant(monkeypatch)
    with pytest.raises(InvariantViolated) as caught:
        run_with(fault)
    assert caught.value.checker == fault.checker, str(caught.value)
    assert str(caught.value).endswith("; reproduce: pytest tests/sim/test_planted_faults.py")


# -- what no checker sees ----------------------------------------------------------------------------------------------


def beats_keep_time() -> None:
    """However late a node is woken, its heartbeats go out at k·period: none is lost over the minutes."""
    cluster = Cluster()
    phone, hub = cluster.add("phone"), cluster.add("hub", Role.COORDINATOR)
    cluster.link(phone, hub)
    cluster.run_for(10)
    before = len(cluster.sent(Heartbeat))
    periods = 80
    while cluster.now < (10 + periods * 15_000) * 1000:
        cluster.run_for(2_300)
        cluster.jump(3_100)
    assert len(cluster.sent(Heartbeat)) - before >= periods


def beat_a_period_after_the_last(patch: pytest.MonkeyPatch) -> None:
    """The next heartbeat is due a period after this one was sent, so that every delay adds up."""
    beat = HeartbeatSender._beat

    def drift(self: HeartbeatSender) -> None:
        beat(self)
        self._next = self._context.now + self._period
        self._context.timers.set(_PERIODIC, self._next, self._beat)

    patch.setattr(HeartbeatSender, "_beat", drift)


def one_more_node_leaves_the_others_draws() -> None:
    """Adding a node changes no random number of another."""

    def draws(phones: int) -> dict[str, list[int]]:
        streams = {sim.name: sim.node.context.stream("a test") for sim in build(f"phones.count={phones}").nodes}
        return {name: [stream.word() for _ in range(3)] for name, stream in streams.items()}

    fewer, more = draws(4), draws(5)
    assert fewer == {name: words for name, words in more.items() if name in fewer}


def share_a_stream(patch: pytest.MonkeyPatch) -> None:
    """All nodes draw from one stream."""
    shared: dict[str, Stream] = {}

    def stream(self: Context, purpose: str) -> Stream:
        return shared.setdefault(purpose, Stream(self.rng_seed, b"", purpose))

    patch.setattr(Context, "stream", stream)


def one_more_draw_leaves_the_other_purposes() -> None:
    """What a node draws for one purpose changes nothing that it draws for another."""
    (sim, *_) = build().nodes
    first = sim.node.context.stream("one").word()
    sim.node.context.stream("two").word()
    assert sim.node.context.stream("one").word() == first
    assert sim.node.context.stream("two").word() != first


def ignore_the_purpose(patch: pytest.MonkeyPatch) -> None:
    """A stream is the node's, whatever it is for."""
    patch.setattr(Context, "stream", lambda self, purpose: Stream(self.rng_seed, self.node_id, ""))


@pytest.mark.parametrize(
    ("behaviour", "plant"),
    [
        (beats_keep_time, beat_a_period_after_the_last),
        (one_more_node_leaves_the_others_draws, share_a_stream),
        (one_more_draw_leaves_the_other_purposes, ignore_the_purpose),
    ],
    ids=lambda part: part.__name__,
)
def test_a_fault_that_no_checker_sees_is_caught(
    behaviour: Callable[[], None], plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        behaviour()


TWO_RUNS = """
from edgecoder.coordinator.registry import Registry
from tests.sim.eventful import run
print(run("duration_s=30").watch.digest.hexdigest())
ordered = Registry.availability
Registry.availability = lambda self: {model: row for model, row in set(ordered(self).items())}
print(run("duration_s=30").watch.digest.hexdigest())
"""
"""Prints two digests: of a right run, and of one in which the models of a summary stand in the order of a set."""


def test_the_order_of_a_set_shows_in_the_digest() -> None:
    """It differs from process to process; nothing else does."""
    right, unordered = set(), set()
    for hash_seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", TWO_RUNS]
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        digests = ran.stdout.split()
        right.add(digests[0])
        unordered.add(digests[1])
    assert len(right) == 1
    assert len(unordered) > 1
