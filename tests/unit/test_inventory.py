"""The inventory: its table row by row, what survives a restart, and what the digest covers."""

from __future__ import annotations

import msgspec
import pytest

from edgecoder.core.effects import FetchFile, HashFile, Persist
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.models.inventory import (
    DOWNLOAD_TABLE,
    KEY,
    DownloadState,
    DownloadStep,
    FileRow,
    Inventory,
    encode_rows,
)
from edgecoder.trace import DownloadPhase
from tests.catalogs import LARGE, SMALL, TINY
from tests.harness import Cluster
from tests.hosts import HANGS, Host
from tests.steps import ids, missing

A, P, V, I, Q, R = DownloadState  # noqa: E741
ROWS: dict[tuple[DownloadState, DownloadStep], DownloadState] = {
    (A, DownloadStep.WANTED): P,
    (P, DownloadStep.WANTED): P,
    (P, DownloadStep.INTERRUPTED): P,
    (P, DownloadStep.ARRIVED): V,
    (P, DownloadStep.REMOVED): R,
    (V, DownloadStep.MATCHED): I,
    (V, DownloadStep.DIFFERED): R,
    (V, DownloadStep.UNREADABLE): P,
    (I, DownloadStep.CRASHED_TOO_OFTEN): Q,
    (I, DownloadStep.REMOVED): R,
    (Q, DownloadStep.WANTED): P,
    (Q, DownloadStep.REMOVED): R,
    (R, DownloadStep.DELETED): A,
    (R, DownloadStep.UNDELETABLE): Q,
    (A, DownloadStep.FOUND): I,
    (P, DownloadStep.FOUND): I,
    (I, DownloadStep.LOST): A,
    (I, DownloadStep.DOUBTED): P,
}
WAY: dict[DownloadState, tuple[DownloadStep, ...]] = {
    A: (),
    P: (DownloadStep.WANTED,),
    V: (DownloadStep.WANTED, DownloadStep.ARRIVED),
    I: (DownloadStep.WANTED, DownloadStep.ARRIVED, DownloadStep.MATCHED),
    Q: (DownloadStep.WANTED, DownloadStep.ARRIVED, DownloadStep.MATCHED, DownloadStep.CRASHED_TOO_OFTEN),
    R: (DownloadStep.WANTED, DownloadStep.REMOVED),
}
"""How a file gets into each state."""


@pytest.fixture
def phone(cluster: Cluster) -> Host:
    """A phone that has nothing."""
    host = cluster.add("phone")
    cluster.drive()
    return host


def brought(inventory: Inventory, entry: CatalogEntry, state: DownloadState) -> None:
    """Bring a file into a state."""
    for step in WAY[state]:
        assert inventory.step(entry, step)
    assert inventory.state(entry) is state


@pytest.mark.parametrize("row", DOWNLOAD_TABLE, ids=ids)
def test_row(row: tuple[DownloadState, DownloadStep], phone: Host) -> None:
    inventory, out = phone.member.inventory, phone.alive.context.out
    brought(inventory, SMALL, row[0])
    out.clear()
    assert inventory.step(SMALL, row[1], Reason.CANCELLED)
    assert inventory.state(SMALL) is ROWS[row] is DOWNLOAD_TABLE[row]
    trace, persist = out
    assert trace.record == DownloadPhase("small", ROWS[row].value, 0, Reason.CANCELLED)  # type: ignore[attr-defined]
    assert isinstance(persist, Persist)
    assert persist.key == KEY


@pytest.mark.parametrize("pair", missing(DOWNLOAD_TABLE, DownloadState, DownloadStep), ids=ids)
def test_without_a_row_nothing_changes(pair: tuple[DownloadState, DownloadStep], phone: Host) -> None:
    inventory, out = phone.member.inventory, phone.alive.context.out
    brought(inventory, SMALL, pair[0])
    out.clear()
    assert not inventory.step(SMALL, pair[1])
    assert inventory.state(SMALL) is pair[0]
    assert out == []


@pytest.mark.parametrize(
    ("state", "step", "following"),
    [(R, DownloadStep.DELETED, A), (Q, DownloadStep.WANTED, P)],
)
def test_a_file_that_is_gone_or_was_quarantined_begins_anew(
    state: DownloadState, step: DownloadStep, following: DownloadState, phone: Host
) -> None:
    inventory = phone.member.inventory
    brought(inventory, SMALL, state)
    inventory.note_bytes(SMALL, 7)
    inventory.row(SMALL).crashes = inventory.row(SMALL).deaths = 1
    assert inventory.step(SMALL, step)
    assert inventory.row(SMALL) == FileRow(following, is_wanted=step is DownloadStep.WANTED)


def test_everything_survives_a_restart_and_a_check_under_way_is_made_again(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[LARGE])
    cluster.drive()
    phone.member.inventory.row(LARGE).crashes = 1
    phone.plan(HashFile, HANGS)
    phone.swap("small", pull=True)
    cluster.run_for(100)
    assert phone.member.inventory.state(SMALL) is V
    cluster.restart(phone)
    cluster.drive()
    inventory = phone.member.inventory
    assert inventory.state(SMALL) is I
    assert [effect.offset_bytes for effect in phone.did(FetchFile)] == [0, SMALL.file_size_bytes]
    assert inventory.row(LARGE) == FileRow(I, LARGE.file_size_bytes, 1)
    assert inventory.state(TINY) is A


def test_files_that_the_catalog_does_not_know_are_kept(cluster: Cluster) -> None:
    phone = cluster.add("phone", start=False)
    phone.disk[KEY] = encode_rows({"ab" * 32: FileRow(I, 5)})
    phone.start()
    cluster.drive()
    phone.member.inventory.step(SMALL, DownloadStep.WANTED)
    kept = msgspec.msgpack.decode(encode_rows(phone.member.inventory._rows), type=dict[str, FileRow])
    assert kept["ab" * 32] == FileRow(I, 5)


def test_the_digest_covers_what_is_installed(phone: Host) -> None:
    inventory = phone.member.inventory
    digests = [inventory.digest()]
    for entry in (SMALL, LARGE):
        brought(inventory, entry, V)
        assert inventory.digest() == digests[-1]
        assert inventory.step(entry, DownloadStep.MATCHED)
        digests.append(inventory.digest())
    assert len(set(digests)) == 3
    assert {len(digest) for digest in digests} == {8}
    assert inventory.step(LARGE, DownloadStep.REMOVED)
    assert inventory.digest() == digests[1]


def test_the_digest_does_not_depend_on_the_order_of_arrival(cluster: Cluster) -> None:
    first, second = cluster.add("first"), cluster.add("second")
    cluster.drive()
    for entry, other in ((SMALL, LARGE), (LARGE, SMALL)):
        brought(first.member.inventory, entry, I)
        brought(second.member.inventory, other, I)
    assert first.member.inventory.digest() == second.member.inventory.digest()


def test_crashes_add_up_and_the_second_quarantines(phone: Host) -> None:
    inventory = phone.member.inventory
    brought(inventory, SMALL, I)
    assert not inventory.note_crash(SMALL)
    assert inventory.state(SMALL) is I
    assert inventory.note_crash(SMALL)
    assert inventory.state(SMALL) is Q


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x93\x01", b"\x81\xa1x\x01", b"\x81\xa1x\x81\xa5state\xa3odd"])
def test_a_damaged_record_is_no_record(value: bytes, cluster: Cluster) -> None:
    """Half a write after a power cut must not keep the node from ever starting again."""
    phone = cluster.add("phone", start=False)
    phone.disk[KEY] = value
    phone.start()
    cluster.drive()
    assert phone.member.inventory.state(SMALL) is A
