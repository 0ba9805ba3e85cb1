"""How much memory is free now, and a bound on what this process may take of it.

Linux says both; where a system does not, nothing is known and nothing is bound.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SLACK_BYTES: Final = 1 << 29
"""What threads of llama.cpp's own keep for their stacks and heaps beside all that a model was judged to take."""
_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")


def available_bytes(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Bytes that can be taken without swapping: of the machine, and of each control group that this process is in."""
    found = [*_of_machine(proc), *_of_groups(proc, cgroups)]
    return min(found, default=None)


def _of_machine(proc: Path) -> Iterator[int]:
    for line in _lines(proc / "meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) << 10


def _of_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    """What version 2 of control groups leaves, from the own group up to the root."""
    for line in _lines(proc / "self" / "cgroup"):
        if not line.startswith("0::/"):
            continue
        group = cgroups / line[4:]
        for folder in (group, *group.parents):
            limit, used = _lines(folder / "memory.max"), _lines(folder / "memory.current")
            if limit and used and limit[0] != "max":
                cached = sum(
                    int(entry.split()[1])
                    for entry in _lines(folder / "memory.stat")
                    if entry.startswith("inactive_file ")
                )
                yield max(0, int(limit[0]) - int(used[0]) + cached)
            if folder == cgroups:
                break


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def limit_memory(more_bytes: int) -> None:
    """Let this process take so many bytes more, and no more. Mapped files do not count: the system can drop them."""
    if sys.platform != "linux":
        return
    import resource  # noqa: PLC0415 - Windows has none

    data_pages = int(_lines(_PROC / "self" / "statm")[0].split()[5])
    limit = data_pages * resource.getpagesize() + more_bytes
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def kills_for_memory(proc: Path = _PROC) -> int:
    """How often the system has killed a process for want of memory, since it started; 0 where it does not say."""
    counts = [line.split()[1] for line in _lines(proc / "vmstat") if line.startswith("oom_kill ")]
    return int(counts[0]) if counts else 0
