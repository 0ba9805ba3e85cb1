"""What is kept of an own task until it ends: who was asked, what came of it, how far the answer is. Records only; what
happens to them is decided in `origin`.
"""

from __future__ import annotations

import msgspec

from edgecoder.core.events import SubmitTask
from edgecoder.core.ids import CommandId, LinkId, Micros, NodeId, TaskId
from edgecoder.core.timers import Name
from edgecoder.errors import Reason
from edgecoder.mesh.task_table import TaskState


class Ask(msgspec.Struct):
    """A node that was asked, and has not ended the task."""

    node: NodeId
    link: LinkId | None
    """None: this node itself."""
    asked_at: Micros
    timer: Name
    index: int = 0
    """Of the response that comes next."""
    is_accepted: bool = False
    attempt: int = 0
    """Which of the requests for this task it got."""


class OpenTask(msgspec.Struct):
    """A task that has not ended."""

    command: CommandId
    spec: SubmitTask
    id: TaskId
    deadline: Micros
    state: TaskState = TaskState.WAITING
    asked: list[Ask] = msgspec.field(default_factory=list)
    """Who has it: nobody, one, or two where it was hedged."""
    hedge: NodeId | None = None
    """Who was asked as the second, once a task."""
    is_hedged: bool = False
    requests: int = 0
    """Sent for it so far."""
    attempts: int = 0
    tried: set[NodeId] = msgspec.field(default_factory=set)
    retry_at: Micros = 0
    is_asked_out: bool = False
    """Whether those who were probed last had no room: then it waits for its next turn."""
    parts: list[str] = msgspec.field(default_factory=list)
    text_size: int = 0
    """Characters in `parts`."""
    tokens: int = 0
    last: Reason = Reason.NO_ROUTE
