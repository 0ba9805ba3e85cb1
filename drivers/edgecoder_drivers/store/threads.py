"""Blocking work beside the loop that can be called off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[threading.Event], T]) -> T:
    """Do something in a thread. Who is cancelled meanwhile sets the event and waits until the thread has ended: nothing
    goes on behind anybody's back."""
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        while not task.done():
            with suppress(asyncio.CancelledError):  # whoever insists waits too
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # nobody else asks for it
        raise
