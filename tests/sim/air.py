"""A few phones within reach of each other and of nothing else, some of which have a file that the others want.

A test says who meets whom and when; without that all stand together from the start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecoder.trace import PieceKept, Record
from edgecoder_sim.checkers import make_checkers
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World

KIB = 1 << 10
FILE_BYTES = 2048 * KIB
PIECES = 32
MODEL = "adapter"
YAML = f"""
name: air
duration_s: 120
catalog:
  - modelId: {MODEL}
    displayName: An adapter
    paramSize: 0.5
    quantization: F16
    fileSizeBytes: {FILE_BYTES}
    sha256: {"5c" * 32}
    pieceRoot: {"a7" * 32}
    minMemoryMb: 512
    platforms: [ios]
networks:
  line: {{latency_ms: 5, up_mbit_per_s: 20, down_mbit_per_s: 20}}
cdn: {{reachable: false}}
radio: {{area_m: [4, 4]}}
phones: {{count: 3, network: line, devices: {{phone_low: 1}}, installed: {{{MODEL}: 0.5}}}}
coordinators: {{count: 0}}
workload:
  pulls: [{{name: adapter, source: phones, at_s: 10, to: {{{MODEL}: 1}}}}]
"""


class Air:
    """A world of phones, and what they told."""

    def __init__(self, folder: Path, *sets: str) -> None:
        path = folder / "air.yaml"
        path.write_text(YAML, encoding="utf-8")
        self.scenario = load_scenario(path, list(sets))
        self.world = World(self.scenario, make_checkers(self.scenario.rng_seed, "air"))
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

    def run(self, until_s: float | None = None) -> Air:
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

    @property
    def holders(self) -> list[int]:
        """The nodes that have the whole file."""
        entry = self.scenario.catalog[0]
        return [place.sim.index for place in self.world.members if place.has(entry)]

    def part(self, first: int, second: int) -> None:
        """Two phones go out of each other's reach."""
        a, b = self.world.nodes[first], self.world.nodes[second]
        self.world.contacts.contact_ends(a, b)

    def meet(self, first: int, second: int) -> None:
        """They come into it."""
        a, b = self.world.nodes[first], self.world.nodes[second]
        self.world.contacts.contact_begins(a, b, 2.0)

    def came(self, node: int) -> int:
        """Bytes of pieces that a node has kept."""
        return sum(record.size_bytes for record in self.of(PieceKept, node))
