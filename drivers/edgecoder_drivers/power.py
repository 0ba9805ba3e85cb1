"""What a machine runs on: the core is told at the start of a life, and when it changes. What follows is the core's.

A machine without a battery is on the mains. Of a phone nobody may ask (Android asks for a permission) that is not to be
believed, and it is taken to run on its battery, as the core does until it hears otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import psutil
import structlog

from edgecoder.config import DeviceType
from edgecoder.core.events import PowerChanged
from edgecoder_drivers.driver import Post
from edgecoder_drivers.watcher import Watcher

POLL_S: Final = 30.0
"""How often it is looked: a charger that was pulled drains little in that time."""
_log = structlog.get_logger("edgecoder.power")


def read_power(device_type: DeviceType) -> PowerChanged | None:
    """What the system says; None where it does not say. Raises OSError."""
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery is None:
        return None if device_type is DeviceType.PHONE else PowerChanged(100, on_external_power=True)
    return PowerChanged(max(0, min(100, round(battery.percent))), on_external_power=bool(battery.power_plugged))


class PowerDriver(Watcher):
    """See `driver.Driver`."""

    def __init__(
        self,
        device_type: DeviceType,
        read: Callable[[DeviceType], PowerChanged | None] = read_power,
        poll_s: float = POLL_S,
    ) -> None:
        super().__init__("edgecoder power")
        self._device_type = device_type
        self._read = read
        self._poll_s = poll_s

    async def _watch(self, post: Post) -> None:
        told: PowerChanged | None = None
        while True:
            try:
                found = await asyncio.to_thread(self._read, self._device_type)
            except (OSError, ValueError) as error:
                _log.warning("no word of the battery", detail=str(error))
                found = None
            if found is not None and found != told:
                told = found
                post(found)
            await asyncio.sleep(self._poll_s)
