"""The routes of models: swap, status, list, pull, remove, import, export, operations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from edgecoder.core.effects import ModelRow, ModelStatus, RemoveResult, Result, UplinkRow
from edgecoder.core.events import Command, PullModel, QueryModels, QueryStatus, RemoveModel, SwapModel
from edgecoder.errors import REASONS, Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.http import digests
from edgecoder_drivers.http.contract import (
    Accepted,
    ImportBody,
    Listed,
    PullBody,
    Pulled,
    PullProgress,
    Removed,
    Row,
    Status,
    SwapBody,
    UplinkStatus,
)
from edgecoder_drivers.http.jobs import Job, Jobs, done_of, wait
from edgecoder_drivers.http.problems import Rejected, problem_of
from edgecoder_drivers.http.served import ServedNode
from edgecoder_drivers.http.wire import answer, events, read

K = TypeVar("K")


class ModelRoutes:
    """What is asked of the models of one node."""

    def __init__(self, node: ServedNode, jobs: Jobs, swap_wait_s: float) -> None:
        """`jobs` are the node's. A swap or pull that takes longer than `swap_wait_s` is answered before its end."""
        self._node = node
        self._jobs = jobs
        self._swap_wait_s = swap_wait_s

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/model/swap", self.swap, methods=["POST"]),
            Route("/model/status", self.status),
            Route("/model/list", self.list),
            Route("/model/pull", self.pull, methods=["POST"]),
            Route("/model/import", self.import_model, methods=["POST"]),
            Route("/model/operations/{operation}", self.operation),
            Route("/model/operations/{operation}/events", self.follow),
            Route("/model/{model:path}/export", self.export),
            Route("/model/{model:path}", self.remove, methods=["DELETE"]),
        ]

    async def swap(self, request: Request) -> Response:
        """Make a model active."""
        body = await read(request, SwapBody, missing="model_required")
        entry = self._node.find(body.model)
        job = self._jobs.begin(SwapModel, entry, body.model, pull=body.pull)
        return await self._end_of(job, body.wait)

    async def pull(self, request: Request) -> Response:
        """Fetch a model without activating it."""
        body = await read(request, PullBody, missing="model_required")
        job = self._jobs.begin(PullModel, self._node.find(body.model), body.model)
        return await self._end_of(job, body.wait)

    async def _end_of(self, job: Job, is_waited_for: bool | None) -> Response:
        seconds = None if is_waited_for else 0 if is_waited_for is False else self._swap_wait_s
        if await wait(job, seconds):
            if job.problem is not None:
                raise Rejected(job.problem)
            return answer(done_of(job.result))
        status = await self._ask(QueryStatus, ModelStatus)
        pulled = {row.model for row in status.pulling}
        is_pulling = job.kind == "pull" or (job.entry is not None and job.entry.model_id in pulled)
        return answer(Accepted(status.model, "pulling" if is_pulling else "loading", job.id, job.progress), 202)

    async def status(self, request: Request) -> Response:  # noqa: ARG002
        """What is active, and how it is."""
        status = await self._ask(QueryStatus, ModelStatus)
        node, reason = self._node, status.reason
        is_healthy = node.is_engine_healthy()
        return answer(
            Status(
                status.model,
                status.param_size,
                status.status,
                -1 if status.load.is_loading else status.load.tasks,
                status.generation,
                node.engine == "ollama" and is_healthy,
                node.engine,
                status.online,
                None if reason is None else reason.value,
                None if reason is None else REASONS[reason].message,
                tuple(PullProgress(row.model, row.bytes_done, row.size_bytes) for row in status.pulling),
                tuple(_uplink(row) for row in status.uplinks),
                status.catalog is not None and status.catalog.is_stale,
                None if status.catalog is None else status.catalog.age_ms / 1000,
                None if status.catalog is None else status.catalog.version,
            )
        )

    async def list(self, request: Request) -> Response:  # noqa: ARG002
        """What is here and what could be."""
        rows = await self._ask(QueryModels, tuple)
        return answer(Listed(tuple(self._row(row) for row in rows)))

    def _row(self, row: ModelRow) -> Row:
        entry, is_installed = row.entry, row.state == "installed"
        return Row(
            entry.model_id,
            entry.display_name,
            entry.param_size,
            entry.quantization,
            entry.file_size_bytes,
            is_installed,
            row.active,
            row.compatible,
            "local" if is_installed else self._node.source_of(entry),
            int(is_installed),
            row.state,
        )

    async def remove(self, request: Request) -> Response:
        """Delete a file."""
        result = await self._ask(RemoveModel, RemoveResult, model=request.path_params["model"])
        if result.reason is not None:
            raise Rejected(problem_of(result.reason, result.model))
        return answer(Removed(result.model, "removed"))

    async def import_model(self, request: Request) -> Response:
        """Take a model from a file on this machine."""
        body = await read(request, ImportBody, missing="path_required")
        try:
            model = await self._node.import_model(Path(body.path))
        except Refused as refused:
            raise Rejected(problem_of(refused.reason, str(refused))) from None
        return answer(Pulled(model, "installed"))

    async def export(self, request: Request) -> Response:
        """The bytes of a model, and what they should hash to (RFC 9530): a disk may give others."""
        entry = self._known(request.path_params["model"])
        try:
            path = await self._node.export_model(entry)
        except Refused as refused:
            raise Rejected(problem_of(refused.reason, str(refused))) from None
        if not await anyio.Path(path).is_file():
            raise Rejected(problem_of(Reason.NOT_INSTALLED, entry.model_id))
        name = f"{entry.model_id.replace('/', '_').replace(':', '_')}.gguf"
        digest = {"repr-digest": digests.written(entry.sha256)}
        return FileResponse(path, media_type="application/octet-stream", filename=name, headers=digest)

    async def operation(self, request: Request) -> Response:
        """How far a swap or pull is."""
        return answer(self._jobs.get(request.path_params["operation"]).shown())

    async def follow(self, request: Request) -> Response:
        """The same, event by event."""
        job = self._jobs.get(request.path_params["operation"])

        async def told() -> AsyncIterator[tuple[str, msgspec.Struct]]:
            async for shown in job.follow():
                yield ("progress" if shown.status == "running" else shown.status), shown

        return events(told())

    def _known(self, model: str) -> CatalogEntry:
        entry = self._node.find(model)
        if entry is None:
            raise Rejected(problem_of(Reason.UNKNOWN_MODEL, model))
        return entry

    async def _ask(self, kind: type[Command], result: type[K], **fields: Any) -> K:
        _, reply = self._node.begin(kind, **fields)
        return kind_of(await reply, result)


def kind_of(result: Result, kind: type[K]) -> K:
    """A reply of this kind. Raises Rejected where the command could not be taken at all."""
    if isinstance(result, Reason):
        raise Rejected(problem_of(result))
    assert isinstance(result, kind), f"{result} is no {kind.__name__}"
    return result


def _uplink(row: UplinkRow) -> UplinkStatus:
    reason = row.reason
    value, detail = (None, None) if reason is None else (reason.value, REASONS[reason].message)
    return UplinkStatus(row.coordinator.hex(), row.endpoint, row.state, row.is_home, value, detail, row.is_told)
