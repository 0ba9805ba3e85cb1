"""The CDN alone: when each of many downloads is done where nobody else gives anything.

Its egress is shared max-min fairly among all that are under way; a download takes no more than one connection gives,
and as many as a node has at once share its downlink evenly.

Fidelity boundary: everything flows, and nothing takes time but bytes; the CDN is never out of order.
"""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_DONE = 1e-9
"""The share of a download below which what is left of it is rounding."""


def ends_s(
    began_s: Floats,
    size_bytes: Floats,
    nodes: NDArray[np.int64],
    down_bytes_per_s: Floats,
    egress_bytes_per_s: float = inf,
    connection_bytes_per_s: float = inf,
) -> Floats:
    """When each download is done: one item of each array a download, `nodes` says whose it is. Each needs bytes and a
    downlink above 0."""
    left, ends = size_bytes.astype(float), np.full(len(began_s), inf)
    order = np.argsort(began_s, kind="stable")
    open_ = np.empty(0, dtype=np.int64)
    now_s, come = 0.0, 0
    while come < len(order) or len(open_):
        if not len(open_):
            now_s = float(began_s[order[come]])
        while come < len(order) and began_s[order[come]] <= now_s:
            open_ = np.append(open_, order[come])
            come += 1
        _, whose, at_once = np.unique(nodes[open_], return_inverse=True, return_counts=True)
        limits = np.minimum(connection_bytes_per_s, down_bytes_per_s[open_] / at_once[whose])
        rates = _max_min(limits, egress_bytes_per_s)
        next_s = now_s + float((left[open_] / rates).min())
        if come < len(order):
            next_s = min(next_s, float(began_s[order[come]]))
        left[open_] -= rates * (next_s - now_s)
        is_done = left[open_] <= _DONE * size_bytes[open_]
        ends[open_[is_done]] = now_s = next_s
        open_ = open_[~is_done]
    return ends


def _max_min(limits: Floats, total: float) -> Floats:
    """Max-min fair shares of a total, where none takes more than its limit."""
    if limits.sum() <= total:
        return limits
    ordered = np.sort(limits)
    before = np.concatenate(([0.0], np.cumsum(ordered)[:-1]))
    levels = (total - before) / np.arange(len(ordered), 0, -1)
    shares: Floats = np.minimum(limits, levels[np.argmax(ordered >= levels)])
    return shares
