"""Bytes of messages: the seed's names, -1 for loading, unknown and missing fields, and values out of range."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest

from edgecoder.config import DeviceType
from edgecoder.core.ids import Role
from edgecoder.errors import Reason, RemoteProtocolError
from edgecoder.wire.codec import decode_body, encode_body
from edgecoder.wire.messages import (
    NAMES,
    TYPES,
    Heartbeat,
    Identity,
    Load,
    Message,
    ModelAvailability,
    ResponseStatus,
    Summary,
    TaskResponse,
    load_from_wire,
    load_to_wire,
)
from tests.strategies import MESSAGES, TASK_ID, capabilities, full_heartbeat, response, task_request

NODE = b"n" * 32
OFFER = {"agentCount": 1, "totalParamCapacity": 1.0, "avgLoad": 0.0, "freeSlots": 0}


def on_the_wire(message: Message) -> dict[str, Any]:
    """The map that a message becomes."""
    decoded: dict[str, Any] = msgspec.msgpack.decode(encode_body(message))
    return decoded


def decoded(kind: str, fields: object) -> Message:
    """What a receiver makes of a map."""
    return decode_body(kind, msgspec.msgpack.encode(fields))


def test_every_message_has_a_name_and_a_strategy() -> None:
    assert set(TYPES.values()) == set(Message.__subclasses__()) == set(MESSAGES)
    assert {kind: NAMES[kind] for kind in NAMES} == {kind: name for name, kind in TYPES.items()}


def test_the_seeds_names() -> None:
    fields = on_the_wire(full_heartbeat())
    assert {"activeModel", "activeModelParamSize", "currentLoad", "modelSwapInProgress"} <= fields.keys()
    assert (fields["activeModel"], fields["activeModelParamSize"]) == ("small", 1.5)
    offer = {"m": ModelAvailability(1, 7.0, 2.0, 0)}
    told = on_the_wire(Summary(coordinator_id=NODE, agent_count=1, model_availability=offer))
    assert told["modelAvailability"]["m"] == {
        "agentCount": 1,
        "totalParamCapacity": 7.0,
        "avgLoad": 2.0,
        "freeSlots": 0,
    }
    assert told["agentCount"] == 1


@pytest.mark.parametrize(("load", "wire"), [(Load.LOADING, -1), (Load.of(0), 0), (Load.of(65_535), 65_535)])
def test_loading_is_minus_one_on_the_wire_and_nowhere_else(load: Load, wire: int) -> None:
    assert on_the_wire(capabilities(NODE, load=load))["currentLoad"] == wire
    assert decoded("capabilities", on_the_wire(capabilities(NODE, load=load))).current_load is load  # type: ignore[attr-defined]
    assert load.tasks >= 0
    assert load_from_wire(load_to_wire(load)) is load
    assert pickle.loads(pickle.dumps(load)) is load


def test_a_load_is_made_by_its_names_alone() -> None:
    with pytest.raises(TypeError, match=r"Load\.of"):
        Load()
    with pytest.raises(ValueError, match="0 to 65535"):
        Load.of(-1)
    assert [repr(Load.LOADING), repr(Load.of(3))] == ["Load.LOADING", "Load.of(3)"]
    assert Load.of(0) is not Load.LOADING
    assert Load.of(0).is_loading is False


@pytest.mark.parametrize("load", [-2, 65_536, (1 << 64) - 1, 1.0, True + 0.5, "0", None, [], {}, b"\x00"])
def test_other_loads_are_refused(load: object) -> None:
    with pytest.raises(RemoteProtocolError) as error:
        decoded("heartbeat", on_the_wire(full_heartbeat()) | {"currentLoad": load})
    assert error.value.reason is Reason.BAD_FRAME


def test_fields_at_their_defaults_take_no_bytes() -> None:
    assert on_the_wire(response(ResponseStatus.REFUSED)) == {"taskId": TASK_ID, "status": "refused", "index": 0}
    assert decoded("taskResponse", {"taskId": TASK_ID, "status": "refused", "index": 0}) == TaskResponse(
        task_id=TASK_ID, status=ResponseStatus.REFUSED, index=0
    )


def test_unknown_fields_are_dropped() -> None:
    identity = Identity(role=Role.AGENT, device_type=DeviceType.LAPTOP, cluster_config_hash=b"h")
    assert decoded("identity", on_the_wire(identity) | {"colour": "red", "nested": {"a": [1]}}) == identity


@pytest.mark.parametrize("field", ["generation", "activeModel", "currentLoad", "full"])
def test_missing_fields_are_refused(field: str) -> None:
    body = on_the_wire(full_heartbeat())
    del body[field]
    with pytest.raises(RemoteProtocolError, match=field):
        decoded("heartbeat", body)


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (full_heartbeat(), {"activeModelParamSize": float("nan")}),
        (full_heartbeat(), {"activeModelParamSize": float("inf")}),
        (full_heartbeat(), {"activeModelParamSize": -0.1}),
        (full_heartbeat(), {"generation": -1}),
        (full_heartbeat(), {"memoryMb": 1 << 63}),
        (full_heartbeat(), {"activeModel": "x" * 301}),
        (full_heartbeat(), {"holdingsDigest": b"x" * 33}),
        (full_heartbeat(), {"power": {"onExternalPower": True, "batteryPct": 101}}),
        (full_heartbeat(), {"deviceType": "toaster"}),
        (capabilities(NODE), {"agentId": b"short"}),
        (capabilities(NODE), {"languages": ["x"] * 65}),
        (task_request(), {"taskId": b"short"}),
        (task_request(), {"minParamSize": float("-inf")}),
        (task_request(), {"prompt": 5}),
        (response(ResponseStatus.CHUNK), {"index": 1_000_001}),
        (response(ResponseStatus.CHUNK), {"status": "perhaps"}),
        (response(ResponseStatus.CHUNK), {"reason": "because"}),
        (Summary(coordinator_id=NODE, agent_count=0, model_availability={}), {"modelAvailability": {"m": {}}}),
        (
            Summary(coordinator_id=NODE, agent_count=0, model_availability={}),
            {"modelAvailability": {str(number): OFFER for number in range(1025)}},
        ),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(message: Message, fields: dict[str, object]) -> None:
    kind = NAMES[type(message)]
    assert decoded(kind, on_the_wire(message)) == message
    with pytest.raises(RemoteProtocolError) as error:
        decoded(kind, on_the_wire(message) | fields)
    assert error.value.reason is Reason.BAD_FRAME


@pytest.mark.parametrize("kind", ["", "Heartbeat", "pieceRequest", "x" * 10_000])
def test_unknown_types_are_refused(kind: str) -> None:
    with pytest.raises(RemoteProtocolError) as error:
        decode_body(kind, b"\x80")
    assert error.value.reason is Reason.UNKNOWN_TYPE
    assert len(str(error.value)) < 100


def test_a_heartbeat_that_says_little_is_small() -> None:
    """It is what every node sends every 15 s."""
    quiet = Heartbeat(
        generation=(1 << 32) + 5,
        active_model="qwen2.5-coder-1.5b-instruct-q4_k_m",
        active_model_param_size=1.5,
        current_load=Load.of(0),
        model_swap_in_progress=False,
        full=False,
    )
    assert len(encode_body(quiet)) < 160
