"""The scenarios of bad peers, made small: the honest finish near the bound, blame and waste are where they belong.

The full ones are `benchmarks/byzantine.py`'s.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder.trace import PieceLost, SenderBanned, TransferBegan, TransferEnded
from edgecoder_sim.bounds.closed import Peer, fluid_s
from edgecoder_sim.conduct import Conduct
from tests.sim.told import Told

SCENARIOS = Path(__file__).parents[2] / "scenarios"
UP, DOWN = 20 * 125_000, 200 * 125_000
SIZE = 64 << 20


class Small(Told):
    """One of the scenarios with 24 nodes and a file of 64 MiB."""

    def __init__(self, folder: Path, name: str) -> None:
        sets = ("agents.count=24", "duration_s=300", f"catalog[0].fileSizeBytes={SIZE}")
        super().__init__(folder, (SCENARIOS / f"{name}.yaml").read_text(encoding="utf-8"), *sets)
        honest = [place.sim for place in self.world.agents if place.conduct is Conduct.HONEST]
        self.honest = {sim.index for sim in honest}
        self.honest_ids = {sim.node_id for sim in honest}

    def last_s(self) -> float:
        """From the first wish to the last finish of the honest; all of them must be done."""
        ended = {
            node: at_us
            for at_us, node, record in self.records
            if isinstance(record, TransferEnded) and record.reason is None and node in self.honest
        }
        assert ended.keys() == self.honest
        began = min(at_us for at_us, _, record in self.records if isinstance(record, TransferBegan))
        return (max(ended.values()) - began) / 1e6

    def bound_s(self) -> float:
        """The fluid bound of the honest, if only they gave."""
        return fluid_s(SIZE, UP, [Peer(UP, DOWN)] * len(self.honest))


@pytest.mark.parametrize(("name", "honest", "most"), [("poisoners", 12, 2.5), ("free_riders", 18, 1.7)])
def test_the_honest_are_done_and_blame_no_honest_node(tmp_path: Path, name: str, honest: int, most: float) -> None:
    crowd = Small(tmp_path, name).run()
    assert len(crowd.honest) == honest
    assert 1 <= crowd.last_s() / crowd.bound_s() <= most
    bans = [(node, record.peer) for _, node, record in crowd.records if isinstance(record, SenderBanned)]
    assert not {peer for node, peer in bans if node in crowd.honest} & crowd.honest_ids
    assert bool(bans) is (name == "poisoners")


def test_a_poisoner_costs_each_node_a_leaf(tmp_path: Path) -> None:
    crowd = Small(tmp_path, "poisoners").run()
    bad = 24 - len(crowd.honest)
    for node in crowd.honest:
        assert sum(record.wasted_bytes for record in crowd.of(PieceLost, node)) <= bad * LEAF_BYTES


def test_free_riders_waste_nothing(tmp_path: Path) -> None:
    assert Small(tmp_path, "free_riders").run().figures["transfer_wasted_bytes"] == 0
