"""What a run's transfers amount to: the origin's part, how evenly peers gave, and how near the last finish came to what
no policy can beat.

Decides the figures; the sums come from `recording.transfers`, the bounds from `bounds.closed`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from edgecoder_sim.bounds.closed import Peer, fluid_s, pieces_s
from edgecoder_sim.file_tables import FileRow
from edgecoder_sim.recording.transfers import CDN, SOURCES, Crowd, TransferBook
from edgecoder_sim.tables import NodeRow


class Shares:
    """Figures of one world."""

    def __init__(self, nodes: Sequence[NodeRow], files: Sequence[FileRow], origin_bytes_per_s: int | None) -> None:
        """`origin_bytes_per_s` is what the CDN sends at most to all nodes together; None is unlimited."""
        self._nodes = {node.index: node for node in nodes}
        self._files = {file.model: file for file in files}
        self._origin_bytes_per_s = math.inf if origin_bytes_per_s is None else float(origin_bytes_per_s)

    def metrics(self, book: TransferBook) -> dict[str, float]:
        """The figures; nothing where no file came piece by piece, and none that has no value."""
        if not book.is_used:
            return {}
        found: dict[str, float] = {}
        files = [self._files[model] for model in book.crowds if model in self._files]
        size = sum(file.size_bytes for file in files)
        all_bytes = sum(book.bytes_of.values())
        if size:
            found["origin_copies"] = book.bytes_of[CDN] / size
        if all_bytes:
            found["offload_share"] = 1 - book.bytes_of[CDN] / all_bytes
            needed = sum(file.size_bytes for file in files if _is_from_origin(file, book.crowds[file.model]))
            found["offload_bound_share"] = max(0.0, 1 - needed / all_bytes)
        if any(book.bytes_of[source] for source in SOURCES if source != CDN):
            found["upload_gini"] = gini(given_bytes(book).values())
        return found | self._finish_over_bounds(book)

    def _finish_over_bounds(self, book: TransferBook) -> dict[str, float]:
        """Of the file that most nodes wanted; nothing where the bounds do not apply: they are for a crowd that comes at
        once, has nothing of the file before, and gets all of it over the IP network. That of pieces is for equal
        uplinks, for a file that only the origin has at first, and for pieces that come whole from one sender."""
        if any(book.bytes_of[source] for source in SOURCES[:2]):
            return {}
        crowds = [(len(crowd.nodes), model, crowd) for model, crowd in book.crowds.items() if model in self._files]
        if not crowds:
            return {}
        _, model, crowd = max(crowds, key=lambda each: each[0])
        bound_s = self.crowd_bound_s(self._files[model], crowd)
        took_s = (crowd.last_done_us - crowd.first_us) / 1e6
        came_s = (crowd.last_began_us - crowd.first_us) / 1e6
        is_whole = crowd.done == crowd.nodes and not crowd.had_pieces
        if bound_s <= 0 or not is_whole or came_s > bound_s:
            return {}
        found = {"finish_over_bound": took_s / bound_s}
        file, uplink = self._files[model], self._origin_bytes_per_s
        is_equal = all(self._nodes[each].up_bytes_per_s == uplink for each in crowd.nodes)
        if is_equal and not file.holders and not book.came_in_parts(model):
            pieces = pieces_s(file.size_bytes, file.piece_bytes, len(crowd.nodes), uplink)
            found["finish_over_piece_bound"] = took_s / pieces
        return found

    def crowd_bound_s(self, file: FileRow, crowd: Crowd) -> float:
        """The least time in which the nodes of a crowd can have a file, if all came at once."""
        nodes = self._nodes
        receivers = [Peer(nodes[each].up_bytes_per_s, nodes[each].down_bytes_per_s) for each in crowd.nodes]
        holders = sum(nodes[each].up_bytes_per_s for each in file.holders)
        others = sum(node.up_bytes_per_s for node in nodes.values()) - holders
        helpers = others - sum(peer.up_bytes_per_s for peer in receivers)
        return fluid_s(file.size_bytes, self._origin_bytes_per_s + holders, receivers, max(0, helpers))


def _is_from_origin(file: FileRow, crowd: Crowd) -> bool:
    """Whether somebody has a file of which no node had anything: then all of it came from the CDN, once at least."""
    return bool(crowd.done) and not crowd.had_pieces and not file.holders


def given_bytes(book: TransferBook) -> dict[int, int]:
    """What each node gave others, of those that took part: that wanted a file or gave of one."""
    given = {node: 0 for crowd in book.crowds.values() for node in crowd.nodes}
    for (sender, *_), upload in book.uploads.items():
        if sender is not None:
            given[sender] = given.get(sender, 0) + upload.size_bytes
    return given


def gini(values: Iterable[float]) -> float:
    """The Gini coefficient of amounts, 0 where all are alike, near 1 where one has all; 0 of nothing."""
    ordered = np.sort(np.asarray(list(values), dtype=float))
    count, total = len(ordered), float(ordered.sum())
    if not total:
        return 0.0
    ranks = 2 * np.arange(1, count + 1) - count - 1
    return float((ranks * ordered).sum() / (count * total))
