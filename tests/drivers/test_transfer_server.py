"""The transfer server: what whoever asks gets, and what a stranger may not do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecoder.core.giving import AskWithdrawn, PieceAsked
from edgecoder.core.ids import Wanted
from edgecoder.errors import Reason
from edgecoder.seeding.uploads import REFUSALS
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.transfer import wire
from edgecoder_drivers.transfer.connection import Limits
from tests.drivers.stranger import DATA, FILE, HASHES, HAVE, PASS, RECEIVER, TICKET, Room, Stranger, visiting
from tests.strategies import examples

SIZE = FILE.file_size_bytes
PIECE = FILE.layout.piece_size_bytes
LEAVES = wire.path_of(FILE, is_hashes=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def run(
    path: Path,
    test: Callable[[Room, Stranger], Awaitable[None]],
    limits: Limits | None = None,
    kbit_per_s: int = 0,
) -> Room:
    """A test of one connection."""

    async def visit() -> Room:
        room = Room(path, limits or Limits(), kbit_per_s)
        async with asyncio.timeout(30), visiting(room) as stranger:
            await test(room, stranger)
        return room

    return asyncio.run(visit())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "file"
    path.write_bytes(DATA)
    return path


# -- what is given -----------------------------------------------------------------------------------------------------


def test_a_piece_is_given_with_what_is_here(path: Path) -> None:
    async def test(room: Room, stranger: Stranger) -> None:
        answer = await stranger.get(range=f"bytes={PIECE}-{2 * PIECE - 1}")
        assert (answer.status, answer.body) == (206, DATA[PIECE : 2 * PIECE])
        assert answer.headers["content-range"] == f"bytes {PIECE}-{2 * PIECE - 1}/{SIZE}"
        assert wire.read_have(answer.headers[wire.HAVE], 3) == HAVE
        (event,) = room.heard
        assert event == PieceAsked(1, RECEIVER, bytes.fromhex(FILE.sha256), 1, 0, TICKET, None, Wanted.BYTES)

    assert run(path, test).ended == [None]


@pytest.mark.parametrize(
    ("wanted", "first", "end", "asked"),
    [
        ("bytes=0-0", 0, 1, [(0, 0)]),
        (f"bytes={16_384 * 2 + 5}-{PIECE - 1}", 16_384 * 2 + 5, PIECE, [(0, 2)]),
        (f"bytes={PIECE - 1}-{PIECE}", PIECE - 1, PIECE + 1, [(0, 3), (1, 0)]),
        ("bytes=-10", SIZE - 10, SIZE, [(2, 1)]),
        ("bytes=16384-", 16_384, SIZE, [(0, 1), (1, 0), (2, 0)]),
        ("bytes=0-999999999", 0, SIZE, [(0, 0), (1, 0), (2, 0)]),
    ],
)
def test_any_range_is_put_to_the_core_piece_by_piece(
    path: Path, wanted: str, first: int, end: int, asked: list[tuple[int, int]]
) -> None:
    async def test(_: Room, stranger: Stranger) -> None:
        answer = await stranger.get(range=wanted)
        assert (answer.status, answer.body) == (206, DATA[first:end])

    room = run(path, test)
    assert room.asked == asked
    assert room.ended == [None] * len(asked)


@pytest.mark.parametrize("headers", [{}, {"range": "lines=1-2"}, {"range": "bytes=0-1", "if_range": '"other"'}])
def test_without_a_range_that_holds_it_is_the_whole_file(path: Path, headers: dict[str, str]) -> None:
    async def test(_: Room, stranger: Stranger) -> None:
        answer = await stranger.get(**headers)
        assert (answer.status, answer.body) == (200, DATA)
        assert "content-range" not in answer.headers
        assert (await stranger.get(range="bytes=0-1", if_range=answer.headers["etag"])).status == 206

    run(path, test)


def test_the_hashes_are_given_too(path: Path) -> None:
    async def test(_: Room, stranger: Stranger) -> None:
        assert (await stranger.get(path=LEAVES)).body == HASHES
        answer = await stranger.get(path=LEAVES, range="bytes=32-95")
        assert (answer.status, answer.body) == (206, HASHES[32:96])
        assert answer.headers["content-range"] == f"bytes 32-95/{len(HASHES)}"

    room = run(path, test)
    assert [event.wanted for event in room.heard if isinstance(event, PieceAsked)] == [Wanted.HASHES] * 2


def test_a_look_costs_no_bytes(path: Path) -> None:
    async def test(_: Room, stranger: Stranger) -> None:
        for where, size in ((None, SIZE), (LEAVES, len(HASHES))):
            answer = await stranger.get(method="HEAD", path=where)
            assert (answer.status, answer.headers["content-length"]) == (200, str(size))
            assert wire.read_have(answer.headers[wire.HAVE], 3) == HAVE

    room = run(path, test)
    assert [event.wanted for event in room.heard if isinstance(event, PieceAsked)] == [Wanted.NOTHING] * 2
    assert room.ended == [None, None]


def test_requests_that_come_at_once_are_answered_in_their_order(path: Path) -> None:
    async def test(_: Room, stranger: Stranger) -> None:
        for piece in range(3):
            stranger.ask(range=f"bytes={piece * PIECE}-{piece * PIECE}")
        for piece in range(3):
            assert (await stranger.answer()).body == DATA[piece * PIECE :][:1]

    run(path, test)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason in REFUSALS])
def test_what_the_core_refuses_is_told(path: Path, reason: Reason) -> None:
    async def test(room: Room, stranger: Stranger) -> None:
        room.refuses = reason
        for method in ("HEAD", "GET"):  # a bad ticket costs its connection
            answer = await stranger.get(method=method)
            assert answer.status >= 400
            assert wire.refusal_of(answer.headers[wire.REASON]) is reason
            assert wire.read_have(answer.headers[wire.HAVE], 3) == HAVE
            if reason is Reason.NO_TICKET:
                assert await stranger.rest() == b""
                return

    run(path, test)


def test_what_is_not_here_after_all_is_refused_and_the_core_hears_it(path: Path) -> None:
    async def test(room: Room, stranger: Stranger) -> None:
        room.lost = Refused(Reason.CHECKSUM_MISMATCH)
        for where in (None, LEAVES):
            assert (await stranger.get(path=where)).headers[wire.REASON] == Reason.NOT_HELD.value

    assert run(path, test).ended == [Reason.CHECKSUM_MISMATCH] * 2


def test_a_file_that_is_too_short_breaks_off(path: Path) -> None:
    path.write_bytes(DATA[:1000])

    async def test(_: Room, stranger: Stranger) -> None:
        with pytest.raises(asyncio.IncompleteReadError):
            await stranger.get(range=f"bytes=0-{PIECE - 1}")

    assert run(path, test).ended == [Reason.STORE_FAILED]


def test_a_piece_that_is_refused_midway_breaks_off(path: Path) -> None:
    async def test(room: Room, stranger: Stranger) -> None:
        stranger.ask()
        await stranger.reader.readexactly(100)
        room.refuses = Reason.NOT_HELD
        assert len(await stranger.rest()) < SIZE

    run(path, test, kbit_per_s=2_000)


# -- what a stranger may not do ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"authorization": None}, 401),
        ({"authorization": "Bearer abc"}, 401),
        ({"authorization": PASS[:-8]}, 401),
        ({"path": "/"}, 404),
        ({"path": "/blobs/sha256:" + "0" * 64}, 404),
        ({"path": wire.path_of(FILE) + "/../x"}, 404),
        ({"path": wire.path_of(FILE).upper()}, 404),
        ({"method": "DELETE"}, 405),
        ({"range": f"bytes={SIZE}-"}, 416),
        ({"range": "bytes=5-3"}, 416),
        ({"range": "bytes=-0"}, 416),
        ({"range": "bytes=0-1,5-6"}, 416),
        ({"range": "bytes=x"}, 416),
    ],
)
def test_what_is_no_request_for_a_piece_never_gets_to_the_core(path: Path, how: dict[str, str], status: int) -> None:
    async def test(_: Room, stranger: Stranger) -> None:
        assert (await stranger.get(**how)).status == status

    assert run(path, test).heard == []


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000000\r\n\r\n" + bytes(70_000), 413),
        (b"GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", 413),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
        (b"GET /" + b"a" * 40_000, 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000, 431),
    ],
)
def test_bodies_and_what_is_no_http_end_the_connection(path: Path, data: bytes, status: int) -> None:
    async def test(_: Room, stranger: Stranger) -> None:
        stranger.say(data)
        try:
            answer = await stranger.rest()
        except ConnectionError:  # it closed while there was more to read
            return
        assert answer.startswith(b"HTTP/1.1 ")
        assert int(answer[9:12]) in (status, 400, 431)
        assert b"connection: close" in answer.lower()

    assert run(path, test).heard == []


def test_a_head_that_drips_is_cut_off(path: Path) -> None:
    async def test(_: Room, stranger: Stranger) -> None:
        async def drip() -> None:
            with suppress(ConnectionError):
                for byte in b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 10_000:
                    stranger.say(bytes([byte]))
                    await asyncio.sleep(0.01)
                raise AssertionError("all of it was taken")

        dripping = asyncio.create_task(drip())
        with suppress(ConnectionError):
            assert await stranger.rest() == b""
        dripping.cancel()

    run(path, test, Limits(head_s=0.2, idle_s=60.0))


def test_one_that_asks_for_nothing_is_sent_away(path: Path) -> None:
    async def test(_: Room, stranger: Stranger) -> None:
        assert (await stranger.get()).body == DATA
        assert await stranger.rest() == b""

    run(path, test, Limits(idle_s=0.1))


def test_who_goes_while_the_core_thinks_is_withdrawn(path: Path) -> None:
    async def test(room: Room, stranger: Stranger) -> None:
        room.is_mute = True
        stranger.ask()
        await room.hears()
        stranger.writer.close()
        await asyncio.wait({stranger.served})
        assert room.heard[1] == AskWithdrawn(1)

    run(path, test)


def test_a_core_that_never_answers_is_not_waited_for(path: Path) -> None:
    async def test(room: Room, stranger: Stranger) -> None:
        room.is_mute = True
        stranger.ask()
        assert await stranger.rest() == b""
        assert room.heard[1] == AskWithdrawn(1)

    run(path, test, Limits(answer_s=0.1))


def test_who_goes_midway_is_lost(path: Path) -> None:
    async def test(_: Room, stranger: Stranger) -> None:
        stranger.ask()
        await stranger.reader.readexactly(100)
        stranger.writer.close()
        await asyncio.wait({stranger.served})

    assert run(path, test, kbit_per_s=2_000).ended == [Reason.PEER_LOST]


def test_who_does_not_read_is_cut_off(path: Path) -> None:
    path.write_bytes(DATA + bytes(PIECE))

    async def test(_: Room, stranger: Stranger) -> None:
        stranger.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _time in range(60):
            stranger.ask(range=f"bytes=0-{SIZE - 1}")
        await asyncio.wait({stranger.served})

    room = run(path, test, Limits(stall_s=0.2, slowest_bytes_per_s=1_000_000_000))
    assert room.ended[-1] is Reason.TOO_SLOW
    assert set(room.ended[:-1]) <= {None}


def test_a_node_that_ends_ends_what_it_sends(path: Path) -> None:
    async def test(room: Room, stranger: Stranger) -> None:
        stranger.ask()
        await stranger.reader.readexactly(100)
        room.stop()
        assert len(await stranger.rest()) < SIZE

    run(path, test, kbit_per_s=2_000)


# -- whatever comes ----------------------------------------------------------------------------------------------------

_TOKENS = st.sampled_from(
    [
        b"GET ", b"HEAD ", b"POST ", b"CONNECT ", wire.path_of(FILE).encode(), LEAVES.encode(), b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n", b"\r\n", b"\r\n\r\n", b"host: x\r\n", b"authorization: " + PASS.encode() + b"\r\n",
        b"range: bytes=0-99\r\n", b"range: bytes=", b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n",
        b"connection: close\r\n", b"upgrade: x\r\nconnection: upgrade\r\n", b"expect: 100-continue\r\n", b"0\r\n\r\n",
    ]
)  # fmt: skip
_GOOD = f"GET {wire.path_of(FILE)} HTTP/1.1\r\nhost: x\r\nauthorization: {PASS}\r\nrange: bytes=0-99\r\n\r\n".encode()


@settings(examples(4), deadline=None)
@given(
    parts=st.lists(st.one_of(_TOKENS, st.binary(max_size=60), st.just(_GOOD)), max_size=12),
    cut=st.integers(1, 4000),
    refuses=st.sampled_from([None, None, Reason.BUSY, Reason.NO_TICKET]),
)
def test_whatever_comes_the_server_answers_in_http_or_hangs_up_and_every_request_ends(
    served: Path, parts: list[bytes], cut: int, refuses: Reason | None
) -> None:
    data = b"".join(parts)

    async def test(room: Room, stranger: Stranger) -> None:
        room.refuses = refuses
        try:
            for at in range(0, len(data), cut):
                stranger.say(data[at : at + cut])
                await asyncio.sleep(0)
            stranger.writer.write_eof()
            said = await stranger.rest()
        except ConnectionError:
            return
        assert said == b"" or said.startswith(b"HTTP/1.1 ")

    room = run(served, test)
    asked = {event.request for event in room.heard if isinstance(event, PieceAsked)}
    withdrawn = {event.request for event in room.heard if isinstance(event, AskWithdrawn)}
    assert withdrawn <= asked
    assert room.desk._asks == {}
    if refuses is None:
        assert len(room.ended) == len(asked - withdrawn)
