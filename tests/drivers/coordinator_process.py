"""`edgecoder coordinator` as a process of its own, on loopback."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.drivers.device_process import ASK_S, environ, wait_for_up

COMMAND = (sys.executable, "-m", "edgecoder", "coordinator")
QUICK = (
    "--set", "cluster.heartbeat_interval_ms=500",
    "--set", "cluster.agent_alive_ms=1500",
    "--set", "cluster.summary_interval_ms=500",
    "--set", "node.dial_retry_ms=50",
    "--set", "node.dial_retry_max_ms=500",
)  # fmt: skip
"""Periods that a test can wait for; the same for coordinators and members."""


class CoordinatorProcess:
    """One life of a coordinator."""

    def __init__(self, folder: Path, *more: str, port: int = 0, is_quick: bool = True) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "coordinator.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*COMMAND, "--data", str(folder / "data"), "--port", str(port), *(QUICK if is_quick else ()), *more],
                stdout=log,
                stderr=log,
                env=environ(),
            )
        self.pid = self._process.pid
        self.port = 0
        self.node = ""

    def __enter__(self) -> Self:
        return self.wait()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def wait(self) -> Self:
        """Until it can be asked."""
        said = wait_for_up(self._process, self.log)
        self.port, self.node = said["port"], said["node"]
        return self

    @property
    def address(self) -> str:
        """What a member is told."""
        return f"{self.node}@127.0.0.1:{self.port}"

    def invite(self, *more: str) -> str:
        """A token, by the command for it."""
        command = [
            sys.executable,
            "-m",
            "edgecoder",
            "coordinator",
            "invite",
            "--data",
            str(self.folder / "data"),
            *more,
        ]
        return subprocess.run(command, env=environ(), capture_output=True, text=True, check=True).stdout.strip()

    def ask(self, path: str) -> tuple[int, Any]:
        """A request: status and JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ASK_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def agents(self, model: str) -> int:
        """How many of its own agents it says to have a model active."""
        rows = self.ask(f"/mesh/capabilities?model={model}")[1]["coordinators"]
        mine = [row["modelAvailability"] for row in rows if row["coordinatorId"] == self.node]
        return sum(each["agentCount"] for models in mine for each in models.values())

    def kill(self) -> None:
        """Kill -9."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(30)

    def terminate(self) -> int:
        """Ask it to end; its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)
