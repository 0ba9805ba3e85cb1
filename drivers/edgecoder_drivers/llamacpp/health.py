"""Whether llama.cpp runs on this machine, and how much memory there is for it. `edgecoder doctor` asks."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from edgecoder.health import Check
from edgecoder_drivers.llamacpp.memory import available_bytes
from edgecoder_drivers.llamacpp.port import LIBRARIES, installed_libraries, installed_library
from edgecoder_drivers.llamacpp.process import command

SCOPE: Final = "llama"
START_S: Final = 60
MEMORY_MIN_MB: Final = 700
"""A model of half a billion parameters at 4 bits with a context of 4096 tokens takes so much."""
MIB: Final = 1 << 20


def checks() -> list[Check]:
    """The checks of this part."""
    return [check_library(installed_library(), installed_libraries()), check_memory(available_bytes())]


def check_library(library: str, installed: list[str]) -> Check:
    """Whether a process starts with the library that is used: a wheel may be for another processor than this one."""
    try:
        ran = subprocess.run(command(library), input=b"", capture_output=True, timeout=START_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        failed = f"does not start in {START_S} s"
    else:
        said = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        failed = f"ends with {ran.returncode}: {said}" if ran.returncode else ""
    unused = [_name(other) for other in installed if other != library]
    beside = f", and is used in place of {', '.join(unused)}" if unused else ""
    hint = _hint(library, is_last=not unused) if failed else ""
    return Check(SCOPE, "library", not failed, f"{_name(library)} {failed or 'starts'}{beside}", hint)


def _name(library: str) -> str:
    return library.rpartition(".")[2].removeprefix("with_")


def _hint(library: str, *, is_last: bool) -> str:
    """What to do about a library that does not start."""
    pip = f"{sys.executable} -m pip"
    if library != LIBRARIES["llama_cpp"]:
        return f"build it for this machine: {pip} install 'edgecoder[llama-source]', which is used then"
    anew = f"build it anew: {pip} install --force-reinstall --no-cache-dir --no-deps llama-cpp-python"
    return anew if is_last else f"{anew}, or remove it: {pip} uninstall llama-cpp-python"


def check_memory(free: int | None) -> Check:
    """Whether a small model has room."""
    if free is None:
        return Check(SCOPE, "memory", ok=True, detail="this system does not say what is free")
    ok = free >= MEMORY_MIN_MB * MIB
    detail = f"{free // MIB} MB free (a small model needs {MEMORY_MIN_MB})"
    return Check(SCOPE, "memory", ok, detail, "" if ok else "close other programs")
