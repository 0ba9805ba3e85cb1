"""Times in which nodes are in some state, such as without a model: how many now, how long each and in all.

Decides nothing about the state; whether a node is in it, it is told.
"""

from __future__ import annotations


class Spells:
    """The nodes that are, and were, in one state."""

    def __init__(self) -> None:
        self._since_us: dict[int, int] = {}
        self._nodes: dict[int, None] = {}
        self._total_us = 0
        self._longest_us = 0

    def __len__(self) -> int:
        """How many nodes are in the state now."""
        return len(self._since_us)

    def change(self, at_us: int, node: int, *, is_in: bool) -> None:
        """A node enters the state or leaves it; said again, nothing changes."""
        if is_in:
            self._since_us.setdefault(node, at_us)
            self._nodes[node] = None
        elif node in self._since_us:
            spell_us = at_us - self._since_us.pop(node)
            self._total_us += spell_us
            self._longest_us = max(self._longest_us, spell_us)

    def figures(self, at_us: int) -> tuple[int, int, int]:
        """To `at_us`: the nodes that were ever in the state, their time in it together, µs, and the longest spell, µs;
        those that are in it still count to now."""
        open_us = [at_us - since_us for since_us in self._since_us.values()]
        return len(self._nodes), self._total_us + sum(open_us), max([self._longest_us, *open_us])
