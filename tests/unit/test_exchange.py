"""Coordinators say where they are, members learn of spares, and nobody sends a node elsewhere than that says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgecoder.config import NodeConfig, server
from edgecoder.core.effects import Browse, DialCoordinator
from edgecoder.core.events import CoordinatorSeen, PullModel
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.mesh.spares import KEY, NAMED_MAX
from edgecoder.mesh.uplinks import SPARE_MS, SPARE_REFUSED_MS
from edgecoder.mesh.whereabouts import statement
from edgecoder.models.catalog import Catalog
from edgecoder.protocol import EXCHANGE_ROWS_MAX
from edgecoder.trace import CoordinatorTold, HomeChanged
from edgecoder.wire.messages import PeerExchange, Whereabouts
from edgecoder_sim.crypto import IdealKey, node_id
from tests.catalogs import SMALL, entry
from tests.harness import Cluster
from tests.hosts import WALL_MS, Host, Outcome
from tests.unit.test_uplinks import address, dials, links_between

CONFIG = NodeConfig()
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def hub(cluster: Cluster, name: str, *neighbours: str, **config: Any) -> Host:
    """A coordinator that says where it is."""
    fields = {"coordinators": tuple(map(address, neighbours)), "endpoints": (f"{name}.example:4301",), **config}
    host = cluster.add(name, Role.COORDINATOR, config=msgspec.structs.replace(server(), **fields), start=False)
    host.wall_ms = WALL_MS
    cluster.listening[host.node_id] = host
    host.start()
    return host


def phone(cluster: Cluster, *coordinators: str, name: str = "phone", **config: Any) -> Host:
    settings = NodeConfig(coordinators=coordinators, **config)
    host = cluster.add(name, config=settings, installed=[SMALL], active=SMALL, start=False)
    host.wall_ms = WALL_MS
    host.start()
    return host


def row(name: str, *endpoints: str, sequence: int = 1, expires_ms: int = WALL_MS + DAY_MS, by: str = "") -> Whereabouts:
    """What a coordinator says of itself, or somebody in its name."""
    where = endpoints or (f"{name}.example:4301",)
    bare = Whereabouts(node_id(name), b"", where, sequence, expires_ms, bytes(64))
    signature = IdealKey(node_id(by or name)).sign(statement("edgecoder", bare))
    return msgspec.structs.replace(bare, signature=signature)


def tell(cluster: Cluster, node: Host, *rows: Whereabouts, by: str = "home", role: Role = Role.COORDINATOR) -> None:
    """A coordinator that a test plays tells a node."""
    teller = cluster.puppet(by, role)
    teller.epoch = cluster.events + 1  # each time a new life of it
    link = cluster.link(teller, node)
    cluster.run_for(50)
    teller.say(link, PeerExchange(coordinators=rows))
    cluster.run_for(50)


def spares(node: Host) -> list[bytes]:
    return [each.coordinator for each in node.member.uplinks.shown(None) if each.is_told]


def endpoints_dialled(node: Host) -> list[str]:
    return [effect.endpoint for effect in dials(node)]


# -- of members --------------------------------------------------------------------------------------------------------


def test_a_member_that_was_given_one_coordinator_goes_to_a_spare_when_it_dies(cluster: Cluster) -> None:
    home, other = hub(cluster, "home"), hub(cluster, "other", "home")
    cluster.run_for(5_000)
    node = phone(cluster, address("home"))
    cluster.run_for(30_000)
    assert spares(node) == [other.node_id]
    assert "other.example:4301" in endpoints_dialled(node)
    assert links_between(cluster, node, other) == 1
    assert [record.coordinator for record in node.traced(HomeChanged)] == [home.node_id]
    cluster.stop(home)
    cluster.run_for(1_000)
    assert node.member.heartbeat.is_online
    assert other.hub.registry.agent_count() == 1


def test_a_spare_is_known_across_lives(cluster: Cluster) -> None:
    home, other = hub(cluster, "home"), hub(cluster, "other", "home")
    node = phone(cluster, address("home"))
    cluster.run_for(30_000)
    assert KEY in node.disk
    cluster.stop(node)
    cluster.stop(home)
    node.start()
    cluster.run_for(2 * SPARE_MS)
    assert spares(node) == [other.node_id]
    assert node.member.heartbeat.is_online


def test_what_is_on_the_disk_is_checked(cluster: Cluster) -> None:
    node = phone(cluster, address("home"))
    cluster.stop(node)
    for value in (b"", b"nonsense", msgspec.msgpack.encode([1, 2])):
        node.disk[KEY] = value
        node.start()
        cluster.run_for(1_000)
        assert spares(node) == []
        cluster.stop(node)


def test_nobody_is_told_anything_where_no_coordinator_has_an_address(cluster: Cluster) -> None:
    hub(cluster, "home", endpoints=())
    hub(cluster, "other", "home", endpoints=())
    phone(cluster, address("home"))
    cluster.run_for(60_000)
    assert cluster.sent(PeerExchange) == []


def test_a_member_is_told_once_and_when_there_is_news(cluster: Cluster) -> None:
    home = hub(cluster, "home")
    node = phone(cluster, address("home"))
    cluster.run_for(60_000)
    assert len(cluster.sent(PeerExchange, home, node)) == 1
    hub(cluster, "other", "home")
    cluster.run_for(60_000)
    assert len(cluster.sent(PeerExchange, home, node)) == 2
    cluster.run_for(600_000)
    assert len(cluster.sent(PeerExchange, home, node)) == 2


@pytest.mark.parametrize(
    ("false", "dropped"),
    [
        (row("other", by="thief"), True),
        (msgspec.structs.replace(row("other"), endpoints=("evil.example:1",)), True),
        (msgspec.structs.replace(row("other"), expires_ms=WALL_MS * 2), True),
        (row("other", "no address"), True),
        (row("other", "host:0"), True),
        (row("other", "user@host:1"), True),
        (msgspec.structs.replace(row("other"), endpoints=()), True),
        (row("other", expires_ms=WALL_MS - DAY_MS), False),
    ],
)
def test_a_row_that_its_coordinator_has_not_signed_or_that_leads_nowhere_counts_for_nothing(
    cluster: Cluster, false: Whereabouts, dropped: bool
) -> None:
    node = phone(cluster, address("home"))
    tell(cluster, node, false)
    cluster.run_for(60_000)
    assert spares(node) == []
    drops = [record for record in node.traces if getattr(record, "what", "") == "whereabouts"]
    assert bool(drops) is dropped


def test_only_a_coordinator_of_the_list_names_spares(cluster: Cluster) -> None:
    node = phone(cluster, address("home"))
    tell(cluster, node, row("other"), by="stranger")
    tell(cluster, node, row("other"), by="agent", role=Role.AGENT)
    assert spares(node) == []
    tell(cluster, node, row("other"))
    assert spares(node) == [node_id("other")]
    tell(cluster, node, row("third"), by="other")
    assert spares(node) == [node_id("other")], "a spare names none"


def test_whom_it_no_longer_names_is_a_spare_no_longer(cluster: Cluster) -> None:
    node = phone(cluster, address("home"))
    tell(cluster, node, row("other"), row("third"))
    assert len(spares(node)) == 2
    tell(cluster, node, row("third"))
    assert spares(node) == [node_id("third")]
    tell(cluster, node)
    assert spares(node) == []
    count = len(dials(node))
    cluster.run_for(10_000)
    assert node_id("third") not in [effect.coordinator for effect in dials(node)[count:]]


def test_a_node_links_to_few_spares_and_remembers_some_more(cluster: Cluster) -> None:
    rows = [row(f"hub-{number}") for number in range(EXCHANGE_ROWS_MAX)]
    chosen = set()
    for number in range(12):
        node = phone(cluster, address("home"), name=f"phone-{number}")
        tell(cluster, node, *rows)
        assert len(spares(node)) == CONFIG.spares_max
        assert len(node.member.spares._book.rows) == NAMED_MAX
        chosen.update(spares(node))
    assert len(chosen) > CONFIG.spares_max, "the members spread over them"


def test_a_node_that_wants_none_has_none(cluster: Cluster) -> None:
    node = phone(cluster, address("home"), spares_max=0)
    tell(cluster, node, row("other"))
    assert spares(node) == []
    assert node.member.spares._book.rows == {}


def test_a_spare_that_has_expired_is_forgotten(cluster: Cluster) -> None:
    node = phone(cluster, address("home"))
    tell(cluster, node, row("other", expires_ms=WALL_MS + 2 * 3_600_000))
    cluster.run_for(3_600_000)
    assert spares(node) == [node_id("other")]
    cluster.run_for(2 * 3_600_000)
    assert spares(node) == []


def test_a_row_is_believed_for_a_week_whatever_it_says(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says a thousand years was kept, and dialled, for ever; across lives too."""
    monkeypatch.setattr("edgecoder.mesh.whereabouts.WHEREABOUTS_MS_MAX", 3 * HOUR_MS)
    node = phone(cluster, address("home"))
    tell(cluster, node, row("other", expires_ms=WALL_MS * 10))
    for _ in range(2):
        cluster.run_for(HOUR_MS)
        assert spares(node) == [node_id("other")]
        cluster.stop(node)
        node.wall_ms = WALL_MS + cluster.now // 1_000
        node.start()
    cluster.run_for(2 * HOUR_MS)
    assert spares(node) == []


@pytest.mark.parametrize(("late_ms", "is_known"), [(CONFIG.clock_skew_ms - 1_000, True), (CONFIG.clock_skew_ms, False)])
def test_a_row_holds_for_longer_by_what_clocks_may_differ(cluster: Cluster, late_ms: int, is_known: bool) -> None:
    node = phone(cluster, address("home"))
    tell(cluster, node, row("other", expires_ms=WALL_MS - late_ms))
    assert (spares(node) == [node_id("other")]) is is_known


def test_rows_are_judged_by_the_clock_of_who_answers_heartbeats(cluster: Cluster) -> None:
    """A machine whose clock was a month ahead took all that it heard for expired."""
    hub(cluster, "home")
    other = hub(cluster, "other", "home")
    node = phone(cluster, address("home"))
    cluster.stop(node)
    node.wall_ms = WALL_MS + 30 * DAY_MS
    node.start()
    cluster.run_for(60_000)
    assert spares(node) == [other.node_id]


def test_a_spare_that_does_not_know_this_node_is_seldom_asked(cluster: Cluster) -> None:
    node = phone(cluster, address("home"))
    tell(cluster, node, row("other"))
    node.plan(DialCoordinator, *(Outcome(reason=Reason.UNKNOWN_SENDER) for _ in range(1_000)))
    cluster.run_for(3_600_000)
    asked = [effect for effect in dials(node) if effect.coordinator == node_id("other")]
    assert len(asked) <= 2 * 3_600_000 // SPARE_REFUSED_MS + 1


def test_the_newest_word_of_a_coordinator_leads_to_it_where_its_address_has_changed(cluster: Cluster) -> None:
    """Whoever brings it: it is signed by the coordinator that it speaks of."""
    node = phone(cluster, address("gone"), address("home"))
    tell(cluster, node, row("gone", "new.example:1", sequence=2), by="home")
    tell(cluster, node, row("gone", "old.example:1", sequence=1), by="home")
    cluster.run_for(120_000)
    dialled = {effect.endpoint for effect in dials(node) if effect.coordinator == node_id("gone")}
    assert dialled == {"gone.example:4301", "new.example:1"}
    assert node.traced(CoordinatorTold)[0] == CoordinatorTold(node_id("gone"), node_id("home"), "new.example:1")


# -- of coordinators ---------------------------------------------------------------------------------------------------


def test_coordinators_tell_only_of_those_that_are_linked_to_them(cluster: Cluster) -> None:
    one = hub(cluster, "one")
    two = hub(cluster, "two", "one")
    three = hub(cluster, "three", "two")
    cluster.run_for(60_000)
    assert set(one.hub.exchange.rows) == {two.node_id}
    assert set(two.hub.exchange.rows) == {one.node_id, three.node_id}
    assert set(three.hub.exchange.rows) == {two.node_id}
    count = len(cluster.sent(PeerExchange))
    cluster.run_for(3_600_000)
    assert len(cluster.sent(PeerExchange)) == count, "and then they are quiet"


def test_a_coordinator_does_not_link_to_whom_others_name(cluster: Cluster) -> None:
    hub(cluster, "one")
    hub(cluster, "two", "one")
    three = hub(cluster, "three", "two")
    cluster.run_for(60_000)
    assert {effect.coordinator for effect in dials(three)} == {node_id("two")}


def test_a_member_names_no_coordinators(cluster: Cluster) -> None:
    home = hub(cluster, "home")
    tell(cluster, home, row("member"), row("other"), by="member", role=Role.AGENT)
    tell(cluster, home, row("other"), by="third")
    assert home.hub.exchange.rows == {}


def test_a_row_is_renewed_before_it_expires(cluster: Cluster) -> None:
    home = hub(cluster, "home", whereabouts_ms=600_000)
    hub(cluster, "other", "home", whereabouts_ms=600_000)
    node = phone(cluster, address("home"))
    cluster.run_for(3_600_000)
    assert len(spares(node)) == 1
    sequences = [each.coordinators[0].sequence for each in cluster.sent(PeerExchange, home, node)]
    assert sequences == sorted(sequences)
    assert len(set(sequences)) > 5


def test_a_later_life_has_the_last_word(cluster: Cluster) -> None:
    home, other = hub(cluster, "home"), hub(cluster, "other", "home")
    cluster.run_for(10_000)
    before = other.hub.exchange.rows[home.node_id].sequence
    cluster.restart(home)
    cluster.run_for(10_000)
    assert other.hub.exchange.rows[home.node_id].sequence > before


def test_how_many_a_coordinator_tells_of_is_bounded(cluster: Cluster) -> None:
    home = hub(cluster, "home")
    for number in range(EXCHANGE_ROWS_MAX + 10):
        tell(cluster, home, row(f"hub-{number}"), by=f"hub-{number}")
    cluster.run_for(5_000)
    assert len(home.hub.exchange.rows) == EXCHANGE_ROWS_MAX - 1
    assert max(len(each.coordinators) for each in cluster.sent(PeerExchange, home)) == EXCHANGE_ROWS_MAX


def test_rows_that_have_expired_make_room_for_those_of_others(cluster: Cluster) -> None:
    home = hub(cluster, "home")
    newcomer = cluster.puppet("newcomer", Role.COORDINATOR)
    link = cluster.link(newcomer, home)
    soon = WALL_MS + 600_000
    for number in range(EXCHANGE_ROWS_MAX - 1):
        tell(cluster, home, row(f"hub-{number}", expires_ms=soon), by=f"hub-{number}")
    newcomer.say(link, PeerExchange(coordinators=(row("newcomer"),)))
    cluster.run_for(100)
    assert newcomer.node_id not in home.hub.exchange.rows
    cluster.run_for(600_000 + CONFIG.clock_skew_ms)
    newcomer.say(link, PeerExchange(coordinators=(row("newcomer"),)))
    cluster.run_for(100)
    assert list(home.hub.exchange.rows) == [newcomer.node_id]


# -- on the network of this machine ------------------------------------------------------------------------------------


def test_one_without_an_address_is_looked_for_and_dialled_where_it_is_seen(cluster: Cluster) -> None:
    home = hub(cluster, "home")
    node = phone(cluster, home.node_id.hex())
    cluster.run_for(60_000)
    assert node.did(Browse) == [Browse((home.node_id,))]
    assert dials(node) == []
    (shown,) = node.member.uplinks.shown(None)
    assert (shown.endpoint, shown.state, shown.reason) == ("", "waiting", Reason.NO_ADDRESS)
    node.take(CoordinatorSeen(home.node_id, ("10.0.0.7:4301",)))
    cluster.run_for(5_000)
    assert endpoints_dialled(node) == ["10.0.0.7:4301"]
    assert node.member.heartbeat.is_online


def test_nobody_is_looked_for_unless_that_is_wanted(cluster: Cluster) -> None:
    node = phone(cluster, address("home"))
    wants = phone(cluster, address("home"), name="wants", discover=True)
    cluster.run_for(1_000)
    assert node.did(Browse) == []
    assert wants.did(Browse) == [Browse((node_id("home"),))]
    tell(cluster, wants, row("other"))
    assert wants.did(Browse)[1:] == [Browse((node_id("home"), node_id("other")))]


def test_a_stranger_that_is_seen_is_never_dialled(cluster: Cluster) -> None:
    node = phone(cluster, address("home"), discover=True)
    node.take(CoordinatorSeen(node_id("stranger"), ("10.0.0.7:4301",)))
    cluster.run_for(60_000)
    assert {effect.coordinator for effect in dials(node)} == {node_id("home")}


@pytest.mark.parametrize("endpoint", ["", "nonsense here", "host:0", "host:99999", "a@b:1", "x" * 300, "h\u200b:1"])
def test_an_address_that_is_none_is_not_dialled(cluster: Cluster, endpoint: str) -> None:
    node = phone(cluster, node_id("home").hex())
    node.take(CoordinatorSeen(node_id("home"), (endpoint,)))
    cluster.run_for(60_000)
    assert dials(node) == []


def test_a_flood_of_addresses_costs_some_dials_a_round(cluster: Cluster) -> None:
    """Somebody on the network announces a known coordinator at ever new addresses; the true one is found."""
    node = phone(cluster, address("home"), discover=True)
    home: Host | None = None
    for number in range(600):
        node.take(CoordinatorSeen(node_id("home"), tuple(f"10.0.{number % 250}.{each}:1" for each in range(40))))
        cluster.run_for(500)
    assert len(dials(node)) < 120
    home = hub(cluster, "home")
    cluster.run_for(3 * CONFIG.dial_retry_max_ms)
    assert node.member.heartbeat.is_online
    assert home.hub.registry.agent_count() == 1


def test_who_is_sent_to_a_file_s_broker_is_told_where_that_is() -> None:
    """Whoever has one coordinator configured, and keeps no spares, has no link to it."""
    files = [entry(f"file-{number}", piece_root="ab" * 32) for number in range(8)]
    cluster = Cluster(catalog=Catalog((SMALL, *files)))
    home, other = hub(cluster, "home"), hub(cluster, "other", "home")
    cluster.run_for(90_000)
    brokers = {file.model_id: home.hub.broker.broker_of(bytes.fromhex(file.sha256)) for file in files}
    model = next(name for name, broker in brokers.items() if broker == other.node_id)
    node = phone(cluster, address("home"), spares_max=0)
    cluster.run_for(5_000)
    node.ask(PullModel, model=model)
    cluster.run_for(5_000)
    assert "other.example:4301" in endpoints_dialled(node)
    assert home.hub.exchange.endpoint_of(node_id("nobody")) == ""
