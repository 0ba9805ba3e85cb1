"""How fast others take up tasks: what this node has measured lately, and from when on a task counts as late.

Only bounded samples are kept. Who was called off before it began counts with the time that it had by then: left out,
the slow ones would be missing, and the next would seem late too soon.
"""

from __future__ import annotations

from collections import deque

from edgecoder.config import NodeConfig


class Pace:
    """Milliseconds from the request to one step of a task, over the newest tasks."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._ms: deque[int] = deque(maxlen=config.hedge_samples_max)

    def __len__(self) -> int:
        return len(self._ms)

    def add(self, taken_ms: int) -> None:
        """One task took this long."""
        self._ms.append(taken_ms)

    def late_ms(self) -> int | None:
        """What only `100 - hedge_pct` percent of the tasks exceeded (nearest rank); None while there are too few."""
        count = len(self._ms)
        if count < self._config.hedge_samples_min:
            return None
        rank = -(-self._config.hedge_pct * count // 100)
        return max(self._config.hedge_ms_min, sorted(self._ms)[max(0, rank - 1)])


class Paces:
    """What this node has measured of the others."""

    def __init__(self, config: NodeConfig) -> None:
        self.accepted = Pace(config)
        """From the request to the word that a task is accepted,"""
        self.begun = Pace(config)
        """to the first part of an answer that is streamed,"""
        self.whole = Pace(config)
        """and to the whole of one that is not."""

    def after_acceptance(self, *, stream: bool) -> Pace:
        """What there is to wait for once a task is accepted."""
        return self.begun if stream else self.whole
