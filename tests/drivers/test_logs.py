"""What an agent writes to its error stream that is no terminal: one JSON object a line, whoever wrote it."""

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path

import pytest

from edgecoder_drivers.commands.serving import configure_logs
from tests.drivers.device_process import DeviceProcess, make_models


def test_what_libraries_log_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info")
    configure_logs("info")
    logging.getLogger("asyncio").error("it failed\n", exc_info=ValueError("a bug"))
    logging.getLogger("uvicorn.error").info("of no use")
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["event"], line["logger"], line["level"]) == ("it failed", "asyncio", "error")
    assert line["exception"].endswith("ValueError: a bug")


def test_a_device_writes_nothing_else(tmp_path: Path) -> None:
    make_models(tmp_path, 1)
    with DeviceProcess(tmp_path) as device:
        for sent in (b"no HTTP\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", device.port), 20) as asking:
                asking.sendall(sent)
                assert asking.recv(65_536).startswith(b"HTTP/1.1 400")
        assert device.terminate() == 0
    lines = [json.loads(line) for line in device.log.read_text(encoding="utf-8").splitlines()]
    (up,) = [line for line in lines if line["event"] == "up"]
    assert up["url"] == f"http://127.0.0.1:{device.port}"
    assert lines[-1]["event"] == "down"
