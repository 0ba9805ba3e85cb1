"""A file of which pieces are here, on a node that its user has told to fetch from the CDN alone since."""

from __future__ import annotations

import pytest

from edgecoder.config import Distribution, NodeConfig
from edgecoder.core.effects import AllocateFile, FetchFile, PullResult
from edgecoder.core.events import PullModel
from edgecoder.core.ids import Role
from edgecoder.models.catalog import Catalog
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, FileRow, encode_rows
from edgecoder.seeding.holdings import KEY as PIECES_KEY
from edgecoder.seeding.holdings import encode
from edgecoder.wire.messages import Announce
from tests.catalogs import MIB, entry
from tests.harness import Cluster

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
