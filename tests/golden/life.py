"""One scripted life, and how it reads: every event that reached a node and every effect that it asked for.

A phone serves a task while it is told to swap; the swap drains and fails, is rolled back, succeeds at the second try,
is cut off by a crash at the third, and the node comes back with the model that was durable. Then one model is removed,
and the one that serves is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import msgspec

from edgecoder.config import NodeConfig
from edgecoder.core.effects import Effect, LoadModel, Persist, RunTask, Trace, UnloadModel
from edgecoder.core.events import Event, RemoveModel, Started
from edgecoder.core.ids import Medium, Role
from edgecoder.core.node import EPOCH_KEY
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.wire.envelope import Envelope, Frame
from edgecoder_sim.crypto import node_id
from tests.catalogs import CATALOG, LARGE, SMALL
from tests.harness import Cluster
from tests.hosts import Outcome, fails
from tests.invariants import message_of, order_of

EMPTY: tuple[object, ...] = (None, "", b"", ())
BY_ID: dict[object, str] = {node_id(name): name for name in ("phone", "near", "hub")} | {
    entry.sha256: f"<{entry.model_id}>" for entry in CATALOG.entries
}
"""What stands for long ids."""


def live(*, encoded: bool) -> Cluster:
    """Play the life."""
    cluster = Cluster(encoded=encoded)
    hub = cluster.add("hub", Role.COORDINATOR, config=NodeConfig(has_radio=False))
    phone = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    near = cluster.add("near")
    cluster.drive()
    cluster.link(phone, near, Medium.BLE, rssi_dbm=-50)
    cluster.link(phone, hub, Medium.WAN)
    cluster.run_for(1_500)

    phone.plan(RunTask, Outcome(after_us=400_000))
    phone.plan(LoadModel, fails(Reason.OUT_OF_MEMORY, after_us=300_000))
    near.submit("def add(a, b):")
    cluster.run_for(100)
    phone.swap("large")
    cluster.run_for(1_500)

    phone.swap("large")
    cluster.run_for(1_500)

    phone.plan(UnloadModel, Outcome(after_us=50_000))
    phone.swap("small")
    cluster.run_for(30)
    cluster.restart(phone)
    cluster.run_for(1_500)

    for model in ("small", "large"):
        phone.ask(RemoveModel, model=model)
    cluster.run_for(100)
    return cluster


def lines(cluster: Cluster) -> list[str]:
    """What the phone heard and did."""
    return [line for at, event, effects in cluster.hosts["phone"].log for line in _entry(at, event, effects)]


def _entry(at: int, event: Event, effects: list[Effect]) -> Iterator[str]:
    yield f"{at / 1000:10.3f} ms  {_shown(event)}"
    for effect in effects:
        yield f"                 -> {_shown(effect.record if isinstance(effect, Trace) else effect)}"


def _shown(value: object) -> str:
    """A value on one line; ids and digests by their names in this life, fields that say nothing left out."""
    match value:
        case Started(snapshot=snapshot):
            return f"Started({', '.join(sorted(snapshot))})"
        case Persist(op=op, key=key, value=kept):
            return f"Persist(op={_counted(op)}, key={key}, value={_shown(_unpacked(key, kept))})"
        case CatalogEntry(model_id=model_id):
            return model_id
        case msgspec.Struct():
            said = [(field, getattr(value, field)) for field in value.__struct_fields__]
            return (
                f"{type(value).__name__}({', '.join(_field(name, what) for name, what in said if what not in EMPTY)})"
            )
        case Enum():
            return value.name
        case str() | bytes():
            return BY_ID.get(value, value.hex() if isinstance(value, bytes) else repr(value))
        case dict():
            return f"{{{', '.join(f'{_shown(key)}: {_shown(what)}' for key, what in value.items())}}}"
    return repr(value)


def _field(name: str, value: object) -> str:
    if name == "frame" and isinstance(value, Envelope | bytes):
        return f"frame={_shown_frame(value)}"
    is_counted = name in ("op", "generation") and isinstance(value, int)
    return f"{name}={_counted(value) if is_counted else _shown(value)}"


def _counted(value: object) -> str:
    """An operation or a generation as epoch and counter."""
    assert isinstance(value, int)
    return f"{value >> 32}.{value & 0xFFFFFFFF}"


def _shown_frame(frame: Frame) -> str:
    epoch, seq = order_of(frame)
    return f"{epoch}.{seq} {_shown(message_of(frame))}"


def _unpacked(key: str, value: bytes) -> object:
    """What a persisted value says."""
    return int.from_bytes(value, "big") if key == EPOCH_KEY else value and msgspec.msgpack.decode(value)
