"""The faults of the first EdgeCoder, each a regression test named after it (protocol, section 12).

Numbers that are missing here belong to parts that do not exist yet: 7 framing, 9 BLE link slots, 12 the push tree of
summaries, 13 and 14 credits.
"""

from __future__ import annotations

import msgspec
import pytest

from edgecoder.config import NodeConfig, Routing
from edgecoder.core.effects import (
    Advertise,
    FetchFile,
    HashFile,
    LoadModel,
    MeshCapabilities,
    Persist,
    RunTask,
    SwapResult,
    TaskResult,
)
from edgecoder.core.events import FrameReceived, PullModel, QueryMesh
from edgecoder.core.ids import Medium, Role
from edgecoder.core.rng import Stream
from edgecoder.errors import Reason
from edgecoder.mesh.router import Candidate, CostRouter, Why, cost
from edgecoder.models.catalog import Platform, param_size_of, parse_param_size
from edgecoder.models.inventory import DownloadState
from edgecoder.trace import Dropped, SwapPhase
from edgecoder.wire.messages import Heartbeat, Load, Summary, TaskRequest, TaskResponse
from tests.catalogs import HUGE, LARGE, LATEST, SMALL
from tests.harness import Cluster
from tests.hosts import Host, Outcome, fails
from tests.strategies import capabilities, full_heartbeat, task_request


@pytest.fixture
def phone(cluster: Cluster) -> Host:
    """A phone that serves `small`."""
    host = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    cluster.drive()
    host.effects.clear()
    return host


def test_fault_1_a_loading_peer_is_never_preferred() -> None:
    """-1 as a count lowered the cost by 20. Here every loading node would be the cheapest, and none is chosen."""
    loading, serving = capabilities(b"a" * 32, load=Load.LOADING), capabilities(b"b" * 32, load=Load.of(9))
    candidates = [
        Candidate(told.agent_id, 7.0, told.current_load, told.device_type, told.battery_pct, None, 0.0, 100)
        for told in (loading, serving)
    ]
    assert cost(candidates[0]) < cost(candidates[1])
    decision = CostRouter(NodeConfig(), Stream(1, b"", "routing")).choose(candidates)
    assert decision.node == serving.agent_id
    assert decision.excluded == {Why.IS_LOADING.value: 1}


def test_fault_1_on_the_way_through_a_node(cluster: Cluster) -> None:
    phone = cluster.add("phone", config=NodeConfig(routing=Routing.COST))
    cluster.drive()
    loading, serving = cluster.puppet("loading"), cluster.puppet("serving")
    for puppet, load in ((loading, Load.LOADING), (serving, Load.of(4))):
        puppet.say(cluster.link(puppet, phone), capabilities(puppet.node_id, load=load))
    cluster.run_for(25)
    phone.submit()
    cluster.run_for(25)
    assert serving.all(TaskRequest)
    assert not loading.all(TaskRequest)


def test_fault_2_a_swap_loads_and_announces(cluster: Cluster, phone: Host) -> None:
    """It changed a variable, and nothing else."""
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.link(phone, hub)
    cluster.drive()
    phone.swap("large")
    cluster.run_for(2_000)
    assert [load.entry for load in phone.did(LoadModel)] == [LARGE]
    assert [effect.capabilities.active_model for effect in phone.did(Advertise)] == ["small", "large"]
    assert cluster.sent(Heartbeat)[-1].active_model == "large"


def test_fault_3_one_swap_at_a_time(cluster: Cluster, phone: Host) -> None:
    """There was no lock: two swaps at once left the last to finish."""
    commands = [phone.swap(model) for model in ("large", "small", "large", "small")]
    cluster.drive()
    assert phone.member.swap.serving is SMALL
    assert all(isinstance(phone.replies[command], SwapResult) for command in commands)


def test_fault_3_a_swap_drains(cluster: Cluster, phone: Host) -> None:
    phone.plan(RunTask, Outcome(after_us=3_000_000))
    task = phone.submit()
    phone.swap("large")
    cluster.drive()
    assert phone.task(task) == TaskResult("one two three", 3, phone.node_id, "small")


def test_fault_3_ready_comes_after_loading(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, Outcome(after_us=9_000_000))
    command = phone.swap("large")
    cluster.run_for(8_000)
    assert command not in phone.replies
    assert phone.traced(SwapPhase)[-1].phase == "loading"
    cluster.drive()
    assert phone.result(command, SwapResult).active == "large"


def test_fault_3_a_finished_pull_activates(cluster: Cluster, phone: Host) -> None:
    command = phone.swap("tiny", pull=True)
    cluster.drive()
    assert phone.replies[command] == SwapResult("small", "tiny", 0.5)


def test_fault_3_the_active_model_survives_a_restart(cluster: Cluster, phone: Host) -> None:
    phone.swap("large")
    cluster.drive()
    cluster.restart(phone)
    cluster.drive()
    assert phone.member.swap.serving is LARGE


def test_fault_4_a_failed_swap_does_not_leave_the_device_dark(cluster: Cluster, phone: Host) -> None:
    """Rolled back or not, the node says what it is now."""
    phone.plan(LoadModel, fails(Reason.LOAD_FAILED), Outcome(), fails(Reason.LOAD_FAILED), fails(Reason.LOAD_FAILED))
    for active in ("small", None):
        phone.swap("large")
        cluster.drive()
        told = phone.did(Advertise)[-1].capabilities
        assert (told.active_model, told.current_load) == (active, Load.of(0))


def test_fault_5_a_rollback_loads_the_file_that_served(cluster: Cluster, phone: Host) -> None:
    """It took the path of an earlier swap. A file is its digest here, and the one that served last comes back."""
    phone.swap("large")
    cluster.drive()
    phone.plan(LoadModel, fails(Reason.LOAD_FAILED))
    phone.swap("small")
    cluster.drive()
    assert [load.entry.sha256 for load in phone.did(LoadModel)] == [LARGE.sha256, SMALL.sha256, LARGE.sha256]
    assert phone.member.swap.serving is LARGE


def test_fault_6_a_file_is_checked_against_the_catalog(cluster: Cluster, phone: Host) -> None:
    phone.plan(HashFile, Outcome(sha256="f" * 64))
    command = phone.swap("tiny", pull=True)
    cluster.drive()
    assert phone.result(command, SwapResult).reason is Reason.CHECKSUM_MISMATCH
    assert phone.member.swap.serving is SMALL


def test_fault_6_a_download_is_resumed(cluster: Cluster, phone: Host) -> None:
    phone.plan(FetchFile, fails(Reason.NO_SOURCE))
    for _ in range(2):
        phone.ask(PullModel, model="tiny")
        cluster.drive()
    assert [fetch.offset_bytes > 0 for fetch in phone.did(FetchFile)] == [False, True]


def test_fault_6_the_memory_limit_is_enforced(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL, HUGE], active=SMALL)
    cluster.drive()
    command = phone.swap("huge")
    cluster.drive()
    assert phone.result(command, SwapResult) == SwapResult("small", "small", 1.5, Reason.INSUFFICIENT_MEMORY)
    assert len(phone.did(LoadModel)) == 1


def test_fault_8_capabilities_are_learned_again_and_again(cluster: Cluster, phone: Host) -> None:
    """They were read once, at the first connection."""
    near = cluster.add("near")
    cluster.link(phone, near, Medium.BLE)
    cluster.drive()
    for model in ("large", "small"):
        phone.swap(model)
        cluster.drive()
        known = near.member.peers.rows[phone.node_id].capabilities
        assert known is not None
        assert known.active_model == model


def test_fault_10_a_summary_is_signed_by_whom_it_is_about(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR)
    victim, forger = (cluster.puppet(name, Role.COORDINATOR) for name in ("victim", "forger"))
    link = cluster.link(forger, hub)
    cluster.run_for(25)
    spoofed = Summary(coordinator_id=victim.node_id, agent_count=9, model_availability={})
    forger.say(link, spoofed)
    forger.say(link, spoofed, sender=victim.node_id)
    cluster.run_for(25)
    assert hub.hub.summaries.rows == {}
    assert {record.reason for record in hub.traced(Dropped)} == {Reason.UNKNOWN_SENDER, Reason.BAD_SIGNATURE}


def test_fault_10_summaries_expire_and_older_ones_lose(cluster: Cluster) -> None:
    hub, other = cluster.add("hub", Role.COORDINATOR), cluster.puppet("other", Role.COORDINATOR)
    link = cluster.link(other, hub)
    cluster.run_for(25)
    told = Summary(coordinator_id=other.node_id, agent_count=5, model_availability={})
    newer, older = (
        other.seal(msgspec.structs.replace(told, agent_count=count), seq=seq, ttl_ms=180_000)
        for count, seq in ((5, 30), (4, 29))
    )
    hub.take(FrameReceived(link, newer))
    hub.take(FrameReceived(link, older))
    assert hub.hub.summaries.rows[other.node_id].summary.agent_count == 5
    cluster.run_for(180_001)
    hub.ask(QueryMesh)
    assert list(hub.hub.summaries.held()) == []


def test_fault_10_dead_agents_are_not_counted_and_loads_are_real(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR)
    agent = cluster.puppet("agent", Role.AGENT)
    agent.say(cluster.link(agent, hub), full_heartbeat(load=Load.of(3)))
    cluster.run_for(25)
    (row,) = hub.result(hub.ask(QueryMesh, model="small"), MeshCapabilities).coordinators
    assert (row.agent_count, row.model_availability["small"].avg_load) == (1, 3.0)
    cluster.run_for(46_000)
    assert hub.result(hub.ask(QueryMesh, model="small"), MeshCapabilities).coordinators == ()


def test_fault_11_unsigned_senders_are_refused() -> None:
    cluster = Cluster(encoded=True)
    phone = cluster.add("phone", installed=[SMALL], active=SMALL)
    asker = cluster.puppet("asker")
    link = cluster.link(asker, phone)
    cluster.drive()
    signed, signature = msgspec.msgpack.decode(asker.seal(task_request()), type=tuple[bytes, bytes])  # type: ignore[arg-type]
    for unsigned in (b"", bytes(64), signature[:-1] + bytes([signature[-1] ^ 1])):
        phone.take(FrameReceived(link, msgspec.msgpack.encode((signed, unsigned))))
    cluster.drive()
    assert asker.all(TaskResponse) == []
    assert phone.did(RunTask) == []
    phone.take(FrameReceived(link, msgspec.msgpack.encode((signed, signature))))
    cluster.drive()
    assert len(phone.did(RunTask)) == 1


@pytest.mark.parametrize("spelling", ["newest", "newest:latest", "Newest:LATEST", "newest-gguf"])
def test_fault_15_two_spellings_of_one_model_match(spelling: str, cluster: Cluster) -> None:
    hub, phone = cluster.add("hub", Role.COORDINATOR), cluster.add("phone")
    agent = cluster.add("agent", Role.AGENT, platform=Platform.NODE, installed=[LATEST], active=LATEST)
    for node in (phone, agent):
        cluster.link(node, hub)
    cluster.drive()
    command = phone.submit(model=spelling)
    cluster.drive()
    assert phone.task(command).served_by == agent.node_id
    assert hub.result(hub.ask(QueryMesh, model=spelling), MeshCapabilities).coordinators


def test_fault_16_units_of_sizes() -> None:
    assert parse_param_size("494.03M") == 0.49403
    assert parse_param_size("8x7B") == 56.0
    assert parse_param_size("4683087332") is None
    assert param_size_of("mine:latest", "4683087332") is None


def test_what_is_acknowledged_to_a_user_is_durable_first(cluster: Cluster, phone: Host) -> None:
    """Nothing was persisted at all; now no reply says `ready` before the disk does."""
    phone.plan(Persist, Outcome(), Outcome(after_us=2_000_000))
    command = phone.swap("large")
    cluster.run_for(1_000)
    assert phone.member.swap.serving is LARGE
    assert command not in phone.replies
    assert phone.member.inventory.state(LARGE) is DownloadState.INSTALLED
    cluster.drive()
    assert command in phone.replies
