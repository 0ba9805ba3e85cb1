"""Whole nodes: a coordinator brokers, cores grant and ticket, and pieces go over sockets while the CDN is down.

The links between the nodes are queues of this process; the bytes of the model are not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Container, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import Effect, Operation, PullResult, Send
from edgecoder.core.events import FrameReceived, LinkUp, PullModel
from edgecoder.core.ids import LinkId, Medium, Role
from edgecoder.core.node import Node, Setup
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder.trace import PeerDialled, PieceKept, PieceSought, SenderBanned
from edgecoder.wire.envelope import ByteSigner, ByteVerifier
from edgecoder_drivers.driver import Operate, Perform, Post, Refused
from edgecoder_drivers.exchange import Exchange, Place
from edgecoder_drivers.host import AsyncHost
from edgecoder_drivers.identity import Identity, KeyRing
from edgecoder_drivers.parts import Parts
from edgecoder_drivers.store.driver import StoreDriver
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from tests.drivers.rig import Seen, as_kind, has
from tests.drivers.sources import MemorySource, bytes_of, made
from tests.drivers.transfer_rig import place

FILE = made("shared", (3 << 20) + 99, tree=True)
CATALOG = Catalog((FILE,))
NAMES = ("north", "seed", "first", "second")


class Links:
    """The links of one node. A `Driver`."""

    def __init__(self) -> None:
        self.post: Post = lambda event: None
        self.others: dict[LinkId, tuple[Links, LinkId]] = {}

    def open(self, post: Post) -> None:
        self.post = post

    def operations(self) -> Mapping[type[Operation], Operate]:
        return {}

    def effects(self) -> Mapping[type[Effect], Perform]:
        return {Send: self._send}

    async def close(self) -> None: ...

    def _send(self, effect: Send) -> None:
        other, link = self.others[effect.link]
        other.post(FrameReceived(link, effect.frame))

    def join(self, other: Links) -> None:
        """Open a link to another node."""
        here, there = len(self.others) + 1, len(other.others) + 1
        self.others[here], other.others[there] = (other, there), (self, here)
        self.post(LinkUp(here, Medium.LAN))
        other.post(LinkUp(there, Medium.LAN))


class Member:
    """One node."""

    def __init__(
        self,
        root: Path,
        identity: Identity,
        ring: KeyRing,
        role: Role,
        *,
        is_dialable: bool,
        has_cdn: bool,
        endpoint: str = "",
    ) -> None:
        self.path = root / "blobs" / f"sha256-{FILE.sha256}"
        self.links, self.seen = Links(), Seen()
        blobs, self._snapshot = open_store(root, CATALOG, RealFiles())
        self._snapshot.update(has(FILE) if self.path.exists() else {})
        source = MemorySource()
        if not has_cdn:
            source.before = self._down
        store = StoreDriver(blobs, source)
        parts = cast("Parts", SimpleNamespace(given=store, take_from=lambda peers: setattr(store, "peers", peers)))
        config = NodeConfig(has_radio=False, transfer_dialable=is_dialable, transfer_endpoint=endpoint)
        self.exchange = exchange = Exchange(Place(port=0), parts, config, CATALOG, identity.node_id)
        setup = Setup(role=role, cluster=ClusterConfig(), config=exchange.config, catalog=CATALOG)
        node = Node(setup, ByteSigner(identity), ByteVerifier(ring, "edgecoder"), 1)
        self.host = AsyncHost(node, [store, exchange, self.links], observers=[self.seen])

    @staticmethod
    async def _down(_: int) -> None:
        raise Refused(Reason.NO_SOURCE)

    def start(self) -> None:
        self.host.start(self._snapshot)

    async def stop(self) -> None:
        await self.host.stop()

    async def pull(self) -> Reason | None:
        return as_kind(await self.host.ask(PullModel, model=FILE.model_id), PullResult).reason


@asynccontextmanager
async def mesh(
    root: Path, hidden: Container[str] = (), *, has_cdn: bool = False, seed_endpoint: str = ""
) -> AsyncIterator[dict[str, Member]]:
    """A coordinator, one node that has the file, and two that have nothing. Nobody can dial the hidden ones; the one
    that has the file may tell a wrong endpoint."""
    place(root / "seed", FILE)
    keys = {name: Identity(Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32))) for name in NAMES}
    ring = KeyRing()
    for identity in keys.values():
        ring.add(identity.public_bytes)
    async with AsyncExitStack() as stack:
        members = {}
        for name in NAMES:
            role = Role.COORDINATOR if name == "north" else Role.AGENT
            is_dialable = name not in hidden
            endpoint = seed_endpoint if name == "seed" else ""
            member = Member(
                root / name, keys[name], ring, role, is_dialable=is_dialable, has_cdn=has_cdn, endpoint=endpoint
            )
            members[name] = member
            stack.push_async_callback(member.stop)
            member.start()
        for name in NAMES[1:]:
            members[name].links.join(members["north"].links)
        yield members


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
