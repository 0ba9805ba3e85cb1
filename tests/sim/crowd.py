"""Small worlds in which nodes want one file: agents on equal uplinks, one coordinator, a CDN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecoder.trace import Record
from edgecoder_sim.checkers import make_checkers
from edgecoder_sim.host import SimNode
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World

MIB = 1 << 20
PIECES = 64
FILE_BYTES = PIECES * MIB
UPLINK = 16.777216
"""Mbit/s: a piece in half a second."""
MODEL = "release"
YAML = f"""
name: crowd
duration_s: 300
catalog:
  - modelId: {MODEL}
    displayName: A release
    paramSize: 1
    quantization: Q4
    fileSizeBytes: {FILE_BYTES}
    sha256: {"5c" * 32}
    pieceRoot: {"a7" * 32}
    pieceSizeBytes: {MIB}
    minMemoryMb: 512
    platforms: [node]
networks:
  line: {{latency_ms: 5, up_mbit_per_s: {UPLINK}, down_mbit_per_s: 200}}
cdn: {{egress_mbit_per_s: {UPLINK}, per_connection_mbit_per_s: {UPLINK}}}
radio: {{links_max: 0}}
agents: {{count: 12, network: line, devices: {{laptop: 1}}}}
coordinators: {{count: 1, device: server, network: lan}}
workload:
  pulls: [{{name: release, source: agents, at_s: 10}}]
"""


class Crowd:
    """A world, and what its nodes told."""

    def __init__(self, folder: Path, *sets: str) -> None:
        path = folder / "crowd.yaml"
        path.write_text(YAML, encoding="utf-8")
        self.scenario = load_scenario(path, list(sets))
        self.world = World(
            self.scenario, make_checkers(self.scenario.rng_seed, "pytest tests/sim/test_planted_faults.py")
        )
        self.records: list[tuple[int, int, Record]] = []
        self._recorder = Recorder(None, self.world.describe(), self.scenario.sample_interval_us)
        self.world.start_users(self)
        self.figures: dict[str, Any] = {}

    def record(self, at_us: int, node: int, record: Record) -> None:
        """Keep it."""
        self.records.append((at_us, node, record))
        self._recorder.record(at_us, node, record)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recorder, name)

    def run(self, until_s: float | None = None) -> Crowd:
        """Go on, to the end where no time is given."""
        until_us = self.scenario.duration_us if until_s is None else round(until_s * 1e6)
        self.world.kernel.run(until_us)
        if until_s is None:
            self.world.watch.finish()
            self.figures = self._recorder.close(until_us)
        return self

    def of(self, kind: type[Record], node: int | None = None) -> list[Any]:
        """The records of one kind, of one node or of all."""
        return [record for _, index, record in self.records if type(record) is kind and node in (None, index)]

    def times_s(self, kind: type[Record]) -> dict[int, float]:
        """When each node told a kind of record last."""
        return {index: at_us / 1e6 for at_us, index, record in self.records if type(record) is kind}

    @property
    def agents(self) -> list[SimNode]:
        """The nodes that want the file."""
        return [place.sim for place in self.world.agents]
