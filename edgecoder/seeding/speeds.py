"""How long what a download asks for should take, from each kind of source: as measured, or as it is assumed before."""

from __future__ import annotations

from edgecoder.core.context import MILLI, SECOND_US, Context
from edgecoder.core.effects import Source
from edgecoder.core.ids import Micros
from edgecoder.seeding.outlook import CdnOutlook
from edgecoder.seeding.rates import Rates
from edgecoder.seeding.requests import Requests

PEERS = (Source.BLE, Source.WIFI_DIRECT, Source.MESH)


class Speeds:
    """The sources of one download."""

    def __init__(self, context: Context, rates: Rates, cdn: CdnOutlook, requests: Requests) -> None:
        self._context = context
        self._rates = rates
        self._cdn = cdn
        self._requests = requests

    def expected(self, source: Source, size_bytes: int) -> Micros:
        """How long one more request should take, beside those that are under way."""
        if source is Source.CDN:
            return size_bytes * SECOND_US // self._cdn.bytes_per_s()
        if source is not Source.MESH:
            asked = self._requests.of_source(source)
            return size_bytes * (asked + 1) * SECOND_US // self._bytes_per_s(source)
        rate = self._rates.peers.bytes_per_s(self._context.now) // max(1, self._requests.peers)
        return size_bytes * SECOND_US // rate if rate else self._context.config.piece_timeout_ms * MILLI

    def alone_end(self, left_bytes: int) -> dict[Source, Micros]:
        """When each kind of peer that is asked for something now would have brought so much by itself. One of which
        nothing is known is left out."""
        ends: dict[Source, Micros] = {}
        for source in PEERS:
            rate = self._bytes_per_s(source) if self._requests.of_source(source) else 0
            if rate:
                ends[source] = self._context.now + left_bytes * SECOND_US // rate
        return ends

    def _bytes_per_s(self, source: Source) -> int:
        """What one kind of peer gives; 0 is not known, of the mesh alone."""
        config = self._context.config
        assumed = {Source.BLE: config.ble_pieces_kbit_per_s, Source.WIFI_DIRECT: config.wifi_direct_kbit_per_s}
        return self._rates.bytes_per_s(source, self._context.now) or assumed.get(source, 0) * 125
