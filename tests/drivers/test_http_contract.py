"""The contract says what the port does: requests that are drawn from it, right and wrong, are answered as it tells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import structlog

from edgecoder.cli import app
from tests.drivers.test_model_commands import Running

EXAMPLES = 20
CONFIGURATION = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 502, 503, 504, 507]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 413, 415, 421, 422, 431]
positive_data_acceptance.expected-statuses = ["2xx", 404, 409, 413, 422, 503, 504]

[cache]
enabled = false
"""
"""503 and 504 are what a node says that has nobody for a task, or not in time; 500 is a bug."""


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    running = Running(tmp_path, deadline_ms_max=200)
    url = f"http://127.0.0.1:{running.control.port}"
    try:
        assert app.run(["model", "swap", "small", "--url", url]) == 0
        with structlog.testing.capture_logs() as logs:
            ran = subprocess.run(
                [str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(configuration), "run",
                 f"{url}/openapi.json",
                 "--max-examples", str(EXAMPLES), "--seed", "1", "--generation-deterministic", "--no-color",
                 "--request-timeout", "30", "--suppress-health-check", "all"],
                check=False, capture_output=True, text=True, cwd=tmp_path, timeout=500,
            )  # fmt: skip
    finally:
        running.stop()
    assert ran.returncode == 0, "\n".join(line[:300] for line in ran.stdout.splitlines())
    assert [entry for entry in logs if entry["event"] == "request failed"] == []
