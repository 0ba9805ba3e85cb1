"""The power policy: how much a node works for others on what is left of its battery. Its own user is never refused."""

from __future__ import annotations

from edgecoder.config import NodeConfig
from edgecoder.core.events import PowerChanged
from edgecoder.protocol import WORK_TOKENS_ANY
from edgecoder.wire.messages import Power


class PowerPolicy:
    """The power that a node runs on, and what follows from it."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._is_saving = False
        self.now = Power(on_external_power=False, battery_pct=100)

    def changed(self, event: PowerChanged) -> None:
        """The battery or the charger has moved, or the device began or ceased to save power."""
        self.now = Power(on_external_power=event.on_external_power, battery_pct=event.battery_pct)
        self._is_saving = event.low_power

    @property
    def work_tokens_max(self) -> int:
        """The longest answer that the node takes on for others, tokens; 0: none at all."""
        config, power = self._config, self.now
        if power.on_external_power and not self._is_saving:
            return WORK_TOKENS_ANY
        if self._is_saving or power.battery_pct <= config.power_no_work_pct:
            return 0
        return config.small_work_tokens if power.battery_pct <= config.power_small_work_pct else WORK_TOKENS_ANY
