"""A crash at every step of a swap: the node comes back with one of the two models, and with nothing half done.

The life that is cut off is replayed up to each of its events and stopped there, once with the writes under way lost and
once with them on the disk, though nobody heard of it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from edgecoder.core.effects import LoadModel, Persist, SwapResult, UnloadModel
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.models.inventory import DownloadState
from edgecoder.models.swap import KEY, SwapJournal, SwapState
from edgecoder.wire.messages import Load
from tests.catalogs import LARGE, SMALL, TINY
from tests.harness import Cluster
from tests.hosts import Host, Outcome, fails

Life = Callable[[Host], None]


def swap(phone: Host) -> None:
    """A swap that succeeds."""
    phone.swap("large")


def failing_swap(phone: Host) -> None:
    """A swap that is rolled back."""
    phone.plan(LoadModel, fails(Reason.LOAD_FAILED))
    phone.swap("large")


def lost_swap(phone: Host) -> None:
    """A swap whose roll-back fails too."""
    phone.plan(LoadModel, fails(Reason.LOAD_FAILED), fails(Reason.LOAD_FAILED))
    phone.swap("large")


def stuck_swap(phone: Host) -> None:
    """A swap that cannot free the old model."""
    phone.plan(UnloadModel, fails(Reason.UNLOAD_FAILED))
    phone.swap("large")


def two_swaps(phone: Host) -> None:
    """A swap with another waiting behind it."""
    phone.swap("large")
    phone.swap("tiny")


LIVES: list[tuple[Life, tuple[CatalogEntry | None, ...]]] = [
    (swap, (SMALL, LARGE)),
    (failing_swap, (SMALL,)),
    (lost_swap, (SMALL,)),
    (stuck_swap, (SMALL,)),
    (two_swaps, (SMALL, LARGE, TINY)),
]
"""Each life, and what may serve after it was cut off."""


def begin(life: Life) -> tuple[Cluster, Host]:
    """A phone that serves `small`, at the moment when the swap is asked for."""
    cluster = Cluster()
    phone = cluster.add("phone", installed=[SMALL, LARGE, TINY], active=SMALL)
    cluster.drive()
    life(phone)
    return cluster, phone


def length(life: Life) -> int:
    """Events from the request to rest."""
    cluster, _ = begin(life)
    return cluster.drive_bounded(1_000)


def kept(phone: Host) -> SwapJournal:
    """What the disk says of the active model."""
    return msgspec.msgpack.decode(phone.disk[KEY], type=SwapJournal)


@pytest.mark.parametrize("keep_writes", [False, True], ids=["lost", "kept"])
@pytest.mark.parametrize(("life", "outcomes"), LIVES, ids=[life.__name__ for life, _ in LIVES])
def test_crash_at_every_step(life: Life, outcomes: tuple[CatalogEntry | None, ...], keep_writes: bool) -> None:
    steps = length(life)
    assert steps > 4
    seen = set()
    for cut in range(steps + 1):
        cluster, phone = begin(life)
        for _ in range(cut):
            cluster.step()
        answered = dict(phone.replies)
        generation = phone.member.announcer.current
        cluster.restart(phone, keep_writes=keep_writes)
        journal = kept(phone)
        cluster.drive()
        active = phone.member.swap.serving
        seen.add(active)
        assert active in outcomes
        assert (active and active.sha256) == journal.active, "what serves is not what was durable"
        assert phone.member.swap.state is (SwapState.EMPTY if active is None else SwapState.READY)
        assert phone.member.load() == Load.of(0)
        newest = phone.member.announcer.current
        assert newest is not None
        assert generation is not None
        assert newest.generation > generation.generation
        for result in answered.values():
            assert isinstance(result, SwapResult)
            assert result.reason is not None or result.active == (active and active.model_id) or life is two_swaps
    assert seen == set(outcomes)


@pytest.mark.parametrize("keep_writes", [False, True], ids=["lost", "kept"])
def test_a_success_that_was_answered_is_never_lost(keep_writes: bool) -> None:
    """Once the user was told `ready`, a crash at any later moment finds that model again."""
    for cut in range(length(swap) + 1):
        cluster, phone = begin(swap)
        for _ in range(cut):
            cluster.step()
        told = bool(phone.replies)
        cluster.restart(phone, keep_writes=keep_writes)
        cluster.drive()
        if told:
            assert phone.member.swap.serving is LARGE


def test_a_node_that_crashes_again_and_again_still_comes_back() -> None:
    cluster, phone = begin(swap)
    for _ in range(30):
        cluster.step()
        cluster.restart(phone)
    cluster.drive()
    assert phone.member.swap.serving in (SMALL, LARGE)
    assert phone.life == 31
    assert phone.alive.context.epoch >= 2


def test_an_interrupted_swap_is_not_taken_up_again() -> None:
    cluster, phone = begin(swap)
    while not phone.did(UnloadModel):
        cluster.step()
    cluster.restart(phone)
    assert kept(phone) == SwapJournal(SMALL.sha256, LARGE.sha256)
    cluster.drive()
    assert phone.member.swap.serving is SMALL
    assert LARGE not in [load.entry for load in phone.did(LoadModel)]


def test_a_model_that_is_gone_is_not_loaded_at_boot(cluster: Cluster) -> None:
    phone = cluster.add("phone", start=False)
    phone.disk[KEY] = msgspec.msgpack.encode(SwapJournal("ab" * 32))
    phone.start()
    cluster.drive()
    assert phone.member.swap.state is SwapState.EMPTY
    phone = cluster.add("other", start=False)
    phone.disk[KEY] = msgspec.msgpack.encode(SwapJournal(SMALL.sha256))  # known, and not installed
    phone.start()
    cluster.drive()
    assert phone.member.swap.state is SwapState.EMPTY
    assert phone.did(LoadModel) == []


def test_a_boot_whose_load_fails_leaves_the_node_empty_and_usable(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    phone.plan(LoadModel, fails(Reason.LOAD_FAILED))
    cluster.drive()
    assert phone.member.swap.state is SwapState.EMPTY
    command = phone.swap("large")
    cluster.drive()
    assert phone.result(command, SwapResult) == SwapResult(None, "large", 7.0)


def test_a_disk_that_cannot_be_written_keeps_no_node_from_serving(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL], active=SMALL, start=False)
    phone.plan(Persist, Outcome(), fails(Reason.STORE_FAILED), fails(Reason.STORE_FAILED))
    phone.start()
    cluster.drive()
    assert phone.member.swap.serving is SMALL


def test_the_last_model_survives_a_boot_whose_load_failed(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL], active=SMALL)
    phone.plan(LoadModel, fails(Reason.LOAD_FAILED))
    cluster.drive()
    assert phone.member.swap.serving is None
    cluster.restart(phone)
    cluster.drive()
    assert phone.member.swap.serving is SMALL


@pytest.mark.parametrize("life", ["boot", "swap"])
def test_a_model_that_takes_the_process_along_twice_is_quarantined(life: str, cluster: Cluster) -> None:
    """An engine may run in the node's own process: then nobody is left to report the crash."""
    phone = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL, start=False)
    if life == "boot":
        phone.disk[KEY] = msgspec.msgpack.encode(SwapJournal(LARGE.sha256))
    phone.start()
    for _ in range(2):
        if life == "swap":
            cluster.drive()
            phone.swap("large")
        while not phone.did(LoadModel) or phone.did(LoadModel)[-1].entry is not LARGE:
            cluster.step()
        phone.effects.clear()
        cluster.restart(phone)
    cluster.drive()
    assert phone.member.inventory.state(LARGE) is DownloadState.QUARANTINED
    assert phone.member.swap.serving is (None if life == "boot" else SMALL)


def test_deaths_before_a_load_that_works_are_forgotten(cluster: Cluster) -> None:
    """A battery that is pulled out now and then is not the model's fault."""
    phone = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    for _ in range(4):
        cluster.drive()
        phone.effects.clear()
        phone.swap("large")
        while not phone.did(UnloadModel):
            cluster.step()
        cluster.restart(phone)
        for name in ("large", "small"):
            cluster.drive()
            phone.swap(name)
            cluster.drive()
            assert phone.member.swap.serving in (SMALL, LARGE)
            assert phone.member.inventory.state(LARGE) is DownloadState.INSTALLED


@pytest.mark.parametrize("value", [b"\xc1", b"\x93\x01", b"\x81\xa6active\x05", b"\x81\xa6active\xa1\xff"])
def test_a_damaged_journal_is_no_journal(value: bytes, cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL], start=False)
    phone.disk[KEY] = value
    phone.start()
    cluster.drive()
    assert phone.member.swap.state is SwapState.EMPTY
