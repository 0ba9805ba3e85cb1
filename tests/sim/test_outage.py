"""The CDN fails before it has sent a copy: peers pass on what it had sent, and the rest comes when it is back."""

from __future__ import annotations

import pytest

from edgecoder.core.effects import Effect, PullResult, Reply, Trace
from edgecoder.core.events import Event
from edgecoder.core.ids import Micros
from edgecoder.trace import PieceKept
from edgecoder_sim.host import SimNode
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World
from tests.sim import eventful

SECOND: Micros = 1_000_000
GONE_S, BACK_S, DONE_S = 70, 370, 430


class Kept:
    """The pieces that came to each node, and how many pulls ended well."""

    name = "kept"

    def __init__(self) -> None:
        self.pieces: dict[int, set[int]] = {}
        self.done = 0

    def saw(self, at_us: int, node: SimNode, event: Event, effects: list[Effect]) -> None:  # noqa: ARG002
        for effect in effects:
            if isinstance(effect, Trace) and isinstance(effect.record, PieceKept):
                self.pieces.setdefault(node.index, set()).add(effect.record.piece)
            if isinstance(effect, Reply) and isinstance(effect.result, PullResult):
                self.done += effect.result.reason is None

    def died(self, at_us: int, node: SimNode) -> None: ...

    def finish(self, at_us: int) -> None: ...


@pytest.mark.parametrize(("distribution", "nodes"), [("portfolio", 40), ("cdn", 0)])
def test_peers_pass_on_what_the_cdn_had_sent_and_it_brings_the_rest(distribution: str, nodes: int) -> None:
    kept = Kept()
    world = World(load_scenario("cdn_outage", [f"config.distribution={distribution}"]), [kept])
    world.start_users(eventful.Sink())
    world.kernel.run(GONE_S * SECOND)
    sent = set[int]().union(*kept.pieces.values())
    world.kernel.run(BACK_S * SECOND)
    assert kept.done == 0
    assert len(kept.pieces) == nodes
    for pieces in kept.pieces.values():
        assert pieces >= sent
        assert pieces == next(iter(kept.pieces.values())), "what one has all have"
    world.kernel.run(DONE_S * SECOND)
    assert kept.done == nodes
