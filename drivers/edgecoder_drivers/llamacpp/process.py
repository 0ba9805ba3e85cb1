"""The parent's side of a child: starts it, hears it, sees that it lives, and says why it does not."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import structlog

from edgecoder.errors import Reason
from edgecoder_drivers.llamacpp.memory import kills_for_memory
from edgecoder_drivers.llamacpp.messages import (
    FRAME_BYTES_MAX,
    LENGTH,
    Alive,
    Ended,
    FromChild,
    Generate,
    ToChild,
    frame,
    from_child,
)

LOG_BYTES_MAX: Final = 4096
LAST_WORDS_MAX: Final = 300
CHECKS: Final = 4
"""Looks in a time of silence. Silence is counted in looks, so that a parent that slept blames nobody."""
NO_MEMORY: Final = ("insufficient memory", "bad_alloc", "failed to allocate", "unable to allocate", "system_error")
"""What a process that is refused memory says before it aborts, of llama.cpp and of C++."""
_log = structlog.get_logger("edgecoder.llamacpp")


class Patience(NamedTuple):
    """How long a child may be quiet."""

    silent_s: float = 15
    """It beats once a second."""
    stalled_s: float = 120
    """With tasks, but without a part or a batch of a prompt; a slow phone reads 2 tokens a second."""


class Lost(NamedTuple):
    """Why a child is gone."""

    reason: Reason
    detail: str


def command(library: str) -> list[str]:
    """What starts a child. It imports nothing from the folder that it is started in."""
    return [sys.executable, "-P", "-m", "edgecoder_drivers.llamacpp.child", library]


class ChildProcess:
    """A child that runs."""

    def __init__(self, process: Process, on_message: Callable[[FromChild], None], patience: Patience) -> None:
        self._process = process
        self._on_message = on_message
        self._patience = patience
        self._kills_before = kills_for_memory()
        self._verdict: Lost | None = None
        self._log = b""
        self._tasks: set[int] = set()
        self._heard = self._got_on = False
        loop = asyncio.get_running_loop()
        self._listeners = [loop.create_task(self._hear()), loop.create_task(self._keep_log())]
        self._watch: asyncio.Task[None] | None = None
        self.ended: asyncio.Task[Lost] = loop.create_task(self._wait())
        """Done when the process is gone and what it said has been heard."""

    @classmethod
    async def start(cls, library: str, on_message: Callable[[FromChild], None], patience: Patience) -> ChildProcess:
        """Start a child, in a session of its own: an interrupt at the terminal is ours to handle. Raises OSError."""
        process = await asyncio.create_subprocess_exec(
            *command(library),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            env=os.environ | {"GGML_NO_BACKTRACE": "1", "MALLOC_ARENA_MAX": "2"},
        )
        return cls(process, on_message, patience)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, message: ToChild) -> None:
        """Tell it something; one that is gone does not hear it."""
        assert self._process.stdin is not None
        if isinstance(message, Generate):
            self._tasks.add(message.task)
        self._process.stdin.write(frame(message))

    def watch(self) -> None:
        """From now on it has to beat. While it loads it cannot: llama.cpp keeps Python waiting."""
        self._watch = asyncio.get_running_loop().create_task(self._look())

    def kill(self, verdict: Lost) -> None:
        """End it at once; `ended` will say why."""
        if self._verdict is None:
            self._verdict = verdict
        if self._process.returncode is None:
            self._process.kill()

    # -- what it says --------------------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        assert self._process.stdout is not None
        read = self._process.stdout.readexactly
        try:
            while True:
                (length,) = LENGTH.unpack(await read(LENGTH.size))
                if length > FRAME_BYTES_MAX:
                    raise msgspec.ValidationError(f"a message of {length} bytes")
                self._take(from_child.decode(await read(length)))
        except asyncio.IncompleteReadError:
            return
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.kill(Lost(Reason.ENGINE_CRASHED, f"the engine's process says what is no message: {error}"))

    def _take(self, message: FromChild) -> None:
        self._heard = True
        if isinstance(message, Ended):
            self._tasks.discard(message.task)
        if not isinstance(message, Alive):
            self._got_on = True
            self._on_message(message)

    async def _keep_log(self) -> None:
        assert self._process.stderr is not None
        while more := await self._process.stderr.read(LOG_BYTES_MAX):
            self._log = (self._log + more)[-LOG_BYTES_MAX:]

    # -- whether it lives ----------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        silent = stalled = 0.0
        pause = min(self._patience) / CHECKS
        while True:
            self._heard = self._got_on = False
            await asyncio.sleep(pause)
            silent = 0 if self._heard else silent + pause
            stalled = 0 if self._got_on or not self._tasks else stalled + pause
            if silent >= self._patience.silent_s:
                self.kill(Lost(Reason.ENGINE_CRASHED, f"the engine's process was silent for {silent:g} s"))
            elif stalled >= self._patience.stalled_s:
                self.kill(Lost(Reason.ENGINE_CRASHED, f"no task got on for {stalled:g} s"))

    async def _wait(self) -> Lost:
        code = await self._process.wait()
        await asyncio.wait(self._listeners)
        if self._watch is not None:
            self._watch.cancel()
        assert self._process.stdin is not None
        self._process.stdin.close()
        lost = self._verdict or self._judge(code)
        _log.debug("engine's process ended", code=code, why=lost.detail, log=self._said)
        return lost

    def _judge(self, code: int) -> Lost:
        """Why a process ended that was not told to."""
        if code == -signal.SIGKILL and kills_for_memory() > self._kills_before:
            return Lost(Reason.OUT_OF_MEMORY, "the system killed the engine's process for want of memory")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return self.explain(Lost(Reason.ENGINE_CRASHED, f"the engine's process ended with {how}"))

    def explain(self, lost: Lost) -> Lost:
        """A failure with what the log says of it, once the process has ended."""
        said = self._said
        reason = Reason.OUT_OF_MEMORY if any(sign in said for sign in NO_MEMORY) else lost.reason
        last_words = said.rstrip().rpartition("\n")[2][-LAST_WORDS_MAX:]
        return Lost(reason, f"{lost.detail}: {last_words}" if last_words else lost.detail)

    @property
    def _said(self) -> str:
        return self._log.decode(errors="replace")
