"""What takes longer than a request: swaps and pulls that go on when whoever asked has gone.

Each has an id under which its progress can be looked up, or followed. Finished ones are kept for a while, so that an
answer that got lost can be had again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from edgecoder.core.effects import Progress, PullResult, Result, SwapResult
from edgecoder.core.events import Command, PullModel, SwapModel
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.addresses import shown
from edgecoder_drivers.http.contract import Operation, Problem, Pulled, Swapped
from edgecoder_drivers.http.problems import problem_of, reject
from edgecoder_drivers.http.served import ServedNode

RUNNING_MAX = 256
"""Operations that may be under way: as many commands as one swap lets join."""
KEPT_MAX = 256
"""Finished ones that are remembered, the latest."""


class Job:
    """One operation."""

    def __init__(self, kind: str, model: str, entry: CatalogEntry | None) -> None:
        """`entry` is the file that is meant, where one is."""
        self.id = secrets.token_hex(8)
        self.kind = kind
        self.model = model
        self.entry = entry
        self._size_bytes = 0 if entry is None else entry.file_size_bytes
        self._bytes_done = 0
        self.result: Result = None
        self.problem: Problem | None = None
        """Why it failed."""
        self.is_done = False
        self._changed = asyncio.Event()

    def told(self, progress: Progress) -> None:
        """Some bytes more."""
        self._bytes_done = max(self._bytes_done, progress.bytes_done)
        self._wake()

    def ended(self, result: Result, problem: Problem | None) -> None:
        """It is over."""
        self.result, self.problem, self.is_done = result, problem, True
        self._wake()

    @property
    def progress(self) -> float:
        """How much of the file is here, from 0 to 1; 1 when all is done."""
        if self.is_done and self.problem is None:
            return 1.0
        return round(min(1.0, self._bytes_done / self._size_bytes), 4) if self._size_bytes else 0.0

    def shown(self) -> Operation:
        """As GET /model/operations/{id} tells it."""
        status = "running" if not self.is_done else "done" if self.problem is None else "failed"
        result = done_of(self.result) if status == "done" else None
        swapped = result if isinstance(result, Swapped) else None
        pulled = result if isinstance(result, Pulled) else None
        told = (self.id, self.kind, self.model, status, self.progress)
        return Operation(*told, swapped, pulled, self.problem, self._size_bytes)

    async def follow(self) -> AsyncIterator[Operation]:
        """Each change of it, to its end."""
        while True:
            changed, is_last = self._changed, self.is_done
            yield self.shown()
            if is_last:  # it may have ended while whoever follows had the turn
                return
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Jobs:
    """The operations of a node."""

    def __init__(self, node: ServedNode) -> None:
        self._node = node
        self._jobs: dict[str, Job] = {}

    def begin(self, kind: type[SwapModel | PullModel], entry: CatalogEntry | None, model: str, **fields: Any) -> Job:
        """Begin one. Raises Rejected where too many are under way."""
        running = sum(not job.is_done for job in self._jobs.values())
        if running >= RUNNING_MAX:
            raise reject(503, "busy", "too many swaps and pulls are under way", "ask again later")
        job = Job(_NAMES[kind], model, entry)
        _, reply = self._node.begin(kind, on_progress=job.told, model=model, **fields)
        reply.add_done_callback(lambda reply: self._ended(job, reply))
        self._jobs[job.id] = job
        finished = [job.id for job in self._jobs.values() if job.is_done]
        for old in finished[: max(0, len(finished) - KEPT_MAX)]:
            del self._jobs[old]
        return job

    def get(self, job_id: str) -> Job:
        """One of them. Raises Rejected."""
        job = self._jobs.get(job_id)
        if job is None:
            raise reject(404, "unknown_operation", "there is no such operation", "the latest ones are remembered")
        return job

    def _ended(self, job: Job, reply: asyncio.Future[Result]) -> None:
        result = Reason.RESTARTED if reply.cancelled() else reply.result()
        reason = _reason_of(result)
        job.ended(result, None if reason is None else self._problem_of(job, reason))

    def _problem_of(self, job: Job, reason: Reason) -> Problem:
        problem, entry = problem_of(reason, f"{job.kind} {job.model}"), job.entry
        if reason is not Reason.NO_SOURCE or entry is None:
            return problem
        if self._node.source_of(entry) == "none":
            hint = "import a file, or start the node with --cdn"
            return msgspec.structs.replace(problem, detail=f"the catalog has no address of {job.model}", hint=hint)
        if not entry.download_urls:
            return problem
        detail = f"{problem.detail} from {' or '.join(map(shown, entry.download_urls))}"
        return msgspec.structs.replace(problem, detail=detail, hint="check the network; the node's log has the cause")


def _reason_of(result: Result) -> Reason | None:
    if isinstance(result, SwapResult | PullResult):
        return result.reason
    return result if isinstance(result, Reason) else None


_NAMES: dict[type[Command], str] = {SwapModel: "swap", PullModel: "pull"}


async def wait(job: Job, seconds: float | None) -> bool:
    """Until a job is over, or the time is. Whether it is over. Who goes away calls nothing off."""
    try:
        async with asyncio.timeout(seconds):
            async for _ in job.follow():
                pass
    except TimeoutError:
        return job.is_done
    return True


def done_of(result: Result) -> Swapped | Pulled | None:
    """What a command that came to its end is in JSON."""
    if isinstance(result, SwapResult):
        return Swapped(result.previous, result.active, "ready", result.param_size)
    return Pulled(result.model, "installed") if isinstance(result, PullResult) else None
