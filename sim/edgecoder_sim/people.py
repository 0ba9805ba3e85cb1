"""People of a world: they stand on the floor or move over it, or meet as a trace says, and their contacts are told.

It chooses between geometry and replay; each of them is described where it stands.

Fidelity boundary: those of the walks and of the traces; a world has one or the other, so that in a replay nobody stands
anywhere, and a node without a radio is nowhere in either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan
from typing import TYPE_CHECKING, Final

from edgecoder.core.ids import Role
from edgecoder_sim.contact_log import ContactLog
from edgecoder_sim.floor import Floor
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.mobility import SECOND_US, Crowd, Meetings, walk_of
from edgecoder_sim.people_model import Moves
from edgecoder_sim.replay import schedule_trace
from edgecoder_sim.traces import load_trace

if TYPE_CHECKING:
    from edgecoder_sim.contacts import Contacts
    from edgecoder_sim.host import SimNode
    from edgecoder_sim.population import Place
    from edgecoder_sim.scenario_model import Scenario

SAMPLED_MAX: Final = 1000
"""Nodes whose places are sampled."""


class People:
    """Where the nodes with a radio are, if anybody knows."""

    def __init__(self, scenario: Scenario, kernel: Kernel, members: Sequence[Place], contacts: Contacts) -> None:
        """Places everybody, and begins to tell of contacts. Raises DriverError where a trace is not installed."""
        self._row: dict[int, int] = {}
        self._meetings: Meetings | None = None
        is_still = {scenario.mobility.phones, scenario.mobility.agents} == {Moves.STILL}
        self.log = ContactLog(kernel, contacts) if not is_still or scenario.contacts is not None else None
        """Contacts that come and go; None where everybody stands still."""
        contacts = self.log or contacts
        if scenario.contacts is None:
            self._place(scenario, kernel, members, contacts)
        else:
            phones = [place.sim for place in members if place.role is Role.PHONE]
            trace = load_trace(scenario.contacts.trace)
            schedule_trace(kernel, trace, scenario.contacts, scenario.duration_s, phones, contacts)

    def position(self, sim: SimNode) -> tuple[float, float] | None:
        """Where a node was at the last step, m; None for one that is away, has no radio, or follows a trace."""
        row = self._row.get(sim.index)
        if row is None or self._meetings is None:
            return None
        x_m, y_m = self._meetings.positions[row].tolist()
        return None if isnan(x_m) else (x_m, y_m)

    def sampled(self) -> Iterator[tuple[int, float, float]]:
        """Where nodes were at the last step, at most SAMPLED_MAX, evenly picked: index and place, m. Nothing where
        everybody stands still."""
        if self.log is None or self._meetings is None:
            return
        every = -(-len(self._row) // SAMPLED_MAX)
        for index, row in list(self._row.items())[::every]:
            x_m, y_m = self._meetings.positions[row].tolist()
            if not isnan(x_m):
                yield index, x_m, y_m

    def _place(self, scenario: Scenario, kernel: Kernel, members: Sequence[Place], contacts: Contacts) -> None:
        mobility = scenario.mobility
        moves = {Role.PHONE: mobility.phones, Role.AGENT: mobility.agents}
        floor = Floor(scenario.radio.area_m, scenario.buildings)
        bearers = [place for place in members if place.sim.node.setup.config.has_radio]
        stands = [floor.spot(place.sim.stream("position"), floor.of(place.sim.index)) for place in bearers]
        walks = {
            row: walk
            for row, place in enumerate(bearers)
            if (walk := walk_of(moves[place.role], floor, mobility, scenario.day, place.sim)) is not None
        }
        self._row = {place.sim.index: row for row, place in enumerate(bearers)}
        crowd = Crowd(stands, walks)
        self._meetings = Meetings([place.sim for place in bearers], crowd, scenario.radio.range_m, contacts)
        self._meetings.start(kernel, round(mobility.step_s * SECOND_US) if walks else None)
