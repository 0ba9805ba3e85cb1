"""What the system says of processes, from outside: memory, files, threads, children. Linux alone has /proc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MIB = 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")


class Use(NamedTuple):
    """What a process uses."""

    private_mib: float
    """Memory that nobody shares: what is free again when it ends. PSS also changes with what others do."""
    pss_mib: float
    files: int
    threads: int
    cpu_s: float


def use_of(pid: int) -> Use | None:
    """None: it is gone."""
    folder = Path(f"/proc/{pid}")
    try:
        rows = dict(
            line.split(":", 1) for line in (folder / "smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        )
        files = len(os.listdir(folder / "fd"))  # noqa: PTH208 - it is no folder
        stat = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    if not rows:
        return None
    kib = {name: int(row.split()[0]) for name, row in rows.items()}
    private = (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024
    return Use(private, kib["Pss"] / 1024, files, int(stat[17]), (int(stat[11]) + int(stat[12])) / TICKS)


def children_of(pid: int) -> list[int]:
    """The processes that one has begun, and that have not ended."""
    found = []
    for task in _tasks(pid):
        with contextlib.suppress(OSError):
            found += [int(word) for word in (task / "children").read_text(encoding="ascii").split()]
    return [child for child in found if is_running(child)]


def _tasks(pid: int) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from Path(f"/proc/{pid}/task").iterdir()


def is_running(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
