"""A stage for checkers: actors that do what a test says, and the panel that watches them.

An actor is no node: it makes the events and effects that a node's life consists of, right ones unless the test asks
otherwise. What a checker says of them is the test's business.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from edgecoder.config import ClusterConfig, DeviceType, NodeConfig, server
from edgecoder.core.effects import Advertise, Effect, LoadModel, Persist, RunTask, Send, Trace, UnloadModel
from edgecoder.core.events import (
    Advertised,
    Event,
    FrameReceived,
    LinkUp,
    ModelLoaded,
    ModelUnloaded,
    Persisted,
    Started,
)
from edgecoder.core.ids import COUNTER_BITS, LinkId, Medium, NodeId, OpId, Role, TaskId, task_id
from edgecoder.core.node import Node, Setup
from edgecoder.errors import InvariantViolated
from edgecoder.models.catalog import CatalogEntry
from edgecoder.models.swap import SwapJournal
from edgecoder.trace import CapabilitiesChanged, SwapEnded, SwapPhase
from edgecoder.wire.advertisement import Bits
from edgecoder.wire.envelope import Envelope, Header
from edgecoder.wire.messages import (
    Capabilities,
    Heartbeat,
    HeartbeatAck,
    Identity,
    Load,
    Message,
    Power,
    ResponseStatus,
    TaskRequest,
    TaskResponse,
)
from edgecoder_sim.checkers import make_checkers
from edgecoder_sim.crypto import ReferenceSigner, ReferenceVerifier, node_id
from tests.catalogs import CATALOG, SMALL

REPRODUCE: Final = "edgecoder run tiny --rng-seed 7"
NEWS: Final = LinkUp(0, Medium.BLE)
"""An event that nobody judges."""
BITS: Final = Bits(loading=False, generation=0, tag=b"tag")
SECOND_US: Final = 1_000_000
_CLUSTER: Final = ClusterConfig()
_POWER: Final = Power(on_external_power=False, battery_pct=100)


def breach(checker: str, *parts: str) -> Any:
    """Expect a violation of this checker whose message has all these parts."""
    return pytest.raises(InvariantViolated, match=f"^invariant {checker} violated.*" + ".*".join(parts))


class Stage:
    """The clock, the actors and the panel."""

    def __init__(self) -> None:
        (self.panel,) = make_checkers(7, REPRODUCE)
        self.now_us = 0
        self.actors: list[Actor] = []
        self._links = 0

    def actor(self, name: str, role: Role = Role.PHONE, *, start: bool = True, **config: Any) -> Actor:
        """A node with this configuration on top of its preset; a started one may send."""
        base = server() if role is Role.COORDINATOR else NodeConfig()
        actor = Actor(self, name, role, msgspec.structs.replace(base, **config))
        self.actors.append(actor)
        if start:
            actor.start()
        return actor

    def link(self, a: Actor, b: Actor) -> LinkId:
        """Connect two actors, who say who they are."""
        self._links += 1
        link = self._links
        for end in (a, b):
            end.sees(LinkUp(link, Medium.LAN), end.sends(link, end.identity()))
        a.hears(link, b, b.identity())
        b.hears(link, a, a.identity())
        return link

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_us += round(seconds * SECOND_US)

    def finish(self) -> None:
        """End the run."""
        self.panel.finish(self.now_us)


class Actor:
    """One node's events and effects."""

    def __init__(self, stage: Stage, name: str, role: Role, config: NodeConfig) -> None:
        self.stage = stage
        self.index = len(stage.actors)
        self.name = name
        self.node_id: NodeId = node_id(name)
        self._signer = ReferenceSigner(self.node_id)
        setup = Setup(role=role, cluster=_CLUSTER, config=config, catalog=CATALOG)
        self.node = Node(setup, self._signer, ReferenceVerifier(_CLUSTER.network_id), 1)
        self.role = role
        self.epoch = 0
        self.seq = 0
        self.op = 0
        self.counter = 0
        self.swap = 0
        self.disk: dict[str, bytes] = {}
        self.disk_free_bytes: int | None = None
        self.active: CatalogEntry | None = None
        self.is_behind = False
        """Whether its machine has not got to all that reached it."""

    def sees(self, event: Event, *effects: Effect) -> None:
        """An event with its effects, which the panel judges."""
        self.stage.panel.saw(self.stage.now_us, self, event, list(effects))  # type: ignore[arg-type]

    # -- its life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a life with the next epoch."""
        self.epoch += 1
        self.seq = self.op = self.counter = self.swap = 0
        epoch = self.persists("epoch", self.epoch.to_bytes(4, "big"))
        self.sees(Started(dict(self.disk)), epoch)
        self.sees(Persisted(epoch.op))

    def next_op(self) -> OpId:
        """A fresh operation id."""
        self.op += 1
        return (self.epoch << COUNTER_BITS) | self.op

    def persists(self, key: str, value: bytes) -> Persist:
        """A write; it is on the disk at once."""
        self.disk[key] = value
        return Persist(self.next_op(), key, value)

    # -- frames --------------------------------------------------------------------------------------------------------

    def seals(self, message: Message, **header: Any) -> Envelope:
        """An envelope with the next sequence number; `header` replaces what stands in it."""
        self.seq += 1
        given = {"sender": self.node_id, "epoch": self.epoch, "seq": self.seq, "ttl_ms": 60_000, **header}
        return self._signer.seal(Header(_CLUSTER.network_id, **given), message)

    def sends(self, link: LinkId, message: Message, **header: Any) -> Send:
        """A message on a link."""
        return Send(link, self.seals(message, **header))

    def hears(self, link: LinkId, sender: Actor, message: Message, *effects: Effect) -> Envelope:
        """A message of another actor, and what follows; the frame that it came in."""
        frame = sender.seals(message)
        self.sees(FrameReceived(link, frame), *effects)
        return frame

    def identity(self) -> Identity:
        """Who it is."""
        return Identity(role=self.role, device_type=DeviceType.PHONE, cluster_config_hash=_CLUSTER.digest())

    def capabilities(self, load: Load | None = None, **fields: Any) -> Capabilities:
        """What it offers, with the generation that it has."""
        model = self.active
        return Capabilities(
            **{
                "agent_id": self.node_id,
                "generation": self.generation,
                "active_model": None if model is None else model.model_id,
                "active_model_param_size": None if model is None else model.param_size,
                "current_load": load or Load.of(0),
                "memory_mb": 6144,
                "slots": 1,
                "tokens_per_s": 0 if model is None else 20,
                "battery_pct": 100,
                "device_type": DeviceType.PHONE,
                **fields,
            }
        )

    @property
    def generation(self) -> int:
        """Of its newest capabilities."""
        return (self.epoch << COUNTER_BITS) | self.counter

    def heartbeat(self, load: Load | None = None, *, full: bool = True, **fields: Any) -> Heartbeat:
        """A heartbeat that says what was advertised last; `fields` replace what stands in it."""
        model, load = self.active, load or Load.of(0)
        rest = {
            "power": _POWER,
            "device_type": DeviceType.PHONE,
            "memory_mb": self.node.setup.config.memory_mb,
            "slots": self.node.setup.config.slots,
            "tokens_per_s": 0 if model is None else 20,
            "holdings_digest": b"files",
            "cluster_config_hash": _CLUSTER.digest(),
        }
        always = {
            "generation": self.generation,
            "active_model": None if model is None else model.model_id,
            "active_model_param_size": None if model is None else model.param_size,
            "current_load": load,
            "model_swap_in_progress": load.is_loading,
            "full": full,
        }
        return Heartbeat(**{**always, **(rest if full else {}), **fields})

    # -- capabilities and swaps ----------------------------------------------------------------------------------------

    def changes(self, load: Load | None = None) -> Trace:
        """Its capabilities change: the record of the next generation."""
        self.counter += 1
        load = load or Load.of(0)
        model = None if self.active is None else self.active.model_id
        return Trace(CapabilitiesChanged(self.generation, model, load.is_loading, load.tasks))

    def advertises(self, load: Load | None = None) -> list[Effect]:
        """The record of the next generation, and the advertisement of it where there is a radio."""
        record = self.changes(load)
        if not self.node.setup.config.has_radio:
            return [record]
        capabilities = self.capabilities(load)
        deadline = self.stage.now_us + 500_000
        return [record, Advertise(self.next_op(), capabilities, self.seals(capabilities), deadline, BITS)]

    def told(self, advertisement: list[Effect]) -> Event:
        """Everybody has it; without a radio there is nothing to wait for."""
        for effect in advertisement:
            if isinstance(effect, Advertise):
                return Advertised(effect.op, 0)
        return NEWS

    def phase(self, phase: str, target: CatalogEntry) -> Trace:
        """A step of the swap."""
        return Trace(SwapPhase(self.swap, phase, target.model_id, None))

    def intends(self, target: CatalogEntry | None) -> Persist:
        """The journal of a swap to `target`; None: of its end."""
        active = None if self.active is None else self.active.sha256
        journal = SwapJournal(active, None if target is None else target.sha256)
        return self.persists("swap", msgspec.msgpack.encode(journal))

    def boots(self, entry: CatalogEntry) -> None:
        """Load the model of the last life, as a node does that has one."""
        self.active = entry
        self.intends(None)
        self.active = None
        self.start()
        self.swap = 1
        loading = self.advertises(Load.LOADING)
        self.sees(NEWS, self.phase("announcing", entry), *loading)
        load = self.loads(entry)
        self.sees(self.told(loading), self.phase("loading", entry), load)
        self.serves(load)

    def loads(self, entry: CatalogEntry) -> LoadModel:
        """A load."""
        return LoadModel(self.next_op(), entry, 4096)

    def unloads(self) -> UnloadModel:
        """An unload."""
        return UnloadModel(self.next_op())

    def ended(self, target: CatalogEntry) -> Trace:
        """The end of the swap."""
        active = None if self.active is None else self.active.model_id
        return Trace(SwapEnded(self.swap, target.model_id, active, None, 1, "user"))

    def unloads_for(self, target: CatalogEntry) -> UnloadModel:
        """All of a swap up to and with the unload, which is returned still open."""
        self.swap += 1
        intent = self.intends(target)
        self.sees(NEWS, self.phase("announcing", target), intent)
        loading = self.advertises(Load.LOADING)
        self.sees(Persisted(intent.op), *loading)
        unload = self.unloads()
        self.sees(self.told(loading), self.phase("unloading", target), unload)
        return unload

    def swaps(self, target: CatalogEntry) -> None:
        """All of a swap, done right."""
        unload = self.unloads_for(target)
        load = self.loads(target)
        self.sees(ModelUnloaded(unload.op), self.phase("loading", target), load)
        self.serves(load)

    def begins(self, target: CatalogEntry) -> None:
        """A swap as far as it is announced."""
        self.swap += 1
        self.sees(NEWS, self.phase("announcing", target), *self.advertises(Load.LOADING))

    def serves(self, load: LoadModel) -> None:
        """The end of a swap whose load has succeeded."""
        self.active = load.entry
        said, journal = self.advertises(), self.intends(None)
        self.sees(ModelLoaded(load.op, 20), self.phase("ready", load.entry), *said, journal)
        self.sees(Persisted(journal.op), self.ended(load.entry))
        if self.node.setup.config.has_radio:
            self.sees(self.told(said))

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def task(self, number: int = 1) -> TaskId:
        """The id of one of its own tasks."""
        return task_id(self.node_id, self.epoch, number)

    def runs(self, task: TaskId) -> RunTask:
        """A run of its engine."""
        return RunTask(self.next_op(), task, "why?", 10)


def request(task: TaskId, **fields: Any) -> TaskRequest:
    """A request for a short answer."""
    given = {"task_id": task, "prompt": "why?", "model": None, "min_param_size": 0.0, "max_tokens": 10}
    return TaskRequest(**{**given, "deadline_ms": 10_000, "stream": True, **fields})


def response(task: TaskId, status: ResponseStatus, index: int = 0, **fields: Any) -> TaskResponse:
    """A part of an answer."""
    return TaskResponse(task_id=task, status=status, index=index, **fields)


class Office:
    """A phone and an agent that serve SMALL, with their coordinator, and another coordinator."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.phone = stage.actor("phone-0", start=False)
        self.phone.boots(SMALL)
        self.agent = stage.actor("agent-0", start=False, slots=2)
        self.agent.boots(SMALL)
        self.hub = stage.actor("hub-0", Role.COORDINATOR)
        self.other = stage.actor("hub-1", Role.COORDINATOR)
        self.to_phone = stage.link(self.hub, self.phone)
        self.to_agent = stage.link(self.hub, self.agent)
        self.to_other = stage.link(self.hub, self.other)
        self.radio = stage.link(self.phone, self.agent)

    def beat(self, actor: Actor, link: LinkId, **fields: Any) -> int:
        """A heartbeat to the coordinator that arrives; its seq."""
        heartbeat = actor.heartbeat(**fields)
        actor.sees(NEWS, actor.sends(link, heartbeat))
        actor.seq -= 1  # the same envelope
        self.hub.hears(link, actor, heartbeat)
        return actor.seq

    def acknowledge(self, actor: Actor, link: LinkId, seq: int, *, known: bool = True) -> None:
        """The coordinator's answer arrives."""
        ack = HeartbeatAck(epoch=actor.epoch, seq=seq, coordinator_time_ms=0, known=known)
        actor.hears(link, self.hub, ack)


def relay(office: Office, *, number: int = 1, **fields: Any) -> Send:
    """The coordinator passes a task on to the agent."""
    return office.hub.sends(office.to_agent, request(office.phone.task(number), hops=1, **fields))
