"""Bytes of a file to a socket: all of them, in order, whoever reads slowly, and whatever the system cannot do."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path

import pytest

from edgecoder_drivers.bare.sendfile import send_file

DATA = os.urandom(3 << 20)


def sent(path: Path, at: int, size: int) -> tuple[int, bytes]:
    """What is said to have been sent, and what came."""
    path.write_bytes(DATA)

    async def live() -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        with here, there, path.open("rb", buffering=0) as file:
            for end in (here, there):
                end.setblocking(False)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
            sending = asyncio.ensure_future(send_file(here, file, at, size))
            sending.add_done_callback(lambda _: here.shutdown(socket.SHUT_WR))
            came = bytearray()
            while data := await loop.sock_recv(there, 50_000):
                came += data
            return await sending, bytes(came)

    return asyncio.run(live())


@pytest.mark.parametrize(("at", "size"), [(0, len(DATA)), (17, 1 << 20), (5, 0), (len(DATA) - 3, 3)])
def test_what_is_asked_for_is_sent(tmp_path: Path, at: int, size: int) -> None:
    assert sent(tmp_path / "file", at, size) == (size, DATA[at : at + size])


def test_of_a_file_that_is_too_short_there_is_what_it_has(tmp_path: Path) -> None:
    assert sent(tmp_path / "file", len(DATA) - 9, 100) == (9, DATA[-9:])


@pytest.mark.parametrize("calls", [0, 3])
def test_where_the_system_cannot_the_loop_does_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    real, left = os.sendfile, [None] * calls

    def cannot(out: int, file: int, at: int, size: int) -> int:
        if not left:
            raise OSError(errno.EINVAL, "not for this file")
        left.pop()
        return real(out, file, at, min(size, 1000))

    monkeypatch.setattr(os, "sendfile", cannot)
    assert sent(tmp_path / "file", 11, 1 << 20) == (1 << 20, DATA[11 : 11 + (1 << 20)])


def test_a_system_without_it_reads_and_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sendfile")
    assert sent(tmp_path / "file", 1, 1 << 20) == (1 << 20, DATA[1 : 1 + (1 << 20)])


def test_who_goes_away_is_an_error_and_who_is_called_off_waits_no_more(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)

    async def live() -> None:
        here, there = socket.socketpair()
        with here, there, path.open("rb", buffering=0) as file:
            here.setblocking(False)
            sending = asyncio.ensure_future(send_file(here, file, 0, len(DATA)))
            await asyncio.sleep(0.01)
            assert not sending.done()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            there.close()
            with pytest.raises(ConnectionError):
                await send_file(here, file, 0, len(DATA))

    asyncio.run(live())
