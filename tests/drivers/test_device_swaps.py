"""Swaps on a whole device, with real llama.cpp: beside tasks, many at once, and those that fail."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.drivers.device_process import DeviceProcess, make_models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With models whose answers have as many tokens as they may."""
    make_models(tmp_path, 3, "micro", endless=True)
    return tmp_path


def serve(device: DeviceProcess, count: int = 2) -> None:
    for number in range(count):
        assert device.import_model(number)[0] == 200
    assert device.swap(0)[0] == 200


@pytest.mark.parametrize(("max_tokens", "drain_ms", "end"), [(1_000, 30_000, "done"), (20_000, 300, "failed")])
def test_a_swap_waits_for_the_last_token_of_a_streamed_task_or_the_drain_deadline(
    folder: Path, max_tokens: int, drain_ms: int, end: str
) -> None:
    with DeviceProcess(folder, "--set", f"node.drain_ms={drain_ms}") as device:
        serve(device)
        task = device.stream(max_tokens)
        status, swapped = device.swap(1)
        assert (status, swapped["active"]) == (200, "tiny-1")
        events = task.ended()
        assert events[-1] == end
        assert end == "failed" or events.count("part") > max_tokens // 2, "parts may hold some tokens"


def test_64_swaps_at_once_end_each_with_an_answer_and_with_one_engine_at_a_time(folder: Path) -> None:
    answers: list[tuple[int, tuple[int, Any]]] = []
    with DeviceProcess(folder) as device:
        serve(device, 3)
        threads = [
            threading.Thread(target=lambda number=number: answers.append((number % 3, device.swap(number % 3))))
            for number in range(64)
        ]
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, len(device.engines()))
        assert len(answers) == 64
        assert most == 1
        for number, (status, told) in answers:
            assert (status, told.get("active")) == (200, f"tiny-{number}") or told["code"] == "superseded"
        won = {told["active"] for _, (status, told) in answers if status == 200}
        assert device.settled()["model"] in won


def test_a_model_that_is_too_big_is_refused_with_its_reason_in_the_status(folder: Path) -> None:
    catalog = msgspec.json.decode((folder / "catalog.json").read_bytes())
    catalog[1]["minMemoryMb"] = 1_000_000
    (folder / "catalog.json").write_bytes(msgspec.json.encode(catalog))
    with DeviceProcess(folder) as device:
        serve(device)
        status, problem = device.swap(1)
        assert (status, problem["code"]) == (422, "insufficient_memory")
        shown = device.status()
        assert (shown["model"], shown["status"], shown["reason"]) == ("tiny-0", "ready", "insufficient_memory")
        assert device.ask("POST", "/task", {"prompt": "def", "maxTokens": 4})[0] == 200


def test_an_engine_that_is_killed_in_a_load_leaves_the_old_model_serving_and_its_reason(folder: Path) -> None:
    answers: list[tuple[int, Any]] = []
    with DeviceProcess(folder) as device:
        serve(device)
        old = set(device.engines())
        swap = threading.Thread(target=lambda: answers.append(device.swap(1)))
        swap.start()
        while not (loading := set(device.engines()) - old):
            pass
        os.kill(loading.pop(), signal.SIGKILL)
        swap.join()
        ((status, problem),) = answers
        assert (status, problem["code"]) == (500, "engine_crashed")
        shown = device.settled()
        assert (shown["model"], shown["status"], shown["reason"]) == ("tiny-0", "ready", "engine_crashed")
        assert device.ask("POST", "/task", {"prompt": "def", "maxTokens": 4})[0] == 200
