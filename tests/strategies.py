"""Messages for the tests: fixed ones to change a field of, and Hypothesis strategies for every type."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st

from edgecoder.config import DeviceType
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.protocol import ATTEMPT_MAX, EPOCH_MAX, PIECES_MAX, RESPONSE_INDEX_MAX, SLOTS_MAX
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import (
    Announce,
    Cancel,
    Capabilities,
    Cloned,
    DialRequest,
    Got,
    Grant,
    Granted,
    Have,
    Heartbeat,
    HeartbeatAck,
    Identity,
    LedgerAck,
    LedgerBatch,
    Load,
    Lost,
    Message,
    ModelAvailability,
    PeerExchange,
    Power,
    Probe,
    ProbeReply,
    Receipt,
    Redirect,
    Release,
    ResponseStatus,
    Stale,
    Summary,
    TaskRequest,
    TaskResponse,
    Ticket,
    Versions,
    Whereabouts,
)

TASK_ID = bytes(range(16))


def full_heartbeat(
    model: str | None = "small", param_size: float | None = 1.5, load: Load | None = None, **fields: Any
) -> Heartbeat:
    """A full heartbeat of an agent with two slots."""
    load = Load.of(0) if load is None else load
    base = Heartbeat(
        generation=1,
        active_model=model,
        active_model_param_size=param_size,
        current_load=load,
        model_swap_in_progress=load.is_loading,
        full=True,
        power=Power(on_external_power=True, battery_pct=100),
        device_type=DeviceType.WORKSTATION,
        memory_mb=16_384,
        slots=2,
        tokens_per_s=30,
        holdings_digest=b"holdings",
    )
    return msgspec.structs.replace(base, **fields)


def capabilities(agent_id: bytes, generation: int = 1, load: Load | None = None, **fields: Any) -> Capabilities:
    """Capabilities of a laptop with `small` loaded."""
    base = Capabilities(
        agent_id=agent_id,
        generation=generation,
        active_model="small",
        active_model_param_size=1.5,
        current_load=Load.of(0) if load is None else load,
        memory_mb=16_384,
        slots=2,
        tokens_per_s=30,
        battery_pct=100,
        device_type=DeviceType.LAPTOP,
    )
    return msgspec.structs.replace(base, **fields)


def task_request(**fields: Any) -> TaskRequest:
    """A request that any model may answer."""
    base = TaskRequest(
        task_id=TASK_ID,
        prompt="write a test",
        model=None,
        min_param_size=0.0,
        max_tokens=256,
        deadline_ms=60_000,
        stream=True,
    )
    return msgspec.structs.replace(base, **fields)


def response(status: ResponseStatus, index: int = 0, **fields: Any) -> TaskResponse:
    """A response to that request."""
    return msgspec.structs.replace(TaskResponse(task_id=TASK_ID, status=status, index=index), **fields)


def examples(times: int) -> settings:
    """The settings of the profile, with so many times its examples."""
    profile = settings.default
    assert profile is not None
    return settings(profile, max_examples=profile.max_examples * times)


# -- strategies --------------------------------------------------------------------------------------------------------

counters = st.integers(0, (1 << 63) - 1)
small_counters = st.integers(0, 1000)
slots = st.integers(0, SLOTS_MAX)
percents = st.integers(0, 100)
node_ids = st.binary(min_size=32, max_size=32)
attempts = st.just(0) | st.integers(0, ATTEMPT_MAX)
task_ids = st.binary(min_size=16, max_size=16)
digests = st.binary(max_size=32)
names = st.text(max_size=40)
param_sizes = st.floats(0, 10_000)
loads = st.just(Load.LOADING) | st.integers(0, 65_535).map(Load.of)
powers = st.builds(Power, on_external_power=st.booleans(), battery_pct=percents, thermal_state=counters)
availabilities = st.builds(
    ModelAvailability,
    agent_count=counters,
    total_param_capacity=st.floats(0, 1e12),
    avg_load=st.floats(0, 65_535),
    free_slots=counters,
)

receipts = st.builds(
    Receipt,
    payer=node_ids,
    server=node_ids,
    task_id=task_ids,
    tokens=counters,
    cpu_ms=counters,
    quality_milli=st.integers(0, 1000),
    signature=st.binary(min_size=64, max_size=64),
)
hashes = st.lists(node_ids, max_size=4).map(tuple)
pieces = st.integers(0, PIECES_MAX - 1)
piece_lists = st.lists(pieces, max_size=4).map(tuple)
losses = st.builds(Lost, piece=pieces, sender=node_ids, reason=st.sampled_from(Reason), size_bytes=counters)
tickets = st.builds(
    Ticket,
    broker=node_ids,
    broker_epoch=counters,
    expires_ms=counters,
    signature=st.binary(min_size=64, max_size=64),
)
endpoints = st.lists(st.sampled_from(["hub.example:4301", "10.0.0.7", "[::1]:1"]) | names, max_size=4).map(tuple)
whereabouts = st.builds(
    Whereabouts,
    coordinator=node_ids,
    public_key=st.binary(max_size=32),
    endpoints=endpoints,
    sequence=counters,
    expires_ms=counters,
    signature=st.binary(min_size=64, max_size=64),
)
nonces = st.sampled_from([b"", b"1", b"12345678"])
MESSAGES: dict[type[Message], st.SearchStrategy[Message]] = {
    Announce: st.builds(
        Announce,
        file=node_ids,
        have=st.binary(max_size=64),
        wants=st.booleans(),
        up_kbit_per_s=counters,
        down_kbit_per_s=counters,
        slots=slots,
        broker_epoch=counters,
        endpoint=names,
        redirected=st.booleans(),
        dialable=st.booleans(),
    ),
    DialRequest: st.builds(DialRequest, file=node_ids, peer=node_ids, endpoint=names, ticket=st.none() | tickets),
    Have: st.builds(
        Have,
        file=node_ids,
        got=st.lists(st.builds(Got, piece=pieces, sender=node_ids, size_bytes=counters), max_size=4).map(tuple),
        taking=piece_lists,
        lost=st.lists(losses, max_size=4).map(tuple),
    ),
    Grant: st.builds(
        Grant,
        file=node_ids,
        broker_epoch=counters,
        receivers=counters,
        pieces=st.lists(
            st.builds(
                Granted,
                piece=pieces,
                sender=node_ids,
                expect_ms=counters,
                endpoint=names,
                ticket=st.none() | tickets,
            ),
            max_size=4,
        ).map(tuple),
        reverse=hashes,
    ),
    Redirect: st.builds(Redirect, file=node_ids, coordinator=node_ids, endpoint=names),
    Stale: st.builds(Stale, epoch=st.integers(0, EPOCH_MAX)),
    Versions: st.builds(Versions, version_min=counters, version_max=counters),
    Identity: st.builds(
        Identity,
        role=st.sampled_from(Role),
        device_type=st.sampled_from(DeviceType),
        cluster_config_hash=digests,
        knows_you=st.booleans(),
        ask=nonces,
        echo=nonces,
        life=nonces,
    ),
    Capabilities: st.builds(
        Capabilities,
        agent_id=node_ids,
        generation=counters,
        active_model=st.none() | names,
        active_model_param_size=st.none() | param_sizes,
        current_load=loads,
        memory_mb=counters,
        slots=slots,
        tokens_per_s=counters,
        battery_pct=percents,
        device_type=st.sampled_from(DeviceType),
        languages=st.lists(names, max_size=4).map(tuple),
        piece_map_digest=digests,
    ),
    Heartbeat: st.builds(
        Heartbeat,
        generation=counters,
        active_model=st.none() | names,
        active_model_param_size=st.none() | param_sizes,
        current_load=loads,
        model_swap_in_progress=st.booleans(),
        full=st.booleans(),
        power=st.none() | powers,
        device_type=st.none() | st.sampled_from(DeviceType),
        memory_mb=st.none() | counters,
        slots=st.none() | slots,
        tokens_per_s=st.none() | counters,
        holdings_digest=st.none() | digests,
        cluster_config_hash=st.none() | digests,
    ),
    HeartbeatAck: st.builds(
        HeartbeatAck, epoch=counters, seq=counters, coordinator_time_ms=counters, known=st.booleans()
    ),
    Probe: st.builds(
        Probe,
        task_id=task_ids,
        model=st.none() | names,
        min_param_size=param_sizes,
        max_tokens=counters,
        prompt_bytes=counters,
    ),
    ProbeReply: st.builds(
        ProbeReply,
        task_id=task_ids,
        reason=st.none() | st.sampled_from(Reason),
        queue_ms=counters,
        tokens_per_s=counters,
        battery_pct=percents,
        on_external_power=st.booleans(),
        hold_ms=counters,
    ),
    Release: st.builds(Release, task_id=task_ids),
    TaskRequest: st.builds(
        TaskRequest,
        attempt=attempts,
        task_id=task_ids,
        prompt=st.text(max_size=200),
        model=st.none() | names,
        min_param_size=param_sizes,
        max_tokens=counters,
        deadline_ms=counters,
        stream=st.booleans(),
        hops=st.integers(0, 255),
    ),
    TaskResponse: st.builds(
        TaskResponse,
        attempt=attempts,
        task_id=task_ids,
        status=st.sampled_from(ResponseStatus),
        index=st.integers(0, RESPONSE_INDEX_MAX),
        text=st.text(max_size=200),
        tokens=counters,
        reason=st.none() | st.sampled_from(Reason),
        served_by=st.none() | node_ids,
        model=st.none() | names,
    ),
    Receipt: receipts,
    LedgerBatch: st.builds(LedgerBatch, receipts=st.lists(receipts, max_size=3).map(tuple)),
    Cloned: st.builds(Cloned, stays=st.booleans(), where=st.text(max_size=64)),
    PeerExchange: st.builds(PeerExchange, coordinators=st.lists(whereabouts, max_size=4).map(tuple)),
    LedgerAck: st.builds(LedgerAck, durable=hashes, refused=hashes, unknown=hashes),
    Cancel: st.builds(Cancel, task_id=task_ids, reason=st.sampled_from(Reason), attempt=attempts),
    Summary: st.builds(
        Summary,
        coordinator_id=node_ids,
        agent_count=counters,
        model_availability=st.dictionaries(names, availabilities, max_size=4),
        holdings=st.dictionaries(names, counters, max_size=4),
    ),
}
"""Every value of every message that the wire allows, but for the length of texts."""

messages = st.one_of(*MESSAGES.values())
headers = st.builds(
    Header,
    network_id=st.text(min_size=1, max_size=32),
    sender=node_ids,
    epoch=st.integers(0, (1 << 32) - 1),
    seq=counters,
    ttl_ms=st.integers(0, (1 << 40) - 1),
)
