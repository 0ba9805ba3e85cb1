"""Removing a model: its download is called off, its file is deleted, and what serves stays."""

from __future__ import annotations

import pytest

from edgecoder.core.effects import (
    CancelOp,
    DeleteFile,
    FetchFile,
    HashFile,
    LoadModel,
    Persist,
    PullResult,
    RemoveResult,
    SwapResult,
)
from edgecoder.core.events import PullModel, RemoveModel, ShutDown
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.models.inventory import DownloadState, FileRow
from edgecoder.trace import DownloadPhase
from tests.catalogs import LARGE, SMALL, TINY
from tests.harness import Cluster
from tests.hosts import HANGS, Host, Outcome, fails


@pytest.fixture
def phone(cluster: Cluster) -> Host:
    """A phone that serves SMALL and has LARGE."""
    host = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    cluster.drive()
    return host


def state(phone: Host, entry: CatalogEntry = LARGE) -> DownloadState:
    """Where a file stands."""
    return phone.member.inventory.state(entry)


def removed(phone: Host, command: int) -> Reason | None:
    """How a removal ended."""
    return phone.result(command, RemoveResult).reason


def test_a_model_is_removed_and_stays_so(cluster: Cluster, phone: Host) -> None:
    digest = phone.member.inventory.digest()
    command = phone.ask(RemoveModel, model="large")
    cluster.drive()
    assert phone.result(command, RemoveResult) == RemoveResult("large")
    assert [effect.entry for effect in phone.did(DeleteFile)] == [LARGE]
    assert [record.phase for record in phone.traced(DownloadPhase)] == ["removing", "absent"]
    assert phone.member.inventory.row(LARGE) == FileRow()
    assert phone.member.inventory.digest() != digest
    cluster.restart(phone)
    cluster.drive()
    assert state(phone) is DownloadState.ABSENT
    assert phone.result(phone.swap("large"), SwapResult).reason is Reason.NOT_INSTALLED


def test_nothing_is_deleted_before_it_is_durable_that_it_is_not_offered(cluster: Cluster, phone: Host) -> None:
    phone.plan(Persist, HANGS)
    phone.ask(RemoveModel, model="large")
    cluster.run_for(1_000)
    assert phone.did(DeleteFile) == []
    assert state(phone) is DownloadState.REMOVING


@pytest.mark.parametrize("model", ["large", "small"])
def test_what_serves_or_is_about_to_is_not_removed(cluster: Cluster, phone: Host, model: str) -> None:
    phone.plan(LoadModel, HANGS)
    phone.swap("large")
    cluster.run_for(5_000)
    assert phone.opened(LoadModel)
    assert removed(phone, phone.ask(RemoveModel, model=model)) is Reason.IN_USE
    assert phone.did(DeleteFile) == []


def test_what_waits_for_its_turn_is_not_removed(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, HANGS)
    phone.swap("large")
    phone.swap("small")
    cluster.run_for(5_000)
    assert removed(phone, phone.ask(RemoveModel, model="small")) is Reason.IN_USE


def test_what_is_on_its_way_to_memory_at_a_start_is_not_removed(cluster: Cluster, phone: Host) -> None:
    cluster.restart(phone)
    phone.plan(LoadModel, HANGS)
    cluster.run_for(1_000)
    assert removed(phone, phone.ask(RemoveModel, model="small")) is Reason.IN_USE


def test_the_old_model_can_go_after_a_swap(cluster: Cluster, phone: Host) -> None:
    phone.swap("large")
    cluster.drive()
    command = phone.ask(RemoveModel, model="small-coder:1.5b")
    cluster.drive()
    assert removed(phone, command) is None
    assert state(phone, SMALL) is DownloadState.ABSENT


@pytest.mark.parametrize(
    ("model", "reason"),
    [("nobody", Reason.UNKNOWN_MODEL), ("desk", Reason.INCOMPATIBLE), ("tiny", Reason.NOT_INSTALLED)],
)
def test_what_cannot_be_removed(model: str, reason: Reason, phone: Host) -> None:
    assert removed(phone, phone.ask(RemoveModel, model=model)) is reason
    assert phone.did(DeleteFile) == []


@pytest.mark.parametrize("kind", [FetchFile, HashFile])
def test_a_download_is_called_off(cluster: Cluster, phone: Host, kind: type[FetchFile | HashFile]) -> None:
    phone.plan(kind, HANGS)
    pull, swap = phone.ask(PullModel, model="tiny"), phone.swap("tiny", pull=True)
    cluster.run_for(1_000)
    commands = [phone.ask(RemoveModel, model="tiny") for _ in range(2)]
    late = phone.ask(PullModel, model="tiny")
    assert phone.result(late, PullResult).reason is Reason.REMOVED
    cluster.drive()
    assert len(phone.did(CancelOp)) == 1
    assert phone.result(pull, PullResult).reason is Reason.REMOVED
    assert phone.result(swap, SwapResult) == SwapResult("small", "small", 1.5, Reason.REMOVED)
    assert [removed(phone, command) for command in commands] == [None, None]
    assert len(phone.did(DeleteFile)) == 1
    assert state(phone, TINY) is DownloadState.ABSENT


@pytest.mark.parametrize("kind", [FetchFile, HashFile])
def test_a_download_that_ends_before_it_can_be_called_off_is_removed_too(
    cluster: Cluster, phone: Host, kind: type[FetchFile | HashFile]
) -> None:
    phone.plan(kind, Outcome(after_us=50_000, ignores_cancel=True))
    swap = phone.swap("tiny", pull=True)
    cluster.run_for(10)
    command = phone.ask(RemoveModel, model="tiny")
    cluster.drive()
    assert phone.result(swap, SwapResult).reason is Reason.REMOVED
    assert removed(phone, command) is None
    assert state(phone, TINY) is DownloadState.ABSENT
    assert phone.member.swap.active is SMALL


def test_a_part_of_a_file_can_be_removed(cluster: Cluster, phone: Host) -> None:
    phone.plan(FetchFile, fails(Reason.NO_SOURCE))
    phone.ask(PullModel, model="tiny")
    cluster.drive()
    assert state(phone, TINY) is DownloadState.PARTIAL
    command = phone.ask(RemoveModel, model="tiny")
    cluster.drive()
    assert removed(phone, command) is None
    phone.ask(PullModel, model="tiny")
    cluster.drive()
    assert [fetch.offset_bytes for fetch in phone.did(FetchFile)] == [0, 0]


def test_what_cannot_be_deleted_is_quarantined_and_can_be_tried_again(cluster: Cluster, phone: Host) -> None:
    phone.plan(DeleteFile, fails(Reason.STORE_FAILED))
    command = phone.ask(RemoveModel, model="large")
    cluster.drive()
    assert removed(phone, command) is Reason.STORE_FAILED
    assert state(phone) is DownloadState.QUARANTINED
    command = phone.ask(RemoveModel, model="large")
    cluster.drive()
    assert removed(phone, command) is None
    assert state(phone) is DownloadState.ABSENT


def test_a_removal_that_cannot_be_written_down_deletes_nothing(cluster: Cluster, phone: Host) -> None:
    phone.plan(Persist, fails(Reason.DISK_FULL))
    command = phone.ask(RemoveModel, model="large")
    cluster.drive()
    assert removed(phone, command) is Reason.DISK_FULL
    assert phone.did(DeleteFile) == []
    assert state(phone) is DownloadState.QUARANTINED


def test_a_removal_that_a_crash_cut_off_is_carried_on(cluster: Cluster, phone: Host) -> None:
    phone.plan(DeleteFile, HANGS)
    phone.ask(RemoveModel, model="large")
    cluster.run_for(1_000)
    cluster.restart(phone)
    phone.plan(DeleteFile, Outcome(after_us=50_000))
    cluster.run_for(10)
    command = phone.ask(RemoveModel, model="large")
    cluster.drive()
    assert removed(phone, command) is None
    assert [effect.entry for effect in phone.did(DeleteFile)] == [LARGE, LARGE]
    assert state(phone) is DownloadState.ABSENT


def test_removals_of_one_file_are_bounded(cluster: Cluster, phone: Host) -> None:
    phone.plan(DeleteFile, Outcome(after_us=100_000))
    bound = phone.setup.config.joined_commands_max
    commands = [phone.ask(RemoveModel, model="large") for _ in range(bound + 1)]
    assert removed(phone, commands[-1]) is Reason.OVERFLOW
    cluster.drive()
    assert {removed(phone, command) for command in commands[:-1]} == {None}


def test_a_model_can_be_removed_while_the_node_shuts_down(cluster: Cluster, phone: Host) -> None:
    phone.ask(ShutDown)
    command = phone.ask(RemoveModel, model="large")
    cluster.drive()
    assert removed(phone, command) is None
