"""Heartbeats: the period, full and delta, acknowledgements, and being offline or online."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import ModelStatus
from edgecoder.core.events import EngineFailed, PowerChanged, QueryStatus, Wake
from edgecoder.core.ids import LinkId, Role
from edgecoder.errors import Reason
from edgecoder.mesh.heartbeat import ONLINE_TABLE, HeartbeatSender, OnlineState, OnlineStep
from edgecoder.trace import ConfigDiffers, OnlineChanged
from edgecoder.wire.messages import Heartbeat, HeartbeatAck, Load, Power
from tests.catalogs import LARGE, SMALL
from tests.harness import Cluster, Puppet
from tests.hosts import WALL_MS, Host
from tests.steps import ids, missing, watch

PERIOD_MS = ClusterConfig().heartbeat_interval_ms
CHANGING = ("power", "tokens_per_s", "holdings_digest")
FIXED = ("device_type", "memory_mb", "slots", "cluster_config_hash")


class Home:
    """A phone and its coordinator, which a test plays: it answers when it is told to."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.phone: Host = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
        cluster.drive()
        self.hub: Puppet = cluster.puppet("hub", Role.COORDINATOR)
        self.link: LinkId = cluster.link(self.hub, self.phone)
        cluster.run_for(25)

    @property
    def beats(self) -> list[Heartbeat]:
        """The heartbeats that the coordinator heard."""
        return self.hub.all(Heartbeat)

    def acknowledge(self, *, known: bool = True, back: int = 0, epoch: int = 1) -> None:
        """Answer the newest heartbeat, or one `back` before it."""
        sent = [
            carried.frame
            for carried in self.cluster.carried
            if carried.source == "phone" and carried.kind == "heartbeat"
        ]
        seq = self.hub.verifier.open(sent[-1 - back]).header.seq
        self.hub.say(self.link, HeartbeatAck(epoch=epoch, seq=seq, coordinator_time_ms=5, known=known))
        self.cluster.run_for(15)

    def pass_periods(self, count: int = 1) -> None:
        """Let so many heartbeats come due."""
        self.cluster.run_for(PERIOD_MS * count)

    def is_online(self) -> bool:
        """As its user is told."""
        return self.phone.result(self.phone.ask(QueryStatus), ModelStatus).online


@pytest.fixture
def home(cluster: Cluster) -> Home:
    """The phone has told its coordinator everything, and got no answer yet."""
    return Home(cluster)


def given(beat: Heartbeat, names: tuple[str, ...]) -> set[str]:
    """Which of these fields a heartbeat carries."""
    return {name for name in names if getattr(beat, name) is not None}


# -- period ------------------------------------------------------------------------------------------------------------


def test_heartbeats_come_at_k_times_the_period(cluster: Cluster) -> None:
    phone, hub = cluster.add("phone"), cluster.add("hub", Role.COORDINATOR)
    cluster.link(phone, hub)
    cluster.drive()
    times = []
    for _ in range(5):
        before = len(cluster.sent(Heartbeat))
        while len(cluster.sent(Heartbeat)) == before:
            cluster.step()
        times.append(cluster.now)
    assert {later - earlier for earlier, later in pairwise(times)} == {PERIOD_MS * 1000}


def test_the_phase_is_random_and_nobody_elses_business() -> None:
    def phases(*names: str) -> dict[str, int]:
        world = Cluster()
        hosts = [world.add(name) for name in names]
        for host in hosts:
            host.take(Wake())
        world.drive()
        return {host.name: host.wake_at for host in hosts}

    alone, among = phases("a"), phases("x", "a", "y", "z")
    assert among["a"] == alone["a"]
    assert len(set(among.values())) == 4


def test_a_late_wake_up_is_not_made_up_for(cluster: Cluster) -> None:
    """A machine that slept finds its coordinator where it was: it sends one heartbeat, and is not offline."""
    phone, hub = cluster.add("phone"), cluster.add("hub", Role.COORDINATOR)
    cluster.link(phone, hub)
    cluster.run_for(20_000)
    assert phone.member.heartbeat.is_online
    before = len(cluster.sent(Heartbeat))
    cluster.jump(3_600_000)
    cluster.run_for(100)
    assert len(cluster.sent(Heartbeat)) - before <= 2
    assert phone.traced(OnlineChanged) == [OnlineChanged(True)]


# -- what is in it -----------------------------------------------------------------------------------------------------


def test_the_first_heartbeat_says_everything(home: Home) -> None:
    (beat,) = home.beats
    config, current = home.phone.setup.config, home.phone.member.announcer.current
    assert current is not None
    assert beat.full
    assert (beat.active_model, beat.active_model_param_size, beat.current_load) == ("small", 1.5, Load.of(0))
    assert (beat.memory_mb, beat.slots, beat.device_type) == (config.memory_mb, config.slots, config.device_type)
    assert (beat.power, beat.tokens_per_s) == (Power(on_external_power=False, battery_pct=100), 20)
    assert beat.cluster_config_hash == home.cluster.config.digest()
    assert beat.generation == current.generation
    assert not beat.model_swap_in_progress


def test_it_stays_full_until_it_is_acknowledged(home: Home) -> None:
    home.pass_periods(2)
    assert [beat.full for beat in home.beats] == [True, True, True]
    home.acknowledge()
    home.pass_periods()
    assert not home.beats[-1].full


def test_a_delta_says_model_and_load_and_what_changed(home: Home) -> None:
    home.acknowledge()
    home.pass_periods()
    quiet = home.beats[-1]
    assert (quiet.active_model, quiet.active_model_param_size, quiet.current_load) == ("small", 1.5, Load.of(0))
    assert given(quiet, CHANGING + FIXED) == set()
    home.acknowledge()
    before = len(home.beats)
    home.phone.take(PowerChanged(55, True))
    home.pass_periods()
    changed = home.beats[before]
    assert not changed.full
    assert given(changed, CHANGING + FIXED) == {"power"}
    assert changed.power == Power(on_external_power=True, battery_pct=55)


def test_what_changed_is_said_until_it_is_acknowledged(home: Home) -> None:
    home.acknowledge()
    home.phone.take(PowerChanged(55, False))
    home.pass_periods()
    home.pass_periods()
    assert home.beats[-1].power == Power(on_external_power=False, battery_pct=55)
    home.acknowledge(back=1)  # an older one: the newest is still open
    home.pass_periods()
    assert home.beats[-1].power is not None
    home.acknowledge()
    home.pass_periods()
    assert home.beats[-1].power is None


def test_what_changed_back_before_it_was_acknowledged_is_said_again(home: Home) -> None:
    """The coordinator may have got the change and not the change back."""
    home.acknowledge()
    home.phone.take(PowerChanged(55, False))
    home.pass_periods()
    home.phone.take(PowerChanged(100, False))
    home.pass_periods()
    assert home.beats[-1].power == Power(on_external_power=False, battery_pct=100)


@pytest.mark.parametrize("lost", ["beats", "acks", "both"])
def test_the_registry_ends_up_right_whatever_is_lost(lost: str, cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.link(phone, hub)
    cluster.drive()
    for number, battery in enumerate([90, 80, 80, 90, 70, 100, 90, 90, 60]):
        if number % 2 and lost in ("beats", "both"):
            cluster.drop(Heartbeat)
        if number % 3 and lost in ("acks", "both"):
            cluster.drop(HeartbeatAck)
        phone.take(PowerChanged(battery, battery % 20 == 0))
        if number == 4:
            phone.swap("large")
        cluster.run_for(7_000)
    cluster.run_for(2 * PERIOD_MS)
    row = hub.hub.registry.rows[phone.node_id]
    assert row.power == phone.member.power()
    assert row.tokens_per_s == phone.member.tokens_per_s()
    assert row.holdings_digest == phone.member.piece_map_digest()
    assert row.heartbeat.active_model == "large"


def test_a_coordinator_that_does_not_know_the_node_gets_everything(home: Home) -> None:
    home.acknowledge()
    home.pass_periods()
    assert not home.beats[-1].full
    before = len(home.beats)
    home.acknowledge(known=False)
    home.cluster.run_for(15)
    assert len(home.beats) == before + 1
    assert home.beats[-1].full


def test_a_coordinator_that_has_no_room_is_not_asked_again_at_once(home: Home) -> None:
    home.acknowledge(known=False)
    before = len(home.beats)
    for _ in range(5):
        home.acknowledge(known=False)
    home.cluster.run_for(100)
    assert len(home.beats) == before
    home.pass_periods()
    assert home.beats[-1].full


def test_a_full_registry_makes_no_storm(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR, config=NodeConfig(agents_max=1, has_radio=False))
    phones = [cluster.add(name) for name in ("a", "b")]
    for phone in phones:
        cluster.link(phone, hub)
    cluster.drive_bounded(200)
    cluster.run_for(10 * PERIOD_MS)
    assert len(hub.hub.registry.rows) == 1
    assert len(cluster.sent(Heartbeat)) <= 2 * 13


# -- changes -----------------------------------------------------------------------------------------------------------


def test_a_change_is_told_within_the_gap(home: Home) -> None:
    home.acknowledge()
    before = len(home.beats)
    home.cluster.run_for(2_000)
    home.phone.submit()
    home.cluster.run_for(home.phone.setup.config.heartbeat_gap_ms + 2_000)
    assert 1 <= len(home.beats) - before <= 3


def test_loading_is_told_at_once(home: Home) -> None:
    home.acknowledge()
    before = len(home.beats)
    home.phone.take(EngineFailed(Reason.LOAD_FAILED))
    home.cluster.run_for(11)
    loading = home.beats[before]
    assert (loading.current_load, loading.model_swap_in_progress) == (Load.LOADING, True)


def test_without_a_coordinator_nothing_is_sent(cluster: Cluster) -> None:
    cluster.add("phone", installed=[SMALL, LARGE], active=SMALL).swap("large")
    cluster.run_for(60_000)
    assert cluster.carried == []


# -- online ------------------------------------------------------------------------------------------------------------


def test_an_acknowledgement_makes_the_node_online(home: Home) -> None:
    assert not home.is_online()
    home.acknowledge()
    assert home.is_online()
    assert home.phone.traced(OnlineChanged) == [OnlineChanged(True)]


def test_three_missed_heartbeats_make_it_offline_and_an_answer_online(home: Home) -> None:
    home.acknowledge()
    home.pass_periods(3)
    assert home.is_online(), "one is on its way, and two were missed"
    home.pass_periods()
    assert not home.is_online()
    assert home.phone.traced(OnlineChanged)[-1] == OnlineChanged(False)
    home.acknowledge()
    assert home.is_online()


def test_an_answer_in_time_starts_the_count_anew(home: Home) -> None:
    home.acknowledge()
    for _ in range(4):
        home.pass_periods(2)
        home.acknowledge()
    assert home.phone.traced(OnlineChanged) == [OnlineChanged(True)]


def test_a_lost_link_makes_it_offline_after_three_periods(home: Home) -> None:
    home.acknowledge()
    home.cluster.unlink(home.link)
    assert not home.is_online(), "nothing can be sent there"
    home.pass_periods(4)
    assert home.phone.traced(OnlineChanged)[-1] == OnlineChanged(False)
    home.link = home.cluster.link(home.hub, home.phone)
    home.cluster.run_for(25)
    assert home.beats[-1].full
    home.acknowledge()
    assert home.is_online()


def test_acknowledgements_of_an_earlier_life_do_not_count(home: Home) -> None:
    home.acknowledge(epoch=9)
    assert not home.is_online()


def test_only_the_home_coordinator_acknowledges(home: Home) -> None:
    other = home.cluster.puppet("other")
    link = home.cluster.link(other, home.phone)
    other.say(link, HeartbeatAck(epoch=1, seq=home.phone.alive.context.seq, coordinator_time_ms=0, known=True))
    home.cluster.run_for(25)
    assert not home.is_online()


def test_another_coordinator_takes_over_where_one_is_lost(home: Home) -> None:
    second = home.cluster.puppet("second", Role.COORDINATOR)
    link = home.cluster.link(second, home.phone)
    home.cluster.run_for(25)
    assert not second.all(Heartbeat), "one home at a time"
    home.cluster.unlink(home.link)
    home.cluster.run_for(25)
    assert [beat.full for beat in second.all(Heartbeat)] == [True]
    home.link, home.hub = link, second
    home.acknowledge()
    assert home.is_online()


def test_the_coordinator_tells_its_time(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR, start=False)
    hub.wall_ms = WALL_MS
    hub.start()
    phone = cluster.add("phone")
    cluster.run_for(100_000)
    cluster.link(phone, hub)
    cluster.drive()
    (ack,) = cluster.sent(HeartbeatAck)
    assert WALL_MS + 100_000 <= ack.coordinator_time_ms < WALL_MS + 100_100


def test_a_node_of_another_configuration_is_noticed(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.config = ClusterConfig(heartbeat_interval_ms=10_000)
    phone = cluster.add("phone")
    cluster.link(phone, hub)
    cluster.drive()
    assert hub.traced(ConfigDiffers) == [ConfigDiffers(phone.node_id)]


# -- the table ---------------------------------------------------------------------------------------------------------

ROWS: dict[tuple[OnlineState, OnlineStep], tuple[OnlineState, Callable[[Home], None]]] = {
    (OnlineState.OFFLINE, OnlineStep.ACKNOWLEDGED): (OnlineState.ONLINE, lambda home: home.acknowledge()),
    (OnlineState.ONLINE, OnlineStep.ACKNOWLEDGED): (OnlineState.ONLINE, lambda home: home.acknowledge()),
    (OnlineState.ONLINE, OnlineStep.MISSED): (OnlineState.ONLINE, lambda home: home.pass_periods(2)),
    (OnlineState.ONLINE, OnlineStep.MISSED_TOO_MANY): (OnlineState.OFFLINE, lambda home: home.pass_periods(4)),
}


@pytest.mark.parametrize("row", ONLINE_TABLE, ids=ids)
def test_row(row: tuple[OnlineState, OnlineStep], home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    following, scenario = ROWS[row]
    assert ONLINE_TABLE[row] is following
    if row[0] is OnlineState.ONLINE:
        home.acknowledge()
    steps = watch(monkeypatch, HeartbeatSender, OnlineState, OnlineStep)
    scenario(home)
    assert steps.following(*row) == {following}


@pytest.mark.parametrize("pair", missing(ONLINE_TABLE, OnlineState, OnlineStep), ids=ids)
def test_without_a_row_nothing_changes(pair: tuple[OnlineState, OnlineStep], home: Home) -> None:
    sender, out = home.phone.member.heartbeat, home.phone.alive.context.out
    sender.state = pair[0]
    out.clear()
    sender._step(pair[1])
    assert sender.state is pair[0]
    assert out == []
