"""What the core hears of battery and charger."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from edgecoder.config import DeviceType
from edgecoder.core.events import Event, PowerChanged
from edgecoder_drivers.power import PowerDriver, read_power

MAINS = PowerChanged(100, on_external_power=True)


@pytest.mark.parametrize(
    ("battery", "device", "told"),
    [
        (None, DeviceType.WORKSTATION, MAINS),
        (None, DeviceType.PHONE, None),
        (SimpleNamespace(percent=41.6, power_plugged=False), DeviceType.LAPTOP, PowerChanged(42, False)),
        (SimpleNamespace(percent=99.2, power_plugged=True), DeviceType.PHONE, PowerChanged(99, True)),
        (SimpleNamespace(percent=104, power_plugged=None), DeviceType.LAPTOP, PowerChanged(100, False)),
    ],
)
def test_the_battery_is_told_as_the_system_shows_it(
    monkeypatch: pytest.MonkeyPatch, battery: Any, device: DeviceType, told: PowerChanged | None
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert read_power(device) == told


def test_a_system_that_knows_no_batteries_is_on_the_mains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(psutil, "sensors_battery", raising=False)
    assert read_power(DeviceType.LAPTOP) == MAINS


def test_only_what_changes_is_told_and_a_fault_of_the_system_ends_nothing() -> None:
    low = PowerChanged(18, on_external_power=False)
    readings: list[PowerChanged | OSError | None] = [MAINS, MAINS, OSError("gone"), None, low, low, MAINS]
    heard: list[Event] = []

    def read(_: DeviceType) -> PowerChanged | None:
        found = readings.pop(0) if readings else MAINS
        if isinstance(found, OSError):
            raise found
        return found

    async def live() -> None:
        driver = PowerDriver(DeviceType.LAPTOP, read, poll_s=0.001)
        driver.open(heard.append)
        for _ in range(2_000):
            if len(heard) == 3:
                break
            await asyncio.sleep(0.002)
        await driver.close()

    asyncio.run(live())
    assert heard == [MAINS, low, MAINS]
