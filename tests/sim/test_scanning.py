"""The scanning radio: how soon advertisements are heard, how a crowd gets to know each other, and who loses whom."""

from __future__ import annotations

import math
from functools import partial

import pytest

from edgecoder.core.effects import Effect, Scan, ScanMode
from edgecoder.core.events import Event, PeersHeard, PowerChanged, SwapModel
from edgecoder.core.rng import Stream
from edgecoder.mesh.member import Member
from edgecoder.wire.messages import Capabilities
from edgecoder_sim.checkers import make_checkers
from edgecoder_sim.host import SimNode
from edgecoder_sim.radio_model import Ble
from edgecoder_sim.scanning import Listening, Scanning, heard_at_us
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World
from tests.sim.eventful import Sink

ALONE = ("agents.count=0", "coordinators={}", "workload={}", "radio.scanning=true")
SECOND_US = 1_000_000
PATIENT = tuple(f"config.phones.link_{name}" for name in ("read_ms=500000", "idle_ms=500000", "idle_max_ms=600000"))
"""Links that are not let go."""


def world_of(phones: int, *sets: str) -> World:
    scenario = load_scenario("office", [*ALONE, f"phones.count={phones}", "duration_s=600", *sets])
    return World(scenario, make_checkers(scenario.rng_seed, "reproduce"))


def member(sim: SimNode) -> Member:
    part = sim.node.part
    assert isinstance(part, Member)
    return part


def knows(a: SimNode, b: SimNode) -> bool:
    """Whether `a` knows the model of `b` as it is now."""
    row, current = member(a).peers.rows.get(b.node_id), member(b).announcer.current
    if row is None or row.capabilities is None or current is None or row.is_outdated:
        return False
    return row.capabilities.active_model == current.active_model and not row.capabilities.current_load.is_loading


def test_a_crowd_of_fifty_knows_everybody_within_a_minute_and_holds_no_idle_link() -> None:
    world = world_of(50, "radio.area_m=[10, 8]")
    slots_seen = 0
    for second in range(1, 61):
        world.kernel.run(second * SECOND_US)
        slots_seen = max(slots_seen, *(len(sim.links) for sim in world.nodes))
    assert slots_seen == 5
    unknown = [(a.name, b.name) for a in world.nodes for b in world.nodes if a is not b and not knows(a, b)]
    assert unknown == []
    assert [sim.name for sim in world.nodes if sim.links] == []


def offers(part: Member) -> tuple[object, ...] | None:
    """What scanners must know of a node now; None while it has not announced itself."""
    now = part.announcer.current
    return None if now is None else _material(now)


def _material(told: Capabilities) -> tuple[object, ...]:
    if told.current_load.is_loading:
        return ("loading",)
    return (told.active_model, told.active_model_param_size, told.tokens_per_s)


def believes(a: SimNode, b: SimNode) -> tuple[object, ...] | None:
    """What `a` takes `b` to offer; None where it knows nothing, or knows that it is out of date."""
    row = member(a).peers.rows.get(b.node_id)
    if row is None or row.capabilities is None:
        return None
    if row.says_loading:
        return ("loading",)
    return None if row.is_outdated else _material(row.capabilities)


def test_while_models_change_everybody_knows_what_is_a_minute_old_and_lets_no_link_idle() -> None:
    swaps = "workload.swaps=[{name: mind, per_node_per_hour: 20}]"
    world = world_of(25, "radio.area_m=[10, 8]", swaps)
    world.start_users(Sink())
    since: dict[str, tuple[tuple[object, ...] | None, int]] = {}
    links: dict[int, int] = {}
    changes = 0
    for second in range(1, 301):
        world.kernel.run(second * SECOND_US)
        for sim in world.nodes:
            offer = offers(member(sim)) if sim.node.part is not None else None
            if since.get(sim.name, (None, 0))[0] != offer:
                since[sim.name] = (offer, second)
                changes += 1
        for b in world.nodes:
            offer, at = since.get(b.name, (None, second))
            if second - at >= 60:
                assert [a.name for a in world.nodes if a is not b and believes(a, b) != offer] == [], (second, b.name)
        open_now = {link for sim in world.nodes for link in sim.links}
        links = {link: links.get(link, second) for link in open_now}
        assert max([second - first for first in links.values()], default=0) <= 7, "5 s of patience at the longer end"
    assert changes > 25 + 2 * 25


def test_who_parts_is_forgotten_and_who_returns_is_known_again() -> None:
    world = world_of(2, "radio.area_m=[5000, 5000]")
    a, b = world.nodes
    world.contacts.contact_begins(a, b, 3.0)
    world.kernel.run(20 * SECOND_US)
    assert knows(a, b)
    assert knows(b, a)
    world.contacts.contact_ends(b, a)
    world.kernel.run(70 * SECOND_US)
    assert b.node_id in member(a).peers.rows
    world.kernel.run(90 * SECOND_US)
    assert member(a).peers.rows == member(b).peers.rows == {}
    world.contacts.contact_begins(a, b, 3.0)
    world.kernel.run(110 * SECOND_US)
    assert knows(a, b)
    assert knows(b, a)


def test_a_node_that_dies_is_forgotten_and_read_anew_in_its_next_life() -> None:
    world = world_of(2, "radio.area_m=[5, 5]")
    a, b = world.nodes
    world.kernel.run(20 * SECOND_US)
    assert knows(a, b)
    before = member(a).peers.rows[b.node_id].capabilities
    b.crash()
    world.kernel.run(100 * SECOND_US)
    assert member(a).peers.rows == {}
    b.restart(world.wall_ms(b))
    world.kernel.run(130 * SECOND_US)
    assert knows(a, b)
    after = member(a).peers.rows[b.node_id].capabilities
    assert before is not None
    assert after is not None
    assert after.generation > before.generation


def test_a_partition_of_the_radio_parts_those_who_stand_together() -> None:
    fault = "{kind: partition, at_s: 30, for_s: 100, nodes: [phone-0], media: [ble]}"
    world = world_of(3, "radio.area_m=[5, 5]", f"faults.plan=[{fault}]")
    apart, b, c = world.nodes
    world.kernel.run(29 * SECOND_US)
    assert all(knows(x, y) for x in world.nodes for y in world.nodes if x is not y)
    world.kernel.run(100 * SECOND_US)
    assert member(apart).peers.rows == {}
    assert knows(b, c)
    assert not knows(b, apart)
    world.kernel.run(150 * SECOND_US)
    assert all(knows(x, y) for x in world.nodes for y in world.nodes if x is not y)


def test_a_partition_ends_the_links_that_it_cuts_and_lets_nobody_dial() -> None:
    fault = "{kind: partition, at_s: 30, for_s: 100, nodes: [phone-0], media: [ble]}"
    world = world_of(2, "radio.area_m=[5, 5]", f"faults.plan=[{fault}]", *PATIENT)
    a, b = world.nodes
    world.kernel.run(29 * SECOND_US)
    assert len(a.links) == len(b.links) == 1
    world.kernel.run(35 * SECOND_US)
    assert len(a.links) == len(b.links) == 1, "nobody knows yet"
    world.kernel.run(37 * SECOND_US)
    assert a.links == b.links == {}
    world.kernel.run(40 * SECOND_US)
    assert member(a).peers.rows[b.node_id].link is None
    assert member(a).peers.rows[b.node_id].stats.drops == 1


def test_silence_counts_from_the_last_time_that_a_peer_was_heard() -> None:
    world = world_of(2, "radio.area_m=[5000, 5000]")
    a, b = world.nodes
    for second, is_near in ((1, True), (20, False), (50, True), (79, False)):
        world.kernel.run(second * SECOND_US)
        (world.contacts.contact_ends, partial(world.contacts.contact_begins, distance_m=3.0))[is_near](a, b)
    world.kernel.run(82 * SECOND_US)
    assert b.node_id in member(a).peers.rows, "it has been silent for three seconds"
    world.kernel.run(138 * SECOND_US)
    assert b.node_id in member(a).peers.rows
    world.kernel.run(141 * SECOND_US)
    assert member(a).peers.rows == {}


@pytest.mark.parametrize(("away_s", "times"), [(2, 0), (20, 1)])
def test_who_was_away_for_seconds_is_told_of_again(away_s: float, times: int) -> None:
    world = world_of(2, "radio.area_m=[5000, 5000]")
    a, b = world.nodes
    told: list[PeersHeard] = []
    handle = a.node.handle

    def watched(now: int, event: Event) -> list[Effect]:
        if isinstance(event, PeersHeard):
            told.append(event)
        return handle(now, event)

    a.node.handle = watched  # type: ignore[method-assign]
    world.contacts.contact_begins(a, b, 3.0)
    world.kernel.run(30 * SECOND_US)
    world.contacts.contact_ends(a, b)
    world.kernel.run(round((30 + away_s) * SECOND_US))
    told.clear()
    world.contacts.contact_begins(a, b, 3.0)
    world.kernel.run(70 * SECOND_US)
    assert len(told) == times


@pytest.mark.parametrize(("away_s", "holds"), [(1, True), (5.5, True), (6.5, False)])
def test_a_link_outlives_a_moment_out_of_range_and_loses_nothing(away_s: float, holds: bool) -> None:
    world = world_of(2, "radio.area_m=[5000, 5000]", *PATIENT)
    a, b = world.nodes
    world.contacts.contact_begins(a, b, 3.0)
    world.kernel.run(20 * SECOND_US)
    (link,) = a.links
    drops = member(a).peers.rows[b.node_id].stats.drops
    world.contacts.contact_ends(a, b)
    world.kernel.run(round((20 + away_s) * SECOND_US))
    world.contacts.contact_begins(a, b, 3.0)
    world.kernel.run(round((21.5 + away_s) * SECOND_US))
    assert (link in a.links, link in b.links) == (holds, holds)
    assert member(a).peers.rows[b.node_id].stats.drops == drops + (not holds)


def test_what_is_sent_while_out_of_range_arrives_when_it_can() -> None:
    world = world_of(2, "radio.area_m=[5000, 5000]", *PATIENT)
    a, b = world.nodes
    world.contacts.contact_begins(a, b, 3.0)
    world.kernel.run(20 * SECOND_US)
    before = member(b).peers.rows[a.node_id].capabilities
    world.contacts.contact_ends(a, b)
    a.post(PowerChanged(40, on_external_power=False))
    world.kernel.run(22 * SECOND_US)
    assert member(b).peers.rows[a.node_id].capabilities is before
    world.contacts.contact_begins(a, b, 3.0)
    world.kernel.run(23 * SECOND_US)
    assert member(b).peers.rows[a.node_id].capabilities == member(a).announcer.current


def test_a_scanner_that_listens_more_hears_sooner_what_it_waits_for() -> None:
    world = world_of(2, "radio.area_m=[5000, 5000]", "radio.ble.scan_low_power_ms=[100, 600000]")
    a, b = world.nodes
    world.kernel.run(10 * SECOND_US)
    world.contacts.scan(a, Scan(ScanMode.LOW_POWER, 5, 60_000))
    world.contacts.contact_begins(a, b, 3.0)
    world.kernel.run(11 * SECOND_US)
    scanning = world.contacts
    assert isinstance(scanning, Scanning)
    bearer = scanning.bearers[a.index]
    assert bearer.heard == {}
    world.contacts.scan(a, Scan(ScanMode.LOW_LATENCY, 5, 60_000))
    world.kernel.run(16 * SECOND_US)
    assert list(bearer.heard) == [b.index]


def test_a_radio_that_loses_half_of_what_it_hears_knows_everybody_a_little_later() -> None:
    world = world_of(
        10, "radio.area_m=[5, 5]", "faults.plan=[{kind: loss, at_s: 0, for_s: 20, share_pct: 50, nodes: [phones]}]"
    )
    world.kernel.run(60 * SECOND_US)
    assert all(knows(x, y) for x in world.nodes for y in world.nodes if x is not y)


def heard_one_by_one_us(ble: Ble, window_ms: float, period_ms: float, loss: float, stream: Stream) -> float:
    """The same as `heard_at_us`, advertisement by advertisement."""
    phase, at = stream.uniform() * period_ms, stream.uniform() * ble.advertising_interval_ms
    while True:
        into_ms = (at + phase) % period_ms
        if into_ms < window_ms and stream.uniform() >= loss:
            return (at + window_ms - into_ms) * 1000
        at += ble.advertising_interval_ms + stream.uniform() * ble.advertising_delay_ms


@pytest.mark.parametrize(
    ("mode", "radios"), [(ScanMode.LOW_LATENCY, 1), (ScanMode.LOW_LATENCY, 50), (ScanMode.LOW_POWER, 10)]
)
def test_the_time_to_be_heard_is_that_of_single_advertisements(mode: ScanMode, radios: int) -> None:
    ble, draws = Ble(), 4000
    drawn, played = Stream(1, b"", "drawn"), Stream(1, b"", "played")
    window_ms, period_ms = ble.scan_low_power_ms if mode is ScanMode.LOW_POWER else ble.scan_low_latency_ms
    gap_ms = ble.advertising_interval_ms + ble.advertising_delay_ms / 2
    loss = 1 - (1 - ble.advertisement_loss_pct / 100) * math.exp(-2 * radios * ble.advertisement_us / 1000 / gap_ms)
    listening = Listening(window_ms, period_ms, ble.advertising_interval_ms)
    short = (
        sum(heard_at_us(ble, listening, radios, drawn, 10**9, drawn.uniform()) - 10**9 for _ in range(draws)) / draws
    )
    long = sum(heard_one_by_one_us(ble, window_ms, period_ms, loss, played) for _ in range(draws)) / draws
    assert short == pytest.approx(long, rel=0.1)


def hidden(system: str, pct: float = 100.0) -> tuple[str, ...]:
    """Phones of one system alone, so many of them with the app in the background."""
    return (
        "phones.devices={phone_mid: 1}",
        f"devices.phone_mid.systems={{{system}: 1}}",
        f"systems.{system}.in_background_pct={pct}",
    )


def share_known(world: World) -> float:
    pairs = [(a, b) for a in world.nodes for b in world.nodes if a is not b]
    return sum(knows(a, b) for a, b in pairs) / len(pairs)


def test_android_in_the_background_is_heard_later() -> None:
    known = []
    for pct in (0.0, 100.0):
        world = world_of(10, "radio.area_m=[5, 5]", *hidden("android", pct))
        world.kernel.run(8 * SECOND_US)
        known.append(share_known(world))
        world.kernel.run(90 * SECOND_US)
        assert share_known(world) == 1.0
    assert known[0] > 0.9
    assert known[1] < 0.6


def test_ios_in_the_background_is_known_and_what_changes_there_is_read_late() -> None:
    small = "qwen2.5-coder-0.5b"
    sets = (*hidden("ios"), "config.phones.reread_ms=100000", "phones.active={qwen2.5-coder-1.5b: 1}")
    world = world_of(4, "radio.area_m=[5, 5]", *sets, "phones.installed.qwen2.5-coder-1.5b=1")
    world.kernel.run(90 * SECOND_US)
    assert share_known(world) == 1.0
    changing, *others = world.nodes
    changing.post(SwapModel(1000, small))
    world.kernel.run(100 * SECOND_US)
    assert member(changing).announcer.current.active_model == small  # type: ignore[union-attr]
    assert not any(knows(sim, changing) for sim in others)
    world.kernel.run(220 * SECOND_US)
    assert all(knows(sim, changing) for sim in others)


def test_what_a_scan_window_brings_is_one_event() -> None:
    world = world_of(30, "radio.area_m=[5, 5]")
    told: list[tuple[int, int]] = []

    listener = world.nodes[0]
    handle = listener.node.handle

    def watched(now: int, event: Event) -> list[Effect]:
        if isinstance(event, PeersHeard):
            told.append((now, len(event.peers)))
        return handle(now, event)

    listener.node.handle = watched  # type: ignore[method-assign]
    world.kernel.run(5 * SECOND_US)
    assert sum(count for _, count in told) >= 29
    assert len(told) <= 25
    window_us = 100_000
    assert len({at_us % window_us for at_us, _ in told}) == 1


def test_a_scanning_world_is_the_same_twice() -> None:
    digests = set()
    for _ in range(2):
        world = world_of(12, "radio.area_m=[10, 8]")
        world.kernel.run(30 * SECOND_US)
        assert isinstance(world.contacts, Scanning)
        digests.add(world.watch.digest.hexdigest())
    assert len(digests) == 1


def test_more_in_range_than_are_remembered_who_come_and_go() -> None:
    world = world_of(
        30,
        "config.phones.peers_max=8",
        "radio.area_m=[30, 30]",
        "mobility.phones=random_waypoint",
        "mobility.step_s=1",
        "presence.phones={session_s: 120, gap_s: 60, vanish_pct: 50}",
        "duration_s=900",
        "rng_seed=1",
    )
    world.kernel.run(900 * SECOND_US)
    assert all(len(member(sim).neighbours.rows) <= 14 for sim in world.nodes if sim.node.part is not None)
