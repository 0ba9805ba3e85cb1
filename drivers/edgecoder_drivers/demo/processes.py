"""The processes of a demo: started in one group, watched until they are up, ended with the demo.

Decides how a process begins and ends; what it is for is `mesh`'s. Each writes its log to a file of the demo's folder.
A keeper (`keeper.py`) kills all of them and deletes the folder where the demo itself is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from edgecoder.errors import DriverError

LOOK_S: Final = 0.05
"""How often a log is looked at for the line that says that its process is up."""
UP_S: Final = 120.0
"""So long a process may take to come up: the machine may have much else to do."""
END_S: Final = 5.0
"""So long it may take to end before it is killed."""
LAST_LINES: Final = 8
LINE_CHARS_MAX: Final = 300
_UP: Final = re.compile(r'^\{.*"event": "up".*\}$', re.MULTILINE)
_KEEPER: Final = Path(__file__).with_name("keeper.py")


class PartFailed(DriverError):
    """A process of the demo did not come up, or ended before its time."""


class Part:
    """One process."""

    def __init__(self, name: str, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.log = log
        self._process = process
        self.is_wanted = True
        """Whether its end would be a fault."""

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    async def up(self) -> dict[str, Any]:
        """What its log says when it has come up. Raises PartFailed."""
        line: dict[str, Any] = json.loads((await self.said(_UP))[0])
        return line

    async def said(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """What its log says, as soon as it does. Raises PartFailed."""
        for _ in range(round(UP_S / LOOK_S)):
            if (found := pattern.search(self._said())) is not None:
                return found
            self.check()
            await asyncio.sleep(LOOK_S)
        raise self._failed(f"did not come up within {UP_S:g} s")

    async def finished(self) -> None:
        """It has done what it was for. Raises PartFailed where it could not."""
        self.is_wanted = False
        if not await self._ended(UP_S):
            raise self._failed(f"did not end within {UP_S:g} s")
        self.is_wanted = self._process.returncode != 0
        self.check()

    def check(self) -> None:
        """Raises PartFailed where it has ended, and nobody wanted it to."""
        if self.is_wanted and not self.is_running:
            code = self._process.returncode
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            raise self._failed(f"ended {how}")

    def kill(self) -> None:
        """Kill -9, as a machine dies."""
        self.is_wanted = False
        self._process.kill()

    async def end(self) -> None:
        """Have it end; killed where it does not in time."""
        self.is_wanted = False
        self._process.terminate()
        if not await self._ended(END_S):
            self._process.kill()
            self._process.wait()

    async def _ended(self, within_s: float) -> bool:
        """Whether it has ended by then."""
        for _ in range(round(within_s / LOOK_S)):
            if not self.is_running:
                return True
            await asyncio.sleep(LOOK_S)
        return False

    def _said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _failed(self, how: str) -> PartFailed:
        """With the end of its log."""
        lines = [line[:LINE_CHARS_MAX] for line in self._said().splitlines() if line.strip()][-LAST_LINES:]
        said = f"its log ends: {'; '.join(lines)}" if lines else "its log is empty"
        return PartFailed(f"{self.name} (pid {self.pid}) {how}; {said}")


class Processes:
    """All of a demo's."""

    def __init__(self, folder: Path, keeper: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        """Where everything lies; it is deleted at the end."""
        self._keeper = keeper
        self._parts: list[Part] = []

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str] | None = None) -> Part:
        """Start a command of this Python's; `environ` is added to what all of them have."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 - it takes milliseconds, and runs what stands here
                [sys.executable, "-P", *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**_environ(), **(environ or {})},
                cwd=self.folder,
                process_group=self._keeper.pid,
            )
        part = Part(name, log, process)
        self._parts.append(part)
        return part

    def check(self) -> None:
        """Raises PartFailed where one has ended before its time."""
        for part in self._parts:
            part.check()

    def left(self) -> list[str]:
        """What is still there of it."""
        there = [f"{part.name} (pid {part.pid})" for part in self._parts if part.is_running]
        return [*there, str(self.folder)] if self.folder.exists() else there

    async def end(self) -> None:
        """End all, the last that was started first to be told."""
        await asyncio.gather(*(part.end() for part in reversed(self._parts)))


@asynccontextmanager
async def processes() -> AsyncIterator[Processes]:
    """A folder and what runs in it, for the length of a block; afterwards nothing is left of either."""
    folder = Path(tempfile.mkdtemp(prefix="edgecoder-demo-"))
    keeper = subprocess.Popen(  # noqa: ASYNC220, S603 - it has to be there before anything else is
        [sys.executable, "-I", "-S", str(_KEEPER), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    everything = Processes(folder, keeper)
    try:
        yield everything
    finally:
        try:
            await asyncio.shield(asyncio.ensure_future(everything.end()))
        finally:
            await asyncio.to_thread(_let_go, keeper, folder)


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _let_go(keeper: subprocess.Popen[bytes], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    assert keeper.stdin is not None
    keeper.stdin.close()  # it kills what is left, and deletes it
    keeper.wait()


def _environ() -> dict[str, str]:
    """That of this process, without what its user has set for nodes of his own, for his Ollama, and for the way out."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EDGECODER_", "OLLAMA_")) and not name.lower().endswith("_proxy")
    }
