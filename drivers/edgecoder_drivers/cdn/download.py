"""Bytes of model files over HTTPS, by ranges, from the addresses in the catalog, in their order.

Nothing a server says is believed but what can be checked: where a range begins, and the size of the whole. What breaks
off goes on at the next address, and at the first one again, as long as bytes come. Whether they are the file's is not
told here; the store hashes them. Plain HTTP is for this machine only.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import httpx2
import msgspec
import structlog

from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.seeding.merkle import HASH_BYTES
from edgecoder_drivers.driver import Refused

LEAVES = ".leaves"
"""What the address of a file's leaf hashes has more than the file's."""
REDIRECTS_MAX = 5
RETRY_AFTER_BYTES = 1 << 20
"""An address that gave so much before it broke off has not failed."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_REDIRECTS = {301, 302, 303, 307, 308}
_log = structlog.get_logger("edgecoder.cdn")


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a server may take."""

    connect_s: float = 10.0
    answer_s: float = 30.0
    """From the request to the end of the headers."""
    silence_s: float = 20.0
    """Between bytes."""
    slow_s: float = 30.0
    """Time in which at least `slow_bytes` have to come;"""
    slow_bytes: int = 65_536
    """less is a server that keeps a download from going elsewhere."""
    pause_s: float = 1.0
    """Before all addresses are tried again,"""
    rounds: int = 3
    """this often without any that gave something."""


class _FailedError(Exception):
    """An address did not give what was asked for."""


class Cdn:
    """A source of files (see the store). Closed by `close`."""

    def __init__(self, patience: Patience | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        """`tls` has the certificates that are trusted; None: those of the system's authorities."""
        self._patience = patience or Patience()
        timeout = httpx2.Timeout(self._patience.silence_s, connect=self._patience.connect_s)
        trusted = tls or httpx2.create_ssl_context()
        direct = httpx2.AsyncHTTPTransport(verify=trusted)  # no proxy of the environment's is asked for this machine
        self._client = httpx2.AsyncClient(
            verify=trusted,
            timeout=timeout,
            headers={"accept-encoding": "identity"},
            mounts={f"all://{name}": direct for name in ("localhost", "127.0.0.1", "[::1]")},
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def read(self, entry: CatalogEntry, first_byte: int, end_byte: int) -> AsyncGenerator[bytes, None]:
        """The bytes of a file from one on and before another, exactly. Raises Refused (no_source)."""
        async with aclosing(self._read(entry.download_urls, first_byte, end_byte, entry.file_size_bytes)) as coming:
            async for data in coming:
                yield data

    async def leaf_hashes(self, entry: CatalogEntry) -> bytes:
        """The SHA-256 of each leaf of a file. Raises Refused as `read`."""
        urls = [_beside(url) for url in entry.download_urls]
        size = entry.layout.leaf_count * HASH_BYTES
        async with aclosing(self._read(urls, 0, size, size)) as coming:
            return b"".join([data async for data in coming])

    async def _read(self, urls: Sequence[str], at: int, end: int, size: int) -> AsyncGenerator[bytes, None]:
        """From whoever gives something, until all is there."""
        tags: dict[str, str] = {}
        rounds, why = 0, "the catalog has no address for it"
        while urls and rounds < self._patience.rounds:
            has_given = False
            for url in urls:
                began = at
                try:
                    async with aclosing(self._read_from(url, at, end, size, tags)) as coming:
                        async for data in coming:
                            at += len(data)
                            yield data
                except (_FailedError, httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError) as error:
                    told = str(error) or type(error).__name__
                    why = f"{url}: {told}"
                    _log.info("address failed", url=url, at=at, why=told)
                if at == end:
                    return
                has_given |= at - began >= RETRY_AFTER_BYTES
            rounds = 0 if has_given else rounds + 1
            await asyncio.sleep(self._patience.pause_s)
        raise Refused(Reason.NO_SOURCE, why)

    async def _read_from(
        self, url: str, at: int, end: int, size: int, tags: dict[str, str]
    ) -> AsyncGenerator[bytes, None]:
        """What one address gives of a range, from its beginning on. Raises _FailedError, and errors of the client."""
        headers = {"range": f"bytes={at}-{end - 1}"}
        if url in tags:
            headers["if-range"] = tags[url]
        response = await self._get(url, headers)
        try:
            skip = _bytes_before(response, at, size)
            tag = response.headers.get("etag", "")
            if tag.startswith('"'):  # a weak one does not tell of bytes
                tags[url] = tag
            async with aclosing(self._body(response)) as coming:
                async for data in coming:
                    part = data[skip:][: end - at]
                    skip -= min(skip, len(data))
                    at += len(part)
                    if part:
                        yield part
                    if at == end:
                        return
        finally:
            await response.aclose()
        raise _FailedError(f"it ended {end - at} bytes early")

    async def _get(self, url: str, headers: dict[str, str]) -> httpx2.Response:
        """The answer to a request, after redirects; its body is to come."""
        target = httpx2.URL(url)
        async with asyncio.timeout(self._patience.answer_s):
            for _ in range(REDIRECTS_MAX + 1):
                _check(target)
                response = await self._client.send(
                    self._client.build_request("GET", target, headers=headers), stream=True
                )
                if response.status_code not in _REDIRECTS:
                    return response
                await response.aclose()
                before, target = target, target.join(response.headers.get("location", ""))
                if before.scheme == "https" != target.scheme:
                    raise _FailedError(f"it leads from HTTPS to {target}")
        raise _FailedError(f"it leads on more than {REDIRECTS_MAX} times")

    async def _body(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        """The bytes of a body, unless they drip. Only waiting for the server counts, not for the disk."""
        patience, time = self._patience, asyncio.get_running_loop().time
        waited_s, came = 0.0, 0
        async with aclosing(response.aiter_raw()) as coming:
            while True:
                asked_s = time()
                try:
                    async with asyncio.timeout(patience.slow_s):
                        data = await anext(coming)
                except StopAsyncIteration:
                    return
                waited_s, came = waited_s + time() - asked_s, came + len(data)
                yield data
                if waited_s >= patience.slow_s:
                    if came < patience.slow_bytes:
                        raise _FailedError(f"only {came} bytes in {waited_s:.0f} s")
                    waited_s, came = 0.0, 0


def _check(url: httpx2.URL) -> None:
    """Raises _FailedError unless nobody between can change what comes, or read what is asked for."""
    if url.scheme == "https" or (url.scheme == "http" and _is_this_machine(url.host)):
        return
    raise _FailedError(f"{url.scheme or 'no scheme'} is not HTTPS")


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bytes_before(response: httpx2.Response, at: int, size: int) -> int:
    """How many bytes of the body come before the one that was asked for. Raises _FailedError where it is another file,
    or none."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _FailedError("the bytes are encoded")
    if response.status_code == 200:
        length = response.headers.get("content-length", str(size))
        if length != str(size):
            raise _FailedError(f"the file there has {length} bytes, not {size}")
        return at
    if response.status_code != 206:
        raise _FailedError(f"status {response.status_code}")
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if found is None or int(found[1]) != at:
        raise _FailedError("it sent another range than was asked for")
    if found[3] not in {"*", str(size)}:
        raise _FailedError(f"the file there has {found[3]} bytes, not {size}")
    return 0


def _beside(url: str) -> str:
    """The address of a file's leaf hashes."""
    try:
        parsed = httpx2.URL(url)
        return str(parsed.copy_with(path=parsed.path + LEAVES))
    except httpx2.InvalidURL:
        return url
