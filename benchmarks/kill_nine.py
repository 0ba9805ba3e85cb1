"""Is anything lost or wrong when a device is killed? `kill -9` at random moments of imports, swaps, removals and pulls.

A device is a process with real llama.cpp, a store on this disk and three tiny models. Each life is asked to install,
remove and swap, one request after the other, and is killed after a random time; the next one is asked what it has. Then

- `unverified_active`: lives whose active model's file does not have the SHA-256 that its name says,
- `wrong_model`: lives that came up with another model than the one acknowledged last, or asked for since,
- `lost_acknowledged`: models whose import was acknowledged and that are not there,
- `not_up`: lives that did not come up again.

Prints one JSON line. Goal: 200 kills or more, and 0 of each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
import threading
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.drivers.device_process import DeviceProcess, make_models

KILLS = 200
QUICK_KILLS = 20
MODELS = 3
LIFE_S = 1.5
"""The longest that a life lasts after it has come up."""


class Ledger:
    """What a device has acknowledged."""

    def __init__(self) -> None:
        self.installed: set[str] = set()
        self.active: set[str | None] = {None}
        """What may be active: what was acknowledged last, and what was asked for since."""

    def work(self, device: DeviceProcess, rng: random.Random) -> None:
        """Ask for one thing after the other until the device is gone."""
        with suppress(OSError, HTTPException):
            while True:
                self._ask(device, rng, rng.randrange(MODELS))

    def _ask(self, device: DeviceProcess, rng: random.Random, number: int) -> None:
        name = f"tiny-{number}"
        if name not in self.installed:
            if device.import_model(number)[0] == 200:
                self.installed.add(name)
        elif rng.random() < 0.2 and self.active != {name}:
            self.installed.discard(name)  # it may be gone from now on
            if device.ask("DELETE", f"/model/{name}")[0] != 200:
                self.installed.add(name)
        else:
            self.active.add(name)
            if device.swap(number)[0] == 200:
                self.active = {name}


def kill_again_and_again(folder: Path, kills: int, rng_seed: int) -> dict[str, int]:
    """Lives that are killed; the counts."""
    digests = {entry.model_id: entry.sha256 for entry in make_models(folder, MODELS)}
    rng, ledger = random.Random(rng_seed), Ledger()
    counts = {"kills": 0, "unverified_active": 0, "wrong_model": 0, "lost_acknowledged": 0, "not_up": 0}
    for _ in range(kills):
        device = DeviceProcess(folder)
        try:
            device.wait()
            judge(folder, device, ledger, digests, counts)
            worker = threading.Thread(target=ledger.work, args=(device, random.Random(rng.randrange(1 << 30))))
            worker.start()
            time.sleep(rng.uniform(0, LIFE_S))
            device.kill()
            worker.join()
            counts["kills"] += 1
        except AssertionError:
            counts["not_up"] += 1
        finally:
            device.kill()
    return counts


def judge(folder: Path, device: DeviceProcess, ledger: Ledger, digests: dict[str, str], counts: dict[str, int]) -> None:
    """Compare what a new life says with what the ones before have acknowledged."""
    model: Any = device.settled()["model"]
    counts["wrong_model"] += model not in ledger.active
    counts["lost_acknowledged"] += len(ledger.installed - device.verified())
    if model is not None:
        content = (folder / "data" / "Models" / f"{model}.gguf").read_bytes()
        counts["unverified_active"] += hashlib.sha256(content).hexdigest() != digests[model]
    ledger.active = {model}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_KILLS} kills in place of {KILLS}")
    parser.add_argument("--rng-seed", type=int, default=1)
    arguments = parser.parse_args()
    kills = QUICK_KILLS if arguments.quick else KILLS
    with tempfile.TemporaryDirectory(prefix="kill-nine-") as folder:
        metrics = kill_again_and_again(Path(folder), kills, arguments.rng_seed)
    conditions = {"engine": "llama.cpp", "models": MODELS, "life_s_max": LIFE_S, "rng_seed": arguments.rng_seed}
    print(json.dumps({"benchmark": "kill_nine", "metrics": metrics, "conditions": conditions}))


if __name__ == "__main__":
    main()
