"""A small world in which everything happens: swaps that fail, engines that crash, nodes that restart, frames that come
twice, late or never, users who change their minds. The core must get through it; a core with a fault must not.

`run` builds it and lets it run; `Trouble` is the misfortune, which is the same in every run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final, cast

from edgecoder.core.events import (
    CancelTask,
    EngineFailed,
    FrameReceived,
    LinkDown,
    PowerChanged,
    QueryMesh,
    QueryStatus,
    Started,
    SubmitTask,
    SwapModel,
)
from edgecoder.core.ids import CommandId, LinkId
from edgecoder.core.node import Node
from edgecoder.errors import Reason
from edgecoder.wire.envelope import Envelope, Frame, peek
from edgecoder.wire.messages import NAMES
from edgecoder_sim.checkers import make_checkers
from edgecoder_sim.crypto import crypto
from edgecoder_sim.engine import Engine
from edgecoder_sim.host import SimNode
from edgecoder_sim.network import IpLink
from edgecoder_sim.radio import BleLink
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.scenario_model import Wire
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
  installed: {{qwen2.5-coder-0.5b: 1, qwen2.5-coder-1.5b: 1, qwen2.5-coder-3b: 0.5}}
  active: {{qwen2.5-coder-0.5b: 1, qwen2.5-coder-1.5b: 1}}
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
    - {{name: mind, per_node_per_hour: 60}}
    - {{name: storm, at_s: 40, within_s: 5, share_pct: 60}}
config:
  cluster: {{summary_interval_ms: 4000}}
  phones: {{drain_ms: 2000, load_timeout_ms: 8000, task_queue_max: 1}}
  agents: {{drain_ms: 2000, load_timeout_ms: 8000, task_queue_max: 2}}
"""
_FIRST_COMMAND: Final = 1_000_000
"""Commands of the trouble count from here, far above those of the workload."""


class Sink:
    """Records nothing."""

    def record(self, *_: object) -> None:
        """A trace record."""

    def message(self, *_: object) -> None:
        """A delivery."""

    def command(self, *_: object) -> None:
        """A command."""


def build(*sets: str, rng_seed: int = 1, checkers: bool = True) -> World:
    """The world at its beginning; `sets` change the scenario."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "eventful.yaml"
        path.write_text(SCENARIO, encoding="utf-8")
        scenario = load_scenario(path, sets, rng_seed)
    world = World(scenario, make_checkers(rng_seed, "pytest tests/sim/test_planted_faults.py") if checkers else ())
    world.start_users(cast("TraceSink", Sink()))
    Trouble(world).begin()
    return world


def run(*sets: str, rng_seed: int = 1) -> World:
    """The world at its end. Raises InvariantViolated."""
    world = build(*sets, rng_seed=rng_seed)
    world.kernel.run(world.scenario.duration_us)
    world.watch.finish()
    return world


class Trouble:
    """All that goes wrong."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._commands: CommandId = _FIRST_COMMAND
        self._lives = 0

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
            self.at(second, lambda k=second: self.burst(phones[k % 9]))
            self.at(second + 1, lambda k=second: self.waver(phones[(k + 3) % 9]))
        for second in range(20, DURATION_S - 30, 11):
            self.at(second, lambda k=second: self.crash_engine(phones[(k + 5) % 9]))
        self.at(70, lambda: self.restart(phones[1]))
        self.at(80, lambda: self.restart(agents[2]))
        self.at(90, lambda: self.restart(hubs[0]))
        self.at(60, lambda: self.flicker(phones[6]))
        self.at(55, lambda: self.deafen(agents[0], hubs))
        self.at(55, lambda: self.deafen(agents[1], hubs))
        self.meddle()

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
            task = self.ask(sim, SubmitTask, prompt="why?" * 20, max_tokens=40 + 60 * number, deadline_ms=15_000)
            if number % 2:
                self.later(1.5, lambda task=task: self.ask(sim, CancelTask, task=task))
        for large in range(2):
            task = self.ask(sim, SubmitTask, prompt="why?", min_param_size=7.0, max_tokens=900, deadline_ms=25_000)
            self.later(1 + large, lambda task=task: self.ask(sim, CancelTask, task=task))
        self.ask(sim, QueryStatus)

    def waver(self, sim: SimNode) -> None:
        """Three swaps at once: the one between is superseded."""
        for model in ("qwen2.5-coder-1.5b", "qwen2.5-coder-3b", "qwen2.5-coder-0.5b", "qwen2.5-coder-0.5b"):
            self.ask(sim, SwapModel, model=model)

    def flicker(self, sim: SimNode) -> None:
        """A charge that goes down and up again while nothing comes back from the coordinator."""
        link = _home_link(sim)
        back = link._back if link._first is sim else link._there
        back.loss_pct = 100.0
        for second, percent in ((0.0, 60), (1.5, 50), (3.0, 60), (4.5, 50)):
            self.later(second, lambda percent=percent: sim.post(PowerChanged(percent, on_external_power=False)))
        self.later(10, lambda: setattr(back, "loss_pct", 0.0))

    # -- machines ------------------------------------------------------------------------------------------------------

    def crash_engine(self, sim: SimNode) -> None:
        """The engine loses its model."""
        if sim.engine.loaded is not None:
            sim.engine.crash(Reason.ENGINE_CRASHED)
            sim.post(EngineFailed(Reason.ENGINE_CRASHED))

    def deafen(self, agent: SimNode, hubs: list[SimNode]) -> None:
        """What an agent sends to its coordinator gets lost from now on, though the link stays up."""
        link = _home_link(agent)
        assert link._first is agent
        assert link._there.receiver in hubs
        link._there.loss_pct = 100.0

    def restart(self, sim: SimNode) -> None:
        """End the node's life and begin another with its disk, on new links."""
        kernel, old = self.world.kernel, list(sim.links.values())
        self._lives += 1
        for link in old:
            if isinstance(link, Dead):
                continue
            for end in _ends(cast("IpLink | BleLink", link)):
                end.links[link.id] = Dead(link.id)
                if end is not sim:
                    end.post(LinkDown(link.id))
            self.later(1, lambda link=link: self._reopen(cast("IpLink | BleLink", link)))
        setup, encoded = sim.node.setup, self.world.scenario.wire is Wire.ENCODED
        signer, verifier = crypto(sim.node_id, setup.cluster.network_id, encoded=encoded)
        sim.node = Node(setup, signer, verifier, sim.rng_seed)
        sim.engine = Engine(kernel, sim.device, sim.stream(f"engine.{self._lives}"), sim.post)
        sim._wake_us = -1
        sim._handle(Started(dict(sim.disk), WALL_START_MS + kernel.now // 1000))  # before all that is on its way

    def _reopen(self, link: IpLink | BleLink) -> None:
        number = self.world._next_link()
        if isinstance(link, IpLink):
            there = link._there
            IpLink(number, link.medium, (link._first, there.source), (there.receiver, there.target)).open()
            return
        again = BleLink(number, *link._ends, self.world.scenario.radio, 3.0)
        again.open()

    # -- the ether -----------------------------------------------------------------------------------------------------

    def meddle(self) -> None:
        """Let every 23rd frame come twice, every third summary and every seventh heartbeat late."""
        counts: dict[str, int] = {}

        def spread(sim: SimNode, at_us: int, link: LinkId, frame: Frame, carry: Callable[..., None]) -> None:
            kind = NAMES[type(frame.message)] if isinstance(frame, Envelope) else peek(frame)[0]
            counts[kind] = count = counts.get(kind, 0) + 1
            counts["all"] = counts.get("all", 0) + 1
            late_s = {"summary": 5.0 if count % 3 == 0 else 0.0, "heartbeat": 0.4 if count % 7 == 0 else 0.0}
            carry(at_us + round(late_s.get(kind, 0.0) * SECOND_US))
            if counts["all"] % 23 == 0:
                sim.post_at(at_us + 8 * SECOND_US, FrameReceived(link, frame))

        for sim in self.world.nodes:
            _Meddled.spread[sim] = spread
            sim.__class__ = _Meddled


class _Meddled(SimNode):
    """A node whose frames come as the trouble wants."""

    __slots__ = ()
    spread: ClassVar[dict[SimNode, Callable[..., None]]] = {}

    def deliver_at(self, at_us: int, link: LinkId, frame: Frame, crossing: Any) -> None:
        """See `SimNode`."""

        def carry(when_us: int) -> None:
            SimNode.deliver_at(self, when_us, link, frame, crossing)

        self.spread[self](self, at_us, link, frame, carry)


class Dead:
    """A link that is down."""

    def __init__(self, link: LinkId) -> None:
        self.id = link

    def send(self, *_: object) -> None:
        """Nothing arrives."""


def _ends(link: IpLink | BleLink) -> tuple[SimNode, SimNode]:
    return (link._first, link._there.receiver) if isinstance(link, IpLink) else link._ends


def _home_link(sim: SimNode) -> IpLink:
    (link,) = [link for link in sim.links.values() if isinstance(link, IpLink)]
    return link
