"""A node that gives: its core judges tickets, its server holds to limits, and a whole file moves between two stores."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import msgspec
import psutil
import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import AllocateFile, CancelOp, FetchPiece, HashFile, Source
from edgecoder.core.events import FileAllocated, FileHashed, PieceFailed, PieceFetched
from edgecoder.errors import ConfigError, Reason
from edgecoder.models.catalog import Catalog
from edgecoder.wire.messages import Ticket
from edgecoder_drivers.bare.server import prepare
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.store.driver import StoreDriver
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.opening import open_store
from edgecoder_drivers.transfer import wire
from edgecoder_drivers.transfer.connection import Connection, Limits
from edgecoder_drivers.transfer.server import TransferServer
from tests.drivers.sources import MemorySource, bytes_of, made
from tests.drivers.transfer_contract import RECEIVER
from tests.drivers.transfer_rig import DATA, FILE, Giver, Scripted, place, real_giver, taking

OTHER = made("other", 16_384, tree=True)
CATALOG = Catalog((FILE, OTHER))


def run(
    root: Path,
    test: Callable[[Giver, Scripted], Awaitable[None]],
    *,
    catalog: Catalog = CATALOG,
    config: NodeConfig | None = None,
    limits: Limits | None = None,
) -> None:
    """A giver with a core, and a receiver that does what the test says."""

    async def live() -> None:
        place(root / "giver", *catalog.entries)
        async with (
            asyncio.timeout(60),
            real_giver(root / "giver", catalog, config, limits) as giver,
            taking(root / "taker", RECEIVER, catalog) as taker,
        ):
            await test(giver, taker)

    asyncio.run(live())


def of(giver: Giver, ticket: Ticket | None, op: int, piece: int = 0) -> FetchPiece:
    return FetchPiece(op, FILE, piece, 0, Source.MESH, 1, giver.node_id, giver.endpoint, None, ticket)


# -- tickets -----------------------------------------------------------------------------------------------------------


def test_only_the_right_ticket_in_time_gets_a_piece(tmp_path: Path) -> None:
    async def test(giver: Giver, taker: Scripted) -> None:
        good = giver.ticket(RECEIVER, FILE)
        tickets = [
            giver.ticket(RECEIVER, FILE, expires_ms=1),
            giver.ticket(RECEIVER, OTHER),
            giver.ticket(giver.node_id, FILE),
            msgspec.structs.replace(good, expires_ms=good.expires_ms + 1),
            msgspec.structs.replace(good, signature=bytes(64)),
            msgspec.structs.replace(good, broker=giver.node_id),
        ]
        taker.say(AllocateFile(1, FILE))
        assert await taker.end(1) == FileAllocated(1)
        for op, ticket in enumerate(tickets, start=2):
            taker.say(of(giver, ticket, op))
            assert await taker.end(op) == PieceFailed(op, Reason.NO_TICKET), ticket
        taker.say(of(giver, good, 99))
        assert await taker.end(99) == PieceFetched(99, FILE.layout.all_pieces)

    run(tmp_path, test)


def test_a_node_that_gives_nothing_says_so(tmp_path: Path) -> None:
    async def test(giver: Giver, taker: Scripted) -> None:
        taker.say(AllocateFile(1, FILE), of(giver, giver.ticket(RECEIVER, FILE), 2))
        assert await taker.end(2) == PieceFailed(2, Reason.NOT_SEEDING)

    run(tmp_path, test, config=NodeConfig(has_radio=False, seeding=False))


# -- whole files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kbit_per_s", [0, 400_000])
def test_a_file_of_some_mib_moves_piece_by_piece(tmp_path: Path, kbit_per_s: int) -> None:
    file = made("large", (6 << 20) + 4321, tree=True)
    pieces = file.layout.piece_count

    async def test(giver: Giver, taker: Scripted) -> None:
        taker.say(AllocateFile(1, file))
        await taker.end(1)
        ticket = giver.ticket(RECEIVER, file)
        under_way = asyncio.Semaphore(4)

        async def fetch(piece: int) -> None:
            async with under_way:
                op = 2 + piece
                taker.say(FetchPiece(op, file, piece, 0, Source.MESH, 1, giver.node_id, giver.endpoint, None, ticket))
                assert await taker.end(op) == PieceFetched(op, file.layout.all_pieces)

        await asyncio.gather(*map(fetch, range(pieces)))
        taker.say(HashFile(1000, file))
        assert await taker.end(1000) == FileHashed(1000, file.sha256)

    config = NodeConfig(has_radio=False, upload_kbit_per_s=kbit_per_s, uploads_per_peer_max=16)
    run(tmp_path, test, catalog=Catalog((file,)), config=config)


def test_several_pieces_may_be_asked_for_at_once(tmp_path: Path) -> None:
    async def test(giver: Giver, taker: Scripted) -> None:
        taker.say(AllocateFile(1, FILE))
        await taker.end(1)
        taker.say(msgspec.structs.replace(of(giver, giver.ticket(RECEIVER, FILE), 2), first_leaf=3, count=3))
        assert isinstance(await taker.end(2), PieceFetched)

    run(tmp_path, test)


# -- limits of the server ----------------------------------------------------------------------------------------------


async def closed(reader: asyncio.StreamReader) -> bool:
    """Whether the server has hung up."""
    try:
        async with asyncio.timeout(0.3):
            return await reader.read(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_one_that_asks_for_nothing_makes_room_for_the_next(tmp_path: Path) -> None:
    async def test(giver: Giver, _: Scripted) -> None:
        visitors = []
        for _number in range(3):
            visitors.append(await asyncio.open_connection("127.0.0.1", giver.server.port))
            await asyncio.sleep(0.05)
        assert [await closed(reader) for reader, _writer in visitors] == [True, False, False]
        for _reader, writer in visitors:
            writer.close()

    run(tmp_path, test, limits=Limits(connections_max=2))


def test_one_that_has_begun_to_ask_makes_no_room(tmp_path: Path) -> None:
    async def test(giver: Giver, _: Scripted) -> None:
        visitors = []
        for _number in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", giver.server.port)
            writer.write(b"GET /")
            visitors.append((reader, writer))
            await asyncio.sleep(0.05)
        assert [await closed(reader) for reader, _writer in visitors] == [False, False, True]
        for _reader, writer in visitors:
            writer.close()

    run(tmp_path, test, limits=Limits(connections_max=2))


def test_one_address_has_so_many_connections_but_for_this_machine(tmp_path: Path) -> None:
    async def test(giver: Giver, _: Scripted) -> None:
        class Visitor:
            is_idle = False

            async def run(self) -> None:
                await asyncio.sleep(60)

            def close(self) -> None:
                pass

        server = giver.server
        for address in ("192.0.2.7", "127.0.0.1"):
            for _number in range(2):
                assert server.has_room(address)
                server.take(cast("Connection", Visitor()), address)
        assert not server.has_room("192.0.2.7")
        assert server.has_room("192.0.2.8")
        assert server.has_room("127.0.0.1")
        assert server.has_room("fe80::1%eth0")

    run(tmp_path, test, limits=Limits(per_address_max=2))


def test_what_is_sent_is_marked_as_what_can_wait() -> None:
    for family, level, option in (
        (socket.AF_INET, socket.IPPROTO_IP, socket.IP_TOS),
        (socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_TCLASS),
    ):
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            prepare(sock)
            assert sock.getsockopt(level, option) >> 2 == 1  # the lower-effort class of RFC 8622
            assert not sock.getblocking()


def test_a_node_that_ends_hangs_up_and_frees_its_port(tmp_path: Path) -> None:
    async def test(giver: Giver, _: Scripted) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", giver.server.port)
        await asyncio.sleep(0.05)
        await giver.host.stop()
        assert await reader.read() == b""
        writer.close()
        TransferServer(CATALOG.by_digest.get, giver, port=giver.server.port).hang_up()  # type: ignore[arg-type]

    run(tmp_path, test)


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=re.escape(f"127.0.0.1:{port}: Address already in use")):
            TransferServer(CATALOG.by_digest.get, None, port=port)  # type: ignore[arg-type]


def test_what_is_called_off_leaves_nothing_open(tmp_path: Path) -> None:
    config = NodeConfig(has_radio=False, upload_kbit_per_s=2_000)

    async def test(giver: Giver, taker: Scripted) -> None:
        taker.say(AllocateFile(1, FILE))
        await taker.end(1)
        ticket, counts = giver.ticket(RECEIVER, FILE), []
        for op in range(2, 40):
            taker.say(of(giver, ticket, op, op % 2))
            await asyncio.sleep(0.002 * (op % 5))
            taker.say(CancelOp(op))
            assert isinstance(await taker.end(op), PieceFailed)
            counts.append((psutil.Process().num_fds(), len(asyncio.all_tasks())))
        for _ in range(1_000):  # the giver notices when it sends the next part
            now = psutil.Process().num_fds(), len(asyncio.all_tasks())
            if now <= counts[0]:
                break
            await asyncio.sleep(0.005)
        assert now <= counts[0], counts

    run(tmp_path, test, config=config)


# -- hashes ------------------------------------------------------------------------------------------------------------


def test_hashes_of_a_file_that_did_not_come_in_pieces_are_made_and_kept(tmp_path: Path) -> None:
    async def test(giver: Giver, taker: Scripted) -> None:
        taker.say(AllocateFile(1, FILE))
        await taker.end(1)
        taker.say(of(giver, giver.ticket(RECEIVER, FILE), 2))
        assert isinstance(await taker.end(2), PieceFetched)

    run(tmp_path, test)
    name = f"sha256-{FILE.sha256}"
    given, taken = ((tmp_path / who / "trees" / name).read_bytes() for who in ("giver", "taker"))
    leaves = [DATA[at : at + 16_384] for at in range(0, len(DATA), 16_384)]
    assert given == taken == b"".join(hashlib.sha256(leaf).digest() for leaf in leaves)
    assert bytes_of("a", FILE.file_size_bytes) == DATA
    assert wire.size_of(FILE.layout, is_hashes=True) == len(given)


def test_a_file_that_is_not_what_its_root_says_is_read_once_and_not_given(tmp_path: Path) -> None:
    wrong = msgspec.structs.replace(FILE, piece_root="ab" * 32)
    reads: list[int] = []

    class Counted(RealFiles):
        def pread(self, handle: int, size: int, offset: int) -> bytes:
            reads.append(offset)
            return super().pread(handle, size, offset)

    async def live() -> None:
        place(tmp_path, wrong)
        blobs, _ = open_store(tmp_path, Catalog((wrong,)), Counted())
        store = StoreDriver(blobs, MemorySource())
        for is_first in (True, False, False):
            reads.clear()
            with pytest.raises(Refused):
                await store.hashes_of(wrong)
            assert bool(reads) is is_first
        await store.close()

    asyncio.run(live())


def test_connections_that_nobody_uses_are_closed(tmp_path: Path) -> None:
    """Else those that the other end has closed are held open until the next piece comes, which may be never."""

    async def live() -> None:
        place(tmp_path / "giver", FILE)
        async with (
            asyncio.timeout(60),
            real_giver(tmp_path / "giver", CATALOG) as giver,
            taking(tmp_path / "taker", RECEIVER, CATALOG) as taker,
        ):
            ticket = giver.ticket(RECEIVER, FILE)
            taker.say(AllocateFile(1, FILE))
            assert await taker.end(1) == FileAllocated(1)
            taker.say(of(giver, ticket, 2))
            assert isinstance(await taker.end(2), PieceFetched)
            while _sockets_to(giver.server.port):  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(0.01)

    asyncio.run(live())


def _sockets_to(port: int) -> int:
    """Sockets of this process whose other end is a port here."""
    return sum(bool(each.raddr) and each.raddr.port == port for each in psutil.Process().net_connections("tcp"))
