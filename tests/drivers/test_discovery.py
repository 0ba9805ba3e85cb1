"""Nodes find their coordinators: on the network, and by what others of the federation tell; over real sockets."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from edgecoder.core.effects import ModelStatus, UplinkRow
from edgecoder.core.events import QueryStatus
from edgecoder.errors import Reason
from edgecoder.journal.replay import replay
from edgecoder.mesh.spares import KEY
from edgecoder.trace import HomeChanged, OnlineChanged
from edgecoder_drivers.lan.announce import announced
from tests.drivers.coordinator_process import CoordinatorProcess
from tests.drivers.device_process import DeviceProcess, make_models
from tests.drivers.mesh_rig import CLUSTER, Member, address, coordinator, identity, identity_of, member, run, until
from tests.drivers.test_coordinator_process import edgecoder, eventually

A = identity(1)


def own_network() -> Any:
    """A cluster of which nobody else on this machine's loopback is."""
    return msgspec.structs.replace(CLUSTER, network_id=f"test-{secrets.token_hex(8)}")


async def uplinks(node: Member) -> tuple[UplinkRow, ...]:
    status = await node.host.ask(QueryStatus)
    assert isinstance(status, ModelStatus)
    return status.uplinks


def test_a_node_that_knows_the_id_alone_finds_its_coordinator_and_finds_it_again_elsewhere(tmp_path: Path) -> None:
    async def test() -> None:
        cluster, hub_id = own_network(), identity_of(tmp_path)
        async with member(A, [hub_id.hex()], cluster=cluster) as node:
            await asyncio.sleep(0.2)
            assert (await uplinks(node))[0].reason is Reason.NO_ADDRESS
            ports = []
            for _ in range(2):
                async with coordinator(tmp_path, A.node_id, cluster=cluster, announce=True) as hub:
                    await until(lambda: node.traced(OnlineChanged)[-1:] == [OnlineChanged(online=True)])
                    assert (await uplinks(node))[0].endpoint == f"127.0.0.1:{hub.port}"
                    ports.append(hub.port)
                await until(lambda: node.traced(OnlineChanged)[-1] == OnlineChanged(online=False))
            assert ports[0] != ports[1]

    run(test())


def test_one_whose_address_is_wrong_is_found_where_that_is_wanted(tmp_path: Path) -> None:
    async def test() -> None:
        cluster, hub_id = own_network(), identity_of(tmp_path)
        gone = f"{hub_id.hex()}@127.0.0.1:1"
        async with (
            coordinator(tmp_path, A.node_id, cluster=cluster, announce=True),
            member(A, [gone], cluster=cluster, discover=True) as node,
        ):
            await until(lambda: node.traced(OnlineChanged))

    run(test())


def test_who_announces_the_id_of_another_gets_no_link(tmp_path: Path) -> None:
    """A stranger says that he is the coordinator. He is dialled, and cannot prove it; then comes the true one."""

    async def test() -> None:
        cluster, hub_id = own_network(), identity_of(tmp_path / "hub")
        async with (
            member(A, [hub_id.hex()], cluster=cluster) as node,
            coordinator(tmp_path / "liar", A.node_id, cluster=cluster) as liar,
            announced(hub_id, cluster.network_id, "127.0.0.1", liar.port),
        ):
            await until(lambda: refused(node))
            assert liar.links == (0, 0)
            async with coordinator(tmp_path / "hub", A.node_id, cluster=cluster, announce=True):
                await until(lambda: node.traced(OnlineChanged))
                assert [record.coordinator for record in node.traced(HomeChanged)] == [hub_id]

    run(test())


async def refused(node: Member) -> bool:
    return (await uplinks(node))[0].reason is Reason.UNKNOWN_SENDER


def test_on_loopback_nobody_is_announced_unless_asked_for(tmp_path: Path) -> None:
    async def test() -> None:
        cluster, hub_id = own_network(), identity_of(tmp_path)
        async with (
            coordinator(tmp_path, A.node_id, cluster=cluster),
            member(A, [hub_id.hex()], cluster=cluster) as node,
        ):
            await asyncio.sleep(1.5)
            assert (await uplinks(node))[0].reason is Reason.NO_ADDRESS

    run(test())


def test_a_node_that_was_given_one_coordinator_learns_of_the_spare_and_keeps_it(tmp_path: Path) -> None:
    async def test() -> None:
        one_id, two_id = identity_of(tmp_path / "one"), identity_of(tmp_path / "two")
        kept: dict[str, bytes] = {}
        async with coordinator(tmp_path / "two", A.node_id, trusted=[one_id]) as two:
            async with coordinator(tmp_path / "one", A.node_id, neighbours=[address(two)]) as one:
                given = [address(one)]
                async with member(A, given) as node:
                    await until(lambda: two.links[0] == 1)
                    rows = await uplinks(node)
                    assert [(row.coordinator, row.is_told) for row in rows] == [(one_id, False), (two_id, True)]
                    assert rows[1].endpoint == f"127.0.0.1:{two.port}"
                    await until(lambda: KEY in node.engine.disk)
                    kept = dict(node.engine.disk)
            async with member(A, given, kept=kept) as node:
                await until(lambda: node.traced(OnlineChanged))
                assert [record.coordinator for record in node.traced(HomeChanged)] == [two_id]

    run(test())


def test_a_coordinator_that_moved_is_found_by_what_it_has_told_another(tmp_path: Path) -> None:
    async def test() -> None:
        one_id = identity_of(tmp_path / "one")
        async with (
            coordinator(tmp_path / "two", A.node_id, trusted=[one_id]) as two,
            coordinator(tmp_path / "one", A.node_id, neighbours=[address(two)]) as one,
            member(A, [f"{one_id.hex()}@127.0.0.1:1", address(two)]) as node,
        ):
            await until(lambda: one.links[0] == 1)
            assert (await uplinks(node))[0].endpoint == f"127.0.0.1:{one.port}"

    run(test())


def test_the_journal_of_a_coordinator_that_signs_where_it_is_is_lived_again(tmp_path: Path) -> None:
    journal = tmp_path / "life.journal"

    async def test() -> None:
        one_id = identity_of(tmp_path / "one")
        async with (
            coordinator(tmp_path / "two", A.node_id, trusted=[one_id], journal=journal) as two,
            coordinator(tmp_path / "one", neighbours=[address(two)]),
            member(A, [address(two)]) as node,
        ):
            await until(lambda: two.links == (1, 1))
            await until(lambda: _told(node))

    run(test())
    (replayed,) = replay(journal)
    assert replayed.difference is None


async def _told(node: Member) -> bool:
    return len(await uplinks(node)) == 2


# -- as processes ------------------------------------------------------------------------------------------------------


def find(*args: str) -> subprocess.CompletedProcess[str]:
    return edgecoder("coordinator", "find", "--discover-at", "127.0.0.1", *args)


def test_a_newcomer_finds_a_coordinator_and_needs_no_address(tmp_path: Path) -> None:
    name = f"cluster.network_id=test-{secrets.token_hex(8)}"
    make_models(tmp_path, 1)
    catalog = str(tmp_path / "catalog.json")
    with CoordinatorProcess(tmp_path / "hub", "--announce", "--set", name, "--catalog", catalog) as hub:
        found = eventually(lambda: (ran := find("--seconds", "1", "--set", name)).returncode == 0 and ran)
        assert found.stdout == f"{hub.address}\n"
        assert "any id" in found.stderr
        said = msgspec.json.decode(find("--json", "--set", name).stdout)
        assert said["coordinators"] == [{"coordinatorId": hub.node, "endpoints": [f"127.0.0.1:{hub.port}"]}]
        quick = ("--set", "cluster.heartbeat_interval_ms=500", "--set", "cluster.agent_alive_ms=1500")
        options = ("--discover-at", "127.0.0.1", "--coordinator", hub.node, "--join", hub.invite(), "--set", name)
        with DeviceProcess(tmp_path, *quick, *options) as device:
            eventually(lambda: device.status()["online"])
            assert device.status()["coordinators"][0]["endpoint"] == f"127.0.0.1:{hub.port}"
    assert find("--seconds", "0.5", "--set", name).returncode == 1


def test_what_is_no_coordinator_or_no_address_is_said_in_a_line() -> None:
    wrong = edgecoder("agent", "--coordinator", "ab@cd")
    assert wrong.returncode == 2
    assert "give ID@HOST:PORT" in wrong.stderr
    wrong = edgecoder("coordinator", "find", "--discover-at", "192.0.2.250")
    assert wrong.returncode == 2
    assert "no address of this machine" in wrong.stderr
    nobody = find("--seconds", "0.2", "--set", f"cluster.network_id=test-{secrets.token_hex(8)}")
    assert nobody.returncode == 1
    assert "announces itself" in nobody.stderr
    assert nobody.stdout == ""
