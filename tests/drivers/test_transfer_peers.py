"""Peers that lie: whatever one sends, only the file's own leaves are kept, and it is named as what it is."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecoder.core.effects import AllocateFile, CancelOp, FetchPiece, Source
from edgecoder.core.events import FileAllocated, PieceFailed, PieceFetched
from edgecoder.errors import REASONS, Reason
from edgecoder.models.catalog import Catalog
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder.seeding.uploads import REFUSALS
from edgecoder_drivers.transfer import wire
from edgecoder_drivers.transfer.peers import Patience
from tests.drivers.cdn_server import Answer, Request, Server, head, says, serving
from tests.drivers.transfer_contract import HAVE, RECEIVER, SENDER, TICKET
from tests.drivers.transfer_rig import DATA, FILE, PATIENCE, taking
from tests.strategies import examples

CATALOG = Catalog((FILE,))
HASHES = b"".join(leaf_hashes(DATA))
PIECE = FILE.layout.piece_size_bytes
HASTY = Patience(connect_s=10.0, first_byte_s=0.3, silence_s=0.3)
WHERE = "bytes {}-{}/{}"


def gives(data: bytes = DATA, hashes: bytes = HASHES) -> Answer:
    """A peer that does as a sender should, with these bytes."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        body = hashes if request.path.endswith(wire.LEAVES) else data
        assert request.range is not None
        first, last = request.range
        part = body[first : last + 1]
        where = WHERE.format(first, last, len(body))
        have = {wire.HAVE.replace("-", "_"): wire.write_have(HAVE, FILE.layout.piece_count)}
        writer.write(head("206 Partial Content", content_range=where, content_length=len(part), **have) + part)

    return answer


def after_hashes(lie: Answer) -> Answer:
    """A peer that gives the right hashes, and then lies."""
    honest = gives()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await (honest if request.path.endswith(wire.LEAVES) else lie)(request, writer)

    return answer


def fetch(
    root: Path,
    *answers: Answer,
    first_leaf: int = 0,
    patience: Patience = PATIENCE,
    meanwhile: Callable[[Server], Awaitable[bool]] | None = None,
) -> tuple[list[PieceFetched | PieceFailed], list[Request], bytes]:
    """What comes of asking peers for the second piece, one after the other; what they were asked; what is on the disk.
    `meanwhile` says whether to call a request off."""

    async def live() -> tuple[list[PieceFetched | PieceFailed], list[Request], bytes]:
        ends: list[PieceFetched | PieceFailed] = []
        requests: list[Request] = []
        leaf = first_leaf
        async with asyncio.timeout(30), taking(root, RECEIVER, CATALOG, patience) as node:
            node.say(AllocateFile(1, FILE))
            assert await node.end(1) == FileAllocated(1)
            for op, answer in enumerate(answers, start=2):
                async with serving(answer) as server:
                    endpoint = f"127.0.0.1:{server.port}"
                    node.say(FetchPiece(op, FILE, 1, leaf, Source.MESH, 1, SENDER, endpoint, None, TICKET))
                    if meanwhile is not None and await meanwhile(server):
                        node.say(CancelOp(op))
                    end = await node.end(op)
                    assert isinstance(end, PieceFetched | PieceFailed)
                    ends.append(end)
                    requests += server.requests
                    if isinstance(end, PieceFailed):
                        leaf = max(leaf, end.leaves)
        with (root / "partial" / f"sha256-{FILE.sha256}").open("rb") as file:
            file.seek(PIECE)
            return ends, requests, file.read(PIECE)

    return asyncio.run(live())


def failed(ends: Sequence[PieceFetched | PieceFailed]) -> PieceFailed:
    (end,) = ends
    assert isinstance(end, PieceFailed), end
    return end


def wrong_from(leaf: int) -> bytes:
    """The file's bytes, but for one leaf of the second piece."""
    at = PIECE + leaf * LEAF_BYTES
    return DATA[:at] + b"x" + DATA[at + 1 :]


def test_an_honest_peer_is_asked_with_the_ticket_and_gives_the_piece(tmp_path: Path) -> None:
    ends, requests, kept = fetch(tmp_path, gives())
    assert ends == [PieceFetched(2, HAVE)]
    assert kept == DATA[PIECE : 2 * PIECE]
    assert [request.path for request in requests] == [wire.path_of(FILE, is_hashes=True), wire.path_of(FILE)]
    assert requests[1].range == (PIECE, 2 * PIECE - 1)
    for request in requests:
        shown = wire.read_pass(request.headers["authorization"])
        assert shown is not None
        assert (shown.node, shown.ticket) == (RECEIVER, TICKET)


def test_hashes_are_asked_for_once(tmp_path: Path) -> None:
    ends, requests, _ = fetch(tmp_path, gives(), gives())
    assert all(isinstance(end, PieceFetched) for end in ends)
    assert [request.path.endswith(wire.LEAVES) for request in requests] == [True, False, False]


@pytest.mark.parametrize("leaf", [0, 3, 15])
def test_a_wrong_leaf_names_its_sender_and_what_came_before_it_stays(tmp_path: Path, leaf: int) -> None:
    ends, requests, kept = fetch(tmp_path, gives(wrong_from(leaf)), gives())
    assert isinstance(ends[0], PieceFailed)
    assert (ends[0].reason, ends[0].leaves) == (Reason.PIECE_CORRUPT, leaf)
    assert ends[0].wasted_bytes == PIECE - leaf * LEAF_BYTES
    assert requests[-1].range == (PIECE + leaf * LEAF_BYTES, 2 * PIECE - 1)
    assert (ends[1], kept) == (PieceFetched(3, HAVE), DATA[PIECE : 2 * PIECE])


def test_wrong_hashes_name_their_sender_and_are_not_kept(tmp_path: Path) -> None:
    ends, _, kept = fetch(tmp_path, gives(hashes=HASHES[32:] + HASHES[:32]), gives(), first_leaf=2)
    assert ends[0] == PieceFailed(2, Reason.PIECE_CORRUPT, 2, 0, HAVE)
    assert ends[1] == PieceFetched(3, HAVE)
    assert kept[2 * LEAF_BYTES :] == DATA[PIECE + 2 * LEAF_BYTES : 2 * PIECE]


def test_an_answer_that_ends_early_keeps_its_whole_leaves(tmp_path: Path) -> None:
    async def truncated(_: Request, writer: asyncio.StreamWriter) -> None:
        where = WHERE.format(PIECE, 2 * PIECE - 1, len(DATA))
        part = DATA[PIECE:][: 3 * LEAF_BYTES + 100]
        writer.write(head("206 Partial Content", content_range=where, content_length=PIECE) + part)

    ends, _, kept = fetch(tmp_path, after_hashes(truncated), gives())
    assert ends[0] == PieceFailed(2, Reason.PEER_LOST, 3, 100)
    assert (ends[1], kept) == (PieceFetched(3, HAVE), DATA[PIECE : 2 * PIECE])


_RIGHT = {"content_range": WHERE.format(PIECE, 2 * PIECE - 1, len(DATA)), "content_length": PIECE}
_BODY = DATA[PIECE : 2 * PIECE]


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        ("200 OK", {"content_length": len(DATA)}, DATA),
        ("200 OK", {}, DATA * 100),
        ("206 Partial Content", {"content_length": PIECE}, _BODY),
        ("206 Partial Content", {**_RIGHT, "content_range": WHERE.format(0, PIECE - 1, len(DATA))}, _BODY),
        ("206 Partial Content", {**_RIGHT, "content_range": WHERE.format(PIECE, 2 * PIECE - 1, 10)}, _BODY),
        ("206 Partial Content", {**_RIGHT, "content_range": WHERE.format(PIECE, 10**17, "9" * 17)}, _BODY),
        ("206 Partial Content", {**_RIGHT, "content_length": PIECE + 1}, _BODY + b"x"),
        ("206 Partial Content", {**_RIGHT, "content_length": 1 << 60}, _BODY),
        ("206 Partial Content", {**_RIGHT, "content_encoding": "gzip"}, _BODY),
        ("206 Partial Content", {"content_range": _RIGHT["content_range"], "transfer_encoding": "chunked"}, b"0\r\n"),
        ("206 Partial Content", {**_RIGHT, "transfer_encoding": "chunked"}, b"40000\r\n" + _BODY + b"\r\n0\r\n\r\n"),
        ("302 Found", {"location": "http://127.0.0.1:1/", "content_length": 0}, b""),
        ("204 No Content", {}, b""),
        ("503 Service Unavailable", {"edgecoder_reason": Reason.DISK_FULL.value, "content_length": 0}, b""),
        ("503 Service Unavailable", {"edgecoder_reason": Reason.PIECE_CORRUPT.value, "content_length": 0}, b""),
        ("500 Oops", {"content_length": 0}, b""),
    ],
)
def test_an_answer_to_another_question_is_none(
    tmp_path: Path, status: str, headers: dict[str, object], body: bytes
) -> None:
    ends, _, kept = fetch(tmp_path, after_hashes(says(head(status, **headers) + body)))
    assert failed(ends).reason is Reason.INVALID
    assert failed(ends).leaves == 0
    assert kept == bytes(PIECE)


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"", b"HTTP/1.1 206 x\r\na b c\r\n\r\n", bytes(4000)])
def test_what_is_no_http_is_a_peer_that_is_not_there(tmp_path: Path, said: bytes) -> None:
    assert failed(fetch(tmp_path, says(said))[0]).reason is Reason.PEER_LOST


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason in REFUSALS])
def test_a_refusal_is_told_as_it_was_said(tmp_path: Path, reason: Reason) -> None:
    status = f"{REASONS[reason].http_status} No"
    have = wire.write_have(HAVE, FILE.layout.piece_count)
    refusal = head(status, edgecoder_reason=reason.value, edgecoder_have=have, content_length=0)
    assert failed(fetch(tmp_path, says(refusal))[0]) == PieceFailed(2, reason, 0, 0, HAVE)


@pytest.mark.parametrize("have", ["", "!", "//////8=", base64.b64encode(bytes(9)).decode()])
def test_a_have_map_that_is_none_says_nothing(tmp_path: Path, have: str) -> None:
    refusal = head("503 No", edgecoder_reason=Reason.BUSY.value, edgecoder_have=have, content_length=0)
    assert failed(fetch(tmp_path, says(refusal))[0]) == PieceFailed(2, Reason.BUSY, 0, 0, 0)


async def _silent(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 206")
    await writer.drain()
    await asyncio.sleep(30)


async def _stalls(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(head("206 Partial Content", **_RIGHT) + _BODY[: 2 * LEAF_BYTES])
    await writer.drain()
    await asyncio.sleep(30)


async def _goes_on(_: Request, writer: asyncio.StreamWriter) -> None:
    while True:  # informational answers for ever
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.001)


async def _endless_head(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 206 Partial Content\r\n")
    while True:
        writer.write(b"a: b\r\n" * 1000)
        await writer.drain()


@pytest.mark.parametrize(
    ("lie", "reason", "leaves"),
    [
        (_silent, Reason.NO_ANSWER, 0),
        (_stalls, Reason.NO_ANSWER, 2),
        (_goes_on, Reason.PEER_LOST, 0),
        (_endless_head, Reason.PEER_LOST, 0),
    ],
)
def test_a_peer_that_keeps_one_waiting_is_left(tmp_path: Path, lie: Answer, reason: Reason, leaves: int) -> None:
    end = failed(fetch(tmp_path, after_hashes(lie), patience=HASTY)[0])
    assert (end.reason, end.leaves) == (reason, leaves)


@pytest.mark.parametrize(("lie", "leaves"), [(_silent, 0), (_stalls, 2)])
def test_a_request_that_is_called_off_ends_at_once_with_what_came(tmp_path: Path, lie: Answer, leaves: int) -> None:
    async def meanwhile(server: Server) -> bool:
        for _ in range(5_000):
            if len(server.requests) == 2:
                break
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.2)
        return True

    end = failed(fetch(tmp_path, after_hashes(lie), meanwhile=meanwhile)[0])
    assert (end.reason, end.leaves) == (Reason.CANCELLED, leaves)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"endpoint": ""}, Reason.PEER_LOST),
        ({"endpoint": "127.0.0.1"}, Reason.PEER_LOST),
        ({"endpoint": "user@127.0.0.1:80"}, Reason.PEER_LOST),
        ({"endpoint": "127.0.0.1:80/x?"}, Reason.PEER_LOST),
        ({"endpoint": "127.0.0.1:1"}, Reason.PEER_LOST),
        ({"endpoint": "no-such-host.invalid:4303"}, Reason.PEER_LOST),
        ({"ticket": None}, Reason.NO_TICKET),
        ({"source": Source.BLE}, Reason.UNAVAILABLE),
    ],
)
def test_a_peer_without_address_or_ticket_is_not_asked(
    tmp_path: Path, changes: dict[str, object], reason: Reason
) -> None:
    async def live() -> None:
        async with asyncio.timeout(30), taking(tmp_path, RECEIVER, CATALOG) as node:
            effect = FetchPiece(1, FILE, 0, 0, Source.MESH, 1, SENDER, "127.0.0.1:9", None, TICKET)
            node.say(msgspec.structs.replace(effect, **changes))
            assert await node.end(1) == PieceFailed(1, reason)

    asyncio.run(live())


@settings(examples(1), deadline=None)
@given(data=st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([
    b"HTTP/1.1 206 Partial Content\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n",
    b"content-length: 262144\r\n", b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"ffff\r\n",
    f"content-range: {_RIGHT['content_range']}\r\n".encode(), b"\r\n\r\n", _BODY[:20_000],
])), max_size=12).map(b"".join))  # fmt: skip
def test_whatever_a_peer_says_the_request_ends_and_only_right_leaves_are_kept(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    ends, _, kept = fetch(tmp_path_factory.mktemp("taker"), after_hashes(says(data)), patience=HASTY)
    end = failed(ends)
    assert kept[: end.leaves * LEAF_BYTES] == _BODY[: end.leaves * LEAF_BYTES]
    assert kept[end.leaves * LEAF_BYTES :] == bytes(PIECE - end.leaves * LEAF_BYTES)
