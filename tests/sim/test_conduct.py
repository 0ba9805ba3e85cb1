"""Nodes that do not keep to the protocol: the honest finish, the right ones are blamed, and little is wasted."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from edgecoder.coordinator.broker import Broker
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Link
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder.trace import PieceKept, PieceLost, PieceSought, SenderBanned, TransferBegan, TransferEnded
from edgecoder.wire.messages import Announce
from edgecoder_sim.conduct import Conduct
from edgecoder_sim.pieces import PieceService, _Fetch
from edgecoder_sim.population import parts
from edgecoder_sim.scenario_model import Group
from tests.sim.crowd import FILE_BYTES, Crowd

BAD = [conduct for conduct in Conduct if conduct is not Conduct.HONEST]
PROOF = {Conduct.POISONER, Conduct.WRONG_PROOF}
"""Whose bytes themselves tell on them."""


class Mixed(Crowd):
    """Half of the nodes are of another conduct."""

    def __init__(self, folder: Path, conduct: Conduct, *sets: str) -> None:
        half = f"agents.conduct={{honest: 1, {conduct.value}: 1}}"
        super().__init__(folder, "agents.count=16", "duration_s=600", half, *sets)
        self.honest = {p.sim.index for p in self.world.agents if p.conduct is Conduct.HONEST}
        self.honest_ids = {p.sim.node_id for p in self.world.agents if p.conduct is Conduct.HONEST}


@pytest.mark.parametrize("conduct", BAD, ids=str)
def test_the_honest_finish_and_ban_no_honest_node(tmp_path: Path, conduct: Conduct) -> None:
    crowd = Mixed(tmp_path, conduct).run()
    assert len(crowd.honest) == 8
    assert crowd.honest <= crowd.times_s(TransferEnded).keys()
    bans = [(node, record) for _, node, record in crowd.records if isinstance(record, SenderBanned)]
    banned = [record.peer for node, record in bans if node in crowd.honest]
    assert not crowd.honest_ids & set(banned)
    assert bool(banned) is (conduct in PROOF)


@pytest.mark.parametrize("conduct", [Conduct.POISONER, Conduct.WRONG_PROOF], ids=str)
def test_a_leaf_is_wasted_on_each_who_poisons_and_no_more(tmp_path: Path, conduct: Conduct) -> None:
    crowd = Mixed(tmp_path, conduct).run()
    for node in crowd.honest:
        lost = [record for record in crowd.of(PieceLost, node) if record.reason is Reason.PIECE_CORRUPT]
        assert len({record.peer for record in lost}) == len(lost)
        assert all(record.wasted_bytes <= 16_384 for record in lost)
    assert crowd.figures["transfer_wasted_bytes"] <= 0.02 * 8 * FILE_BYTES


def test_leaves_before_the_bad_one_are_kept(tmp_path: Path) -> None:
    crowd = Mixed(tmp_path, Conduct.POISONER).run()
    rests = [record.size_bytes for record in crowd.of(PieceKept) if record.source == "mesh"]
    assert min(rests) < max(rests)  # somebody sent the rest of a piece that another had begun


def test_a_bad_leaf_that_was_on_its_way_to_who_called_it_off_is_no_leaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told as verified and synced."""
    sent = PieceService._served
    broken_off: list[tuple[int, int, int]] = []

    def called_off(service: PieceService, fetch: _Fetch) -> None:
        sent(service, fetch)
        if fetch.bad_leaf is not None and not broken_off:
            broken_off.append((fetch.node.index, fetch.piece, fetch.bad_leaf))
            service.cancel(fetch.node, fetch.effect.op)

    monkeypatch.setattr(PieceService, "_served", called_off)
    crowd = Mixed(tmp_path, Conduct.POISONER, "checkers=false").run()
    ((node, piece, bad_leaf),) = broken_off
    lost = [row for row in crowd.of(PieceLost, node) if row.piece == piece and row.reason is Reason.CANCELLED]
    assert [(row.size_bytes, row.wasted_bytes) for row in lost] == [(bad_leaf * LEAF_BYTES, LEAF_BYTES)]


def test_who_is_silent_and_says_that_its_uplink_is_slow_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The word of a sender said how long it was waited for: at 1 kbit/s two hours for each of these pieces."""
    some_have_it = "agents.installed={release: 0.3}"
    crowd = Mixed(tmp_path, Conduct.SILENT, "cdn={reachable: false}", some_have_it, "checkers=false")
    announced = Broker.announce

    def slow(broker: Broker, link: Link, message: Announce) -> None:
        is_silent = link.peer not in crowd.honest_ids
        announced(broker, link, msgspec.structs.replace(message, up_kbit_per_s=1) if is_silent else message)

    monkeypatch.setattr(Broker, "announce", slow)
    crowd.run()
    wanted, ended = crowd.honest & crowd.times_s(TransferBegan).keys(), crowd.times_s(TransferEnded)
    assert wanted
    assert max(ended.get(node, math.inf) for node in wanted) < 300


def test_who_is_banned_is_not_asked_again(tmp_path: Path) -> None:
    crowd = Mixed(tmp_path, Conduct.POISONER).run()
    banned: set[tuple[int, bytes]] = set()
    for _, node, record in crowd.records:
        if isinstance(record, SenderBanned):
            banned.add((node, record.peer))
        elif isinstance(record, PieceSought) and record.peer is not None:
            assert (node, record.peer) not in banned
    assert banned


def test_who_accuses_half_of_all_costs_the_accused_little(tmp_path: Path) -> None:
    crowd = Mixed(tmp_path, Conduct.ACCUSER).run()
    ended = crowd.times_s(TransferEnded)
    alone_s = 16 * 64 * 0.5  # the CDN for all of them
    assert max(ended[node] for node in crowd.honest) - 10 < alone_s / 4


def test_parts_are_whole_nodes_as_near_to_the_weights_as_can_be() -> None:
    quarter = parts({Conduct.HONEST: 3, Conduct.FREE_RIDER: 1}, 20)
    assert [quarter.count(conduct) for conduct in (Conduct.HONEST, Conduct.FREE_RIDER)] == [15, 5]
    odd = parts({Conduct.HONEST: 1, Conduct.LIAR: 1, Conduct.DRIP: 1}, 10)
    assert sorted(odd.count(conduct) for conduct in set(odd)) == [3, 3, 4]
    assert parts(Group().conduct, 10) == []
