"""What a gigabyte costs the node that gets it, from each kind of source.

The CDN's operator is paid for what it sends, a phone's user for what comes over a metered network, and Bluetooth, which
is slow, keeps a radio on for hours: that is charge of the battery. What costs about the same is a tie: then all of it
is asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import Source

TIES_PCT = 5
"""Prices that differ by less than this are the same, percent."""


Prices = Mapping[Source, int]
"""Millionths of a dollar a GB."""


def prices_of(cluster: ClusterConfig, config: NodeConfig, *, is_metered: bool, on_battery: bool) -> Prices:
    """The prices of a node now."""
    access = config.metered_price_microusd_per_gb if is_metered else 0
    return {
        Source.BLE: config.ble_price_microusd_per_gb if on_battery else 0,
        Source.WIFI_DIRECT: 0,
        Source.MESH: access,
        Source.CDN: access + cluster.cdn_price_microusd_per_gb,
    }


def is_cheaper(one: int, other: int) -> bool:
    """Whether one price is below another by more than a tie."""
    return one * 100 < other * (100 - TIES_PCT)
