"""Operations: effects that are owed one completion, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgecoder.core.events import Completion
from edgecoder.core.ids import COUNTER_BITS, OpId

OnCompletion = Callable[[Any], None]
"""Takes the completion. Its type depends on the effect, which the type system cannot say of a table: hence Any."""


class OpTable:
    """Open operations of this life, in the order in which they began."""

    __slots__ = ("_counter", "_waiting", "epoch")

    def __init__(self) -> None:
        self.epoch = 0
        self._counter = 0
        self._waiting: dict[OpId, OnCompletion] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, on_completion: OnCompletion) -> OpId:
        """A fresh id; `on_completion` is called once, with the completion."""
        self._counter += 1
        op = (self.epoch << COUNTER_BITS) | self._counter
        self._waiting[op] = on_completion
        return op

    def complete(self, completion: Completion) -> bool:
        """Hand a completion to who waits. False for one that nobody is owed: of an earlier life, or a second one."""
        waiting = self._waiting.pop(completion.op, None)
        if waiting is None:
            return False
        waiting(completion)
        return True
