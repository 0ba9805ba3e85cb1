"""Connections that are offered: what is taken of strangers and of peers, and whom a sender dials."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecoder.core.effects import CancelOp, CloseChannel, DialPeer, FetchPiece, Source, TakeChannel
from edgecoder.core.events import Event
from edgecoder.core.giving import ChannelLost, ChannelOffered, DialFailed, PeerDialled
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.transfer import channels as channels_module
from edgecoder_drivers.transfer import wire
from edgecoder_drivers.transfer.connection import Limits
from edgecoder_drivers.transfer.peers import Patience, Peers
from tests.drivers.cdn_server import says, serving
from tests.drivers.stranger import DATA, FILE, HAVE, PASS, RECEIVER, TICKET, Room, Stranger, visiting
from tests.drivers.transfer_contract import SENDER
from tests.drivers.transfer_rig import giving
from tests.strategies import examples

DIGEST = bytes.fromhex(FILE.sha256)
OFFER = wire.offer_path(DIGEST)
UPGRADE = {"connection": "upgrade", "upgrade": wire.REVERSE}
HASTY = Patience(connect_s=10.0, first_byte_s=0.3, silence_s=0.3)
PIECE = FILE.layout.piece_size_bytes


class Receiver(Room):
    """The server's end of a connection that is offered, with a core that does as a test says."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        super().__init__(path, limits or Limits())
        self.offers: list[ChannelOffered] = []
        self.gone: list[int] = []
        self.closes: Reason | None = None
        self.channels.open(self._core)

    def _core(self, event: Event) -> None:
        if isinstance(event, ChannelLost):
            self.gone.append(event.channel)
            return
        assert isinstance(event, ChannelOffered), event
        self.offers.append(event)
        if not self.is_mute:
            asyncio.get_running_loop().call_soon(self.decide, event.channel)

    def decide(self, channel: int) -> None:
        if self.closes is None:
            self.channels.take(TakeChannel(channel))
        else:
            self.channels.refuse(CloseChannel(channel, self.closes))

    async def is_lost(self, channel: int) -> None:
        for _ in range(2_000):
            if channel in self.gone:
                return
            await asyncio.sleep(0.002)
        raise AssertionError("the core does not hear that it is gone")

    async def fetch(self, first: int = 0, end: int = PIECE, channel: int = 1) -> bytes:
        """Ask over a connection that was taken. Raises Refused."""
        peers = Peers(RECEIVER, HASTY, self.channels)
        try:
            effect = FetchPiece(1, FILE, 0, 0, Source.MESH, 1, SENDER, "", None, TICKET, channel)
            return b"".join([data async for data in peers.source(effect).read(FILE, first, end)])
        finally:
            await peers.close()


@asynccontextmanager
async def taken(room: Receiver) -> AsyncIterator[Stranger]:
    """A stranger whose connection was taken."""
    async with asyncio.timeout(30), visiting(room) as stranger:
        stranger.ask(path=OFFER, **UPGRADE)
        said = await stranger.reader.readuntil(b"\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 101 ")
        try:
            yield stranger
        finally:
            room.channels.close()


def run(path: Path, test: Callable[[Receiver, Stranger], Awaitable[None]], limits: Limits | None = None) -> Receiver:
    """A test of one connection, before anything was said."""

    async def visit() -> Receiver:
        room = Receiver(path, limits)
        async with asyncio.timeout(30), visiting(room) as stranger:
            await test(room, stranger)
        return room

    return asyncio.run(visit())


def head(status: str, **headers: object) -> bytes:
    """The beginning of an answer that does not end the connection."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def answer_to(data: bytes, first: int, end: int) -> bytes:
    """What an honest peer says."""
    where = f"bytes {first}-{end - 1}/{FILE.file_size_bytes}"
    have = {wire.HAVE.replace("-", "_"): wire.write_have(HAVE, FILE.layout.piece_count)}
    return head("206 Partial Content", content_range=where, content_length=end - first, **have) + data[first:end]


# -- what is offered ---------------------------------------------------------------------------------------------------


def test_what_is_taken_is_asked_with_the_ends_turned_round(tmp_path: Path) -> None:
    async def live() -> None:
        room = Receiver(tmp_path)
        async with taken(room) as peer:
            assert room.offers == [ChannelOffered(1, RECEIVER, DIGEST, TICKET)]
            for first, end in ((0, PIECE), (PIECE, PIECE + 5)):
                asking = asyncio.ensure_future(room.fetch(first, end))
                asked = (await peer.reader.readuntil(b"\r\n\r\n")).decode()
                assert asked.startswith(f"GET {wire.path_of(FILE)} HTTP/1.1\r\n")
                assert f"authorization: {PASS}" in asked
                assert f"range: bytes={first}-{end - 1}" in asked
                peer.say(answer_to(DATA, first, end))
                assert await asking == DATA[first:end]
            assert room.gone == []
        assert room.gone == [1]

    asyncio.run(live())


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({}, 426),
        ({"connection": "upgrade", "upgrade": "websocket"}, 426),
        ({**UPGRADE, "method": "HEAD"}, 426),
        ({**UPGRADE, "authorization": None}, 401),
        ({**UPGRADE, "authorization": "Bearer x"}, 401),
        ({**UPGRADE, "authorization": PASS[:-8]}, 401),
        ({**UPGRADE, "path": f"/offers/sha256:{'0' * 64}"}, 403),
        ({**UPGRADE, "path": f"/offers/sha256:{'0' * 63}"}, 404),
        ({**UPGRADE, "path": "/offers/../blobs"}, 404),
    ],
)
def test_what_is_no_offer_never_reaches_the_core(tmp_path: Path, how: dict[str, str], status: int) -> None:
    async def test(room: Receiver, stranger: Stranger) -> None:
        answer = await stranger.get(**{"path": OFFER, **how})
        assert answer.status == status
        if status != 404:
            assert await stranger.rest() == b"", "the connection is kept"
        assert room.offers == []

    run(tmp_path, test)


@pytest.mark.parametrize("reason", [Reason.UNKNOWN_SENDER, Reason.NO_TICKET])
def test_what_the_core_does_not_want_is_closed_and_nothing_is_kept(tmp_path: Path, reason: Reason) -> None:
    async def test(room: Receiver, stranger: Stranger) -> None:
        room.closes = reason
        answer = await stranger.get(path=OFFER, **UPGRADE)
        assert (answer.status >= 400, answer.headers[wire.REASON]) == (True, reason.value)
        assert await stranger.rest() == b""
        assert room.channels.get(1) is None

    run(tmp_path, test)


def test_who_goes_before_the_word_of_the_core_is_forgotten(tmp_path: Path) -> None:
    async def test(room: Receiver, stranger: Stranger) -> None:
        room.is_mute = True
        stranger.ask(path=OFFER, **UPGRADE)
        while not room.offers:  # noqa: ASYNC110 - a test waits
            await asyncio.sleep(0.002)
        stranger.writer.close()
        await asyncio.wait({stranger.served})
        room.decide(1)
        assert room.gone == [1]
        assert room.channels.get(1) is None

    run(tmp_path, test)


def test_an_offer_without_an_answer_is_not_kept_for_ever(tmp_path: Path) -> None:
    async def test(room: Receiver, stranger: Stranger) -> None:
        room.is_mute = True
        stranger.ask(path=OFFER, **UPGRADE)
        assert await stranger.rest() == b""

    run(tmp_path, test, Limits(answer_s=0.1))


# -- peers that were taken ---------------------------------------------------------------------------------------------

LIES = {
    "nothing": b"",
    "garbage": b"SSH-2.0-OpenSSH\r\n\r\n",
    "a head without an end": b"HTTP/1.1 206 x\r\n" + b"a: b\r\n" * 10_000,
    "another range": answer_to(DATA, 1, PIECE + 1),
    "too little": answer_to(DATA, 0, PIECE)[:-1],
    "no length": head("206 Partial Content", content_range=f"bytes 0-{PIECE - 1}/{FILE.file_size_bytes}"),
    "the whole file": head("200 OK", content_length=len(DATA)) + DATA,
    "another turn": head("101 Switching Protocols", upgrade="x"),
    "a refusal without an end": head("503 No", content_length=1 << 40) + b"x" * (1 << 16),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_peer_that_lies_is_left_and_the_core_hears_it(tmp_path: Path, lie: bytes) -> None:
    async def live() -> None:
        room = Receiver(tmp_path)
        async with taken(room) as peer:
            asking = asyncio.ensure_future(room.fetch())
            await peer.reader.readuntil(b"\r\n\r\n")
            peer.say(lie)
            if not lie:
                peer.writer.close()
            with pytest.raises(Refused) as refused:
                await asking
            assert refused.value.reason in {Reason.PEER_LOST, Reason.INVALID, Reason.NO_ANSWER}
            await room.is_lost(1)
            with pytest.raises(Refused, match="gone"):
                await room.fetch()

    asyncio.run(live())


@given(said=st.binary(max_size=400) | st.binary(max_size=200).map(lambda tail: b"HTTP/1.1 206 OK\r\n" + tail))
@settings(examples(1), deadline=None)
def test_whatever_a_peer_answers_ends_as_a_refusal(said: bytes) -> None:
    async def live() -> None:
        room = Receiver(Path())
        async with taken(room) as peer:
            asking = asyncio.ensure_future(room.fetch())
            await peer.reader.readuntil(b"\r\n\r\n")
            peer.say(said)
            peer.writer.close()
            with pytest.raises(Refused):
                await asking
            await room.is_lost(1)

    asyncio.run(live())


def test_a_refusal_costs_no_connection(tmp_path: Path) -> None:
    async def live() -> None:
        room = Receiver(tmp_path)
        async with taken(room) as peer:
            for reason in (Reason.BUSY, Reason.NOT_HELD):
                asking = asyncio.ensure_future(room.fetch())
                await peer.reader.readuntil(b"\r\n\r\n")
                status, body = wire.problem_of_reason(reason)
                more = {wire.REASON.replace("-", "_"): reason.value}
                peer.say(head(f"{status} No", content_length=len(body), **more) + body)
                with pytest.raises(Refused) as refused:
                    await asking
                assert refused.value.reason is reason
            assert room.gone == []

    asyncio.run(live())


def test_requests_over_one_connection_wait_for_each_other(tmp_path: Path) -> None:
    async def live() -> None:
        room = Receiver(tmp_path)
        async with taken(room) as peer:
            asking = [asyncio.ensure_future(room.fetch(first, first + 9)) for first in (0, 100, 200)]
            for first in (0, 100, 200):
                assert f"bytes={first}-" in (await peer.reader.readuntil(b"\r\n\r\n")).decode()
                await asyncio.sleep(0.02)
                peer.say(answer_to(DATA, first, first + 9))
            assert await asyncio.gather(*asking) == [DATA[first : first + 9] for first in (0, 100, 200)]

    asyncio.run(live())


def test_who_hangs_up_while_nothing_is_asked_is_noticed(tmp_path: Path) -> None:
    async def live() -> None:
        room = Receiver(tmp_path)
        async with taken(room) as peer:
            peer.writer.close()
            await room.is_lost(1)

    asyncio.run(live())


def test_a_connection_that_nobody_uses_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels_module, "IDLE_S", 0.05)

    async def live() -> None:
        room = Receiver(tmp_path)
        async with taken(room) as peer:
            assert await peer.rest() == b""
            await room.is_lost(1)

    asyncio.run(live())


# -- whom a sender dials -----------------------------------------------------------------------------------------------

REFUSALS = [
    (b"", Reason.PEER_LOST),
    (b"SSH-2.0-OpenSSH\r\n\r\n", Reason.PEER_LOST),
    (head("200 OK", content_length=0), Reason.PEER_LOST),
    (head("404 Not Found", content_length=0), Reason.PEER_LOST),
    (head("102 Processing") + head("200 OK", content_length=0), Reason.PEER_LOST),
    (b"HTTP/1.1 101 x\r\n" + b"a: b\r\n" * 10_000, Reason.PEER_LOST),
    (head("403 No", content_length=0, **{wire.REASON.replace("-", "_"): "no_ticket"}), Reason.NO_TICKET),
    (head("403 No", content_length=0, **{wire.REASON.replace("-", "_"): "nonsense"}), Reason.PEER_LOST),
]


def dialled(root: Path, *answers: bytes, endpoint: str = "", cancels: bool = False) -> list[Event]:
    """How dials end, one after the other, and what the receiver was shown."""
    catalog = Catalog((FILE,))

    async def live() -> list[Event]:
        ends: list[Event] = []
        async with asyncio.timeout(30), giving(root, SENDER, catalog, is_dialable=False) as node:
            for op, answer in enumerate(answers, start=1):
                async with serving(says(answer)) as server:
                    where = endpoint or f"127.0.0.1:{server.port}"
                    node.say(DialPeer(op, RECEIVER, where, DIGEST, TICKET))
                    if cancels:
                        node.say(CancelOp(op))
                    ends.append(await node.end(op))
                    for request in server.requests:
                        assert request.path == OFFER
                        assert request.headers["upgrade"] == wire.REVERSE
                        shown = wire.read_pass(request.headers["authorization"])
                        assert shown is not None
                        assert (shown.node, shown.ticket) == (SENDER, TICKET)
        return ends

    return asyncio.run(live())


def test_only_the_upgrade_that_was_asked_for_is_consent(tmp_path: Path) -> None:
    ends = dialled(tmp_path, *[answer for answer, _ in REFUSALS])
    assert ends == [DialFailed(op, reason) for op, (_, reason) in enumerate(REFUSALS, start=1)]


def test_consent_is_taken(tmp_path: Path) -> None:
    agrees = head("101 Switching Protocols", connection="upgrade", upgrade=wire.REVERSE)
    assert dialled(tmp_path, agrees) == [PeerDialled(1)]


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1", "127.0.0.1:0", "user@127.0.0.1:80", "no-such.invalid:4303"])
def test_what_is_no_address_is_not_dialled(tmp_path: Path, endpoint: str) -> None:
    assert dialled(tmp_path, b"", endpoint=endpoint or "x") == [DialFailed(1, Reason.PEER_LOST)]


def test_only_a_dial_that_succeeds_takes_the_place_of_one_that_asks_for_nothing(tmp_path: Path) -> None:
    agrees = head("101 Switching Protocols", connection="upgrade", upgrade=wire.REVERSE)

    async def live() -> None:
        limits = Limits(connections_max=1, idle_s=600.0)
        async with asyncio.timeout(30), giving(tmp_path, SENDER, Catalog((FILE,)), limits=limits) as node:
            assert node.server is not None

            async def dial(op: int, answer: bytes) -> Event:
                async with serving(says(answer)) as server:
                    node.say(DialPeer(op, RECEIVER, f"127.0.0.1:{server.port}", DIGEST, TICKET))
                    return await node.end(op)

            reader, writer = await asyncio.open_connection("127.0.0.1", node.server.port)
            assert await dial(1, b"") == DialFailed(1, Reason.PEER_LOST)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", node.server.port)
            assert await dial(2, agrees) == PeerDialled(2)
            assert await reader.read() == b""
            writer.close()

    asyncio.run(live())


def test_a_dial_that_is_called_off_ends(tmp_path: Path) -> None:
    (end,) = dialled(tmp_path, b"", cancels=True)
    assert isinstance(end, DialFailed)
