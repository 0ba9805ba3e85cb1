"""How a process is told to end: by which signals, and that it ends though something hangs."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

SCRIPT = """
import asyncio, signal, structlog, sys, threading
from edgecoder_drivers import ending
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
ending.HANG_S = float(sys.argv[1])
signal.signal(signal.SIGHUP, getattr(signal, sys.argv[2]))
async def life():
    told = ending.Ending()
    print("up", signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, flush=True)
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    await told.first.wait()
    print("first", flush=True)
    await told.second.wait()
    print("second", flush=True)
asyncio.run(life())
"""
NEVER_S = 10_000.0


class Told:
    """A process with a thread that waits for ever."""

    def __init__(self, hang_s: float, hup: str = "SIG_DFL") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(hang_s), hup], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._lines = self._process.stdout
        self._guard = threading.Timer(60, self._process.kill)
        self._guard.start()

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def says(self) -> str:
        return self._lines.readline().strip()

    def ends(self) -> int:
        code = self._process.wait()
        self._guard.cancel()
        self._lines.close()
        return code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_twice_it_ends_though_a_thread_hangs(number: signal.Signals) -> None:
    told = Told(0.05)
    assert told.says() == "up False"
    told.tell(number)
    assert told.says() == "first"
    told.tell(number)
    assert told.says() == "second"
    assert told.ends() == 1


def test_told_three_times_it_does_not_wait() -> None:
    told = Told(NEVER_S)
    assert told.says() == "up False"
    for expected in ("first", "second"):
        told.tell(signal.SIGTERM)
        assert told.says() == expected
    told.tell(signal.SIGTERM)
    assert told.ends() == 1


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    told = Told(NEVER_S, "SIG_IGN")
    assert told.says() == "up True"
    for number in (signal.SIGHUP, signal.SIGTERM):
        told.tell(number)
    assert told.says() == "first"
    told.tell(signal.SIGTERM)
    assert told.says() == "second"
    told.tell(signal.SIGTERM)
    assert told.ends() == 1
