"""The route of tasks: a prompt is answered by the mesh, at once or part by part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgecoder.core.effects import ModelStatus, Progress, Result, TaskResult
from edgecoder.core.events import CancelTask, QueryStatus, SubmitTask
from edgecoder.core.ids import CommandId
from edgecoder.errors import Reason
from edgecoder_drivers.http.contract import Answered, TaskBody, TaskPart
from edgecoder_drivers.http.models import kind_of
from edgecoder_drivers.http.problems import Rejected, problem_of
from edgecoder_drivers.http.served import ServedNode
from edgecoder_drivers.http.wire import answer, events, read

TASKS_MAX = 256
"""Tasks that are open over HTTP."""
DEADLINE_MS = 120_000
"""Of a task that names none."""
TURN_S = 0.5
"""How often is looked whether who asked is still there."""


class TaskRoutes:
    """What is asked of the mesh by the user of one node."""

    def __init__(self, node: ServedNode, deadline_ms_max: int) -> None:
        """A task is waited for so long at most, whatever is asked."""
        self._node = node
        self._deadline_ms_max = deadline_ms_max
        self._open = 0

    def routes(self) -> list[Route]:
        """The routes."""
        return [Route("/task", self.task, methods=["POST"])]

    async def task(self, request: Request) -> Response:
        """Have a prompt answered. Who goes away meanwhile does not want it any more: the task is cancelled."""
        body = await read(request, TaskBody, missing="prompt_required")
        await self._refuse_hopeless(body)
        if self._open >= TASKS_MAX:
            raise Rejected(problem_of(Reason.BUSY))
        if body.stream:
            return events(self._parts(body))
        command, reply = self._submit(body, None)
        try:
            while not reply.done():
                await asyncio.wait({reply}, timeout=TURN_S)
                if await request.is_disconnected():
                    break
        finally:
            if not reply.done():
                self._node.begin(CancelTask, task=command)
        result = kind_of(await reply, TaskResult)
        if result.reason is not None:
            raise Rejected(problem_of(result.reason))
        return answer(_answered(result))

    async def _refuse_hopeless(self, body: TaskBody) -> None:
        """A node that knows nobody else and cannot answer itself says so at once, and what to do. Raises Rejected."""
        _, reply = self._node.begin(QueryStatus)
        status = kind_of(await reply, ModelStatus)
        if status.online or status.status in ("loading", "pulling"):
            return
        entry = None if body.model is None else self._node.find(body.model)
        if body.model is not None and entry is None:
            raise Rejected(problem_of(Reason.UNKNOWN_MODEL, body.model))
        if status.model is None:
            raise Rejected(problem_of(Reason.NO_MODEL, "none is active here, and no other node is known"))
        if entry is not None and entry.model_id != status.model:
            detail = f"{status.model} is active here, {entry.model_id} is not, and no other node is known"
            raise Rejected(problem_of(Reason.NO_MODEL, detail))
        if body.min_param_size > (status.param_size or 0.0):
            size = "an unknown number of" if status.param_size is None else f"{status.param_size:g} billion"
            detail = f"{status.model} has {size} parameters, and no other node is known"
            raise Rejected(problem_of(Reason.NO_MODEL, detail))

    async def _parts(self, body: TaskBody) -> AsyncIterator[tuple[str, msgspec.Struct]]:
        parts: asyncio.Queue[Progress | None] = asyncio.Queue()
        command, reply = self._submit(body, parts.put_nowait)
        reply.add_done_callback(lambda _: parts.put_nowait(None))
        try:
            while (part := await parts.get()) is not None:
                yield "part", TaskPart(part.text, part.tokens)
        finally:
            if not reply.done():
                self._node.begin(CancelTask, task=command)
        result = await reply
        reason = result if isinstance(result, Reason) else kind_of(result, TaskResult).reason
        if reason is None:
            yield "done", _answered(kind_of(result, TaskResult))
        else:
            yield "failed", problem_of(reason)

    def _submit(
        self, body: TaskBody, on_progress: Callable[[Progress], None] | None
    ) -> tuple[CommandId, asyncio.Future[Result]]:
        command, reply = self._node.begin(
            SubmitTask,
            on_progress=on_progress,
            prompt=body.prompt,
            model=body.model,
            min_param_size=body.min_param_size,
            max_tokens=body.max_tokens,
            deadline_ms=min(body.deadline_ms or DEADLINE_MS, self._deadline_ms_max),
            stream=body.stream,
        )
        self._open += 1
        reply.add_done_callback(lambda _: self._closed())
        return command, reply

    def _closed(self) -> None:
        self._open -= 1


def _answered(result: TaskResult) -> Answered:
    served_by = None if result.served_by is None else result.served_by.hex()
    return Answered(result.text, result.tokens, result.model, served_by)
