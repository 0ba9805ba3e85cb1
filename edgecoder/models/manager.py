"""The models: the files of a node, the one that is active, and what its user wants of them.

A name is looked up in the catalog here, and a wish is judged before anything is touched: what is active, or about to
be, is not removed; a pull that ends late does not undo a later wish. How a model is changed, fetched or judged is left
to `swap`, `downloads` and `admission`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from edgecoder.core.context import Context
from edgecoder.core.effects import ModelRow, PullResult, RemoveResult, SwapResult
from edgecoder.core.events import (
    CatalogConfirmed,
    CatalogReleased,
    EngineFailed,
    EngineReturned,
    FetchProgressed,
    FileDoubted,
    FilesHeld,
    OthersLoaded,
    PullModel,
    QueryModels,
    RemoveModel,
    SwapCause,
    SwapModel,
)
from edgecoder.core.ids import CommandId
from edgecoder.errors import Reason
from edgecoder.models.admission import NOBODY, admit, has_room
from edgecoder.models.catalog import Catalog, CatalogEntry, Platform
from edgecoder.models.downloads import Downloads, OnEnd, Pieces
from edgecoder.models.editions import Editions
from edgecoder.models.held import KEY as HELD_KEY
from edgecoder.models.held import HeldFiles
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, Inventory
from edgecoder.models.swap import KEY as SWAP_KEY
from edgecoder.models.swap import Surroundings, Swap


class ModelManager:
    """The models of one node."""

    def __init__(
        self,
        context: Context,
        catalog: Catalog,
        platform: Platform,
        surroundings: Surroundings,
        on_change: Callable[[], None],
        pieces: Callable[[Inventory], Pieces],
    ) -> None:
        """`on_change` is called when other files are installed than before; `pieces` makes who fetches piece by piece,
        from the inventory."""
        self._context = context
        self._catalog = catalog
        self._platform = platform
        self._wished: CatalogEntry | None = None
        """What a user wanted last and was not refused: a pull that ends late must not undo a later wish."""
        self._others = NOBODY
        """What other programs have in the engine's memory."""
        self.is_closed = False
        """Whether the node is shutting down: then no model is changed any more."""
        self.inventory = Inventory(context, on_change)
        self.downloads = Downloads(context, self.inventory, pieces(self.inventory))
        self.swap = Swap(context, self.inventory, self.admits, surroundings)
        self.held = HeldFiles(context, catalog, platform, self.inventory, self.downloads)
        self.editions = Editions(context, catalog, self._is_here)

    def start(self, snapshot: Mapping[str, bytes]) -> None:
        """Take what earlier lives kept: the files, and the model that served last."""
        self.held.restore(snapshot.get(HELD_KEY))
        find = self._catalog.by_digest.get
        self.inventory.restore(snapshot.get(INVENTORY_KEY))
        self.downloads.resume_removals(find)
        self.swap.boot(snapshot.get(SWAP_KEY), find)

    def resume(self) -> None:
        """Go on with the downloads of an earlier life."""
        self.downloads.resume(self._catalog.by_digest.get)

    def find(self, name: str) -> CatalogEntry | Reason:
        """The file that a name means on this platform, or why there is none."""
        entry = self._catalog.find(name, self._platform)
        if entry is not None:
            return entry
        return Reason.INCOMPATIBLE if self._catalog.knows(name) else Reason.UNKNOWN_MODEL

    def admits(self, entry: CatalogEntry) -> Reason | None:
        """Why a file cannot be loaded now, beside what other programs have in memory. What serves has its room."""
        others = NOBODY if entry.is_file_of(self.swap.serving) else self._others
        return admit(entry, self._platform, self._context.config, self.inventory, others)

    def _is_compatible(self, entry: CatalogEntry) -> bool:
        """Whether a file can be loaded here at all, whatever others have in memory now."""
        obstacle = admit(entry, self._platform, self._context.config, self.inventory)
        return obstacle in (None, Reason.NOT_INSTALLED)

    def others_loaded(self, event: OthersLoaded) -> None:
        """Other programs have this in memory now: there is so much less for a model."""
        self._others = event

    def engine_returned(self) -> None:
        """The engine can be used again: load what served last, if it was away when that was tried."""
        if not self.is_closed:
            self.swap.engine_returned(self._catalog.by_digest.get)

    def _is_here(self, entry: CatalogEntry) -> bool:
        """Whether there is something of a file here, or about to be."""
        is_absent = self.inventory.state(entry) is DownloadState.ABSENT
        return not is_absent or self.downloads.is_busy_with(entry) or self.swap.needs(entry)

    def file_doubted(self, event: FileDoubted) -> None:
        """The store does not vouch for a file any more; one that the engine's own server has is here all the same."""
        entry = self._catalog.by_digest.get(event.sha256)
        if entry is not None and event.sha256 not in self.held.digests:
            self.downloads.doubted(entry, event.reason)

    def catalog_released(self, event: CatalogReleased) -> None:
        """The catalog's origin has an edition."""
        if self.editions.released(event):
            self.swap.catalog_changed(self._catalog.file)

    # -- commands ------------------------------------------------------------------------------------------------------

    def swap_model(self, command: SwapModel) -> None:
        """Make a model active, after fetching it where it is missing and that is wished."""
        entry = self.find(command.model)
        if self.is_closed:
            entry = Reason.SHUTTING_DOWN
        if isinstance(entry, Reason):
            self._refuse_swap(command, entry)
        elif command.pull and self.admits(entry) is Reason.NOT_INSTALLED:
            self._pull_first(command, entry)
        elif self.swap.request(entry, command.cause, command.command) and command.cause is SwapCause.USER:
            self._wished = entry

    def _pull_first(self, command: SwapModel, entry: CatalogEntry) -> None:
        """Fetch the file, then swap to it, unless a user has wished for another model in between."""
        is_wish = command.cause is SwapCause.USER
        if is_wish:
            self._wished = entry

        def fetched(reason: Reason | None) -> None:
            if reason is None and self.is_closed:
                reason = Reason.SHUTTING_DOWN
            if reason is None and is_wish and not entry.is_file_of(self._wished):
                reason = Reason.SUPERSEDED
            if reason is None:
                self.swap.request(entry, command.cause, command.command)
                return
            if is_wish and entry.is_file_of(self._wished):
                self.swap.missed(reason)
            self._refuse_swap(command, reason)

        self._fetch(entry, command.command, fetched)

    def _refuse_swap(self, command: SwapModel, reason: Reason) -> None:
        serving = self.swap.serving
        name = None if serving is None else serving.model_id
        size = None if serving is None else serving.param_size
        self._context.reply(command.command, SwapResult(name, name, size, reason))

    def pull_model(self, command: PullModel) -> None:
        """Fetch a model. One that is quarantined is fetched anew: its file may be what is wrong with it."""
        entry = self.find(command.model)
        if isinstance(entry, Reason):
            self._context.reply(command.command, PullResult(command.model, entry))
            return
        name = entry.model_id
        self._fetch(
            entry,
            command.command,
            lambda reason: self._context.reply(command.command, PullResult(name, reason)),
            is_import=command.is_import,
        )

    def _fetch(self, entry: CatalogEntry, command: CommandId, on_end: OnEnd, *, is_import: bool = False) -> None:
        """Fetch a file, if it is not here, the catalog still vouches for it and the quota has room for it."""
        is_here = self.inventory.state(entry) is DownloadState.INSTALLED
        is_new = not is_here and not self.downloads.is_busy_with(entry)
        if is_new and self._catalog.is_withdrawn(entry):
            on_end(Reason.UNKNOWN_MODEL)
        elif is_new and self.editions.is_stale and not is_import:
            on_end(Reason.CATALOG_STALE)
        elif is_here or has_room(entry, self._catalog, self._context.config, self.inventory, self.held.digests):
            self.downloads.want(entry, command, on_end)
        else:
            on_end(Reason.DISK_FULL)

    def remove_model(self, command: RemoveModel) -> None:
        """Remove a file and free its room; a download of it is called off."""
        entry = self.find(command.model)
        if not isinstance(entry, Reason) and self.swap.needs(entry):
            self._context.reply(command.command, RemoveResult(entry.model_id, Reason.IN_USE))
        elif isinstance(entry, Reason):
            self._context.reply(command.command, RemoveResult(command.model, entry))
        else:
            name = entry.model_id
            self.downloads.remove(
                entry, lambda reason: self._context.reply(command.command, RemoveResult(name, reason))
            )

    def query_models(self, command: QueryModels) -> None:
        """One row a model that runs on this platform, and one a file that is here all the same."""
        serving, inventory = self.swap.serving, self.inventory
        rows = tuple(
            ModelRow(
                entry,
                inventory.state(entry).value,
                entry.is_file_of(serving),
                self._is_compatible(entry),
            )
            for entry in self._catalog.entries
            if self._platform in entry.platforms or inventory.state(entry) is not DownloadState.ABSENT
        )
        self._context.reply(command.command, rows)

    EVENTS: ClassVar[dict[type, Callable[..., None]]] = {
        SwapModel: swap_model,
        PullModel: pull_model,
        RemoveModel: remove_model,
        QueryModels: query_models,
        FetchProgressed: lambda models, event: models.downloads.progressed(event),
        FileDoubted: file_doubted,
        FilesHeld: lambda models, event: models.held.told(event),
        CatalogReleased: catalog_released,
        CatalogConfirmed: lambda models, event: models.editions.confirmed(event),
        OthersLoaded: lambda models, event: models.others_loaded(event),
        EngineFailed: lambda models, event: models.swap.engine_failed(event.reason),
        EngineReturned: lambda models, event: models.engine_returned(),
    }
    """Who takes an event; called with the models and the event."""
