"""Small worlds in which nodes want one file: agents on equal uplinks, one coordinator, a CDN."""

from __future__ import annotations

from pathlib import Path

from edgecoder.trace import Record
from edgecoder_sim.host import SimNode
from tests.sim.told import Told

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


class Crowd(Told):
    """Agents that want one file."""

    def __init__(self, folder: Path, *sets: str) -> None:
        super().__init__(folder, YAML, *sets)

    def times_s(self, kind: type[Record]) -> dict[int, float]:
        """When each node told a kind of record last."""
        return {index: at_us / 1e6 for at_us, index, record in self.records if type(record) is kind}

    @property
    def agents(self) -> list[SimNode]:
        """The nodes that want the file."""
        return [place.sim for place in self.world.agents]
