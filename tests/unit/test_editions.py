"""Editions of a catalog with an origin: which is believed, what follows for models, and when it is stale."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.coordinator.withdrawn import KEY
from edgecoder.core.effects import (
    Advertise,
    CatalogStatus,
    FetchFile,
    LoadModel,
    MeshCapabilities,
    ModelRow,
    ModelStatus,
    PullResult,
    RemoveResult,
    SwapResult,
)
from edgecoder.core.events import (
    CatalogConfirmed,
    CatalogReleased,
    PullModel,
    QueryMesh,
    QueryModels,
    QueryStatus,
    RemoveModel,
)
from edgecoder.core.ids import NodeId, Role
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.models.editions import Edition, refusal_of
from edgecoder.seeding.pieces import bitmap_to_bytes
from edgecoder.trace import CatalogChanged, Dropped
from edgecoder.wire.messages import Announce, Heartbeat
from tests.catalogs import LARGE, MIB, SMALL, TINY, entry
from tests.harness import Cluster, Puppet
from tests.hosts import HANGS, Host, Outcome
from tests.strategies import full_heartbeat

NEW = entry("new")
STALE_MS = NodeConfig().catalog_stale_ms


@pytest.fixture
def cluster() -> Cluster:
    """Nodes whose catalog has an origin."""
    return Cluster(catalog=Catalog((SMALL, LARGE), version=3, age_ms=0))


@pytest.fixture
def phone(cluster: Cluster) -> Host:
    """One that serves SMALL."""
    host = cluster.add("phone", installed=[SMALL], active=SMALL)
    cluster.drive()
    return host


def rows(phone: Host) -> dict[str, ModelRow]:
    """What `GET /model/list` shows, by id."""
    reply = phone.replies[phone.ask(QueryModels)]
    assert isinstance(reply, tuple)
    return {row.entry.model_id: row for row in reply}


def status(phone: Host) -> ModelStatus:
    """What `GET /model/status` shows."""
    return phone.result(phone.ask(QueryStatus), ModelStatus)


def release(phone: Host, version: int, *entries: CatalogEntry) -> None:
    """The origin has another edition."""
    phone.take(CatalogReleased(version, entries))


def test_a_release_is_there_at_once_and_can_be_fetched(cluster: Cluster, phone: Host) -> None:
    assert phone.result(phone.swap("new"), SwapResult).reason is Reason.UNKNOWN_MODEL
    release(phone, 4, SMALL, LARGE, NEW)
    assert [record.version for record in phone.traced(CatalogChanged)] == [4]
    assert list(rows(phone)) == ["small", "large", "new"]
    command = phone.swap("new", pull=True)
    cluster.drive()
    assert phone.result(command, SwapResult).active == "new"


def test_what_serves_serves_on_under_an_edition_that_says_more_of_it(cluster: Cluster, phone: Host) -> None:
    """Same file, other address: it is active still, a swap to it is a word, and it is not removed."""
    release(phone, 4, msgspec.structs.replace(SMALL, download_urls=("https://new.example/small",)), LARGE)
    assert rows(phone)["small"].active
    assert phone.result(phone.swap("small"), SwapResult).reason is None
    assert phone.result(phone.ask(RemoveModel, model="small"), RemoveResult).reason is Reason.IN_USE
    cluster.drive()
    assert status(phone).model == "small"


def test_what_is_withdrawn_may_run_and_go_and_never_comes_again(cluster: Cluster, phone: Host) -> None:
    release(phone, 4, LARGE)
    assert rows(phone)["small"].active
    command = phone.swap("large", pull=True)
    cluster.drive()
    assert phone.result(command, SwapResult).active == "large"
    command = phone.ask(RemoveModel, model="small")
    cluster.drive()
    assert phone.result(command, RemoveResult).reason is None
    assert phone.result(phone.ask(PullModel, model="small"), PullResult).reason is Reason.UNKNOWN_MODEL
    release(phone, 5, LARGE, NEW)
    assert "small" not in rows(phone)


def test_a_name_that_goes_to_another_file(phone: Host) -> None:
    other = msgspec.structs.replace(SMALL, sha256="ab" * 32)
    release(phone, 4, other)
    assert not rows(phone)["small"].active
    assert rows(phone)[f"small:{SMALL.sha256[:8]}"].active


def test_what_serves_is_told_under_the_name_that_it_has_now(cluster: Cluster, phone: Host) -> None:
    """Peers and coordinators took it for the file that has its name since, and sent it that one's tasks."""
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.link(phone, hub)
    cluster.run_for(20_000)
    release(phone, 4, msgspec.structs.replace(SMALL, sha256="ab" * 32), LARGE)
    name = f"small:{SMALL.sha256[:8]}"
    assert status(phone).model == name
    assert phone.did(Advertise)[-1].capabilities.active_model == name
    cluster.run_for(20_000)
    assert cluster.sent(Heartbeat, phone, hub)[-1].active_model == name


def test_an_edition_that_changes_nothing_of_what_serves_is_not_advertised(phone: Host) -> None:
    count = len(phone.did(Advertise))
    release(phone, 4, SMALL, LARGE, NEW)
    assert len(phone.did(Advertise)) == count


def test_what_is_being_loaded_has_its_new_name_when_it_serves(cluster: Cluster, phone: Host) -> None:
    phone.plan(LoadModel, Outcome(after_us=2_000_000))
    command = phone.swap("large", pull=True)
    cluster.run_for(1_000)
    release(phone, 4, SMALL, msgspec.structs.replace(LARGE, sha256="ab" * 32))
    cluster.drive()
    assert phone.result(command, SwapResult).active == f"large:{LARGE.sha256[:8]}"


@pytest.mark.parametrize(
    ("version", "entries", "reason"),
    [
        (2, (SMALL, LARGE, NEW), Reason.CATALOG_OLD),
        (3, (SMALL, LARGE, NEW), Reason.CATALOG_CHANGED),
        (4, (SMALL, entry("small", 9.0, min_memory_mb=7, platforms=SMALL.platforms[:1])), Reason.INVALID),
    ],
)
def test_what_is_not_believed(phone: Host, version: int, entries: tuple[CatalogEntry, ...], reason: Reason) -> None:
    before = rows(phone)
    release(phone, version, *entries)
    assert phone.traced(Dropped)[-1].reason is reason
    assert rows(phone) == before
    shown = status(phone).catalog
    assert shown is not None
    assert (shown.version, shown.is_stale) == (3, False)


def test_offline_what_is_here_runs_and_nothing_new_is_fetched(cluster: Cluster, phone: Host) -> None:
    phone.take(CatalogConfirmed())
    cluster.run_for(STALE_MS)
    assert status(phone).catalog == CatalogStatus(3, STALE_MS, is_stale=False)
    cluster.run_for(1)
    assert status(phone).catalog == CatalogStatus(3, STALE_MS + 1, is_stale=True)
    assert phone.result(phone.ask(PullModel, model="large"), PullResult).reason is Reason.CATALOG_STALE
    assert phone.result(phone.swap("large", pull=True), SwapResult).reason is Reason.CATALOG_STALE
    assert phone.did(FetchFile) == []
    assert phone.result(phone.swap("small"), SwapResult).reason is None
    command = phone.ask(PullModel, model="large", is_import=True)
    cluster.drive()
    assert phone.result(command, PullResult).reason is None, "a file of this machine may come in"
    phone.take(CatalogConfirmed())
    assert status(phone).catalog == CatalogStatus(3, 0, is_stale=False)


def test_a_fetch_that_began_goes_on(cluster: Cluster, phone: Host) -> None:
    phone.plan(FetchFile, HANGS)
    first = phone.ask(PullModel, model="large")
    cluster.run_for(STALE_MS + 1)
    second = phone.ask(PullModel, model="large")
    assert first not in phone.replies
    assert second not in phone.replies, "it joins the fetch"


def test_age_counts_from_before_the_start(cluster: Cluster) -> None:
    cluster.catalog = Catalog((SMALL,), version=1, age_ms=STALE_MS + 1)
    phone = cluster.add("late")
    cluster.drive()
    shown = status(phone).catalog
    assert shown is not None
    assert shown.is_stale


def test_a_catalog_of_a_file_is_never_stale(cluster: Cluster) -> None:
    cluster.catalog = Catalog((SMALL,))
    phone = cluster.add("alone")
    cluster.drive()
    cluster.run_for(10 * STALE_MS)
    assert status(phone).catalog is None
    command = phone.ask(PullModel, model="small")
    cluster.drive()
    assert phone.result(command, PullResult).reason is None


def test_a_coordinator_brokers_what_is_released(cluster: Cluster) -> None:
    cluster.catalog = Catalog((SMALL,), version=1, age_ms=0)
    host = cluster.add("hub", Role.COORDINATOR)
    cluster.drive()
    release(host, 2, SMALL, NEW)
    assert [record.version for record in host.traced(CatalogChanged)] == [2]
    release(host, 1, SMALL)
    assert host.traced(Dropped)[-1].reason is Reason.CATALOG_OLD


AFTER_MS = ClusterConfig().agent_alive_ms + 1_000
"""When a coordinator has heard of all its members."""


def coordinator(cluster: Cluster, *entries: CatalogEntry) -> tuple[Host, Puppet]:
    """One with a catalog of its own, and an agent that serves SMALL by the name that it has."""
    cluster.catalog = Catalog(entries, version=1, age_ms=0)
    host = cluster.add("hub", Role.COORDINATOR)
    agent = cluster.puppet("agent", Role.AGENT)
    meet(cluster, host, agent)
    cluster.run_for(AFTER_MS)
    beat(cluster, agent)
    return host, agent


def meet(cluster: Cluster, host: Host, agent: Puppet) -> None:
    cluster.link(agent, host)
    agent.epoch += 1
    beat(cluster, agent)


def beat(cluster: Cluster, agent: Puppet) -> None:
    """The agent says that it serves SMALL."""
    agent.say(cluster.links_of(agent)[-1], full_heartbeat("small"))
    cluster.run_for(100)


def who_has(host: Host, model: str) -> list[NodeId]:
    """The coordinators that have agents with a model."""
    answer = host.result(host.ask(QueryMesh, model=model), MeshCapabilities)
    return [row.coordinator_id for row in answer.coordinators]


def restart(cluster: Cluster, host: Host, *entries: CatalogEntry) -> None:
    """Another life of a coordinator, whose driver has the newest edition."""
    cluster.stop(host)
    host.setup = msgspec.structs.replace(host.setup, catalog=Catalog(entries, version=2, age_ms=0))
    host.start()
    cluster.run_for(1_000)


def test_what_is_withdrawn_is_found_by_all_its_names_while_somebody_serves_it(cluster: Cluster) -> None:
    """What has no pieces was forgotten at once, and no task by another name than its id went there."""
    host, agent = coordinator(cluster, SMALL, LARGE)
    release(host, 2, LARGE)
    cluster.drive()
    assert who_has(host, "small-coder:1.5b") == [host.node_id]
    restart(cluster, host, LARGE)
    meet(cluster, host, agent)
    assert who_has(host, "small-coder:1.5b") == [host.node_id], "and in later lives"


def test_what_is_withdrawn_and_nobody_has_is_forgotten(cluster: Cluster) -> None:
    host, _ = coordinator(cluster, SMALL, LARGE)
    release(host, 2, SMALL)
    cluster.drive()
    assert not host.setup.catalog.withdrawn
    restart(cluster, host, SMALL)
    assert not host.setup.catalog.withdrawn


def test_a_coordinator_that_has_just_begun_gives_nothing_up(cluster: Cluster) -> None:
    host, _ = coordinator(cluster, SMALL, LARGE)
    release(host, 2, LARGE)
    cluster.drive()
    restart(cluster, host, LARGE)
    release(host, 3, LARGE, NEW)
    assert host.setup.catalog.withdrawn == (SMALL,)
    cluster.run_for(AFTER_MS)
    release(host, 4, LARGE)
    assert not host.setup.catalog.withdrawn


def test_what_a_coordinator_has_brokered_is_brokered_in_its_next_life(cluster: Cluster) -> None:
    """Downloads that had begun were left without a broker."""
    shared = entry("shared", file_size_bytes=MIB, piece_root="ab" * 32)
    host, agent = coordinator(cluster, shared, LARGE)
    have = Announce(file=bytes.fromhex(shared.sha256), have=bitmap_to_bytes(1, shared.layout.piece_count), wants=False)
    agent.say(cluster.links_of(agent)[-1], have)
    cluster.run_for(100)
    release(host, 2, LARGE)
    cluster.drive()
    restart(cluster, host, LARGE)
    meet(cluster, host, agent)
    agent.say(cluster.links_of(agent)[-1], have)
    cluster.run_for(100)
    assert bytes.fromhex(shared.sha256) in host.hub.broker.files


def test_what_is_on_a_coordinators_disk_is_checked(cluster: Cluster) -> None:
    host, _ = coordinator(cluster, SMALL)
    for value in (b"", b"nonsense", msgspec.msgpack.encode([1])):
        host.disk[KEY] = value
        restart(cluster, host, SMALL)
        assert not host.setup.catalog.withdrawn


EDITIONS = st.builds(
    Edition, st.integers(0, 4), st.lists(st.sampled_from((TINY, SMALL, LARGE, NEW)), unique=True).map(tuple)
)


@given(EDITIONS, st.lists(EDITIONS, max_size=12))
def test_the_version_never_goes_back(held: Edition, offered: list[Edition]) -> None:
    """Whatever is offered in whatever order; and one version is one catalog."""
    believed = {held.version: held.entries}
    for each in offered:
        if refusal_of(held, each) is None:
            assert each.version >= held.version
            if each.version:
                assert believed.setdefault(each.version, each.entries) == each.entries
            held = each


def test_a_file_keeps_its_pieces() -> None:
    """What nodes hold of it is by their numbers; a root that nobody knew may come."""
    held = entry("small", piece_root="a" * 64, piece_size_bytes=1 << 20)
    catalog = Catalog((held, LARGE), version=1)
    for other in ({"piece_size_bytes": 1 << 19}, {"piece_root": "b" * 64}, {"piece_root": ""}):
        with pytest.raises(ValueError, match="other pieces"):
            catalog.release(2, (msgspec.structs.replace(held, **other), LARGE), lambda _: False)
        assert (catalog.version, catalog.listed) == (1, (held, LARGE))
    catalog.release(2, (held, msgspec.structs.replace(LARGE, piece_root="c" * 64)), lambda _: False)
    assert catalog.version == 2


@given(st.lists(EDITIONS, max_size=8))
def test_a_catalog_follows_its_editions(editions: list[Edition]) -> None:
    """Every name resolves to a listed file; what is kept stays findable by its digest."""
    catalog = Catalog((SMALL,))
    for each in editions:
        before = dict(catalog.by_digest)
        catalog.release(each.version, each.entries, lambda entry: entry is SMALL or entry.model_id.startswith("small"))
        assert catalog.listed == each.entries
        for listed in each.entries:
            assert catalog.find(listed.model_id, listed.platforms[0]) == listed
            assert before.get(listed.sha256, listed) is catalog.by_digest[listed.sha256]
        assert SMALL.sha256 in catalog.by_digest
        assert catalog.is_withdrawn(SMALL) is (SMALL not in each.entries)
