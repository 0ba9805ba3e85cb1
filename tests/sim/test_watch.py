"""The trace digest: whatever differs in a frame that was delivered differs in it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Message, Release
from edgecoder_sim.crypto import ReferenceSigner, node_id
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.watch import Watch
from edgecoder_sim.world import World
from tests.sim.eventful import build

ANN = node_id("ann")
HEADER = Header("edgecoder", ANN, 7, 3, 60_000)
MESSAGE = Release(task_id=bytes(16))


@pytest.fixture(scope="module")
def world() -> World:
    """Whose nodes stand at both ends."""
    return build()


def digest(world: World, header: Header = HEADER, message: Message = MESSAGE, **change: Any) -> str:
    """The digest over one delivery."""
    first, second, *_ = world.nodes
    watch = Watch(Kernel(), (), rng_seed=1, reproduce="")
    frame = msgspec.structs.replace(ReferenceSigner(header.sender).seal(header, message), **change)
    watch.delivered(first, second, "lan", frame, frame.size_bytes)
    return watch.digest.hexdigest()


@pytest.mark.parametrize("change", [{"epoch": 8}, {"seq": 4}, {"ttl_ms": 60_001}, {"sender": node_id("bob")}])
def test_the_digest_covers_the_header(change: dict[str, Any], world: World) -> None:
    assert digest(world) == digest(world)
    assert digest(world, msgspec.structs.replace(HEADER, **change)) != digest(world)


def test_the_digest_covers_the_body(world: World) -> None:
    assert digest(world, message=Release(task_id=bytes(15) + b"1")) != digest(world)
