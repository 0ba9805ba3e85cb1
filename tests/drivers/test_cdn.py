"""Files over HTTP: what comes is what was asked for, from somebody, or a reason."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from edgecoder.core.effects import PullResult
from edgecoder.core.events import PullModel
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder_drivers.cdn import download
from edgecoder_drivers.cdn.download import Cdn, Patience
from edgecoder_drivers.driver import Refused
from tests.drivers.cdn_server import Answer, Request, Server, has, head, says, serving
from tests.drivers.disks import MemoryDisk
from tests.drivers.rig import as_kind
from tests.drivers.sources import FILE_BYTES, bytes_of, made, storing

ENTRY = made("whole")
DATA = bytes_of("whole")
HASTY = Patience(pause_s=0.0, silence_s=0.2, answer_s=0.2, connect_s=5.0, slow_s=0.2, slow_bytes=10_000, rounds=2)


def at(*urls: str, entry: CatalogEntry = ENTRY) -> CatalogEntry:
    return msgspec.structs.replace(entry, download_urls=urls)


async def get(
    entry: CatalogEntry, first: int = 0, end: int = FILE_BYTES, *, tls: ssl.SSLContext | None = None
) -> bytes:
    """What a CDN gives. Raises Refused."""
    cdn, came = Cdn(HASTY, tls=tls), bytearray()
    try:
        async with asyncio.timeout(30), aclosing(cdn.read(entry, first, end)) as coming:
            async for data in coming:
                came += data
    finally:
        await cdn.close()
    return bytes(came)


def outcome(answer: Answer, first: int = 0, end: int = FILE_BYTES) -> tuple[bytes | str, list[Request]]:
    """What comes from a server, or why nothing does; and what it was asked."""

    async def ask() -> tuple[bytes | str, list[Request]]:
        async with serving(answer) as server:
            try:
                return await get(at(server.url()), first, end), server.requests
            except Refused as refused:
                return f"{refused.reason.value}: {refused}", server.requests

    return asyncio.run(ask())


@pytest.mark.parametrize(("first", "end"), [(0, FILE_BYTES), (5, 6), (70_000, FILE_BYTES), (0, 1)])
def test_a_range_comes(first: int, end: int) -> None:
    came, requests = outcome(has(DATA), first, end)
    assert came == DATA[first:end]
    assert [request.range for request in requests] == [(first, end - 1)]


def test_a_server_without_ranges_is_read_from_the_beginning() -> None:
    came, _ = outcome(says(head("200 OK", content_length=FILE_BYTES) + DATA), 70_000, 70_100)
    assert came == DATA[70_000:70_100]


def test_a_body_that_is_too_long_ends_where_the_range_does() -> None:
    answer = says(head("206 Partial Content", content_range=f"bytes 0-99/{FILE_BYTES}") + DATA)
    assert outcome(answer, 0, 100)[0] == DATA[:100]


def breaks_off(sizes: list[int], tag: str = '"1"') -> Answer:
    """A server that gives so many bytes a request, however many it announced."""
    whole = has(DATA, tag)

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if not sizes:
            await whole(request, writer)
            return
        assert request.range is not None
        first, last = request.range
        where = f"bytes {first}-{last}/{FILE_BYTES}"
        writer.write(head("206 Partial Content", content_range=where, content_length=last - first + 1, etag=tag))
        writer.write(DATA[first : first + sizes.pop(0)])

    return answer


def test_what_broke_off_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "RETRY_AFTER_BYTES", 1000)
    came, requests = outcome(breaks_off([30_000, 2_000, 2_000, 2_000]))
    assert came == DATA
    firsts = [request.range[0] for request in requests if request.range is not None]
    assert firsts == [0, 30_000, 32_000, 34_000, 36_000]


def test_another_tag_does_not_cost_what_came() -> None:
    """Mirrors behind one name have tags of their own; whether it is the file is told by its hash."""
    came, requests = outcome(breaks_off([30_000], tag='"2"'))
    assert came == DATA
    assert [request.range and request.range[0] for request in requests] == [0, 30_000]


def test_it_does_not_go_on_for_ever() -> None:
    came, requests = outcome(breaks_off([10] * 100))
    assert str(came).startswith("no_source")
    assert len(requests) == HASTY.rounds


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (head("404 Not Found", content_length=0), "status 404"),
        (head("500 Oops", content_length=0), "status 500"),
        (head("416 Range Not Satisfiable", content_length=0), "status 416"),
        (head("204 No Content"), "status 204"),
        (head("200 OK", content_length=FILE_BYTES + 1) + DATA + b"x", f"{FILE_BYTES + 1} bytes, not {FILE_BYTES}"),
        (head("200 OK", content_length=10) + DATA[:10], f"10 bytes, not {FILE_BYTES}"),
        (head("200 OK", content_length=FILE_BYTES, content_encoding="gzip") + DATA, "encoded"),
        (head("200 OK") + DATA[:-1], "1 bytes early"),
        (head("206 Partial Content", content_range=f"bytes 0-9/{FILE_BYTES + 1}") + DATA[:10], "bytes, not"),
        (head("206 Partial Content", content_range=f"bytes 1-9/{FILE_BYTES}") + DATA[1:10], "another range"),
        (head("206 Partial Content", content_range="bytes */5") + DATA, "another range"),
        (head("206 Partial Content") + DATA, "another range"),
        (head("206 Partial Content", content_range=f"bytes 0-9/{FILE_BYTES}") + DATA[:10], "another range"),
        (head("302 Found", content_length=0, location="http://192.0.2.1/model.gguf"), "http is not HTTPS"),
        (head("302 Found", content_length=0, location="file:///etc/passwd"), "file is not HTTPS"),
        (head("302 Found", content_length=0, location="/model.gguf"), "leads on more than 5 times"),
        (head("302 Found", content_length=0), "leads on more than 5 times"),
        (head("302 Found", content_length=0, location="http://[bad"), "http is not HTTPS"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ""),
        (b"", ""),
    ],
)
def test_what_is_no_answer_to_it_is_refused(answer: bytes, why: str) -> None:
    came, requests = outcome(says(answer))
    assert isinstance(came, str)
    assert why in came
    assert requests


async def _drips_bytes(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(head("200 OK", content_length=FILE_BYTES))
    for byte in DATA:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0.01)


async def _drips_chunk_sizes(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(head("200 OK", transfer_encoding="chunked") + b"1;")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def _drips_headers(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def _is_silent(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(head("200 OK", content_length=FILE_BYTES) + DATA[:100])
    await writer.drain()
    await asyncio.sleep(60)


@pytest.mark.parametrize("answer", [_drips_bytes, _drips_chunk_sizes, _drips_headers, _is_silent])
def test_who_is_too_slow_is_left_for_another(answer: Answer) -> None:
    async def ask() -> None:
        async with serving(answer) as slow, serving(has(DATA)) as quick:
            assert await get(at(slow.url(), quick.url())) == DATA
            assert len(slow.requests) == len(quick.requests) == 1

    asyncio.run(ask())


def test_addresses_are_tried_in_their_order() -> None:
    async def ask() -> None:
        async with serving(has(DATA)) as first, serving(has(DATA)) as second:
            gone = Server(has(DATA))
            gone.port = 1  # where nobody listens
            urls = "http://192.0.2.1/x", "ftp://localhost/x", "no address", gone.url(), first.url(), second.url()
            assert await get(at(*urls)) == DATA
            assert (len(first.requests), len(second.requests)) == (1, 0)

    asyncio.run(ask())


class Naps:
    """Time that passes at once."""

    def __init__(self) -> None:
        self.told: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.told.append(seconds)


async def read_over(naps: Naps, answer: Answer, first: int, *, is_patient: bool) -> bytes:
    """What comes of a file from a byte on, with real patience."""
    cdn = Cdn(sleep=naps)
    try:
        async with serving(answer) as server:
            coming = cdn.read(at(server.url()), first, FILE_BYTES, is_patient=is_patient)
            return b"".join([data async for data in coming])
    finally:
        await cdn.close()


def fails_times(count: int, answer: bytes) -> Answer:
    """A server that gives an answer so often, and then the file."""
    left = [answer] * count

    async def answers(request: Request, writer: asyncio.StreamWriter) -> None:
        if left:
            writer.write(left.pop())
        else:
            await has(DATA)(request, writer)

    return answers


def test_an_outage_of_two_minutes_ends_no_download() -> None:
    naps = Naps()
    assert asyncio.run(read_over(naps, fails_times(8, b""), 50_000, is_patient=True)) == DATA[50_000:]
    assert naps.told == [1, 2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize(("first", "is_patient"), [(0, True), (50_000, False)])
def test_who_has_nothing_yet_or_others_to_ask_is_told_soon(first: int, is_patient: bool) -> None:
    naps = Naps()
    with pytest.raises(Refused, match="disconnected"):
        asyncio.run(read_over(naps, fails_times(8, b""), first, is_patient=is_patient))
    assert naps.told == [1, 2]


def test_it_is_not_patient_for_ever() -> None:
    naps = Naps()
    with pytest.raises(Refused):
        asyncio.run(read_over(naps, fails_times(100, b""), 50_000, is_patient=True))
    assert sum(naps.told) == 121


@pytest.mark.parametrize(
    ("told", "waits"),
    [("5", [5]), ("0", [1]), ("99999", [60]), ("Wed, 01 Jan 2120 00:00:00 GMT", [60]), ("soon", [1]), ("-3", [1])],
)
def test_an_address_that_asks_for_time_gets_some(told: str, waits: list[float]) -> None:
    naps = Naps()
    busy = head("503 Service Unavailable", retry_after=told, content_length=0)
    assert asyncio.run(read_over(naps, fails_times(1, busy), 0, is_patient=False)) == DATA
    assert naps.told == waits


@pytest.mark.parametrize(
    "answer",
    [
        head("404 Not Found", content_length=0),
        head("410 Gone", content_length=0),
        head("200 OK", content_length=10) + DATA[:10],
        head("206 Partial Content", content_range="bytes 50000-50009/50010") + DATA[:10],
    ],
)
def test_who_does_not_have_the_file_is_not_asked_again(answer: bytes) -> None:
    naps = Naps()
    with pytest.raises(Refused):
        asyncio.run(read_over(naps, says(answer), 50_000, is_patient=True))
    assert naps.told == []


def leaves_of(*answers: bytes) -> Reason | bytes:
    """What comes of leaf hashes from addresses with these answers, or why nothing does."""

    async def ask() -> Reason | bytes:
        cdn = Cdn(HASTY)
        try:
            async with AsyncExitStack() as stack:
                servers = [await stack.enter_async_context(serving(says(answer))) for answer in answers]
                entry = at(*(server.url() for server in servers), entry=made("whole", tree=True))
                return await cdn.leaf_hashes(entry)
        except Refused as refused:
            return refused.reason
        finally:
            await cdn.close()

    return asyncio.run(ask())


def test_leaf_hashes_that_no_address_has_are_no_outage() -> None:
    none, down = head("404 Not Found", content_length=0), head("503 Service Unavailable", content_length=0)
    page = head("200 OK", content_length=4) + b"page"
    there = b"".join(leaf_hashes(DATA))
    assert leaves_of(none) is leaves_of(none, page) is Reason.NO_PROOFS
    assert leaves_of(down) is leaves_of(none, down) is leaves_of(down, none) is leaves_of() is Reason.NO_SOURCE
    assert leaves_of(none, head("200 OK", content_length=len(there)) + there) == there


@pytest.mark.parametrize(
    "url", ["https://a..b/x", "https://[::1/x", "https://a:99999/x", "https://\udcff/x", "https:///x", "https://xn--/x"]
)
def test_an_address_that_is_none_is_passed_over(url: str) -> None:
    async def ask() -> None:
        async with serving(has(DATA)) as server:
            assert await get(at(url, server.url())) == DATA

    asyncio.run(ask())


@pytest.mark.parametrize(
    "answer",
    [
        head("206 Partial Content", content_range=f"bytes {'9' * 5000}-9/{FILE_BYTES}") + DATA,
        head("302 Found", content_length=0, location="https://a..b/"),
        head("302 Found", content_length=0, location="http://localhost:99999/"),
        head("302 Found", content_length=0, location="//\xff\xfe"),
    ],
)
def test_an_answer_that_is_none_is_passed_over(answer: bytes) -> None:
    async def ask() -> None:
        async with serving(says(answer)) as bad, serving(has(DATA)) as good:
            assert await get(at(bad.url(), good.url())) == DATA

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5h://127.0.0.1:1080"),
        ("HTTPS_PROXY", "ftp://proxy.example"),
        ("SSL_CERT_FILE", "/nowhere/certificates.pem"),
    ],
)
def test_an_environment_that_is_wrong_is_said_when_it_matters(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Refused, match="_PROXY and SSL_CERT_FILE"):
        asyncio.run(get(at("https://localhost:1/file")))


def test_certificates_matter_to_nobody_who_reads_from_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    assert outcome(has(DATA))[0] == DATA


def test_what_is_secret_in_an_address_is_not_shown() -> None:
    with pytest.raises(Refused) as refused:
        asyncio.run(get(at("http://somebody:secret@192.0.2.1/model.gguf?signature=secret")))
    assert "http://192.0.2.1/model.gguf: http is not HTTPS" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_no_proxy_is_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://localhost:1")
    assert outcome(has(DATA))[0] == DATA


def test_a_file_without_addresses_has_no_source() -> None:
    with pytest.raises(Refused, match="no address"):
        asyncio.run(get(at()))


def test_redirects_are_followed() -> None:
    async def ask() -> None:
        async with serving(has(DATA)) as there:
            async with serving(
                says(head("307 Temporary Redirect", content_length=0, location=there.url("/f")))
            ) as here:
                assert await get(at(here.url()), 10, 20) == DATA[10:20]
            assert [(request.path, request.range) for request in there.requests] == [("/f", (10, 19))]

    asyncio.run(ask())


# -- TLS ---------------------------------------------------------------------------------------------------------------


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_that_is_trusted(certificate: Path) -> None:
    async def ask() -> None:
        async with serving(has(DATA), server_tls(certificate)) as server:
            trusting = ssl.create_default_context(cafile=str(certificate))
            assert await get(at(server.url()), tls=trusting) == DATA

    asyncio.run(ask())


def test_one_that_is_not(certificate: Path) -> None:
    async def ask() -> None:
        async with serving(has(DATA), server_tls(certificate)) as server:
            with pytest.raises(Refused, match="CERTIFICATE_VERIFY_FAILED"):
                await get(at(server.url()))
            assert server.requests == []

    asyncio.run(ask())


def test_https_does_not_lead_to_http(certificate: Path) -> None:
    async def ask() -> None:
        async with serving(has(DATA)) as plain:
            answer = says(head("302 Found", content_length=0, location=plain.url()))
            async with serving(answer, server_tls(certificate)) as server:
                trusting = ssl.create_default_context(cafile=str(certificate))
                with pytest.raises(Refused, match="from HTTPS to http"):
                    await get(at(server.url()), tls=trusting)
            assert plain.requests == []

    asyncio.run(ask())


# -- with a store ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def origin(entry: CatalogEntry, *, has_leaves: bool) -> AsyncIterator[CatalogEntry]:
    """A server with a file, and its leaf hashes where it has them; its entry."""
    data = bytes_of(entry.model_id)
    files = {"/model.gguf": has(data)}
    if has_leaves:
        files["/model.gguf.leaves"] = has(b"".join(leaf_hashes(data)))

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await files.get(request.path, says(head("404 Not Found", content_length=0)))(request, writer)

    async with serving(answer) as server:
        yield at(server.url(), entry=entry)


@pytest.mark.parametrize(("tree", "has_leaves"), [(False, False), (True, True), (True, False)])
def test_a_model_is_pulled(tree: bool, has_leaves: bool) -> None:
    async def live() -> None:
        async with origin(made("whole", tree=tree, piece_size_bytes=16_384), has_leaves=has_leaves) as entry:
            disk, cdn = MemoryDisk(), Cdn(HASTY)
            async with storing(disk, Catalog((entry,)), cdn) as (host, driver), asyncio.timeout(30):
                result = as_kind(await host.ask(PullModel, model="whole"), PullResult)
                path = driver.path(entry)
            await cdn.close()
        assert result.reason is None
        assert path is not None
        assert disk.tree()[path.as_posix()] == DATA

    asyncio.run(live())
