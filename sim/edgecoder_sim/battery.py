"""Batteries: charge that falls with time and with the engine's work, told to the node when it has moved by a step.

Fidelity boundary: nothing charges a battery again, an empty one does not stop its node, and the radio costs nothing.
"""

from __future__ import annotations

from edgecoder_sim.population import Place

STEP_PCT = 5
"""The node hears of its battery when the charge has moved by so many percentage points."""
HOUR_US = 3_600_000_000


class Battery:
    """The battery of one node."""

    __slots__ = ("_busy_us", "_period_us", "_place")

    def __init__(self, place: Place, period_us: int) -> None:
        self._place = place
        self._period_us = period_us
        self._busy_us = 0

    def drain(self) -> None:
        """Take what one period cost."""
        place = self._place
        device, busy_us = place.sim.device, place.sim.engine.busy_us
        idle = device.battery_idle_pct_per_h * self._period_us / HOUR_US
        busy = device.battery_busy_pct_per_h * (busy_us - self._busy_us) / HOUR_US
        self._busy_us = busy_us
        place.charge_pct = max(0.0, (place.charge_pct or 0.0) - idle - busy)
        charge_pct = round(place.charge_pct)
        if abs(charge_pct - place.battery_pct) >= STEP_PCT:
            place.battery_pct = charge_pct
            place.sim.post(place.power())
