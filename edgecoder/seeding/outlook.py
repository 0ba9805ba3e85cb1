"""What the CDN would give a node alone: how fast, until when, and in requests of what size.

A download with peers is measured against the one without. What the CDN gives is told by its operator and by the broker,
who knows how many there are to share it; what was measured can only lower it.
"""

from __future__ import annotations

from edgecoder.core.context import MILLI, SECOND_US, Context
from edgecoder.core.effects import Source
from edgecoder.core.ids import Micros
from edgecoder.seeding.rates import Rates

CDN_REQUEST_S = 2
"""A request to the CDN asks for no more than it gives in so long, s: nobody else is asked for what it has in hand;"""
CDN_PARTS = 32
"""and for no more than one part of so many of the file."""
CDN_FIRST_BYTES = 4
"""But for no less than it gives in so many times its first byte takes, or half of the file: then one of two requests is
always giving."""
MEASURED_PIECES = 4
"""So many pieces have to come from the CDN before its rate counts as measured."""


class Alone:
    """How a download from one source alone would stand now, had it begun when this one did.

    The rate of that source changes, with the number of those who share it: what it would have brought is summed up as
    time passes, so that a deadline is no promise made once.
    """

    __slots__ = ("_at", "_left_bytes", "began", "ends")

    def __init__(self, began: Micros, first_byte: Micros, size_bytes: int) -> None:
        self.began = began
        self.ends = began
        """When it would be done."""
        self._at = began + first_byte
        """Up to when it is summed up."""
        self._left_bytes = size_bytes

    def pass_time(self, now: Micros, bytes_per_s: int) -> None:
        """So much the source would have given since the last time, and would give from now on."""
        if now > self._at and self._left_bytes:
            came = (now - self._at) * bytes_per_s // SECOND_US
            if came >= self._left_bytes:
                self.ends = self._at + self._left_bytes * SECOND_US // bytes_per_s
            self._left_bytes = max(0, self._left_bytes - came)
            self._at = now
        if self._left_bytes:
            self.ends = self._at + self._left_bytes * SECOND_US // bytes_per_s


class CdnOutlook:
    """The CDN as one download sees it."""

    def __init__(self, context: Context, rates: Rates, piece_size_bytes: int, size_bytes: int) -> None:
        """The download lacks `size_bytes`, and begins now."""
        self._context = context
        self._rates = rates
        self._piece_size_bytes = piece_size_bytes
        self._size_bytes = size_bytes
        self._shares = 0
        """0: nobody has said."""
        self.first_byte: Micros = context.cluster.cdn_first_byte_ms * MILLI
        """How long the CDN takes to its first byte."""
        self.under_way = 0
        """Requests that the node has made by itself."""
        self.granted = 0
        """Requests that the broker has sent it for."""
        self._alone = Alone(context.now, self.first_byte, size_bytes)

    def told(self, shares: int) -> None:
        """The broker says in how many equal shares the CDN would be; what it says first has held before."""
        if shares == self._shares:
            return
        if self._shares:
            self._pass_time()  # at the rate that held until now
        else:
            self._alone = Alone(self._alone.began, self.first_byte, self._size_bytes)
        self._shares = max(1, shares)

    @property
    def is_shared(self) -> bool:
        """Whether it gives this node less because there are others."""
        return self._shares > 1 and self._context.cluster.cdn_egress_kbit_per_s > 0

    def alone_ends(self) -> Micros:
        """When the CDN alone would be done, or would have been."""
        self._pass_time()
        return self._alone.ends

    def _pass_time(self) -> None:
        """Sum up what it would have given. It is not taken for slower than it is, or the download would be."""
        self._alone.pass_time(self._context.now, self._rate(came_pct=100))

    def bytes_per_s(self) -> int:
        """What it would give this node alone, at least 1."""
        return self._rate(came_pct=50)

    def _rate(self, came_pct: int) -> int:
        """The same, where so much has come of the pieces that are on their way."""
        context, size = self._context, self._piece_size_bytes
        cluster, down = context.cluster, context.config.download_kbit_per_s
        most = cluster.cdn_kbit_per_s
        if cluster.cdn_egress_kbit_per_s:
            most = min(most, cluster.cdn_egress_kbit_per_s // max(1, self._shares))
        if down:
            most = min(most, down)
        rate = most * 125
        came = (self.under_way + self.granted) * size * came_pct // 100
        measured = self._rates.bytes_per_s(Source.CDN, context.now, came)
        if measured and self._rates.total_bytes(Source.CDN) >= MEASURED_PIECES * size:
            # alone it would have had what the peers took of this node's access as well
            peers = self._rates.peers
            rate = min(rate, measured + peers.bytes_per_s(context.now, peers.under_way * size * came_pct // 100))
        return max(1, rate)

    def pieces_per_request(self) -> int:
        """How many pieces one request asks for, at most."""
        rate = self.bytes_per_s()
        size = min(self._context.config.cdn_request_bytes, CDN_REQUEST_S * rate, self._size_bytes // CDN_PARTS)
        size = max(size, min(CDN_FIRST_BYTES * self.first_byte * rate // SECOND_US, self._size_bytes // 2))
        return max(1, size // self._piece_size_bytes)
