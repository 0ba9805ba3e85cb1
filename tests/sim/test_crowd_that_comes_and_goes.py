"""A flash crowd of which a fifth leaves every minute, and that loses messages; who has been away helps on."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from edgecoder.trace import TransferBegan, TransferEnded
from edgecoder_sim.bounds.churn import Node, finish_s
from edgecoder_sim.host import Disk
from edgecoder_sim.world import WALL_START_MS
from tests.sim.crowd import FILE_BYTES, Crowd

NODES = 24
UPLINK = 4.194304
"""Mbit/s: a piece in two seconds."""
UP_BYTES_PER_S = UPLINK * 125_000
EVERY_S = 12
"""One of 24 leaves so often: a fifth a minute."""
AWAY_S = 10
OVER_BOUND_MAX = 1.35
"""Of which the coordinator takes some: who comes back without a goodbye waits three seconds, in case that somebody else
has its key (`coordinator.clones`)."""


@pytest.mark.parametrize(("rng_seed", "loss_pct"), [(1, 0), (2, 5), (3, 5), (4, 5), (5, 5), (6, 5)])
def test_the_last_is_done_soon_after_the_bound_of_who_is_alive(tmp_path: Path, rng_seed: int, loss_pct: int) -> None:
    sets = [
        f"agents.count={NODES}",
        f"networks.line.up_mbit_per_s={UPLINK}",
        f"cdn.egress_mbit_per_s={UPLINK}",
        f"cdn.per_connection_mbit_per_s={UPLINK}",
        f"rng_seed={rng_seed}",
        f"networks.line.loss_pct={loss_pct}",
    ]
    crowd = Crowd(tmp_path, *sets)
    spans: list[list[float]] = [[0.0] for _ in range(NODES)]
    began_s = 10.0
    for turn in range(10):
        leaves_s = began_s + EVERY_S * (turn + 1)
        number = turn * 5 % NODES
        crowd.run(leaves_s).agents[number].crash()
        crowd.run(leaves_s + AWAY_S)
        crowd.agents[number].restart(WALL_START_MS + int(crowd.world.kernel.now // 1000), Disk.KEPT)
        spans[number] += [leaves_s - began_s, leaves_s + AWAY_S - began_s]
    crowd.run()
    ended = crowd.times_s(TransferEnded)
    stayed = {crowd.agents[number].index for number in range(NODES) if len(spans[number]) == 1}
    assert ended.keys() >= stayed
    last_s = max(ended[index] for index in stayed) - min(crowd.times_s(TransferBegan).values())
    members = [
        Node(
            up_s=tuple(zip(span[::2], [*span[1::2], inf], strict=True)),
            up_bytes_per_s=UP_BYTES_PER_S,
            wants_bytes=FILE_BYTES if len(span) == 1 else 0,
        )
        for span in spans
    ]
    bound_s = finish_s([Node(up_bytes_per_s=UP_BYTES_PER_S, is_holder=True), *members], FILE_BYTES)
    assert bound_s <= last_s <= OVER_BOUND_MAX * bound_s
