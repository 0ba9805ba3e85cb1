"""Faults of a scenario: drawn from the seed, carried out when they are due, and written down."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from edgecoder.core.effects import Persist
from edgecoder.core.events import PullModel, SwapModel
from edgecoder.core.ids import Medium
from edgecoder.core.rng import Stream
from edgecoder.errors import Reason
from edgecoder.mesh.member import Member
from edgecoder.models.inventory import DownloadState
from edgecoder_sim.faults.draw import node_names, resolve
from edgecoder_sim.faults.model import MOMENTARY, Direction, Fault, FaultKind
from edgecoder_sim.faults.nodes import Ether, FaultyNode, Meddling
from edgecoder_sim.host import SimNode
from edgecoder_sim.results import Run
from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.scenario_model import Scenario
from edgecoder_sim.world import WALL_START_MS, World
from tests.sim import eventful

SECOND = 1_000_000
ROOT = Path(__file__).parents[2]
QUIET = ("workload.tasks=[]", "workload.swaps=[]", "devices.phone_mid.load_failure_pct=0")


def quiet(*faults: str, until_s: float = 10) -> World:
    """A world in which nobody asks for anything, under these faults."""
    plan = ", ".join(f"{{{fault}}}" for fault in faults)
    world = eventful.build(*QUIET, f"faults={{plan: [{plan}]}}")
    world.kernel.run(round(until_s * SECOND))
    return world


def run_until(world: World, second: float) -> None:
    """Let time pass."""
    world.kernel.run(round(second * SECOND))


def member(sim: SimNode) -> Member:
    """The machines of a node that runs models."""
    part = sim.node.part
    assert isinstance(part, Member)
    return part


# -- what is drawn -----------------------------------------------------------------------------------------------------


def drawn(rng_seed: int, *sets: str) -> Scenario:
    """The random faults of a seed."""
    return resolve(load_scenario("random_faults", sets, rng_seed))


def test_a_seed_is_a_schedule() -> None:
    assert drawn(5) == drawn(5)
    assert len({drawn(seed).faults.plan for seed in range(20)}) == 20
    told = "from tests.sim.test_faults import drawn; print(drawn(5).faults)"
    seen = {
        subprocess.run(
            [sys.executable, "-c", told],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(seen) == 1


def test_random_faults_keep_their_bounds() -> None:
    kinds = set()
    for seed in range(60):
        scenario = drawn(seed, "faults.random.count=[2, 4]", "faults.random.from_s=9", "faults.random.longest_s=7")
        plan = scenario.faults.plan
        assert scenario.faults.random is None
        assert 2 <= len(plan) <= 8, "a crash may bring a jump of the clock along"
        known = {name for names in node_names(scenario).values() for name in names}
        for fault in plan:
            kinds.add(fault.kind)
            assert set(fault.nodes) <= known
            assert fault.at_s >= 9
            assert fault.at_s + (fault.for_s or 0) <= 70 + 1e-9
            assert (fault.for_s is None) is (fault.kind in MOMENTARY)
            assert fault.for_s is None or fault.for_s <= 7
    assert kinds == set(FaultKind)


@pytest.mark.parametrize(("longest_s", "until_s"), [(30, 11), (0.1, 70), (30, 10.1)])
def test_every_drawn_fault_is_over_in_time(longest_s: float, until_s: float) -> None:
    knobs = f"faults.random={{from_s: 10, until_s: {until_s}, longest_s: {longest_s}, count: [8, 8]}}"
    for seed in range(40):
        for fault in drawn(seed, knobs).faults.plan:
            assert fault.at_s >= 10
            assert fault.at_s + (fault.for_s or 0) <= until_s + 1e-9
            assert fault.for_s is None or 0.1 <= fault.for_s <= longest_s


def test_a_name_that_is_given_is_nobody_elses() -> None:
    first = "{kind: loss, share_pct: 100, at_s: 11, for_s: 3, name: loss-1, nodes: [phone-0]}"
    second = "{kind: loss, share_pct: 100, at_s: 12, for_s: 1, nodes: [phone-1]}"
    plan = drawn(1, f"faults={{plan: [{first}, {second}]}}").faults.plan
    assert [fault.name for fault in plan] == ["loss-1", "loss-2"]
    world = quiet(first[1:-1], second[1:-1], until_s=15)
    assert world._ether.meddlings == [], "both are over"


def test_only_the_kinds_that_are_wanted_come() -> None:
    plan = drawn(3, "faults.random.kinds={loss: 1, delay: 2}").faults.plan
    assert {fault.kind for fault in plan} <= {FaultKind.LOSS, FaultKind.DELAY}


def test_faults_random_is_short_for_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(eventful.SCENARIO + "faults: random\n", encoding="utf-8")
    scenario = load_scenario(path)
    assert scenario.faults.random is not None
    assert all(fault.at_s <= scenario.duration_s / 2 for fault in resolve(scenario).faults.plan)


def test_groups_and_counts_become_names() -> None:
    plan = "[{kind: crash, at_s: 5, nodes: [agents, phone-1], count: 2}, {kind: engine_crash, at_s: 6}]"
    scenario = drawn(1, f"faults={{plan: {plan}}}")
    first, second = scenario.faults.plan
    assert first.name == "crash-0"
    assert len(first.nodes) == 2
    assert set(first.nodes) <= {"agent-0", "agent-1", "phone-1"}
    assert first.count is None
    assert len(second.nodes) == scenario.node_count
    assert resolve(scenario) == scenario


def test_a_world_without_faults_is_made_of_plain_nodes() -> None:
    assert {type(sim) for sim in eventful.build(*QUIET).nodes} == {SimNode}
    assert {type(sim) for sim in quiet("kind: engine_crash, at_s: 5", until_s=0.1).nodes} == {FaultyNode}


# -- frames ------------------------------------------------------------------------------------------------------------


def ends(count: int = 2) -> list[Any]:
    """Nodes that have an index and no more."""
    return [SimpleNamespace(index=number) for number in range(count)]


def ether(*faults: Fault, nodes: frozenset[int] = frozenset({0})) -> Ether:
    """The faults are on."""
    made = Ether()
    made.meddlings = [Meddling(fault, nodes, Stream(1, b"", f"test {number}")) for number, fault in enumerate(faults)]
    return made


def arrivals(*faults: Fault, out: bool = True) -> list[int]:
    """When a frame from node 0 to node 1, or back, arrives; the faults strike node 0."""
    sender, receiver = ends() if out else reversed(ends())
    return ether(*faults).arrivals(1_000_000, sender, receiver, "lan")


def of_kind(kind: FaultKind, **fields: Any) -> Fault:
    """A fault of frames."""
    return Fault(kind=kind, at_s=0, **fields)


def test_frames_are_lost_late_or_doubled() -> None:
    late = of_kind(FaultKind.DELAY, delay_ms=500)
    assert arrivals() == [1_000_000]
    assert arrivals(of_kind(FaultKind.LOSS, share_pct=100)) == []
    assert arrivals(late) == [1_500_000]
    first, second = arrivals(of_kind(FaultKind.DUPLICATION, share_pct=100, delay_ms=10))
    assert first == 1_000_000
    assert 1_000_000 < second <= 1_010_000
    (moved,) = arrivals(of_kind(FaultKind.REORDERING, share_pct=100, delay_ms=10))
    assert 1_000_000 < moved <= 1_010_000
    assert arrivals(late, late) == [2_000_000], "two faults add up"


def test_a_share_of_the_frames_is_struck() -> None:
    lossy = ether(of_kind(FaultKind.LOSS, share_pct=30))
    sender, receiver = ends()
    lost = sum(not lossy.arrivals(0, sender, receiver, "lan") for _ in range(2_000))
    assert lost / 2_000 == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(
    ("direction", "out", "into"), [(Direction.BOTH, 0, 0), (Direction.OUT, 0, 1), (Direction.IN, 1, 0)]
)
def test_a_partition_may_be_one_way(direction: Direction, out: int, into: int) -> None:
    fault = of_kind(FaultKind.PARTITION, direction=direction)
    assert (len(arrivals(fault)), len(arrivals(fault, out=False))) == (out, into)


def test_a_partition_leaves_its_own_side_and_other_media_alone() -> None:
    cut = ether(of_kind(FaultKind.PARTITION, media=(Medium.WAN,)), nodes=frozenset({0, 1}))
    a, b, c = ends(3)
    assert cut.arrivals(5, a, b, "wan") == cut.arrivals(5, a, c, "lan") == [5]
    assert cut.arrivals(5, a, c, "wan") == cut.arrivals(5, c, b, "wan") == []


# -- machines ----------------------------------------------------------------------------------------------------------


def test_a_crash_takes_nodes_down_and_brings_them_back() -> None:
    world = quiet("kind: crash, at_s: 12, for_s: 5, nodes: [phone-0, coordinator-1]")
    struck = [sim for sim in world.nodes if sim.name in ("phone-0", "coordinator-1")]
    run_until(world, 13)
    assert [sim.is_up for sim in struck] == [False, False]
    assert all(sim.is_up for sim in world.nodes if sim not in struck)
    run_until(world, 17.5)
    assert [sim.life for sim in struck] == [2, 2]
    assert all(sim.is_up for sim in world.nodes)
    run_until(world, 100)
    world.watch.finish()


def test_the_disk_of_a_crashed_node_is_kept_lost_or_an_old_copy() -> None:
    world = quiet(
        "kind: crash, at_s: 30, for_s: 2, nodes: [phone-0]",
        "kind: crash, at_s: 30, for_s: 2, nodes: [phone-1], disk: lost",
        "kind: crash, at_s: 30, for_s: 2, nodes: [phone-2], disk: old_copy, copied_at_s: 10",
    )
    phones = [place.sim for place in world.phones[:3]]
    run_until(world, 11)
    for sim in phones:
        sim.disk["mark"] = b"new"
    run_until(world, 32.001)
    assert ["mark" in sim.disk for sim in phones] == [True, False, False]
    assert ["inventory" in sim.disk for sim in phones] == [True, False, True]


def test_a_clock_that_jumped_shows_at_the_next_start() -> None:
    world = quiet("kind: clock_jump, at_s: 11, by_s: -50, nodes: [phone-0]")
    jumped, other = world.phones[0].sim, world.phones[1].sim
    run_until(world, 12)
    assert world.wall_ms(other) == WALL_START_MS + 12_000
    assert world.wall_ms(jumped) == WALL_START_MS + 12_000 - 50_000


def test_an_engine_loses_its_model_and_loads_it_again() -> None:
    world = quiet("kind: engine_crash, at_s: 12, nodes: [phone-0]")
    swap = member(world.phones[0].sim).swap
    served = swap.serving
    assert served is not None
    run_until(world, 12.01)
    assert swap.serving is None
    run_until(world, 40)
    assert swap.serving is served


def test_loads_fail_for_as_long_as_they_are_to() -> None:
    world = quiet("kind: failing_loads, at_s: 12, for_s: 20, nodes: [phone-0]")
    sim = world.phones[0].sim
    active = member(sim).swap.active
    assert active is not None
    target = "qwen2.5-coder-0.5b" if active.model_id != "qwen2.5-coder-0.5b" else "qwen2.5-coder-1.5b"
    run_until(world, 13)
    sim.post(SwapModel(1, target))
    run_until(world, 31)
    assert member(sim).swap.active is None, "the roll-back failed as well"
    run_until(world, 33)
    sim.post(SwapModel(2, target))
    run_until(world, 60)
    assert member(sim).swap.serving is not None


def persist(sim: SimNode, value: bytes) -> None:
    """Let a node write something."""
    context = sim.node.context
    context.out = []
    context.persist("test", value)
    (effect,) = context.out
    sim._persist(cast("Any", effect))


def test_a_disk_has_nothing_to_do_in_a_new_life() -> None:
    world = quiet("kind: slow_disk, at_s: 12, for_s: 8, delay_ms: 3000, nodes: [phone-0]")
    sim = world.phones[0].sim
    run_until(world, 13)
    for number in range(10):
        sim._persist(Persist(number, f"k{number}", b"x"))
    sim.crash(0)
    run_until(world, 21)
    sim.restart(world.wall_ms(sim))
    run_until(world, 24)
    assert sim.node.part is not None, "it is ready as soon as its epoch is kept"


def test_a_slow_disk_takes_one_write_after_another_and_keeps_their_order() -> None:
    world = quiet("kind: slow_disk, at_s: 12, for_s: 1, delay_ms: 400, nodes: [phone-0]")
    world.watch.checkers = []  # which the test goes behind
    sim = world.phones[0].sim
    run_until(world, 12.5)
    for value in (b"first", b"second"):
        persist(sim, value)
    run_until(world, 13.2)
    persist(sim, b"last")  # the disk is fast again, and still behind
    seen = []
    for at_s in (12.8, 13.0, 13.25, 13.32):
        if at_s > world.kernel.now / SECOND:
            run_until(world, at_s)
            seen.append(sim.disk["test"])
    assert seen == [b"first", b"last"]


def test_a_write_that_fails_leaves_what_was_there() -> None:
    world = quiet("kind: failing_writes, at_s: 12, for_s: 5, nodes: [phone-0]")
    world.watch.checkers = []  # which the test goes behind
    sim = world.phones[0].sim
    persist(sim, b"old")
    run_until(world, 13)
    heard: list[object] = []

    class Log(eventful.Sink):
        def record(self, *what: object) -> None:
            heard.append(what[2])

    world.watch.sink = Log()
    persist(sim, b"new")
    run_until(world, 14)
    assert sim.disk["test"] == b"old"
    assert any(getattr(record, "reason", None) is Reason.STORE_FAILED for record in heard)


def test_no_file_comes_while_the_cdn_is_out() -> None:
    world = eventful.build(
        *QUIET,
        "phones.installed={qwen2.5-coder-1.5b: 1}",
        "faults={plan: [{kind: cdn_outage, at_s: 11, for_s: 10}]}",
    )
    sim = world.phones[0].sim
    entry = world.phones[0].find("qwen2.5-coder-0.5b")
    assert entry is not None
    run_until(world, 10.5)
    sim.post(PullModel(1, entry.model_id))
    run_until(world, 12)
    inventory = member(sim).inventory
    assert inventory.state(entry) is DownloadState.PARTIAL, "it broke off"
    sim.post(PullModel(2, entry.model_id))
    run_until(world, 20)
    assert inventory.state(entry) is DownloadState.PARTIAL
    assert 0 < inventory.row(entry).bytes_done < entry.file_size_bytes
    run_until(world, 22)
    sim.post(PullModel(3, entry.model_id))
    run_until(world, 100)
    assert inventory.state(entry) is DownloadState.INSTALLED


# -- whole runs --------------------------------------------------------------------------------------------------------


def run(scenario: Scenario, root: Path | None = None) -> dict[str, Any]:
    """The summary of a run."""
    outcome = run_scenario(scenario, root=root, reproduce="test")
    assert outcome.violation is None, str(outcome.violation)
    return outcome.summary


def test_a_run_with_faults_is_the_same_again_also_from_its_resolved_plan(tmp_path: Path) -> None:
    scenario = load_scenario("random_faults", [], 2)
    first = run(scenario, tmp_path)
    resolved = load_scenario(f"{first['run_dir']}/scenario.resolved.yaml")
    assert resolved.faults.plan == resolve(scenario).faults.plan
    assert run(resolved)["digest"] == first["digest"]
    assert run(load_scenario("random_faults", ["wire=encoded"], 2))["digest"] == first["digest"]


def test_the_timeline_tells_of_faults(tmp_path: Path) -> None:
    summary = run(load_scenario("random_faults", [], 2), tmp_path)
    plan = drawn(2).faults.plan
    timeline = Run(summary["run_dir"]).timeline
    told = timeline[timeline["metric"] == "fault"]
    assert set(told["key"]) == {fault.name for fault in plan}
    begun = told[told["value"] == 1]
    assert sorted(begun["at_s"]) == pytest.approx(sorted(fault.at_s for fault in plan), abs=0.001)


def test_one_fault_less_leaves_the_names_of_the_others() -> None:
    scenario = drawn(2)
    plan = scenario.faults.plan
    fewer = msgspec.structs.replace(scenario, faults=msgspec.structs.replace(scenario.faults, plan=plan[1:]))
    assert [fault.name for fault in resolve(fewer).faults.plan] == [fault.name for fault in plan[1:]]


def test_phones_go_on_while_nobody_reaches_a_coordinator(tmp_path: Path) -> None:
    plan = (
        "[{name: line, kind: partition, at_s: 100, for_s: 300, nodes: [coordinators], media: [lan]},"
        " {kind: cdn_outage, at_s: 100, for_s: 300}]"
    )
    sets = ["phones.count=14", "agents.count=4", "duration_s=600", "radio.area_m=[15, 12]", f"faults.plan={plan}"]
    summary = run(load_scenario("blackout", sets), tmp_path)
    made = Run(summary["run_dir"])
    timeline = made.timeline
    online = timeline[timeline["metric"] == "online_share"].set_index("at_s")["value"]
    assert online[90] == 1
    assert online[200] == online[390] == 0
    assert online[590] == 1, "all come back"
    tasks = made.tasks
    during = tasks[(tasks["submitted_s"] > 160) & (tasks["submitted_s"] < 380)]
    assert len(during) > 5
    assert (during["via"] == "peer").sum() > 0
    assert not (during["via"] == "coordinator").any()
