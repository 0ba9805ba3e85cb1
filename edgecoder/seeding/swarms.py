"""The swarms of a node: every file that it has or fetches piece by piece, and all who take part in it.

This wires holdings, transfers, uploads, the brokers' client and the peers over radio links together, and is what the
rest of the node sees of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar, Protocol

from edgecoder.config import Distribution
from edgecoder.core.context import MILLI, Context
from edgecoder.core.events import AccessChanged, FileOffered, PieceArrived
from edgecoder.core.giving import AskWithdrawn, ChannelLost, ChannelOffered, PieceAsked
from edgecoder.core.ids import ChannelId, FileId, LinkId, Micros, NodeId
from edgecoder.core.ops import OnCompletion
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Gate, Link
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.models.inventory import DownloadState, Inventory
from edgecoder.seeding.client import BrokerClient
from edgecoder.seeding.holdings import Holding, Holdings
from edgecoder.seeding.near import SOURCES, NearPeers
from edgecoder.seeding.planner import make_planner
from edgecoder.seeding.prices import Prices, prices_of
from edgecoder.seeding.rests import Rests
from edgecoder.seeding.reverse import Channels, Dials
from edgecoder.seeding.transfer import Transfer
from edgecoder.seeding.transfer_table import TransferState
from edgecoder.seeding.uploads import Uploads
from edgecoder.wire.messages import Announce, DialRequest, Grant, Granted, Have, Redirect

SETTLE_MS = 3_000
"""A node that comes back should have its links to coordinators again by then."""


class Surroundings(Protocol):
    """What swarms need of the node around them."""

    def home_link(self) -> LinkId | None:
        """The link to the home coordinator, if it answers."""
        ...

    def gives_nothing(self) -> Reason | None:
        """Why the node's battery or its end forbids it to give anything now."""
        ...

    def runs_tasks(self) -> bool:
        """Whether its engine works for somebody."""
        ...

    def on_external_power(self) -> bool:
        """Whether it is on the mains."""
        ...


class Swarms:
    """The files of a node that have a tree, and who else has or wants them."""

    def __init__(
        self, context: Context, gate: Gate, catalog: Catalog, inventory: Inventory, surroundings: Surroundings
    ) -> None:
        self._context = context
        self._gate = gate
        self._catalog = catalog
        self._inventory = inventory
        self._around = surroundings
        self._is_metered = False
        self._clock_ms = context.wall_at_zero_ms
        """Unix time at moment 0, by a coordinator's clock where one has told it."""
        self._settles_at: Micros = 0
        self._home: LinkId | None = None
        """The home that was told of all files."""
        self.holdings = Holdings(context)
        self.uploads = Uploads(context, self.holdings, gate.verifier, self)
        self.client = BrokerClient(context, gate.links, surroundings.home_link, self)
        self.transfers: dict[FileId, Transfer] = {}
        self.near = NearPeers(context, self)
        self.channels = Channels(context, gate.verifier, self, self)
        self.dials = Dials(context, gate.verifier, self)
        self._rests = Rests(context, self._is_resting, self._say_resting, self.rtt)

    def restore(self, snapshot: Mapping[str, bytes]) -> None:
        """Take what earlier lives kept."""
        self._settles_at = self._context.in_ms(SETTLE_MS)
        self.holdings.restore(snapshot, self._find_partial)
        for entry in self._catalog.entries:
            if self.is_for(entry) and self._inventory.state(entry) is DownloadState.INSTALLED:
                self.holdings.installed(entry)

    def _find_partial(self, digest: str) -> CatalogEntry | None:
        """A file of which there are pieces: of one that was being removed nothing counts."""
        entry = self._catalog.by_digest.get(digest)
        return entry if entry is not None and self._inventory.state(entry) is DownloadState.PARTIAL else None

    # -- the file's own ways -------------------------------------------------------------------------------------------

    def is_for(self, entry: CatalogEntry) -> bool:
        """Whether a file comes piece by piece."""
        return bool(entry.piece_root) and self._context.config.distribution is not Distribution.CDN

    def fetch(
        self, entry: CatalogEntry, on_end: Callable[[Reason | None], None], on_progress: Callable[[int], None]
    ) -> Transfer:
        """Get all pieces of a file."""
        holding = self.holdings.begin(entry)

        def ended(reason: Reason | None) -> None:
            del self.transfers[holding.file]
            self.channels.ended(holding.file)
            self.client.announce(holding)
            self.near.ended(holding)
            on_end(reason)

        planner = make_planner(self._context.config.distribution)
        transfer = Transfer(self._context, self.holdings, holding, planner, self, ended, on_progress)
        self.transfers[holding.file] = transfer
        transfer.start()
        return transfer

    def installed(self, entry: CatalogEntry) -> None:
        """The whole file has the SHA-256 that it should, and its row is durable."""
        holding = self.holdings.by_file.get(bytes.fromhex(entry.sha256))
        if holding is not None:
            self.holdings.drop_record(entry)
        if self.is_for(entry) and (holding is None or not holding.is_whole):  # it came whole
            self.client.announce(self.holdings.installed(entry))

    def first_bytes(self, entry: CatalogEntry) -> int | None:
        """See `downloads.Pieces`."""
        holding = self.holdings.by_file.get(bytes.fromhex(entry.sha256))
        if holding is None:
            return None
        pieces = (~holding.have & (holding.have + 1)).bit_length() - 1  # in a row, from the first one on
        return min(pieces * holding.layout.piece_size_bytes, entry.file_size_bytes)

    def have(self, entry: CatalogEntry) -> int:
        """See `downloads.Pieces`."""
        holding = self.holdings.by_file.get(bytes.fromhex(entry.sha256))
        return 0 if holding is None else holding.have

    def removed(self, entry: CatalogEntry) -> None:
        """The file is about to be deleted."""
        holding = self.holdings.by_file.get(bytes.fromhex(entry.sha256))
        if holding is not None:
            self.holdings.forget(entry)
            self.client.forget(holding)

    def erase(self, entry: CatalogEntry, on_durable: OnCompletion) -> None:
        """See `downloads.Pieces`."""
        self.holdings.drop_record(entry, on_durable)

    def piece_arrived(self, event: PieceArrived) -> None:
        """One of several pieces that one request fetches."""
        for transfer in self.transfers.values():
            if event.op in transfer.requests:
                transfer.arrived(event)
                return

    def file_offered(self, event: FileOffered) -> None:
        """A file may be had at once."""
        transfer = self.transfers.get(bytes.fromhex(event.sha256))
        if transfer is not None:
            transfer.cdn_returned()

    # -- Giver of uploads ----------------------------------------------------------------------------------------------

    def gives_nothing(self, *, over_radio: bool = False) -> Reason | None:
        """See `uploads.Giver`."""
        config = self._context.config
        is_dear = self._is_metered and not over_radio and not config.seed_when_metered
        if not config.seeding or is_dear or config.distribution is Distribution.CDN:
            return Reason.NOT_SEEDING
        return self._around.gives_nothing()

    def is_busy(self) -> bool:
        """See `uploads.Giver`."""
        return self._around.runs_tasks()

    def duty_pct(self) -> int:
        """See `uploads.Giver`."""
        return 100 if self._around.on_external_power() else self._context.config.seed_duty_pct

    def pause_changed(self) -> None:
        """See `uploads.Giver`."""
        self.client.changed()

    def trusts_broker(self, broker: NodeId, file: FileId) -> bool:
        """See `uploads.Giver`."""
        return self.client.trusts(broker, file)

    def has_broker(self, file: FileId) -> bool:
        """See `uploads.Giver`."""
        return self.client.has_broker(file)

    def broker_epoch(self, file: FileId) -> int:
        """See `uploads.Giver`."""
        return self.client.broker_epoch(file)

    def unix_ms(self) -> int:
        """See `uploads.Giver`."""
        return self._clock_ms + self._context.now // MILLI

    # -- Files of the brokers' client ----------------------------------------------------------------------------------

    def announced(self) -> list[Holding]:
        """See `client.Files`."""
        if self._context.config.distribution is Distribution.CDN:
            return []
        return [holding for holding in self.holdings.by_file.values() if holding.have or holding.file in self.transfers]

    def wants(self, file: FileId) -> bool:
        """See `client.Files`."""
        transfer = self.transfers.get(file)
        return transfer is not None and transfer.takes_mesh and transfer.state is TransferState.FETCHING

    def slots(self, holding: Holding) -> int:
        """See `client.Files`."""
        config = self._context.config
        is_done = holding.is_whole and not config.seed_whole_files
        is_closed = is_done or self.gives_nothing() is not None or self.uploads.is_paused()
        return 0 if is_closed else config.upload_slots

    # -- peers that nobody can dial ------------------------------------------------------------------------------------

    def may_give(self, file: FileId) -> bool:
        """See `reverse.Giver`."""
        holding = self.holdings.by_file.get(file)
        return holding is not None and holding.have > 0 and self.slots(holding) > 0

    def ask_dial(self, file: FileId, peer: NodeId) -> None:
        """See `reverse.Asker`."""
        self.client.ask_dial(file, peer)

    def reached(self, file: FileId, rows: Iterable[Granted]) -> None:
        """See `reverse.Asker`."""
        transfer = self.transfers.get(file)
        if transfer is not None:
            transfer.reached(rows)
        else:
            self.out_of_reach(file, rows, Reason.CANCELLED)

    def out_of_reach(self, file: FileId, rows: Iterable[Granted], reason: Reason) -> None:
        """See `reverse.Asker`."""
        for row in rows:
            self.client.lost(file, row.piece, row.sender, reason, 0)

    def awaits(self, holding: Holding, row: Granted) -> bool:
        """See `transfer.Swarm`."""
        return self.channels.awaits(holding.file, row)

    def channel_to(self, peer: NodeId) -> ChannelId | None:
        """See `transfer.Swarm`."""
        return self.channels.to(peer)

    # -- Around of the near peers --------------------------------------------------------------------------------------

    def held(self, file: FileId) -> Holding | None:
        """See `near.Around`."""
        return self.holdings.by_file.get(file)

    def near_slots(self) -> int:
        """See `near.Around`."""
        return 0 if self.gives_nothing(over_radio=True) is not None else self._context.config.upload_slots

    # -- Swarm of the transfers ----------------------------------------------------------------------------------------

    def got(self, holding: Holding, piece: int, sender: NodeId, size_bytes: int) -> None:
        """See `transfer.Swarm`."""
        self.client.got(holding.file, piece, sender, size_bytes)
        self.near.got(holding, sender)

    def freed(self) -> None:
        """See `transfer.Swarm`."""
        self.near.ask()

    def taking(self, holding: Holding, pieces: range) -> None:
        """See `transfer.Swarm`."""
        self.client.taking(holding.file, pieces)

    def lost(
        self,
        holding: Holding,
        piece: int,
        sender: NodeId,
        reason: Reason,
        size_bytes: int = 0,
        link: LinkId | None = None,
    ) -> None:
        """See `transfer.Swarm`. A broker does not hear of radio links that fail: it gave no order."""
        if link is None or size_bytes:
            self.client.lost(holding.file, piece, sender, reason, size_bytes)
        if link is not None:
            self.near.lost(holding, piece, link, reason)

    def ready(self, holding: Holding) -> None:
        """See `transfer.Swarm`."""
        self.client.announce(holding)
        self.near.began(holding)
        self.near.ask()

    def settles_at(self) -> Micros:
        """See `transfer.Swarm`."""
        return self._settles_at

    def asked_since(self, file: FileId) -> Micros:
        """See `transfer.Swarm`."""
        return self.client.asked_since(file)

    def rtt(self) -> Micros:
        """See `transfer.Swarm`."""
        return self.client.rtt

    def prices(self) -> Prices:
        """See `transfer.Swarm`."""
        context, on_battery = self._context, not self._around.on_external_power()
        return prices_of(context.cluster, context.config, is_metered=self._is_metered, on_battery=on_battery)

    def wish_changed(self, holding: Holding) -> None:
        """See `transfer.Swarm`."""
        self.client.announce(holding)

    def uplink_changed(self) -> None:
        """See `uploads.Giver`."""
        self._rests.look()

    def _is_resting(self) -> bool:
        """Whether it sends nothing, and could."""
        return not len(self.uploads) and any(self._offered())

    def _offered(self) -> Iterator[FileId]:
        return (file for file, holding in self.holdings.by_file.items() if holding.have and self.client.offers(file))

    def _say_resting(self) -> None:
        for file in self._offered():
            self.client.rests(file)

    # -- the node around -----------------------------------------------------------------------------------------------

    def access_changed(self, event: AccessChanged) -> None:
        """The node's user pays for bytes, or no longer."""
        self._is_metered = event.is_metered
        self.gates_changed()

    def gates_changed(self) -> None:
        """What the node gives may have changed."""
        self.client.changed()
        self.near.gates_changed()
        self.uploads.pump()

    def tasks_changed(self) -> None:
        """A task has begun or ended. Brokers hear of a pause when somebody comes in vain, and of its end."""
        if not self.uploads.is_paused():
            self.client.changed()
        self.uploads.pump()

    def home_answered(self, link: LinkId, time_ms: int) -> None:
        """The home has acknowledged a heartbeat."""
        self._clock_ms = time_ms - self._context.now // MILLI
        self._report_to(link)

    def _report_to(self, home: LinkId) -> None:
        """A home that was another before is told of all files."""
        if home != self._home:
            self._home = home
            self.client.announce_all()

    def link_bound(self, link: Link) -> None:
        """Somebody is at the other end of a link."""
        if link.medium in SOURCES:
            self.near.link_bound(link)
        else:
            self.client.link_bound(link)
            if link.id == self._around.home_link():
                self._report_to(link.id)

    def link_down(self, link: LinkId) -> None:
        """A link is gone."""
        self.client.link_down(link)
        self.near.link_down(link)
        for transfer in list(self.transfers.values()):
            if not self.client.has_broker(transfer.holding.file):
                transfer.broker_lost()

    def uses(self, link: LinkId) -> bool:
        """Whether a transfer needs a link, of this node or of the peer."""
        return self.near.uses(link) or self.uploads.serves(link)

    # -- messages ------------------------------------------------------------------------------------------------------

    def on_grant(self, link: Link, grant: Grant) -> None:
        """A broker says whom to ask."""
        transfer = self.transfers.get(grant.file)
        if self.client.granted(link, grant) and transfer is not None:
            transfer.granted(grant)

    def on_redirect(self, link: Link, message: Redirect) -> None:
        """The home names another broker."""
        self.client.redirected(link, message)

    EVENTS: ClassVar[dict[type, Callable[..., None]]] = {
        FileOffered: file_offered,
        PieceArrived: piece_arrived,
        PieceAsked: lambda swarms, event: swarms.uploads.asked(event),
        AskWithdrawn: lambda swarms, event: swarms.uploads.withdrawn(event),
        AccessChanged: access_changed,
        ChannelOffered: lambda swarms, event: swarms.channels.offered(event),
        ChannelLost: lambda swarms, event: swarms.channels.lost(event),
    }
    """Who takes an event; called with the swarms and the event."""
    MESSAGES: ClassVar[dict[type, Callable[..., None]]] = {
        Announce: lambda swarms, link, message: swarms.near.on_announce(link, message),
        Have: lambda swarms, link, message: swarms.near.on_have(link, message),
        Grant: on_grant,
        Redirect: on_redirect,
        DialRequest: lambda swarms, link, message: swarms.dials.asked(link, message),
    }
    """Who takes a message; called with the swarms, the link and the message."""
