"""The files that the engine's own server keeps: what they are called, when they count, and what outlives a life."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import DeleteFile, FetchFile, ModelRow, PullResult, RemoveResult, SwapResult
from edgecoder.core.events import FileDoubted, FilesHeld, HeldFile, PullModel, QueryModels, RemoveModel
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.models.admission import memory_needed_mb
from edgecoder.models.catalog import Catalog, Platform
from edgecoder.models.held import KEY, decode_files, encode_files, entry_of, with_held
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, FileRow, decode_rows, encode_rows
from tests.catalogs import AGENT_ONLY, HUGE, LARGE, MIB, PHONE_ONLY, SMALL, TINY, entry
from tests.harness import Cluster
from tests.hosts import HANGS, Host

NODE = Platform.NODE
OWN = HeldFile("llama3.2:3b", "a" * 64, 2_000 * MIB, "3.2B", "Q4_K_M", "llama", 131_072, 114_688)
HELD_SMALL = HeldFile("whatever:latest", SMALL.sha256, SMALL.file_size_bytes, "1.5B")
S = DownloadState


TAGGED = entry("desk-coder:3b", 3.0, platforms=(NODE,))


def catalog() -> Catalog:
    """A catalog that may grow."""
    return Catalog((TINY, SMALL, LARGE, HUGE, PHONE_ONLY, AGENT_ONLY, TAGGED))


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(catalog=catalog())


@pytest.fixture
def agent(cluster: Cluster) -> Host:
    """An agent that has nothing of its own."""
    agent = cluster.add("agent", Role.AGENT, platform=NODE)
    cluster.drive()
    return agent


def rows(cluster: Cluster, agent: Host) -> dict[str, ModelRow]:
    command = agent.ask(QueryModels)
    cluster.drive()
    told = agent.replies[command]
    assert isinstance(told, tuple)
    return {row.entry.model_id: row for row in told}


def tell(cluster: Cluster, agent: Host, *files: HeldFile, stored: tuple[str, ...] = ()) -> None:
    agent.take(FilesHeld(files, stored))
    cluster.drive()


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("llama3.2:3b", "llama3.2:3b"),
        ("Mistral:latest", "mistral"),
        ("me/my-coder:3b", "me/my-coder:3b"),
        ("hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M", "bartowski/llama-3.2-1b-instruct-gguf:q4_k_m"),
        ("small-coder:1.5b", "small-coder:1.5b"),
        ("desk-coder:3b", "desk-coder:3b-aaaaaaaa"),
        ("small:latest", "small:aaaaaaaa"),
        ("pocket", "pocket"),
        ("_odd:1b", None),
        ("x" * 97, None),
        ("", None),
        ("a b:1b", None),
        ("x\n", None),
    ],
)
def test_what_a_file_is_called(name: str, called: str | None) -> None:
    found = entry_of(HeldFile(name, "a" * 64, MIB, "1B"), catalog(), NODE)
    assert (found and found.model_id) == called


@pytest.mark.parametrize(
    ("name", "size", "billions"),
    [
        ("gemma3:270m", "268.10M", 0.27),
        ("mixtral", "8x7B", 56.0),
        ("a:latest", "494.03M", 0.49403),
        ("b", "", None),
        ("b", "0B", None),
        ("b", "20000B", None),
    ],
)
def test_how_many_parameters_it_has(name: str, size: str, billions: float | None) -> None:
    found = entry_of(HeldFile(name, "a" * 64, MIB, size), catalog(), NODE)
    assert found is not None
    assert found.param_size == billions


def test_one_without_bytes_is_none() -> None:
    assert entry_of(HeldFile("x:1b", "a" * 64, 0, "1B"), catalog(), NODE) is None


def test_its_memory_is_file_and_cache_and_the_engine() -> None:
    own, config = entry_of(OWN, catalog(), NODE), NodeConfig(context_tokens=4096)
    assert own is not None
    assert memory_needed_mb(own, config) == 2_000 + 448 + config.engine_overhead_mb


def test_two_files_of_one_name_are_told_apart() -> None:
    known = catalog()
    for digest in ("a" * 64, "b" * 64):
        found = entry_of(HeldFile("mine:1b", digest, MIB), known, NODE)
        assert found is not None
        known.add_local(found)
    assert [one.model_id for one in known.local] == ["mine:1b", "mine:1b-bbbbbbbb"]


# -- coming and going --------------------------------------------------------------------------------------------------


def test_a_file_of_the_catalog_is_installed_whatever_it_is_called_there(cluster: Cluster, agent: Host) -> None:
    tell(cluster, agent, HELD_SMALL)
    assert rows(cluster, agent)["small"].state == "installed"
    command = agent.swap("small")
    cluster.drive()
    assert agent.result(command, SwapResult).active == "small"
    assert not agent.did(FetchFile)


def test_a_file_that_the_catalog_does_not_know_is_listed_and_swapped_to(cluster: Cluster, agent: Host) -> None:
    tell(cluster, agent, OWN)
    row = rows(cluster, agent)["llama3.2:3b"]
    assert (row.state, row.compatible, row.entry.param_size, row.entry.sha256) == ("installed", True, 3.0, OWN.sha256)
    command = agent.swap("LLAMA3.2:3b")
    cluster.drive()
    assert agent.result(command, SwapResult) == SwapResult(None, "llama3.2:3b", 3.0, None)


def test_what_is_gone_there_is_absent_here(cluster: Cluster, agent: Host) -> None:
    tell(cluster, agent, OWN, HELD_SMALL)
    tell(cluster, agent, HELD_SMALL)
    assert "llama3.2:3b" not in rows(cluster, agent)
    assert rows(cluster, agent)["small"].state == "installed"
    tell(cluster, agent, OWN)
    assert rows(cluster, agent)["llama3.2:3b"].state == "installed"


def test_what_lies_in_the_own_store_too_stays(cluster: Cluster, agent: Host) -> None:
    tell(cluster, agent, HELD_SMALL)
    tell(cluster, agent, stored=(SMALL.sha256,))
    assert rows(cluster, agent)["small"].state == "installed"


def test_what_this_node_fetched_itself_is_none_of_the_servers(cluster: Cluster, agent: Host) -> None:
    agent.ask(PullModel, model="small")
    cluster.drive()
    tell(cluster, agent, OWN, stored=(SMALL.sha256,))
    tell(cluster, agent, stored=(SMALL.sha256,))
    assert rows(cluster, agent)["small"].state == "installed"


def test_a_download_that_is_under_way_is_not_touched(cluster: Cluster, agent: Host) -> None:
    agent.plan(FetchFile, HANGS)
    command = agent.ask(PullModel, model="small")
    cluster.run_for(100)
    agent.take(FilesHeld((HELD_SMALL,)))
    assert agent.member.inventory.state(SMALL) is S.PARTIAL
    agent.end(agent.opened(FetchFile)[0])
    cluster.drive()
    assert agent.result(command, PullResult).reason is None
    assert agent.member.inventory.state(SMALL) is S.INSTALLED


def test_a_removal_that_is_under_way_is_not_undone(cluster: Cluster, agent: Host) -> None:
    tell(cluster, agent, HELD_SMALL)
    agent.plan(DeleteFile, HANGS)
    command = agent.ask(RemoveModel, model="small")
    cluster.run_for(100)
    agent.take(FilesHeld((HELD_SMALL,)))
    agent.end(agent.opened(DeleteFile)[0])
    cluster.drive()
    assert agent.result(command, RemoveResult).reason is None
    assert agent.member.inventory.state(SMALL) is S.ABSENT


def test_a_quarantined_file_stays_so(cluster: Cluster, agent: Host) -> None:
    tell(cluster, agent, HELD_SMALL)
    for _ in range(agent.setup.config.engine_crashes_max):
        agent.swap("small")
        cluster.drive()
        agent.crash_engine()
        cluster.drive()
    assert agent.member.inventory.state(SMALL) is S.QUARANTINED
    tell(cluster, agent, OWN)
    tell(cluster, agent, HELD_SMALL)
    assert agent.member.inventory.state(SMALL) is S.QUARANTINED


def test_the_servers_files_take_no_room_of_the_quota(cluster: Cluster) -> None:
    agent = cluster.add("small disk", Role.AGENT, platform=NODE, config=NodeConfig(disk_mb_max=100))
    tell(cluster, agent, OWN)
    command = agent.ask(PullModel, model="small")
    cluster.drive()
    assert agent.result(command, PullResult).reason is None
    command = agent.ask(PullModel, model="large")
    cluster.drive()
    assert agent.result(command, PullResult).reason is Reason.DISK_FULL


def test_an_alias_means_what_the_server_has_under_it(cluster: Cluster, agent: Host) -> None:
    other = HeldFile("small-coder:1.5b", "c" * 64, 900 * MIB, "1.5B")
    agent.ask(PullModel, model="small")
    cluster.drive()
    tell(cluster, agent, other, stored=(SMALL.sha256,))
    here = {name for name, row in rows(cluster, agent).items() if row.state == "installed"}
    assert here == {"small", "small-coder:1.5b"}
    command = agent.swap("small-coder:1.5b")
    cluster.drive()
    assert agent.result(command, SwapResult).active == "small-coder:1.5b"
    assert agent.setup.catalog.same_model("small-coder:1.5b") == {"small", "small-coder:1.5b"}
    tell(cluster, agent, stored=(SMALL.sha256,))
    assert agent.setup.catalog.find("small-coder:1.5b", NODE) is SMALL


def test_what_the_store_has_no_longer_is_here_while_the_server_has_it(cluster: Cluster, agent: Host) -> None:
    agent.ask(PullModel, model="small")
    cluster.drive()
    tell(cluster, agent, stored=(SMALL.sha256,))
    agent.take(FileDoubted(SMALL.sha256, Reason.CHECKSUM_MISMATCH))
    assert rows(cluster, agent)["small"].state == "partial"
    tell(cluster, agent, HELD_SMALL)
    assert rows(cluster, agent)["small"].state == "installed"
    agent.take(FileDoubted(SMALL.sha256, Reason.CHECKSUM_MISMATCH))  # at each look
    assert rows(cluster, agent)["small"].state == "installed"
    tell(cluster, agent)
    assert rows(cluster, agent)["small"].state == "absent"


def test_the_same_list_again_changes_nothing(cluster: Cluster, agent: Host) -> None:
    tell(cluster, agent, OWN, HELD_SMALL)
    assert agent.take(FilesHeld((OWN, HELD_SMALL))) == []


# -- from life to life -------------------------------------------------------------------------------------------------


def second_life(snapshot: dict[str, bytes]) -> tuple[Cluster, Host]:
    """The next life of an agent, in a process of its own."""
    cluster = Cluster(catalog=catalog())
    again = cluster.add("agent", Role.AGENT, platform=NODE, start=False)
    again.disk = snapshot
    again.start()
    cluster.run_for(5_000)
    return cluster, again


def test_a_model_of_the_servers_that_was_active_is_loaded_again(cluster: Cluster, agent: Host) -> None:
    tell(cluster, agent, OWN)
    agent.swap("llama3.2:3b")
    cluster.drive()
    _, again = second_life(with_held(agent.disk, None))
    assert again.member.active_model() == ("llama3.2:3b", 3.0)


def test_what_was_gone_when_the_next_life_began_is_absent(cluster: Cluster, agent: Host) -> None:
    tell(cluster, agent, OWN, HELD_SMALL)
    later, again = second_life(with_held(agent.disk, None))
    assert rows(later, again)["llama3.2:3b"].state == "installed"
    tell(later, again, HELD_SMALL)
    assert "llama3.2:3b" not in rows(later, again)


@pytest.mark.parametrize(
    ("before", "after"),
    [(S.ABSENT, S.INSTALLED), (S.PARTIAL, S.INSTALLED), (S.QUARANTINED, S.QUARANTINED), (S.REMOVING, S.REMOVING)],
)
def test_what_the_server_has_at_the_start_is_installed(before: DownloadState, after: DownloadState) -> None:
    snapshot = {INVENTORY_KEY: encode_rows({OWN.sha256: FileRow(before, crashes=1)})}
    row = decode_rows(with_held(snapshot, (OWN,))[INVENTORY_KEY])[OWN.sha256]
    assert (row.state, row.crashes) == (after, 1)


def test_a_damaged_list_is_none(cluster: Cluster) -> None:
    agent = cluster.add("agent", Role.AGENT, platform=NODE, start=False)
    agent.disk = {KEY: b"\xc1"}
    agent.start()
    cluster.drive()
    assert with_held({KEY: b"\xc1"}, None) == {KEY: b"\xc1"}
    tell(cluster, agent, OWN)
    assert rows(cluster, agent)["llama3.2:3b"].state == "installed"


def test_the_list_is_read_as_it_was_written() -> None:
    assert decode_files(encode_files((OWN, HELD_SMALL))) == (OWN, HELD_SMALL)
    assert decode_files(None) == ()
