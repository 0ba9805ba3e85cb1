"""The hub: the part of a node that coordinators have. It registers nodes, tells the federation, and relays tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from edgecoder.coordinator.broker import Broker
from edgecoder.coordinator.clones import Clones
from edgecoder.coordinator.exchange import Exchange
from edgecoder.coordinator.ledger import Ledger
from edgecoder.coordinator.registry import Registry
from edgecoder.coordinator.relay import Relays
from edgecoder.coordinator.summaries import Summaries
from edgecoder.coordinator.withdrawn import Withdrawn
from edgecoder.core.context import MILLI, Context
from edgecoder.core.effects import Clones as ClonesSeen
from edgecoder.core.effects import Disconnect
from edgecoder.core.events import (
    CatalogConfirmed,
    CatalogReleased,
    CoordinatorSeen,
    LinkUp,
    QueryClones,
    QueryLedger,
    QueryMesh,
    ShutDown,
)
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Gate, Link
from edgecoder.mesh.soonest import make_router
from edgecoder.mesh.spares import Spares
from edgecoder.mesh.uplinks import Uplinks
from edgecoder.models.catalog import Catalog
from edgecoder.models.editions import Editions
from edgecoder.wire.envelope import Verified
from edgecoder.wire.messages import (
    Announce,
    Cancel,
    Cloned,
    DialRequest,
    Have,
    Heartbeat,
    HeartbeatAck,
    LedgerBatch,
    PeerExchange,
    Probe,
    Summary,
    TaskRequest,
    TaskResponse,
)


class Hub:
    """The machines of a coordinator."""

    def __init__(self, context: Context, gate: Gate, catalog: Catalog, wall_ms: int) -> None:
        """`wall_ms` is Unix time at the start of this life; heartbeats are answered with the time that it has
        become."""
        self._context = context
        self._gate = gate
        self._wall_us = wall_ms * MILLI - context.now
        self.registry = Registry(context, gate.links)
        self.ledger = Ledger(context, gate.verifier, gate.links)
        self.summaries = Summaries(context, self.registry, catalog.same_model)
        router = make_router(context.config, context.stream("routing"))
        self.exchange = Exchange(context, gate)
        self.broker = Broker(
            context, gate.links, catalog, self._unix_ms, self.summaries.alive, self.exchange.endpoint_of
        )
        self._catalog = catalog
        self.withdrawn = Withdrawn(context, catalog, self.registry, self.broker.files)
        self.editions = Editions(context, catalog, self.withdrawn.is_kept)
        self.relays = Relays(context, self.registry, self.summaries, router, catalog.same_model)
        self.uplinks = Uplinks(context, gate.links, is_mutual=True)
        self.spares = Spares(context, gate.verifier, self.uplinks, self._unix_ms, spares_max=0)
        self.clones = gate.judge = Clones(context, gate)

    def start(self, snapshot: Mapping[str, bytes]) -> None:
        """The node may send: begin the periods. Nothing of a registry is kept across lives: heartbeats fill it
        again. The ledger is."""
        self.withdrawn.restore(snapshot)
        self.broker.know(self._catalog)
        self.ledger.restore(snapshot)
        self.registry.start()
        self.summaries.start()
        self.spares.restore(snapshot)
        self.uplinks.start()
        self.exchange.start()

    def link_bound(self, link: Link) -> None:
        """Somebody identified itself at the other end of a link."""
        self.clones.link_bound(link)
        self.exchange.link_bound(link)
        if link.role is Role.COORDINATOR:
            self.summaries.link_bound(link)
            self.uplinks.link_bound(link)

    def epoch_raised(self) -> None:
        """What others had of this coordinator was of another epoch: tell them anew."""
        self.summaries.tell_all()
        self.exchange.renew()

    def link_up(self, event: LinkUp) -> None:
        """A link opened; who is there, is not known yet. One too many is closed again."""
        if event.link not in self._gate.links:
            self._context.out.append(Disconnect(event.link))

    def link_down(self, link: Link) -> None:
        """A link is gone, and with it what was open over it."""
        self.summaries.link_down(link.id)
        self.relays.link_down(link.id)
        self.broker.link_down(link.id)
        self.uplinks.link_down(link.id)
        self.exchange.link_down(link.id)
        self.clones.link_down(link.id)

    def _unix_ms(self) -> int:
        return (self._wall_us + self._context.now) // MILLI

    def _query_mesh(self, query: QueryMesh) -> None:
        self._context.reply(query.command, self.summaries.query(query))

    def _query_ledger(self, query: QueryLedger) -> None:
        self._context.reply(query.command, self.ledger.totals())

    def _query_clones(self, query: QueryClones) -> None:
        self._context.reply(query.command, ClonesSeen(self.clones.rows()))

    def _shut_down(self, command: ShutDown) -> None:
        self.relays.drain(lambda: self._context.reply(command.command, None))

    def _on_heartbeat(self, link: Link, verified: Verified[Heartbeat]) -> None:
        message = verified.message
        if link.role is Role.COORDINATOR:
            self._context.drop("heartbeat", Reason.UNKNOWN_SENDER)
            return
        known = self.registry.learn(link, verified.header, message)
        time_ms = self._unix_ms()
        header = verified.header
        acknowledgement = HeartbeatAck(epoch=header.epoch, seq=header.seq, coordinator_time_ms=time_ms, known=known)
        self._context.send(link.id, acknowledgement, self._context.cluster.heartbeat_interval_ms)
        self.exchange.heartbeat(link.id)

    def _on_summary(self, link: Link, verified: Verified[Summary]) -> None:
        message = verified.message
        if link.role is not Role.COORDINATOR:
            self._context.drop("summary", Reason.UNKNOWN_SENDER)
            return
        self.summaries.learn(link, verified.header, message)

    def _on_peer_exchange(self, link: Link, verified: Verified[PeerExchange]) -> None:
        self.spares.heard(link, verified.message)
        self.exchange.heard(link, verified.message)

    def _on_probe(self, link: Link, verified: Verified[Probe]) -> None:
        if link.role is Role.COORDINATOR:
            self._context.drop("probe", Reason.UNKNOWN_SENDER)
        else:
            self.relays.probe(link, verified.message)

    def _on_task_request(self, link: Link, verified: Verified[TaskRequest]) -> None:
        message = verified.message
        self.relays.request(link, message)

    def _on_task_response(self, link: Link, verified: Verified[TaskResponse]) -> None:
        message = verified.message
        self.relays.response(link.id, message)

    def _on_cancel(self, link: Link, verified: Verified[Cancel]) -> None:
        message = verified.message
        self.relays.cancel(link.id, message)

    def _on_ledger_batch(self, link: Link, verified: Verified[LedgerBatch]) -> None:
        if link.role is Role.COORDINATOR:
            self._context.drop("ledgerBatch", Reason.UNKNOWN_SENDER)
        else:
            self.ledger.batch(link.id, verified.message)

    def _catalog_released(self, event: CatalogReleased) -> None:
        if self.editions.released(event):
            self.withdrawn.released()
            self.broker.know(self._catalog)

    EVENTS: ClassVar[dict[type, Callable[..., None]]] = {
        QueryMesh: _query_mesh,
        CatalogReleased: _catalog_released,
        CatalogConfirmed: lambda hub, event: hub.editions.confirmed(event),
        QueryLedger: _query_ledger,
        QueryClones: _query_clones,
        CoordinatorSeen: lambda hub, event: hub.uplinks.seen(event),
        ShutDown: _shut_down,
    }
    """Who takes an event; called with the hub and the event."""
    MESSAGES: ClassVar[dict[type, Callable[..., None]]] = {
        Heartbeat: _on_heartbeat,
        Summary: _on_summary,
        Probe: _on_probe,
        TaskRequest: _on_task_request,
        TaskResponse: _on_task_response,
        Cancel: _on_cancel,
        LedgerBatch: _on_ledger_batch,
        PeerExchange: _on_peer_exchange,
        Cloned: lambda hub, link, verified: hub.uplinks.cloned(link, verified.message),
        Announce: lambda hub, link, verified: hub.broker.announce(link, verified.message),
        Have: lambda hub, link, verified: hub.broker.have(link, verified.message),
        DialRequest: lambda hub, link, verified: hub.broker.dial(link, verified.message),
    }
    """Who takes a message; called with the hub, the link and the verified message."""
