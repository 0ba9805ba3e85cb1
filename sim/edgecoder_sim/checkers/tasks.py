"""Tasks between nodes: answers go to who asked, come from who was asked, and what is no longer wanted is called off.

`Requests` looks at a node that was asked, `Asks` at one that asks; a coordinator is both.
"""

from __future__ import annotations

from edgecoder.core.effects import Progress, Reply, RunTask
from edgecoder.core.events import LinkDown, TaskDone
from edgecoder.core.ids import CommandId, LinkId, Micros, OpId, Role, TaskId
from edgecoder.errors import Reason
from edgecoder.mesh.router import Why
from edgecoder.trace import TaskEnded, TaskRouted, TaskSubmitted
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Cancel, ResponseStatus, TaskRequest, TaskResponse
from edgecoder_sim.checkers.panel import GRACE_US, AskKey, Book, Rule

_FINAL = (ResponseStatus.DONE, ResponseStatus.REFUSED, ResponseStatus.FAILED)


class _Request:
    __slots__ = ("due_us", "index", "open")

    def __init__(self) -> None:
        self.open = 0
        """Requests that have no end yet: a task may be asked for again, and is refused then."""
        self.index = 0
        """Of the next response; a coordinator's may be larger."""
        self.due_us: Micros = 0


class Requests(Rule):
    """Every request gets exactly one end, on the link it came over and before its deadline; its responses count up from
    acceptance, one by one where the node itself does the work; a node says `done` only of what its engine or the node
    that it asked has done; an end that reaches a coordinator, and a cancellation, are passed on at once. It must be
    made before `Asks`, whose books it reads."""

    name = "requests are answered once"

    def enter(self) -> None:
        """See `Rule`."""
        self._of: dict[int, dict[TaskId, dict[AskKey, _Request]]] = {}
        self._running: dict[int, dict[OpId, TaskId]] = {}
        self._done: dict[int, set[TaskId]] = {}
        """Tasks that a node's engine or somebody it asked has done, and of which it has not said so yet."""
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

    def _asked(self, book: Book, link: LinkId, _: Header, message: TaskRequest) -> None:
        requests = self._of[book.index].setdefault(message.task_id, {})
        key = (link, message.attempt)
        if book.role is Role.COORDINATOR:  # a newer attempt says that the one before was given up
            for older in [ask for ask in requests if ask[0] == link and ask[1] < message.attempt]:
                self._call_off(book, older, message.task_id)
            requests = self._of[book.index].setdefault(message.task_id, {})
        request = requests.setdefault(key, _Request())
        request.open += 1
        due_us = self.panel.now + message.deadline_ms * 1000 + GRACE_US
        self._due(book, key, message.task_id, request, due_us)

    def _due(self, book: Book, key: AskKey, task: TaskId, request: _Request, due_us: Micros) -> None:
        request.due_us = due_us
        self.panel.alarm(due_us, self._overdue, book, (key, task))

    def _answered(self, book: Book, link: LinkId, _: Header, response: TaskResponse) -> None:
        task, status = response.task_id.hex(), response.status
        key = (link, response.attempt)
        request = self._of[book.index].get(response.task_id, {}).get(key)
        if request is None:
            self.fail(book, f"answers {status.value} to task {task} over link {link}, where it is not open")
        if status is not ResponseStatus.REFUSED:
            may_skip = book.role is Role.COORDINATOR  # it passes responses on as they come, and some are lost before
            if response.index < request.index or (response.index > request.index and not may_skip):
                self.fail(book, f"numbers a response to task {task} {response.index}; the next is {request.index}")
            if response.index == 0 and status not in (ResponseStatus.ACCEPTED, ResponseStatus.FAILED):
                self.fail(book, f"answers {status.value} to task {task} without having accepted it")
            request.index = response.index + 1
        elif request.index and response.reason is not Reason.DUPLICATE:
            self.fail(book, f"refuses task {task} after it was accepted")
        if status is ResponseStatus.DONE:
            self._must_be_done(book, response.task_id)
        if status in _FINAL:
            request.open -= 1
            if request.open == 0:
                self._close(book, key, response.task_id)

    def _close(self, book: Book, key: AskKey, task: TaskId) -> None:
        requests = self._of[book.index]
        del requests[task][key]
        if not requests[task]:
            del requests[task]

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

    def _heard(self, book: Book, link: LinkId, _: Header, response: TaskResponse) -> None:
        task = response.task_id
        if (link, response.attempt) not in book.asks.get(task, ()):
            return
        if response.status is ResponseStatus.DONE:
            self._done[book.index].add(task)
        if response.status in (ResponseStatus.DONE, ResponseStatus.FAILED):
            for origin, request in self._of[book.index].get(task, {}).items():
                self._due(book, origin, task, request, self.panel.now)

    def _ended(self, book: Book, record: TaskEnded) -> None:
        if record.reason is None:
            self._must_be_done(book, record.task_id)
        self._done[book.index].discard(record.task_id)

    def _cancelled(self, book: Book, link: LinkId, _: Header, message: Cancel) -> None:
        """Who relays a task calls it off and need say no more; who works on it ends it at once."""
        task, key = message.task_id, (link, message.attempt)
        request = self._of[book.index].get(task, {}).get(key)
        if request is None:
            return
        if book.role is Role.COORDINATOR:
            self._call_off(book, key, task)
        else:
            self._due(book, key, task, request, min(request.due_us, self.panel.now + GRACE_US))

    def _call_off(self, book: Book, key: AskKey, task: TaskId) -> None:
        self._close(book, key, task)
        for ask in book.asks.get(task, ()):
            self.panel.alarm(self.panel.now, self._not_passed_on, book, (task, ask))

    def _link_down(self, book: Book, event: LinkDown) -> None:
        """Nobody is there any more to be answered."""
        of = self._of[book.index]
        for task, key in [(task, key) for task, requests in of.items() for key in requests if key[0] == event.link]:
            self._close(book, key, task)

    def _overdue(self, book: Book, of: tuple[AskKey, TaskId]) -> None:
        key, task = of
        request = self._of[book.index].get(task, {}).get(key)
        if request is not None and request.due_us <= self.panel.now:
            self.fail(book, f"has not ended task {task.hex()}, which it was asked over link {key[0]}, in time")

    def _not_passed_on(self, book: Book, of: tuple[TaskId, AskKey]) -> None:
        task, ask = of
        if ask in book.asks.get(task, ()):
            self.fail(book, f"was told to cancel task {task.hex()} and did not tell who works on it")


class Asks(Rule):
    """A task is at one node at a time, or at two where it was hedged: before another is asked, and before the task
    ends, the first has ended it, was told to stop, or is gone. When a part of an answer is shown, one alone is left."""

    name = "asked one at a time"

    def enter(self) -> None:
        """See `Rule`."""
        self._hedged: dict[int, set[TaskId]] = {}
        self._commands: dict[int, dict[CommandId, TaskId]] = {}
        self.panel.on(TaskSubmitted, self._submitted)
        self.panel.on(Progress, self._shown)
        self.panel.on(Reply, self._replied)
        self.panel.on(TaskRouted, self._routed)
        self.panel.on_sent(TaskRequest, self._ask)
        self.panel.on_sent(Cancel, self._withdraw)
        self.panel.on_received(TaskResponse, self._heard)
        self.panel.on(TaskEnded, self._ended)
        self.panel.on(LinkDown, self._link_down)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._hedged[book.index] = set()
        self._commands[book.index] = {}

    def _submitted(self, book: Book, record: TaskSubmitted) -> None:
        self._commands[book.index][record.command] = record.task_id

    def _routed(self, book: Book, record: TaskRouted) -> None:
        if record.why == Why.HEDGED.value:
            hedged = self._hedged[book.index]
            if record.task_id in hedged:
                self.fail(book, f"hedges task {record.task_id.hex()} twice")
            hedged.add(record.task_id)

    def _replied(self, book: Book, effect: Reply) -> None:
        self._commands[book.index].pop(effect.command, None)

    def _shown(self, book: Book, effect: Progress) -> None:
        task = self._commands[book.index].get(effect.command, b"")
        if len(book.asks.get(task, ())) > 1:
            self.fail(book, f"shows a part of an answer to task {task.hex()}, which two others work on")

    def _ask(self, book: Book, link: LinkId, _: Header, request: TaskRequest) -> None:
        asks, task = book.asks, request.task_id
        links = asks.setdefault(task, [])
        allowed = 2 if task in self._hedged[book.index] else 1
        if len(links) >= allowed:
            self.fail(book, f"sends task {task.hex()} over link {link} while it is open over link {links[0][0]}")
        links.append((link, request.attempt))
        if book.role is Role.COORDINATOR and len(asks) > book.config.relayed_tasks_max:
            self.fail(book, f"carries {len(asks)} tasks; relayed_tasks_max is {book.config.relayed_tasks_max}")

    def _withdraw(self, book: Book, link: LinkId, _: Header, message: Cancel) -> None:
        self._close(book, (link, message.attempt), message.task_id)

    def _close(self, book: Book, key: AskKey, task: TaskId) -> None:
        links = book.asks.get(task)
        if links is not None and key in links:
            links.remove(key)
            if not links:
                del book.asks[task]

    def _heard(self, book: Book, link: LinkId, _: Header, response: TaskResponse) -> None:
        if response.status in _FINAL:
            self._close(book, (link, response.attempt), response.task_id)

    def _ended(self, book: Book, record: TaskEnded) -> None:
        links = book.asks.get(record.task_id)
        if links:
            self.fail(
                book, f"ended task {record.task_id.hex()} and did not tell who works on it over link {links[0][0]}"
            )
        self._hedged[book.index].discard(record.task_id)

    def _link_down(self, book: Book, event: LinkDown) -> None:
        for task, key in [(task, key) for task, keys in book.asks.items() for key in keys if key[0] == event.link]:
            self._close(book, key, task)
