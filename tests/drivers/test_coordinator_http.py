"""What a coordinator answers to programs and browsers, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from edgecoder.core.effects import MeshCapabilities
from edgecoder_drivers.coordinator import Coordinator
from edgecoder_drivers.http.mesh import LIMIT_MAX, make_mesh_app
from tests.catalogs import SMALL
from tests.drivers.mesh_rig import address as address_of
from tests.drivers.mesh_rig import agents_with, capabilities, coordinator, get, identity, member, raw, run, until

A = identity(1)
PROBLEM = "application/problem+json"


def with_hub(tmp_path: Path, test: Callable[[Coordinator], Coroutine[Any, Any, None]], **plan: Any) -> None:
    """Run a test on a coordinator."""

    async def whole() -> None:
        async with coordinator(tmp_path, A.node_id, **plan) as hub:
            await test(hub)

    run(whole())


def test_the_answer_has_the_shape_of_the_protocol(tmp_path: Path) -> None:
    async def test(hub: Coordinator) -> None:
        async with member(A, [address_of(hub)], held=[SMALL]) as agent:
            await agent.swap(SMALL)
            await until(lambda: agents_with(hub, "small"))
            status, kind, body = await get(hub.port, "/mesh/capabilities?model=small&minParamSize=1.5&limit=1")
            assert (status, kind) == (200, "application/json")
            (row,) = json.loads(body)["coordinators"]
            assert list(row) == ["coordinatorId", "agentCount", "modelAvailability", "ageMs"]
            assert (row["coordinatorId"], row["agentCount"], row["ageMs"]) == (hub.node_id.hex(), 1, 0)
            assert list(row["modelAvailability"]["small"]) == [
                "agentCount",
                "totalParamCapacity",
                "avgLoad",
                "freeSlots",
            ]
            assert await capabilities(hub, "?model=small&minParamSize=1.6") == []
            assert await capabilities(hub, "?model=nothing-like-it") == []

    with_hub(tmp_path, test)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=-1", "limit=1.5", "limit=ten", f"limit={LIMIT_MAX + 1}", "limit=1&limit=2", "limit=",
        "minParamSize=-1", "minParamSize=nan", "minParamSize=inf", "minParamSize=1e9", "minParamSize=x",
        "minParamSize=" + "1" * 5000, "model=", "model=%00", "model=" + "m" * 301, "modle=small", "x",
    ],
)  # fmt: skip
def test_a_wrong_query_is_a_problem(tmp_path: Path, query: str) -> None:
    async def test(hub: Coordinator) -> None:
        status, kind, body = await get(hub.port, f"/mesh/capabilities?{query}")
        problem = json.loads(body)
        assert (status, kind, problem["code"]) == (400, PROBLEM, "invalid")
        assert problem["title"]
        assert "/mesh/capabilities?" in problem["hint"]

    with_hub(tmp_path, test)


def test_health_counters_and_a_page(tmp_path: Path) -> None:
    async def test(hub: Coordinator) -> None:
        status, _, body = await get(hub.port, "/healthz")
        health = json.loads(body)
        assert (status, health["status"], health["nodeId"]) == (200, "ok", hub.node_id.hex())
        assert (health["role"], health["members"], health["coordinators"]) == ("coordinator", 0, 0)
        await get(hub.port, "/mesh/capabilities")
        status, kind, body = await get(hub.port, "/metrics")
        assert status == 200
        assert kind.startswith("text/plain")
        assert b"edgecoder_node_ready_total 1.0" in body
        assert b'edgecoder_links{role="member"} 0.0' in body
        more = [asyncio.create_task(asyncio.sleep(60)) for _ in range(100)]
        now = (await get(hub.port, "/metrics"))[2]
        before_tasks, tasks = (int(re.findall(rb"(?m)^edgecoder_loop_tasks (\d+)", each)[0]) for each in (body, now))
        assert 0 < before_tasks < 50
        assert tasks >= 100
        for task in more:
            task.cancel()
        status, kind, body = await get(hub.port, "/")
        assert (status, kind) == (200, "text/html; charset=utf-8")
        assert b"http" not in body.replace(b"/healthz", b""), "nothing is fetched from elsewhere"
        status, _, body = await get(hub.port, "/healthz", method="HEAD")
        assert (status, body) == (200, b"")

    with_hub(tmp_path, test)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/mesh", 404),
        ("GET", "/mesh/capabilities/", 404),
        ("GET", "/mesh/link", 404),
        ("POST", "/mesh/capabilities", 405),
        ("DELETE", "/healthz", 405),
        ("BREW", "/", 405),
    ],
)
def test_what_is_not_there_is_a_problem(tmp_path: Path, method: str, path: str, status: int) -> None:
    async def test(hub: Coordinator) -> None:
        got, kind, body = await get(hub.port, path, method=method)
        assert (got, kind) == (status, PROBLEM)
        assert json.loads(body)["hint"]

    with_hub(tmp_path, test)


@pytest.mark.parametrize(
    "lines", [["Content-Length: 10"], ["Content-Length: 10737418240"], ["Transfer-Encoding: chunked"]]
)
def test_a_body_is_refused_unread(tmp_path: Path, lines: list[str]) -> None:
    async def test(hub: Coordinator) -> None:
        status, kind, body = await get(hub.port, "/mesh/capabilities", *lines, method="POST")
        assert (status, kind, json.loads(body)["code"]) == (413, PROBLEM, "too_large")

    with_hub(tmp_path, test)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[::1", ""])
def test_a_request_for_another_host_is_refused(tmp_path: Path, host: str) -> None:
    async def test(hub: Coordinator) -> None:
        status, _, body = await raw(hub.port, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert status == 421, body

    with_hub(tmp_path, test)


def test_a_name_that_was_given_is_served(tmp_path: Path) -> None:
    async def test(hub: Coordinator) -> None:
        assert (await get(hub.port, "/healthz", host="hub.example:4301"))[0] == 200

    with_hub(tmp_path, test, names=("hub.example",))


def test_a_page_of_another_origin_is_refused(tmp_path: Path) -> None:
    async def test(hub: Coordinator) -> None:
        status, _, _ = await get(hub.port, "/mesh/capabilities", "Origin: https://evil.example")
        assert status == 403

    with_hub(tmp_path, test)


def test_with_a_token_nobody_asks_without(tmp_path: Path) -> None:
    async def test(hub: Coordinator) -> None:
        assert (await get(hub.port, "/mesh/capabilities"))[0] == 401
        assert (await get(hub.port, "/mesh/capabilities", "Authorization: Bearer secret"))[0] == 200
        async with member(A, [address_of(hub)]):  # who links proves its key instead
            await until(lambda: hub.links == (1, 0))

    with_hub(tmp_path, test, token="secret")


ENDS = {
    "loopback": ("127.0.0.1", "127.0.0.1", 200),
    "another of loopback": ("127.0.0.9", "127.0.0.1", 200),
    "its own address": ("192.0.2.1", "192.0.2.1", 200),
    "loopback of IPv6": ("::1", "::1", 200),
    "loopback within IPv6": ("::ffff:127.0.0.1", "::ffff:127.0.0.1", 200),
    "its own address of a zone": ("fe80::1%eth0", "fe80::1%eth0", 200),
    "a neighbour": ("192.0.2.2", "192.0.2.1", 401),
    "a neighbour in IPv6": ("2001:db8::2", "2001:db8::1", 401),
    "nobody": ("", "192.0.2.1", 401),
    "a name": ("localhost", "192.0.2.1", 401),
}


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("path", ["/mesh/capabilities", "/healthz", "/metrics", "/"])
def test_without_a_token_only_its_own_machine_asks(ends: str, path: str) -> None:
    came_from, is_at, status = ENDS[ends]
    application = make_mesh_app(Lonely(), lambda: b"", hosts=frozenset({"localhost"}))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await application({**scope, "server": (is_at, 4301)}, receive, send)

    client = TestClient(app, base_url="http://localhost", client=(came_from, 50_000))
    answer = client.get(path)
    assert answer.status_code == status
    if status == 401:
        assert (answer.headers["content-type"], answer.json()["code"]) == (PROBLEM, "token_required")
        assert "--token-file" in answer.json()["hint"]


class Lonely:
    """A coordinator that knows nobody. A `ServedCoordinator`."""

    node_id = bytes(32)
    links = (0, 0)

    def begin(self, kind: Any, **_: Any) -> tuple[int, asyncio.Future[Any]]:  # noqa: ARG002
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        reply.set_result(MeshCapabilities())
        return 1, reply


paths = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60).map(lambda path: f"/{path}")
queries = st.text(max_size=40).map(quote).map(lambda text: f"/mesh/capabilities?model={text}&minParamSize={text}")
gets = (paths | queries).map(lambda path: f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(requests=st.lists(st.binary(max_size=200) | gets, min_size=1, max_size=10))
def test_hostile_requests_never_break_it(tmp_path_factory: pytest.TempPathFactory, requests: list[bytes]) -> None:
    async def test(hub: Coordinator) -> None:
        async def ask(request: bytes) -> int:
            reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
            writer.write(request)
            writer.write_eof()
            content = await asyncio.wait_for(reader.read(), 30)
            writer.close()
            return int(content.split()[1]) if content else 0

        statuses = [await ask(request) for request in requests]
        assert all(status in (0, 200) or 400 <= status < 500 for status in statuses), statuses
        assert (await get(hub.port, "/healthz"))[0] == 200

    with_hub(tmp_path_factory.mktemp("hub"), test)
