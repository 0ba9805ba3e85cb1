"""Pulling a file: fetched, hashed, installed; resumed, refused, and shared by all who want it."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import (
    DeleteFile,
    FetchFile,
    FetchPiece,
    HashFile,
    ModelRow,
    ModelStatus,
    Persist,
    Progress,
    PullResult,
    RemoveResult,
    SwapResult,
)
from edgecoder.core.events import FetchProgressed, FileDoubted, PullModel, QueryModels, QueryStatus, RemoveModel
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog, CatalogEntry, Platform
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, DownloadStep, FileRow, encode_rows
from edgecoder.trace import DownloadPhase
from tests.catalogs import AGENT_ONLY, LARGE, SMALL, TINY, entry
from tests.harness import Cluster
from tests.hosts import FINE, HANGS, Host, Outcome, fails


@pytest.fixture
def phone(cluster: Cluster) -> Host:
    """A phone that has nothing."""
    host = cluster.add("phone")
    cluster.drive()
    return host


def test_a_pull_installs_without_activating(cluster: Cluster, phone: Host) -> None:
    command = phone.ask(PullModel, model="small-coder:1.5b")
    cluster.drive()
    assert phone.result(command, PullResult) == PullResult("small")
    assert phone.member.inventory.state(SMALL) is DownloadState.INSTALLED
    assert phone.member.swap.active is None
    assert [record.phase for record in phone.traced(DownloadPhase)] == ["partial", "verifying", "installed"]
    assert phone.progress == [Progress(command, bytes_done=SMALL.file_size_bytes // 2)]


def test_what_is_installed_is_not_fetched_again(cluster: Cluster, phone: Host) -> None:
    for _ in range(2):
        command = phone.ask(PullModel, model="small")
        cluster.drive()
        assert phone.result(command, PullResult).reason is None
    assert len(phone.did(FetchFile)) == 1


def test_all_who_want_a_file_share_one_fetch(cluster: Cluster, phone: Host) -> None:
    pull, swap = phone.ask(PullModel, model="small"), phone.swap("small", pull=True)
    cluster.drive()
    assert len(phone.did(FetchFile)) == 1
    assert phone.result(pull, PullResult).reason is None
    assert phone.result(swap, SwapResult).active == "small"
    assert {progress.command for progress in phone.progress} == {pull, swap}


def test_an_interrupted_fetch_is_resumed_where_it_stopped(cluster: Cluster, phone: Host) -> None:
    phone.plan(FetchFile, fails(Reason.NO_SOURCE))
    command = phone.ask(PullModel, model="small")
    cluster.drive()
    assert phone.result(command, PullResult) == PullResult("small", Reason.NO_SOURCE)
    assert phone.member.inventory.state(SMALL) is DownloadState.PARTIAL
    cluster.restart(phone)
    cluster.drive()
    command = phone.ask(PullModel, model="small")
    cluster.drive()
    assert phone.result(command, PullResult).reason is None
    assert [fetch.offset_bytes for fetch in phone.did(FetchFile)] == [0, SMALL.file_size_bytes // 2]


def test_another_file_than_the_catalogs_is_thrown_away(cluster: Cluster, phone: Host) -> None:
    phone.plan(HashFile, Outcome(sha256="0" * 64))
    command = phone.swap("small", pull=True)
    cluster.drive()
    assert phone.result(command, SwapResult) == SwapResult(None, None, None, Reason.CHECKSUM_MISMATCH)
    assert phone.member.inventory.state(SMALL) is DownloadState.ABSENT
    assert phone.member.inventory.row(SMALL).bytes_done == 0
    assert [effect.entry for effect in phone.did(DeleteFile)] == [SMALL]


def test_another_file_that_cannot_be_deleted_is_never_loaded(cluster: Cluster, phone: Host) -> None:
    phone.plan(HashFile, Outcome(sha256="0" * 64))
    phone.plan(DeleteFile, fails(Reason.STORE_FAILED))
    phone.ask(PullModel, model="small")
    cluster.drive()
    assert phone.member.models.admits(SMALL) is Reason.QUARANTINED


def test_a_file_that_cannot_be_read_is_kept(cluster: Cluster, phone: Host) -> None:
    phone.plan(HashFile, fails(Reason.STORE_FAILED))
    command = phone.ask(PullModel, model="small")
    cluster.drive()
    assert phone.result(command, PullResult).reason is Reason.STORE_FAILED
    assert phone.member.inventory.state(SMALL) is DownloadState.PARTIAL


def test_a_full_disk_is_said(cluster: Cluster, phone: Host) -> None:
    phone.plan(FetchFile, fails(Reason.DISK_FULL))
    command = phone.swap("small", pull=True)
    cluster.drive()
    assert phone.result(command, SwapResult).reason is Reason.DISK_FULL


def test_a_full_disk_gets_back_what_the_file_took(cluster: Cluster, phone: Host) -> None:
    phone.plan(FetchFile, fails(Reason.NO_SOURCE), fails(Reason.DISK_FULL))
    for _ in range(2):
        phone.ask(PullModel, model="small")
        cluster.drive()
    assert [effect.entry for effect in phone.did(DeleteFile)] == [SMALL]
    assert phone.member.inventory.row(SMALL) == FileRow()
    phone.ask(PullModel, model="small")
    cluster.drive()
    assert [fetch.offset_bytes for fetch in phone.did(FetchFile)] == [0, SMALL.file_size_bytes // 2, 0]
    assert phone.member.inventory.state(SMALL) is DownloadState.INSTALLED


def test_nothing_is_fetched_before_the_row_is_durable(cluster: Cluster, phone: Host) -> None:
    """A crash in between left bytes on the disk that no row told of."""
    phone.plan(Persist, Outcome(after_us=50_000))
    phone.ask(PullModel, model="small")
    cluster.run_for(49)
    assert phone.did(FetchFile) == []
    cluster.run_for(2)
    assert len(phone.did(FetchFile)) == 1


def test_a_row_that_cannot_be_written_ends_it(cluster: Cluster, phone: Host) -> None:
    phone.plan(Persist, fails(Reason.DISK_FULL))
    command = phone.ask(PullModel, model="small")
    cluster.drive()
    assert phone.result(command, PullResult).reason is Reason.DISK_FULL
    assert phone.did(FetchFile) == []
    assert phone.did(DeleteFile) == []


def test_a_removal_before_the_row_is_durable_waits_for_it(cluster: Cluster, phone: Host) -> None:
    pull, removal = phone.ask(PullModel, model="small"), phone.ask(RemoveModel, model="small")
    cluster.drive()
    assert phone.result(pull, PullResult).reason is Reason.REMOVED
    assert phone.result(removal, RemoveResult).reason is None
    assert phone.did(FetchFile) == []
    assert phone.member.inventory.state(SMALL) is DownloadState.ABSENT


@pytest.mark.parametrize("quota_mb", [191, 192])
def test_files_stay_within_the_quota(quota_mb: int, cluster: Cluster) -> None:
    """Three files of 64 MiB: one is here, one is partly here and takes its whole room, and one is wanted."""
    phone = cluster.add("phone", config=NodeConfig(disk_mb_max=quota_mb), installed=[TINY])
    cluster.drive()
    phone.plan(FetchFile, fails(Reason.NO_SOURCE))
    phone.ask(PullModel, model="small")
    cluster.drive()
    command = phone.ask(PullModel, model="large")
    cluster.drive()
    is_full = quota_mb < 192
    assert phone.result(command, PullResult).reason is (Reason.DISK_FULL if is_full else None)
    assert phone.member.inventory.state(LARGE) is (DownloadState.ABSENT if is_full else DownloadState.INSTALLED)
    resumed = phone.ask(PullModel, model="small")
    cluster.drive()
    assert phone.result(resumed, PullResult).reason is None
    phone.ask(RemoveModel, model="tiny")
    cluster.drive()
    after = phone.ask(PullModel, model="large")
    cluster.drive()
    assert phone.result(after, PullResult).reason is None


def test_what_is_here_may_be_pulled_though_the_quota_is_less_by_now(cluster: Cluster) -> None:
    phone = cluster.add("phone", config=NodeConfig(disk_mb_max=1), installed=[SMALL])
    cluster.drive()
    command = phone.ask(PullModel, model="small")
    assert phone.result(command, PullResult).reason is None


@pytest.mark.parametrize(("quota_mb", "is_room"), [(96, True), (95, False)])
def test_a_file_that_left_the_catalog_counts_in_the_quota(cluster: Cluster, quota_mb: int, is_room: bool) -> None:
    phone = cluster.add("phone", config=NodeConfig(disk_mb_max=quota_mb), start=False)
    phone.disk = {INVENTORY_KEY: encode_rows({"0" * 64: FileRow(DownloadState.INSTALLED, 32 << 20)})}
    phone.start()
    command = phone.ask(PullModel, model="small")
    cluster.drive()
    assert phone.result(command, PullResult).reason is (None if is_room else Reason.DISK_FULL)


@pytest.mark.parametrize(("model", "reason"), [("nobody", Reason.UNKNOWN_MODEL), ("desk", Reason.INCOMPATIBLE)])
def test_what_cannot_be_pulled(model: str, reason: Reason, phone: Host) -> None:
    command = phone.ask(PullModel, model=model)
    assert phone.result(command, PullResult) == PullResult(model, reason)
    assert phone.did(FetchFile) == []


def test_a_quarantined_file_is_fetched_anew_by_a_pull_and_not_by_a_swap(cluster: Cluster, phone: Host) -> None:
    for step in (DownloadStep.WANTED, DownloadStep.ARRIVED, DownloadStep.MATCHED, DownloadStep.CRASHED_TOO_OFTEN):
        phone.member.inventory.step(SMALL, step)
    phone.member.inventory.row(SMALL).bytes_done = SMALL.file_size_bytes
    swap = phone.swap("small", pull=True)
    assert phone.result(swap, SwapResult).reason is Reason.QUARANTINED
    command = phone.ask(PullModel, model="small")
    cluster.drive()
    assert phone.result(command, PullResult).reason is None
    assert [fetch.offset_bytes for fetch in phone.did(FetchFile)] == [0]
    assert phone.member.models.admits(SMALL) is None


def test_nothing_is_fetched_for_a_model_that_does_not_fit(phone: Host) -> None:
    command = phone.swap("huge", pull=True)
    assert phone.result(command, SwapResult).reason is Reason.INSUFFICIENT_MEMORY
    assert phone.did(FetchFile) == []


def test_without_pull_a_missing_model_is_refused(phone: Host) -> None:
    assert phone.result(phone.swap("small"), SwapResult).reason is Reason.NOT_INSTALLED


def test_a_swap_that_pulls_activates_when_the_pull_ends(cluster: Cluster, phone: Host) -> None:
    command = phone.swap("small", pull=True)
    status = phone.ask(QueryStatus)
    assert phone.result(status, ModelStatus).status == "pulling"
    cluster.drive()
    assert phone.result(command, SwapResult) == SwapResult(None, "small", 1.5)


@pytest.mark.parametrize("file", [SMALL, entry("shared", piece_root="ab" * 32, file_size_bytes=1 << 20)])
def test_a_file_that_the_store_doubts_comes_anew(file: CatalogEntry) -> None:
    cluster = Cluster(catalog=Catalog((file,)))
    phone = cluster.add("phone")
    fetches = 0
    for _ in range(2):
        command = phone.ask(PullModel, model=file.model_id)
        cluster.drive()
        assert phone.result(command, PullResult).reason is None
        before, fetches = fetches, len(phone.did(FetchFile)) + len(phone.did(FetchPiece))
        assert fetches > before
        phone.take(FileDoubted(file.sha256, Reason.CHECKSUM_MISMATCH))
        assert phone.member.models.admits(file) is Reason.NOT_INSTALLED
        assert phone.member.inventory.row(file).bytes_done == 0


def test_a_doubt_changes_nothing_for_what_is_not_installed(cluster: Cluster, phone: Host) -> None:
    phone.plan(FetchFile, fails(Reason.NO_SOURCE))
    phone.ask(PullModel, model="small")
    cluster.drive()
    before = phone.member.inventory.row(SMALL)
    for sha256 in (SMALL.sha256, TINY.sha256, "0" * 64):
        assert phone.take(FileDoubted(sha256, Reason.NOT_INSTALLED)) == []
    assert phone.member.inventory.row(SMALL) == before


def test_late_progress_is_no_news(cluster: Cluster, phone: Host) -> None:
    phone.ask(PullModel, model="small")
    cluster.drive()
    op, before = phone.did(FetchFile)[0].op, len(phone.progress)
    assert phone.take(FetchProgressed(op, 5)) == []
    assert len(phone.progress) == before


def test_the_list_of_models_shows_what_is_here_and_what_could_be(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL], active=SMALL)
    cluster.drive()
    phone.plan(FetchFile, HANGS)
    phone.ask(PullModel, model="large")
    listed: object = phone.replies[phone.ask(QueryModels)]
    assert isinstance(listed, tuple)
    shown = {row.entry.model_id: (row.state, row.active, row.compatible) for row in listed if isinstance(row, ModelRow)}
    assert shown == {
        "tiny": ("absent", False, True),
        "small": ("installed", True, True),
        "large": ("partial", False, True),
        "huge": ("absent", False, False),
        "pocket": ("absent", False, True),
        "newest-gguf": ("absent", False, True),
    }
    assert AGENT_ONLY.platforms == (Platform.NODE,)
    assert LARGE.model_id in shown


def test_a_download_goes_on_by_itself_in_the_next_life(cluster: Cluster, phone: Host) -> None:
    phone.plan(FetchFile, HANGS)
    phone.ask(PullModel, model="small")
    cluster.run_for(100)
    cluster.restart(phone)
    cluster.drive()
    assert phone.member.inventory.state(SMALL) is DownloadState.INSTALLED


def test_one_that_failed_does_not(cluster: Cluster, phone: Host) -> None:
    phone.plan(FetchFile, fails(Reason.NO_SOURCE))
    phone.ask(PullModel, model="small")
    cluster.drive()
    cluster.restart(phone)
    cluster.drive()
    assert phone.member.inventory.state(SMALL) is DownloadState.PARTIAL


def test_what_tells_of_pieces_goes_before_the_file() -> None:
    """A life that fetched a file anew believed the record of one that was deleted, if that was written late."""
    shared = entry("shared", piece_root="ab" * 32)
    cluster = Cluster(catalog=Catalog([shared]))
    phone = cluster.add("phone", installed=[shared])
    cluster.drive()
    phone.plan(Persist, FINE, Outcome(after_us=50_000))
    phone.ask(RemoveModel, model="shared")
    cluster.run_for(50)
    assert [effect.key for effect in phone.opened(Persist)] == [f"pieces/{shared.sha256}"]
    assert phone.did(DeleteFile) == []
    cluster.drive()
    assert len(phone.did(DeleteFile)) == 1


def test_a_record_of_pieces_that_cannot_be_erased_keeps_the_file() -> None:
    shared = entry("shared", piece_root="ab" * 32)
    cluster = Cluster(catalog=Catalog([shared]))
    phone = cluster.add("phone", installed=[shared])
    cluster.drive()
    phone.plan(Persist, FINE, fails(Reason.STORE_FAILED))
    command = phone.ask(RemoveModel, model="shared")
    cluster.drive()
    assert phone.result(command, RemoveResult).reason is Reason.STORE_FAILED
    assert phone.member.inventory.state(shared) is DownloadState.QUARANTINED
    assert phone.did(DeleteFile) == []
