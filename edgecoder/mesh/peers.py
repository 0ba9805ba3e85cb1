"""The peer table: what is known of the nodes in reach of this node's own links.

The newest generation of a peer's capabilities counts, whichever way it came. A peer whose link is down is unreachable,
and forgotten after a while. Agents that only a coordinator can reach stand in its registry, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from edgecoder.core.context import MILLI, Context
from edgecoder.core.ids import LinkId, Medium, Micros, NodeId, Role
from edgecoder.mesh.gate import Link
from edgecoder.mesh.router import Candidate, PeerStats, Why
from edgecoder.trace import PeerForgotten, PeerLearned
from edgecoder.wire.advertisement import Bits, heard_generation, is_later
from edgecoder.wire.messages import Capabilities

_SWEEP = ("peers.sweep", 0)
FitsModel = Callable[[str | None, float | None], Why | None]
"""Judges a peer's active model and its size for one task; None: it fits."""


class PeerRow(msgspec.Struct):
    """What is known of one peer."""

    node: NodeId
    link: Link | None
    capabilities: Capabilities | None
    stats: PeerStats
    last_seen: Micros
    holds_until: Micros = 0
    """Until when the capabilities are believed, by their envelope's ttl on this node's clock."""
    is_heard: bool = False
    """Whether the radio hears it: it can be dialled."""
    is_outdated: bool = False
    """Whether its advertisement tells of something that was not read yet,"""
    says_loading: bool = False
    """that it is changing its model, for one,"""
    is_confirmed: bool = False
    """or confirms what was read."""


class Peers:
    """Peers by node id, in the order in which they were first seen."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.rows: dict[NodeId, PeerRow] = {}
        self._barred: dict[NodeId, Micros] = {}
        """Until when peers that were forgotten stay on the blacklist."""

    def link_bound(self, link: Link) -> None:
        """A peer identified itself on a link."""
        assert link.peer is not None
        row = self.rows.get(link.peer)
        if row is None:
            self._make_room()
            stats = PeerStats(blacklisted_until=self._barred.pop(link.peer, 0))
            row = self.rows[link.peer] = PeerRow(link.peer, None, None, stats, self._context.now)
        if row.link is None or row.link.medium is not Medium.WIFI_DIRECT or link.medium is Medium.WIFI_DIRECT:
            row.link = link  # the newest, but the faster medium first
        row.last_seen = self._context.now
        if link.rssi_dbm is not None:
            row.stats.note_rssi(link.rssi_dbm)

    def link_down(self, link: Link) -> None:
        """A link to a peer is down; the peer itself is kept for a while. One that was lost tells against it."""
        row = self.rows.get(link.peer) if link.peer is not None else None
        if row is None or row.link is not link:
            return
        row.link, row.last_seen = None, self._context.now
        row.stats.drops += link.lost
        if not row.is_heard:
            self._schedule_sweep()

    def heard(self, node: NodeId, bits: Bits | None) -> None:
        """A peer is in the radio's reach, and says this."""
        row = self.rows.get(node)
        if row is None:
            return
        row.is_heard, row.last_seen = True, self._context.now
        self._compare(row, bits)

    def _compare(self, row: PeerRow, bits: Bits | None) -> None:
        known = row.capabilities
        row.says_loading = row.is_confirmed = False
        if bits is None or known is None:
            row.is_outdated = False
            return
        # once there is news it has to be read: a third life may look like the first, since epochs are cut short
        row.is_outdated = row.is_outdated or is_later(bits.generation, known.generation)
        row.says_loading = row.is_outdated and bits.loading
        row.is_confirmed = not row.is_outdated
        if row.says_loading:
            generation = heard_generation(bits.generation, known.generation)
            self._context.trace(PeerLearned(row.node, generation, True, Medium.BLE))

    def silent(self, node: NodeId) -> None:
        """The radio hears a peer no more."""
        row = self.rows.get(node)
        if row is not None:
            row.is_heard = row.is_confirmed = row.says_loading = row.is_outdated = False
            if row.link is None:
                self._forget(row)

    def is_outdated(self, node: NodeId) -> bool:
        """Whether a peer was heard to have news that were not read yet."""
        row = self.rows.get(node)
        return row is not None and row.is_outdated

    def capabilities_of(self, node: NodeId) -> Capabilities | None:
        """What is known of a peer."""
        row = self.rows.get(node)
        return None if row is None else row.capabilities

    def signal_measured(self, node: NodeId | None, rssi_dbm: int) -> None:
        """The radio measured the signal of a peer, None: of somebody who has not said who it is."""
        row = self.rows.get(node) if node is not None else None
        if row is not None:
            row.stats.note_rssi(rssi_dbm)

    def learn(self, link: Link, capabilities: Capabilities, ttl_ms: int) -> bool:
        """Keep a peer's capabilities for `ttl_ms` if they are newer, or repeated. True where they are new."""
        row = self.rows.get(capabilities.agent_id)
        if row is None or capabilities.agent_id != link.peer:
            return False
        row.last_seen = self._context.now
        held = row.capabilities
        if held is None or capabilities.generation >= held.generation:
            row.holds_until = self._context.in_ms(min(ttl_ms, self._context.config.capabilities_ttl_ms))
            row.is_outdated = row.says_loading = False  # what is read is newer than what is heard
        if held is not None and capabilities.generation <= held.generation:
            return False
        row.capabilities = capabilities
        row.is_confirmed = row.is_heard
        loading = capabilities.current_load.is_loading
        self._context.trace(PeerLearned(row.node, capabilities.generation, loading, link.medium))
        return True

    def candidates(
        self, fits: FitsModel, tried: set[NodeId], tokens: int = 0, *, may_dial: bool = False
    ) -> Iterator[Candidate]:
        """Every phone and agent that is known, with the reason for which a router must pass it over. `tokens` is the
        length of the answer; `may_dial`: those without a link that are heard are in reach too."""
        now, radio_kbit_per_s = self._context.now, self._context.config.ble_kbit_per_s
        for row in self.rows.values():
            capabilities = row.capabilities
            if capabilities is None or (row.link is not None and row.link.role is Role.COORDINATOR):
                continue
            why = None
            if row.link is None and not (may_dial and row.is_heard):
                why = Why.UNREACHABLE
            elif capabilities.current_load.is_loading or row.says_loading:
                why = Why.IS_LOADING
            elif row.is_outdated:
                why = Why.OUTDATED
            elif row.holds_until <= now and (row.link is not None or not row.is_confirmed):
                why = Why.EXPIRED
            elif row.stats.blacklisted_until > now:
                why = Why.BLACKLISTED
            elif row.node in tried:
                why = Why.TRIED
            elif tokens > capabilities.work_tokens_max:
                why = Why.LOW_POWER
            why = why or fits(capabilities.active_model, capabilities.active_model_param_size)
            yield Candidate(
                row.node,
                capabilities.active_model_param_size,
                capabilities.current_load,
                capabilities.device_type,
                capabilities.battery_pct,
                row.stats.rssi_avg_dbm,
                row.stats.fail_rate,
                0 if why else row.stats.quality(),
                why,
                tokens_per_s=capabilities.tokens_per_s,
                slots=capabilities.slots,
                age_ms=(now - row.last_seen) // MILLI,
                unanswered=row.stats.unanswered,
                kbit_per_s=radio_kbit_per_s if row.link is None or row.link.medium is Medium.BLE else 0,
            )

    def link_to(self, node: NodeId) -> LinkId | None:
        """The link to a peer, if there is one."""
        row = self.rows.get(node)
        return row.link.id if row is not None and row.link is not None else None

    def _make_room(self) -> None:
        """Forget the peer that was not seen for longest, one without a link before one with."""
        if len(self.rows) < self._context.config.peers_max:
            return
        oldest = min(self.rows.values(), key=lambda row: (row.link is not None, row.is_heard, row.last_seen))
        self._forget(oldest)

    def _forget(self, row: PeerRow) -> None:
        del self.rows[row.node]
        now = self._context.now
        if row.stats.blacklisted_until > now:  # nobody gets off the list by being silent for a while
            self._barred = {node: until for node, until in self._barred.items() if until > now}
            if len(self._barred) < self._context.config.peers_max:
                self._barred[row.node] = row.stats.blacklisted_until
        self._context.trace(PeerForgotten(row.node))

    def _schedule_sweep(self) -> None:
        gone = [row.last_seen for row in self.rows.values() if _is_gone(row)]
        if gone:
            deadline = min(gone) + self._context.config.peer_expiry_ms * 1000
            self._context.timers.set(_SWEEP, deadline, self._sweep)

    def _sweep(self) -> None:
        oldest = self._context.now - self._context.config.peer_expiry_ms * 1000
        for row in [row for row in self.rows.values() if _is_gone(row) and row.last_seen <= oldest]:
            self._forget(row)
        self._schedule_sweep()


def _is_gone(row: PeerRow) -> bool:
    return row.link is None and not row.is_heard
