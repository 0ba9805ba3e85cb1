"""Port 4302 as the seed and its table say: methods, paths, keys, statuses."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import LoadModel, RunTask
from edgecoder.errors import ConfigError, Reason
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.http.server import Binding, ControlServer
from tests.catalogs import SMALL, claim_of
from tests.drivers.control import Control, controlled

HEAD = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def run(folder: Path, test: Callable[[Control], Awaitable[None]], **how: Any) -> None:
    """Run a test against an agent."""

    async def bounded() -> None:
        async with asyncio.timeout(30), controlled(folder, **how) as control:
            await test(control)

    asyncio.run(bounded())


def events_of(body: bytes) -> list[tuple[str, Any]]:
    """Server-sent events."""
    parts = [part.split("\n") for part in body.decode().strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in parts]


def test_a_swap_answers_with_exactly_the_four_keys_of_the_seed(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        first = await control.ask("POST", "/model/swap", {"model": "small"})
        second = await control.ask("POST", "/model/swap", {"model": "large"})
        assert (first.status, second.status) == (200, 200)
        assert first.json == {"previous": None, "active": "small", "status": "ready", "paramSize": 1.5}
        assert second.json == {"previous": "small", "active": "large", "status": "ready", "paramSize": 7.0}

    run(tmp_path, test)


def test_a_swap_pulls_what_is_missing_unless_it_is_told_not_to(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        refused = await control.ask("POST", "/model/swap", {"model": "tiny", "pull": False})
        assert (refused.status, refused.json["code"]) == (404, "not_installed")
        pulled = await control.ask("POST", "/model/swap", {"model": "tiny"})
        assert (pulled.status, pulled.json["active"]) == (200, "tiny")

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("body", "by"), [({"model": "large", "wait": False}, "it asks so"), ({"model": "large"}, "time")]
)
def test_what_takes_long_is_accepted_and_can_be_followed(tmp_path: Path, body: dict[str, Any], by: str) -> None:
    async def test(control: Control) -> None:
        await control.ask("POST", "/model/swap", {"model": "small", "wait": True})
        control.driver.before[LoadModel] = lambda: asyncio.sleep(0.3)
        accepted = await control.ask("POST", "/model/swap", body)
        assert accepted.status == 202
        assert accepted.json.keys() == {"active", "status", "operation", "progress"}
        assert accepted.json["status"] == "loading"
        path = f"/model/operations/{accepted.json['operation']}"
        assert (await control.ask("GET", path)).json["status"] == "running"
        told = events_of((await control.ask("GET", f"{path}/events")).body)
        assert [name for name, _ in told] == ["progress", "done"]
        assert told[-1][1]["swapped"] == {"previous": "small", "active": "large", "status": "ready", "paramSize": 7.0}
        assert (await control.ask("GET", path)).json["progress"] == 1.0

    run(tmp_path, test, swap_wait_s=0.05 if by == "time" else 30.0)


def test_who_goes_away_calls_nothing_off(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        control.driver.before[LoadModel] = lambda: asyncio.sleep(0.2)
        _, writer = await asyncio.open_connection("127.0.0.1", control.port)
        body = b'{"model": "small"}'
        writer.write(HEAD % (b"/model/swap", len(body)) + body)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await asyncio.sleep(0.4)
        assert (await control.ask("GET", "/model/status")).json["model"] == "small"

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/model/swap", {}, 400, "model_required"),
        ("POST", "/model/swap", {"model": ""}, 400, "model_required"),
        ("POST", "/model/swap", {"model": None}, 400, "model_required"),
        ("POST", "/model/swap", {"model": 0}, 400, "invalid"),
        ("POST", "/model/swap", {"model": "nobody"}, 404, "unknown_model"),
        ("POST", "/model/swap", {"model": "desk"}, 422, "incompatible"),
        ("POST", "/model/swap", {"model": "huge"}, 422, "insufficient_memory"),
        ("POST", "/model/pull", {"model": "nobody"}, 404, "unknown_model"),
        ("POST", "/model/pull", {}, 400, "model_required"),
        ("POST", "/model/import", {}, 400, "path_required"),
        ("POST", "/model/import", {"path": "/nowhere.gguf"}, 404, "not_installed"),
        ("POST", "/task", {}, 400, "prompt_required"),
        ("POST", "/task", {"prompt": "def", "deadlineMs": 0}, 400, "invalid"),
        ("DELETE", "/model/nobody", None, 404, "unknown_model"),
        ("DELETE", "/model/tiny", None, 404, "not_installed"),
        ("GET", "/model/nobody/export", None, 404, "unknown_model"),
        ("GET", "/model/operations/0123456789abcdef", None, 404, "unknown_operation"),
        ("GET", "/model", None, 404, "not_found"),
        ("GET", "/model/swap", None, 405, "method_not_allowed"),
        ("PUT", "/model/swap", {"model": "small"}, 405, "method_not_allowed"),
    ],
)
def test_a_mistake_is_a_problem_with_code_and_hint(
    tmp_path: Path, method: str, path: str, body: Any, status: int, code: str
) -> None:
    async def test(control: Control) -> None:
        response = await control.ask(method, path, body)
        assert (response.status, response.json["code"]) == (status, code), response.body
        assert response.headers["content-type"].startswith("application/problem+json")
        assert response.json["status"] == status
        assert response.json["hint"]
        assert response.json.keys() == {"type", "title", "status", "code", "detail", "hint"}
        assert response.headers["cache-control"] == "no-store"

    run(tmp_path, test)


def test_a_failed_load_leaves_the_old_model_and_its_reason_in_the_status(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        await control.ask("POST", "/model/swap", {"model": "small"})
        tries: list[int] = []

        async def fails_once() -> None:
            tries.append(1)
            if len(tries) == 1:
                raise Refused(Reason.OUT_OF_MEMORY)

        control.driver.before[LoadModel] = fails_once
        failed = await control.ask("POST", "/model/swap", {"model": "large"})
        assert (failed.status, failed.json["code"]) == (507, "out_of_memory")
        status = (await control.ask("GET", "/model/status")).json
        assert (status["model"], status["status"], status["reason"]) == ("small", "ready", "out_of_memory")
        assert status["detail"]
        await control.ask("POST", "/model/swap", {"model": "large"})
        assert "reason" not in (await control.ask("GET", "/model/status")).json

    run(tmp_path, test)


def test_an_engine_that_is_away_is_503(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        async def is_away() -> None:
            raise Refused(Reason.UNAVAILABLE)

        control.driver.before[LoadModel] = is_away
        response = await control.ask("POST", "/model/swap", {"model": "small"})
        assert (response.status, response.json["code"]) == (503, "unavailable")
        assert response.json["title"] == "the engine does not answer"
        assert "edgecoder doctor" in response.json["hint"]

    run(tmp_path, test)


def test_the_status_tells_load_engine_and_generation(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        empty = (await control.ask("GET", "/model/status")).json
        assert (empty["model"], empty["paramSize"], empty["status"]) == (None, None, "no_model")
        control.driver.before[LoadModel] = lambda: asyncio.sleep(0.2)
        await control.ask("POST", "/model/swap", {"model": "small", "wait": False})
        loading = (await control.ask("GET", "/model/status")).json
        assert (loading["status"], loading["currentLoad"]) == ("loading", -1)
        await control.ask("POST", "/model/swap", {"model": "small"})
        ready = (await control.ask("GET", "/model/status")).json
        assert (ready["status"], ready["currentLoad"], ready["engine"]) == ("ready", 0, "llama.cpp")
        assert ready["generation"] > empty["generation"]

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("engine", "answers", "is_healthy"), [("ollama", True, True), ("ollama", False, False), ("llama.cpp", True, False)]
)
def test_the_status_tells_model_size_and_whether_ollama_is_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, answers: bool, is_healthy: bool
) -> None:
    monkeypatch.setattr("tests.drivers.control.MemoryNode.engine", engine)
    monkeypatch.setattr("tests.drivers.control.MemoryNode.is_engine_healthy", lambda node: answers)

    async def test(control: Control) -> None:
        await control.ask("POST", "/model/swap", {"model": "small"})
        status = (await control.ask("GET", "/model/status")).json
        assert (status["model"], status["paramSize"], status["ollamaHealthy"]) == ("small", 1.5, is_healthy)
        assert (await control.ask("GET", "/healthz")).json["engineHealthy"] is answers

    run(tmp_path, test)


def test_the_list_has_what_is_here_and_what_could_be(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        await control.ask("POST", "/model/swap", {"model": "small"})
        rows = {row["modelId"]: row for row in (await control.ask("GET", "/model/list")).json["models"]}
        assert rows["small"] == {
            "modelId": "small",
            "displayName": "Small",
            "paramSize": 1.5,
            "quantization": "Q4_K_M",
            "fileSizeBytes": SMALL.file_size_bytes,
            "installed": True,
            "active": True,
            "compatible": True,
            "source": "local",
            "seeders": 1,
            "state": "installed",
        }
        assert (rows["tiny"]["installed"], rows["tiny"]["source"]) == (False, "cdn")
        assert not rows["huge"]["compatible"]

    run(tmp_path, test)


def test_a_model_is_pulled_removed_imported_and_exported(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        assert (await control.ask("POST", "/model/pull", {"model": "tiny"})).json == {
            "model": "tiny",
            "status": "installed",
        }
        await control.ask("POST", "/model/swap", {"model": "tiny"})
        in_use = await control.ask("DELETE", "/model/tiny")
        assert (in_use.status, in_use.json["code"]) == (409, "in_use")
        await control.ask("POST", "/model/swap", {"model": "small"})
        assert (await control.ask("DELETE", "/model/tiny")).json == {"model": "tiny", "status": "removed"}
        (tmp_path / "file.gguf").write_bytes(b"GGUF")
        taken = await control.ask("POST", "/model/import", {"path": str(tmp_path / "file.gguf")})
        assert taken.json == {"model": "small", "status": "installed"}
        exported = await control.ask("GET", "/model/small/export")
        assert (exported.status, exported.body) == (200, claim_of("small"))
        assert exported.headers["repr-digest"] == f"sha-256=:{b64encode(bytes.fromhex(SMALL.sha256)).decode()}:"
        assert 'filename="small.gguf"' in exported.headers["content-disposition"]

    run(tmp_path, test)


def test_a_task_is_answered_whole_or_part_by_part(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        nobody = await control.ask("POST", "/task", {"prompt": "def"})
        assert (nobody.status, nobody.json["code"]) == (503, "no_model")
        await control.ask("POST", "/model/swap", {"model": "small"})
        whole = (await control.ask("POST", "/task", {"prompt": "def", "model": "small-coder:1.5b"})).json
        assert (whole["text"], whole["tokens"], whole["model"]) == ("def add", 2, "small")
        assert len(whole["servedBy"]) == 64
        streamed = await control.ask("POST", "/task", {"prompt": "def", "stream": True})
        assert streamed.headers["content-type"].startswith("text/event-stream")
        told = events_of(streamed.body)
        assert [name for name, _ in told] == ["part", "part", "done"]
        assert "".join(value["text"] for name, value in told if name == "part") == told[-1][1]["text"] == "def add"

    run(tmp_path, test)


@pytest.mark.parametrize("is_escaped", [True, False])
@pytest.mark.parametrize(("letter", "size_bytes"), [("a", 1), ("\n", 1), ("\U0001f600", 4)])
def test_a_prompt_may_have_as_many_bytes_as_a_node_takes(
    tmp_path: Path, letter: str, size_bytes: int, is_escaped: bool
) -> None:
    async def test(control: Control) -> None:
        await control.ask("POST", "/model/swap", {"model": "small"})
        for more, status in (("", 200), ("a", 413)):
            prompt = letter * (NodeConfig().prompt_bytes_max // size_bytes) + more
            body = json.dumps({"prompt": prompt}, ensure_ascii=is_escaped).encode()
            head = HEAD.replace(b"localhost", b"localhost\r\nConnection: close") % (b"/task", len(body))
            assert (await control.raw(head + body)).status == status

    run(tmp_path, test)


@pytest.mark.parametrize("stream", [False, True])
def test_who_asked_and_goes_away_cancels_the_task(tmp_path: Path, stream: bool) -> None:
    async def test(control: Control) -> None:
        await control.ask("POST", "/model/swap", {"model": "small"})
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def hangs() -> None:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        control.driver.before[RunTask] = hangs
        _, writer = await asyncio.open_connection("127.0.0.1", control.port)
        body = json.dumps({"prompt": "def", "stream": stream}).encode()
        head = (
            f"POST /task HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        writer.write(head.encode() + b"\r\n\r\n" + body)
        await begun.wait()
        writer.close()
        await asyncio.wait_for(cancelled.wait(), 10)

    run(tmp_path, test)


def test_health_metrics_contract_and_page(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        await control.ask("POST", "/model/swap", {"model": "small"})
        assert (await control.ask("GET", "/healthz")).json["status"] == "ok"
        metrics = (await control.ask("GET", "/metrics")).body.decode()
        assert 'edgecoder_swap_ended_total{reason="none"} 1.0' in metrics
        assert "edgecoder_node_ready_total 1.0" in metrics
        assert "_created" not in metrics
        document = (await control.ask("GET", "/openapi.json")).json
        assert document["openapi"] == "3.1.0"
        names = [route["operationId"] for path in document["paths"].values() for route in path.values()]
        assert len(names) == len(set(names))
        status = document["components"]["schemas"]["Status"]["properties"]
        assert status["status"]["enum"] == ["ready", "loading", "pulling", "error", "no_model"]
        assert status["online"]["description"] == "Whether there is a coordinator."
        assert set(document["paths"]["/model/swap"]["post"]["responses"]) >= {"200", "202", "400", "404", "409", "507"}
        page = await control.ask("GET", "/")
        assert page.headers["content-type"].startswith("text/html")

    run(tmp_path, test)


def test_64_swaps_at_once_are_each_answered(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        control.driver.before[LoadModel] = lambda: asyncio.sleep(0.005)
        models = ["small", "large"] * 32
        answers = await asyncio.gather(*(control.ask("POST", "/model/swap", {"model": model}) for model in models))
        assert {response.status for response in answers} <= {200, 409}
        won = [response.json["active"] for response in answers if response.status == 200]
        assert (await control.ask("GET", "/model/status")).json["model"] in won
        assert {response.json["code"] for response in answers if response.status == 409} <= {"superseded"}

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("binding", "problem"),
    [
        (Binding(host="0.0.0.0"), "there is no token"),
        (Binding(host="192.0.2.1", token="secret"), "there is no TLS"),
        (Binding(host="::", token="secret", certificate=Path("c.pem")), "certificate and key come together"),
    ],
)
def test_off_loopback_there_must_be_a_token_and_tls(binding: Binding, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        binding.validate()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        with pytest.raises(ConfigError, match=rf"127.0.0.1:{control.port}: .*another agent may be running"):
            ControlServer(None, Binding(port=control.port))  # type: ignore[arg-type]

    run(tmp_path, test)
