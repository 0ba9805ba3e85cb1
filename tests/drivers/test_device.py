"""A device as its user has it: a process with real llama.cpp, that is asked, told to end, and killed."""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import msgspec
import pytest

from edgecoder.cli import app
from edgecoder.journal.replay import replay
from edgecoder_drivers.demo import tiny_gguf
from tests.drivers.device_process import DeviceProcess, make_models

KILLS = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_models(tmp_path, 3)
    return tmp_path


def test_models_are_imported_swapped_and_asked_and_the_last_one_survives_a_restart(folder: Path) -> None:
    journal = folder / "life.journal"
    with DeviceProcess(folder, "--journal", str(journal)) as device:
        assert device.import_model(0) == (200, {"model": "tiny-0", "status": "installed"})
        assert device.import_model(1)[0] == 200
        assert device.swap(0)[1]["active"] == "tiny-0"
        status, swapped = device.swap(1)
        assert (status, swapped["previous"], swapped["active"]) == (200, "tiny-0", "tiny-1")
        status, answered = device.ask("POST", "/task", {"prompt": "def add", "maxTokens": 8})
        assert (status, answered["model"]) == (200, "tiny-1")
        assert 0 < answered["tokens"] <= 8
        os.mkfifo(folder / "pipe")
        for path in ("/nowhere", str(folder), "a\0b", "a" * 4000, str(folder / "pipe"), "/dev/zero"):
            assert device.ask("POST", "/model/import", {"path": path})[0] == 400, path
        (folder / "sparse").touch()
        os.truncate(folder / "sparse", 1 << 40)
        status, problem = device.ask("POST", "/model/import", {"path": str(folder / "sparse")})
        assert (status, problem["code"]) == (404, "unknown_model")
        assert device.terminate() == 0
    (life,) = replay(journal)
    assert life.difference is None
    with DeviceProcess(folder) as device:
        assert device.settled()["model"] == "tiny-1"
        assert device.verified() == {"tiny-0", "tiny-1"}


@pytest.mark.parametrize("damage", [b"", b"garbage", b"GGUF" + b"\xff" * 2000])
def test_what_is_no_model_is_not_loaded_and_the_old_one_serves_on(folder: Path, damage: bytes) -> None:
    """Its digest is right: the catalog itself names a broken file."""
    broken = folder / "tiny-2.gguf"
    content = broken.read_bytes()
    broken.write_bytes(damage or content[: len(content) // 2])
    entry = tiny_gguf.entry_of(broken, "tiny-2")
    _replace_in_catalog(folder, entry)
    with DeviceProcess(folder) as device:
        device.import_model(0)
        device.swap(0)
        assert device.import_model(2)[0] == 200
        status, problem = device.swap(2)
        assert (status, problem["code"]) == (500, "load_failed")
        shown = device.status()
        assert (shown["model"], shown["status"], shown["reason"]) == ("tiny-0", "ready", "load_failed")
        assert device.ask("POST", "/task", {"prompt": "def", "maxTokens": 4})[0] == 200


def test_a_file_that_is_not_what_it_was_is_not_loaded_until_it_came_again(folder: Path) -> None:
    """In the life in which it happens and in the next one."""
    with DeviceProcess(folder) as device:
        for number in (0, 1):
            device.import_model(number)
        link = folder / "data" / "Models" / "tiny-0.gguf"
        link.chmod(0o644)
        with link.open("r+b") as file:
            file.seek(-100, 2)
            file.write(bytes(100))
        status, problem = device.swap(0)
        assert (status, problem["code"]) == (502, "checksum_mismatch")
        assert device.verified() == {"tiny-1"}
        assert device.import_model(0)[0] == 200
        assert device.swap(0)[0] == 200
        link.resolve().unlink()
        assert device.swap(1)[0] == 200
        status, problem = device.swap(0)
        assert (status, problem["code"]) == (404, "not_installed")
        assert device.import_model(0)[0] == 200
        assert device.swap(0)[0] == 200
        link.chmod(0o644)
        with link.open("r+b") as file:
            file.write(b"gguf")
        device.terminate()
    with DeviceProcess(folder) as device:
        assert device.settled()["model"] is None
        assert device.verified() == {"tiny-1"}


def _replace_in_catalog(folder: Path, entry: object) -> None:
    catalog = msgspec.json.decode((folder / "catalog.json").read_bytes())
    catalog[2] = msgspec.to_builtins(entry)
    (folder / "catalog.json").write_bytes(msgspec.json.encode(catalog))


def test_killed_at_random_moments_it_never_has_a_wrong_model_and_loses_nothing_that_it_acknowledged(
    folder: Path,
) -> None:
    """What it has answered to is there in the next life: installed models, and the one that is active."""
    rng = random.Random(20)
    installed: set[str] = set()
    active: set[str | None] = {None}
    """What may be active: what was acknowledged last, and what was asked for since."""
    for number in range(KILLS):
        with DeviceProcess(folder) as device:
            shown = device.settled()
            assert shown["model"] in active, (number, shown)
            assert device.verified() >= installed
            active = {shown["model"]}
            work = threading.Thread(target=_work, args=(device, rng.randrange(1 << 30), installed, active))
            work.start()
            time.sleep(rng.uniform(0, 1.0))
            device.kill()
            work.join(60)


def _work(device: DeviceProcess, rng_seed: int, installed: set[str], active: set[str | None]) -> None:
    """Import and swap until the device is gone."""
    rng = random.Random(rng_seed)
    with suppress(OSError, HTTPException):
        while True:
            number = rng.randrange(3)
            name = f"tiny-{number}"
            if name not in installed:
                if device.import_model(number)[0] == 200:
                    installed.add(name)
                continue
            active.add(name)
            status, _ = device.swap(number)
            if status == 200:
                active.clear()
                active.add(name)


def test_options_that_make_no_sense_are_told(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    base = ["device", "--data", str(folder / "data"), "--catalog", str(folder / "catalog.json")]
    cases: list[tuple[list[str], str]] = [
        (["--host", "0.0.0.0"], "can be reached by others, and there is no token"),
        (["--token-file", str(folder / "none")], "no token"),
        (["--log", "loud"], "'loud' is not one of 'debug', 'info', 'warning', 'error'"),
        (["--tls-key", str(folder / "key.pem")], "certificate and key come together"),
        (["--data", str(folder / "catalog.json")], "no folder"),
        (["--journal", str(folder / "catalog.json" / "life")], "no folder"),
        (["--cdn", "nonsense"], "'nonsense' is no address"),
        (["--host", "no such host"], "'no such host' is none"),
        (["--set", "node.slots=many"], "node.slots"),
        (["--catalog", str(folder / "none.yaml")], "there is no such file"),
    ]
    for more, problem in cases:
        assert app.run([*base, *more]) == 2, more
        assert problem in capfd.readouterr().err


def test_two_devices_do_not_share_a_store(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with DeviceProcess(folder):
        data = ["--data", str(folder / "data"), "--catalog", str(folder / "catalog.json")]
        assert app.run(["device", *data, "--port", "0"]) == 2
        assert "another process has this store" in capfd.readouterr().err
