"""Nodes that crash and come back in a simulated world: what is void, what is kept, what the others see."""

from __future__ import annotations

import pytest

from edgecoder.core.effects import Effect, Persist
from edgecoder.core.events import Event, LinkDown, LinkUp, Persisted, SubmitTask, SwapModel
from edgecoder.core.ids import Medium
from edgecoder.core.node import EPOCH_KEY
from edgecoder.mesh.member import Member
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.swap import KEY as SWAP_KEY
from edgecoder.trace import LifeEnded, NodeReady, Record
from edgecoder_sim.host import Disk, SimNode
from edgecoder_sim.world import WALL_START_MS, World
from tests.sim import eventful

SECOND = 1_000_000
QUIET = ("workload.tasks=[]", "workload.swaps=[]", "devices.phone_mid.load_failure_pct=0")


class Log:
    """A checker that keeps what reaches one node, and every record."""

    name = "log"

    def __init__(self, index: int) -> None:
        self._index = index
        self.events: list[tuple[int, Event]] = []

    def saw(self, at_us: int, node: SimNode, event: Event, _: list[Effect]) -> None:
        """See `watch.Checker`."""
        if node.index == self._index:
            self.events.append((at_us, event))

    def died(self, at_us: int, node: SimNode) -> None:
        """See `watch.Checker`."""

    def finish(self, at_us: int) -> None:
        """See `watch.Checker`."""


def quiet(*sets: str) -> World:
    """A world in which nobody asks for anything, ten seconds old."""
    world = eventful.build(*QUIET, *sets)
    world.kernel.run(10 * SECOND)
    return world


def watch(world: World, sim: SimNode) -> Log:
    """Log a node from now on."""
    log = Log(sim.index)
    world.watch.checkers = [*world.watch.checkers, log]
    return log


def run_for(world: World, seconds: float) -> None:
    """Let time pass."""
    world.kernel.run(world.kernel.now + round(seconds * SECOND))


def wall_ms(world: World) -> int:
    """What a right clock shows."""
    return WALL_START_MS + world.kernel.now // 1000


def member(sim: SimNode) -> Member:
    """The machines of a phone."""
    part = sim.node.part
    assert isinstance(part, Member)
    return part


def test_a_node_that_is_down_hears_and_says_nothing() -> None:
    world = quiet()
    sim = world.phones[0].sim
    log = watch(world, sim)
    sim.crash()
    before = sim.events
    sim.post(SwapModel(1, "qwen2.5-coder-0.5b"))
    run_for(world, 60)
    assert (sim.events, log.events) == (before, [])
    world.watch.finish()


def test_a_node_comes_back_with_its_disk_and_its_links() -> None:
    world = quiet()
    sim, hub = world.phones[0].sim, world.coordinators[0]
    active, links = member(sim).swap.active, len(sim.links)
    assert active is not None
    sim.crash(told_us=0)
    run_for(world, 5)
    assert not any(link for link in hub.links.values() if link.first is sim)
    sim.restart(wall_ms(world))
    run_for(world, 20)
    assert member(sim).swap.serving is active
    assert len(sim.links) == links
    assert member(sim).heartbeat.is_online
    run_for(world, 60)
    world.watch.finish()


def test_what_was_under_way_is_void() -> None:
    world = quiet()
    sim = world.phones[0].sim
    active = member(sim).swap.active
    assert active is not None
    target = "qwen2.5-coder-0.5b" if active.model_id != "qwen2.5-coder-0.5b" else "qwen2.5-coder-1.5b"
    sim.post(SwapModel(1, target))
    run_for(world, 0.2)
    assert not member(sim).swap.is_settled, "a load is under way"
    log = watch(world, sim)
    sim.crash()
    run_for(world, 1)
    sim.restart(wall_ms(world))
    run_for(world, 40)
    epochs = {event.op >> 32 for _, event in log.events if isinstance(event, Persisted)}
    assert epochs == {sim.node.context.epoch}, "completions of the earlier life do not come"
    assert member(sim).swap.serving is active
    world.watch.finish()


@pytest.mark.parametrize(("silent", "least_s", "most_s"), [(False, 0, 0.1), (True, 5, 21)])
def test_peers_notice_a_death_at_once_or_by_its_silence(silent: bool, least_s: float, most_s: float) -> None:
    world = quiet()
    sim = world.phones[0].sim
    peers = [link.second if link.first is sim else link.first for link in sim.links.values()]
    logs = [watch(world, peer) for peer in peers]
    sim.crash(told_us=None if silent else 0)
    run_for(world, 30)
    for log in logs:
        (at_us,) = [at_us for at_us, event in log.events if isinstance(event, LinkDown)]
        assert 10 + least_s <= at_us / SECOND <= 10 + most_s


def test_two_that_were_down_together_find_each_other() -> None:
    world = quiet()
    hub, sim = world.coordinators[0], world.phones[0].sim
    hub.crash()
    sim.crash()
    run_for(world, 30)
    hub.restart(wall_ms(world))
    run_for(world, 30)
    log = watch(world, sim)
    sim.restart(wall_ms(world))
    run_for(world, 10)
    ups = [event.link for _, event in log.events if isinstance(event, LinkUp) and event.medium is Medium.LAN]
    assert sorted(ups) == sorted(link.id for link in sim.links.values() if link.medium is Medium.LAN)
    assert any(link.first is hub or link.second is hub for link in sim.links.values())


def test_a_lost_disk_is_empty_and_its_epoch_new() -> None:
    world = quiet()
    sim = world.phones[0].sim
    before = sim.node.context.epoch
    sim.crash()
    run_for(world, 2)
    sim.restart(wall_ms(world), Disk.LOST)
    run_for(world, 10)
    assert member(sim).swap.active is None
    assert set(sim.disk) <= {EPOCH_KEY, SWAP_KEY, INVENTORY_KEY}
    assert sim.node.context.epoch > before


def test_an_old_copy_under_a_clock_that_went_back_heals() -> None:
    world = quiet()
    sim, hub = world.phones[0].sim, world.coordinators[0]
    sim.back_up()
    for _ in range(3):
        sim.crash(told_us=0)
        run_for(world, 2)
        sim.restart(wall_ms(world))
        run_for(world, 10)
    newest = sim.node.context.epoch
    sim.crash(told_us=0)
    run_for(world, 2)
    sim.restart(WALL_START_MS - 3_600_000, Disk.OLD_COPY)
    assert sim.node.context.epoch < newest
    run_for(world, 20)
    assert sim.node.context.epoch > newest
    assert member(sim).heartbeat.is_online
    assert hub.node.gate.links
    run_for(world, 60)
    world.watch.finish()


def test_an_old_copy_has_to_be_made() -> None:
    world = quiet()
    sim = world.phones[0].sim
    sim.crash()
    run_for(world, 1)
    with pytest.raises(ValueError, match="has no copy of its disk"):
        sim.restart(wall_ms(world), Disk.OLD_COPY)


def test_of_writes_under_way_the_first_ones_are_on_the_disk() -> None:
    """Over many crashes all prefixes come up, and nothing else: what was written later never without the earlier."""
    seen = set()
    for lives in range(12):
        world = quiet()
        sim = world.phones[0].sim
        sim.life += 100 * lives  # draws of its own
        for number in range(3):
            sim.node.context.out = []
            sim.node.context.persist(f"k{number}", b"new")
            (effect,) = sim.node.context.out
            assert isinstance(effect, Persist)
            sim._persist(effect)
        sim.crash()
        seen.add("".join(str(number) for number in range(3) if f"k{number}" in sim.disk))
    assert seen == {"", "0", "01", "012"}


def test_observers_learn_of_the_end_of_a_life() -> None:
    world = quiet()
    records: list[tuple[int, Record]] = []

    class Sink(eventful.Sink):
        def record(self, *what: object) -> None:
            records.append((what[1], what[2]))  # type: ignore[arg-type]

    world.watch.sink = Sink()
    sim = world.phones[0].sim
    sim.post(SubmitTask(1, "why?", deadline_ms=50_000))
    run_for(world, 0.1)
    sim.crash()
    run_for(world, 2)
    sim.restart(wall_ms(world))
    run_for(world, 2)
    mine = [type(record) for index, record in records if index == sim.index]
    assert mine.index(LifeEnded) < mine.index(NodeReady)
