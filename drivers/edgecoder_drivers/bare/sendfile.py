"""Bytes of a file to a socket by `sendfile`: what the loop's own does, but for waiting after the last byte has gone."""

from __future__ import annotations

import asyncio
import os
import socket
from io import FileIO
from typing import BinaryIO


async def send_file(sock: socket.socket, file: BinaryIO | FileIO, at: int, size: int) -> int:
    """Send `size` bytes of a file from an offset on, or those that there are; how many there were. The socket does not
    block. Raises OSError. Where a system or a file system has no `sendfile`, the loop reads and sends."""
    begin, end = at, at + size
    while at < end:
        try:
            sent = os.sendfile(sock.fileno(), file.fileno(), at, end - at)
        except BlockingIOError:
            await _writable(sock)
        except ConnectionError:
            raise
        except (AttributeError, OSError):
            return at - begin + await asyncio.get_running_loop().sock_sendfile(sock, file, at, end - at)
        else:
            at += sent
            if not sent:
                break
    return at - begin


async def _writable(sock: socket.socket) -> None:
    """Until it takes more."""
    loop = asyncio.get_running_loop()
    can: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, _set, can)
    try:
        await can
    finally:
        loop.remove_writer(sock)


def _set(can: asyncio.Future[None]) -> None:
    if not can.done():
        can.set_result(None)
