"""The official client of Ollama, held to bounds: whoever listens there may send whatever it likes.

What an answer means is left to `client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

import httpx
import msgspec
from ollama import AsyncClient, ResponseError

ANSWER_BYTES_MAX: Final = 8 << 20
LINE_BYTES_MAX: Final = 1 << 20
"""Of an answer that comes line by line, for as long as it lasts."""
_WHOLE: Final = "edgecoder.whole"
_CHUNK_BYTES: Final = 1 << 20


class Row(msgspec.Struct):
    """A model in `/api/tags` or `/api/ps`; each says some of it."""

    model: str | None = None
    digest: str | None = None
    size: int | None = None
    remote_host: str | None = None
    remote_model: str | None = None
    context_length: int | None = None
    expires_at: datetime | None = None


class _Rows(msgspec.Struct):
    models: list[Row]


class Requests(AsyncClient):
    """The official client, and what it does not offer."""

    def __init__(self, address: str, timeout: httpx.Timeout) -> None:
        # No proxies from the environment: httpx would send what is for this machine there too. No connections kept: one
        # that a restart of the server broke would fail the next request, which may be a swap.
        limits = httpx.Limits(max_keepalive_connections=0)
        transport = _Bounded(httpx.AsyncHTTPTransport(limits=limits, trust_env=False))
        headers = {"Accept-Encoding": "identity"}
        super().__init__(
            address, timeout=timeout, trust_env=False, transport=transport, headers=headers, follow_redirects=False
        )

    async def _request_raw(self, *args: Any, **kwargs: Any) -> httpx.Response:
        extensions = {_WHOLE: True}
        answer = await super()._request_raw(*args, extensions=extensions, **kwargs)  # type: ignore[no-untyped-call]
        return cast("httpx.Response", answer)

    async def rows(self, path: str) -> list[Row]:
        """What a list of models says."""
        return msgspec.json.decode((await self._request_raw("GET", path)).content, type=_Rows).models

    async def version(self) -> str:
        """What it calls itself."""
        return msgspec.convert((await self._request_raw("GET", "/api/version")).json()["version"], str)

    async def has_blob(self, sha256: str) -> bool:
        """Whether it has a file."""
        try:
            await self._request_raw("HEAD", f"/api/blobs/sha256:{sha256}")
        except ResponseError as error:
            if error.status_code == httpx.codes.NOT_FOUND:
                return False
            raise
        return True

    async def send_blob(self, sha256: str, path: Path) -> None:
        """Send it a file, which it hashes."""
        size = await asyncio.to_thread(lambda: path.stat().st_size)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        await self._request_raw("POST", f"/api/blobs/sha256:{sha256}", content=_chunks(path), headers=headers)


class _Bounded(httpx.AsyncBaseTransport):
    """Answers that are no longer than that."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        is_whole = _WHOLE in request.extensions or answer.is_error
        is_packed = answer.headers.get("content-encoding", "identity") != "identity"
        answer.stream = _Stream(cast("httpx.AsyncByteStream", answer.stream), is_whole=is_whole, is_packed=is_packed)
        return answer

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Stream(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, *, is_whole: bool, is_packed: bool) -> None:
        self._inner = inner
        self._is_whole = is_whole
        self._is_packed = is_packed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises ValueError where it becomes too long, or could when it is unpacked."""
        if self._is_packed:
            raise ValueError("it is packed, though that was not asked for")
        length, most = 0, ANSWER_BYTES_MAX if self._is_whole else LINE_BYTES_MAX
        async for chunk in self._inner:
            end = -1 if self._is_whole else chunk.rfind(b"\n")
            length = length + len(chunk) if end < 0 else len(chunk) - end - 1
            if length > most:
                raise ValueError(f"it has more than {most >> 20} MB")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    """The bytes of a file, read beside the loop."""
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk
