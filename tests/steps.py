"""Watching the machines follow their tables: which (state, step) pairs were tried, and what came of each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from itertools import product
from typing import Any, Generic, TypeVar

import pytest

S = TypeVar("S", bound=Enum)
P = TypeVar("P", bound=Enum)


class Steps(Generic[S, P]):
    """Every step that the machines of one class took: the state before it, the step and the state after it."""

    def __init__(self) -> None:
        self.taken: list[tuple[S, P, S]] = []

    def following(self, state: S, step: P) -> set[S]:
        """The states that were seen to follow."""
        return {after for before, taken, after in self.taken if (before, taken) == (state, step)}


def watch(monkeypatch: pytest.MonkeyPatch, machine: type, states: type[S], steps: type[P]) -> Steps[S, P]:
    """Record the steps of a machine whose `_step(subject, step)` moves the state of a subject, or of itself, or whose
    `step(step)` moves its own."""
    seen = Steps[S, P]()
    name = "_step" if hasattr(machine, "_step") else "step"
    original: Any = getattr(machine, name)

    def step(self: Any, *arguments: Any) -> Any:
        subject = arguments[0] if len(arguments) == 2 else self
        before = subject.state
        assert isinstance(before, states)
        assert isinstance(arguments[-1], steps)
        result = original(self, *arguments)
        seen.taken.append((before, arguments[-1], subject.state))
        return result

    monkeypatch.setattr(machine, name, step)
    return seen


def missing(table: Mapping[tuple[S, P], Any], states: type[S], steps: type[P]) -> list[tuple[S, P]]:
    """The pairs of which the table says nothing."""
    return [pair for pair in product(states, steps) if pair not in table]


def ids(pair: tuple[Enum, ...]) -> str:
    """How a row is called in a test's id."""
    return "-".join(str(part.value) for part in pair)
