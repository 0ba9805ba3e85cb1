"""The checkers: invariants that hold in every run, judged from what goes into nodes and what comes out of them.

They know no state of a node. Each rule keeps books of its own, from events, effects, records and envelopes, so that a
mistake in a state machine does not hide in its checker.
"""

from __future__ import annotations

from edgecoder_sim.checkers.bounds import Bounds, NewsIsRecent
from edgecoder_sim.checkers.clock import Wakes
from edgecoder_sim.checkers.disks import FilesHaveRoom
from edgecoder_sim.checkers.endings import AllIsWell, Verdicts
from edgecoder_sim.checkers.engine import OneModel, Runs
from edgecoder_sim.checkers.envelopes import Envelopes, Generations
from edgecoder_sim.checkers.files import Files
from edgecoder_sim.checkers.flows import Links, Swarms
from edgecoder_sim.checkers.heartbeats import Heartbeats
from edgecoder_sim.checkers.homes import OneHome
from edgecoder_sim.checkers.leave import Leave
from edgecoder_sim.checkers.operations import Operations
from edgecoder_sim.checkers.panel import Panel, Rule
from edgecoder_sim.checkers.pieces import Blame, Earned, KeptIsSynced, WholeEnds
from edgecoder_sim.checkers.probes import PlacesEnd, Promises
from edgecoder_sim.checkers.radio import IdleLinks, NewsIsRead, Slots
from edgecoder_sim.checkers.receipts import Arrived, Counted, Kept, Paid
from edgecoder_sim.checkers.registry import AnswersAreFresh, SummariesAreTrue
from edgecoder_sim.checkers.replies import Replies, TaskEnds
from edgecoder_sim.checkers.routing import PeerRouting, RelayRouting
from edgecoder_sim.checkers.swaps import Journal, SwapEnds, Told
from edgecoder_sim.checkers.tasks import Asks, Requests
from edgecoder_sim.watch import Checker

__all__ = ["Panel", "Rule", "make_checkers"]


def make_checkers(rng_seed: int, reproduce: str, *, ends_well: bool = False) -> list[Checker]:
    """Fresh checkers for one run. A violation names `rng_seed` and `reproduce`, the command that shows it again.
    `ends_well` says that the run has a calm end, see `endings`."""
    panel = Panel(rng_seed, reproduce)
    # What reads the books of another rule before an event changes them stands before it.
    Envelopes(panel)
    Generations(panel)
    Operations(panel)
    SwapEnds(panel)
    Journal(panel)
    Told(panel)
    Replies(panel)
    TaskEnds(panel)
    OneModel(panel)
    Files(panel)
    Runs(panel)
    NewsIsRecent(panel)
    Requests(panel)
    Asks(panel)
    PeerRouting(panel)
    Promises(panel)
    PlacesEnd(panel)
    relays = RelayRouting(panel)
    SummariesAreTrue(panel, relays.agents)
    AnswersAreFresh(panel, relays.summaries)
    Heartbeats(panel)
    OneHome(panel)
    kept = Kept(panel, Paid(panel).signed)
    Counted(panel, kept)
    slots = Slots(panel)
    IdleLinks(panel, slots.links)
    NewsIsRead(panel, slots.links)
    FilesHaveRoom(panel)
    synced = KeptIsSynced(panel)
    Blame(panel)
    Leave(panel)
    Earned(panel)
    Links(panel)
    Swarms(panel, synced)
    WholeEnds(panel)
    Bounds(panel)
    Wakes(panel)
    if ends_well:
        Verdicts(panel)
        AllIsWell(panel)
        Arrived(panel, kept)
    return [panel]
