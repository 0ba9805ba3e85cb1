"""Tasks while they are open: from the user's question to the reply, with every routing decision and every node's work.

Decides which start of work a task's answer came from and which way it came; what is known only when a task ends is
written then, decisions and work as they happen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from edgecoder.core.ids import NodeId, TaskId
from edgecoder.mesh.router import Why
from edgecoder.trace import LifeEnded, NodeReady, TaskEnded, TaskRouted, TaskStarted, TaskStopped, TaskSubmitted
from edgecoder_sim.recording.files import Row
from edgecoder_sim.recording.histogram import Histogram
from edgecoder_sim.tables import RESTARTED, UNFINISHED

COMMANDS_MAX: Final = 65_536
"""Commands whose workload is remembered until their task is submitted."""
UNNAMED: Final = "task"
"""Kind of a task whose command nobody named."""
VIAS: Final = ("self", "peer", "coordinator", "federation")
"""How an answer can come."""

Add = Callable[[Row], None]
_encode = msgspec.json.Encoder().encode


class _Task:
    __slots__ = ("hedge_via", "kind", "origin", "probes", "record", "routes", "starts", "submitted_us", "via")

    def __init__(self, submitted_us: int, origin: int, kind: str, record: TaskSubmitted) -> None:
        self.submitted_us = submitted_us
        self.origin = origin
        self.kind = kind
        self.record = record
        self.routes = 0
        self.probes = 0
        self.via: str | None = None
        self.hedge_via: str | None = None
        """How the answer of the second node comes, where one was asked."""
        self.starts: dict[int, int] = {}
        """When which node's engine began with it, µs."""


class _Work:
    __slots__ = ("model", "started_us")

    def __init__(self, started_us: int, model: str) -> None:
        self.started_us = started_us
        self.model = model


class TaskBook:
    """The open tasks of a run, and figures over the ended ones."""

    def __init__(
        self, index: dict[NodeId, int], coordinators: frozenset[int], tasks: Add, routes: Add, work: Add
    ) -> None:
        self._index = index
        self._coordinators = coordinators
        self._add_task, self._add_route, self._add_work = tasks, routes, work
        self._kinds: dict[int, str] = {}
        self._open: dict[TaskId, _Task] = {}
        self._work: dict[tuple[TaskId, int], _Work] = {}
        self._lived: set[int] = set()
        self._latency = Histogram()
        self._waited = Histogram()
        self._submitted = self._failed = self._unfinished = self._attempts = self._tokens = 0
        self._wasted_tokens = self._routes = 0
        self._probes = self._probes_answered = self._hedged = self._hedges_won = 0
        self._via = dict.fromkeys(VIAS, 0)
        self.handlers: dict[type, Callable[[int, int, Any], None]] = {
            NodeReady: self._node_ready,
            LifeEnded: self._life_ended,
            TaskSubmitted: self._submitted_by_user,
            TaskRouted: self._routed,
            TaskStarted: self._started,
            TaskStopped: self._stopped,
            TaskEnded: self._ended,
        }

    def __len__(self) -> int:
        return len(self._open)

    def command(self, command: int, kind: str) -> None:
        """A command belongs to the workload `kind`."""
        if len(self._kinds) >= COMMANDS_MAX:
            del self._kinds[next(iter(self._kinds))]
        self._kinds[command] = kind

    def close(self) -> None:
        """The run is over: write what is open."""
        for (task_id, node), work in self._work.items():
            self._add_work((task_id.hex(), node, work.started_us / 1e6, None, work.model, 0, UNFINISHED))
        for task in self._open.values():
            self._unfinished += 1
            self._write(task, None, None, UNFINISHED)
        self._work, self._open = {}, {}

    def metrics(self, nodes: int, at_us: int) -> dict[str, float]:
        """Over the whole run."""
        done = self._latency.count
        ended = done + self._failed
        metrics: dict[str, float] = {
            "tasks_submitted": self._submitted,
            "tasks_done": done,
            "tasks_failed": self._failed,
            "tasks_unfinished": self._unfinished,
            "task_routes": self._routes,
            "task_tokens": self._tokens,
            "task_tokens_wasted": self._wasted_tokens,
            "tasks_hedged": self._hedged,
            "hedges_won": self._hedges_won,
        }
        if self._probes:
            metrics["probes_per_task_mean"] = self._probes / self._submitted
            metrics["probes_answered_share"] = self._probes_answered / self._probes
        if ended:
            metrics["tasks_done_share"] = done / ended
            metrics["task_attempts_mean"] = self._attempts / ended
        if done:
            metrics["task_latency_mean_s"] = self._latency.mean / 1e6
            for percent in (50, 90, 99):
                metrics[f"task_latency_p{percent}_s"] = self._latency.quantile(percent / 100) / 1e6
            metrics |= {f"tasks_via_{via}_share": count / done for via, count in self._via.items()}
        if self._waited.count:
            metrics["task_waited_p50_s"] = self._waited.quantile(0.5) / 1e6
            metrics["task_waited_p99_s"] = self._waited.quantile(0.99) / 1e6
        if nodes and at_us:
            metrics["tasks_per_node_per_h"] = self._submitted / nodes / (at_us / 3.6e9)
        return metrics

    # -- records -------------------------------------------------------------------------------------------------------

    def _submitted_by_user(self, at_us: int, node: int, record: TaskSubmitted) -> None:
        self._submitted += 1
        kind = self._kinds.pop(record.command, UNNAMED)
        self._open[record.task_id] = _Task(at_us, node, kind, record)

    def _routed(self, at_us: int, node: int, record: TaskRouted) -> None:
        self._routes += 1
        to = None if record.to is None else self._index[record.to]
        self._probes += record.probes
        self._probes_answered += record.answered
        task = self._open.get(record.task_id)
        if task is not None:
            self._took_way(task, node, to, record)
        excluded = _encode(record.excluded).decode()
        self._add_route(
            (
                record.task_id.hex(),
                at_us / 1e6,
                node,
                to,
                record.why,
                record.cost,
                record.eligible,
                excluded,
                record.probes,
                record.answered,
            )
        )

    def _took_way(self, task: _Task, node: int, to: int | None, record: TaskRouted) -> None:
        task.routes += 1
        task.probes += record.probes
        if node == task.origin:
            via = "self" if to == node else "coordinator" if to in self._coordinators else "peer"
            if record.why == Why.HEDGED.value:
                task.hedge_via = via
            else:
                task.via, task.hedge_via = via, None
        elif record.why == Why.FORWARDED.value:
            if task.hedge_via == "coordinator":
                task.hedge_via = "federation"
            else:
                task.via = "federation"

    def _started(self, at_us: int, node: int, record: TaskStarted) -> None:
        self._work[record.task_id, node] = _Work(at_us, record.model)
        task = self._open.get(record.task_id)
        if task is not None:
            task.starts[node] = at_us

    def _stopped(self, at_us: int, node: int, record: TaskStopped) -> None:
        work = self._work.pop((record.task_id, node), None)
        started_s, model = (None, None) if work is None else (work.started_us / 1e6, work.model)
        reason = None if record.reason is None else record.reason.value
        if reason is not None:
            self._wasted_tokens += record.tokens
        self._add_work((record.task_id.hex(), node, started_s, at_us / 1e6, model, record.tokens, reason))

    def _ended(self, at_us: int, _: int, record: TaskEnded) -> None:
        task = self._open.pop(record.task_id, None)
        if task is None:
            return
        self._attempts += record.attempts
        if record.hedge_won is not None:
            self._hedged += 1
            self._hedges_won += record.hedge_won
        if record.hedge_won and task.hedge_via is not None:
            task.via = task.hedge_via
        if record.reason is None:
            self._latency.add(at_us - task.submitted_us)
            self._tokens += record.tokens
            if task.via is not None:
                self._via[task.via] += 1
        else:
            self._failed += 1
        self._write(task, at_us, record, None if record.reason is None else record.reason.value)

    def _node_ready(self, _: int, node: int, __: NodeReady) -> None:
        """A new life of a node, whether or not anybody saw the end of the one before."""
        if node in self._lived:
            self._life_ended(0, node, None)
        self._lived.add(node)

    def _life_ended(self, _: int, node: int, __: LifeEnded | None) -> None:
        """What a node was asked and what it worked on is lost."""
        for key in [key for key in self._work if key[1] == node]:
            work = self._work.pop(key)
            self._add_work((key[0].hex(), node, work.started_us / 1e6, None, work.model, 0, RESTARTED))
        for task_id in [task_id for task_id, task in self._open.items() if task.origin == node]:
            self._failed += 1
            self._write(self._open.pop(task_id), None, None, RESTARTED)

    def _write(self, task: _Task, ended_us: int | None, end: TaskEnded | None, reason: str | None) -> None:
        served_by = None if end is None or end.served_by is None else self._index[end.served_by]
        started_us = None if served_by is None else task.starts.get(served_by)
        waited_us = None if started_us is None else started_us - task.submitted_us
        if waited_us is not None and reason is None:
            self._waited.add(waited_us)
        asked = task.record
        self._add_task(
            (
                asked.task_id.hex(),
                task.kind,
                task.origin,
                task.submitted_us / 1e6,
                None if started_us is None else started_us / 1e6,
                None if ended_us is None else ended_us / 1e6,
                None if waited_us is None else waited_us / 1e6,
                None if ended_us is None else (ended_us - task.submitted_us) / 1e6,
                served_by,
                task.via if reason is None else None,
                asked.model,
                None if end is None else end.model,
                asked.min_param_size,
                asked.prompt_bytes,
                0 if end is None else end.tokens,
                0 if end is None else end.attempts,
                task.routes,
                task.probes,
                None if end is None or end.hedge_won is None else "won" if end.hedge_won else "lost",
                reason,
            )
        )
