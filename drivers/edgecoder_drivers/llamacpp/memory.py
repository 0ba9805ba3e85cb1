"""How much memory is free now, and a bound on what this process may take of it.

Linux says both, macOS the first; where a system does not, nothing is known and nothing is bound.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

SLACK_BYTES: Final = 1 << 29
"""What threads of llama.cpp's own keep for their stacks and heaps beside all that a model was judged to take."""
OOM_SCORE: Final = "500"
"""Half of all memory is added to what this process has, when the system looks who has most."""
VM_STAT_S: Final = 10
_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_VM_STAT: Final = "/usr/bin/vm_stat"
LINUX: Final = ("linux", "android")
"""What Python calls systems with Linux's bounds."""


class _Version(NamedTuple):
    """What the files of control groups are called."""

    controllers: str
    """The second column of /proc/self/cgroup, one of several."""
    folder: str
    limit: str
    used: str
    cached: str


_VERSIONS: Final = (
    _Version("", "", "memory.max", "memory.current", "inactive_file"),
    _Version("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_bytes(proc: Path = _PROC, cgroups: Path = _CGROUPS, vm_stat: str = _VM_STAT) -> int | None:
    """Bytes that can be taken without swapping: of the machine, and of each control group that this process is in."""
    found = [*_of_machine(proc), *_of_groups(proc, cgroups), *_of_mac(vm_stat)]
    return min(found, default=None)


def _of_machine(proc: Path) -> Iterator[int]:
    for line in _lines(proc / "meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) << 10


def _of_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    """What control groups leave, from the own group up to the root."""
    for line in _lines(proc / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        for version in _VERSIONS:
            if version.controllers in controllers.split(","):
                yield from _of_group(version, cgroups / version.folder, path.removeprefix("/"))


def _of_group(version: _Version, root: Path, path: str) -> Iterator[int]:
    for folder in (root / path, *(root / path).parents):
        limit, used = _lines(folder / version.limit), _lines(folder / version.used)
        if limit and used and limit[0] != "max":
            entries = [line.split() for line in _lines(folder / "memory.stat")]
            cached = sum(int(entry[1]) for entry in entries if entry[0] == version.cached)
            yield max(0, int(limit[0]) - int(used[0]) + cached)
        if folder == root:
            break


def _of_mac(vm_stat: str) -> Iterator[int]:
    """What macOS says is free, or kept only because nobody wanted it so far."""
    try:
        said = subprocess.run([vm_stat], capture_output=True, timeout=VM_STAT_S, check=True).stdout.decode()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return
    pages = {name: int(count) for name, count in re.findall(r"^Pages (.+?): +(\d+)\.$", said, re.MULTILINE)}
    size = re.search(r"page size of (\d+) bytes", said)
    if size is not None:
        yield int(size[1]) * sum(pages.get(name, 0) for name in ("free", "inactive", "speculative"))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def limit_memory(more_bytes: int) -> None:
    """Let this process take so many bytes more, and no more. Mapped files do not count: the system can drop them."""
    if sys.platform not in LINUX:
        return
    import resource  # noqa: PLC0415 - Windows has none

    data_pages = int(_lines(_PROC / "self" / "statm")[0].split()[5])
    limit = data_pages * resource.getpagesize() + more_bytes
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def die_first_for_memory(proc: Path = _PROC) -> None:
    """Have the system take this process, where it has to take one, and not the device that would load another model."""
    with suppress(OSError):
        (proc / "self" / "oom_score_adj").write_text(OOM_SCORE, encoding="ascii")


def kills_for_memory(proc: Path = _PROC) -> int:
    """How often the system has killed a process for want of memory, since it started; 0 where it does not say."""
    counts = [line.split()[1] for line in _lines(proc / "vmstat") if line.startswith("oom_kill ")]
    return int(counts[0]) if counts else 0
