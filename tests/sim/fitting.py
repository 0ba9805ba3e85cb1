"""Lives of simulated nodes, as their journals would tell them."""

from __future__ import annotations

from pathlib import Path

from edgecoder.core.effects import Effect
from edgecoder.core.events import Event, Started
from edgecoder.journal.format import Head
from edgecoder.journal.replay import Turn
from edgecoder_sim.fit.life import Life
from edgecoder_sim.fit.record import Record
from edgecoder_sim.host import SimNode
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.scenario_model import Scenario
from edgecoder_sim.world import WALL_START_MS, World


def head_of(node: SimNode) -> Head:
    """Who a simulated node is."""
    setup = node.node.setup
    return Head(
        node_id=node.node_id,
        rng_seed=1,
        role=setup.role,
        cluster=setup.cluster,
        config=setup.config,
        catalog=setup.catalog.entries,
        platform=setup.platform,
        languages=setup.languages,
    )


class Scribe:
    """Writes down all lives. A `Checker` that finds nothing wrong."""

    name = "scribe"

    def __init__(self) -> None:
        self.lives: list[Life] = []
        self._of: dict[int, Life] = {}

    def saw(self, at_us: int, node: SimNode, event: Event, effects: list[Effect]) -> None:
        """See `Checker`."""
        if isinstance(event, Started):
            self._of[node.index] = Life(head_of(node))
            self.lives.append(self._of[node.index])
        if node.index in self._of:  # what a machine says before its node has begun stands in no journal
            self._of[node.index].see(Turn(0, at_us, event, effects, None))
            self._of[node.index].unix_us = WALL_START_MS * 1000  # all have one clock here

    def died(self, at_us: int, node: SimNode) -> None:
        """See `Checker`."""

    def finish(self, at_us: int) -> None:
        """See `Checker`."""


def recorded(folder: Path, yaml: str, *sets: str) -> tuple[Scenario, Record]:
    """A scenario that has run, and the record of it."""
    path = folder / "recorded.yaml"
    path.write_text(yaml, encoding="utf-8")
    scenario = load_scenario(path, ["wire=encoded", *sets])
    scribe = Scribe()
    world = World(scenario, [scribe])
    world.start_users(Recorder(None, world.describe(), scenario.sample_interval_us))
    world.kernel.run(scenario.duration_us)
    return scenario, Record(scribe.lives, [])
