"""Epochs over lives: what a lost disk, an old copy and a clock that went back do to them, and how a node heals."""

from __future__ import annotations

import pytest

from edgecoder.core.effects import Persist
from edgecoder.core.ids import COUNTER_BITS, Medium, Role
from edgecoder.core.node import EPOCH_KEY, EPOCHS_SPARE, RAISES_MAX
from edgecoder.errors import Reason
from edgecoder.protocol import EPOCH_MAX
from edgecoder.trace import AgentLearned, Dropped, EpochRaised, PeerLearned
from edgecoder.wire.advertisement import is_later, short_generation
from edgecoder.wire.messages import Stale
from tests.catalogs import SMALL
from tests.harness import Cluster
from tests.hosts import WALL_MS, Host, fails
from tests.strategies import capabilities

WALL_S = WALL_MS // 1000


def start(host: Host, wall_ms: int) -> None:
    """Begin a life with a clock of its own."""
    host.wall_ms = wall_ms
    host.start()


def test_an_epoch_follows_the_clock(cluster: Cluster) -> None:
    phone = cluster.add("phone", start=False)
    start(phone, WALL_MS)
    cluster.drive()
    assert phone.alive.context.epoch == WALL_S
    phone.stop()
    phone.disk.clear()
    start(phone, WALL_MS + 5_000)
    cluster.drive()
    assert phone.alive.context.epoch == WALL_S + 5, "a lost disk does not lead back to an epoch that was used"
    phone.stop()
    start(phone, WALL_MS)
    cluster.drive()
    assert phone.alive.context.epoch == WALL_S + 6, "nor does a clock that went back"


def test_a_clock_that_is_far_ahead_is_not_followed(cluster: Cluster) -> None:
    """One of after 2106 would leave no epoch for the lives behind it."""
    phone, epochs = cluster.add("phone", start=False), []
    for wall_ms in ((EPOCH_MAX + 5) * 1000, (EPOCH_MAX - EPOCHS_SPARE + 1) * 1000, WALL_MS, WALL_MS):
        start(phone, wall_ms)
        cluster.drive()
        epochs.append(phone.alive.context.epoch)
        phone.stop()
    assert epochs == [1, 2, WALL_S, WALL_S + 1]


@pytest.mark.parametrize("later_s", [15, 16, 17, 32, 160])
def test_advertisements_tell_two_lives_apart(cluster: Cluster, later_s: int) -> None:
    """They hold four bits of the epoch."""
    phone = cluster.add("phone", start=False)
    start(phone, WALL_MS)
    cluster.drive()
    first = phone.alive.context.epoch
    phone.stop()
    start(phone, WALL_MS + later_s * 1000)
    cluster.drive()
    second = phone.alive.context.epoch
    assert 0 <= second - first - later_s <= 1
    assert is_later(short_generation((second << COUNTER_BITS) | 1), (first << COUNTER_BITS) | 20)


def reborn(cluster: Cluster, role: Role) -> tuple[Host, Host]:
    """A phone of which another node has heard a later life: its disk and its clock have both gone back."""
    other = cluster.add("other", role)
    later = cluster.puppet("phone")
    later.epoch = 3
    link = cluster.link(later, other)
    cluster.run_for(100)
    cluster.unlink(link)
    cluster.drive()
    return cluster.add("phone", installed=[SMALL], active=SMALL, start=False), other


@pytest.mark.parametrize(("medium", "role"), [(Medium.BLE, Role.PHONE), (Medium.LAN, Role.COORDINATOR)])
def test_a_node_whose_disk_and_clock_went_back_is_told_and_heard_again(
    cluster: Cluster, medium: Medium, role: Role
) -> None:
    phone, other = reborn(cluster, role)
    phone.start()
    cluster.link(phone, other, medium)
    cluster.run_for(10_000)
    assert phone.traced(EpochRaised) == [EpochRaised(4)]
    assert int.from_bytes(phone.disk[EPOCH_KEY], "big") == phone.alive.context.epoch == 4
    heard = [record for record in other.traces if isinstance(record, PeerLearned | AgentLearned)]
    assert heard[-1].generation >> 32 == 4, "what it says counts again"


def test_a_life_with_the_epoch_of_an_earlier_one_goes_on_with_another(cluster: Cluster) -> None:
    """Its disk was restored from before that one, and its clock set back: of what it says some looks said already."""
    other = cluster.add("other", Role.COORDINATOR)
    earlier = cluster.puppet("phone")
    link = cluster.link(earlier, other)
    for _ in range(20):
        earlier.say(link, capabilities(earlier.node_id, 1))
    cluster.run_for(100)
    cluster.unlink(link)
    cluster.drive()
    phone = cluster.add("phone", installed=[SMALL], active=SMALL, start=False)
    phone.start()
    cluster.link(phone, other, Medium.LAN)
    cluster.run_for(60_000)
    assert phone.traced(EpochRaised) == [EpochRaised(2)]
    assert other.traced(Dropped).count(Dropped("frame", Reason.REPLAYED)) == 1, "its first word, and no other"
    assert phone.member.heartbeat.is_online


def test_an_epoch_that_cannot_be_written_is_not_used(cluster: Cluster) -> None:
    phone, other = reborn(cluster, Role.COORDINATOR)
    phone.start()
    cluster.drive()
    phone.plan(Persist, fails(Reason.DISK_FULL))
    cluster.link(phone, other, Medium.LAN)
    cluster.run_for(1_000)
    assert phone.alive.context.epoch == 1
    assert Dropped(EPOCH_KEY, Reason.DISK_FULL) in phone.traces
    cluster.run_for(10_000)
    assert phone.alive.context.epoch == 4, "the next identity is answered with the same again"


@pytest.mark.parametrize("newest", [EPOCH_MAX - EPOCHS_SPARE + 1, EPOCH_MAX, 0])
def test_what_no_honest_peer_says_changes_nothing(cluster: Cluster, newest: int) -> None:
    phone = cluster.add("phone")
    liar = cluster.puppet("liar")
    link = cluster.link(liar, phone, Medium.BLE)
    cluster.drive()
    liar.say(link, Stale(epoch=newest))
    cluster.run_for(100)
    assert phone.alive.context.epoch == 1


def test_a_liar_makes_a_node_pass_over_a_bounded_number_of_epochs(cluster: Cluster) -> None:
    phone = cluster.add("phone")
    liar = cluster.puppet("liar")
    link = cluster.link(liar, phone, Medium.BLE)
    cluster.drive()
    for number in range(RAISES_MAX + 5):
        liar.say(link, Stale(epoch=EPOCH_MAX - EPOCHS_SPARE - 100 + 2 * number))
        cluster.run_for(100)
    assert len(phone.traced(EpochRaised)) == RAISES_MAX
    assert phone.alive.context.epoch <= EPOCH_MAX - EPOCHS_SPARE
