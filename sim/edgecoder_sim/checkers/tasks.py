"""Tasks between nodes: who asked answers come back to, who is asked, and what is passed on.

`Requests` looks at a node that was asked, `Asks` at one that asks; a coordinator is both.
"""

from __future__ import annotations

from edgecoder.core.effects import RunTask
from edgecoder.core.events import LinkDown, TaskDone
from edgecoder.core.ids import LinkId, Micros, OpId, Role, TaskId
from edgecoder.errors import Reason
from edgecoder.trace import TaskEnded
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Cancel, ResponseStatus, TaskRequest, TaskResponse
from edgecoder_sim.checkers.panel import GRACE_US, Book, Rule

_FINAL = (ResponseStatus.DONE, ResponseStatus.REFUSED, ResponseStatus.FAILED)
_Key = tuple[LinkId, TaskId]


class _Request:
    __slots__ = ("due_us", "index", "open")

    def __init__(self) -> None:
        self.open = 0
        """Requests that have no end yet: a task may be asked for again, and is refused then."""
        self.index = 0
        """Of the next response."""
        self.due_us: Micros = 0


class Requests(Rule):
    """Every request gets exactly one end, on the link it came over and before its deadline; its responses count up from
    acceptance; a node says `done` only of what its engine has done or the node that it asked."""

    name = "requests are answered once"

    def enter(self) -> None:
        """See `Rule`."""
        self._of: dict[int, dict[_Key, _Request]] = {}
        self._running: dict[int, dict[OpId, TaskId]] = {}
        self._done: dict[int, set[TaskId]] = {}
        """Tasks that this node's engine has done or a node that it asked, and has not been said of yet."""
        self.panel.on_received(TaskRequest, self._asked)
        self.panel.on_received(TaskResponse, self._heard)
        self.panel.on_received(Cancel, self._cancelled)
        self.panel.on_sent(TaskResponse, self._answered)
        self.panel.on(LinkDown, self._link_down)
        self.panel.on(RunTask, self._run)
        self.panel.on(TaskDone, self._engine_done)
        self.panel.on(TaskEnded, self._ended)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._of[book.index] = {}
        self._running[book.index] = {}
        self._done[book.index] = set()

    def _asked(self, book: Book, link: LinkId, _: Header, request: TaskRequest) -> None:
        key = (link, request.task_id)
        found = self._of[book.index].setdefault(key, _Request())
        found.open += 1
        self._due(book, key, found, self.panel.now + request.deadline_ms * 1000 + GRACE_US)

    def _due(self, book: Book, key: _Key, request: _Request, due_us: Micros) -> None:
        request.due_us = due_us
        self.panel.alarm(due_us, self._overdue, book, key)

    def _answered(self, book: Book, link: LinkId, _: Header, response: TaskResponse) -> None:
        task, status = response.task_id.hex(), response.status
        request = self._of[book.index].get((link, response.task_id))
        if request is None:
            self.fail(book, f"answers {status.value} to task {task} over link {link}, where it is not open")
        if status is not ResponseStatus.REFUSED:
            if response.index != request.index:
                self.fail(book, f"numbers a response to task {task} {response.index}; the next is {request.index}")
            begins = status in (ResponseStatus.ACCEPTED, ResponseStatus.FAILED)
            if request.index == 0 and not begins:
                self.fail(book, f"answers {status.value} to task {task} without having accepted it")
            request.index += 1
        elif request.index and response.reason is not Reason.DUPLICATE:
            self.fail(book, f"refuses task {task} after it was accepted")
        if status is ResponseStatus.DONE:
            self._must_be_done(book, response.task_id)
        if status in _FINAL:
            request.open -= 1
            if request.open == 0:
                del self._of[book.index][link, response.task_id]

    def _must_be_done(self, book: Book, task: TaskId) -> None:
        done = self._done[book.index]
        if task not in done:
            self.fail(book, f"says task {task.hex()} is done, but neither its engine nor anybody it asked has done it")
        done.discard(task)

    def _run(self, book: Book, effect: RunTask) -> None:
        self._running[book.index][effect.op] = effect.task_id

    def _engine_done(self, book: Book, event: TaskDone) -> None:
        task = self._running[book.index].pop(event.op, None)
        if task is not None:
            self._done[book.index].add(task)

    def _heard(self, book: Book, _: LinkId, __: Header, response: TaskResponse) -> None:
        """The end of a task reaches somebody who asked; one who was asked himself has to pass it on at once."""
        task = response.task_id
        if response.status is ResponseStatus.DONE:
            self._done[book.index].add(task)
        if book.role is Role.COORDINATOR and response.status in (ResponseStatus.DONE, ResponseStatus.FAILED):
            for key, request in self._of[book.index].items():
                if key[1] == task:
                    self._due(book, key, request, self.panel.now)

    def _ended(self, book: Book, record: TaskEnded) -> None:
        if record.reason is None:
            self._must_be_done(book, record.task_id)
        self._done[book.index].discard(record.task_id)

    def _cancelled(self, book: Book, link: LinkId, _: Header, message: Cancel) -> None:
        """Who relays need not say more; who works on a task ends it at once."""
        key = (link, message.task_id)
        request = self._of[book.index].get(key)
        if request is None:
            return
        if book.role is Role.COORDINATOR:
            del self._of[book.index][key]
        else:
            self._due(book, key, request, min(request.due_us, self.panel.now + GRACE_US))

    def _link_down(self, book: Book, event: LinkDown) -> None:
        """Nobody is there any more to be answered."""
        requests = self._of[book.index]
        for key in [key for key in requests if key[0] == event.link]:
            del requests[key]

    def _overdue(self, book: Book, key: _Key) -> None:
        request = self._of[book.index].get(key)
        if request is not None and request.due_us <= self.panel.now:
            self.fail(book, f"has not ended task {key[1].hex()}, which it was asked over link {key[0]}, in time")


class Asks(Rule):
    """A task is at one node at a time: before another is asked, the first has ended it, was told to stop, or is gone; and
    who was asked to stop a task that he has asked of others tells them."""

    name = "asked one at a time"

    def enter(self) -> None:
        """See `Rule`."""
        self._of: dict[int, dict[TaskId, LinkId]] = {}
        self._told: dict[int, set[TaskId]] = {}
        """Tasks that somebody no longer wants and that were asked of others."""
        self.panel.on_sent(TaskRequest, self._ask)
        self.panel.on_sent(Cancel, self._withdraw)
        self.panel.on_received(TaskResponse, self._heard)
        self.panel.on_received(Cancel, self._cancelled)
        self.panel.on(TaskEnded, self._ended)
        self.panel.on(LinkDown, self._link_down)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._of[book.index] = {}
        self._told[book.index] = set()

    def _ask(self, book: Book, link: LinkId, _: Header, request: TaskRequest) -> None:
        asks, task = self._of[book.index], request.task_id
        if task in asks:
            self.fail(book, f"sends task {task.hex()} over link {link} while it is open over link {asks[task]}")
        asks[task] = link
        if book.role is Role.COORDINATOR and len(asks) > book.config.relayed_tasks_max:
            self.fail(book, f"carries {len(asks)} tasks; relayed_tasks_max is {book.config.relayed_tasks_max}")

    def _withdraw(self, book: Book, link: LinkId, _: Header, message: Cancel) -> None:
        if self._of[book.index].get(message.task_id) == link:
            del self._of[book.index][message.task_id]

    def _heard(self, book: Book, link: LinkId, _: Header, response: TaskResponse) -> None:
        if response.status in _FINAL and self._of[book.index].get(response.task_id) == link:
            del self._of[book.index][response.task_id]

    def _cancelled(self, book: Book, link: LinkId, _: Header, message: Cancel) -> None:
        if message.task_id in self._of[book.index]:
            self.panel.alarm(self.panel.now, self._not_withdrawn, book, message.task_id)

    def _ended(self, book: Book, record: TaskEnded) -> None:
        if record.task_id in self._of[book.index]:
            self.panel.alarm(self.panel.now, self._not_withdrawn, book, record.task_id)

    def _link_down(self, book: Book, event: LinkDown) -> None:
        asks = self._of[book.index]
        for task in [task for task, link in asks.items() if link == event.link]:
            del asks[task]

    def _not_withdrawn(self, book: Book, task: TaskId) -> None:
        link = self._of[book.index].get(task)
        if link is not None:
            self.fail(book, f"was told that task {task.hex()} is not wanted and did not tell who works on it over link {link}")
