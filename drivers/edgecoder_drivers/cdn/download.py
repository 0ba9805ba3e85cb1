"""Bytes of model files over HTTPS, by ranges, from the addresses in the catalog, in their order.

Nothing a server says is believed but what can be checked: where a range begins, and the size of the whole. What breaks
off goes on at the next address, and at the first one again, as long as bytes come, and through an outage. Whether they
are the file's is not told here: the store hashes them, so tags are of no use. Plain HTTP is for this machine only.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import httpx2
import msgspec
import structlog

from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.seeding.merkle import HASH_BYTES
from edgecoder_drivers.addresses import Logins, beside, is_safe, shown
from edgecoder_drivers.driver import Refused

PORT_MAX = 65_535
REDIRECTS_MAX = 5
RETRY_AFTER_BYTES = 1 << 20
"""An address that gave so much before it broke off has not failed."""
WAIT_S_MAX = 60.0
"""Longest that an address may ask to be left alone."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_HEADERS = {"accept-encoding": "identity"}
_REDIRECTS = {301, 302, 303, 307, 308}
_HAS_NONE = {404, 410, 416}
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
    """Before all addresses are tried again, twice as long each time"""
    pause_s_max: float = 30.0
    """up to this,"""
    rounds: int = 3
    """this often without any that gave something,"""
    outage_s: float = 120.0
    """and for so long where some of a whole file is here: networks come back."""


class _FailedError(Exception):
    """An address did not give what was asked for, and may do so later."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s
        """It asks to be left alone for so long."""


class _HasNoneError(_FailedError):
    """An address does not have the file."""


_ERRORS = (_FailedError, httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError, ValueError)
"""What an address or an answer can be wrong with."""


class _Pauses:
    """Between the rounds of one download."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._rounds = 0
        self._next_s = patience.pause_s
        self._waited_s = 0.0

    def after(self, *, has_given: bool, is_patient: bool, wait_s: float) -> float | None:
        """How long to wait after a round, in seconds; None: no longer."""
        patience = self._patience
        if has_given:
            self._rounds, self._next_s, self._waited_s = 0, patience.pause_s, 0.0
        else:
            self._rounds += 1
        if self._rounds >= patience.rounds and not (is_patient and self._waited_s < patience.outage_s):
            return None
        pause_s = max(self._next_s, min(wait_s, WAIT_S_MAX))
        self._next_s = min(2 * self._next_s, patience.pause_s_max)
        self._waited_s += pause_s
        return pause_s


class Answer(NamedTuple):
    """What was said to a question for a small file."""

    status: int
    tag: str
    """ETag; empty where there is none."""
    content: bytes
    content_range: str = ""


class Cdn:
    """A source of files (see the store). Closed by `close`."""

    def __init__(
        self,
        patience: Patience | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        logins: Logins | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`tls` has the certificates that are trusted; None: those of the system's authorities. `logins` are for
        servers whose addresses have none."""
        self._patience = patience or Patience()
        self._tls = tls
        self._logins = logins or Logins()
        self._sleep = sleep
        self._made: dict[str, httpx2.AsyncClient] = {}
        """By scheme."""

    async def close(self) -> None:
        """Close all connections."""
        for client in self._made.values():
            await client.aclose()

    async def read(
        self, entry: CatalogEntry, first_byte: int, end_byte: int, *, is_patient: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a file from one on and before another, exactly. Raises Refused (no_source)."""
        try:
            coming = self._read(entry.download_urls, first_byte, end_byte, entry.file_size_bytes, is_patient=is_patient)
            async with aclosing(coming):
                async for data in coming:
                    yield data
        except _FailedError as error:
            raise Refused(Reason.NO_SOURCE, str(error)) from None

    async def leaf_hashes(self, entry: CatalogEntry) -> bytes:
        """The SHA-256 of each leaf of a file. Raises Refused: no_source, and no_proofs where no address has them."""
        size = entry.layout.leaf_count * HASH_BYTES
        urls = [beside(url) for url in entry.download_urls]
        try:
            async with aclosing(self._read(urls, 0, size, size)) as coming:
                return b"".join([data async for data in coming])
        except _HasNoneError as error:
            raise Refused(Reason.NO_PROOFS, str(error)) from None
        except _FailedError as error:
            raise Refused(Reason.NO_SOURCE, str(error)) from None

    async def ask(self, url: str, headers: dict[str, str], bytes_max: int) -> Answer:
        """A small file, whole, within `answer_s`. Raises Refused (no_source)."""
        try:
            async with asyncio.timeout(self._patience.answer_s):
                response = await self._get(url, headers)
                try:
                    content, said = await _whole(response, bytes_max), response.headers
                    told = (said.get("etag", ""), content, said.get("content-range", ""))
                    return Answer(response.status_code, *told)
                finally:
                    await response.aclose()
        except _ERRORS as error:
            raise Refused(Reason.NO_SOURCE, f"{shown(url)}: {str(error) or type(error).__name__}") from None

    async def _read(
        self, urls: Sequence[str], at: int, end: int, size: int, *, is_patient: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """From whoever gives something, until all is there; an address that has no such file is not asked again. Raises
        _HasNoneError where none of them has it, else _FailedError."""
        pauses, left = _Pauses(self._patience), list(urls)
        why = "the catalog has no address for it"
        while left:
            has_given, wait_s = False, 0.0
            for url in tuple(left):
                began = at
                try:
                    async with aclosing(self._read_from(url, at, end, size)) as coming:
                        async for data in coming:
                            at += len(data)
                            yield data
                except _ERRORS as error:
                    why = f"{shown(url)}: {str(error) or type(error).__name__}"
                    _log.info("address failed", at=at, why=why)
                    if isinstance(error, _HasNoneError):
                        left.remove(url)
                    elif isinstance(error, _FailedError):
                        wait_s = max(wait_s, error.wait_s)
                if at == end:
                    return
                has_given |= at - began >= RETRY_AFTER_BYTES
            pause_s = pauses.after(has_given=has_given, is_patient=is_patient and at > 0, wait_s=wait_s)
            if pause_s is None:
                break
            if left:
                await self._sleep(pause_s)
        raise _HasNoneError(why) if urls and not left else _FailedError(why)

    async def _read_from(self, url: str, at: int, end: int, size: int) -> AsyncGenerator[bytes, None]:
        """What one address gives of a range, from its beginning on. Raises _FailedError, and errors of the client."""
        response = await self._get(url, {"range": f"bytes={at}-{end - 1}"})
        try:
            skip = _bytes_before(response, at, size)
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
        target = httpx2.URL(self._logins.asking(url))
        self._client(target.scheme)  # what reading certificates takes is not the server's time
        async with asyncio.timeout(self._patience.answer_s):
            for _ in range(REDIRECTS_MAX + 1):
                if not is_safe(target.scheme, target.host):
                    raise _FailedError(f"{target.scheme or 'no scheme'} is not HTTPS")
                if (target.port or 0) > PORT_MAX:
                    raise _FailedError(f"it leads to port {target.port}")
                client = self._client(target.scheme)
                response = await client.send(client.build_request("GET", target, headers=headers), stream=True)
                if response.status_code not in _REDIRECTS:
                    return response
                await response.aclose()
                before, target = target, target.join(response.headers.get("location", ""))
                if before.scheme == "https" != target.scheme:
                    raise _FailedError(f"it leads from HTTPS to {shown(str(target))}")
        raise _FailedError(f"it leads on more than {REDIRECTS_MAX} times")

    def _client(self, scheme: str) -> httpx2.AsyncClient:
        """Made when it is needed: proxies and certificates are named by the environment, which may be wrong, and nobody
        waits for certificates that reads from this machine. Raises _FailedError."""
        made = self._made.get(scheme)
        if made is None:
            try:
                made = self._made[scheme] = self._over_tls() if scheme == "https" else self._plain()
            except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
                hint = "see the variables *_PROXY and SSL_CERT_FILE of the environment"
                _log.warning("no download is possible", detail=str(error), hint=hint)
                raise _FailedError(f"{error}; {hint}") from None
        return made

    def _over_tls(self) -> httpx2.AsyncClient:
        trusted = self._tls or httpx2.create_ssl_context()
        direct = httpx2.AsyncHTTPTransport(verify=trusted)  # no proxy is asked for this machine
        return httpx2.AsyncClient(
            verify=trusted,
            timeout=self._timeout,
            headers=_HEADERS,
            mounts={f"all://{name}": direct for name in ("localhost", "127.0.0.1", "[::1]")},
        )

    def _plain(self) -> httpx2.AsyncClient:
        """For this machine alone, so there is nobody to trust and no proxy to ask."""
        return httpx2.AsyncClient(verify=False, trust_env=False, timeout=self._timeout, headers=_HEADERS)

    @property
    def _timeout(self) -> httpx2.Timeout:
        return httpx2.Timeout(self._patience.silence_s, connect=self._patience.connect_s)

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


async def _whole(response: httpx2.Response, bytes_max: int) -> bytes:
    """A body of at most so many bytes. Raises _FailedError."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _FailedError("the bytes are encoded")
    content = bytearray()
    async with aclosing(response.aiter_raw()) as coming:
        async for data in coming:
            content += data
            if len(content) > bytes_max:
                raise _FailedError(f"it has more than {bytes_max} bytes")
    return bytes(content)


def _bytes_before(response: httpx2.Response, at: int, size: int) -> int:
    """How many bytes of the body come before the one that was asked for. Raises _FailedError where it is another file,
    or none."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _FailedError("the bytes are encoded")
    if response.status_code == 200:
        length = response.headers.get("content-length", str(size))
        if length != str(size):
            raise _HasNoneError(f"the file there has {length} bytes, not {size}")
        return at
    if response.status_code in _HAS_NONE:
        raise _HasNoneError(f"status {response.status_code}")
    if response.status_code != 206:
        raise _FailedError(f"status {response.status_code}", _wait_s(response))
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if found is None or int(found[1]) != at:
        raise _FailedError("it sent another range than was asked for")
    if found[3] not in {"*", str(size)}:
        raise _HasNoneError(f"the file there has {found[3]} bytes, not {size}")
    return 0


def _wait_s(response: httpx2.Response) -> float:
    """How long an address asks to be left alone: seconds, or a date."""
    told = response.headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}", told):
        return float(told)
    try:
        return (parsedate_to_datetime(told) - dt.datetime.now(dt.UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
