"""Blocking work beside the loop that can be called off."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

T = TypeVar("T")
NICE: Final = 10
"""Of work that can wait: where others want the processor it gets a tenth of what each of them does."""


async def in_thread(work: Callable[[threading.Event], T], executor: Executor | None = None) -> T:
    """Do something in a thread. Who is cancelled meanwhile sets the event and waits until the thread has ended: nothing
    goes on behind anybody's back."""
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(executor, work, stop))
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


async def in_background(work: Callable[[threading.Event], T]) -> T:
    """Do something long as `in_thread`, behind all else that this machine does: where the system can say so of one
    thread, which is Linux."""
    with ThreadPoolExecutor(1, "edgecoder background", _step_back) as executor:
        return await in_thread(work, executor)


def _step_back() -> None:
    if sys.platform == "linux":  # elsewhere this would be said of a process
        thread = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, max(NICE, os.getpriority(os.PRIO_PROCESS, thread)))
