"""Whether llama.cpp runs on this machine, and how much memory there is for it. `edgecoder doctor` asks."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from edgecoder.health import Check
from edgecoder_drivers.llamacpp.memory import available_bytes
from edgecoder_drivers.llamacpp.port import installed_library
from edgecoder_drivers.llamacpp.process import command

SCOPE: Final = "llama"
START_S: Final = 60
MEMORY_MIN_MB: Final = 700
"""A model of half a billion parameters at 4 bits with a context of 4096 tokens takes so much."""
MIB: Final = 1 << 20


def checks() -> list[Check]:
    """The checks of this part."""
    return [check_library(installed_library()), check_memory(available_bytes())]


def check_library(library: str) -> Check:
    """Whether a process starts with a library: a wheel may be for another processor than this one."""
    try:
        ran = subprocess.run(command(library), input=b"", capture_output=True, timeout=START_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        failed = f"does not start in {START_S} s"
    else:
        said = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        failed = f"ends with {ran.returncode}: {said}" if ran.returncode else ""
    hint = f"build it for this machine: {sys.executable} -m pip install 'edgecoder[llama-source]'" if failed else ""
    name = library.rpartition(".")[2].removeprefix("with_")
    return Check(SCOPE, "library", not failed, f"{name} {failed or 'starts'}", hint)


def check_memory(free: int | None) -> Check:
    """Whether a small model has room."""
    if free is None:
        return Check(SCOPE, "memory", ok=True, detail="this system does not say what is free")
    ok = free >= MEMORY_MIN_MB * MIB
    detail = f"{free // MIB} MB free (a small model needs {MEMORY_MIN_MB})"
    return Check(SCOPE, "memory", ok, detail, "" if ok else "close other programs")
