"""How a device ends: told by a signal it drains, told twice it does not, and killed it leaves nothing behind."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgecoder.journal.replay import replay
from tests.drivers.device_process import DeviceProcess, make_models, running

SOON = 1_000
"""Tokens of an answer that ends in a second or so."""
LATE = 20_000
"""Tokens of one that would take many."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With models whose answers have as many tokens as they may."""
    make_models(tmp_path, 2, "micro", endless=True)
    return tmp_path


def serve(device: DeviceProcess) -> None:
    for number in (0, 1):
        assert device.import_model(number)[0] == 200
    assert device.swap(0)[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_running_task_end(folder: Path, number: signal.Signals) -> None:
    journal = folder / "life.journal"
    with DeviceProcess(folder, "--journal", str(journal)) as device:
        serve(device)
        task = device.stream(SOON)
        device.tell(number)
        device.until_it_says("draining")
        assert device.ended() == 0
        assert task.ended()[-1] == "done"
        assert device.says("down")
    (life,) = replay(journal)
    assert life.difference is life.end is None


def test_the_drain_has_a_deadline(folder: Path) -> None:
    with DeviceProcess(folder, "--set", "node.drain_ms=300") as device:
        serve(device)
        task = device.stream(LATE)
        assert device.terminate() == 0
        assert task.ended()[-1] == "failed"


def test_told_twice_it_ends_at_once_and_in_order(folder: Path) -> None:
    journal = folder / "life.journal"
    with DeviceProcess(folder, "--journal", str(journal)) as device:
        serve(device)
        task = device.stream(LATE)
        (engine,) = device.engines()
        device.tell()
        device.until_it_says("draining")
        device.tell()
        assert device.ended() == 0
        assert task.ended()[-1] != "done"
        assert device.says("down")
        assert engine not in dict(running())
    (life,) = replay(journal)
    assert life.difference is life.end is None


def test_a_swap_that_waits_for_a_task_does_not_keep_the_node_from_ending(folder: Path) -> None:
    answers: list[Any] = []
    with DeviceProcess(folder) as device:
        serve(device)
        task = device.stream(SOON)
        swap = threading.Thread(target=lambda: answers.append(device.swap(1)))
        swap.start()
        while device.status()["status"] != "loading":
            time.sleep(0.01)
        assert device.terminate() == 0
        swap.join()
        assert task.ended()[-1] == "done"
        assert [status for status, _ in answers] in ([200], [503])
    with DeviceProcess(folder) as device:
        assert device.settled()["model"] == ("tiny-1" if answers[0][0] == 200 else "tiny-0")


class SlowCdn:
    """Has a file, and gives half of it until it may give the rest."""

    def __init__(self, path: Path) -> None:
        content, self.gate, self.is_half = path.read_bytes(), threading.Event(), threading.Event()
        cdn = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
                begin, end, half = int(first), int(last or len(content) - 1) + 1, len(content) // 2
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
                self.send_header("Content-Length", str(end - begin))
                self.send_header("ETag", '"1"')
                self.end_headers()
                self.wfile.write(content[begin : min(end, half)])
                cdn.is_half.set()
                cdn.gate.wait()
                self.wfile.write(content[max(begin, half) : end])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/model.gguf"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def cdn(folder: Path) -> Iterator[SlowCdn]:
    """A CDN that has `tiny-0`."""
    slow, path = SlowCdn(folder / "tiny-0.gguf"), folder / "catalog.json"
    catalog = msgspec.json.decode(path.read_bytes())
    catalog[0]["downloadUrls"] = [slow.url]
    path.write_bytes(msgspec.json.encode(catalog))
    yield slow
    slow.gate.set()
    slow.server.shutdown()
    slow.server.server_close()


def test_a_pull_under_way_ends_with_the_node_and_goes_on_in_the_next_life(folder: Path, cdn: SlowCdn) -> None:
    with DeviceProcess(folder) as device:
        assert device.ask("POST", "/model/pull", {"model": "tiny-0", "wait": False})[0] == 202
        assert cdn.is_half.wait(60)
        assert device.terminate() == 0
    cdn.gate.set()
    with DeviceProcess(folder) as device:
        while "tiny-0" not in device.verified():
            time.sleep(0.02)
        assert device.swap(0)[0] == 200


def test_killed_in_a_task_it_leaves_no_process_and_a_sound_journal(folder: Path) -> None:
    journal = folder / "life.journal"
    with DeviceProcess(folder, "--journal", str(journal)) as device:
        serve(device)
        task = device.stream(LATE)
        (engine,) = device.engines()
        device.kill()
        assert task.ended()[-1] != "done"
        while engine in dict(running()):
            time.sleep(0.01)
    (life,) = replay(journal)
    assert life.difference is life.end is None


def test_killed_in_a_load_it_leaves_no_process(folder: Path) -> None:
    with DeviceProcess(folder) as device:
        assert device.import_model(0)[0] == 200
        assert device.ask("POST", "/model/swap", {"model": "tiny-0", "wait": False})[0] == 202
        while not (engines := device.engines()):
            pass
        device.kill()
        while set(engines) & dict(running()).keys():
            time.sleep(0.01)


def test_what_is_left_of_a_killed_load_goes_with_the_next_life(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = folder / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    others = temporary / "edgecoder-of-another"
    others.mkdir()
    with DeviceProcess(folder) as device:
        assert device.import_model(0)[0] == 200
        assert device.ask("POST", "/model/swap", {"model": "tiny-0", "wait": False})[0] == 202
        while not device.engines():
            pass
        device.kill()
    assert len(list(temporary.iterdir())) == 2
    with DeviceProcess(folder) as device:
        device.settled()
        assert list(temporary.iterdir()) == [others]
