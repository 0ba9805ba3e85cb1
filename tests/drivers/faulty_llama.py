"""A library in the place of llama.cpp that fails as it is told to: in a load by the file's name, in a task by the
prompt. What is no fault it does well."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgecoder_drivers.llamacpp.port import BATCH_TOKENS, Model, OnPart, Settings

LONG_S = 600
SLOWLY_S = 3
"""What a batch of a prompt takes."""
WORD_S = 0.1
CROWD = 150
"""Tasks that are answered at once or not at all."""
MIB = 1 << 20
TAKEN_MAX_MIB = 8192


def log(line: str) -> None:
    os.write(sys.stderr.fileno(), f"{line}\n".encode())


def take_memory() -> None:
    """Take and use memory until there is no more; not so much that the machine feels it."""
    taken = [bytearray(64 * MIB) for _ in range(TAKEN_MAX_MIB // 64)]
    raise AssertionError(f"{len(taken)} times 64 MiB were there")


def abort_for_memory() -> None:
    log("terminate called after throwing an instance of 'std::bad_alloc'")
    os.abort()


def fail_for_memory() -> None:
    log("E ggml_backend_cpu: failed to allocate buffer of size 1000")
    raise RuntimeError("no context")


def fail() -> None:
    log("E a tensor is missing")
    raise RuntimeError("it does not load")


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(LONG_S)  # it takes a moment


def say_nonsense() -> None:
    """To the parent, where a message should be."""
    for number in range(3, 20):
        try:
            os.write(number, b"\x00\x00\x00\x01\xc1")
        except OSError:
            continue


_CROWD = threading.Barrier(CROWD, timeout=LONG_S)


def end_all() -> None:
    """What a system does that stops a service."""
    os.kill(os.getpid(), signal.SIGTERM)


def fork() -> None:
    """Leave somebody behind who holds what this process speaks with, in its group."""
    if os.fork() == 0:
        time.sleep(LONG_S)
        os._exit(0)


def fork_and(fault: Callable[[], object]) -> Callable[[], None]:
    def both() -> None:
        fork()
        fault()

    return both


FAULTS: dict[str, Callable[[], object]] = {
    "hangs": lambda: time.sleep(LONG_S),
    "stops": stop,
    "aborts": os.abort,
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exits": lambda: os._exit(3),
    "takes memory": take_memory,
    "aborts for memory": abort_for_memory,
    "fails for memory": fail_for_memory,
    "mentions memory": lambda: log("W failed to allocate what is not needed"),
    "fails": fail,
    "is told to end": end_all,
    "leaves": sys.exit,
    "forks and fails": fork_and(fail),
    "forks and hangs": fork_and(lambda: time.sleep(LONG_S)),
    "forks and aborts": fork_and(os.abort),
    "waits for a crowd": _CROWD.wait,
    "says nonsense": say_nonsense,
    "prints": lambda: os.write(sys.stdout.fileno(), b"what a library prints is no message"),
}


class FaultyModel:
    """Writes words, and a fault where the prompt names one."""

    def __init__(self, slots: int, token_s: float) -> None:
        self.slots = slots
        self._token_s = token_s

    def answer(self, prompt: str, max_tokens: int, on_part: OnPart) -> None:
        for _ in range(30 if prompt == "is read in many batches" else 0):
            time.sleep(WORD_S)
            on_part("", 0)
        time.sleep(SLOWLY_S * {"is read slowly": 1.0, "is read after it": 0.8}.get(prompt, 0))
        on_part("word ", 1)
        FAULTS.get(prompt, int)()
        for _ in range(max_tokens - 1):
            if prompt == "is written slowly":
                time.sleep(WORD_S)
            if not on_part("word ", 1):
                return

    def warm_up(self, tokens: int, on_part: OnPart) -> None:
        for _ in range(tokens):
            time.sleep(self._token_s)
            if not on_part("word ", 1):
                return


def load(path: Path, settings: Settings) -> Model:
    """See `port.Library`. Files beside the model say who loads it, and with what folder."""
    path = path.resolve()
    path.with_suffix(".pid").write_text(str(os.getpid()), encoding="ascii")
    path.with_suffix(".folder").write_text(str(settings.folder), encoding="utf-8")
    (settings.folder / "left").touch()
    FAULTS.get(path.stem, int)()
    return FaultyModel(settings.slots, token_s=SLOWLY_S / BATCH_TOKENS if path.stem == "slow" else 0)
