"""What a swap traces of itself."""

from __future__ import annotations

from edgecoder.core.ids import Role
from edgecoder.trace import SwapPhase
from tests.catalogs import LARGE, SMALL
from tests.harness import Cluster


def test_every_phase_names_the_model_before() -> None:
    """Once `announcing` still named the one before the last swap."""
    cluster = Cluster()
    host = cluster.add("host", Role.AGENT, installed=[SMALL, LARGE], active=SMALL)
    cluster.drive()
    for target, before in ((LARGE, SMALL), (SMALL, LARGE)):
        seen = len(host.traced(SwapPhase))
        host.swap(target.model_id)
        cluster.drive()
        phases = host.traced(SwapPhase)[seen:]
        assert phases[0].phase == "announcing"
        assert {record.previous for record in phases} == {before.model_id}
