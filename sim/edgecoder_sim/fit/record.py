"""All journals together: whose lives they tell of, on which clock, and what they do not tell."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from edgecoder import __version__
from edgecoder.core.effects import Source
from edgecoder.core.ids import NodeId, Role
from edgecoder.errors import ConfigError
from edgecoder.journal.format import Head
from edgecoder.journal.replay import Replayed, Turn, Watch, replay
from edgecoder_sim.fit.life import Fetch, Life
from edgecoder_sim.fit.rates import Points
from edgecoder_sim.scenario_model import DURATION_S_MAX

SECOND_US: Final = 1_000_000
UP_US: Final = 5 * SECOND_US
"""In the simulator all nodes are up and linked by then, so nobody does anything sooner."""
END_US: Final = 2 * SECOND_US
"""Who is silent for the last so many is taken to have left; for the last twentieth in a long record."""


class Machine:
    """One node, over its lives."""

    def __init__(self, lives: Sequence[Life]) -> None:
        self.lives = sorted(lives, key=lambda life: life.begins)
        self.head = self.lives[-1].head

    @property
    def role(self) -> Role:
        """What it is."""
        return self.head.role

    def given(self) -> list[Points]:
        """What it gave, on its own clock, life after life."""
        return [points_of(life, fetch) for life in self.lives for fetch in life.given if fetch.end is not None]

    def up_us(self) -> int:
        """How long it was there."""
        return sum(life.ends - life.begins for life in self.lives)


class Record:
    """What was recorded."""

    def __init__(self, lives: Sequence[Life], notes: Sequence[str]) -> None:
        self.lives = lives
        self.notes = list(notes)
        """What a reader should know."""
        of_node: dict[NodeId, list[Life]] = {}
        for life in lives:
            of_node.setdefault(life.head.node_id, []).append(life)
        self.machines = [Machine(each) for each in of_node.values()]
        members = [life for life in lives if life.head.role is not Role.COORDINATOR] or list(lives)
        self.begins = min(life.begins for life in members)
        self.ends = max(life.ends for life in members)
        actions = [life.unix(each.at) for life in lives for each in (*life.pulls, *life.swaps, *life.tasks)]
        first = min(actions, default=self.begins + UP_US)
        self.shift_us = max(0, UP_US - (first - self.begins))
        """What moments are put off by, so that all nodes are up before anybody does anything."""

    def of(self, *roles: Role) -> list[Machine]:
        """The nodes of some roles."""
        return [machine for machine in self.machines if machine.role in roles]

    def moment_s(self, unix_us: int) -> float:
        """A moment of the scenario."""
        return max(0.0, (unix_us - self.begins + self.shift_us) / SECOND_US)

    @property
    def length_s(self) -> float:
        """From the begin of the first member to the last word of any."""
        return (self.ends - self.begins) / SECOND_US

    @property
    def duration_s(self) -> float:
        """Of the scenario: half as long again, so that what takes a little longer comes to its end."""
        return float(min(DURATION_S_MAX, max(10, round(1.5 * (self.length_s + self.shift_us / SECOND_US)))))

    @property
    def leave_us(self) -> int:
        """Who has not said a word from here on has left."""
        return self.ends - max(END_US, round(self.length_s * SECOND_US / 20))

    def origin(self) -> list[Points]:
        """All that came of what was asked of an origin, on the clock on the wall."""
        return [points_of(life, fetch) for life, fetch in self._from_origin() if fetch.end is not None]

    def _from_origin(self) -> list[tuple[Life, Fetch]]:
        return [(life, fetch) for life in self.lives for fetch in life.taken if fetch.source is Source.CDN]


def points_of(life: Life, fetch: Fetch) -> Points:
    """When bytes of a request were there, Unix time."""
    return [(life.unix(fetch.begin), 0), *((life.unix(at), size) for at, size in fetch.arrivals)]


def read(paths: Sequence[Path]) -> Record:
    """Live all journals again. Raises ConfigError for a file that is no journal, is damaged, or that this version
    cannot live again."""
    lives: list[Life] = []
    notes: list[str] = []
    seen: set[tuple[int, int]] = set()
    for path in paths:
        status = _status(path)
        if (status.st_dev, status.st_ino) in seen:
            notes.append(f"{path} was given twice, and is read once")
            continue
        seen.add((status.st_dev, status.st_ino))
        lives += _read_one(path, notes)
    return Record(lives, notes)


def _status(path: Path) -> os.stat_result:
    try:
        status = path.stat()
        if path.is_file():
            with path.open("rb"):
                return status
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        hint = "give the file that an agent, device or coordinator wrote with --journal"
        raise ConfigError(str(path), None, f"no journal: {problem}", hint) from None


def _read_one(path: Path, notes: list[str]) -> list[Life]:
    found: list[Life] = []
    other = ""
    for number, replayed in enumerate(replay(path, _witness(found)), start=1):
        note = _shortcoming(replayed)
        if note:
            notes.append(f"{path}: life {number} {note}")
        if replayed.version != __version__:
            other = replayed.version
    whole = [life for life in found if life.first is not None]
    if not whole and other:
        hint = f"fit it with EdgeCoder {other}: another version may answer differently"
        raise ConfigError(str(path), None, f"EdgeCoder {other} wrote this, and this is {__version__}", hint)
    if not whole:
        hint = "take the journal of a node that has run for a while"
        raise ConfigError(str(path), None, "no life in this journal has a whole event", hint)
    return whole


def _witness(found: list[Life]) -> Watch:
    def watch(head: Head) -> Callable[[Turn], None]:
        found.append(Life(head))
        return found[-1].see

    return watch


def _shortcoming(replayed: Replayed) -> str:
    if replayed.version != __version__:
        return f"is left out: EdgeCoder {replayed.version} wrote it, and this is {__version__}"
    if replayed.difference is not None:
        at = replayed.difference.number
        return f"is read up to event {at}, to which this EdgeCoder gives another answer: another core wrote it"
    if replayed.rest:
        return f"breaks off: {replayed.rest} bytes of its last event were not written whole"
    return ""
