"""One open task of a node's own user: where it stands, who was asked, and what was shown of its answer.

What follows what is `task_table`'s; who is asked, and when, is decided in `origin`.
"""

from __future__ import annotations

import msgspec

from edgecoder.core.context import MILLI
from edgecoder.core.events import SubmitTask
from edgecoder.core.ids import CommandId, LinkId, Micros, NodeId, TaskId
from edgecoder.core.timers import Name
from edgecoder.errors import Reason
from edgecoder.mesh.task_table import TASK_TABLE, TaskState, TaskStep
from edgecoder.wire.messages import TaskRequest

DIALLING: LinkId = -1
"""The link of a task that waits for one: none has this id."""


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

    def taken_ms(self, now: Micros) -> int:
        """How long ago it was asked."""
        return (now - self.asked_at) // MILLI


class OpenTask(msgspec.Struct):
    """A task that has not got its reply."""

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

    def step(self, step: TaskStep) -> bool:
        """Move along the table; False where it has no such row."""
        following = TASK_TABLE.get((self.state, step))
        if following is None:
            return False
        self.state = following
        return True

    def ask_of(self, link: LinkId | None) -> Ask | None:
        """Who was asked over this link."""
        return next((ask for ask in self.asked if ask.link == link), None)

    def request(self, now: Micros) -> TaskRequest:
        """What is asked of a node at this time."""
        spec = self.spec
        return TaskRequest(
            task_id=self.id,
            prompt=spec.prompt,
            model=spec.model,
            min_param_size=spec.min_param_size,
            max_tokens=spec.max_tokens,
            deadline_ms=max(1, (self.deadline - now) // MILLI),
            stream=spec.stream,
            attempt=self.requests,
        )
