"""What a naive policy carries: files in order, one partner at a time, whoever comes first.

In each step a node takes part in one exchange at most. Of two who meet the one with the lower number takes, if the
other has more of a file that it wants; else the other one takes. It takes the first file of which there is more, on
from where it stands, since it takes files from their first byte to the last.

Fidelity boundary: nobody has to discover anybody, links cost what `meetings` says, and nothing else uses the air.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from edgecoder_sim.bounds.meetings import Step


def spread(
    steps: Iterable[Step],
    file_bytes: Sequence[int],
    seeds: Mapping[int, Iterable[int]],
    wants: Mapping[int, Iterable[int]],
) -> dict[int, list[float]]:
    """Bytes of each file that each node has at the end. `seeds` and `wants` are the numbers of the files that a node
    has at first, and that it wants."""
    have: dict[int, list[float]] = {}
    wanted = {node: sorted(files) for node, files in wants.items()}
    for node, files in seeds.items():
        held = have.setdefault(node, [0.0] * len(file_bytes))
        for file in files:
            held[file] = file_bytes[file]
    number, busy = -1, set[int]()
    for step in steps:
        if step.number != number:
            number, busy = step.number, set()
        pair = (step.first, step.second)
        if busy.isdisjoint(pair) and (_take(have, wanted, pair, step) or _take(have, wanted, pair[::-1], step)):
            busy.update(pair)
    return have


def _take(have: dict[int, list[float]], wanted: Mapping[int, Sequence[int]], pair: tuple[int, int], step: Step) -> bool:
    """The first of a pair takes from the second what it wants. Whether there was anything."""
    taker, giver = pair
    source = have.get(giver)
    if source is None:
        return False
    mine = have.setdefault(taker, [0.0] * len(source))
    left = step.size_bytes
    for file in wanted.get(taker, ()):
        more = min(left, source[file] - mine[file])
        if more > 0:
            mine[file] += more
            left -= more
    return left < step.size_bytes
