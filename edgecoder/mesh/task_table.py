"""The life of a task of a node's own user, as a table; `origin` drives it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class TaskState(Enum):
    """Where a task of the user stands."""

    WAITING = "waiting"
    PROBING = "probing"
    ASKED = "asked"
    ACCEPTED = "accepted"
    STREAMING = "streaming"
    ENDED = "ended"


class TaskStep(Enum):
    """What can happen to it."""

    PROBED = "probed"
    NOBODY = "nobody"
    ROUTED = "routed"
    ACCEPTED = "accepted"
    CHUNK = "chunk"
    REFUSED = "refused"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"
    GIVEN_UP = "givenUp"


TASK_TABLE: Mapping[tuple[TaskState, TaskStep], TaskState] = MappingProxyType(
    {
        (TaskState.WAITING, TaskStep.ROUTED): TaskState.ASKED,
        (TaskState.WAITING, TaskStep.GIVEN_UP): TaskState.ENDED,
        (TaskState.WAITING, TaskStep.PROBED): TaskState.PROBING,
        (TaskState.PROBING, TaskStep.ROUTED): TaskState.ASKED,
        (TaskState.PROBING, TaskStep.NOBODY): TaskState.WAITING,
        (TaskState.PROBING, TaskStep.GIVEN_UP): TaskState.ENDED,
        (TaskState.ASKED, TaskStep.ACCEPTED): TaskState.ACCEPTED,
        (TaskState.ASKED, TaskStep.REFUSED): TaskState.WAITING,
        (TaskState.ASKED, TaskStep.FAILED): TaskState.WAITING,
        (TaskState.ASKED, TaskStep.LOST): TaskState.WAITING,
        (TaskState.ASKED, TaskStep.GIVEN_UP): TaskState.ENDED,
        (TaskState.ACCEPTED, TaskStep.CHUNK): TaskState.STREAMING,
        (TaskState.ACCEPTED, TaskStep.DONE): TaskState.ENDED,
        (TaskState.ACCEPTED, TaskStep.REFUSED): TaskState.WAITING,
        (TaskState.ACCEPTED, TaskStep.FAILED): TaskState.WAITING,
        (TaskState.ACCEPTED, TaskStep.LOST): TaskState.WAITING,
        (TaskState.ACCEPTED, TaskStep.GIVEN_UP): TaskState.ENDED,
        (TaskState.STREAMING, TaskStep.CHUNK): TaskState.STREAMING,
        (TaskState.STREAMING, TaskStep.DONE): TaskState.ENDED,
        (TaskState.STREAMING, TaskStep.FAILED): TaskState.ENDED,
        (TaskState.STREAMING, TaskStep.LOST): TaskState.ENDED,
        (TaskState.STREAMING, TaskStep.GIVEN_UP): TaskState.ENDED,
    }
)
