"""How a run with faults ends: every task and swap with a verdict, and, after a calm time, all is well again.

These rules hold at the end of a run whose users stopped early enough; `calm` says whether a scenario is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edgecoder.core.ids import CommandId, NodeId, Role
from edgecoder.trace import (
    AgentExpired,
    AgentLearned,
    CapabilitiesChanged,
    HomeChanged,
    NodeReady,
    OnlineChanged,
    SwapEnded,
    SwapPhase,
    TaskEnded,
    TaskSubmitted,
)
from edgecoder_sim.checkers.panel import Book, Rule
from edgecoder_sim.checkers.swaps import SETTLED

if TYPE_CHECKING:
    from edgecoder_sim.scenario_model import Scenario

CALM_HEARTBEATS: Final = 10
"""Intervals without a fault after which every node reports to one coordinator again: offline, the longest patience,
and a full heartbeat."""


COST_US_MAX: Final = 100_000
"""CPU time of one frame; a machine that takes longer may lag behind for minutes."""


def calm(scenario: Scenario) -> bool:
    """Whether all is to be well at the end: every fault of the plan is over, and the users have stopped, so long before
    it, no machine is too slow to get to what reached it, and nobody leaves, or runs out of charge, when they like."""
    stays = (scenario.presence.phones, scenario.presence.agents)
    if any(stay.session_s is not None or stay.by_day or stay.charging is not None for stay in stays):
        return False
    if any(device.handle_us + device.verify_us + device.sign_us > COST_US_MAX for device in scenario.devices.values()):
        return False
    calm_s = CALM_HEARTBEATS * scenario.config.cluster.heartbeat_interval_ms / 1000
    until_s = scenario.duration_s - calm_s
    if scenario.workload.until_s is None or scenario.workload.until_s > until_s:
        return False
    ends = [fault.at_s if fault.for_s is None else fault.at_s + fault.for_s for fault in scenario.faults.plan]
    lasting = any(fault.for_s is None and fault.kind.value not in _MOMENTARY for fault in scenario.faults.plan)
    return bool(ends) and not lasting and max(ends) <= until_s


_MOMENTARY: Final = ("engine_crash", "clock_jump")


class Verdicts(Rule):
    """Every task and swap that was begun has ended, in a life that has not."""

    name = "every task and swap ends"

    def enter(self) -> None:
        """See `Rule`."""
        self._tasks: dict[int, dict[bytes, CommandId]] = {}
        self._swaps: dict[int, dict[int, str]] = {}
        self.panel.on(TaskSubmitted, self._submitted)
        self.panel.on(TaskEnded, self._ended)
        self.panel.on(SwapPhase, self._phase)
        self.panel.on(SwapEnded, self._swap_ended)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._tasks[book.index], self._swaps[book.index] = {}, {}

    def finish(self) -> None:
        """See `Rule`."""
        for index, book in self.panel.books.items():
            for task in self._tasks[index]:
                self.fail(book, f"has given no verdict on task {task.hex()}")
            for swap, phase in self._swaps[index].items():
                self.fail(book, f"has not ended swap {swap}, which is {phase}")

    def _submitted(self, book: Book, record: TaskSubmitted) -> None:
        self._tasks[book.index][record.task_id] = record.command

    def _ended(self, book: Book, record: TaskEnded) -> None:
        self._tasks[book.index].pop(record.task_id, None)

    def _phase(self, book: Book, record: SwapPhase) -> None:
        if record.phase in SETTLED:
            self._swaps[book.index].pop(record.swap, None)
        else:
            self._swaps[book.index][record.swap] = record.phase

    def _swap_ended(self, book: Book, record: SwapEnded) -> None:
        self._swaps[book.index].pop(record.swap, None)


class AllIsWell(Rule):
    """Every node is up and online, and one coordinator, its home, knows what it serves."""

    name = "all is well again"

    def enter(self) -> None:
        """See `Rule`."""
        self._online: dict[int, bool] = {}
        self._ready: dict[int, bool] = {}
        self._home: dict[int, NodeId | None] = {}
        self._said: dict[int, tuple[str | None, bool] | None] = {}
        self._rows: dict[int, dict[NodeId, tuple[str | None, bool]]] = {}
        self.panel.on(NodeReady, self._node_ready)
        self.panel.on(OnlineChanged, self._online_changed)
        self.panel.on(HomeChanged, self._home_changed)
        self.panel.on(CapabilitiesChanged, self._changed)
        self.panel.on(AgentLearned, self._learned)
        self.panel.on(AgentExpired, self._expired)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        index = book.index
        self._online[index] = self._ready[index] = False
        self._home[index], self._said[index] = None, None
        self._rows[index] = {}

    def finish(self) -> None:
        """See `Rule`."""
        books = self.panel.books.values()
        hubs = {book.node: book for book in books if book.role is Role.COORDINATOR}
        for book in books:
            if not self._ready[book.index]:
                self.fail(book, "is not up, though no fault is on")
        for book in books if hubs else ():
            if book.role is not Role.COORDINATOR:
                self._judge(book, hubs)

    def _judge(self, book: Book, hubs: dict[NodeId, Book]) -> None:
        if not self._online[book.index]:
            self.fail(book, "is offline, though no fault is on")
        for node, hub in hubs.items():
            row = self._rows[hub.index].get(book.node)
            if node == self._home[book.index]:
                if row != self._said[book.index]:
                    self.fail(book, f"serves {self._said[book.index]}, and {hub.name}, its home, knows {row}")
            elif row is not None:
                self.fail(book, f"is still in the registry of {hub.name}, which is not its home")

    def _node_ready(self, book: Book, _: NodeReady) -> None:
        self._ready[book.index] = True

    def _online_changed(self, book: Book, record: OnlineChanged) -> None:
        self._online[book.index] = record.online

    def _home_changed(self, book: Book, record: HomeChanged) -> None:
        self._home[book.index] = record.coordinator

    def _changed(self, book: Book, record: CapabilitiesChanged) -> None:
        self._said[book.index] = (record.model, record.loading)

    def _learned(self, book: Book, record: AgentLearned) -> None:
        self._rows[book.index][record.agent] = (record.model, record.loading)

    def _expired(self, book: Book, record: AgentExpired) -> None:
        self._rows[book.index].pop(record.agent, None)
