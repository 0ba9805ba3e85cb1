"""Model files: what is in the engine or on its way there is not deleted, and nothing is loaded that was."""

from __future__ import annotations

from edgecoder.core.effects import DeleteFile, FetchFile, LoadModel
from edgecoder.core.events import FileFetched, ModelLoaded, ModelLoadFailed
from edgecoder.core.ids import OpId
from edgecoder_sim.checkers.panel import Book, Rule


class Files(Rule):
    """A file that is deleted is neither loaded nor loading, and is loaded again only after another fetch."""

    name = "files in use stay"

    def enter(self) -> None:
        """See `Rule`."""
        self._loading: dict[int, tuple[OpId, str]] = {}
        self._fetching: dict[int, dict[OpId, str]] = {}
        self._gone: dict[int, set[str]] = {}
        """SHA-256 of what was deleted in this life."""
        self.panel.on(DeleteFile, self._delete)
        self.panel.on(FetchFile, self._fetch)
        self.panel.on(FileFetched, self._fetched)
        self.panel.on(LoadModel, self._load)
        self.panel.on((ModelLoaded, ModelLoadFailed), self._load_ended)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._loading.pop(book.index, None)
        self._fetching[book.index], self._gone[book.index] = {}, set()

    def _delete(self, book: Book, effect: DeleteFile) -> None:
        entry = effect.entry
        if book.loaded is not None and book.loaded.sha256 == entry.sha256:
            self.fail(book, f"deletes {entry.model_id}, which is loaded")
        if self._loading.get(book.index, (0, ""))[1] == entry.sha256:
            self.fail(book, f"deletes {entry.model_id}, which is being loaded")
        self._gone[book.index].add(entry.sha256)

    def _fetch(self, book: Book, effect: FetchFile) -> None:
        self._fetching[book.index][effect.op] = effect.entry.sha256

    def _fetched(self, book: Book, event: FileFetched) -> None:
        self._gone[book.index].discard(self._fetching[book.index].pop(event.op, ""))

    def _load(self, book: Book, effect: LoadModel) -> None:
        if effect.entry.sha256 in self._gone[book.index]:
            self.fail(book, f"loads {effect.entry.model_id}, which it has deleted")
        self._loading[book.index] = (effect.op, effect.entry.sha256)

    def _load_ended(self, book: Book, event: ModelLoaded | ModelLoadFailed) -> None:
        if self._loading.get(book.index, (0, ""))[0] == event.op:
            del self._loading[book.index]
