"""Enrolled peers that say whatever they like: correctly signed, wrong in every other way.

Nothing that they send makes a node raise or breaks an invariant (the harness asks after each event), and the node's own
user still gets every answer.
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.config import NodeConfig
from edgecoder.core.effects import MeshCapabilities
from edgecoder.core.events import QueryMesh
from edgecoder.core.ids import Medium, Role
from edgecoder.trace import TaskSubmitted
from edgecoder.wire.messages import (
    Cancel,
    Capabilities,
    Heartbeat,
    HeartbeatAck,
    Load,
    Message,
    Probe,
    ProbeReply,
    Release,
    ResponseStatus,
    Summary,
    TaskRequest,
    TaskResponse,
)
from tests.catalogs import LARGE, SMALL
from tests.harness import Cluster, Puppet
from tests.hosts import Host
from tests.strategies import MESSAGES, capabilities, examples, full_heartbeat, messages

TIGHT = NodeConfig(
    hedge_samples_min=1,
    hedge_ms_min=10,
    task_queue_max=2,
    origin_tasks_max=3,
    peers_max=2,
    links_max=4,
    senders_max=2,
    agents_max=2,
    coordinators_max=1,
    relayed_tasks_max=2,
    task_memory_max=1,
    task_attempts_max=2,
)
deadlines = st.sampled_from([0, 1, 500, 60_000, 1 << 40, (1 << 63) - 1])
pool = st.sampled_from([bytes([number]) * 16 for number in range(3)])
statuses = st.sampled_from(ResponseStatus)
aimed = st.one_of(
    st.builds(msgspec.structs.replace, MESSAGES[TaskRequest], task_id=pool, deadline_ms=deadlines, model=st.none()),
    st.builds(msgspec.structs.replace, MESSAGES[TaskResponse], task_id=pool, status=statuses, index=st.integers(0, 4)),
    st.builds(msgspec.structs.replace, MESSAGES[Cancel], task_id=pool),
    st.builds(msgspec.structs.replace, MESSAGES[Probe], task_id=pool, model=st.none(), min_param_size=st.just(0.0)),
    st.builds(msgspec.structs.replace, MESSAGES[ProbeReply], task_id=pool, reason=st.none()),
    st.builds(msgspec.structs.replace, MESSAGES[Release], task_id=pool),
    st.builds(msgspec.structs.replace, MESSAGES[HeartbeatAck], epoch=st.just(1), seq=st.integers(0, 30)),
    st.builds(
        msgspec.structs.replace, MESSAGES[Heartbeat], current_load=st.just(Load.of(0)), active_model=st.just("small")
    ),
)
"""Messages that come close to something open."""
says = st.lists(
    st.tuples(st.integers(0, 3), messages | aimed, st.sampled_from([0, 0, 1, 20, 3_000, 50_000])),
    max_size=25,
)


def adapted(message: Message, speaker: Puppet, host: Host) -> Message:
    """The message, in the speaker's own name and about the tasks that the node's user has open."""
    if isinstance(message, Capabilities):
        return msgspec.structs.replace(message, agent_id=speaker.node_id)
    if isinstance(message, Summary):
        return msgspec.structs.replace(message, coordinator_id=speaker.node_id)
    own = [record.task_id for record in host.traced(TaskSubmitted)]
    if isinstance(message, TaskResponse | Cancel | ProbeReply | Release) and message.task_id[0] < len(own):
        return msgspec.structs.replace(message, task_id=own[message.task_id[0]])
    return message


def play(cluster: Cluster, host: Host, speakers: list[Puppet], said: list[tuple[int, Any, int]]) -> None:
    """Let them talk, and time pass."""
    links = [cluster.link(speaker, host, Medium.BLE, rssi_dbm=-50) for speaker in speakers]
    cluster.run_for(25)
    for speaker, link in zip(speakers, links, strict=True):
        first = full_heartbeat() if host.setup.role is Role.COORDINATOR else capabilities(speaker.node_id)
        speaker.say(link, first)
    cluster.run_for(25)
    for number, message, wait_ms in said:
        speaker, link = speakers[number], links[number]
        speaker.say(link, adapted(message, speaker, host))
        cluster.run_for(wait_ms)


@examples(2)
@given(says, st.booleans())
def test_a_member_survives_its_peers(said: list[tuple[int, Any, int]], encoded: bool) -> None:
    cluster = Cluster(encoded=encoded)
    phone = cluster.add("phone", config=TIGHT, installed=[SMALL, LARGE], active=SMALL)
    cluster.drive()
    roles = (Role.PHONE, Role.AGENT, Role.COORDINATOR, Role.COORDINATOR)
    commands = [phone.submit(model="large", deadline_ms=20_000), phone.submit(deadline_ms=90_000)]
    play(cluster, phone, [cluster.puppet(f"p{number}", role) for number, role in enumerate(roles)], said)
    commands += [phone.submit(), phone.swap("large")]
    cluster.drive()
    assert all(command in phone.replies for command in commands)
    assert phone.member.swap.serving is LARGE
    cluster.run_for(200_000)
    cluster.drive()
    assert phone.member.executor.tasks <= phone.setup.config.slots + phone.setup.config.task_queue_max


@examples(2)
@given(says, st.booleans())
def test_a_coordinator_survives_its_nodes(said: list[tuple[int, Any, int]], encoded: bool) -> None:
    cluster = Cluster(encoded=encoded)
    hub = cluster.add("hub", Role.COORDINATOR, config=TIGHT)
    cluster.drive()
    roles = (Role.AGENT, Role.PHONE, Role.COORDINATOR, Role.COORDINATOR)
    play(cluster, hub, [cluster.puppet(f"p{number}", role) for number, role in enumerate(roles)], said)
    for model in (None, "small", "x" * 400):
        answer = hub.ask(QueryMesh, model=model)
        assert hub.result(answer, MeshCapabilities).reason is None
    cluster.run_for(200_000)
    assert hub.hub.registry.rows == {}
