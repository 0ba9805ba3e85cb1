"""Networks that lose frames: the core gets through them, and no checker takes what is lawful there for a fault."""

from __future__ import annotations

from collections import Counter

import pytest

from edgecoder.core.effects import Effect, Send
from edgecoder.core.events import Event
from edgecoder.core.ids import LinkId, Role, TaskId
from edgecoder.wire.envelope import Envelope
from edgecoder.wire.messages import ResponseStatus, TaskResponse
from edgecoder_sim.host import SimNode
from edgecoder_sim.world import World
from tests.sim import eventful

ONLY_IP = ("radio.links_max=0", "duration_s=300", "workload.tasks.0.per_node_per_hour=300")
"""Every task that a node cannot do itself goes over a network that loses frames."""


class Gaps:
    """A checker that counts, by role, responses that neither follow the one before nor are the first of an answer."""

    name = "gaps"

    def __init__(self) -> None:
        self.count: Counter[Role] = Counter()
        self._next: dict[tuple[int, LinkId, TaskId], int] = {}

    def died(self, at_us: int, node: SimNode) -> None:
        """See `watch.Checker`."""

    def saw(self, at_us: int, node: SimNode, event: Event, effects: list[Effect]) -> None:  # noqa: ARG002 - a checker's
        """Count what is sent."""
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.frame, Envelope):
                message = effect.frame.message
                if isinstance(message, TaskResponse) and message.status is not ResponseStatus.REFUSED:
                    key = (node.index, effect.link, message.task_id)
                    self.count[node.node.setup.role] += message.index not in (0, self._next.get(key, 0))
                    self._next[key] = message.index + 1

    def finish(self, at_us: int) -> None:
        """Nothing is judged here."""


def lossy(loss_pct: int) -> list[str]:
    """Settings under which Wi-Fi and LAN lose this share of the frames of each side."""
    return [f"networks.{name}.loss_pct={loss_pct}" for name in ("wifi", "lan")]


def watched(world: World) -> Gaps:
    """Count the gaps of a world beside its checkers."""
    gaps = Gaps()
    world.watch.checkers = [*world.watch.checkers, gaps]
    return gaps


@pytest.mark.parametrize("rng_seed", [1, 2, 3])
@pytest.mark.parametrize("loss_pct", [2, 5])
def test_checkers_let_a_lossy_office_pass(loss_pct: int, rng_seed: int) -> None:
    world = eventful.build(*ONLY_IP, *lossy(loss_pct), rng_seed=rng_seed)
    gaps = watched(world)
    eventful.finish(world)
    assert gaps.count[Role.COORDINATOR] > 0
    assert gaps.count[Role.PHONE] == gaps.count[Role.AGENT] == 0


@pytest.mark.parametrize("rng_seed", [1, 2])
@pytest.mark.parametrize("loss_pct", [2, 5])
def test_checkers_let_trouble_on_lossy_links_pass(loss_pct: int, rng_seed: int) -> None:
    """Crashes, restarts and late frames, and frames that are lost besides; radios take part."""
    assert eventful.run(*lossy(loss_pct), rng_seed=rng_seed).events > 5000
