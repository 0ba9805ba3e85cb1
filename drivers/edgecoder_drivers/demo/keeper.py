"""Ends what a demo has started, and deletes its folder, as soon as the demo is gone, however that came.

A program of its own, of the standard library alone: `python keeper.py FOLDER`. It leads the process group that all
others of the demo are in, and waits for its input to end, which the demo holds open for as long as it lives.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time

TRIES = 20
PAUSE_S = 0.1


def main() -> None:
    """Wait, then kill the group, this process too, and delete."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    group = os.getpgrp()
    if os.fork():
        signal.pause()
    os.setsid()  # who is to delete outlives the group
    os.killpg(group, signal.SIGKILL)
    for _ in range(TRIES):  # a process that is being killed may still write
        shutil.rmtree(sys.argv[1], ignore_errors=True)
        if not os.path.lexists(sys.argv[1]):
            break
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
