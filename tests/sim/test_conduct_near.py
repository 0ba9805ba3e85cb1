"""Phones that do not keep to the protocol over radio links: as little comes of it as over access networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecoder.errors import Reason
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder.trace import PieceLost, SenderBanned, TransferEnded
from edgecoder_sim.conduct import Conduct
from tests.sim.air import FILE_BYTES, Air

BAD = [conduct for conduct in Conduct if conduct is not Conduct.HONEST]
PROOF = {Conduct.POISONER, Conduct.WRONG_PROOF}
"""Whose bytes themselves tell on them."""


class Mixed(Air):
    """Eight phones in one place, half of which are of another conduct; some of either half have the file."""

    def __init__(self, folder: Path, conduct: Conduct, *sets: str) -> None:
        half = f"phones.conduct={{honest: 1, {conduct.value}: 1}}"
        super().__init__(folder, "rng_seed=1", "phones.count=8", "duration_s=900", half, *sets)
        honest = [place for place in self.world.phones if place.conduct is Conduct.HONEST]
        self.honest = {place.sim.index for place in honest}
        self.honest_ids = {place.sim.node_id for place in honest}
        digest = self.scenario.catalog[0].sha256
        self.seeders = {place.sim.index for place in honest if digest in place.files}


@pytest.mark.parametrize("wide", [(), ("radio.wifi_direct={}",)], ids=["bluetooth", "wide"])
@pytest.mark.parametrize("conduct", BAD, ids=str)
def test_the_honest_finish_and_ban_no_honest_node(tmp_path: Path, conduct: Conduct, wide: tuple[str, ...]) -> None:
    air = Mixed(tmp_path, conduct, *wide)
    assert 0 < len(air.seeders) < len(air.honest) == 4
    air.run()
    done = {node for _, node, record in air.records if isinstance(record, TransferEnded) and record.reason is None}
    assert air.honest - air.seeders <= done
    bans = [record.peer for _, node, record in air.records if isinstance(record, SenderBanned) and node in air.honest]
    assert not air.honest_ids & set(bans)
    assert bool(bans) is (conduct in PROOF)
    for node in air.honest:
        lost = air.of(PieceLost, node)
        corrupt = [record for record in lost if record.reason is Reason.PIECE_CORRUPT]
        assert len({record.peer for record in corrupt}) == len(corrupt)
        assert all(record.wasted_bytes <= LEAF_BYTES for record in corrupt)
        assert sum(record.wasted_bytes for record in lost) <= 0.1 * FILE_BYTES
