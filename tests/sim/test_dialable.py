"""Worlds in which nobody can dial some nodes: they give all the same, and two of them nothing to each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecoder.errors import ConfigError, Reason
from edgecoder.trace import PeerDialled, PieceKept, PieceSought, TransferEnded
from edgecoder_sim.host import Disk
from edgecoder_sim.world import WALL_START_MS
from tests.sim.crowd import FILE_BYTES, Crowd


def hidden(crowd: Crowd) -> set[bytes]:
    """Those that nobody can dial."""
    return {sim.node_id for sim in crowd.agents if not sim.node.setup.config.transfer_dialable}


def test_half_of_the_nodes_behind_routers_cost_no_copy_and_little_time(tmp_path: Path) -> None:
    open_world = Crowd(tmp_path).run()
    crowd = Crowd(tmp_path, "agents.dialable=0.5").run()
    assert len(hidden(crowd)) == 6
    assert crowd.figures["transfers_done"] == 12
    assert crowd.figures["transfer_cdn_bytes"] == FILE_BYTES
    assert crowd.figures["reverse_dials"] > 0
    assert "reverse_dials" not in open_world.figures
    assert max(crowd.times_s(TransferEnded).values()) < 1.1 * max(open_world.times_s(TransferEnded).values())


def test_who_cannot_be_dialled_gives_only_to_who_can(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, "agents.dialable=0.5").run()
    behind = hidden(crowd)
    id_of = {sim.index: sim.node_id for sim in crowd.agents}
    pairs = {
        (record.peer in behind, id_of[index] in behind)
        for _, index, record in crowd.records
        if isinstance(record, PieceKept) and record.source == "mesh"
    }
    assert pairs == {(False, False), (True, False), (False, True)}


def test_where_nobody_can_be_dialled_the_cdn_serves_everybody(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, "agents.dialable=0", "agents.count=3").run()
    assert {record.source for record in crowd.of(PieceSought)} == {"cdn"}
    assert crowd.figures["transfers_done"] == 3
    assert crowd.figures["transfer_cdn_bytes"] == 3 * FILE_BYTES
    assert not crowd.of(PeerDialled)


def test_a_sender_that_dies_with_its_connections_dials_anew(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, "agents.dialable=0.5").run(25)
    victim = next(sim for sim in crowd.agents if sim.node_id in hidden(crowd))
    victim.crash()
    crowd.run(30)
    victim.restart(WALL_START_MS + 30_000, Disk.KEPT)
    before = len(crowd.of(PeerDialled, victim.index))
    crowd.run()
    assert crowd.figures["transfers_done"] == 12
    assert {record.reason for record in crowd.of(PeerDialled, victim.index)[before:]} <= {None}


def test_dials_that_fail_end_and_the_file_comes(tmp_path: Path) -> None:
    """Receivers that go down while they are dialled."""
    crowd = Crowd(tmp_path, "agents.dialable=0.5").run(11)
    seen = 0
    for second in range(12, 30):
        crowd.run(second)
        dials = crowd.of(PeerDialled)
        if len(dials) > seen:
            seen = len(dials)
            last = next(sim for sim in crowd.agents if sim.node_id == dials[-1].peer)
            last.crash()
            crowd.run(second + 0.5)
            last.restart(WALL_START_MS + second * 1000 + 500, Disk.KEPT)
    crowd.run()
    assert crowd.figures["transfers_done"] == 12
    assert {record.reason for record in crowd.of(PeerDialled)} <= {None, Reason.PEER_LOST, Reason.CANCELLED}


def test_the_encoded_wire_gives_the_same_run(tmp_path: Path) -> None:
    digests = {
        Crowd(tmp_path, f"wire={wire}", "agents.count=6", "agents.dialable=0.5").run().world.watch.digest.hexdigest()
        for wire in ("reference", "encoded")
    }
    assert len(digests) == 1


def test_a_share_is_between_nothing_and_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dialable is 1\.5"):
        Crowd(tmp_path, "agents.dialable=1.5")
