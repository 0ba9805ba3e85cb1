"""Pieces over Bluetooth and Wi-Fi Direct: what a link carries, what breaks off with it, and where it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecoder.core.effects import Source
from edgecoder.errors import Reason
from edgecoder.trace import PieceKept, PieceLost, TransferEnded
from tests.sim.air import FILE_BYTES, PIECES, Air

ONE_HAS_IT, TWO_HAVE_IT = "rng_seed=4", "rng_seed=3"
WIDE = "radio.wifi_direct={}"
BLE_BYTES_PER_S = 1229 * 125
"""Goodput of two Androids (D: test_radio), without repetitions."""


def test_two_get_a_file_of_one_over_bluetooth_no_faster_than_its_radio(tmp_path: Path) -> None:
    air = Air(tmp_path, ONE_HAS_IT).run()
    assert air.holders == [0, 1, 2]
    assert air.figures["transfer_ble_bytes"] == 2 * FILE_BYTES
    assert air.figures["transfer_wasted_bytes"] == 0
    first_s = min(at_us for at_us, _, record in air.records if type(record) is PieceKept) / 1e6
    last_s = max(at_us for at_us, _, record in air.records if type(record) is TransferEnded) / 1e6
    assert last_s - first_s >= (FILE_BYTES - 2 * FILE_BYTES / PIECES) / BLE_BYTES_PER_S


def test_much_goes_over_wifi_direct_as_soon_as_there_is_a_group(tmp_path: Path) -> None:
    air = Air(tmp_path, ONE_HAS_IT, WIDE).run()
    assert air.holders == [0, 1, 2]
    assert air.figures["transfer_wifi_direct_bytes"] > air.figures["transfer_ble_bytes"]
    assert air.figures["transfer_p99_s"] < Air(tmp_path, ONE_HAS_IT).run().figures["transfer_p99_s"]
    assert not any(sim.links for sim in air.world.nodes), "all links are let go"


def test_where_the_internet_is_sooner_bluetooth_carries_nothing(tmp_path: Path) -> None:
    air = Air(tmp_path, ONE_HAS_IT, "cdn.reachable=true").run()
    assert air.holders == [0, 1, 2]
    assert {record.source for record in air.of(PieceKept)} == {Source.CDN.value}


def test_who_pays_for_the_network_gives_over_the_radio_and_takes_from_it_first(tmp_path: Path) -> None:
    slow = ("cdn.reachable=true", "cdn.per_connection_mbit_per_s=2", "networks.line.metered=true")
    air = Air(tmp_path, ONE_HAS_IT, WIDE, *slow).run()
    assert air.holders == [0, 1, 2]
    assert air.figures["transfer_wifi_direct_bytes"] + air.figures["transfer_ble_bytes"] > 0
    assert air.figures["pieces_refused"] == 0


def mesh_bytes(folder: Path, *sets: str) -> float:
    """What comes over the access network where a phone near by and two agents far away have 128 MiB of model."""
    far = (
        "coordinators={count: 1, device: server, network: lan}",
        "networks.desk={latency_ms: 5, up_mbit_per_s: 100, down_mbit_per_s: 100}",
        "agents={count: 2, network: desk, devices: {laptop: 1}, installed: {adapter: 1}}",
        "cdn={per_connection_mbit_per_s: 20}",
        f"catalog.0.fileSizeBytes={128 << 20}",
        "catalog.0.platforms=[ios, node]",
    )
    air = Air(folder, ONE_HAS_IT, WIDE, *far, *sets).run()
    assert air.holders == [0, 1, 2, 3, 4]
    assert air.figures["transfer_cdn_bytes"] == 0
    return float(air.figures["transfer_mesh_bytes"])


def test_a_paid_network_carries_nothing_while_a_radio_is_fast_enough(tmp_path: Path) -> None:
    """But for what comes before there is a group over Wi-Fi Direct."""
    free = mesh_bytes(tmp_path)
    paid = mesh_bytes(tmp_path, "networks.line.metered=true")
    for_nothing = mesh_bytes(tmp_path, "networks.line.metered=true", "config.phones.metered_price_microusd_per_gb=0")
    assert paid < 0.5 * free
    assert for_nothing > 0.9 * free


def test_the_ladder_takes_bluetooth_first_all_the_same(tmp_path: Path) -> None:
    air = Air(tmp_path, ONE_HAS_IT, "cdn.reachable=true", "config.distribution=ladder").run()
    assert Source.BLE.value in {record.source for record in air.of(PieceKept)}


def broken_off(folder: Path) -> tuple[Air, int, int, int]:
    """Two have the file, and the one who gave it to the third has gone in the middle. The world, and who is who."""
    air = Air(folder, TWO_HAVE_IT)
    air.run(5)
    first, second = air.holders
    (wants,) = {0, 1, 2} - {first, second}
    air.part(second, wants)
    air.run(18)
    air.part(first, wants)
    return air, first, second, wants


def test_a_contact_that_breaks_is_resumed_with_another_peer_by_leaves(tmp_path: Path) -> None:
    air, first, second, wants = broken_off(tmp_path)
    air.run(30)
    before = air.came(wants)
    assert 0 < before < FILE_BYTES
    lost = [record for record in air.of(PieceLost, wants) if record.reason is Reason.PEER_LOST]
    leaves = sum(record.size_bytes for record in lost)
    assert leaves > 0
    air.meet(second, wants)
    air.run()
    assert air.holders == [0, 1, 2]
    assert air.came(wants) + leaves == FILE_BYTES, "no leaf came twice"
    peers = {record.peer for record in air.of(PieceKept, wants)}
    assert peers == {air.world.nodes[index].node_id for index in (first, second)}


def test_who_meets_again_goes_on_without_news(tmp_path: Path) -> None:
    air, first, _, wants = broken_off(tmp_path)
    air.run(40)
    assert wants not in air.holders
    air.meet(first, wants)
    air.run()
    assert air.holders == [0, 1, 2]


@pytest.mark.parametrize("sets", [(), (WIDE,)], ids=["ble", "wifi_direct"])
def test_a_sender_that_dies_is_noticed_and_the_other_one_sends_the_rest(tmp_path: Path, sets: tuple[str, ...]) -> None:
    air = Air(tmp_path, TWO_HAVE_IT, *sets)
    air.run(12)
    (wants,) = {0, 1, 2} - set(air.holders)
    air.world.nodes[air.holders[0]].crash()
    air.run()
    assert wants in air.holders
    assert air.came(wants) <= FILE_BYTES


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    first, second = (Air(tmp_path, ONE_HAS_IT, WIDE).run() for _ in range(2))
    assert first.records == second.records


def test_both_wires_give_the_same_run(tmp_path: Path) -> None:
    first, second = (Air(tmp_path, ONE_HAS_IT, WIDE, f"wire={wire}").run() for wire in ("reference", "encoded"))
    assert first.records == second.records
