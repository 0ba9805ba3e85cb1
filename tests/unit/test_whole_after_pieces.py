"""A file of which pieces are here and that comes whole: its user has told the node to fetch from the CDN alone since,
or nobody has what the pieces hash to."""

from __future__ import annotations

import pytest

from edgecoder.config import Distribution, NodeConfig
from edgecoder.core.effects import AllocateFile, FetchFile, FetchPiece, PullResult, RemoveResult
from edgecoder.core.events import PullModel, RemoveModel
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, FileRow, encode_rows
from edgecoder.seeding.holdings import KEY as PIECES_KEY
from edgecoder.seeding.holdings import encode
from edgecoder.wire.messages import Announce
from tests.catalogs import MIB, entry
from tests.harness import Cluster
from tests.hosts import HANGS, fails

SHARED = entry("shared", 0.5, file_size_bytes=MIB, piece_root="ab" * 32, piece_size_bytes=MIB // 8)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(catalog=Catalog((SHARED,)))


@pytest.mark.parametrize(
    ("have", "in_a_row"), [(0b10111011, 2), (0b11111110, 0), (0b01111111, 7), (0b11111111, 8), (0, 0)]
)
def test_it_is_fetched_from_where_the_first_gap_begins(cluster: Cluster, have: int, in_a_row: int) -> None:
    phone = cluster.add("phone", config=NodeConfig(distribution=Distribution.CDN), start=False)
    done = have.bit_count() * MIB // 8
    phone.disk[INVENTORY_KEY] = encode_rows({SHARED.sha256: FileRow(DownloadState.PARTIAL, done)})
    phone.disk[PIECES_KEY + SHARED.sha256] = encode(have, 8)
    phone.start()
    cluster.drive()
    command = phone.ask(PullModel, model="shared")
    cluster.drive()
    assert phone.result(command, PullResult).reason is None
    assert [effect.offset_bytes for effect in phone.did(FetchFile)] == [in_a_row * MIB // 8]
    assert not phone.did(AllocateFile)
    assert not phone.disk[PIECES_KEY + SHARED.sha256], "the record of the pieces is of no use any more"


def test_what_has_no_pieces_goes_on_where_it_stopped(cluster: Cluster) -> None:
    phone = cluster.add("phone", config=NodeConfig(distribution=Distribution.CDN), start=False)
    phone.disk[INVENTORY_KEY] = encode_rows({SHARED.sha256: FileRow(DownloadState.PARTIAL, 12_345)})
    phone.start()
    phone.ask(PullModel, model="shared")
    cluster.drive()
    assert [effect.offset_bytes for effect in phone.did(FetchFile)] == [12_345]


def test_such_a_node_tells_no_broker_of_its_files(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR)
    phone = cluster.add("phone", config=NodeConfig(distribution=Distribution.CDN), start=False)
    phone.disk[INVENTORY_KEY] = encode_rows({SHARED.sha256: FileRow(DownloadState.PARTIAL, MIB // 2)})
    phone.disk[PIECES_KEY + SHARED.sha256] = encode(0b1111, 8)
    phone.start()
    cluster.link(phone, hub)
    cluster.run_for(30_000)
    assert not [carried for carried in cluster.carried if isinstance(carried.message, Announce)]


@pytest.mark.parametrize("have", [0, 0b1011])
def test_a_file_whose_pieces_nobody_can_prove_comes_whole(cluster: Cluster, have: int) -> None:
    phone = cluster.add("phone", start=False)
    phone.disk[INVENTORY_KEY] = encode_rows({SHARED.sha256: FileRow(DownloadState.PARTIAL)})
    phone.disk[PIECES_KEY + SHARED.sha256] = encode(have, 8)
    phone.plan(FetchPiece, *[fails(Reason.NO_PROOFS)] * 4)
    phone.start()
    cluster.drive()
    command = phone.ask(PullModel, model="shared")
    cluster.drive()
    assert phone.result(command, PullResult).reason is None
    assert [effect.offset_bytes for effect in phone.did(FetchFile)] == [(2 if have else 0) * MIB // 8]
    assert phone.member.inventory.state(SHARED) is DownloadState.INSTALLED
    (holding,) = phone.member.swarms.holdings.by_file.values()
    assert holding.is_whole


def test_it_may_be_removed_while_it_comes_whole(cluster: Cluster) -> None:
    phone = cluster.add("phone")
    phone.plan(FetchPiece, *[fails(Reason.NO_PROOFS)] * 4)
    phone.plan(FetchFile, HANGS)
    pull = phone.ask(PullModel, model="shared")
    cluster.run_for(5_000)
    assert phone.did(FetchFile)
    remove = phone.ask(RemoveModel, model="shared")
    cluster.drive()
    assert phone.result(pull, PullResult).reason is Reason.REMOVED
    assert phone.result(remove, RemoveResult).reason is None
    assert phone.member.inventory.state(SHARED) is DownloadState.ABSENT
