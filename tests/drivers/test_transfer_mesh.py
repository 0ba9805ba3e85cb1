"""Whole nodes: a coordinator brokers, cores grant and ticket, and pieces go over sockets while the CDN is down."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from edgecoder.core.events import PullModel
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder.trace import PieceKept, SenderBanned
from tests.drivers.broker_rig import FILE, mesh
from tests.drivers.sources import bytes_of


def rot(path: Path, at: int) -> None:
    """Some bytes of a file are others, and the system knows nothing of it."""
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"rot")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_model_spreads_over_sockets_while_the_cdn_is_down(tmp_path: Path) -> None:
    async def live() -> None:
        async with asyncio.timeout(60), mesh(tmp_path) as members:
            takers = [members["first"], members["second"]]
            assert await asyncio.gather(*(taker.pull() for taker in takers)) == [None, None]
            for taker in takers:
                assert taker.path.read_bytes() == bytes_of("shared", FILE.file_size_bytes)
                kept = [record for record in taker.seen.records if isinstance(record, PieceKept)]
                assert {record.source for record in kept} == {"mesh"}

    asyncio.run(live())


def test_a_sender_whose_disk_rots_is_banned_and_nothing_wrong_is_kept(tmp_path: Path) -> None:
    rotten = FILE.layout.piece_count // 2
    at = FILE.layout.piece_offset(rotten)
    leaves = b"".join(leaf_hashes(bytes_of("shared", FILE.file_size_bytes)))

    async def live() -> None:
        async with asyncio.timeout(60), mesh(tmp_path) as members:
            (tmp_path / "seed" / "trees" / f"sha256-{FILE.sha256}").write_bytes(leaves)
            rot(members["seed"].path, at)
            records = members["first"].seen.records
            pulling = asyncio.ensure_future(members["first"].host.ask(PullModel, model=FILE.model_id))
            for _ in range(5_000):
                if any(isinstance(record, SenderBanned) for record in records):
                    break
                await asyncio.sleep(0.002)
            assert any(isinstance(record, SenderBanned) for record in records), "nobody is banned"
            assert rotten not in {record.piece for record in records if isinstance(record, PieceKept)}
            assert not pulling.done()
            pulling.cancel()

    asyncio.run(live())
