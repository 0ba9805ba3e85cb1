"""`edgecoder device` as a process of its own, with real llama.cpp and tiny models, asked over its control port."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec

from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.demo import tiny_gguf

ASK_S = 60.0
TURNS = 3_000
"""How often something is looked for before it counts as not to come: a minute."""
TURN_S = 0.02


def make_models(
    folder: Path, count: int, shape: str = "nano", weights: str = "F16", *, endless: bool = False
) -> list[CatalogEntry]:
    """Models in `folder` and a catalog of them, `catalog.json`."""
    names = [f"tiny-{number}" for number in range(count)]
    entries = [
        tiny_gguf.make(folder / f"{name}.gguf", shape, number, name=name, weights=weights, endless=endless)
        for number, name in enumerate(names)
    ]
    (folder / "catalog.json").write_bytes(msgspec.json.encode(entries))
    return entries


class Streamed:
    """A task whose answer is read as it comes."""

    def __init__(self, port: int, max_tokens: int) -> None:
        self._port, self._max_tokens = port, max_tokens
        self._events: list[str] = []
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until its first part is there."""
        assert self._has_begun.wait(ASK_S)
        assert self._events, "it ended before it began"

    def ended(self) -> list[str]:
        """The names of all its events, when there are no more."""
        self._thread.join(ASK_S)
        assert not self._thread.is_alive()
        return self._events

    def _read(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ASK_S)
        body = json.dumps({"prompt": "def", "maxTokens": self._max_tokens, "stream": True})
        try:
            connection.request("POST", "/task", body, {"Content-Type": "application/json"})
            for line in connection.getresponse():
                if line.startswith(b"event: "):
                    self._events.append(line.removeprefix(b"event: ").decode().strip())
                    self._has_begun.set()
        except (OSError, http.client.HTTPException):
            self._events.append("broke off")
        finally:
            self._has_begun.set()
            connection.close()


def environ() -> dict[str, str]:
    """That of this process, without what it says to EdgeCoder."""
    return {key: value for key, value in os.environ.items() if not key.startswith("EDGECODER_")}


def wait_for_up(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """Until a node has come up: what its log says then."""
    for _ in range(TURNS):
        for line in log.read_text(encoding="utf-8").splitlines():
            if '"event": "up"' in line and f'"pid": {process.pid},' in line:
                said: dict[str, Any] = json.loads(line)
                return said
        if process.poll() is not None:
            break
        time.sleep(TURN_S)
    raise AssertionError(f"it does not come up: {log.read_text(encoding='utf-8')[-3000:]}")


class DeviceProcess:
    """One life of a device."""

    def __init__(self, folder: Path, *more: str) -> None:
        """`folder` has the catalog; the device keeps its own things in `data` there."""
        self.folder = folder
        self.log = folder / "device.log"
        options = ("--data", str(folder / "data"), "--catalog", str(folder / "catalog.json"), "--threads", "1")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edgecoder", "device", *options, "--port", "0", *more],
                stdout=log,
                stderr=log,
                env=environ(),
                start_new_session=True,
            )
        self.port = 0

    def __enter__(self) -> Self:
        return self.wait()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def wait(self) -> Self:
        """Until it can be asked."""
        self.port = wait_for_up(self._process, self.log)["port"]
        return self

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

    def stream(self, max_tokens: int) -> Streamed:
        """Ask it a task, and wait for the first part of the answer."""
        streamed = Streamed(self.port, max_tokens)
        streamed.wait()
        return streamed

    def engines(self) -> list[int]:
        """The processes that it has begun and that run."""
        return [pid for pid, parent in running() if parent == self._process.pid]

    def status(self) -> Any:
        """GET /model/status."""
        return self.ask("GET", "/model/status")[1]

    def verified(self) -> set[str]:
        """The models that are here; one during whose load the device was killed twice is quarantined, and still is."""
        rows = self.ask("GET", "/model/list")[1]["models"]
        return {row["modelId"] for row in rows if row["state"] in ("installed", "quarantined")}

    def metrics(self) -> dict[str, float]:
        """GET /metrics: values by name and labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ASK_S)
        try:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def settled(self) -> Any:
        """Its status when nothing is under way."""
        for _ in range(TURNS):
            status = self.status()
            if status["status"] in ("ready", "no_model", "error"):
                return status
            time.sleep(TURN_S)
        raise AssertionError(f"it does not come to rest: {status}")

    def says(self, event: str) -> bool:
        """Whether its log has an event, from this life or another in the folder."""
        return f'"event": "{event}"' in self.log.read_text(encoding="utf-8")

    def until_it_says(self, event: str) -> None:
        """Until its log has an event."""
        for _ in range(TURNS):
            if self.says(event):
                return
            time.sleep(TURN_S)
        raise AssertionError(f"it does not say {event!r}: {self.log.read_text(encoding='utf-8')[-3000:]}")

    def kill(self) -> None:
        """Kill -9 it alone; what it has begun ends by itself."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(30)

    def tell(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end."""
        self._process.send_signal(number)

    def ended(self) -> int:
        """Its exit code, when it has one."""
        return self._process.wait(60)

    def terminate(self) -> int:
        """Ask it to end; its exit code."""
        self.tell()
        return self.ended()


def running() -> Iterator[tuple[int, int]]:
    """The processes of this machine that have not ended, each with its parent."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                yield int(folder.name), int(parent)
