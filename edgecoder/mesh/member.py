"""A member: the part of a node that phones and agents have. It swaps models, answers tasks and asks them.

This wires the machines together and holds no rule of its own: what each needs of the others (`Surroundings`, `Offer`,
`Reach`) is answered here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import msgspec

from edgecoder.config import Routing
from edgecoder.core.context import MILLI, Context
from edgecoder.core.events import (
    Advertised,
    AdvertiseFailed,
    CancelTask,
    CoordinatorSeen,
    LinkUp,
    PeersHeard,
    PeersSilent,
    PowerChanged,
    QueryStatus,
    ShutDown,
    SignalMeasured,
    SubmitTask,
    TaskChunk,
)
from edgecoder.core.ids import LinkId, Medium, Micros, NodeId, Role, TaskId
from edgecoder.errors import Reason
from edgecoder.mesh.announcer import Announcer
from edgecoder.mesh.caller import Caller
from edgecoder.mesh.executor import Executor, Sink
from edgecoder.mesh.gate import Gate, Link
from edgecoder.mesh.heartbeat import HeartbeatSender
from edgecoder.mesh.models import fitting, serving_for, taken_by
from edgecoder.mesh.neighbours import Neighbours
from edgecoder.mesh.origin import Origin
from edgecoder.mesh.peers import Peers
from edgecoder.mesh.power import PowerPolicy
from edgecoder.mesh.router import Candidate, PeerStats, Why
from edgecoder.mesh.soonest import make_router
from edgecoder.mesh.spares import Spares
from edgecoder.mesh.status import model_status
from edgecoder.mesh.uplinks import Uplinks
from edgecoder.models.catalog import Catalog, CatalogEntry, Platform
from edgecoder.models.inventory import Inventory
from edgecoder.models.manager import ModelManager
from edgecoder.models.swap import SwapState
from edgecoder.seeding.receipts import RECEIPT_TTL_MS, Payer, ReceiptQueue, quality_milli
from edgecoder.seeding.swarms import Swarms
from edgecoder.wire.envelope import Verified
from edgecoder.wire.messages import (
    Cancel,
    Capabilities,
    Cloned,
    HeartbeatAck,
    LedgerAck,
    Load,
    Message,
    PeerExchange,
    Power,
    Probe,
    ProbeReply,
    Receipt,
    Release,
    TaskRequest,
    TaskResponse,
)


def _models_take(take: Callable[..., None]) -> Callable[..., None]:
    return lambda member, event: take(member.models, event)


def _swarms_take(take: Callable[..., None]) -> Callable[..., None]:
    return lambda member, event: take(member.swarms, event)


def _swarms_hear(hear: Callable[..., None]) -> Callable[..., None]:
    return lambda member, link, verified: hear(member.swarms, link, verified.message)


class Member:
    """The machines of a phone or an agent."""

    def __init__(
        self, context: Context, gate: Gate, catalog: Catalog, platform: Platform, languages: tuple[str, ...]
    ) -> None:
        self._context = context
        self._gate = gate
        self._catalog = catalog
        self._power = PowerPolicy(context.config)
        self._self_stats = PeerStats()
        self.models = ModelManager(context, catalog, platform, self, self._holdings_changed, self._make_swarms)
        self.inventory = self.models.inventory
        self.downloads = self.models.downloads
        self.swap = self.models.swap
        self.peers = Peers(context)
        self.neighbours = Neighbours(context, gate, self.peers, self._uses, self.swarms.near.calls_for)
        self.swarms.near.caller = Caller(self.neighbours, self.peers)
        self.heartbeat = HeartbeatSender(context, self, lambda: self.announcer, self.neighbours.online_changed)
        self.announcer = Announcer(context, self, languages, self.heartbeat.changed)
        self.executor = Executor(context, self._model_for, self._load_changed, self)
        self.payer = Payer(context)
        self.receipts = ReceiptQueue(context, gate.verifier, self)
        self.origin = Origin(context, make_router(context.config, context.stream("routing")), self)
        self.uplinks = Uplinks(context, gate.links)
        spares_max = context.config.spares_max
        self.spares = Spares(context, gate.verifier, self.uplinks, self.swarms.unix_ms, spares_max=spares_max)

    def _make_swarms(self, inventory: Inventory) -> Swarms:
        self.swarms = Swarms(self._context, self._gate, self._catalog, inventory, self)
        return self.swarms

    # -- the node's life -----------------------------------------------------------------------------------------------

    def start(self, snapshot: Mapping[str, bytes]) -> None:
        """The node may send: restore what earlier lives kept, load the last model, begin to beat."""
        self.receipts.restore(snapshot)
        self.heartbeat.start()
        self.neighbours.start()
        self.spares.restore(snapshot)
        self.uplinks.start()
        self.models.start(snapshot)
        self.swarms.restore(snapshot)
        self.models.resume()
        if self.swap.state is SwapState.EMPTY:
            self.announcer.model_changed()

    def link_bound(self, link: Link) -> None:
        """Somebody identified itself at the other end of a link."""
        if link.role is Role.COORDINATOR:
            self.uplinks.link_bound(link)
            self.heartbeat.link_bound(link)
            self.swarms.link_bound(link)
        else:
            self.peers.link_bound(link)
            if link.peer is not None:
                self.payer.link_up(link.peer, link.id)
            self.announcer.tell(link.id)
            self.neighbours.link_bound(link)
            self.swarms.link_bound(link)

    def epoch_raised(self) -> None:
        """What peers and coordinator had of this node was of another epoch: tell them anew."""
        self.heartbeat.epoch_raised()
        self.announcer.model_changed()

    def link_up(self, event: LinkUp) -> None:
        """A link opened; who is there, is not known yet."""
        self.neighbours.link_up(event)

    def link_down(self, link: Link) -> None:
        """A link is gone, and with it what was open over it. Another one may take its place."""
        self.uplinks.link_down(link.id)
        self.heartbeat.link_down(link.id)
        self.peers.link_down(link)
        self.payer.link_down(link.id)
        self.executor.link_down(link.id)
        self.origin.link_down(link.id)
        self.swarms.link_down(link.id)
        spare = self._spare_of(link)
        if spare is not None:
            self.link_bound(spare)
        self.neighbours.link_down(link)

    def _uses(self, link: LinkId) -> bool:
        """Whether a task or a transfer needs a link."""
        return self.origin.uses(link) or self.executor.uses(link) or self.swarms.uses(link)

    def _spare_of(self, lost: Link) -> Link | None:
        """Another link to the same peer, where none is in use. Links to coordinators are the heartbeat's business."""
        if lost.role is Role.COORDINATOR or lost.peer is None or self.peers.link_to(lost.peer) is not None:
            return None
        return next((link for link in self._gate.links.values() if link.peer == lost.peer), None)

    @property
    def is_stopping(self) -> bool:
        """Whether it is shutting down."""
        return self.models.is_closed

    def _shut_down(self, command: ShutDown) -> None:
        self.models.is_closed = True
        self.swarms.gates_changed()
        self.announcer.model_changed()  # no router may send anything here any more
        self.origin.close(self.executor.runs)
        self.executor.drain(lambda: self._context.reply(command.command, None))

    # -- Surroundings of the swap --------------------------------------------------------------------------------------

    def advertise_loading(self, on_completion: Callable[[Advertised | AdvertiseFailed], None]) -> None:
        """See `swap.Surroundings`."""
        self.announcer.model_changed(on_completion)

    def advertise_settled(self) -> None:
        """See `swap.Surroundings`."""
        self.announcer.model_changed()
        self.origin.reach_changed()

    def drain_tasks(self, on_drained: Callable[[], None]) -> None:
        """See `swap.Surroundings`."""
        self.executor.drain(on_drained)

    # -- Surroundings of the swarms ------------------------------------------------------------------------------------

    def home_link(self) -> LinkId | None:
        """See `swarms.Surroundings`."""
        return self.heartbeat.link

    def gives_nothing(self) -> Reason | None:
        """See `swarms.Surroundings`."""
        if self.is_stopping:
            return Reason.SHUTTING_DOWN
        return None if self._power.work_tokens_max else Reason.LOW_POWER

    def runs_tasks(self) -> bool:
        """See `swarms.Surroundings`."""
        return self.executor.tasks > 0

    def on_external_power(self) -> bool:
        """See `swarms.Surroundings`."""
        return self._power.now.on_external_power

    # -- Offer to peers and coordinator --------------------------------------------------------------------------------

    def load(self) -> Load:
        """See `announcer.Offer`."""
        is_available = self.swap.is_settled and not self.is_stopping
        return Load.of(self.executor.tasks) if is_available else Load.LOADING

    def active_model(self) -> tuple[str | None, float | None]:
        """See `announcer.Offer`."""
        entry = self.swap.active
        return (None, None) if entry is None else (entry.model_id, entry.param_size)

    def tokens_per_s(self) -> int:
        """See `announcer.Offer`."""
        return self.swap.tokens_per_s if self.swap.serving is not None else 0

    def power(self) -> Power:
        """See `announcer.Offer`."""
        return self._power.now

    def work_tokens_max(self) -> int:
        """See `announcer.Offer`."""
        return self._power.work_tokens_max

    def piece_map_digest(self) -> bytes:
        """See `announcer.Offer`."""
        return self.inventory.digest()

    # -- Reach of tasks ------------------------------------------------------------------------------------------------

    def candidates(self, request: TaskRequest, tried: set[NodeId]) -> list[Candidate]:
        """See `reach.Reach`."""
        fits = fitting(request.model, request.min_param_size, self._catalog.same_model)
        model, param_size = self.active_model()
        why = fits(model, param_size)
        if not self.swap.is_settled:
            why = Why.IS_LOADING
        elif self._context.node_id in tried:
            why = Why.TRIED
        me = Candidate(
            self._context.node_id,
            param_size,
            self.load(),
            self._context.config.device_type,
            self._power.now.battery_pct,
            None,
            self._self_stats.fail_rate,
            100,
            why,
            tokens_per_s=self.tokens_per_s(),
            slots=self._context.config.slots,
            on_external_power=self._power.now.on_external_power,
        )
        coordinator = self.coordinator()  # costs do not know how long a dial takes
        is_probing = self._context.config.routing is Routing.PROBE
        may_dial = is_probing or coordinator is None or coordinator[0] in tried
        return [me, *self.peers.candidates(fits, tried, request.max_tokens, may_dial=may_dial)]

    def dial(self, node: NodeId, on_link: Callable[[LinkId | None], None], size_bytes: int = 0) -> None:
        """See `reach.Reach`."""
        self.neighbours.dial(node, on_link, size_bytes)

    def goes_wide(self, node: NodeId, request: TaskRequest) -> bool:
        """See `reach.Reach`."""
        return self.neighbours.goes_wide(node, len(request.prompt.encode()))

    def link_to(self, node: NodeId) -> LinkId | None:
        """See `reach.Reach`."""
        return self.peers.link_to(node)

    def coordinator(self) -> tuple[NodeId, LinkId] | None:
        """See `reach.Reach`."""
        link = self._gate.links.get(self.heartbeat.link) if self.heartbeat.link is not None else None
        if link is None or link.peer is None or not self.heartbeat.is_online:
            return None
        return link.peer, link.id

    def upload_ms(self, link: LinkId, request: TaskRequest) -> int:
        """See `reach.Reach`."""
        bound = self._gate.links.get(link)
        is_slow = bound is not None and bound.medium is Medium.BLE
        return len(request.prompt.encode()) * 8 // self._context.config.ble_kbit_per_s if is_slow else 0

    def run_here(self, request: TaskRequest, sink: Sink) -> None:
        """See `reach.Reach`."""
        self.executor.offer(request, sink, None)

    def offer_here(self, request: TaskRequest) -> ProbeReply:
        """See `prober.Near`."""
        return self._with_power(
            self.executor.judge_probe(
                Probe(
                    task_id=request.task_id,
                    model=request.model,
                    min_param_size=request.min_param_size,
                    max_tokens=request.max_tokens,
                    prompt_bytes=len(request.prompt.encode()),
                ),
                is_own=True,
            )
        )

    def note_probe(self, node: NodeId, answered: bool) -> None:
        """See `prober.Near`."""
        row = self.peers.rows.get(node)
        if row is not None:
            row.stats.unanswered = 0 if answered else row.stats.unanswered + 1

    def _with_power(self, reply: ProbeReply) -> ProbeReply:
        power = self._power.now
        return msgspec.structs.replace(reply, battery_pct=power.battery_pct, on_external_power=power.on_external_power)

    def cancel_here(self, task: TaskId, reason: Reason, attempt: int) -> None:
        """See `reach.Reach`."""
        self.executor.cancel(task, reason, None, attempt)

    def note_answer(self, node: NodeId, link: LinkId, response: TaskResponse, asked_at: Micros) -> None:
        """See `reach.Reach`. Offline, nobody else has seen who served whom."""
        bound = self._gate.links.get(link)
        if self.heartbeat.is_online or bound is None or bound.role is Role.COORDINATOR:
            return
        entry = None if response.model is None else self.models.find(response.model)
        size = entry.param_size if isinstance(entry, CatalogEntry) else None
        cpu_ms = (self._context.now - asked_at) // MILLI
        self.payer.pay(node, link, response.task_id, response.tokens, cpu_ms, quality_milli(size))

    def note_outcome(self, node: NodeId, latency_ms: int | None) -> None:
        """See `reach.Reach`."""
        row = self.peers.rows.get(node)
        stats = self._self_stats if node == self._context.node_id else None if row is None else row.stats
        if stats is None:
            return
        if latency_ms is None:
            stats.note_failure(self._context.now, self._context.config)
        else:
            stats.note_success(latency_ms)

    # -- commands ------------------------------------------------------------------------------------------------------

    def _submit_task(self, command: SubmitTask) -> None:
        if self.is_stopping:
            self._context.reply(command.command, Reason.SHUTTING_DOWN)
        else:
            self.origin.submit(command)

    def _query_status(self, command: QueryStatus) -> None:
        current = self.announcer.current
        generation = 0 if current is None else current.generation
        status = model_status(self.swap, self.downloads.under_way(), self.load(), generation, self.heartbeat.is_online)
        uplinks = self.uplinks.shown(self.heartbeat.link)
        self._context.reply(
            command.command, msgspec.structs.replace(status, uplinks=uplinks, catalog=self.models.editions.shown())
        )

    # -- news ----------------------------------------------------------------------------------------------------------

    def _signal_measured(self, event: SignalMeasured) -> None:
        link = self._gate.links.get(event.link)
        if link is not None:
            self.peers.signal_measured(link.peer, event.rssi_dbm)

    def _power_changed(self, event: PowerChanged) -> None:
        self._power.changed(event)
        self.announcer.load_changed()
        self.swarms.gates_changed()

    def _load_changed(self) -> None:
        self.announcer.load_changed()
        self.swarms.tasks_changed()

    def _holdings_changed(self) -> None:
        self.announcer.load_changed()

    def _on_capabilities(self, link: Link, verified: Verified[Capabilities]) -> None:
        message = verified.message
        if self.peers.learn(link, message, verified.header.ttl_ms):
            self._peer_changed(message)
        self.neighbours.told(link)

    def _peer_changed(self, message: Capabilities) -> None:
        self.origin.peer_changed(message.agent_id, taken_by(message, self._catalog.same_model))
        if not message.current_load.is_loading:
            self.origin.reach_changed()

    def _on_heartbeat_ack(self, link: Link, verified: Verified[HeartbeatAck]) -> None:
        if link.id == self.heartbeat.link:
            self.heartbeat.acknowledged(verified.message)
            self.swarms.home_answered(link.id, verified.message.coordinator_time_ms)
            if len(self.receipts):
                self.receipts.sync()

    def _on_receipt(self, link: Link, verified: Verified[Receipt]) -> None:
        receipt = verified.message
        self.receipts.take(
            self._answerer(link, RECEIPT_TTL_MS), link.peer, receipt, self.executor.has_done(receipt.task_id)
        )

    def _on_ledger_ack(self, link: Link, verified: Verified[LedgerAck]) -> None:
        if link.peer is None:
            return
        if link.role is Role.COORDINATOR:
            self.receipts.acknowledged(link.peer, verified.message)
        else:
            self.payer.acknowledged(link.peer, verified.message)

    def _on_task_request(self, link: Link, verified: Verified[TaskRequest]) -> None:
        self.executor.offer(verified.message, self._answerer(link, self._context.config.task_silence_ms), link.id)

    def _answerer(self, link: Link, ttl_ms: int) -> Callable[[Message], None]:
        """Sends over a link, as long as it is up."""

        def answer(message: Message) -> None:
            if link.id in self._gate.links:
                self._context.send(link.id, message, ttl_ms)

        return answer

    def _on_probe(self, link: Link, verified: Verified[Probe]) -> None:
        reply = self._with_power(self.executor.probe(verified.message, link.id))
        self._context.send(link.id, reply, self._context.config.probe_hold_ms)

    def _on_probe_reply(self, link: Link, verified: Verified[ProbeReply]) -> None:
        self.origin.probe_reply(link.id, verified.message)

    def _on_release(self, link: Link, verified: Verified[Release]) -> None:
        self.executor.reservations.take(link.id, verified.message.task_id)

    def _on_task_response(self, link: Link, verified: Verified[TaskResponse]) -> None:
        self.origin.response(link.id, verified.message)

    def _on_cancel(self, link: Link, verified: Verified[Cancel]) -> None:
        message = verified.message
        self.executor.cancel(message.task_id, message.reason, link.id, message.attempt)

    def _model_for(self, request: TaskRequest | Probe) -> str | Reason:
        """The active model, if it may answer this request now."""
        return Reason.SHUTTING_DOWN if self.is_stopping else serving_for(request, self.swap, self._catalog.same_model)

    EVENTS: ClassVar[dict[type, Callable[..., None]]] = {
        SubmitTask: _submit_task,
        CancelTask: lambda member, event: member.origin.cancel(event),
        QueryStatus: _query_status,
        ShutDown: _shut_down,
        TaskChunk: lambda member, event: member.executor.chunk(event),
        SignalMeasured: _signal_measured,
        PowerChanged: _power_changed,
        CoordinatorSeen: lambda member, event: member.uplinks.seen(event),
        PeersHeard: lambda member, event: member.neighbours.heard(event),
        PeersSilent: lambda member, event: member.neighbours.silent(event),
        **{kind: _models_take(take) for kind, take in ModelManager.EVENTS.items()},
        **{kind: _swarms_take(take) for kind, take in Swarms.EVENTS.items()},
    }
    """Who takes an event; called with the member and the event."""
    MESSAGES: ClassVar[dict[type, Callable[..., None]]] = {
        Capabilities: _on_capabilities,
        HeartbeatAck: _on_heartbeat_ack,
        Probe: _on_probe,
        ProbeReply: _on_probe_reply,
        Release: _on_release,
        TaskRequest: _on_task_request,
        TaskResponse: _on_task_response,
        Cancel: _on_cancel,
        Receipt: _on_receipt,
        LedgerAck: _on_ledger_ack,
        Cloned: lambda member, link, verified: member.uplinks.cloned(link, verified.message),
        PeerExchange: lambda member, link, verified: member.spares.heard(link, verified.message),
        **{kind: _swarms_hear(hear) for kind, hear in Swarms.MESSAGES.items()},
    }
    """Who takes a message; called with the member, the link and the verified message."""
