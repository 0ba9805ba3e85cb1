"""The engine on llama.cpp: the contract of engines on real files, and what goes wrong in its process."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from edgecoder.core.events import TaskDone
from edgecoder.errors import Reason
from edgecoder_drivers.demo.tiny_gguf import ENDLESS_TOKENS, entry_of, make
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.llamacpp.port import installed_libraries
from tests.drivers.engine_bench import DriverBench, driver_bench
from tests.drivers.engine_contract import Bad, ContextContract, Talk
from tests.drivers.llama_rig import Files, engine_of, kill, pid_of

HEADER_BYTES = 1500
"""Of the tiny model: the part before the vocabulary."""
CONTEXT_TOKENS = 2 * ENDLESS_TOKENS
"""Of two slots; 16 MB of cache."""


def open_doors(pid: int) -> list[str]:
    """The sockets of a process that others can connect to, as Linux shows them."""
    inodes = {re.sub(r"\D", "", str(link.readlink())) for link in Path(f"/proc/{pid}/fd").iterdir()}
    tcp = [row for name in ("tcp", "tcp6") for row in rows(f"/proc/net/{name}") if row[9] in inodes]
    unix = [row[7] for row in rows("/proc/net/unix") if len(row) > 7 and row[6] in inodes]
    return [row[1] for row in tcp] + [path for path in unix if path.startswith("@") or Path(path).exists()]


def rows(path: str) -> list[list[str]]:
    return [line.split() for line in Path(path).read_text(encoding="ascii").splitlines()[1:]]


class TestLlamaEngine(ContextContract):
    @pytest.fixture(autouse=True, params=installed_libraries())
    def _models(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        self.made_by = request.param
        self.files = files = Files()
        self.good = files.add(tmp_path / "good.gguf", make(tmp_path / "good.gguf", endless=True))
        self.other = files.add(tmp_path / "other.gguf", make(tmp_path / "other.gguf", rng_seed=1, endless=True))
        content = (tmp_path / "good.gguf").read_bytes()
        self.bad = {}
        for name, bytes_ in {
            "garbage": b"no model at all" * 1000,
            "truncated": content[:-1000],
            "no tensors": content[:8] + bytes(8) + content[16:],
        }.items():
            path = tmp_path / name
            path.write_bytes(bytes_)
            self.bad[name] = Bad(files.add(path, entry_of(path, "bad")), Reason.LOAD_FAILED)
        changed = tmp_path / "changed"
        changed.write_bytes(content + b"x")
        self.bad["changed"] = Bad(files.add(changed, entry_of(changed, "bad")), Reason.CHECKSUM_MISMATCH)
        os.utime(changed, (1, 1))
        shorter = tmp_path / "shorter"
        shorter.write_bytes(content + b"y")
        self.bad["shorter"] = Bad(
            files.add(shorter, entry_of(shorter, "bad"), is_known=False), Reason.CHECKSUM_MISMATCH
        )
        shorter.write_bytes(content)
        refusing = tmp_path / "refusing"
        make(refusing, template="{{ raise_exception('not so') }}")
        self.bad["a template that raises"] = Bad(files.add(refusing, entry_of(refusing, "bad")), Reason.LOAD_FAILED)
        large = msgspec.structs.replace(self.good, sha256="0" * 64, kv_bytes_per_token=1 << 30)
        self.bad["too large"] = Bad(files.add(tmp_path / "good.gguf", large), Reason.INSUFFICIENT_MEMORY)

    def test_a_file_with_wrong_bits_loads_or_says_why(self, tmp_path: Path) -> None:
        """Whatever llama.cpp makes of it: there is an engine afterwards."""
        rng, content = random.Random(5), (tmp_path / "good.gguf").read_bytes()
        entries = []
        for number in range(8):
            wrong, path = bytearray(content), tmp_path / f"wrong-{number}"
            for _ in range(3):
                wrong[rng.randrange(24, HEADER_BYTES)] ^= 1 << rng.randrange(8)
            path.write_bytes(wrong)
            entries.append(self.files.add(path, entry_of(path, "wrong")))

        async def test() -> None:
            engine = engine_of(self.files, self.made_by)
            for entry in entries:
                with suppress(Refused):
                    await engine.load(entry, 512)
                    async for _ in engine.generate("def", 3):
                        pass
                await engine.unload()
            assert await engine.load(self.good, CONTEXT_TOKENS) > 0
            await engine.close()

        asyncio.run(test())

    def test_it_listens_to_nobody(self) -> None:
        """The server within xllamacpp would, and anybody on this machine could use it."""

        async def test() -> None:
            engine = engine_of(self.files, self.made_by)
            await engine.load(self.good, CONTEXT_TOKENS)
            assert open_doors(pid_of(engine)) == []
            await engine.close()

        asyncio.run(test())

    def test_who_ends_all_processes_leaves_this_one_to_its_parent(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.load(talk.good)
            op = talk.begin_task(2000)
            await talk.until(lambda: talk.chunks(op) != [])
            kill(self.engine, signal.SIGTERM)
            assert (await talk.completion(op, TaskDone)).tokens == 2000

        self.run(test)

    @asynccontextmanager
    async def bench(self) -> AsyncIterator[DriverBench]:
        self.engine = engine = engine_of(self.files, self.made_by)
        files = (self.good, self.other)
        async with driver_bench(engine, files, self.bad, lambda: kill(engine), CONTEXT_TOKENS) as bench:
            yield bench
