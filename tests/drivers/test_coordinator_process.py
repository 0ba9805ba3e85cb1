"""Coordinators and devices as processes: a newcomer's two commands, the death of either, and what lasts."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgecoder_drivers.identity import load_identity
from tests.drivers.coordinator_process import QUICK, CoordinatorProcess
from tests.drivers.device_process import TURN_S, TURNS, DeviceProcess, environ, make_models


def eventually(what: Callable[[], Any]) -> Any:
    """Wait until something is so."""
    for _ in range(TURNS):
        found = what()
        if found:
            return found
        time.sleep(TURN_S)
    raise AssertionError("it does not come")


def edgecoder(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgecoder", *args]
    return subprocess.run(command, env=environ(), capture_output=True, text=True, check=False, timeout=120)


def epoch(folder: Path) -> int:
    """What a coordinator that is down has kept."""
    database = sqlite3.connect(folder / "data" / "registry.sqlite")
    try:
        (value,) = database.execute("SELECT value FROM kept WHERE key = 'epoch'").fetchone()
    finally:
        database.close()
    return int.from_bytes(value, "big")


def test_two_commands_and_an_agent_is_on_the_map(tmp_path: Path) -> None:
    """What it prints is all that a newcomer needs."""
    make_models(tmp_path, 1)
    with CoordinatorProcess(tmp_path / "hub", "--catalog", str(tmp_path / "catalog.json")) as hub:
        said = eventually(lambda: [line for line in hub.log.read_text().splitlines() if line.startswith("members: ")])
        address = said[0].split()[-1]
        assert address == hub.address
        with DeviceProcess(tmp_path, *QUICK, "--coordinator", address, "--join", hub.invite()) as device:
            assert device.import_model(0)[0] == 200
            assert device.swap(0)[0] == 200
            eventually(lambda: hub.agents("tiny-0"))
            eventually(lambda: device.status()["online"])
            assert hub.terminate() == 0
            eventually(lambda: not device.status()["online"])
            assert device.status()["model"] == "tiny-0", "offline it serves on"


def test_a_device_answers_the_task_of_another(tmp_path: Path) -> None:
    """Real engines: what one cannot answer comes from the other, in parts, through the coordinator."""
    entries = make_models(tmp_path, 2)
    catalog = ("--catalog", str(tmp_path / "catalog.json"))
    with CoordinatorProcess(tmp_path / "hub", *catalog) as hub:

        def device(name: str) -> DeviceProcess:
            (tmp_path / name).mkdir()
            for path in (tmp_path / "catalog.json", *tmp_path.glob("*.gguf")):
                (tmp_path / name / path.name).write_bytes(path.read_bytes())
            return DeviceProcess(tmp_path / name, *QUICK, "--coordinator", hub.address, "--join", hub.invite())

        with device("one") as one, device("two") as two:
            for number, each in enumerate((one, two)):
                assert each.import_model(number)[0] == 200
                assert each.swap(number)[0] == 200
                eventually(partial(hub.agents, f"tiny-{number}"))
            eventually(lambda: one.status()["online"])
            task = {"prompt": "add", "model": "tiny-1", "maxTokens": 4}
            status, answer = one.ask("POST", "/task", task)
            assert (status, answer["model"]) == (200, entries[1].model_id)
            assert answer["servedBy"] == _node_of(tmp_path / "two" / "data")
            assert one.ask("POST", "/task", task | {"model": "tiny-0"})[1]["servedBy"] == _node_of(
                tmp_path / "one" / "data"
            )
            two.kill()
            status, problem = one.ask("POST", "/task", task | {"deadlineMs": 5_000})
            assert status >= 500, problem


def test_kill_nine_of_a_coordinator_leads_its_agents_to_the_spare(tmp_path: Path) -> None:
    make_models(tmp_path, 1)
    catalog = ("--catalog", str(tmp_path / "catalog.json"))
    with CoordinatorProcess(tmp_path / "one", *catalog) as one, CoordinatorProcess(tmp_path / "two", *catalog) as two:
        device = DeviceProcess(tmp_path, *QUICK, "--coordinator", one.address, "--coordinator", two.address)
        with device:
            name = _node_of(tmp_path / "data")
            for hub in (one, two):
                (hub.folder / "data" / "members.txt").write_text(f"member {name}\n")
            device.import_model(0)
            device.swap(0)
            eventually(lambda: one.agents("tiny-0"))
            eventually(lambda: two.ask("/healthz")[1]["members"] == 1)
            one.kill()
            eventually(lambda: two.agents("tiny-0"))
            assert device.status()["online"]
            with CoordinatorProcess(tmp_path / "one", *catalog, port=one.port) as again:
                eventually(lambda: again.ask("/healthz")[1]["members"] == 1)
                assert again.node == one.node
                assert two.agents("tiny-0") == 1, "there is no way back but a fall of the new home"


def test_a_coordinator_that_hangs_is_left_for_the_spare(tmp_path: Path) -> None:
    """No socket is closed: it is the heartbeats that are not answered."""
    make_models(tmp_path, 1)
    catalog = ("--catalog", str(tmp_path / "catalog.json"))
    with CoordinatorProcess(tmp_path / "one", *catalog) as one, CoordinatorProcess(tmp_path / "two", *catalog) as two:
        name = load_identity(tmp_path / "data" / "node.key").node_id.hex()
        for hub in (one, two):
            (hub.folder / "data" / "members.txt").write_text(f"member {name}\n")
        where = ("--coordinator", one.address, "--coordinator", two.address)
        with DeviceProcess(tmp_path, *QUICK, *where) as device:
            device.import_model(0)
            device.swap(0)
            eventually(lambda: one.agents("tiny-0"))
            eventually(lambda: two.ask("/healthz")[1]["members"] == 1)
            os.kill(one.pid, signal.SIGSTOP)
            try:
                eventually(lambda: two.agents("tiny-0"))
                assert device.status()["online"]
            finally:
                os.kill(one.pid, signal.SIGCONT)
            eventually(lambda: one.agents("tiny-0") == 0)
            assert two.agents("tiny-0") == 1


def _node_of(folder: Path) -> str:
    return load_identity(folder / "node.key").node_id.hex()


def test_what_a_coordinator_keeps_survives_kill_nine(tmp_path: Path) -> None:
    make_models(tmp_path, 1)
    catalog = ("--catalog", str(tmp_path / "catalog.json"))
    hub, epochs = CoordinatorProcess(tmp_path / "hub", *catalog).wait(), list[int]()
    try:
        with DeviceProcess(tmp_path, *QUICK, "--coordinator", hub.address, "--join", hub.invite()) as device:
            eventually(lambda: device.status()["online"])
            for _ in range(3):
                hub.kill()
                epochs.append(epoch(hub.folder))
                eventually(lambda: not device.status()["online"])
                hub = CoordinatorProcess(tmp_path / "hub", *catalog, port=hub.port).wait()
                eventually(lambda: device.status()["online"])
    finally:
        hub.kill()
    assert epochs == sorted(set(epochs)), "each life has a greater epoch"


def test_two_coordinators_do_not_share_a_folder(tmp_path: Path) -> None:
    with CoordinatorProcess(tmp_path) as hub:
        second = edgecoder("coordinator", "--data", str(tmp_path / "data"), "--port", "0")
        assert (second.returncode, second.stdout) == (2, "")
        assert "another process has this store; stop it, or choose another folder" in second.stderr
        third = edgecoder("coordinator", "--data", str(tmp_path / "more"), "--port", str(hub.port))
        assert third.returncode == 2
        assert f"127.0.0.1:{hub.port}: Address already in use; another coordinator may be running" in third.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["coordinator", "--coordinator", "x"], "--coordinator: 'x' is no coordinator; give ID@HOST:PORT"),
        (
            ["agent", "--coordinator", "0" * 64 + "@hub:99999"],
            f"--coordinator: '{'0' * 64}@hub:99999' is no coordinator; give ID@HOST:PORT",
        ),
        (
            ["device", "--set", "node.coordinators=[a]"],
            "'a' is no coordinator; give ID@HOST:PORT, as",
        ),
        (["coordinator", "--members", "nowhere"], "nowhere: there is no such file; give the list of members"),
        (["coordinator", "--tls-key", "k"], "--tls-certificate: certificate and key come together"),
        (["coordinator", "--tls-key", "k", "--tls-certificate", "c"], "c: no certificate: "),
        (["coordinator", "--host", "192.0.2.99"], "--port: 192.0.2.99:0: Cannot assign requested address"),
        (["coordinator", "invite"], "there is no coordinator here; start `edgecoder coordinator` first"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(tmp_path: Path, args: list[str], said: str) -> None:
    more = ["--port", "0"] if "invite" not in args else []
    ran = edgecoder(*args, "--data", str(tmp_path / "data"), *more)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1
