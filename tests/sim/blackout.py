"""A small blackout: a room of phones loses its coordinators for a minute and goes on over Bluetooth, while frames get
lost and nodes restart. What they owe each other has to be in a ledger in the end.

`run` builds it and lets it run, with the rules of a calm end.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final, cast

from edgecoder.core.events import QueryLedger
from edgecoder_sim.checkers import make_checkers
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.watch import TraceSink
from edgecoder_sim.world import World
from tests.sim.eventful import Sink, finish

SECOND_US: Final = 1_000_000
SCENARIO: Final = """\
name: small_blackout
duration_s: 220
catalog: qwen2.5-coder
radio: {area_m: [6, 6]}
phones:
  count: 6
  network: wifi
  devices: {phone_mid: 1}
  installed: {qwen2.5-coder-0.5b: 1, qwen2.5-coder-1.5b: 0.5}
  active: {qwen2.5-coder-0.5b: 0.5, qwen2.5-coder-1.5b: 0.5}
coordinators: {count: 2, device: server, network: lan, federation_network: wan}
workload:
  until_s: 120
  tasks:
    - name: chat
      per_node_per_hour: 400
      prompt_bytes: {mean: 200, max: 1000}
      output_tokens: {mean: 30, max: 100}
      min_param_size: {0: 0.5, 1.5: 0.5}
      deadline_s: 20
config:
  cluster: {heartbeat_interval_ms: 5000, agent_alive_ms: 16000, summary_interval_ms: 10000}
  phones: {receipt_retry_ms: 1000}
faults:
  plan:
    - {kind: partition, at_s: 10, for_s: 80, nodes: [coordinators]}
    - {kind: loss, at_s: 40, for_s: 100, nodes: [phones], media: [ble], share_pct: 20}
    - {kind: crash, at_s: 70, for_s: 3, nodes: [phone-0, phone-1, phone-2]}
    - {kind: loss, at_s: 90, for_s: 12, nodes: [coordinators], direction: out, share_pct: 60}
    - {kind: crash, at_s: 112, for_s: 4, nodes: [coordinators]}
    - {kind: crash, at_s: 125, for_s: 4, nodes: [phone-3, phone-4, phone-5]}
"""
_FIRST_COMMAND: Final = 1_000_000
"""Commands of this file count from here, far above those of the world."""


def run(*sets: str, rng_seed: int = 1) -> World:
    """The blackout at its end; coordinators are asked for their totals as it goes. Raises InvariantViolated."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blackout.yaml"
        path.write_text(SCENARIO, encoding="utf-8")
        scenario = load_scenario(path, sets, rng_seed)
    world = World(scenario, make_checkers(rng_seed, "pytest tests/sim/test_planted_faults.py", ends_well=True))
    world.start_users(cast("TraceSink", Sink()))

    def ask(second: int, _: object) -> None:
        for number, hub in enumerate(world.coordinators):
            hub.post(QueryLedger(_FIRST_COMMAND + 2 * second + number))

    for second in range(95, 200, 5):
        world.kernel.call_at(second * SECOND_US, ask, second)
    return finish(world)
