"""What Ollama reads of a registry: `ollama pull HOST:PORT/library/MODEL` has this node fetch the file, from the mesh or
the CDN as the core decides, and hands it on as its pieces come.

Ollama sends no token, so whoever asks must be on this machine. It asks for a blob without a range first, and goes on at
the Location of the answer, for parts of it side by side; one that gets nothing for half a minute it asks for again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from edgecoder.core.effects import ModelRow, ModelStatus
from edgecoder.core.events import PullModel, QueryModels, QueryStatus
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry, names_of, normalise
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.http.jobs import Job, Jobs
from edgecoder_drivers.http.manifests import MANIFEST_TYPE, Manifest
from edgecoder_drivers.http.models import kind_of
from edgecoder_drivers.http.problems import BrokenOff, Rejected, problem_of, reject
from edgecoder_drivers.http.served import ServedNode

CHUNK_BYTES: Final = 1 << 20
FIRST_BYTES_S: Final = 5.0
"""How long an answer waits for the first bytes: a pull that fails at once is refused. Ollama waits for 30 s."""
_RANGE: Final = re.compile(r"bytes=(\d{1,18})-(\d{1,18})?")
_OCTETS: Final = "application/octet-stream"


class RegistryRoutes:
    """The registry of one node: manifests and blobs, to be read."""

    def __init__(self, node: ServedNode, jobs: Jobs) -> None:
        """`jobs` are the node's."""
        self._node = node
        self._jobs = jobs
        self._pulls: dict[str, tuple[Job, asyncio.Task[None]]] = {}
        """Those under way, by SHA-256."""

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/v2/", self.version),
            Route("/v2/{name:path}/manifests/{reference}", self.manifest),
            Route("/v2/{name:path}/blobs/{digest}", self.blob),
        ]

    async def version(self, request: Request) -> Response:
        """Whether there is a registry."""
        _check_is_local(request)
        headers = {"docker-distribution-api-version": "registry/2.0"}
        return Response(b"{}", media_type="application/json", headers=headers)

    async def manifest(self, request: Request) -> Response:
        """What a model is made of. The file need not be here, but it must be known how it could come."""
        _check_is_local(request)
        name, reference = request.path_params["name"], request.path_params["reference"]
        entry = self._entry(name, reference)
        installed = {row.entry.sha256 for row in await self._rows() if row.state == "installed"}
        if self._node.source_of(entry) == "ollama" and entry.sha256 not in installed:
            # Ollama would wait for this node, and this node for Ollama: it fetches a file once at a time
            hint = f"ollama pull {name.removeprefix('library/')}:{reference}"
            raise reject(409, "not_here", "this file comes from Ollama's own registry alone", hint)
        manifest = Manifest(entry)
        headers = {"docker-content-digest": manifest.digest}
        return Response(manifest.content, media_type=MANIFEST_TYPE, headers=headers)

    async def blob(self, request: Request) -> Response:
        """The bytes of a layer."""
        _check_is_local(request)
        name, digest = request.path_params["name"], request.path_params["digest"]
        headers = {"docker-content-digest": digest, "location": request.scope["raw_path"].decode("ascii")}
        for row in await self._rows():
            if normalise(name.removeprefix("library/")) not in _names_without_tags(row.entry):
                continue
            if digest == f"sha256:{row.entry.sha256}":
                return await self._file(request, row, headers)
            layer = Manifest(row.entry).blobs.get(digest)
            if layer is not None:
                return Response(layer, media_type=_OCTETS, headers=headers)
        raise reject(404, "not_found", f"no model {name[:100]} has this layer", "ask for its manifest first")

    # -- names ---------------------------------------------------------------------------------------------------------

    def _entry(self, name: str, tag: str) -> CatalogEntry:
        entry = self._node.find(f"{name.removeprefix('library/')}:{tag}")
        if entry is None:
            raise Rejected(problem_of(Reason.UNKNOWN_MODEL, f"{name}:{tag}"[:200]))
        return entry

    async def _rows(self) -> tuple[ModelRow, ...]:
        _, reply = self._node.begin(QueryModels)
        return kind_of(await reply, tuple)

    # -- the file ------------------------------------------------------------------------------------------------------

    async def _file(self, request: Request, row: ModelRow, headers: dict[str, str]) -> Response:
        entry = row.entry
        if row.state == "installed":
            try:
                return FileResponse(await self._node.export_model(entry), media_type=_OCTETS, headers=headers)
            except Refused as refused:
                raise Rejected(problem_of(refused.reason, str(refused))) from None
        first, end = _range_of(request, entry.file_size_bytes)
        headers |= {"content-length": str(end - first), "accept-ranges": "bytes"}
        status = 200
        if "range" in request.headers:
            status, headers["content-range"] = 206, f"bytes {first}-{end - 1}/{entry.file_size_bytes}"
        if request.method == "HEAD":
            return Response(status_code=status, media_type=_OCTETS, headers=headers)
        job = self._pull(entry)
        await self._first_bytes(entry, job, first)
        return StreamingResponse(self._coming(entry, job, first, end), status, headers, _OCTETS)

    def _pull(self, entry: CatalogEntry) -> Job:
        """The fetch of a file; it goes on when nobody reads any more, as every pull does."""
        running = self._pulls.get(entry.sha256)
        if running is not None:
            return running[0]
        job = self._jobs.begin(PullModel, entry, entry.model_id)

        async def follow() -> None:
            with self._node.fetched_by_ollama(entry):
                async for _ in job.follow():
                    pass

        task = asyncio.get_running_loop().create_task(follow(), name=f"registry {entry.model_id}")
        self._pulls[entry.sha256] = job, task
        task.add_done_callback(lambda _: self._pulls.pop(entry.sha256))
        return job

    async def _first_bytes(self, entry: CatalogEntry, job: Job, first: int) -> None:
        """Wait for them a little. Raises Rejected where there will be none."""
        try:
            async with asyncio.timeout(FIRST_BYTES_S):
                async for _ in job.follow():
                    if await self._end_of_row(entry, job, first) > first:
                        return
        except TimeoutError:
            return
        if job.problem is not None:
            raise Rejected(job.problem)

    async def _coming(self, entry: CatalogEntry, job: Job, at: int, end: int) -> AsyncIterator[bytes]:
        """The bytes of a file from one on and before another, as they come. Raises BrokenOff where they do not."""
        handle = -1
        try:
            async for _ in job.follow():
                ready = min(end, await self._end_of_row(entry, job, at))
                while at < ready:
                    handle = handle if handle >= 0 else await self._open(entry)
                    data = await asyncio.to_thread(os.pread, handle, min(CHUNK_BYTES, ready - at), at)
                    if not data:
                        raise BrokenOff(f"{entry.model_id} is shorter than it should be")
                    yield data
                    at += len(data)
                if at == end:
                    return
        except Rejected as rejected:  # the core takes no question any more
            raise BrokenOff(f"{entry.model_id}: {rejected}") from None
        finally:
            if handle >= 0:
                os.close(handle)
        raise BrokenOff(f"{entry.model_id}: {'it did not come' if job.problem is None else job.problem.title}")

    async def _open(self, entry: CatalogEntry) -> int:
        try:
            return os.open(await self._node.bytes_at(entry), os.O_RDONLY)
        except (OSError, Refused) as error:
            raise BrokenOff(f"{entry.model_id}: {error}") from None

    async def _end_of_row(self, entry: CatalogEntry, job: Job, at: int) -> int:
        """Up to where the file is here and verified, from a byte on; `at` where that byte is not."""
        if job.is_done:
            return entry.file_size_bytes if job.problem is None else at
        _, reply = self._node.begin(QueryStatus)
        status = kind_of(await reply, ModelStatus)
        have = next((row.have for row in status.pulling if row.model == entry.model_id), 0)
        piece, piece_bytes = at // entry.layout.piece_size_bytes, entry.layout.piece_size_bytes
        rest = have >> piece
        pieces = (~rest & (rest + 1)).bit_length() - 1  # in a row, from the one with that byte on
        return min((piece + pieces) * piece_bytes, entry.file_size_bytes) if pieces else at


def _names_without_tags(entry: CatalogEntry) -> set[str]:
    return {name.partition(":")[0] for name in names_of(entry)}


def _check_is_local(request: Request) -> None:
    """Raises Rejected."""
    host = "" if request.client is None else request.client.host
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = False
    if not is_local:
        raise reject(403, "not_local", "the registry is for this machine", "pull from a node of the machine's own")


def _range_of(request: Request, size: int) -> tuple[int, int]:
    """The first byte that is wanted, and the one after the last. Raises Rejected."""
    text = request.headers.get("range")
    if text is None:
        return 0, size
    found = _RANGE.fullmatch(text.strip())
    first = size if found is None else int(found[1])
    end = size if found is None or found[2] is None else min(int(found[2]) + 1, size)
    if not first < end:
        raise reject(416, "invalid", "there is no such range", f"ask for bytes=FIRST-LAST of {size}")
    return first, end
