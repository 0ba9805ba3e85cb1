"""The base of the states and steps that stand in the keys of transition tables."""

from __future__ import annotations

from enum import Enum


class Label(Enum):
    """An enum that is cheap to hash: its members are single, so an object's own hash will do, where `Enum` hashes the
    member's name in Python at each look into a table."""

    __hash__ = object.__hash__
