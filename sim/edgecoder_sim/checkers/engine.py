"""The engine of a node: one model at a time, tasks only on a loaded model, each task once and in one place.

These rules also keep the books' account of the engine (`loaded`, `runs`), from completions alone.
"""

from __future__ import annotations

from typing import Final, TypeVar

from edgecoder.core.effects import CancelOp, LoadModel, RunTask, UnloadModel
from edgecoder.core.events import (
    EngineFailed,
    LinkDown,
    ModelLoaded,
    ModelLoadFailed,
    ModelUnloaded,
    TaskDone,
    TaskFailed,
    UnloadFailed,
)
from edgecoder.core.ids import LinkId, Micros, NodeId, OpId, TaskId
from edgecoder.mesh.router import Why
from edgecoder.models.catalog import CatalogEntry
from edgecoder.trace import TaskEnded, TaskRouted
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Cancel, ResponseStatus, TaskRequest, TaskResponse
from edgecoder_sim.checkers.panel import Book, Rule

TASKS_MAX: Final = 65_536
"""Tasks of which it is remembered who was asked, and when somebody was told to stop."""
_Ask = tuple[Micros, NodeId, LinkId]
"""When a node was asked, by whom, over which link."""
V = TypeVar("V")


class OneModel(Rule):
    """At most one model is loaded or loading on a device, and a model that is in use stays loaded."""

    name = "one model"

    def enter(self) -> None:
        """See `Rule`."""
        self._loading: dict[int, tuple[OpId, CatalogEntry]] = {}
        self._unloading: dict[int, OpId] = {}
        self.panel.on(LoadModel, self._load)
        self.panel.on(UnloadModel, self._unload)
        self.panel.on(ModelLoaded, self._loaded)
        self.panel.on(ModelLoadFailed, self._load_failed)
        self.panel.on((ModelUnloaded, UnloadFailed), self._unload_ended)
        self.panel.on(EngineFailed, self._engine_failed)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._loading.pop(book.index, None)
        self._unloading.pop(book.index, None)

    def _load(self, book: Book, effect: LoadModel) -> None:
        model = effect.entry.model_id
        if (loading := self._loading.get(book.index)) is not None:
            self.fail(book, f"loads {model} while {loading[1].model_id} is still loading")
        if book.index in self._unloading:
            self.fail(book, f"loads {model} before the unload of the old model has ended")
        if book.loaded is not None:
            self.fail(book, f"loads {model} while {book.loaded.model_id} is loaded")
        self._loading[book.index] = (effect.op, effect.entry)

    def _unload(self, book: Book, effect: UnloadModel) -> None:
        if (loading := self._loading.get(book.index)) is not None:
            self.fail(book, f"unloads while {loading[1].model_id} is loading")
        if book.index in self._unloading:
            self.fail(book, "unloads twice")
        if book.loaded is None:
            self.fail(book, "unloads an empty engine")
        if book.runs:
            task = next(iter(book.runs.values())).hex()
            self.fail(book, f"unloads {book.loaded.model_id} while task {task} runs on it: running tasks must drain")
        self._unloading[book.index] = effect.op

    def _loaded(self, book: Book, event: ModelLoaded) -> None:
        op, entry = self._loading.get(book.index, (0, None))
        if op == event.op:
            del self._loading[book.index]
            book.loaded, book.tokens_per_s = entry, event.tokens_per_s

    def _load_failed(self, book: Book, event: ModelLoadFailed) -> None:
        if self._loading.get(book.index, (0, None))[0] == event.op:
            del self._loading[book.index]

    def _unload_ended(self, book: Book, event: ModelUnloaded | UnloadFailed) -> None:
        if self._unloading.get(book.index) == event.op:
            del self._unloading[book.index]
            if type(event) is ModelUnloaded:
                book.loaded = None

    def _engine_failed(self, book: Book, _: EngineFailed) -> None:
        book.loaded = None


class Runs(Rule):
    """A node runs as many tasks as it has slots, none twice at once and none again that it has done; no task runs on
    two nodes unless the first was told to stop or the task was hedged, and none on three."""

    name = "tasks run once"

    def enter(self) -> None:
        """See `Rule`."""
        self._done: dict[int, set[TaskId]] = {}
        self._where: dict[TaskId, dict[int, Micros]] = {}
        """Nodes on which a task runs, and since when."""
        self._asked: dict[TaskId, dict[NodeId, list[_Ask]]] = {}
        """Who asked which node, in the order of time; what was refused is taken out again."""
        self._cancelled: dict[TaskId, dict[NodeId, Micros]] = {}
        """When which node was last told to stop; the word may be on its way while a late request begins to run."""
        self._hedged: set[TaskId] = set()
        self.panel.on(RunTask, self._run)
        self.panel.on((TaskDone, TaskFailed), self._ended)
        self.panel.on(CancelOp, self._cancel_op)
        self.panel.on_sent(TaskRequest, self._ask)
        self.panel.on_sent(Cancel, self._cancel)
        self.panel.on_sent(TaskResponse, self._answer)
        self.panel.on(TaskRouted, self._routed)
        self.panel.on(TaskEnded, self._task_ended)
        self.panel.on(LinkDown, self._link_down)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        for task in [task for task, nodes in self._where.items() if book.index in nodes]:
            self._gone(book, task)
        self._done[book.index] = set()

    def _run(self, book: Book, effect: RunTask) -> None:
        task = effect.task_id
        if book.loaded is None:
            self.fail(book, f"runs task {task.hex()} without a model")
        if len(book.runs) >= book.config.slots:
            self.fail(book, f"runs task {task.hex()} beside {len(book.runs)} others: it has {book.config.slots} slots")
        if task in self._done[book.index]:
            self.fail(book, f"runs task {task.hex()} again, which it has done")
        nodes = self._where.setdefault(task, {})
        if book.index in nodes:
            self.fail(book, f"runs task {task.hex()} twice at once")
        books = self.panel.books
        going = [index for index in nodes if not self._is_called_off(task, books[index].node)]
        if len(going) > (task in self._hedged) and not self._is_called_off(task, book.node):
            other = books[going[0]].name
            self.fail(book, f"runs task {task.hex()}, which still runs on {other}: nobody was told to stop it")
        nodes[book.index] = self.panel.now
        book.runs[effect.op] = task

    def _ended(self, book: Book, event: TaskDone | TaskFailed) -> None:
        task = book.runs.pop(event.op, None)
        if task is not None:
            self._gone(book, task)
            if type(event) is TaskDone:
                self._done[book.index].add(task)

    def _routed(self, _: Book, record: TaskRouted) -> None:
        if record.why == Why.HEDGED.value:
            self._hedged.add(record.task_id)

    def _link_down(self, book: Book, event: LinkDown) -> None:
        """Who was asked over a link that is gone hears of it too, a moment earlier or later, and stops."""
        for task in [task for task, keys in book.asks.items() if any(link == event.link for link, _ in keys)]:
            for node, asks in self._asked.get(task, {}).items():
                if asks and asks[-1][1:] == (book.node, event.link):
                    self._call_off(task, node)

    def _task_ended(self, _: Book, record: TaskEnded) -> None:
        self._hedged.discard(record.task_id)

    def _gone(self, book: Book, task: TaskId) -> None:
        nodes = self._where.get(task)
        if nodes is not None:
            nodes.pop(book.index, None)
            if not nodes:
                del self._where[task]

    def _cancel_op(self, book: Book, effect: CancelOp) -> None:
        task = book.runs.get(effect.op)
        if task is not None:
            self._call_off(task, book.node)

    def _cancel(self, book: Book, link: LinkId, _: Header, message: Cancel) -> None:
        peer = book.links.get(link)
        if peer is not None:
            self._call_off(message.task_id, peer.node)

    def _ask(self, book: Book, link: LinkId, _: Header, request: TaskRequest) -> None:
        peer = book.links.get(link)
        if peer is not None:
            asked = self._asked.get(request.task_id, {})
            asked.setdefault(peer.node, []).append((self.panel.now, book.node, link))
            _remember(self._asked, request.task_id, asked)

    def _answer(self, book: Book, link: LinkId, _: Header, response: TaskResponse) -> None:
        """What a node refuses does not concern what it does for others who asked it."""
        if response.status is not ResponseStatus.REFUSED:
            return
        asks = self._asked.get(response.task_id, {}).get(book.node, [])
        refused = next((ask for ask in reversed(asks) if ask[2] == link), None)
        if refused is not None:
            asks.remove(refused)

    def _call_off(self, task: TaskId, node: NodeId) -> None:
        told = self._cancelled.get(task, {})
        told[node] = self.panel.now
        _remember(self._cancelled, task, told)

    def _is_called_off(self, task: TaskId, node: NodeId, ways: int = 3) -> bool:
        """Whether the node, or who asked it, was told to stop after it was asked."""
        asks = self._asked.get(task, {}).get(node)
        asked_us, asker, _ = asks[-1] if asks else (0, node, 0)
        if self._cancelled.get(task, {}).get(node, -1) >= asked_us:
            return True
        return asker != node and ways > 0 and self._is_called_off(task, asker, ways - 1)


def _remember(memory: dict[TaskId, V], task: TaskId, value: V) -> None:
    """Keep what was heard of a task last, of so many tasks."""
    memory.pop(task, None)
    memory[task] = value
    if len(memory) > TASKS_MAX:
        del memory[next(iter(memory))]
