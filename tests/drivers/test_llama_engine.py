"""The engine on llama.cpp: the contract of engines on real files, and what goes wrong in its process."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from edgecoder.errors import Reason
from tests.drivers.engine_bench import DriverBench, driver_bench
from tests.drivers.engine_contract import Bad, EngineContract
from tests.drivers.llama_rig import Files, engine_of, kill
from tests.drivers.tiny_gguf import ENDLESS_TOKENS, entry_of, make

CONTEXT_TOKENS = 2 * ENDLESS_TOKENS
"""Of two slots; 16 MB of cache."""


class TestLlamaEngine(EngineContract):
    library: str | None = None

    @pytest.fixture(autouse=True)
    def _models(self, tmp_path: Path) -> None:
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
        large = msgspec.structs.replace(self.good, sha256="0" * 64, kv_bytes_per_token=1 << 30)
        self.bad["too large"] = Bad(files.add(tmp_path / "good.gguf", large), Reason.INSUFFICIENT_MEMORY)

    @asynccontextmanager
    async def bench(self) -> AsyncIterator[DriverBench]:
        engine = engine_of(self.files, self.library)
        files = (self.good, self.other)
        async with driver_bench(engine, files, self.bad, lambda: kill(engine), CONTEXT_TOKENS) as bench:
            yield bench
