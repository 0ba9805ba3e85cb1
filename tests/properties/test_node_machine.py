"""Random lives of a small mesh: whatever happens to users, radios, engines and disks, all holds and comes to rest.

The invariants are those that the harness asks after each event (`tests.invariants`). When the rules have had their say,
everybody is left alone: then every command gets its reply, every queue empties, every swap settles, and the coordinator
knows what its nodes serve.
"""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgecoder.config import ClusterConfig, NodeConfig, laptop, server
from edgecoder.core.effects import (
    Advertise,
    DeleteFile,
    FetchFile,
    HashFile,
    LoadModel,
    Operation,
    Persist,
    RunTask,
    UnloadModel,
)
from edgecoder.core.events import (
    CancelTask,
    PowerChanged,
    PullModel,
    QueryMesh,
    QueryModels,
    QueryStatus,
    RemoveModel,
    ShutDown,
    SignalMeasured,
    SwapCause,
    Wake,
)
from edgecoder.core.ids import Medium, Role
from edgecoder.errors import Reason
from edgecoder.models.catalog import Platform
from edgecoder.models.inventory import DownloadState
from edgecoder.wire.messages import TYPES
from tests.catalogs import LARGE, SMALL, TINY
from tests.harness import Cluster
from tests.hosts import HANGS, Host, Outcome
from tests.invariants import assert_nothing_left
from tests.strategies import examples

PHONE = NodeConfig(
    hedge_samples_min=1,
    hedge_ms_min=50,
    task_queue_max=2,
    origin_tasks_max=4,
    peers_max=2,
    task_memory_max=2,
    links_max=4,
    senders_max=4,
)
HUB = NodeConfig(has_radio=False, relayed_tasks_max=3, task_attempts_max=2)
MEMBERS = ("ann", "bob", "desk")
MODELS = ("small", "large", "tiny", "small-coder:1.5b", "small", "large", "tiny", "huge", "nobody")
MEDIA = {("ann", "bob"): Medium.BLE, ("ann", "hub"): Medium.WAN, ("bob", "hub"): Medium.WAN}
PAIRS = [
    ("ann", "bob"), ("ann", "hub"), ("bob", "hub"), ("hub", "far"), ("desk", "far"), ("desk", "hub"), ("ann", "desk"),
    ("bob", "desk"),
]  # fmt: skip
"""Who can be linked; the first five are at the start."""
ENDS_LATE = st.builds(Outcome, reason=st.none() | st.sampled_from(Reason), after_us=st.integers(0, 2_000_000))
OUTCOMES: dict[type[Operation], st.SearchStrategy[Outcome]] = {
    Persist: ENDS_LATE,
    Advertise: st.builds(
        Outcome, reason=st.none() | st.just(Reason.ADVERTISE_FAILED), after_us=st.integers(0, 500_000)
    ),
    LoadModel: ENDS_LATE | st.just(HANGS) | st.just(Outcome(after_us=121_000_000, ignores_cancel=True)),
    UnloadModel: ENDS_LATE,
    RunTask: ENDS_LATE | st.just(HANGS) | st.just(Outcome(after_us=31_000_000, ignores_cancel=True)),
    FetchFile: ENDS_LATE,
    HashFile: ENDS_LATE | st.just(Outcome(sha256="0" * 64)),
    DeleteFile: ENDS_LATE,
}
members = st.sampled_from(MEMBERS)
models = st.sampled_from(MODELS)
delays_ms = st.sampled_from([0, 1, 5, 30, 200, 1_500, 40_000])
SWAP_OPERATIONS: tuple[type[Operation], ...] = (
    Persist,
    Advertise,
    UnloadModel,
    LoadModel,
    LoadModel,
    FetchFile,
    HashFile,
    DeleteFile,
)
troubles = st.sampled_from(SWAP_OPERATIONS).flatmap(lambda kind: st.tuples(st.just(kind), OUTCOMES[kind]))
"""An operation of a swap, and how it ends."""


class Mesh(RuleBasedStateMachine):
    """Two phones, a laptop and two coordinators; who is linked to whom changes."""

    @initialize(encoded=st.booleans(), rng_seed=st.integers(0, 1_000), settled_ms=st.sampled_from([100, 1_500, 0]))
    def build(self, encoded: bool, rng_seed: int, settled_ms: int) -> None:
        """Everybody is up; phones, laptop and coordinators are linked."""
        self.cluster = Cluster(encoded=encoded, rng_seed=rng_seed, config=ClusterConfig(summary_interval_ms=20_000))
        self.up: dict[tuple[str, str], int] = {}
        self.cluster.add("hub", Role.COORDINATOR, config=HUB)
        self.cluster.add("far", Role.COORDINATOR, config=server())
        self.cluster.add("ann", config=PHONE, installed=[SMALL, LARGE], active=SMALL)
        self.cluster.add("bob", config=PHONE, installed=[TINY, SMALL])
        desk = msgspec.structs.replace(laptop(), task_queue_max=2)
        self.cluster.add(
            "desk", Role.AGENT, config=desk, platform=Platform.NODE, installed=[LARGE, SMALL], active=LARGE
        )
        for pair in PAIRS[:5]:
            self.toggle(pair)
        self.cluster.run_for(settled_ms)

    def host(self, name: str) -> Host:
        """One of them."""
        return self.cluster.hosts[name]

    def toggle(self, pair: tuple[str, str]) -> None:
        """Open or close the link between two."""
        if pair in self.up:
            self.cluster.unlink(self.up.pop(pair))
        else:
            medium = MEDIA.get(pair, Medium.LAN)
            rssi = -60 if medium is Medium.BLE else None
            self.up[pair] = self.cluster.link(self.host(pair[0]), self.host(pair[1]), medium, rssi_dbm=rssi)

    # -- users ---------------------------------------------------------------------------------------------------------

    @rule(
        name=members,
        model=models,
        cause=st.sampled_from(SwapCause),
        pull=st.booleans(),
        troubles=st.lists(troubles, max_size=3),
        then_ms=delays_ms,
    )
    def swap(
        self,
        name: str,
        model: str,
        cause: SwapCause,
        pull: bool,
        troubles: list[tuple[type[Operation], Outcome]],
        then_ms: int,
    ) -> None:
        for kind, outcome in troubles:
            self.host(name).plan(kind, outcome)
        self.host(name).swap(model, cause=cause, pull=pull)
        self.cluster.run_for(then_ms)

    @rule(name=members, model=models, then_ms=delays_ms)
    def swap_back_and_forth(self, name: str, model: str, then_ms: int) -> None:
        for target in (model, "small", model, "large"):
            self.host(name).swap(target)
        self.cluster.run_for(then_ms)

    @rule(name=members, model=models)
    def pull(self, name: str, model: str) -> None:
        self.host(name).ask(PullModel, model=model)

    @rule(name=members, model=models, troubles=st.lists(troubles, max_size=2), then_ms=delays_ms)
    def remove(self, name: str, model: str, troubles: list[tuple[type[Operation], Outcome]], then_ms: int) -> None:
        for kind, outcome in troubles:
            self.host(name).plan(kind, outcome)
        self.host(name).ask(RemoveModel, model=model)
        self.cluster.run_for(then_ms)

    @rule(
        name=members,
        model=st.none() | models,
        size=st.sampled_from([0.0, 1.0, 5.0]),
        deadline_ms=st.integers(1, 60_000),
        stream=st.booleans(),
        outcomes=st.lists(OUTCOMES[RunTask], max_size=3),
        count=st.integers(1, 5),
        then_ms=delays_ms,
    )
    def submit(
        self,
        name: str,
        model: str | None,
        size: float,
        deadline_ms: int,
        stream: bool,
        outcomes: list[Outcome],
        count: int,
        then_ms: int,
    ) -> None:
        for member in MEMBERS:
            self.host(member).plan(RunTask, *outcomes)
        for _ in range(count):
            self.host(name).submit(model=model, min_param_size=size, deadline_ms=deadline_ms, stream=stream)
        self.cluster.run_for(then_ms)

    @rule(name=members, task=st.integers(1, 20))
    def cancel(self, name: str, task: int) -> None:
        self.host(name).ask(CancelTask, task=task)

    @rule(name=members)
    def look(self, name: str) -> None:
        self.host(name).ask(QueryStatus)
        self.host(name).ask(QueryModels)
        self.host(name).take(Wake())
        self.host("hub").ask(QueryMesh, model="small")

    @rule(name=members)
    def shut_down(self, name: str) -> None:
        self.host(name).ask(ShutDown)

    # -- misfortune ----------------------------------------------------------------------------------------------------

    @rule(pair=st.sampled_from(PAIRS))
    def move(self, pair: tuple[str, str]) -> None:
        self.toggle(pair)

    @rule(name=members, reason=st.sampled_from([Reason.ENGINE_CRASHED, Reason.OUT_OF_MEMORY, Reason.LOAD_FAILED]))
    def crash_engine(self, name: str, reason: Reason) -> None:
        if self.host(name).node is not None and self.host(name).alive.part is not None:
            self.host(name).crash_engine(reason)

    @rule(name=st.sampled_from([*MEMBERS, "hub", "far"]), keep_writes=st.booleans())
    def restart(self, name: str, keep_writes: bool) -> None:
        for pair in [pair for pair in self.up if name in pair]:
            self.toggle(pair)
        self.cluster.restart(self.host(name), keep_writes=keep_writes)

    @rule(kind=st.sampled_from(sorted(TYPES)), times=st.integers(1, 3))
    def lose(self, kind: str, times: int) -> None:
        self.cluster.drop(TYPES[kind], times)

    @rule(name=members)
    def partition(self, name: str) -> None:
        self.cluster.partition(self.host(name))

    @rule()
    def heal(self) -> None:
        self.cluster.heal()

    @rule(name=members, battery_pct=st.integers(0, 100), charging=st.booleans())
    def power(self, name: str, battery_pct: int, charging: bool) -> None:
        self.host(name).take(PowerChanged(battery_pct, charging))

    @precondition(lambda self: ("ann", "bob") in self.up)
    @rule(rssi_dbm=st.integers(-100, -30))
    def measure(self, rssi_dbm: int) -> None:
        self.host("ann").take(SignalMeasured(self.up["ann", "bob"], rssi_dbm))

    # -- time ----------------------------------------------------------------------------------------------------------

    @rule(delay_ms=st.sampled_from([1, 15, 200, 3_000, 20_000, 70_000]))
    def wait(self, delay_ms: int) -> None:
        self.cluster.run_for(delay_ms)

    @rule(delay_ms=st.sampled_from([50, 5_000, 300_000]))
    def sleep(self, delay_ms: int) -> None:
        self.cluster.jump(delay_ms)

    # -- what holds ----------------------------------------------------------------------------------------------------

    @invariant()
    def what_serves_is_there(self) -> None:
        for name in MEMBERS:
            if self.host(name).alive.part is not None:
                serving = self.host(name).member.swap.serving
                state = None if serving is None else self.host(name).member.inventory.state(serving)
                assert state in (None, DownloadState.INSTALLED, DownloadState.QUARANTINED)

    @invariant()
    def a_node_that_changes_its_model_says_so(self) -> None:
        for name in MEMBERS:
            if self.host(name).alive.part is not None:
                member = self.host(name).member
                is_available = member.swap.is_settled and not member.is_stopping
                assert member.load().is_loading is not is_available

    def teardown(self) -> None:
        """Leave everybody alone."""
        if not hasattr(self, "cluster"):
            return
        cluster = self.cluster
        cluster.lossless()
        cluster.drive()
        self.all_is_at_rest()
        self.the_coordinator_knows()

    def all_is_at_rest(self) -> None:
        for host in self.cluster.hosts.values():
            assert not host.answers.commands, f"{host.name} owes replies"
            assert not host.answers.operations, f"{host.name} is owed completions"
        for name in MEMBERS:
            member = self.host(name).member
            assert member.swap.is_settled
            assert (member.executor.tasks, len(member.origin), len(member.downloads)) == (0, 0, 0)
            assert member.inventory.removing() == []
            assert_nothing_left(self.host(name).alive)

    def the_coordinator_knows(self) -> None:
        self.cluster.lossless()
        for pair in [("ann", "hub"), ("bob", "hub")]:  # anew: the identities of the old links may have been lost
            if pair in self.up:
                self.toggle(pair)
            self.toggle(pair)
        self.cluster.run_for(50_000)
        self.cluster.drive()
        assert len(self.host("hub").hub.relays) == 0
        assert_nothing_left(self.host("hub").alive)
        for name in ("ann", "bob"):
            host = self.host(name)
            row = self.host("hub").hub.registry.rows[host.node_id]
            assert host.member.heartbeat.is_online
            assert (row.heartbeat.active_model, row.load) == (host.member.active_model()[0], host.member.load())
            assert (row.power, row.tokens_per_s) == (host.member.power(), host.member.tokens_per_s())
            assert row.holdings_digest == host.member.piece_map_digest()


TestMesh = Mesh.TestCase
TestMesh.settings = settings(examples(5), stateful_step_count=40)
