"""A small world in which everything happens: swaps that fail, engines that crash, nodes that restart, frames that come
twice, late or never, users who change their minds. The core must get through it; a core with a fault must not.

`run` builds it and lets it run; `Trouble` is the misfortune, which is the same in every run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, cast

from edgecoder.core.events import (
    CancelTask,
    EngineFailed,
    FrameReceived,
    PowerChanged,
    QueryMesh,
    QueryStatus,
    RemoveModel,
    SubmitTask,
    SwapModel,
)
from edgecoder.core.ids import CommandId, LinkId, Medium
from edgecoder.errors import Reason
from edgecoder.wire.envelope import Envelope, Frame, peek
from edgecoder.wire.messages import NAMES
from edgecoder_sim.checkers import make_checkers
from edgecoder_sim.host import SimNode
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.watch import TraceSink
from edgecoder_sim.world import WALL_START_MS, World

SECOND_US: Final = 1_000_000
DURATION_S: Final = 150
SCENARIO: Final = f"""\
name: eventful
duration_s: {DURATION_S}
catalog: qwen2.5-coder
devices:
  phone_mid: {{load_failure_pct: 20, load_cold_gb_per_s: 4}}
  laptop: {{load_failure_pct: 10}}
radio: {{area_m: [10, 10], links_max: 4}}
phones:
  count: 9
  network: wifi
  devices: {{phone_mid: 1}}
  installed: {{qwen2.5-coder-0.5b: 1, qwen2.5-coder-1.5b: 0.7, qwen2.5-coder-3b: 0.5}}
  active: {{qwen2.5-coder-1.5b: 1}}  # who has it not starts without a model
agents:
  count: 5
  network: lan
  devices: {{laptop: 0.5, workstation: 0.5}}
  installed: {{"qwen2.5-coder:1.5b": 1, "qwen2.5-coder:7b": 1}}
  active: {{"qwen2.5-coder:7b": 1}}
coordinators: {{count: 2, device: server, network: lan, federation_network: wan}}
workload:
  tasks:
    - name: chat
      per_node_per_hour: 150
      prompt_bytes: {{mean: 500, max: 4000}}
      output_tokens: {{mean: 80, max: 400}}
      min_param_size: {{0: 0.6, 1.5: 0.2, 7: 0.2}}
      deadline_s: 20
    - name: note
      per_node_per_hour: 20
      prompt_bytes: {{mean: 200, max: 1000}}
      output_tokens: {{mean: 30, max: 60}}
      deadline_s: 8
      stream: false
  swaps:
    - {{name: mind, source: phones, per_node_per_hour: 80}}
    - {{name: storm, source: phones, at_s: 40, within_s: 5, share_pct: 60}}
config:
  cluster: {{heartbeat_interval_ms: 5000, agent_alive_ms: 16000, summary_interval_ms: 4000}}
  phones: {{drain_ms: 2000, load_timeout_ms: 8000, task_queue_max: 2, hedge_samples_min: 2, hedge_ms_min: 50}}
  agents: {{drain_ms: 2000, load_timeout_ms: 8000, task_queue_max: 2}}
"""
_FIRST_COMMAND: Final = 1_000_000
"""Commands of the trouble count from here, far above those of the world."""
_LATE: Final = {"summary": (3, 5 * SECOND_US), "heartbeat": (7, 1_300_000)}
"""Which of these messages comes late, and by how much."""


_ALONE: Final = (
    "phones.count=1",
    "phones.installed={qwen2.5-coder-0.5b: 1, qwen2.5-coder-1.5b: 1, qwen2.5-coder-3b: 0.5}",
    "agents.count=0",
    "coordinators.count=0",
    "workload.tasks=[]",
    "workload.swaps=[]",
    "devices.phone_mid.load_failure_pct=0",
    "config.phones.task_queue_max=8",
)


_SCANNING: Final = (
    "agents.count=0",
    "coordinators.count=0",
    "radio.scanning=true",
    "radio.links_max=2",
    (
        "workload.tasks=[{name: chat, per_node_per_hour: 60, prompt_bytes: {mean: 500, max: 4000},"
        " output_tokens: {mean: 80, max: 400}, deadline_s: 20}]"
    ),
    "workload.swaps=[{name: mind, source: phones, per_node_per_hour: 30}]",
)


class Sink:
    """Records nothing."""

    def record(self, *_: object) -> None:
        """A trace record."""

    def message(self, *_: object) -> None:
        """A delivery."""

    def command(self, *_: object) -> None:
        """A command."""


def build(*sets: str, rng_seed: int = 1) -> World:
    """The world of `SCENARIO` at its beginning, with checkers; `sets` change the scenario."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "eventful.yaml"
        path.write_text(SCENARIO, encoding="utf-8")
        scenario = load_scenario(path, sets, rng_seed)
    reproduce = "pytest tests/sim/test_planted_faults.py"
    world = World(scenario, make_checkers(rng_seed, reproduce), reproduce)
    world.start_users(cast("TraceSink", Sink()))
    return world


def finish(world: World) -> World:
    """Let a world run to its end. Raises InvariantViolated."""
    world.kernel.run(world.scenario.duration_us)
    world.watch.finish()
    return world


def run(*sets: str, rng_seed: int = 1) -> World:
    """The eventful world at its end. Raises InvariantViolated."""
    world = build(*sets, rng_seed=rng_seed)
    Trouble(world).begin()
    return finish(world)


def run_alone(*sets: str, rng_seed: int = 1) -> World:
    """A phone without anybody, that has tasks waiting when its engine crashes, twice."""
    world = build(*_ALONE, *sets, rng_seed=rng_seed)
    trouble, phone = Trouble(world), world.phones[0].sim
    for second in (20, 40):
        trouble.at(second, lambda: trouble.burst(phone))
        trouble.at(second + 0.5, lambda: trouble.crash_engine(phone))
    return finish(world)


def run_scanning(*sets: str, rng_seed: int = 1) -> World:
    """Phones whose radios scan, and nobody else: they swap, ask each other, and one of them dies for a while."""
    world = build(*_SCANNING, *sets, rng_seed=rng_seed)
    trouble = Trouble(world)
    trouble.at(70, lambda: trouble.restart(world.phones[1].sim))
    return finish(world)


class Trouble:
    """All that goes wrong."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._commands: CommandId = _FIRST_COMMAND
        self._frames = 0
        self._counts: dict[str, int] = {}
        self._mute: set[int] = set()
        """Nodes of which nothing arrives over IP, though their links are up."""
        self._deaf: set[int] = set()
        """Nodes at which nothing arrives over IP."""

    def begin(self) -> None:
        """Schedule it."""
        phones, agents, hubs = (
            [place.sim for place in self.world.phones],
            [place.sim for place in self.world.agents],
            self.world.coordinators,
        )
        for second in range(5, DURATION_S - 20, 5):
            self.at(second, lambda: [self.ask(hub, QueryMesh) for hub in hubs])
        for second in range(10, DURATION_S - 30, 7):
            self.at(second, partial(self.burst, phones[second % 9]))
            self.at(second + 1, partial(self.waver, phones[(second + 3) % 9]))
        for second in range(20, DURATION_S - 30, 11):
            self.at(second, partial(self.crash_engine, phones[(second + 5) % 9]))
        for second in range(25, DURATION_S - 30, 13):
            self.at(second, partial(self.swap_back_and_forth, agents[1 + second % 2]))
        for second in range(15, DURATION_S - 30, 9):
            self.at(second, partial(self.tidy_up, phones[second % 9]))
        self.at(70, lambda: self.restart(phones[1]))
        self.at(80, lambda: self.restart(agents[2]))
        self.at(90, lambda: self.restart(hubs[0]))
        self.at(60, lambda: self.flicker(phones[6]))
        for sim in (phones[0], agents[4]):
            self.at(50, partial(self.wish_the_impossible, sim))
        self.at(55, lambda: self._mute.update((agents[0].index, agents[3].index)))
        _Meddled.trouble.clear()  # one eventful world runs at a time, and the last one can go
        for sim in self.world.nodes:
            _Meddled.trouble[sim] = self
            sim.__class__ = _Meddled

    def at(self, second: float, action: Callable[[], object]) -> None:
        """Do something at a time."""
        self.world.kernel.call_at(round(second * SECOND_US), lambda _, __: action())

    def later(self, delay_s: float, action: Callable[[], object]) -> None:
        """Do something in a while."""
        self.at(self.world.kernel.now / SECOND_US + delay_s, action)

    def ask(self, sim: SimNode, kind: Callable[..., Any], **fields: Any) -> CommandId:
        """Give a node a command."""
        self._commands += 1
        sim.post(kind(self._commands, **fields))
        return self._commands

    # -- users ---------------------------------------------------------------------------------------------------------

    def burst(self, sim: SimNode) -> None:
        """More tasks at once than the queue holds; the user takes some of them back."""
        for number in range(5):
            tokens = 40 + 60 * number
            task = self.ask(sim, SubmitTask, prompt="why?" * 20, max_tokens=tokens, deadline_ms=15_000)
            if number % 2:
                self.later(1.5, partial(self.ask, sim, CancelTask, task=task))
        for large in range(2):
            task = self.ask(sim, SubmitTask, prompt="why?", min_param_size=7.0, max_tokens=900, deadline_ms=25_000)
            self.later(1 + large, partial(self.ask, sim, CancelTask, task=task))
        self.ask(sim, QueryStatus)

    def wish_the_impossible(self, sim: SimNode) -> None:
        """A task that no model here is large enough for waits until its deadline."""
        self.ask(sim, SubmitTask, prompt="why?", min_param_size=400.0, deadline_ms=10_000)

    def waver(self, sim: SimNode) -> None:
        """Three swaps at once: the one between is superseded."""
        for model in ("qwen2.5-coder-1.5b", "qwen2.5-coder-3b", "qwen2.5-coder-0.5b", "qwen2.5-coder-0.5b"):
            self.ask(sim, SwapModel, model=model)

    def swap_back_and_forth(self, sim: SimNode) -> None:
        """To a small model, and back to the large one soon after."""
        self.ask(sim, SwapModel, model="qwen2.5-coder:1.5b")
        self.later(6, lambda: self.ask(sim, SwapModel, model="qwen2.5-coder:7b"))

    def tidy_up(self, sim: SimNode) -> None:
        """Remove whatever model is here, and fetch one of them again."""
        for model in ("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "qwen2.5-coder-3b"):
            self.ask(sim, RemoveModel, model=model)
        self.later(0.05, lambda: self.ask(sim, SwapModel, model="qwen2.5-coder-0.5b", pull=True))
        self.later(1, lambda: self.ask(sim, RemoveModel, model="qwen2.5-coder-0.5b"))

    def flicker(self, sim: SimNode) -> None:
        """A charge that goes down and back again while nothing comes from the coordinator."""
        for second, percent in ((0, 60), (5, 50), (7, 60), (9, 50), (11, 60)):
            self.later(second, partial(sim.post, PowerChanged(percent, on_external_power=False)))
        self.later(4, lambda: self._deaf.add(sim.index))
        self.later(14, lambda: self._deaf.discard(sim.index))

    # -- machines ------------------------------------------------------------------------------------------------------

    def crash_engine(self, sim: SimNode) -> None:
        """The engine loses its model."""
        if sim.engine.loaded is not None:
            sim.engine.crash(Reason.ENGINE_CRASHED)
            sim.post(EngineFailed(Reason.ENGINE_CRASHED))

    def restart(self, sim: SimNode) -> None:
        """End the node's life and begin another with its disk; its links come back as new ones."""
        sim.crash(told_us=0)
        self.later(0.5, lambda: sim.restart(WALL_START_MS + self.world.kernel.now // 1000))

    # -- the ether -----------------------------------------------------------------------------------------------------

    def spread(self, sim: SimNode, at_us: int, link: LinkId, frame: Frame, crossing: Any) -> None:
        """Every 23rd frame comes twice, every third summary and every seventh heartbeat late; some do not come."""
        sender, medium, _ = crossing
        if medium == Medium.LAN.value and (sender.index in self._mute or sim.index in self._deaf):
            return
        kind = NAMES[type(frame.message)] if isinstance(frame, Envelope) else peek(frame)[0]
        self._frames += 1
        self._counts[kind] = count = self._counts.get(kind, 0) + 1
        nth, late_us = _LATE.get(kind, (1, 0))
        SimNode.deliver_at(sim, at_us if count % nth else at_us + late_us, link, frame, crossing)
        if self._frames % 23 == 0:
            sim.post_at(at_us + 8 * SECOND_US, FrameReceived(link, frame))


class _Meddled(SimNode):
    """A node whose frames come as its trouble wants."""

    __slots__ = ()
    trouble: ClassVar[dict[SimNode, Trouble]] = {}

    def deliver_at(self, at_us: int, link: LinkId, frame: Frame, crossing: Any) -> None:
        """See `SimNode`."""
        self.trouble[self].spread(self, at_us, link, frame, crossing)
