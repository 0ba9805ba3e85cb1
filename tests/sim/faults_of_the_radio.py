"""Faults to plant in neighbours and radios. See `planted`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from edgecoder.core.ids import Micros
from edgecoder.mesh.neighbours import HeardPeer, Neighbours
from edgecoder.mesh.peers import PeerRow, Peers
from edgecoder.wire.advertisement import Bits
from edgecoder_sim.scanning import Scanning
from tests.sim.eventful import run_scanning
from tests.sim.planted import Faults, Patch

FAULTS: Final = Faults()


def fault(checker: str) -> Callable[[Patch], Patch]:
    """Enter a fault that shows where radios scan."""
    return FAULTS.enter(checker, run_scanning)


@fault("no more links than slots")
def take_every_link(patch: pytest.MonkeyPatch) -> None:
    """Neither the node nor its radio counts."""
    patch.setattr(Neighbours, "_slots", property(lambda self: 64))
    patch.setattr(Scanning, "_slots", lambda self, bearer: 64)


@fault("idle links are let go")
def hold_on_to_idle_links(patch: pytest.MonkeyPatch) -> None:
    """A link that nobody uses is looked at, and kept."""
    patch.setattr(Neighbours, "_idle", lambda self, link: self._watch_idle(link))


@fault("idle links are let go")
def never_look_at_links(patch: pytest.MonkeyPatch) -> None:
    """Links are taken, and forgotten."""
    patch.setattr(Neighbours, "_watch_idle", lambda *_: None)


@fault("what is heard is taken")
def pass_over_the_loading_bit(patch: pytest.MonkeyPatch) -> None:
    """A peer that is heard to load stays what it was."""
    compare = Peers._compare

    def deaf(self: Peers, row: PeerRow, bits: Bits | None) -> None:
        compare(self, row, None if bits is not None and bits.loading else bits)

    patch.setattr(Peers, "_compare", deaf)


@fault("what is heard is taken")
def read_each_peer_once(patch: pytest.MonkeyPatch) -> None:
    """Who is known is not dialled again, whatever its advertisement says."""
    judge = Neighbours._judge

    def judge_strangers(self: Neighbours, row: HeardPeer, wait: Micros) -> None:
        judge(self, row, wait)
        if row.node is not None and self._peers.capabilities_of(row.node) is not None:
            self._unread.pop(row.address, None)

    patch.setattr(Neighbours, "_judge", judge_strangers)
