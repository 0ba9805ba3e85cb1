"""What the tasks of a node's user need of the node: whom they can be sent to, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edgecoder.core.ids import LinkId, Micros, NodeId, TaskId
from edgecoder.errors import Reason
from edgecoder.mesh.prober import Near
from edgecoder.mesh.router import Candidate
from edgecoder.wire.messages import TaskRequest, TaskResponse


class Reach(Near, Protocol):
    """Whom a task can be sent to."""

    def candidates(self, request: TaskRequest, tried: set[NodeId]) -> list[Candidate]:
        """This node and the peers in reach."""
        ...

    def coordinator(self) -> tuple[NodeId, LinkId] | None:
        """The home coordinator, if it answers."""
        ...

    def goes_wide(self, node: NodeId, request: TaskRequest, /) -> bool:
        """Whether a request is long enough for a faster link to a peer, which has to be dialled and can be."""
        ...

    def upload_ms(self, link: LinkId, request: TaskRequest, /) -> int:
        """How long a request may take on its way to who accepts it: nothing worth counting but over BLE."""
        ...

    def run_here(self, request: TaskRequest, sink: Callable[[TaskResponse], None]) -> None:
        """Offer the task to this node's own engine."""
        ...

    def cancel_here(self, task: TaskId, reason: Reason, attempt: int) -> None:
        """Take it back from there."""
        ...

    def note_answer(self, node: NodeId, link: LinkId, response: TaskResponse, asked_at: Micros) -> None:
        """A node that was asked over a link has answered a task whole."""
        ...

    def note_outcome(self, node: NodeId, latency_ms: int | None) -> None:
        """How a node did: the milliseconds to its acceptance, None for a failure."""
        ...
