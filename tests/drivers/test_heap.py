"""One heap for all threads of a node's process."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys

import pytest

from edgecoder_drivers import heap

SCRIPT = """
import ctypes, sys, threading
from edgecoder_drivers.heap import share_one_heap

if sys.argv[1] == "shared":
    print(share_one_heap())
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
together = threading.Barrier(4)

def take():
    together.wait()
    library.malloc(100_000)
    together.wait()

threads = [threading.Thread(target=take) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.stdout.flush()
library.malloc_info(0, ctypes.c_void_p.in_dll(library, "stdout"))
library.fflush(None)
"""


def said(word: str, **environ: str) -> str:
    """By a process with four threads."""
    kept = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", SCRIPT, word]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**kept, **environ}).stdout


def test_threads_of_glibc_share_one_heap() -> None:
    if platform.libc_ver()[0] != "glibc":
        assert not heap.share_one_heap()
        return
    told = said("shared")
    assert told.startswith("True")
    assert len(re.findall("<heap nr=", told)) == 1
    assert len(re.findall("<heap nr=", said("each its own"))) > 1  # else this test says nothing


def test_what_the_user_says_stands() -> None:
    assert said("shared", MALLOC_ARENA_MAX="3").startswith("False")


def test_another_library_has_no_such_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not heap.share_one_heap()
