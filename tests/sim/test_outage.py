"""The CDN fails while many fetch: with peers all are done before it is back, without them nobody is."""

from __future__ import annotations

import pytest

from edgecoder.core.effects import Effect, PullResult, Reply
from edgecoder.core.events import Event
from edgecoder_sim.host import SimNode
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World
from tests.sim import eventful

BACK_S = 1870


class Ends:
    """When pulls ended well."""

    name = "ends"

    def __init__(self) -> None:
        self.at_us: list[int] = []

    def saw(self, at_us: int, node: SimNode, event: Event, effects: list[Effect]) -> None:  # noqa: ARG002
        for effect in effects:
            if isinstance(effect, Reply) and isinstance(effect.result, PullResult) and effect.result.reason is None:
                self.at_us.append(at_us)

    def died(self, at_us: int, node: SimNode) -> None: ...

    def finish(self, at_us: int) -> None: ...


@pytest.mark.parametrize(("distribution", "done"), [("portfolio", 40), ("cdn", 0)])
def test_peers_bring_what_the_cdn_had_sent_before_it_failed(distribution: str, done: int) -> None:
    scenario = load_scenario("cdn_outage", [f"config.distribution={distribution}"])
    ends = Ends()
    world = World(scenario, [ends])
    world.start_users(eventful.Sink())
    world.kernel.run(BACK_S * 1_000_000)
    assert len(ends.at_us) == done
