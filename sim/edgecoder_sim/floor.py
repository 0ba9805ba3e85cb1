"""The ground that people are on: the radio's area, with buildings or without.

Fidelity boundary: a floor is flat, walls stop neither people nor radio, and every building has one storey.
"""

from __future__ import annotations

import math

from edgecoder.core.rng import Stream
from edgecoder_sim.people_model import Buildings

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]
"""Left, top, width, depth, m."""


class Floor:
    """Where people can be; `building` counts from 0, and without buildings the whole area is the only one."""

    def __init__(self, area_m: tuple[float, float], buildings: Buildings | None) -> None:
        self.area: Rectangle = (0.0, 0.0, *area_m)
        self.buildings: list[Rectangle] = [self.area] if buildings is None else _grid(area_m, buildings)

    def of(self, index: int) -> int:
        """The building of a node: they take turns."""
        return index % len(self.buildings)

    def spot(self, stream: Stream, building: int | None = None) -> Point:
        """A uniform point in a building, or anywhere."""
        left, top, width, depth = self.area if building is None else self.buildings[building]
        return left + stream.uniform() * width, top + stream.uniform() * depth

    def door(self, building: int) -> Point:
        """Where people come in: the middle of the front."""
        left, top, width, _ = self.buildings[building]
        return left + width / 2, top


def grid_of(area_m: tuple[float, float], count: int) -> tuple[int, int]:
    """Columns and rows of a grid of `count` cells that are about square."""
    width, depth = area_m
    columns = min(count, max(1, round(math.sqrt(count * width / depth))))
    return columns, -(-count // columns)


def _grid(area_m: tuple[float, float], buildings: Buildings) -> list[Rectangle]:
    columns, rows = grid_of(area_m, buildings.count)
    cell = (area_m[0] / columns, area_m[1] / rows)
    width, depth = buildings.size_m
    return [
        (
            (number % columns + 0.5) * cell[0] - width / 2,
            (number // columns + 0.5) * cell[1] - depth / 2,
            width,
            depth,
        )
        for number in range(buildings.count)
    ]
