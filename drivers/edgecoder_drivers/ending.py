"""How the process of a node is told to end: once to drain, once more to end at once, whatever hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any, Final

import structlog

from edgecoder.cli.app import EXIT_FAILED
from edgecoder_drivers.host import AsyncHost

HANG_S: Final = 3.0
"""So long after the second word the process is ended, if it has not ended: a thread may wait for a disk for ever."""
_log = structlog.get_logger("edgecoder")


class Ending:
    """What the system and the user have said, as long as the loop runs."""

    def __init__(self) -> None:
        self.first, self.second = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            is_under_nohup = number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
            if not is_under_nohup:
                loop.add_signal_handler(number, self._told)

    def _told(self) -> None:
        if not self.first.is_set():
            self.first.set()
        elif not self.second.is_set():
            self.second.set()
            _log.warning("ending at once")
            end = threading.Timer(HANG_S, os._exit, (EXIT_FAILED,))  # the loop may be over by then, and a thread not
            end.daemon = True
            end.start()
        else:
            os._exit(EXIT_FAILED)


async def until_told(host: AsyncHost, ending: Ending) -> None:
    """Serve until the system or the user says that it is enough, then drain; told a second time, end at once. Raises
    what ended the node before."""
    lives = asyncio.ensure_future(host.wait())
    await _either(lives, ending.first)
    if not lives.done():
        _log.info("draining", again="once more ends at once")
        draining = asyncio.ensure_future(host.drain())
        await _either(draining, ending.second)
        await host.stop()
        await draining
    await lives


async def _either(work: asyncio.Future[None], told: asyncio.Event) -> None:
    hears = asyncio.ensure_future(told.wait())
    either: list[asyncio.Future[Any]] = [work, hears]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    hears.cancel()
