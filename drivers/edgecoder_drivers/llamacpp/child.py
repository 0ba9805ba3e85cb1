"""The process in which llama.cpp runs: one model, from its load to the end of the process.

It is told what to do on its standard input, answers on what was its standard output, and ends when its parent does.
Whatever llama.cpp prints goes to standard error. `python -m edgecoder_drivers.llamacpp.child MODULE` starts it with
a library (`port.LIBRARIES`).
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO, Final, cast

from edgecoder.errors import Reason
from edgecoder_drivers.llamacpp.header import BadHeader, Header, read_header
from edgecoder_drivers.llamacpp.memory import LINUX, SLACK_BYTES, available_bytes, die_first_for_memory, limit_memory
from edgecoder_drivers.llamacpp.messages import (
    FRAME_BYTES_MAX,
    LENGTH,
    Alive,
    Cancel,
    Ended,
    FromChild,
    Generate,
    Load,
    Loaded,
    NotLoaded,
    ToChild,
    Wrote,
    frame,
    to_child,
)
from edgecoder_drivers.llamacpp.port import Library, Model, Settings, TooLarge

BEAT_S: Final = 1.0
WARM_UP_TOKENS: Final = 16
WARM_UP_S: Final = 1.0
CONTEXT_STEP_TOKENS: Final = 256
STACK_BYTES: Final = 1 << 23
"""Of a thread that answers, as Linux has it by default: llama.cpp reads templates and prompts there."""
DETAIL_MAX: Final = 500
_PR_SET_PDEATHSIG: Final = 1
MIB: Final = 1 << 20


class Refusal(Exception):
    """A file that is not loaded."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Child:
    """One model and the tasks that it answers."""

    def __init__(self, library: Library, requests: BinaryIO, answers: BinaryIO) -> None:
        self._library = library
        self._requests = requests
        self._answers = answers
        self._writing = threading.Lock()
        self._tasks: dict[int, bool] = {}
        """Those that are open, and whether they go on."""
        self._tokens_max = 0

    def run(self) -> None:
        """Load what is to be loaded, then answer until the parent hangs up."""
        requests = self._messages()
        first = next(requests, None)
        if not isinstance(first, Load):
            return  # the parent wanted no more than to see that this starts
        model = self._load(first)
        if model is None:
            return
        threading.Thread(target=self._beat, daemon=True).start()
        self._tokens_max = context_tokens(first)
        slots = ThreadPoolExecutor(model.slots)
        for request in requests:
            match request:
                case Generate(task=task):
                    self._tasks[task] = True
                    slots.submit(self._generate, model, request)
                case Cancel(task=task) if task in self._tasks:
                    self._tasks[task] = False

    def _messages(self) -> Iterator[ToChild]:
        while len(head := self._requests.read(LENGTH.size)) == LENGTH.size:
            (length,) = LENGTH.unpack(head)
            assert length <= FRAME_BYTES_MAX
            yield to_child.decode(self._requests.read(length))

    def _say(self, message: FromChild) -> None:
        data = frame(message)
        with self._writing:
            self._answers.write(data)
            self._answers.flush()

    def _beat(self) -> None:
        while True:
            self._say(Alive())
            time.sleep(BEAT_S)

    def _load(self, load: Load) -> Model | None:
        try:
            threading.stack_size(STACK_BYTES)
            with Path(os.fsdecode(load.path)).open("rb") as file:
                header = check_file(file, load)
                needs = bytes_needed(load, header)
                check_memory(needs)
                limit_memory(needs + SLACK_BYTES + load.slots * STACK_BYTES)
                folder = Path(os.fsdecode(load.folder))
                settings = Settings(context_tokens(load), load.slots, load.threads, header.has_chat_template, folder)
                model = self._library.load(path_of(file), settings)
            self._say(Loaded(speed(model)))
        except Refusal as refusal:
            self._say(NotLoaded(refusal.reason, _short(refusal)))
        except MemoryError as error:
            self._say(NotLoaded(Reason.OUT_OF_MEMORY, _short(error)))
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the parent is told
            self._say(NotLoaded(Reason.LOAD_FAILED, _short(error)))
        else:
            return model
        return None

    def _generate(self, model: Model, request: Generate) -> None:
        task = request.task

        def goes_on(text: str, tokens: int) -> bool:
            if self._tasks[task]:
                self._say(Wrote(task, text, tokens))
            return self._tasks[task]

        ended = Ended(task)
        try:
            if goes_on("", 0):
                model.answer(request.prompt, min(max(1, request.max_tokens), self._tokens_max), goes_on)
        except TooLarge as error:
            ended = Ended(task, Reason.TOO_LARGE, _short(error))
        except MemoryError:
            os.write(sys.stderr.fileno(), b"insufficient memory\n")
            os.abort()  # who knows what of the model is left
        except BaseException as error:  # noqa: BLE001 - as above; and whoever exits here ends a thread, no process
            ended = Ended(task, Reason.UNAVAILABLE, _short(error))
        del self._tasks[task]
        self._say(ended)


def check_file(file: BinaryIO, load: Load) -> Header:
    """The header of the file, which is the one that was hashed. Raises Refusal."""
    is_now = os.fstat(file.fileno())
    identity = (is_now.st_ino, is_now.st_mtime_ns)
    if is_now.st_size != load.size_bytes or load.identity not in (None, identity):
        raise Refusal(Reason.CHECKSUM_MISMATCH, "the file has changed since its digest was computed")
    try:
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            return read_header(data)
    except BadHeader as error:
        raise Refusal(Reason.LOAD_FAILED, f"no sound GGUF: {error}") from None


def path_of(file: BinaryIO) -> Path:
    """Where llama.cpp gets to the file that was checked, and no other that has its name by then; just its name where a
    system has no such path."""
    opened = Path(f"/proc/self/fd/{file.fileno()}")
    return opened if opened.exists() else Path(file.name)


def context_tokens(load: Load) -> int:
    """What llama.cpp makes of the context that is asked for: the same for all slots, in whole steps."""
    return -(-load.context_tokens // load.slots // CONTEXT_STEP_TOKENS) * CONTEXT_STEP_TOKENS * load.slots


def bytes_needed(load: Load, header: Header) -> int:
    """What the model takes: by the catalog, and by its header where the catalog says nothing of the cache."""
    per_token = load.cache_bytes_per_token or header.cache_bytes_per_token
    return load.size_bytes + per_token * context_tokens(load) + load.overhead_bytes


def check_memory(needs: int) -> None:
    """Raises Refusal where so many bytes are not free now."""
    free = available_bytes()
    if free is not None and needs > free:
        detail = f"it takes {needs // MIB} MB, and {free // MIB} MB are free"
        raise Refusal(Reason.INSUFFICIENT_MEMORY, detail)


def speed(model: Model) -> float:
    """Tokens a second that it writes, for one task; the first shows when the prompt has been read."""
    times: list[float] = []
    total = 0

    def count(_: str, tokens: int) -> bool:
        nonlocal total
        if tokens:
            times.append(time.perf_counter())
            total += tokens if len(times) > 1 else 0
        return len(times) < 2 or times[-1] - times[0] < WARM_UP_S

    model.warm_up(WARM_UP_TOKENS, count)
    took = times[-1] - times[0] if times else 0.0
    return total / took if took else 1.0


def _short(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:DETAIL_MAX]


def _die_with_parent() -> None:
    """A parent that is killed closes our input, but a load may keep us from reading it."""
    if sys.platform in LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave_ending_to_parent() -> None:
    """A system that ends a service, or a machine, says so to all of its processes at once: our parent drains first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def main() -> None:
    """See the module."""
    _leave_ending_to_parent()
    _die_with_parent()
    die_first_for_memory()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    library = cast("Library", importlib.import_module(sys.argv[1]))
    Child(library, sys.stdin.buffer, answers).run()
    answers.flush()
    os._exit(0)  # threads of llama.cpp may be under way


if __name__ == "__main__":
    main()
