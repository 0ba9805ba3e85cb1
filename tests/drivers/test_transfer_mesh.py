"""Whole nodes: a coordinator brokers, cores grant and ticket, and pieces go over sockets while the CDN is down."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from edgecoder.core.events import PullModel
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder.trace import PeerDialled, PieceKept, PieceSought, SenderBanned
from tests.drivers.broker_rig import FILE, NAMES, Member, mesh
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


def kept_from(member: Member) -> set[tuple[str, bytes | None]]:
    """Sources and senders of the pieces that a node has kept."""
    return {(record.source, record.peer) for record in member.seen.records if isinstance(record, PieceKept)}


def dials(member: Member) -> list[PeerDialled]:
    return [record for record in member.seen.records if isinstance(record, PeerDialled)]


def test_a_sender_that_nobody_can_dial_gives_a_whole_model(tmp_path: Path) -> None:
    async def live() -> None:
        async with asyncio.timeout(60), mesh(tmp_path, {"seed"}) as members:
            seed, taker = members["seed"], members["first"]
            assert seed.exchange.port == 0, "it listens"
            assert await taker.pull() is None
            assert taker.path.read_bytes() == bytes_of("shared", FILE.file_size_bytes)
            assert kept_from(taker) == {("mesh", seed.exchange.node)}
            assert dials(seed) == [PeerDialled(taker.exchange.node, None)], "one connection is enough"

    asyncio.run(live())


def test_a_sender_that_tells_an_address_at_which_it_is_not_gives_a_whole_model(tmp_path: Path) -> None:
    """As a laptop at home does, whose user has configured nothing."""

    async def live() -> None:
        async with asyncio.timeout(60), mesh(tmp_path, seed_endpoint="127.0.0.1:1") as members:
            seed, taker = members["seed"], members["first"]
            assert await taker.pull() is None
            assert taker.path.read_bytes() == bytes_of("shared", FILE.file_size_bytes)
            assert kept_from(taker) == {("mesh", seed.exchange.node)}
            assert dials(seed) == [PeerDialled(taker.exchange.node, None)]

    asyncio.run(live())


def test_who_cannot_be_dialled_gets_from_who_can_and_gives_to_who_can(tmp_path: Path) -> None:
    async def live() -> None:
        async with asyncio.timeout(60), mesh(tmp_path, {"seed", "second"}) as members:
            first, second = members["first"], members["second"]
            assert set(await asyncio.gather(first.pull(), second.pull())) == {None}
            assert kept_from(second) == {("mesh", first.exchange.node)}, "two that nobody can dial reach each other"
            assert {record.peer for record in dials(members["seed"])} == {first.exchange.node}

    asyncio.run(live())


def test_two_that_nobody_can_dial_are_not_granted_to_each_other_and_the_cdn_serves(tmp_path: Path) -> None:
    async def live() -> None:
        async with asyncio.timeout(60), mesh(tmp_path, set(NAMES), has_cdn=True) as members:
            taker = members["first"]
            assert await taker.pull() is None
            assert taker.path.read_bytes() == bytes_of("shared", FILE.file_size_bytes)
            assert kept_from(taker) == {("cdn", None)}
            sought = [record for record in taker.seen.records if isinstance(record, PieceSought)]
            assert {record.source for record in sought} == {"cdn"}
            assert not dials(members["seed"])

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
