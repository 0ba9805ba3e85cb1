"""A world that keeps what its nodes tell, to be asked afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from edgecoder.trace import Record
from edgecoder_sim.checkers import make_checkers
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World


class Told:
    """A world, and what its nodes told."""

    def __init__(self, folder: Path, yaml: str, *sets: str) -> None:
        path = folder / "told.yaml"
        path.write_text(yaml, encoding="utf-8")
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

    def run(self, until_s: float | None = None) -> Self:
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
