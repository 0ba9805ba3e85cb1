"""Servers of files that go wrong half way, or never end: what came stays, and no more comes than was asked for."""

from __future__ import annotations

import asyncio

import pytest

from edgecoder_drivers.cdn import download
from tests.drivers.cdn_server import Answer, Request, has, head
from tests.drivers.sources import FILE_BYTES
from tests.drivers.test_cdn import DATA, breaks_off, outcome


def endless(first: bytes) -> Answer:
    """A server that never stops."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while not writer.is_closing():
            writer.write(b"x" * 65_536)
            await writer.drain()

    return answer


@pytest.mark.parametrize(
    ("answer", "first", "comes"),
    [
        (head("206 Partial Content", content_range=f"bytes 0-99/{FILE_BYTES}") + DATA[:100], 0, True),
        (head("206 Partial Content", content_range=f"bytes 0-99/{FILE_BYTES}", content_length=1 << 60) + DATA, 0, True),
        (head("200 OK") + DATA, FILE_BYTES - 100, True),
        (head("200 OK", content_length=1 << 60), 0, False),
        (head("404 Not Found"), 0, False),
        (head("503 Busy", content_length=1 << 60), 0, False),
        (head("302 Found", location="ftp://192.0.2.1/model.gguf"), 0, False),
        (b"HTTP/1.1 206 OK\r\nx: ", 0, False),
        (b"", 0, False),
    ],
)
def test_a_body_without_an_end_takes_no_more_than_was_asked_for(answer: bytes, first: int, comes: bool) -> None:
    came, _ = outcome(endless(answer), first, first + 100)
    assert came == DATA[first : first + 100] if comes else isinstance(came, str)


def wrong_after(size: int, wrong: bytes) -> Answer:
    """A server that gives so many bytes and breaks off, then lies once, then does as it should."""
    parts, whole = breaks_off([size]), has(DATA)
    asked = 0

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            writer.write(wrong)
        else:
            await (parts if asked == 1 else whole)(request, writer)

    return answer


@pytest.mark.parametrize(
    "wrong",
    [
        head("206 Partial Content", content_range=f"bytes 0-{FILE_BYTES - 1}/{FILE_BYTES}") + DATA,
        head("206 Partial Content", content_range=f"bytes 30000-{FILE_BYTES - 1}/{FILE_BYTES}"),
        head("200 OK", content_length=FILE_BYTES) + DATA[:29_999],
        head("200 OK", content_encoding="gzip") + DATA,
        head("500 Oops", content_length=0),
        head("302 Found", content_length=0, location="http://192.0.2.1/model.gguf"),
        head("302 Found", content_length=0, location="file:///etc/passwd"),
        head("302 Found", content_length=0, location="ftp://localhost/model.gguf"),
        head("302 Found", content_length=0),
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"",
    ],
)
def test_after_any_wrong_answer_it_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch, wrong: bytes) -> None:
    monkeypatch.setattr(download, "RETRY_AFTER_BYTES", 1000)
    came, requests = outcome(wrong_after(30_000, wrong))
    assert came == DATA
    assert [request.range for request in requests] == [(first, FILE_BYTES - 1) for first in (0, 30_000, 30_000)]


def test_a_server_that_forgets_ranges_half_way_costs_nothing_that_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole file in answer to a range: what is here already is passed over."""
    monkeypatch.setattr(download, "RETRY_AFTER_BYTES", 1000)
    came, requests = outcome(wrong_after(30_000, head("200 OK", content_length=FILE_BYTES) + DATA))
    assert came == DATA
    assert len(requests) == 2
