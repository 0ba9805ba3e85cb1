"""Swaps while they are under way: how long each phase took, and how each ended.

Decides when a swap begins and ends. One that a user or a task asked for ends with `SwapEnded`, which comes when its
outcome is durable; by then the node may be in its next swap. One that begins with a lost engine ends when it settles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from edgecoder.errors import Reason
from edgecoder.trace import LifeEnded, NodeReady, SwapEnded, SwapPhase
from edgecoder_sim.recording.files import Row
from edgecoder_sim.recording.histogram import Histogram
from edgecoder_sim.tables import PHASES, RESTARTED, UNFINISHED

SETTLED: Final = frozenset({"ready", "empty", "failed"})
"""States of the swap table in which no swap is under way."""
ENGINE_LOST: Final = frozenset({"rollingBack", "failed"})
"""First phases of a swap that nobody asked for: the engine lost its model."""
_CONFIRMING = "confirming"


class _Swap:
    __slots__ = ("entered_us", "is_asked_for", "model", "phase", "phases_us", "previous", "started_us")

    def __init__(self, at_us: int, record: SwapPhase) -> None:
        self.started_us = self.entered_us = at_us
        self.phase = record.phase
        self.model = record.model
        self.previous = record.previous
        self.is_asked_for = record.phase not in ENGINE_LOST
        self.phases_us: dict[str, int] = dict.fromkeys((*PHASES, _CONFIRMING), 0)

    def enter(self, at_us: int, phase: str) -> None:
        """The next phase begins, or the end of the last."""
        self.phases_us[_CONFIRMING if self.phase in SETTLED else self.phase] += at_us - self.entered_us
        self.phase, self.entered_us = phase, at_us


class SwapBook:
    """The swaps under way, and figures over the ended ones."""

    def __init__(self, nodes: int, swaps: Callable[[Row], None]) -> None:
        self._add = swaps
        self._epochs = [0] * nodes
        self._open: dict[tuple[int, int], _Swap] = {}
        self._total = Histogram()
        self._loading = Histogram()
        self._away = Histogram()
        self._done = self._failed = self._refused = self._unfinished = self._boots = self._recoveries = 0
        self._failed_kept = self._failed_empty = self._failed_boots = self._failed_recoveries = 0
        self.handlers: dict[type, Callable[[int, int, Any], None]] = {
            NodeReady: self._node_ready,
            LifeEnded: self._life_ended,
            SwapPhase: self._phase,
            SwapEnded: self._ended,
        }

    def __len__(self) -> int:
        return len(self._open)

    def close(self, at_us: int) -> None:
        """The run is over: write what is under way."""
        self._unfinished += len(self._open)
        for (node, number), swap in self._open.items():
            self._write(at_us, node, number, swap, UNFINISHED)
        self._open = {}

    def metrics(self) -> dict[str, float]:
        """Over the whole run. A request that was refused, and a load at the start of a life, count apart."""
        metrics: dict[str, float] = {
            "swaps_done": self._done,
            "swaps_failed": self._failed,
            "swaps_failed_kept": self._failed_kept,
            "swaps_failed_empty": self._failed_empty,
            "swaps_refused": self._refused,
            "swaps_unfinished": self._unfinished,
            "boot_loads": self._boots,
            "boot_loads_failed": self._failed_boots,
            "engine_recoveries": self._recoveries,
            "engine_recoveries_failed": self._failed_recoveries,
        }
        if self._done:
            for name, histogram in (("total", self._total), ("loading", self._loading), ("away", self._away)):
                metrics[f"swap_{name}_p50_s"] = histogram.quantile(0.5) / 1e6
                metrics[f"swap_{name}_p99_s"] = histogram.quantile(0.99) / 1e6
        return metrics

    def _node_ready(self, at_us: int, node: int, record: NodeReady) -> None:
        if self._epochs[node]:  # before a first life nothing can be open
            self._give_up(at_us, node)
        self._epochs[node] = record.epoch

    def _life_ended(self, at_us: int, node: int, _: LifeEnded) -> None:
        self._give_up(at_us, node)

    def _give_up(self, at_us: int, node: int) -> None:
        for number in [number for other, number in self._open if other == node]:
            self._failed += 1
            self._write(at_us, node, number, self._open.pop((node, number)), RESTARTED)

    def _phase(self, at_us: int, node: int, record: SwapPhase) -> None:
        key = (node, record.swap)
        swap = self._open.get(key)
        if swap is None:
            swap = self._open[key] = _Swap(at_us, record)
        else:
            swap.enter(at_us, record.phase)
        if record.phase in SETTLED and not swap.is_asked_for:
            del self._open[key]
            self._recoveries += 1
            self._failed_recoveries += record.phase != "ready"
            active = swap.model if record.phase == "ready" else None
            reason = None if record.phase == "ready" else Reason.ENGINE_CRASHED.value
            self._write(at_us, node, record.swap, swap, reason, active, "engine")

    def _ended(self, at_us: int, node: int, record: SwapEnded) -> None:
        reason = None if record.reason is None else record.reason.value
        swap = self._open.pop((node, record.swap), None)
        if swap is None:
            self._refused += reason is not None
            self._write_refused(at_us, node, record, reason)
            return
        swap.enter(at_us, swap.phase)
        is_boot = not record.requests
        if is_boot:
            self._boots += 1
            self._failed_boots += reason is not None
        elif reason is not None:
            self._failed += 1
            self._failed_kept += record.active is not None
            self._failed_empty += record.active is None
        else:
            self._done += 1
            total_us = sum(swap.phases_us.values())
            self._total.add(total_us)
            self._loading.add(swap.phases_us["loading"])
            self._away.add(total_us - swap.phases_us[_CONFIRMING])
        cause = "boot" if is_boot else record.cause
        self._write(at_us, node, record.swap, swap, reason, record.active, cause, record.requests)

    def _write(
        self,
        at_us: int,
        node: int,
        number: int,
        swap: _Swap,
        reason: str | None,
        active: str | None = None,
        cause: str = "unknown",
        requests: int = 0,
    ) -> None:
        swap.enter(at_us, swap.phase)
        phases_s = [swap.phases_us[phase] / 1e6 for phase in (*PHASES, _CONFIRMING)]
        total_s = sum(swap.phases_us.values()) / 1e6
        head = (node, self._epochs[node], number, swap.started_us / 1e6, at_us / 1e6)
        self._add((*head, swap.model, swap.previous, active, cause, reason, requests, *phases_s, total_s))

    def _write_refused(self, at_us: int, node: int, record: SwapEnded, reason: str | None) -> None:
        """A request that changed nothing: refused, superseded, or for the model that is active."""
        head = (node, self._epochs[node], 0, at_us / 1e6, at_us / 1e6)
        about = (record.model, record.active, record.active, record.cause, reason, record.requests)
        self._add((*head, *about, *[0.0] * (len(PHASES) + 2)))
