"""Batteries: charge that falls with time and with the engine's work, and rises on a charger; told to the node when it
has moved by a step, or when it is plugged in or out.

Fidelity boundary: without `charging` nothing charges a battery, and an empty one does not stop its node. The radio
costs nothing, a charger gives the same power at any charge, and batteries do not age.
"""

from __future__ import annotations

from typing import Final

from edgecoder_sim.people_model import Charging
from edgecoder_sim.population import Place
from edgecoder_sim.uptime import Hold, Uptime

STEP_PCT: Final = 5
"""The node hears of its battery when the charge has moved by so many percentage points."""
BOOT_PCT: Final = 3.0
"""A phone whose battery was empty boots again at this charge (I: phones wait for a few percent)."""
HOUR_US: Final = 3_600_000_000
MINUTE_US: Final = 60_000_000


class Battery:
    """The battery of one node, and who charges it."""

    __slots__ = ("_below_pct", "_busy_us", "_charging", "_period_us", "_place", "_stream", "_until_pct", "_uptime")

    def __init__(self, place: Place, period_us: int, charging: Charging | None, uptime: Uptime) -> None:
        """`uptime` is told when the battery is empty, or carries the node again."""
        self._place = place
        self._period_us = period_us
        self._charging = charging
        self._uptime = uptime
        self._busy_us = 0
        self._below_pct, self._until_pct = 0.0, 100.0
        if charging is not None:
            self._stream = place.sim.stream("charging")
            self._below_pct, self._until_pct = (
                low + self._stream.uniform() * (high - low) for low, high in (charging.below_pct, charging.until_pct)
            )

    def drain(self) -> None:
        """Take what one period cost, and give what it charged."""
        place = self._place
        device, busy_us = place.sim.device, place.sim.engine.busy_us
        idle = device.battery_idle_pct_per_h * self._period_us / HOUR_US if place.sim.is_up else 0.0
        busy = device.battery_busy_pct_per_h * (busy_us - self._busy_us) / HOUR_US
        self._busy_us = busy_us
        charge_pct = (place.charge_pct or 0.0) - idle - busy
        if self._charging is not None and place.is_plugged:
            charge_pct += self._charging.pct_per_h * self._period_us / HOUR_US
        place.charge_pct = max(0.0, min(100.0, charge_pct))
        was_plugged = place.is_plugged
        if self._charging is not None:
            self._plug(self._charging, place.charge_pct)
            self._judge(place.charge_pct)
        rounded_pct = round(place.charge_pct)
        if abs(rounded_pct - place.battery_pct) >= STEP_PCT or place.is_plugged is not was_plugged:
            place.battery_pct = rounded_pct
            place.sim.post(place.power())

    def _plug(self, charging: Charging, charge_pct: float) -> None:
        """People plug in some time after the charge is low, and out when it is high."""
        place = self._place
        if place.is_plugged:
            place.is_plugged = charge_pct < self._until_pct
        elif charge_pct <= self._below_pct:
            chance = self._period_us / max(self._period_us, charging.after_min * MINUTE_US)
            place.is_plugged = self._stream.uniform() < chance

    def _judge(self, charge_pct: float) -> None:
        """An empty battery ends its node; on a charger it carries it again before long."""
        place = self._place
        if place.is_empty is not (charge_pct < BOOT_PCT if place.is_empty else charge_pct <= 0.0):
            place.is_empty = not place.is_empty
            judge = self._uptime.hold if place.is_empty else self._uptime.release
            judge(place.sim, Hold.EMPTY)
