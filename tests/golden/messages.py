"""One message of every type, with a value in every field: what the golden bytes are made of."""

from __future__ import annotations

from edgecoder.config import DeviceType
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.wire.envelope import ByteSigner, Header
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
from edgecoder_sim.crypto import IdealKey, node_id

SENDER = node_id("golden-sender")
OTHER = node_id("golden-other")
TASK = bytes(range(16))
FILE = bytes(range(32))
GENERATION = (3 << 32) + 17

RECEIPT = Receipt(
    payer=SENDER, server=OTHER, task_id=TASK, tokens=256, cpu_ms=12_800, quality_milli=500, signature=bytes(range(64))
)

MESSAGES: dict[str, Message] = {
    "versions": Versions(version_min=1, version_max=2),
    "stale": Stale(epoch=1_767_258_000),
    "identity": Identity(role=Role.PHONE, device_type=DeviceType.PHONE, cluster_config_hash=b"12345678"),
    "capabilities": Capabilities(
        agent_id=SENDER,
        generation=GENERATION,
        active_model="qwen2.5-coder-1.5b",
        active_model_param_size=1.5,
        current_load=Load.of(2),
        memory_mb=6144,
        slots=1,
        tokens_per_s=36,
        battery_pct=81,
        device_type=DeviceType.PHONE,
        languages=("python", "rust"),
        piece_map_digest=b"abcdefgh",
    ),
    "capabilities of a node that is loading": Capabilities(
        agent_id=SENDER,
        generation=GENERATION + 1,
        active_model=None,
        active_model_param_size=None,
        current_load=Load.LOADING,
        memory_mb=6144,
        slots=1,
        tokens_per_s=0,
        battery_pct=81,
        device_type=DeviceType.PHONE,
    ),
    "heartbeat": Heartbeat(
        generation=GENERATION,
        active_model="qwen2.5-coder:7b",
        active_model_param_size=7.0,
        current_load=Load.of(0),
        model_swap_in_progress=False,
        full=True,
        power=Power(on_external_power=True, battery_pct=100, thermal_state=1),
        device_type=DeviceType.LAPTOP,
        memory_mb=16_384,
        slots=2,
        tokens_per_s=20,
        holdings_digest=b"abcdefgh",
        cluster_config_hash=b"12345678",
    ),
    "heartbeat as a delta": Heartbeat(
        generation=GENERATION,
        active_model="qwen2.5-coder:7b",
        active_model_param_size=7.0,
        current_load=Load.LOADING,
        model_swap_in_progress=True,
        full=False,
    ),
    "heartbeatAck": HeartbeatAck(epoch=3, seq=99, coordinator_time_ms=1_767_258_000_000, known=True),
    "taskRequest": TaskRequest(
        task_id=TASK,
        prompt="def add(a, b):\n    # größer\n",
        model="qwen2.5-coder:7b",
        min_param_size=3.0,
        max_tokens=256,
        deadline_ms=120_000,
        stream=True,
        hops=1,
        attempt=2,
    ),
    "taskResponse": TaskResponse(
        task_id=TASK,
        status=ResponseStatus.DONE,
        index=4,
        text="return a + b",
        tokens=5,
        served_by=OTHER,
        model="qwen2.5-coder-7b",
        attempt=2,
    ),
    "taskResponse that refuses": TaskResponse(
        task_id=TASK, status=ResponseStatus.REFUSED, index=0, reason=Reason.LOADING, served_by=OTHER
    ),
    "cancel": Cancel(task_id=TASK, reason=Reason.DEADLINE, attempt=2),
    "summary": Summary(
        coordinator_id=SENDER,
        agent_count=3,
        model_availability={
            "qwen2.5-coder:7b": ModelAvailability(agent_count=2, total_param_capacity=14.0, avg_load=0.5, free_slots=3)
        },
        holdings={"60e05f2100071479f596b964f89f510f057ce397ea22f2833a0cfe029bfc2463": 2},
    ),
    "probe": Probe(task_id=TASK, model="qwen2.5-coder:7b", min_param_size=3.0, max_tokens=256, prompt_bytes=1200),
    "probeReply": ProbeReply(
        task_id=TASK, queue_ms=1500, tokens_per_s=36, battery_pct=81, on_external_power=False, hold_ms=2000
    ),
    "probeReply that declines": ProbeReply(task_id=TASK, reason=Reason.LOADING),
    "release": Release(task_id=TASK),
    "receipt": RECEIPT,
    "ledgerBatch": LedgerBatch(receipts=(RECEIPT,)),
    "ledgerAck": LedgerAck(durable=(bytes(range(32)),), refused=(bytes(range(32, 64)),)),
    "announce": Announce(
        file=FILE,
        have=b"\xff\x0f",
        wants=True,
        up_kbit_per_s=20_000,
        down_kbit_per_s=100_000,
        slots=4,
        broker_epoch=2,
        endpoint="10.0.0.7:4303",
        redirected=True,
    ),
    "have": Have(
        file=FILE, got=(Got(7, OTHER, 65_536),), taking=(8, 9), lost=(Lost(10, OTHER, Reason.TOO_SLOW, 16_384),)
    ),
    "grant": Grant(
        file=FILE,
        broker_epoch=2,
        receivers=1000,
        pieces=(Granted(11, OTHER, 6700, "10.0.0.8:4303", Ticket(SENDER, 2, 1_767_258_060_000, bytes(range(64)))),),
    ),
    "redirect": Redirect(file=FILE, coordinator=OTHER, endpoint="10.0.0.9:4301"),
    "identity that answers": Identity(
        role=Role.AGENT,
        device_type=DeviceType.LAPTOP,
        cluster_config_hash=b"12345678",
        knows_you=True,
        echo=b"abcdefgh",
        life=b"ijklmnop",
    ),
    "cloned": Cloned(stays=False, where="10.0.0.7"),
    "peerExchange": PeerExchange(
        coordinators=(
            Whereabouts(
                coordinator=SENDER,
                public_key=bytes(range(32)),
                endpoints=("hub.example:4301", "[2001:db8::1]:4301"),
                sequence=(1_767_258_000 << 32) + 1,
                expires_ms=1_767_862_800_000,
                signature=bytes(range(64)),
            ),
        )
    ),
    "announce of one that nobody can dial": Announce(file=FILE, have=b"\xff\x0f", wants=False, slots=4, dialable=False),
    "grant of one that dials": Grant(
        file=FILE,
        broker_epoch=2,
        receivers=2,
        pieces=(Granted(11, OTHER, 6700, "", Ticket(SENDER, 2, 1_767_258_060_000, bytes(range(64)))),),
        reverse=(OTHER,),
    ),
    "dialRequest": DialRequest(file=FILE, peer=OTHER),
    "dialRequest to the sender": DialRequest(
        file=FILE,
        peer=OTHER,
        endpoint="10.0.0.7:4303",
        ticket=Ticket(SENDER, 2, 1_767_258_060_000, bytes(range(64))),
    ),
    "ledgerAck of what may be taken later": LedgerAck(unknown=(bytes(range(32)),)),
}
"""By a name that begins with the message's type."""


def envelope(message: Message, seq: int) -> bytes:
    """The message in a signed envelope."""
    return ByteSigner(IdealKey(SENDER)).seal(Header("edgecoder", SENDER, 3, seq, 45_000), message)
