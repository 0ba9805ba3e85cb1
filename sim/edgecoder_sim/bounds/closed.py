"""Closed forms of a flash crowd: one file, everybody there from the beginning to the end.

Bytes and seconds; a capacity is bytes a second, and may be infinite. F is the file, N its receivers, u an uplink, d a
downlink, C the pieces.

Fidelity boundary: latency, headers, requests, losses and verification take no time; any node reaches any other; only
access links are ever full. All of it makes the bounds lower than what can be had.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple


class Peer(NamedTuple):
    """A receiver's access link. Who never uploads has 0 up; who has no limit of its own, an infinite one."""

    up_bytes_per_s: float
    down_bytes_per_s: float = inf


def fluid_s(
    file_bytes: float, source_bytes_per_s: float, receivers: Sequence[Peer], helpers_bytes_per_s: float = 0.0
) -> float:
    """The least time until all receivers have the file: T ≥ max{F/u_s, F/d_min, N·F/(u_s + Σu_i)}.

    Always a lower bound, and reached where files flow like water (Kumar and Ross, Peer-assisted file distribution: the
    minimum distribution time, IEEE HotWeb 2006, theorem 1). `source_bytes_per_s` is the uplink of all who hold the
    file at first, the CDN among them; `helpers_bytes_per_s` that of nodes who forward and whose own finish does not
    count. So the bound of a class of nodes is that of its receivers, with all others as helpers. 0 without receivers.
    """
    _check(file_bytes, source_bytes_per_s, helpers_bytes_per_s, *(each for peer in receivers for each in peer))
    if not receivers or not file_bytes:
        return 0.0
    demand_bytes = len(receivers) * file_bytes
    supply_bytes_per_s = source_bytes_per_s + helpers_bytes_per_s + sum(peer.up_bytes_per_s for peer in receivers)
    return max(
        _seconds(file_bytes, source_bytes_per_s),
        _seconds(file_bytes, min(peer.down_bytes_per_s for peer in receivers)),
        _seconds(demand_bytes, supply_bytes_per_s),
    )


def pieces_s(file_bytes: int, piece_bytes: int, receivers: int, uplink_bytes_per_s: float) -> float:
    """The least time where a piece is received whole before it is sent on: T ≥ (C + ⌊log2 N⌋)·F/(C·u).

    Holds only if one source and all receivers have the same uplink, nobody else has any of the file, and forwarding is
    store-and-forward; downlinks may be anything (Mundinger, Weber and Weiss, Optimal scheduling of peer-to-peer file
    dissemination, J. Scheduling 11, 2008, theorem 1). A file whose last piece is short has a bound of its own: either
    that piece leaves the source last, at F/u, and doubles in its shorter time, or a whole one does. Then the bound is
    at most that of the formula. 0 without receivers.
    """
    _check(file_bytes, uplink_bytes_per_s)
    if piece_bytes <= 0:
        raise ValueError(f"a piece has {piece_bytes} bytes; 1 or more are needed")
    if receivers <= 0 or not file_bytes:
        return 0.0
    whole_bytes = min(piece_bytes, file_bytes)
    last_bytes = file_bytes % piece_bytes or whole_bytes
    doublings = receivers.bit_length() - 1
    last_is_last_bytes = file_bytes + doublings * last_bytes
    whole_before_it_bytes = file_bytes - last_bytes + doublings * whole_bytes if file_bytes > last_bytes else 0
    return _seconds(max(last_is_last_bytes, whole_before_it_bytes), uplink_bytes_per_s)


def client_server_s(
    file_bytes: float, source_bytes_per_s: float, receivers: int, down_bytes_per_s_min: float = inf
) -> float:
    """The least time where the source serves every receiver itself: max{N·F/u_s, F/d_min}. 0 without receivers."""
    _check(file_bytes, source_bytes_per_s, down_bytes_per_s_min)
    if receivers <= 0 or not file_bytes:
        return 0.0
    return max(_seconds(receivers * file_bytes, source_bytes_per_s), _seconds(file_bytes, down_bytes_per_s_min))


def cdn_bytes_min(
    file_bytes: float,
    receivers: int,
    peers_bytes_per_s: float,
    within_s: float,
    unheld_bytes: float | None = None,
) -> float:
    """The fewest bytes that a CDN must send for all receivers to finish by T: max{F·[no peer has a copy], N·F − T·Σu}.

    `within_s` is T, `peers_bytes_per_s` the uplink of all peers together, those who hold the file at first among them,
    and `unheld_bytes` what none of them holds then, the whole file if it is not given. Fluid.
    """
    unheld_bytes = file_bytes if unheld_bytes is None else unheld_bytes
    _check(file_bytes, peers_bytes_per_s, within_s, unheld_bytes)
    if receivers <= 0:
        return 0.0
    peers_bytes = peers_bytes_per_s * within_s if peers_bytes_per_s and within_s else 0.0
    return max(min(unheld_bytes, file_bytes), receivers * file_bytes - peers_bytes)


def offload_max(
    file_bytes: float,
    receivers: int,
    peers_bytes_per_s: float,
    within_s: float = inf,
    unheld_bytes: float | None = None,
) -> float:
    """The greatest share of all received bytes that can come from peers; from a cold start at most 1 − 1/N.

    Arguments as for `cdn_bytes_min`. 0 where nothing is received.
    """
    if receivers <= 0 or not file_bytes:
        return 0.0
    least_bytes = cdn_bytes_min(file_bytes, receivers, peers_bytes_per_s, within_s, unheld_bytes)
    return 1 - least_bytes / (receivers * file_bytes)


def _seconds(size_bytes: float, bytes_per_s: float) -> float:
    if bytes_per_s == inf:
        return 0.0
    return size_bytes / bytes_per_s if bytes_per_s else inf


def _check(*figures: float) -> None:
    """Raises ValueError at a negative size, capacity or time, or at one that is no number."""
    for figure in figures:
        if not figure >= 0:
            raise ValueError(f"a size, a capacity or a time is {figure}; 0 or more is needed")
