"""Model files over a network of bad will, from a peer and from the CDN: a pull ends whole with verified bytes or with a
reason, wrong bytes are never installed, and a sender is banned for wrong bytes alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from edgecoder.core.effects import ModelRow, PullResult
from edgecoder.core.events import PullModel, QueryModels
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder.trace import PieceKept, SenderBanned
from edgecoder_drivers.cdn.download import Cdn, Patience
from edgecoder_drivers.host import AsyncHost
from tests.drivers.broker_rig import FILE, mesh
from tests.drivers.cdn_server import Request, has, serving
from tests.drivers.chaos_proxy import Faults, between
from tests.drivers.disks import MemoryDisk
from tests.drivers.mesh_rig import run, until
from tests.drivers.rig import as_kind
from tests.drivers.sources import bytes_of, installed, made, storing

HARMLESS = {
    "slow": Faults(delay_s=(0.0, 0.02)),
    "narrow": Faults(bytes_per_s=4_000_000),
    "cuts": Faults(cut_bytes=400_000),
    "half closes": Faults(half_bytes=400_000),
    "refuses": Faults(refuses=0.9),
}
"""Networks that lose bytes and change none."""
WRONG = Faults(flip_bytes=300_000)
BUDGET = 3
"""So often a network strikes; then it is as one should be, and what was begun has to end. A peer is left
alone for six seconds after each loss."""
SIZE = 40 * 16_384 + 5
PATIENCE = Patience(pause_s=0.01, pause_s_max=0.1, silence_s=10.0, answer_s=10.0, connect_s=10.0, outage_s=5.0)


@pytest.mark.parametrize("name", HARMLESS)
def test_pieces_from_a_peer_come_whole_over_any_network_and_nobody_is_banned(tmp_path: Path, name: str) -> None:
    """There is no CDN, and nobody can dial who fetches: each piece has to come over the bad network."""

    async def live() -> None:
        async with (
            asyncio.timeout(200),
            between(0, HARMLESS[name], rng_seed=3, budget=BUDGET) as proxy,
            mesh(tmp_path, {"first", "second"}, seed_endpoint=f"127.0.0.1:{proxy.port}") as members,
        ):
            proxy.target = members["seed"].exchange.port
            first = members["first"]
            assert await first.pull() is None
            assert first.path.read_bytes() == bytes_of("shared", FILE.file_size_bytes)
            kept = [record for record in first.seen.records if isinstance(record, PieceKept)]
            assert {record.source for record in kept} == {"mesh"}
            assert not any(isinstance(record, SenderBanned) for record in first.seen.records)
            assert proxy.counts.passed_bytes >= FILE.file_size_bytes
            assert bool(proxy.counts.strikes) is (name not in ("slow", "narrow"))

    run(live())


@pytest.mark.parametrize("rng_seed", range(3))
def test_bytes_that_a_network_has_changed_are_not_kept_and_the_cdn_gives_them(tmp_path: Path, rng_seed: int) -> None:
    async def live() -> None:
        async with between(0, WRONG, rng_seed=rng_seed) as proxy:
            endpoint = f"127.0.0.1:{proxy.port}"
            async with asyncio.timeout(200), mesh(tmp_path, seed_endpoint=endpoint, has_cdn=True) as members:
                proxy.target = members["seed"].exchange.port
                first = members["first"]
                assert await first.pull() is None
                assert first.path.read_bytes() == bytes_of("shared", FILE.file_size_bytes)

    run(live())


@pytest.mark.parametrize("tree", [False, True])
@pytest.mark.parametrize("name", [*HARMLESS, "turns bits"])
def test_a_file_from_the_cdn_comes_whole_or_not_at_all(name: str, tree: bool) -> None:
    entry = made("whole", SIZE, tree=tree, piece_size_bytes=64 * 1024)
    data = bytes_of("whole", SIZE)
    faults = {**HARMLESS, "turns bits": Faults(flip_bytes=100_000)}[name]

    async def live() -> None:
        disk = MemoryDisk()
        files = {"/model.gguf": has(data), "/model.gguf.leaves": has(b"".join(leaf_hashes(data)))}

        async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
            await files[request.path](request, writer)

        async with (
            asyncio.timeout(200),
            serving(answer) as there,
            between(there.port, faults, rng_seed=5, budget=BUDGET) as proxy,
        ):
            url = f"http://localhost:{proxy.port}/model.gguf"
            cdn, catalog = Cdn(PATIENCE), Catalog((msgspec.structs.replace(entry, download_urls=(url,)),))
            async with storing(disk, catalog, cdn) as (host, _):
                ended: list[Reason | None] = [Reason.NO_SOURCE]
                while ended[-1] is not None and len(ended) <= 2 * BUDGET:
                    await until(lambda: _is_gone(host))
                    ended.append(as_kind(await host.ask(PullModel, model="whole"), PullResult).reason)
                assert await _states(host) == ["installed"], ended
                if name in HARMLESS:
                    assert len(ended) == 2, "a network that changes nothing costs no pull"
            await cdn.close()
            assert await installed(disk, catalog) == {"whole"}

    run(live())


async def _is_gone(host: AsyncHost) -> bool:
    """Whether wrong bytes have been deleted; what is asked for before that is refused. None were ever installed."""
    states = await _states(host)
    assert states != ["installed"]
    return states != ["removing"]


async def _states(host: AsyncHost) -> list[str]:
    return [as_kind(row, ModelRow).state for row in as_kind(await host.ask(QueryModels), tuple)]
