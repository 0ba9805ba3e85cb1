"""`edgecoder device` as a process of its own, with real llama.cpp and tiny models, asked over its control port."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import msgspec

from edgecoder.models.catalog import CatalogEntry
from tests.drivers import tiny_gguf

ASK_S = 60.0
TURNS = 3_000
"""How often something is looked for before it counts as not to come: a minute."""
TURN_S = 0.02


def make_models(folder: Path, count: int, shape: str = "nano", weights: str = "F16") -> list[CatalogEntry]:
    """Models in `folder` and a catalog of them, `catalog.json`."""
    entries = [
        tiny_gguf.make(folder / f"tiny-{number}.gguf", shape, number, name=f"tiny-{number}", weights=weights)
        for number in range(count)
    ]
    (folder / "catalog.json").write_bytes(msgspec.json.encode(entries))
    return entries


class DeviceProcess:
    """One life of a device."""

    def __init__(self, folder: Path, *more: str) -> None:
        """`folder` has the catalog; the device keeps its own things in `data` there."""
        self.folder = folder
        self.log = folder / "device.log"
        options = ("--data", str(folder / "data"), "--catalog", str(folder / "catalog.json"), "--threads", "1")
        environ = {key: value for key, value in os.environ.items() if not key.startswith("EDGECODER_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edgecoder", "device", *options, "--port", "0", *more],
                stdout=log,
                stderr=log,
                env=environ,
                start_new_session=True,
            )
        self.port = 0

    def __enter__(self) -> Self:
        return self.wait()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def wait(self) -> Self:
        """Until it can be asked."""
        mark = f'"pid": {self._process.pid},'
        for _ in range(TURNS):
            for line in self.log.read_text(encoding="utf-8").splitlines():
                if '"event": "up"' in line and mark in line:
                    self.port = json.loads(line)["port"]
                    return self
            if self._process.poll() is not None:
                raise AssertionError(f"the device ended: {self.log.read_text(encoding='utf-8')[-3000:]}")
            time.sleep(TURN_S)
        raise AssertionError(f"the device does not come up: {self.log.read_text(encoding='utf-8')[-3000:]}")

    def ask(self, method: str, path: str, value: Any = None) -> tuple[int, Any]:
        """One request: status and JSON. Raises OSError and HTTPException where the device goes away meanwhile."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ASK_S)
        try:
            body = None if value is None else json.dumps(value)
            connection.request(method, path, body, {} if value is None else {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def import_model(self, number: int) -> tuple[int, Any]:
        """Give it a model."""
        return self.ask("POST", "/model/import", {"path": str(self.folder / f"tiny-{number}.gguf")})

    def swap(self, number: int) -> tuple[int, Any]:
        """Make a model active."""
        return self.ask("POST", "/model/swap", {"model": f"tiny-{number}", "wait": True})

    def status(self) -> Any:
        """GET /model/status."""
        return self.ask("GET", "/model/status")[1]

    def verified(self) -> set[str]:
        """The models that are here; one during whose load the device was killed twice is quarantined, and still is."""
        rows = self.ask("GET", "/model/list")[1]["models"]
        return {row["modelId"] for row in rows if row["state"] in ("installed", "quarantined")}

    def settled(self) -> Any:
        """Its status when nothing is under way."""
        for _ in range(TURNS):
            status = self.status()
            if status["status"] in ("ready", "no_model", "error"):
                return status
            time.sleep(TURN_S)
        raise AssertionError(f"it does not come to rest: {status}")

    def kill(self) -> None:
        """Kill -9, with all its children."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)

    def terminate(self) -> int:
        """Ask it to end; its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)
