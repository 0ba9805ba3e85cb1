"""What `edgecoder doctor` says of the machine that an agent or device is to run on."""

from __future__ import annotations

import json
import shutil
import socket
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edgecoder.health import Check
from edgecoder_drivers.commands import health
from edgecoder_drivers.identity import load_identity
from edgecoder_drivers.ollama.health import check_models
from tests.drivers.other_server import other_server
from tests.tidy.tree import ROOT


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_doctor_is_told_of_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    point = EntryPoint("agent", project["entry-points"]["edgecoder.checks"]["agent"], "edgecoder.checks")
    assert [check.name for check in point.load()()] == ["data", "disk", "key", "catalog", "port"]
    assert point.extras == [health.SCOPE]


def test_a_folder_that_can_be_made_will_do(tmp_path: Path) -> None:
    assert health.check_folder(tmp_path / "not" / "yet").ok
    (tmp_path / "file").write_text("", encoding="utf-8")
    check = health.check_folder(tmp_path / "file" / "data")
    assert (check.ok, check.hint) == (False, "choose another folder with --data")


def test_a_small_model_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    for free_bytes, ok in ((1_000_000, False), (600_000_000, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _path, free=free_bytes: usage._replace(free=free))
        assert health.check_free(tmp_path / "not" / "yet").ok is ok


def test_a_key_is_judged_and_none_is_made(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    assert health.check_key(path) == Check("agent", "key", ok=True, detail="none yet; the first start makes one")
    assert not path.exists()
    node = load_identity(path).node_id.hex()
    assert health.check_key(path).detail == f"node {node[:8]}"
    path.chmod(0o644)
    check = health.check_key(path)
    assert (check.ok, check.detail) == (False, f"{path}: others may read the node's key")
    path.write_bytes(b"short")
    assert "5 bytes are no Ed25519 key" in health.check_key(path).detail
    path.unlink()
    path.mkdir()
    assert health.check_key(path).detail.endswith("Is a directory")


def test_the_packaged_catalog_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.check_catalog().ok
    monkeypatch.setattr("edgecoder_drivers.catalogs.catalog_folder", lambda: tmp_path)
    check = health.check_catalog()
    assert (check.ok, check.hint) == (False, "pip install --force-reinstall edgecoder")


def test_a_port_is_free_an_agent_s_or_another_program_s() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    assert health.check_port(f"http://127.0.0.1:{port}", port).detail == f"{port} is free"

    told = {"status": "ok", "node": "00", "engine": "ollama", "engineHealthy": False, "version": "9.0"}
    with other_server(json.dumps(told).encode()) as agent:
        check = health.check_port(agent.url, port_of(agent.url))
        assert (check.ok, check.detail) == (
            True,
            f"{port_of(agent.url)}: EdgeCoder 9.0 with ollama, which does not answer",
        )
    problem = json.dumps({"title": "no", "status": 401, "code": "token_required"}).encode()
    with other_server(problem, "application/problem+json", 401) as agent:
        assert "wants a token" in health.check_port(agent.url, port_of(agent.url)).detail
    with other_server(b"<html>", "text/html") as other:
        check = health.check_port(other.url, port_of(other.url))
        assert (check.ok, check.detail) == (False, f"{port_of(other.url)} is another program's")
        assert check.hint == "end what listens there, or choose another port with --port"


def test_ollama_s_files_can_be_read_where_they_are_said_to_be(tmp_path: Path) -> None:
    assert check_models(None).ok
    assert not check_models(str(tmp_path)).ok
    (tmp_path / "blobs").mkdir()
    assert check_models(str(tmp_path)).ok
