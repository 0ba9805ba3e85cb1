"""The parent's side of a child: starts it, hears it, sees that it lives, and says why it does not."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, SubprocessStreamProtocol
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import structlog

from edgecoder.errors import UNREADABLE, Reason
from edgecoder_drivers.llamacpp.memory import kills_for_memory
from edgecoder_drivers.llamacpp.messages import (
    FRAME_BYTES_MAX,
    LENGTH,
    Alive,
    Ended,
    FromChild,
    ToChild,
    Wrote,
    frame,
    from_child,
)
from edgecoder_drivers.llamacpp.port import BATCH_TOKENS

LOG_BYTES_MAX: Final = 4096
LAST_WORDS_MAX: Final = 300
LAST_WORDS_S: Final = 2.0
"""How long the outputs of a process that is gone are read: a process that it started may hold them for ever."""
PIPE_BYTES_MAX: Final = 1 << 16
CHECKS: Final = 4
"""Looks in a time of silence. Silence is counted in looks, so that a parent that slept blames nobody."""
BATCHES_PATIENCE: Final = 4
"""Batches of a prompt that could be read in the time after which a task counts as hanging: others want the processor
too, and the further a prompt has been read, the slower it goes."""
NO_MEMORY: Final = ("insufficient memory", "bad_alloc", "failed to allocate", "unable to allocate", "system_error")
"""What a process that is refused memory says before it aborts, of llama.cpp and of C++."""
_log = structlog.get_logger("edgecoder.llamacpp")


class Patience(NamedTuple):
    """How long a child may be quiet."""

    silent_s: float = 15
    """It beats once a second."""
    stalled_s: float = 120
    """Of a task that is being answered, without a part or a batch of its prompt; `stalled_s_at` says where longer."""

    def stalled_s_at(self, tokens_per_s: float) -> float:
        """For a machine that writes at this speed: no batch takes longer to read than to write."""
        return max(self.stalled_s, BATCHES_PATIENCE * BATCH_TOKENS / tokens_per_s)


class Lost(NamedTuple):
    """Why a child is gone."""

    reason: Reason
    detail: str


def command(library: str) -> list[str]:
    """What starts a child. It imports nothing from the folder that it is started in."""
    return [sys.executable, "-P", "-m", "edgecoder_drivers.llamacpp.child", library]


class _Pipes(SubprocessStreamProtocol):
    """Those of a process, and whether it is gone."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(PIPE_BYTES_MAX, loop)
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


class ChildProcess:
    """A child that runs."""

    def __init__(
        self,
        process: asyncio.SubprocessTransport,
        pipes: _Pipes,
        on_message: Callable[[FromChild], None],
        patience: Patience,
    ) -> None:
        self._process = process
        self._pipes = pipes
        self._on_message = on_message
        self._patience = patience
        self._kills_before = kills_for_memory()
        self._verdict: Lost | None = None
        self._log = b""
        self._looks = 0
        """Since it was last heard."""
        self._looks_at: dict[int, int] = {}
        """Since each task got on that it answers now; those that wait for a slot are not among them."""
        self._writing: set[int] = set()
        """Those whose prompt has been read."""
        loop = asyncio.get_running_loop()
        self._listeners = [loop.create_task(self._hear()), loop.create_task(self._keep_log())]
        self._watch: asyncio.Task[None] | None = None
        self.ended: asyncio.Task[Lost] = loop.create_task(self._wait())
        """Done when the process is gone and what it said has been heard."""

    @classmethod
    async def start(cls, library: str, on_message: Callable[[FromChild], None], patience: Patience) -> ChildProcess:
        """Start a child, in a session of its own: an interrupt at the terminal is ours to handle. Raises OSError."""
        loop = asyncio.get_running_loop()
        process, pipes = await loop.subprocess_exec(
            lambda: _Pipes(loop),
            *command(library),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            env=os.environ | {"GGML_NO_BACKTRACE": "1", "MALLOC_ARENA_MAX": "2"},
        )
        return cls(process, pipes, on_message, patience)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.get_pid()

    def send(self, message: ToChild) -> None:
        """Tell it something; one that is gone does not hear it."""
        assert self._pipes.stdin is not None
        self._pipes.stdin.write(frame(message))

    def watch(self, tokens_per_s: float) -> None:
        """From now on it has to beat. While it loads it cannot: llama.cpp keeps Python waiting."""
        self._log = b""  # what was said of the load explains no later end
        self._watch = asyncio.get_running_loop().create_task(self._look(self._patience.stalled_s_at(tokens_per_s)))

    def kill(self, verdict: Lost) -> None:
        """End it at once; `ended` will say why."""
        if self._verdict is None:
            self._verdict = verdict
        if self._process.get_returncode() is None:
            self._process.kill()

    # -- what it says --------------------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        assert self._pipes.stdout is not None
        read = self._pipes.stdout.readexactly
        try:
            while True:
                (length,) = LENGTH.unpack(await read(LENGTH.size))
                if length > FRAME_BYTES_MAX:
                    raise msgspec.ValidationError(f"a message of {length} bytes")
                self._take(from_child.decode(await read(length)))
        except asyncio.IncompleteReadError:
            return
        except UNREADABLE as error:
            self.kill(Lost(Reason.ENGINE_CRASHED, f"the engine's process says what is no message: {error}"))

    def _take(self, message: FromChild) -> None:
        self._looks = 0
        match message:
            case Alive():
                return
            case Wrote():
                self._get_on(message)
            case Ended(task=task):
                self._looks_at.pop(task, None)
                self._writing.discard(task)
        self._on_message(message)

    def _get_on(self, wrote: Wrote) -> None:
        """Prompts are read one after the other: while one gets on, none that is to be read hangs."""
        self._looks_at[wrote.task] = 0
        if wrote.tokens:
            self._writing.add(wrote.task)
        elif wrote.task not in self._writing:
            self._looks_at |= dict.fromkeys(self._looks_at.keys() - self._writing, 0)

    async def _keep_log(self) -> None:
        assert self._pipes.stderr is not None
        while more := await self._pipes.stderr.read(LOG_BYTES_MAX):
            self._log = (self._log + more)[-LOG_BYTES_MAX:]

    # -- whether it lives ----------------------------------------------------------------------------------------------

    async def _look(self, stalled_s: float) -> None:
        pause = min(self._patience) / CHECKS
        while True:
            await asyncio.sleep(pause)
            self._looks += 1
            for task in self._looks_at:
                self._looks_at[task] += 1
            # the first look may come at once
            silent, stalled = ((looks - 1) * pause for looks in (self._looks, max(self._looks_at.values(), default=0)))
            if silent >= self._patience.silent_s:
                self.kill(Lost(Reason.ENGINE_CRASHED, f"the engine's process was silent for {silent:g} s"))
            elif stalled >= stalled_s:
                self.kill(Lost(Reason.ENGINE_CRASHED, f"a task did not get on for {stalled:g} s"))

    async def _wait(self) -> Lost:
        await self._pipes.exited.wait()
        await asyncio.wait(self._listeners, timeout=LAST_WORDS_S)
        for task in (*self._listeners, self._watch):
            if task is not None:
                task.cancel()
        self._process.close()
        code = self._process.get_returncode()
        assert code is not None
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
