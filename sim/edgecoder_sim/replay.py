"""Replay of a contact trace: the people of the trace carry the phones of the scenario.

Fidelity boundary: that of `traces`; and all contacts are equally close.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgecoder_sim.kernel import Kernel
from edgecoder_sim.people_model import Replay
from edgecoder_sim.traces import ContactTrace

if TYPE_CHECKING:
    from edgecoder_sim.contacts import Contacts
    from edgecoder_sim.host import SimNode

SECOND_US = 1_000_000


def schedule_trace(
    kernel: Kernel,
    trace: ContactTrace,
    replay: Replay,
    duration_s: float,
    phones: Sequence[SimNode],
    contacts: Contacts,
) -> int:
    """Tell of the trace's contacts when they begin and end; how many there are in the run. People without a phone are
    left out."""
    count = 0

    def begin(first: SimNode, second: SimNode) -> None:
        contacts.contact_begins(first, second, replay.distance_m)

    for contact in trace.window(round(replay.starts_at_s), -int(-duration_s // 1)):
        if contact.second >= len(phones):
            continue
        count += 1
        pair = (phones[contact.first], phones[contact.second])
        kernel.call_at(contact.begin_s * SECOND_US, begin, *pair)
        kernel.call_at(contact.end_s * SECOND_US, contacts.contact_ends, *pair)
    return count
