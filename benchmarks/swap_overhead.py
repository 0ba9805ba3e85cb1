"""What a swap through the agent costs over the engine alone, and whether it cuts anybody off.

Two models of 127 MB are swapped back and forth, on the engine itself (unload, then load) and through the control port
of a device in a process of its own, in turns, so that a noisy machine is noisy for both. `ratio_100mb` is the median of
the device's times ÷ the median of the engine's. Then swaps go on while somebody has answers streamed: `killed_requests`
are answers that began and did not end well.

Prints one JSON line. Goal: 1.05 or less, and 0.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import logging
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import structlog

from edgecoder.config import NodeConfig
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.llamacpp.engine import LlamaEngine, VerifiedFile
from tests.drivers.device_process import DeviceProcess, make_models

SWAPS = 20
QUICK_SWAPS = 6
STREAMED_SWAPS = 10
CONTEXT_TOKENS = NodeConfig().context_tokens


class Bare:
    """The engine alone, with the same files."""

    def __init__(self, folder: Path, entries: list[CatalogEntry]) -> None:
        self._entries = entries
        paths = {entry.sha256: folder / f"{entry.model_id}.gguf" for entry in entries}

        def find(entry: CatalogEntry) -> VerifiedFile:
            return VerifiedFile(paths[entry.sha256])

        self._engine = LlamaEngine(find, NodeConfig(), threads=1)
        self._engine.watch(lambda reason: None)

    async def start(self) -> None:
        """Load the first one."""
        await self._engine.load(self._entries[0], CONTEXT_TOKENS)

    async def swap(self, number: int) -> float:
        """Seconds to free one model and load the other."""
        began = time.perf_counter()
        await self._engine.unload()
        await self._engine.load(self._entries[number], CONTEXT_TOKENS)
        return time.perf_counter() - began

    async def close(self) -> None:
        """Let go."""
        await self._engine.close()


def swap_through(device: DeviceProcess, number: int) -> float:
    """Seconds that a swap takes through the control port."""
    began = time.perf_counter()
    status, _ = device.swap(number)
    if status != 200:
        raise RuntimeError(f"a swap failed: {status}")
    return time.perf_counter() - began


async def compare(folder: Path, entries: list[CatalogEntry], device: DeviceProcess, swaps: int) -> float:
    """The ratio of the medians."""
    bare = Bare(folder, entries)
    await bare.start()
    alone, through = [], []
    for turn in range(swaps):
        alone.append(await bare.swap(1 - turn % 2))
        through.append(await asyncio.to_thread(swap_through, device, 1 - turn % 2))
    await bare.close()
    return statistics.median(through) / statistics.median(alone)


def stream(device: DeviceProcess, ended: threading.Event, counts: dict[str, int]) -> None:
    """Have answers streamed until it is enough; one that is refused before it begins is nobody's loss."""
    body = json.dumps({"prompt": "def add", "maxTokens": 64, "stream": True})
    while not ended.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", device.port, timeout=60)
        connection.request("POST", "/task", body, {"Content-Type": "application/json"})
        text = connection.getresponse().read().decode()
        connection.close()
        if "event: part" in text:
            counts["streamed"] += 1
            counts["killed"] += "event: done" not in text


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SWAPS} swaps in place of {SWAPS}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    swaps = QUICK_SWAPS if parser.parse_args().quick else SWAPS
    counts = {"streamed": 0, "killed": 0}
    with tempfile.TemporaryDirectory(prefix="swap-overhead-") as name:
        folder = Path(name)
        entries = make_models(folder, 2, "big", "F32")
        with DeviceProcess(folder) as device:
            for number in range(2):
                device.import_model(number)
            device.swap(0)
            ratio = asyncio.run(compare(folder, entries, device, swaps))
            ended = threading.Event()
            user = threading.Thread(target=stream, args=(device, ended, counts))
            user.start()
            for turn in range(STREAMED_SWAPS):
                swap_through(device, turn % 2)
            ended.set()
            user.join()
    size_mb = entries[0].file_size_bytes / 1e6
    metrics = {"ratio_100mb": round(ratio, 3), "killed_requests": counts["killed"], "streamed": counts["streamed"]}
    conditions = {"engine": "llama.cpp", "model_mb": round(size_mb), "swaps": swaps, "threads": 1}
    print(json.dumps({"benchmark": "swap_overhead", "metrics": metrics, "conditions": conditions}))


if __name__ == "__main__":
    main()
