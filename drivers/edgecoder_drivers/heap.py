"""One heap for all threads of a process, where glibc would give each of them its own.

What one heap has freed the others do not use, and a piece of a file is freed by another thread than the next one is
made by: a device that fetched and removed a few hundred models climbed from 51 MiB to between 57 and 66, with one
heap to 54.
Threads of Python have little to wait for at it, since they hold the interpreter's lock where they make objects.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

_M_ARENA_MAX: Final = -8
"""malloc.h of glibc; see mallopt(3)."""


def share_one_heap() -> bool:
    """To be called before there are threads; whether it is so now. Leaves what MALLOC_ARENA_MAX says, and systems
    with another allocator."""
    if os.name != "posix" or "MALLOC_ARENA_MAX" in os.environ:
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_M_ARENA_MAX, 1))
