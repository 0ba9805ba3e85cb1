"""What comes over a coordinator's port that is no node of the mesh, or a bad one: refused, cut off, and forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from edgecoder.config import DeviceType
from edgecoder.core.effects import Disconnect, LedgerTotals, Send
from edgecoder.core.events import FrameReceived, LinkDown, LinkUp, QueryLedger
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.protocol import FRAME_BYTES_MAX, SIGNATURE_BYTES
from edgecoder.seeding.receipts import statement
from edgecoder.wire.envelope import ByteSigner, Header
from edgecoder.wire.messages import Identity as IdentityMessage
from edgecoder.wire.messages import LedgerBatch, Receipt
from edgecoder_drivers.coordinator import Coordinator
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.identity import Identity
from edgecoder_drivers.links import dial, driver, server
from edgecoder_drivers.links.address import is_at_home, is_loopback, split
from edgecoder_drivers.links.dial import reach
from edgecoder_drivers.links.driver import QUEUE_BYTES_MAX, QUEUE_FRAMES_MAX
from edgecoder_drivers.links.handshake import CLOSE_CODES, WELCOME, Caller, Self
from tests.drivers.links_rig import HUB, A, closed, dialled, greet, listening, uri
from tests.drivers.mesh_rig import capabilities, coordinator, get, identity, raw, run, until

B = identity(2)


def test_envelopes_go_both_ways_in_order() -> None:
    async def test() -> None:
        async with listening() as (port, links, post), dialled(port) as connection:
            await greet(connection, HUB.node_id)
            (up,) = await until(lambda: post.of(LinkUp))
            assert (up.peer, up.role) == (A.node_id, Role.AGENT)
            frames = [bytes([number]) * (1 + number * 1000) for number in range(50)]
            for frame in frames:
                await connection.send(frame)
                links.effects()[Send](Send(up.link, frame))
            assert [await connection.recv() for _ in frames] == frames
            await until(lambda: len(post.of(FrameReceived)) == 50)
            assert post.of(FrameReceived) == [FrameReceived(up.link, frame) for frame in frames]
            links.effects()[Send](Send(up.link, b"last"))
            links.effects()[Disconnect](Disconnect(up.link))
            assert await connection.recv() == b"last", "what was sent before goes out before it closes"
            assert await closed(connection) == 1000
            await until(lambda: post.of(LinkDown) == [LinkDown(up.link, lost=False)])
            assert links.open_links == {}
            links.effects()[Send](Send(up.link, b"to nobody"))

    run(test())


def test_the_largest_envelope_fits_and_a_larger_one_ends_the_link() -> None:
    async def test() -> None:
        async with listening() as (port, links, post), dialled(port) as connection:
            await greet(connection, HUB.node_id)
            await connection.send(bytes(FRAME_BYTES_MAX))
            await until(lambda: post.of(FrameReceived))
            await connection.send(bytes(FRAME_BYTES_MAX + 1))
            assert await closed(connection) == 1009
            await until(lambda: post.of(LinkDown))
            assert len(post.of(FrameReceived)) == 1
            assert links.open_links == {}

    run(test())


def test_an_endless_message_in_small_parts_ends_the_link() -> None:
    async def test() -> None:
        async with listening() as (port, _, post), dialled(port) as connection:
            await greet(connection, HUB.node_id)

            async def parts() -> AsyncIterator[bytes]:
                while True:
                    yield bytes(65_536)

            with pytest.raises(ConnectionClosed):
                await connection.send(parts())
            assert connection.close_code == 1009
            await until(lambda: post.of(LinkDown))
            assert post.of(FrameReceived) == []

    run(test())


def test_text_ends_the_link() -> None:
    async def test() -> None:
        async with listening() as (port, _, post), dialled(port) as connection:
            await greet(connection, HUB.node_id)
            await connection.send("text")
            assert await closed(connection) == 1003
            await until(lambda: post.of(LinkDown))

    run(test())


@pytest.mark.parametrize("first", [b"", b"\x00", b"\x93" * 100, bytes(4096), "text"], ids=repr)
def test_garbage_in_place_of_a_handshake(first: bytes | str) -> None:
    async def test() -> None:
        async with listening() as (port, _, post), dialled(port) as connection:
            await connection.send(first)
            assert await closed(connection) == CLOSE_CODES[Reason.BAD_FRAME]
            assert post.events == []
            assert post.dropped == [("handshake", Reason.BAD_FRAME)]

    run(test())


def test_an_envelope_before_the_handshake_reaches_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        async with coordinator(tmp_path, A.node_id) as hub, dialled(hub.port) as connection:
            await connection.send(_identity(A))
            assert await closed(connection) == CLOSE_CODES[Reason.BAD_FRAME]
            assert (await capabilities(hub))[0]["agentCount"] == 0

    run(test())


def _identity(key: Identity, role: Role = Role.AGENT, seq: int = 1) -> bytes:
    message = IdentityMessage(role=role, device_type=DeviceType.LAPTOP, cluster_config_hash=b"")
    return ByteSigner(key).seal(Header("edgecoder", key.node_id, 1, seq, 60_000), message)


def test_who_has_proved_one_thing_and_says_another_is_cut_off(tmp_path: Path) -> None:
    """A member that then identifies itself as a coordinator: its summaries would be believed."""

    async def test() -> None:
        async with coordinator(tmp_path, A.node_id) as hub, dialled(hub.port) as connection:
            await greet(connection, hub.node_id)
            await connection.send(_identity(A, Role.COORDINATOR))
            assert await closed(connection) == 1000
            await until(lambda: hub.links == (0, 0))

    run(test())


def test_an_envelope_of_another_member_is_not_taken(tmp_path: Path) -> None:
    async def test() -> None:
        async with coordinator(tmp_path, A.node_id, B.node_id) as hub:
            async with dialled(hub.port) as other:  # so that its key is known
                await greet(other, hub.node_id, B)
            async with dialled(hub.port) as connection:
                await greet(connection, hub.node_id)
                await connection.send(_identity(B))
                await until(lambda: _metric(hub, "edgecoder_dropped_total", 'reason="unknown_sender"'))

    run(test())


async def _metric(hub: Coordinator, name: str, label: str) -> float:
    _, _, body = await get(hub.port, "/metrics")
    lines = [line for line in body.decode().splitlines() if line.startswith(name) and label in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_receipts_that_a_coordinator_took_are_there_in_its_next_life(tmp_path: Path) -> None:
    unsigned = Receipt(
        payer=A.node_id, server=B.node_id, task_id=A.node_id[:8] + bytes(8), tokens=3, cpu_ms=1000,
        quality_milli=500, signature=bytes(SIGNATURE_BYTES),
    )  # fmt: skip
    signature = A.sign(statement("edgecoder", unsigned))
    batch = LedgerBatch(receipts=(msgspec.structs.replace(unsigned, signature=signature),))

    async def test() -> None:
        async with coordinator(tmp_path, A.node_id) as hub, dialled(hub.port) as connection:
            await greet(connection, hub.node_id)
            await connection.send(_identity(A))
            await connection.send(ByteSigner(A).seal(Header("edgecoder", A.node_id, 1, 2, 60_000), batch))
            totals = await until(lambda: _totals(hub))
            assert (totals.receipts, totals.tokens) == (1, 3)
        async with coordinator(tmp_path) as again:
            assert await _totals(again) == totals

    run(test())


async def _totals(hub: Coordinator) -> LedgerTotals | None:
    """What its ledger has, if anything."""
    totals = await hub.begin(QueryLedger)[1]
    return totals if isinstance(totals, LedgerTotals) and totals.receipts else None


def test_a_recorded_handshake_opens_nothing() -> None:
    async def test() -> None:
        async with listening() as (port, _, post):
            said: list[bytes] = []
            async with dialled(port) as connection:
                caller = Caller(Self(A, Role.AGENT, "edgecoder"), HUB.node_id, bytes(32), b"")
                await connection.send(caller.hello())
                challenge = await connection.recv()
                assert isinstance(challenge, bytes)
                said = [caller.hello(), caller.prove(challenge)[0]]
                await connection.send(said[1])
                assert await connection.recv() == WELCOME
            await until(lambda: post.of(LinkDown))
            async with dialled(port) as connection:
                await connection.send(said[0])
                await connection.recv()
                await connection.send(said[1])
                assert await closed(connection) == CLOSE_CODES[Reason.BAD_SIGNATURE]
            assert len(post.of(LinkUp)) == 1

    run(test())


def test_who_says_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_S", 0.2)

    async def test() -> None:
        async with listening() as (port, _, post), dialled(port) as connection:
            assert await closed(connection) == CLOSE_CODES[Reason.NO_ANSWER]
            assert post.events == []

    run(test())


def test_a_slow_request_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then, so that the request never ends."""
    monkeypatch.setitem(dial.COMMON, "open_timeout", 0.3)

    async def test() -> None:
        async with listening() as (port, _, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for byte in b"GET /mesh/link HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 1000:
                writer.write(bytes([byte]))
                if reader.at_eof() or reader.exception() or writer.is_closing():
                    break
                await asyncio.sleep(0.01)
            else:
                raise AssertionError("it is still listened to")
            writer.close()

    run(test())


def test_a_slow_reader_loses_frames_and_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "STALL_S", 0.3)

    async def test() -> None:
        async with listening() as (port, links, post), dialled(port, max_queue=1) as connection:
            await greet(connection, HUB.node_id)
            (up,) = await until(lambda: post.of(LinkUp))
            connection.transport.pause_reading()
            frame = bytes(FRAME_BYTES_MAX)
            for _ in range(64):
                links.effects()[Send](Send(up.link, frame))
                link = links.open_links[up.link]
                assert link.queued_bytes <= QUEUE_BYTES_MAX
                await asyncio.sleep(0)
            assert ("frame", Reason.OVERFLOW) in post.dropped
            await until(lambda: post.of(LinkDown))
            assert ("slow reader", Reason.OVERFLOW) in post.dropped
            assert links.open_links == {}
            connection.transport.abort()

    run(test())


def test_a_queue_is_bounded_in_frames_too() -> None:
    async def test() -> None:
        async with listening() as (port, links, post), dialled(port) as connection:
            await greet(connection, HUB.node_id)
            (up,) = await until(lambda: post.of(LinkUp))
            for _ in range(QUEUE_FRAMES_MAX + 5):
                links.effects()[Send](Send(up.link, b"x"))
            assert post.dropped == [("frame", Reason.OVERFLOW)] * 5

    run(test())


def test_no_more_is_read_while_the_core_has_no_room() -> None:
    async def test() -> None:
        async with listening() as (port, links, post), dialled(port) as connection:
            room = asyncio.Event()
            links.room = room.wait  # type: ignore[assignment]  # it tells whether; nobody asks
            await greet(connection, HUB.node_id)

            async def flood() -> None:
                for _ in range(64):
                    await connection.send(bytes(FRAME_BYTES_MAX))

            sending = asyncio.create_task(flood())
            await until(lambda: post.of(FrameReceived))
            await asyncio.sleep(0.3)
            assert len(post.of(FrameReceived)) == 1
            assert not sending.done(), "its sender waits"
            room.set()
            await sending
            await until(lambda: len(post.of(FrameReceived)) == 64)

    run(test())


def test_a_node_that_comes_a_third_time_loses_its_first_link() -> None:
    async def test() -> None:
        async with (
            listening() as (port, links, post),
            dialled(port) as one,
            dialled(port) as two,
            dialled(port) as three,
        ):
            for connection in (one, two, three):
                await greet(connection, HUB.node_id)
            assert await closed(one) == 1006
            await until(lambda: len(links.open_links) == 2)
            await three.send(b"here")
            await until(lambda: post.of(FrameReceived))
            assert len(links.open_links) == 2

    run(test())


def test_links_are_bounded() -> None:
    async def test() -> None:
        async with listening(links_max=1) as (port, links, post), dialled(port) as one:
            await greet(one, HUB.node_id)
            await until(lambda: post.of(LinkUp))
            async with dialled(port) as two:
                with pytest.raises(ConnectionClosed):
                    await greet(two, HUB.node_id, B)
                assert two.close_code == CLOSE_CODES[Reason.OVERFLOW]
            assert len(links.open_links) == 1
            assert post.dropped == [("handshake", Reason.OVERFLOW)]

    run(test())


def test_handshakes_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GREETINGS_MAX", 1)

    async def test() -> None:
        async with listening() as (port, _, _), dialled(port) as first:
            with pytest.raises(Refused) as refused:
                await reach("127.0.0.1", port)
            assert refused.value.reason is Reason.OVERFLOW
            await greet(first, HUB.node_id)
            async with dialled(port) as second:
                await greet(second, HUB.node_id, B)

    run(test())


def test_sockets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STRANGERS_MAX", 2)

    async def test() -> None:
        async with listening(links_max=1) as (port, _, _):
            streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
            ended = [asyncio.create_task(reader.read()) for reader, _ in streams]
            done, _ = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
            await until(lambda: sum(task.done() for task in ended) == 3)
            assert done
            for _, writer in streams:
                writer.close()
            await asyncio.wait(ended)

    run(test())


def test_a_page_of_the_web_cannot_open_a_link() -> None:
    async def test() -> None:
        async with listening() as (port, _, _):
            with pytest.raises(InvalidHandshake):
                async with dialled(port, origin="https://evil.example"):
                    pass
            with pytest.raises(InvalidHandshake):
                async with connect(uri(port, "/elsewhere"), proxy=None):
                    pass

    run(test())


@pytest.mark.parametrize(
    "request_",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"\r\n" * 100, b"GET\r\n\r\n", b"x" * 100_000, bytes(1000)],
    ids=range(5),
)
def test_what_is_no_request_is_refused(request_: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dial.COMMON, "open_timeout", 0.3)

    async def test() -> None:
        async with listening() as (port, _, post):
            status, _, _ = await raw(port, request_)
            assert status in (0, 400, 414, 431)
            assert post.events == []

    run(test())


def test_a_server_that_ends_does_not_wait_for_who_reads_nothing() -> None:
    async def test() -> None:
        life = listening()
        port, links, post = await life.__aenter__()
        async with dialled(port, max_queue=1) as connection:
            await greet(connection, HUB.node_id)
            (up,) = await until(lambda: post.of(LinkUp))
            connection.transport.pause_reading()
            for _ in range(8):
                links.effects()[Send](Send(up.link, bytes(FRAME_BYTES_MAX)))
                await asyncio.sleep(0.01)
            await life.__aexit__(None, None, None)
            assert links.open_links == {}
            connection.transport.abort()

    run(test())


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [
        ("hub.example:4301", ("hub.example", 4301)),
        ("hub.example", ("hub.example", 4301)),
        ("[2001:db8::1]:99", ("2001:db8::1", 99)),
        ("192.0.2.1:1", ("192.0.2.1", 1)),
    ],
)
def test_addresses(endpoint: str, found: tuple[str, int]) -> None:
    assert split(endpoint) == found


@pytest.mark.parametrize(
    "endpoint", ["", ":4301", "hub:99999", "hub:port", "user@hub:1", "hub/path", "hub:1?x", "[::1"]
)
def test_what_is_no_address(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        split(endpoint)


def test_what_is_this_machine() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1"))
    assert not any(is_loopback(host) for host in ("192.0.2.1", "localhost.example", "127.0.0.1.example", "::2"))


def test_where_no_proxy_leads() -> None:
    assert all(is_at_home(host) for host in ("localhost", "127.0.0.1", "192.168.1.5", "10.0.0.1", "fd00::1", "fe80::1"))
    assert not any(is_at_home(host) for host in ("hub.example", "8.8.8.8", "2606:4700::1"))


def test_a_proxy_that_needs_more_than_there_is_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALL_PROXY", "HTTPS_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:1")

    async def test() -> None:
        with pytest.raises(Refused) as refused:
            await reach("hub.example", 4301)
        assert refused.value.reason is Reason.PEER_LOST
        assert "hub.example:4301" in str(refused.value)

    run(test())
