"""Requests that are not from here, not for here, too large or no JSON: all are refused, none reaches the node."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edgecoder_drivers.http.guard import BODY_BYTES_MAX
from tests.drivers.control import Control, controlled

SWAP = b'{"model": "small"}'
JSON = "Content-Type: application/json"
HOST = "Host: 127.0.0.1:{port}"
HOSTS = {
    "none": [],
    "empty": ["Host:"],
    "blank": ["Host:  "],
    "another": ["Host: evil.example"],
    "another, our port": ["Host: evil.example:{port}"],
    "like ours": ["Host: localhost.evil.example:{port}"],
    "ours as a prefix": ["Host: 127.0.0.1.evil.example"],
    "another way to write it": ["Host: 2130706433:{port}"],
    "a user before it": ["Host: evil.example@127.0.0.1:{port}"],
    "no port behind the colon": ["Host: 127.0.0.1:{port}:80"],
    "a port that is none": ["Host: localhost:http"],
    "another loopback": ["Host: 127.0.0.2:{port}"],
    "any address": ["Host: 0.0.0.0:{port}"],
    "an open bracket": ["Host: [::1"],
    "no colon before the port": ["Host: [::1]{port}"],
    "two": [HOST, "Host: evil.example"],
    "two of ours": [HOST, HOST],
    "a path": ["Host: 127.0.0.1:{port}/x"],
    "a dot behind": ["Host: localhost.:{port}"],
}
ORIGINS = {
    "another": "http://evil.example",
    "another port": "http://127.0.0.1:1",
    "null": "null",
    "empty": "",
    "like ours": "http://127.0.0.1:{port}.evil.example",
    "ours as a user": "http://127.0.0.1:{port}@evil.example",
    "another scheme": "file://127.0.0.1:{port}",
    "an extension": "chrome-extension://abcdef",
    "no scheme": "127.0.0.1:{port}",
    "another name of ours": "http://localhost:{port}",
}
KINDS = {
    "a form": "application/x-www-form-urlencoded",
    "a multipart form": "multipart/form-data; boundary=x",
    "text": "text/plain",
    "text that says JSON": "text/plain; application/json",
    "almost JSON": "application/jsonp",
    "json in a suffix": "application/problem+json",
    "nothing": "",
    "xml": "application/xml",
}
BODIES = {
    "not JSON": b"{",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "an unknown field": b'{"model": "small", "admin": true}',
    "a field twice, of another type": b'{"model": "small", "model": 1}',
    "another type": b'{"model": 1}',
    "a very long name": b'{"model": "%s"}' % (b"a" * 400),
    "no text": b'{"model": "\xff\xfe"}',
    "deep": b"[" * 20_000,
    "a lone surrogate": b'{"model": "\\ud800"}',
    "a null byte": b'{"model": "a\\u0000b"}',
    "a path": b'{"model": "../../etc/passwd"}',
    "empty name": b'{"model": ""}',
    "a wait that is no bool": b'{"model": "small", "wait": "yes"}',
    "infinite": b'{"model": Infinity}',
}
METHODS = ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "HEAD", "GET", "BREW"]


def request(lines: list[str], body: bytes = SWAP, method: str = "POST", path: str = "/model/swap") -> str:
    head = [f"{method} {path} HTTP/1.1", *lines, f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(head) + "\r\n\r\n"


HOSTILE: dict[str, tuple[str, bytes, set[int]]] = {
    **{f"host: {name}": (request([*hosts, JSON]), SWAP, {400, 421}) for name, hosts in HOSTS.items()},
    **{
        f"origin: {name}": (request([HOST, JSON, f"Origin: {origin}"]), SWAP, {403}) for name, origin in ORIGINS.items()
    },
    **{
        f"kind: {name}": (request([HOST, *([f"Content-Type: {kind}"] if kind else [])]), SWAP, {415})
        for name, kind in KINDS.items()
    },
    **{f"body: {name}": (request([HOST, JSON], body), body, {400, 404}) for name, body in BODIES.items()},
    **{f"method: {method}": (request([HOST, JSON], method=method), SWAP, {400, 404, 405}) for method in METHODS},
    "another site": (request([HOST, JSON, "Sec-Fetch-Site: cross-site"]), SWAP, {403}),
    "a site beside": (request([HOST, JSON, "Sec-Fetch-Site: same-site"]), SWAP, {403}),
    "too large, and says so": (request([HOST, JSON]).replace("18", str(BODY_BYTES_MAX + 1)), SWAP, {413}),
    "a length that is none": (request([HOST, JSON]).replace("Length: 18", "Length: -1"), SWAP, {400, 413}),
    "two lengths": (request([HOST, JSON, "Content-Length: 3"]), SWAP, {400}),
    "length and chunks": (request([HOST, JSON, "Transfer-Encoding: chunked"]), b"0\r\n\r\n", {400}),
    "large headers": (request([HOST, JSON, "X-Large: " + "a" * 40_000]), SWAP, {400, 431}),
    "no HTTP": ("hello\r\n\r\n", b"", {400}),
    "a path that climbs": (request([HOST], b"", "GET", "/../../etc/passwd"), b"", {400, 404}),
    "an encoded path that climbs": (request([HOST], b"", "GET", "/model/..%2f..%2fetc/export"), b"", {404}),
}


def test_the_table_is_long_enough() -> None:
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused(tmp_path: Path, name: str) -> None:
    head, body, statuses = HOSTILE[name]

    async def test(control: Control) -> None:
        response = await control.raw(head.replace("{port}", str(control.port)).encode("latin-1") + body)
        assert response.status in statuses, response
        assert response.headers["content-type"] == "application/problem+json"
        if not head.startswith("HEAD"):
            assert response.json["status"] == response.status
        assert (await control.ask("GET", "/model/status")).json["model"] is None, "it reached the node"

    async def bounded() -> None:
        async with asyncio.timeout(30), controlled(tmp_path) as control:
            await test(control)

    asyncio.run(bounded())


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Basic c2VjcmV0", "secret", "Bearer ", "Bearer  x secret"])
def test_without_its_token_nothing_is_told(tmp_path: Path, given: str | None) -> None:
    async def test() -> None:
        async with controlled(tmp_path, token="secret") as control:
            headers = {} if given is None else {"Authorization": given}
            for path in ("/model/status", "/metrics", "/openapi.json", "/healthz"):
                response = await control.ask("GET", path, **headers)
                assert (response.status, response.json["code"]) == (401, "token_required")
                assert response.headers["www-authenticate"] == "Bearer"
            for scheme in ("Bearer", "bearer"):
                assert (await control.ask("GET", "/model/status", Authorization=f"{scheme} secret")).status == 200

    asyncio.run(test())


def test_a_body_that_grows_too_large_is_cut_off(tmp_path: Path) -> None:
    async def test() -> None:
        async with controlled(tmp_path) as control:
            chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
            lines = ["POST /model/swap HTTP/1.1", "Host: localhost", JSON, "Connection: close"]
            head = "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode()
            response = await control.raw(head + chunk * (BODY_BYTES_MAX // 65_536) + b"1\r\n \r\n")
            assert (response.status, response.json["code"]) == (413, "too_large")

    asyncio.run(test())
