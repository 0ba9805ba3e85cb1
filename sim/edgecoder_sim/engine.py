"""A simulated engine: loads one model at a time and answers tasks with it, at the speeds of its device.

It answers for what the llama.cpp and Ollama drivers will answer: it refuses to load beside another model, gives each
operation exactly one completion, and cancels on request.

Fidelity boundary: an answer is as long as its `max_tokens` and its text is filler; each slot decodes at the full
speed of the device, whatever the other slots do; a load is cold the first time a node loads a file and warm after
that; failures and slow loads are independent draws. Memory is not simulated beyond the core's own admission check.
"""

from __future__ import annotations

from collections.abc import Callable

from edgecoder.core.effects import LoadModel, RunTask, UnloadModel
from edgecoder.core.events import (
    Event,
    ModelLoaded,
    ModelLoadFailed,
    ModelUnloaded,
    TaskChunk,
    TaskDone,
    TaskFailed,
)
from edgecoder.core.ids import OpId
from edgecoder.core.rng import Stream
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.profiles import Device

CHUNK_TOKENS = 32
"""Tokens that travel together; a person reads no faster."""
UNLOAD_US = 50_000
"""Freeing a context and its mapped file (I)."""
_FILLER = "x" * 4 * CHUNK_TOKENS


class _Run:
    """One task in a slot."""

    __slots__ = ("left", "op", "tokens")

    def __init__(self, op: OpId, tokens: int) -> None:
        self.op = op
        self.tokens = tokens
        self.left = tokens


def _nobody(_: Event) -> None:
    """Takes what comes of an engine that is off."""


class Engine:
    """The engine of one node; `post` hands events to the node."""

    __slots__ = (
        "_device",
        "_kernel",
        "_loads",
        "_post",
        "_runs",
        "_stream",
        "_warm",
        "busy_us",
        "loaded",
    )

    def __init__(self, kernel: Kernel, device: Device, stream: Stream, post: Callable[[Event], None]) -> None:
        self._kernel = kernel
        self._device = device
        self._stream = stream
        self._post = post
        self._warm: set[str] = set()
        self._loads: dict[OpId, CatalogEntry] = {}
        self._runs: dict[OpId, _Run] = {}
        self.loaded: CatalogEntry | None = None
        self.busy_us = 0
        """Time spent decoding, summed over the slots."""

    def load(self, effect: LoadModel, *, fails: bool = False) -> None:
        """Begin to load a model; where it `fails`, so it does whatever the device draws."""
        if self.loaded is not None or self._loads:
            self._post(ModelLoadFailed(effect.op, Reason.OUT_OF_MEMORY))
            return
        entry, device = effect.entry, self._device
        slow = self._stream.uniform() * 100 < device.load_slow_pct
        fails |= self._stream.uniform() * 100 < device.load_failure_pct
        duration_us = device.load_us(entry.file_size_bytes, warm=entry.sha256 in self._warm, slow=slow)
        self._loads[effect.op] = entry
        self._warm.add(entry.sha256)
        self._kernel.call_at(self._kernel.now + duration_us, self._load_ends, effect.op, fails)

    def _load_ends(self, op: OpId, fails: bool) -> None:
        entry = self._loads.pop(op, None)
        if entry is None:
            return
        if fails:
            self._post(ModelLoadFailed(op, Reason.LOAD_FAILED))
            return
        self.loaded = entry
        self._post(ModelLoaded(op, self._device.tokens_per_s(entry.file_size_bytes)))

    def unload(self, effect: UnloadModel) -> None:
        """Begin to free the model; what still runs on it fails."""
        for op in list(self._runs):
            self._end(op, TaskFailed(op, Reason.CANCELLED))
        self.loaded = None
        self._kernel.call_at(self._kernel.now + UNLOAD_US, self._unloaded, effect.op)

    def _unloaded(self, op: OpId, _: object) -> None:
        self._post(ModelUnloaded(op))

    def crash(self, reason: Reason) -> None:
        """Lose the model and everything that runs on it; the node is told by its host."""
        for op in list(self._runs):
            self._end(op, TaskFailed(op, reason))
        self.loaded = None

    def stop(self) -> None:
        """The machine is off: whatever was under way ends without a word."""
        self._post = _nobody
        self._loads, self._runs, self.loaded = {}, {}, None

    def run(self, effect: RunTask) -> None:
        """Begin to answer a task."""
        entry = self.loaded
        if entry is None:
            self._post(TaskFailed(effect.op, Reason.NO_MODEL))
            return
        run = self._runs[effect.op] = _Run(effect.op, max(1, effect.max_tokens))
        prefill_us = self._device.prefill_us(entry.file_size_bytes, len(effect.prompt))
        token_us = self._device.token_us(entry.file_size_bytes)
        self.busy_us += prefill_us + token_us * run.tokens
        self._next_chunk(run, token_us, prefill_us)

    def _next_chunk(self, run: _Run, token_us: int, prefill_us: int = 0) -> None:
        tokens = min(CHUNK_TOKENS, run.left)
        self._kernel.call_at(self._kernel.now + prefill_us + tokens * token_us, self._chunk, run, token_us)

    def _chunk(self, run: _Run, token_us: int) -> None:
        if self._runs.get(run.op) is not run:
            return
        tokens = min(CHUNK_TOKENS, run.left)
        run.left -= tokens
        self._post(TaskChunk(run.op, _FILLER[: 4 * tokens], tokens))
        if run.left:
            self._next_chunk(run, token_us)
        else:
            self._end(run.op, TaskDone(run.op, run.tokens))

    def cancel(self, op: OpId) -> None:
        """End a load or a task early; one that has ended is no error."""
        if op in self._runs:
            self._end(op, TaskFailed(op, Reason.CANCELLED))
        elif self._loads.pop(op, None) is not None:
            self._post(ModelLoadFailed(op, Reason.CANCELLED))

    def _end(self, op: OpId, completion: TaskDone | TaskFailed) -> None:
        del self._runs[op]
        self._post(completion)
