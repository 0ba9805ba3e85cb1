"""What a demo has done so far, and what its nodes said last: what is shown, and what is printed at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec


class Step(msgspec.Struct):
    """Something that is to happen. It has `ok` when it was seen to have happened, and false when it did not."""

    name: str
    what: str
    detail: str = ""
    ok: bool | None = None
    began_s: float | None = None
    took_s: float | None = None
    figures: dict[str, Any] = {}
    """For programs."""


class AgentRow(msgspec.Struct):
    """What an agent or a device said last."""

    name: str
    runs_on: str
    home: str = ""
    """The coordinator that it reports to."""
    model: str = ""
    status: str = "starting"
    origin_bytes: int = 0
    """Of the release."""
    peer_bytes: int = 0


class HubRow(msgspec.Struct):
    """What a coordinator said last."""

    name: str
    state: str = "starting"
    own: dict[str, int] = {}
    """Its agents by active model."""
    heard: dict[str, dict[str, int]] = {}
    """The same of other coordinators, as they told it."""


class Board:
    """All of it."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.steps: list[Step] = []
        self.agents: dict[str, AgentRow] = {}
        self.hubs: dict[str, HubRow] = {}
        self.release_bytes = 0
        """The size of the release; 0: nothing is being released yet."""
        self.on_end: Callable[[Step], None] = lambda step: None
        """Told of each step that has ended."""
        self._stopped_s: float | None = None

    @property
    def now_s(self) -> float:
        """Seconds since the beginning, to the end if there was one."""
        return time.monotonic() - self._began if self._stopped_s is None else self._stopped_s

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self._stopped_s is not None

    def begin(self, step: Step) -> None:
        """It is under way."""
        step.began_s = self.now_s

    def end(self, step: Step, *, ok: bool, detail: str) -> None:
        """It has happened, or it has not."""
        step.ok, step.detail = ok, detail
        step.took_s = self.now_s - (self.now_s if step.began_s is None else step.began_s)
        self.on_end(step)

    def stop(self) -> None:
        """Its time is over."""
        self._stopped_s = self.now_s

    @property
    def ok(self) -> bool:
        """Whether all has happened."""
        return all(step.ok for step in self.steps)

    def report(self) -> dict[str, Any]:
        """For programs: seconds, bytes and what was checked."""
        return {
            "ok": self.ok,
            "duration_s": round(self.now_s, 3),
            "steps": [
                {
                    "name": step.name,
                    "ok": step.ok,
                    "detail": step.detail,
                    "duration_s": None if step.took_s is None else round(step.took_s, 3),
                    **step.figures,
                }
                for step in self.steps
            ],
            "nodes": [msgspec.to_builtins(row) for row in self.agents.values()],
            "coordinators": [msgspec.to_builtins(row) for row in self.hubs.values()],
        }
