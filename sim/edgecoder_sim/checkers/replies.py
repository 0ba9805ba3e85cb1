"""Commands: every request of a user gets exactly one reply of its own kind, in time, and no news after it."""

from __future__ import annotations

from typing import Final

from edgecoder.core.effects import (
    Clones,
    LedgerTotals,
    MeshCapabilities,
    ModelStatus,
    Progress,
    PullResult,
    RemoveResult,
    Reply,
    SwapResult,
    TaskResult,
)
from edgecoder.core.events import (
    CancelTask,
    Command,
    PullModel,
    QueryClones,
    QueryLedger,
    QueryMesh,
    QueryModels,
    QueryStatus,
    RemoveModel,
    ShutDown,
    SubmitTask,
    SwapModel,
)
from edgecoder.core.ids import CommandId, Micros, TaskId
from edgecoder.errors import Reason
from edgecoder.trace import SwapEnded, TaskEnded, TaskSubmitted
from edgecoder_sim.checkers.operations import UNLOAD_US
from edgecoder_sim.checkers.panel import GRACE_US, Book, Rule

RESULTS: Final[dict[type[Command], type]] = {
    SwapModel: SwapResult,
    PullModel: PullResult,
    RemoveModel: RemoveResult,
    SubmitTask: TaskResult,
    CancelTask: bool,
    QueryMesh: MeshCapabilities,
    QueryLedger: LedgerTotals,
    QueryClones: Clones,
    QueryStatus: ModelStatus,
    QueryModels: tuple,
    ShutDown: type(None),
}
"""What each command is answered with; a bare Reason says that it could not be taken at all."""


def swap_us(book: Book) -> Micros:
    """The longest that one swap may take: announcing, draining, unloading, loading, and loading the old model again."""
    config = book.config
    timeouts_ms = config.advertise_wait_ms + config.drain_ms + 2 * config.load_timeout_ms
    return timeouts_ms * 1000 + UNLOAD_US


class Replies(Rule):
    """Every command gets exactly one reply of its own kind, in time; its progress ends before."""

    name = "one reply"

    def enter(self) -> None:
        """See `Rule`."""
        self._open: dict[int, dict[CommandId, Command]] = {}
        self.panel.on(RESULTS, self._command)
        self.panel.on(Reply, self._reply)
        self.panel.on(Progress, self._progress)
        self.panel.on(SwapEnded, self._swap_ended)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._open[book.index] = {}

    def _command(self, book: Book, command: Command) -> None:
        self._open[book.index][command.command] = command
        due_us = self._due_us(book, command)
        if due_us is not None:
            self.panel.alarm(due_us + GRACE_US, self._overdue, book, command.command)

    def _due_us(self, book: Book, command: Command) -> Micros | None:
        """When a command has to be answered; None where a download may take any time."""
        now_us = self.panel.now
        match command:
            case SubmitTask():
                return now_us + (command.deadline_ms or book.config.task_deadline_ms) * 1000
            case PullModel() | SwapModel(pull=True):
                return None
            case SwapModel():
                return now_us + 2 * swap_us(book)  # one that is under way, and its own
            case ShutDown():
                return now_us + book.config.drain_ms * 1000
        return now_us

    def _reply(self, book: Book, effect: Reply) -> None:
        command = self._open[book.index].pop(effect.command, None)
        if command is None:
            self.fail(book, f"replies to command {effect.command}, which is not open: it had its reply")
        kind, wanted = type(effect.result), RESULTS[type(command)]
        if kind is not wanted and kind is not Reason:
            name = type(command).__name__
            self.fail(book, f"answers {name} {effect.command} with {kind.__name__} instead of {wanted.__name__}")

    def _progress(self, book: Book, effect: Progress) -> None:
        if effect.command not in self._open[book.index]:
            self.fail(book, f"reports progress of command {effect.command} after its reply")

    def _swap_ended(self, book: Book, record: SwapEnded) -> None:
        """Replies stand before the record of the end; where no swap follows, nobody may be left waiting."""
        if record.swap == 0 or book.is_changing:
            return
        for command in self._open[book.index].values():
            if type(command) is SwapModel and not command.pull:
                name = f"{command.command} to {command.model}"
                self.fail(book, f"ended swap {record.swap} and left the swap command {name} without a reply")

    def _overdue(self, book: Book, command: CommandId) -> None:
        found = self._open[book.index].get(command)
        if found is not None:
            self.fail(book, f"has not replied to {type(found).__name__} {command}, which is overdue")


class TaskEnds(Rule):
    """A task that was taken ends once, with the reply to its command."""

    name = "one end"

    def enter(self) -> None:
        """See `Rule`."""
        self._open: dict[int, dict[TaskId, CommandId]] = {}
        self._replied: dict[int, set[CommandId]] = {}
        self.panel.on(TaskSubmitted, self._submitted)
        self.panel.on(TaskEnded, self._ended)
        self.panel.on(Reply, self._reply)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._open[book.index] = {}
        self._replied[book.index] = set()

    def _submitted(self, book: Book, record: TaskSubmitted) -> None:
        self._open[book.index][record.task_id] = record.command
        tasks = len(self._open[book.index])
        if tasks > book.config.origin_tasks_max:
            self.fail(book, f"has {tasks} open tasks of its user; origin_tasks_max is {book.config.origin_tasks_max}")

    def _reply(self, book: Book, effect: Reply) -> None:
        if type(effect.result) is TaskResult:
            self._replied[book.index].add(effect.command)
            self.panel.alarm(self.panel.now, self._not_ended, book, effect.command)

    def _ended(self, book: Book, record: TaskEnded) -> None:
        command = self._open[book.index].pop(record.task_id, None)
        if command is None:
            self.fail(book, f"ends task {record.task_id.hex()}, which is not open")
        if command not in self._replied[book.index]:
            self.fail(book, f"ends task {record.task_id.hex()} without a reply to command {command}")
        self._replied[book.index].discard(command)
        if record.attempts > book.config.task_attempts_max:
            allowed = book.config.task_attempts_max
            self.fail(
                book, f"tried task {record.task_id.hex()} {record.attempts} times; task_attempts_max is {allowed}"
            )

    def _not_ended(self, book: Book, command: CommandId) -> None:
        if command in self._replied[book.index]:
            self.fail(book, f"replied to command {command} and did not end its task")
