"""What the checks of a scenario share: keys of roles, devices of a role, weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from edgecoder.core.ids import Role
from edgecoder.yamlio.document import Document
from edgecoder.yamlio.explain import Where, dotted
from edgecoder_sim.profiles import Device
from edgecoder_sim.scenario_model import Scenario

KEYS: Final = {Role.PHONE: "phones", Role.AGENT: "agents", Role.COORDINATOR: "coordinators"}
"""The key of a scenario under which the nodes of a role stand."""


def shortened(document: Document) -> bool:
    """Whether a flag said how long the run is. Storms after its end are then left out; in a file they are a mistake."""
    return document.place(("duration_s",)).line is None


def role_devices(scenario: Scenario, role: Role) -> dict[str, Device]:
    """The devices that nodes of a role may be, by name; names that do not exist are left out."""
    if role is Role.COORDINATOR:
        names: Iterable[str] = (scenario.coordinators.device,)
    else:
        group = scenario.phones if role is Role.PHONE else scenario.agents
        names = (name for name, weight in group.devices.items() if weight > 0)
    return {name: scenario.devices[name] for name in names if name in scenario.devices}


def weights(document: Document, where: Where, weights: Mapping[str, float] | Mapping[float, float]) -> None:
    """Weights, where there are any, are not all zero."""
    if weights and not any(weights.values()):
        problem = f"the weights of {dotted(where)} are all 0"
        raise document.error(where, problem, "give at least one a weight above 0")
