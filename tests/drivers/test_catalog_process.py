"""A real origin and a real device, each a process of its own: a release arrives, and the origin goes away."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from edgecoder_drivers.commands.catalog import command
from edgecoder_drivers.demo import tiny_gguf
from tests.drivers.device_process import TURN_S, TURNS, DeviceProcess, environ

CATALOG = [sys.executable, "-c", "from edgecoder_drivers.commands.catalog import command; command()"]


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[str]:
    """`edgecoder catalog serve`; its address."""
    process = subprocess.Popen(
        [*CATALOG, "serve", str(folder), "--port", str(port)], stderr=subprocess.PIPE, text=True, env=environ()
    )
    assert process.stderr is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert found is not None
        yield found[0]
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stderr.close()


def build(folder: Path) -> int:
    """`edgecoder catalog build`; the version."""
    result = CliRunner().invoke(command, ["build", str(folder), "--json"], catch_exceptions=False)
    return int(json.loads(result.stdout)["version"])


def until(device: DeviceProcess, condition: Callable[[Any], bool]) -> Any:
    """Its status, when it is so."""
    for _ in range(TURNS):
        status = device.status()
        if condition(status):
            return status
        time.sleep(TURN_S)
    raise AssertionError(f"it does not come to that: {status}")


def models(device: DeviceProcess) -> list[str]:
    """What it lists."""
    return [row["modelId"] for row in device.ask("GET", "/model/list")[1]["models"]]


def test_from_an_origin_to_a_device_and_offline(tmp_path: Path) -> None:
    origin, home = tmp_path / "origin", tmp_path / "home"
    origin.mkdir()
    home.mkdir()
    tiny_gguf.make(origin / "tiny-0.gguf", "micro")
    assert build(origin) == 1
    quick = ("--set", "node.catalog_refresh_ms=100", "--set", "node.catalog_stale_ms=1500")
    with serving(origin) as url:
        options = ("--catalog", f"{url}/catalog.yaml", *quick)
        with DeviceProcess(home, *options) as device:
            assert models(device) == ["tiny-0"]
            status, swapped = device.ask("POST", "/model/swap", {"model": "tiny-0", "wait": True, "pull": True})
            assert (status, swapped["active"]) == (200, "tiny-0")
            tiny_gguf.make(origin / "tiny-1.gguf", rng_seed=1)
            tiny_gguf.make(origin / "tiny-2.gguf", rng_seed=2)
            assert build(origin) == 2
            until(device, lambda status: status["catalogVersion"] == 2)
            assert models(device) == ["tiny-0", "tiny-1", "tiny-2"]
            assert device.ask("POST", "/model/pull", {"model": "tiny-1", "wait": True})[0] == 200
    device = DeviceProcess(home, *options)  # the origin is gone, and what is kept serves
    with device:
        shown = until(device, lambda status: status.get("catalogStale") and status["status"] == "ready")
        assert (shown["model"], shown["catalogVersion"]) == ("tiny-0", 2)
        assert shown["catalogAgeS"] > 1.5
        assert device.ask("GET", "/healthz")[1].get("catalogStale")
        status, problem = device.ask("POST", "/model/pull", {"model": "tiny-2", "wait": True})
        assert (status, problem["code"]) == (503, "catalog_stale")
        assert device.swap(1)[0] == 200, "what is here may run"
        with serving(origin, int(url.rpartition(":")[2])):
            until(device, lambda status: not status.get("catalogStale"))
            assert device.ask("POST", "/model/pull", {"model": "tiny-2", "wait": True})[0] == 200
        assert device.terminate() == 0
