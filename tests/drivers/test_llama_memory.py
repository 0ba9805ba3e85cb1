"""How much memory is free, and what a process may take."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgecoder.errors import Reason
from edgecoder_drivers.llamacpp import child
from edgecoder_drivers.llamacpp.header import Header
from edgecoder_drivers.llamacpp.memory import available_bytes, die_first_for_memory, kills_for_memory, limit_memory
from edgecoder_drivers.llamacpp.messages import Load
from edgecoder_drivers.llamacpp.port import OnPart

GIB = 1 << 30
MIB = 1 << 20
UNBOUNDED = (1 << 63) - 4096
"""How version 1 of control groups says that there is no bound."""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """One with 8 GiB free, in whose groups there are bounds."""
    write(tmp_path / "proc/meminfo", f"MemTotal: 16777216 kB\nMemAvailable: {8 * GIB >> 10} kB\n")
    write(tmp_path / "proc/self/cgroup", "1:name=systemd:/old\n0::/user/agent\n")
    return tmp_path


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="ascii")


def group(machine: Path, name: str, limit: str, used: int, cached: int = 0) -> None:
    folder = machine / "cgroup" / name
    write(folder / "memory.max", f"{limit}\n")
    write(folder / "memory.current", f"{used}\n")
    write(folder / "memory.stat", f"anon 7\ninactive_file {cached}\n")


def old_group(machine: Path, name: str, limit: int, used: int, cached: int = 0) -> None:
    """Of version 1."""
    folder = machine / "cgroup/memory" / name
    write(folder / "memory.limit_in_bytes", f"{limit}\n")
    write(folder / "memory.usage_in_bytes", f"{used}\n")
    write(folder / "memory.stat", f"inactive_file 7\ntotal_inactive_file {cached}\n")


def available(machine: Path) -> int | None:
    return available_bytes(machine / "proc", machine / "cgroup", str(machine / "vm_stat"))


def test_without_groups_it_is_what_the_machine_has(machine: Path) -> None:
    assert available(machine) == 8 * GIB


def test_a_group_leaves_less(machine: Path) -> None:
    group(machine, "user/agent", "max", 5 * GIB)
    assert available(machine) == 8 * GIB
    group(machine, "user/agent", str(4 * GIB), 3 * GIB, cached=GIB // 2)
    assert available(machine) == 3 * GIB // 2


def test_the_groups_above_count_too(machine: Path) -> None:
    group(machine, "user/agent", str(4 * GIB), GIB)
    group(machine, "user", str(6 * GIB), 5 * GIB)
    assert available(machine) == GIB
    group(machine, "user", str(6 * GIB), 7 * GIB)
    assert available(machine) == 0


def test_groups_of_old_leave_less_too(machine: Path) -> None:
    write(machine / "proc/self/cgroup", "7:cpu,cpuacct:/other\n5:hugetlb,memory:/old/agent\n0::/user/agent\n")
    old_group(machine, "", UNBOUNDED, 7 * GIB)
    assert available(machine) == 8 * GIB
    old_group(machine, "old/agent", 4 * GIB, 3 * GIB, cached=GIB // 2)
    assert available(machine) == 3 * GIB // 2
    old_group(machine, "old", 2 * GIB, GIB)
    assert available(machine) == GIB
    group(machine, "user", str(GIB), GIB // 2)
    assert available(machine) == GIB // 2


def test_a_container_sees_its_own_group_of_old_at_the_root(machine: Path) -> None:
    write(machine / "proc/self/cgroup", "5:memory:/docker/of-the-host\n")
    old_group(machine, "", GIB, 0)
    assert available(machine) == GIB


VM_STAT = """\
#!/bin/sh
cat << 'END'
Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            300000.
Pages inactive:                           20000.
Pages speculative:                         3000.
Pages throttled:                              0.
Pages wired down:                        100000.
Pages purgeable:                            400.
"Translation faults":                1234567890.
File-backed pages:                       150000.
END
"""


def test_a_mac_says_what_it_could_give(tmp_path: Path) -> None:
    write(tmp_path / "vm_stat", VM_STAT)
    (tmp_path / "vm_stat").chmod(0o755)
    assert available(tmp_path) == 33_000 * 16_384
    write(tmp_path / "vm_stat", "#!/bin/sh\nexit 1\n")
    assert available(tmp_path) is None


def test_where_nothing_is_said_nothing_is_known(tmp_path: Path) -> None:
    assert available(tmp_path) is None


def test_a_process_gets_no_more_than_it_may() -> None:
    script = f"""
from edgecoder_drivers.llamacpp.memory import limit_memory
limit_memory({256 * MIB})
kept = bytearray({128 * MIB})
try:
    more = bytearray({256 * MIB})
except MemoryError:
    print("no more")
"""
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert ran.stdout == ("no more\n" if sys.platform == "linux" else "")


def test_who_is_bounded_already_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, bound: bounds.append(bound))
    for most in (GIB, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, most=most: (MIB, most))
        limit_memory(2 * GIB)
    if sys.platform == "linux":
        assert bounds[0] == (GIB, GIB)
        assert 2 * GIB < bounds[1][0] == bounds[1][1] < 4 * GIB
    else:
        assert bounds == []


def test_a_process_that_is_to_die_first_says_so(machine: Path) -> None:
    die_first_for_memory(machine / "proc")
    assert (machine / "proc/self/oom_score_adj").read_text(encoding="ascii") == "500"
    die_first_for_memory(machine / "nowhere")


def test_kills_for_memory_are_counted(machine: Path) -> None:
    assert kills_for_memory(machine / "proc") == 0
    write(machine / "proc/vmstat", "nr_free_pages 17\noom_kill 5\noom_kill_other 7\n")
    assert kills_for_memory(machine / "proc") == 5


def load(cache_bytes_per_token: int = 0) -> Load:
    return Load(b"", b"", 100 * MIB, None, 1024, cache_bytes_per_token, 50 * MIB, 1, None)


def test_the_cache_counts_by_catalog_or_else_by_header() -> None:
    assert child.bytes_needed(load(), Header("llama", False, 0)) == 150 * MIB
    assert child.bytes_needed(load(1024), Header("llama", False, 2048)) == 151 * MIB
    assert child.bytes_needed(load(), Header("llama", False, 2048)) == 152 * MIB


def test_the_cache_is_as_long_as_llama_cpp_makes_it() -> None:
    short = msgspec.structs.replace(load(1024), context_tokens=257, slots=2)
    assert child.context_tokens(short) == 2 * 256
    assert child.context_tokens(msgspec.structs.replace(short, context_tokens=1024)) == 1024
    assert child.bytes_needed(short, Header("llama", False, 0)) == 150 * MIB + 512 * 1024


def test_what_is_not_free_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "available_bytes", lambda: 150 * MIB)
    child.check_memory(150 * MIB)
    with pytest.raises(child.Refusal, match="it takes 151 MB, and 150 MB are free") as refused:
        child.check_memory(151 * MIB)
    assert refused.value.reason is Reason.INSUFFICIENT_MEMORY
    monkeypatch.setattr(child, "available_bytes", lambda: None)
    child.check_memory(1 << 60)


class Slow:
    """A model that writes a token at each reading of its clock."""

    slots = 1

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tokens_per_s: float) -> None:
        self.now = 100.0
        self.step = 1 / tokens_per_s
        monkeypatch.setattr(child, "time", self)

    def perf_counter(self) -> float:
        return self.now

    def answer(self, prompt: str, max_tokens: int, on_part: OnPart) -> None:
        raise NotImplementedError

    def warm_up(self, tokens: int, on_part: OnPart) -> None:
        self.now += 60  # the prompt is read
        self.written = 0
        for _ in range(tokens):
            self.written += 1
            if not on_part("x", 1):
                return
            self.now += self.step


@pytest.mark.parametrize(("tokens_per_s", "written"), [(200, 16), (20, 16), (4, 5), (0.5, 2)])
def test_speed_is_that_of_writing(monkeypatch: pytest.MonkeyPatch, tokens_per_s: float, written: int) -> None:
    model = Slow(monkeypatch, tokens_per_s)
    assert abs(child.speed(model) - max(1, tokens_per_s)) <= 1
    assert model.written == written, "a slow one writes no longer than a second, or one token"
