"""A multicast socket at the networks that this machine is on, opened anew when they change, for as long as somebody
needs one. A network without multicast, or none at all, is no fault: it is tried again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import structlog
from zeroconf import Error
from zeroconf.asyncio import AsyncZeroconf

from edgecoder_drivers.lan.networks import Interface, speaking_at

LOOK_S: Final = 15.0
"""How often it is looked at which networks there are."""
_log = structlog.get_logger("edgecoder.lan")
Presence = Callable[[AsyncZeroconf, Sequence[Interface]], AbstractAsyncContextManager[None]]
"""What goes on while there is a socket."""


async def keep_present(chosen: Sequence[str], presence: Presence) -> None:
    """Until it is cancelled: have a socket at the chosen addresses, and a presence with each."""
    said = ""
    while True:
        at = speaking_at(chosen)
        problem = "no network" if not at else await _present(at, chosen, presence)
        if problem and problem != said:
            _log.warning("not on the network", problem=problem, hint="discovery goes on when there is one")
        said = problem
        if problem:
            await asyncio.sleep(LOOK_S)


async def _present(at: list[Interface], chosen: Sequence[str], presence: Presence) -> str:
    """For as long as the networks stay as they are. What went wrong, if something did."""
    try:
        zeroconf = AsyncZeroconf(interfaces=[str(each.ip) for each in at])
    except OSError as error:
        return error.strerror or str(error)
    try:
        async with presence(zeroconf, at):
            while True:
                await asyncio.sleep(LOOK_S)
                if speaking_at(chosen) != at:
                    return ""
    except (OSError, Error, RuntimeError) as error:
        return str(error) or type(error).__name__
    finally:
        with contextlib.suppress(OSError, Error):
            await asyncio.shield(zeroconf.async_close())
