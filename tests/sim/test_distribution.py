"""Files that come piece by piece, in small worlds: whole, from whom they should, and no sooner than they can."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecoder.coordinator.swarm import Order, Peer, Swarm
from edgecoder.errors import Reason
from edgecoder.trace import PieceKept, PieceRefused, PieceSought, SeedCredited, TransferBegan, TransferEnded
from edgecoder_sim.host import Disk
from edgecoder_sim.world import WALL_START_MS
from tests.sim.crowd import FILE_BYTES, PIECES, UPLINK, Crowd

SLOT_S = 0.5


def test_everybody_gets_the_file_and_the_origin_sends_it_once(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path).run()
    assert crowd.figures["transfers_done"] == 12
    assert crowd.figures["transfer_cdn_bytes"] == FILE_BYTES
    assert crowd.figures["transfer_mesh_bytes"] == 11 * FILE_BYTES
    assert crowd.figures["transfer_wasted_bytes"] == 0


def test_the_last_is_done_soon_after_the_bound_and_never_before(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path).run()
    began, ended = crowd.times_s(TransferBegan), crowd.times_s(TransferEnded)
    last_s = max(ended.values()) - min(began.values())
    bound_s = (PIECES + 3) * SLOT_S  # 3: twelve nodes double three times
    assert bound_s <= last_s <= 1.25 * bound_s


def test_each_piece_is_credited_to_who_sent_it(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path).run()
    kept = [record for record in crowd.of(PieceKept) if record.source == "mesh"]
    credited = crowd.of(SeedCredited)
    assert len(credited) == len(kept)
    sent: dict[bytes, int] = {}
    for record in kept:
        sent[record.peer] = sent.get(record.peer, 0) + record.size_bytes
    given: dict[bytes, int] = {}
    for record in credited:
        given[record.sender] = given.get(record.sender, 0) + record.size_bytes
    assert sent == given


def test_without_a_coordinator_the_cdn_is_asked_at_once(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, "coordinators.count=0", "agents.count=1").run()
    assert {record.why for record in crowd.of(PieceSought)} == {"alone"}
    assert crowd.times_s(TransferEnded)[0] == pytest.approx(10 + PIECES * SLOT_S, abs=2)


def test_the_encoded_wire_gives_the_same_run(tmp_path: Path) -> None:
    digests = {
        Crowd(tmp_path, f"wire={wire}", "agents.count=5").run().world.watch.digest.hexdigest()
        for wire in ("reference", "encoded")
    }
    assert len(digests) == 1


def test_who_pays_for_bytes_gives_none(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, "networks.line.metered=true", "agents.count=3").run(60)
    assert crowd.of(PieceKept)
    assert {record.source for record in crowd.of(PieceSought)} == {"cdn"}


def test_who_pays_for_bytes_may_wish_to_give_all_the_same(tmp_path: Path) -> None:
    sets = ("networks.line.metered=true", "config.agents.seed_when_metered=true")
    assert "mesh" in {record.source for record in Crowd(tmp_path, *sets).run(60).of(PieceSought)}


def test_a_node_that_crashes_goes_on_with_what_it_had(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path).run(25)
    victim = crowd.agents[3]
    had = {record.piece for record in crowd.of(PieceKept, victim.index)}
    victim.crash()
    crowd.run(27)
    victim.restart(WALL_START_MS + 27_000, Disk.KEPT)
    crowd.run(28)
    member = victim.node.part
    assert member is not None
    (holding,) = member.swarms.holdings.by_file.values()  # type: ignore[union-attr]  # it is an agent
    kept = {piece for piece in range(PIECES) if holding.have >> piece & 1}
    assert kept <= had
    assert len(had - kept) <= 1  # what was being written


def test_a_broker_that_dies_takes_nothing_along(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, "coordinators.count=2", "coordinators.federation_network=wan").run(25)
    crowd.world.coordinators[0].crash()
    crowd.run()
    assert crowd.figures["transfers_done"] == 12


def test_several_coordinators_broker_a_file_as_one_and_the_next_takes_it_over(tmp_path: Path) -> None:
    """Nodes of three homes: one swarm, so one copy from the origin; when its broker dies, one swarm again."""
    crowd = Crowd(tmp_path, "coordinators.count=3", "coordinators.federation_network=wan").run(25)
    hubs = [sim.node.part for sim in crowd.world.coordinators]

    def members() -> list[int]:
        found = [hub.broker.files.get(bytes.fromhex("5c" * 32)) for hub in hubs]  # type: ignore[union-attr]
        return sorted(0 if file is None else len(file.swarm.peers) for file in found)

    assert members() == [0, 0, 12]
    first = next(index for index, hub in enumerate(hubs) if hub.broker.files)  # type: ignore[union-attr]
    crowd.world.coordinators[first].crash()
    del hubs[first]
    crowd.run(55)
    assert members() == [0, 12]
    crowd.run()
    assert crowd.figures["transfers_done"] == 12
    assert crowd.figures["transfer_cdn_bytes"] < 1.4 * FILE_BYTES


def test_refusals_name_their_reason(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, "config.agents.upload_queue_max=0").run(60)
    assert {record.reason for record in crowd.of(PieceRefused)} == {Reason.BUSY}


def test_nothing_is_ordered_twice_where_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that has all says so anew; what it is sending goes on."""
    void: list[int] = []
    settle = Swarm.settle

    def settled(swarm: Swarm, receiver: Peer, piece: int, *, arrived: bool) -> Order | None:
        if not arrived:
            void.append(piece)
        return settle(swarm, receiver, piece, arrived=arrived)

    monkeypatch.setattr(Swarm, "settle", settled)
    crowd = Crowd(tmp_path).run()
    assert crowd.figures["transfers_done"] == 12
    assert not void


def test_without_broker_and_cdn_the_rarest_of_what_known_peers_have_is_fetched(tmp_path: Path) -> None:
    """All pieces are among the nodes by then, none has all of them."""
    fast = 4 * UPLINK
    sets = (f"cdn.egress_mbit_per_s={fast}", f"cdn.per_connection_mbit_per_s={fast}")
    outage = "{kind: cdn_outage, at_s: 24, for_s: 270}"
    crowd = Crowd(tmp_path, *sets, f"faults.plan=[{outage}]").run(24)
    assert not crowd.of(TransferEnded)
    crowd.world.coordinators[0].crash()
    crowd.run(110)
    late = [record for at_us, _, record in crowd.records if isinstance(record, PieceSought) and at_us > 40e6]
    assert {record.why for record in late if record.source == "mesh"} == {"rarest"}
    assert [record.reason for record in crowd.of(TransferEnded)] == [None] * 12
