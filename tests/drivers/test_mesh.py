"""Whole meshes over real sockets: heartbeats, swaps, tasks, two coordinators, the fall of one; nothing is left over."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from edgecoder.core.effects import TaskResult
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.journal.replay import replay
from edgecoder.trace import HomeChanged, OnlineChanged, UplinkChanged
from edgecoder_drivers.links.address import PATH
from edgecoder_drivers.links.admission import Kind
from edgecoder_drivers.links.tls import client_context, own_certificate, server_context
from tests.catalogs import LARGE, SMALL
from tests.drivers.mesh_rig import (
    address,
    agents_with,
    capabilities,
    coordinator,
    identity,
    identity_of,
    member,
    run,
    until,
)
from tests.drivers.rig import as_kind

A, B, C = identity(1), identity(2), identity(3)


def test_an_agent_reports_and_a_swap_changes_the_coordinators_answer(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            coordinator(tmp_path, A.node_id) as hub,
            member(A, [address(hub)], held=[SMALL, LARGE]) as agent,
        ):
            (row,) = await until(lambda: _counted(hub, 1))
            assert row["modelAvailability"] == {}
            await agent.swap(SMALL)
            await until(lambda: agents_with(hub, "small"))
            (row,) = await capabilities(hub, "?model=small-coder:1.5b")
            assert row["modelAvailability"]["small"] == {
                "agentCount": 1,
                "totalParamCapacity": 1.5,
                "avgLoad": 0.0,
                "freeSlots": 1,
            }
            await agent.swap(LARGE)
            await until(lambda: agents_with(hub, "large"))
            assert await capabilities(hub, "?model=small") == []
            assert await capabilities(hub, "?minParamSize=8") == []
            assert agent.traced(OnlineChanged) == [OnlineChanged(online=True)]
            assert hub.links == (1, 0)

    run(test())


async def _counted(hub: Any, agents: int) -> Any:
    rows = await capabilities(hub)
    return rows if sum(row["agentCount"] for row in rows) == agents else None


def test_an_agent_that_goes_leaves_every_answer(tmp_path: Path) -> None:
    async def test() -> None:
        async with coordinator(tmp_path, A.node_id) as hub:
            async with member(A, [address(hub)], held=[SMALL]) as agent:
                await agent.swap(SMALL)
                await until(lambda: agents_with(hub, "small"))
            await until(lambda: _counted(hub, 0))
            assert await capabilities(hub, "?model=small") == []
            assert hub.links == (0, 0)

    run(test())


@pytest.mark.parametrize("stream", [True, False])
def test_a_task_is_answered_by_another_agent(tmp_path: Path, stream: bool) -> None:
    async def test() -> None:
        async with (
            coordinator(tmp_path, A.node_id, B.node_id) as hub,
            member(A, [address(hub)], held=[SMALL]) as asks,
            member(B, [address(hub)], held=[LARGE]) as serves,
        ):
            await asks.swap(SMALL)
            await serves.swap(LARGE)
            await until(lambda: agents_with(hub, "large"))
            result, parts = await asks.task(prompt="add two numbers", model="large", stream=stream)
            answer = as_kind(result, TaskResult)
            assert (answer.reason, answer.text) == (None, "def add")
            assert (answer.served_by, answer.model) == (serves.node_id, "large")
            assert parts == (["def ", "add"] if stream else [])

    run(test())


def test_two_coordinators_find_each_others_agents(tmp_path: Path) -> None:
    async def test() -> None:
        names = [tmp_path / name for name in ("one", "two")]
        one_id, two_id = (identity_of(folder) for folder in names)
        async with coordinator(names[0], A.node_id, trusted=[two_id]) as one:
            async with (
                coordinator(names[1], B.node_id, neighbours=[address(one)]) as two,
                member(A, [address(one)], held=[SMALL]) as asks,
                member(B, [address(two)], held=[LARGE]) as serves,
            ):
                await asks.swap(SMALL)
                await serves.swap(LARGE)

                async def all_know() -> bool:
                    wanted = {(one_id.hex(), "small"), (two_id.hex(), "large")}
                    return all([await _models(hub) == wanted for hub in (one, two)])

                await until(all_know)
                assert [row["coordinatorId"] for row in await capabilities(one, "?model=large")] == [two_id.hex()]
                result, parts = await asks.task(prompt="add", model="large")
                answer = as_kind(result, TaskResult)
                assert (answer.reason, answer.served_by, parts) == (None, serves.node_id, ["def ", "add"])
                assert one.links == two.links == (1, 1)
            await until(lambda: _alone(one))

    run(test())


async def _models(hub: Any) -> set[tuple[str, str]]:
    """Who has which model, as a coordinator says."""
    return {(row["coordinatorId"], name) for row in await capabilities(hub) for name in row["modelAvailability"]}


async def _alone(hub: Any) -> bool:
    return [row["coordinatorId"] for row in await capabilities(hub)] == [hub.node_id.hex()]


def test_coordinators_that_dial_each_other_keep_one_link(tmp_path: Path) -> None:
    async def test() -> None:
        names = [tmp_path / name for name in ("one", "two")]
        two_id = identity_of(names[1])
        ports: list[int] = []
        async with coordinator(names[1]) as probe:
            ports.append(probe.port)
        async with (
            coordinator(names[0], neighbours=[f"{two_id.hex()}@127.0.0.1:{ports[0]}"]) as one,
            coordinator(names[1], neighbours=[address(one)], port=ports[0]) as two,
        ):
            await until(lambda: one.links == two.links == (0, 1))
            await asyncio.sleep(0.5)
            assert one.links == two.links == (0, 1)

    run(test())


def test_agents_go_to_the_spare_when_their_coordinator_ends(tmp_path: Path) -> None:
    async def test() -> None:
        async with coordinator(tmp_path / "two", A.node_id) as two:
            async with coordinator(tmp_path / "one", A.node_id) as one:
                agent_life = member(A, [address(one), address(two)], held=[SMALL])
                agent = await agent_life.__aenter__()
                await agent.swap(SMALL)
                await until(lambda: agents_with(one, "small"))
                await until(lambda: two.links == (1, 0))
            await until(lambda: agents_with(two, "small"))
            homes = [record.coordinator for record in agent.traced(HomeChanged)]
            assert homes == [one.node_id, two.node_id]
            assert agent.traced(OnlineChanged) == [OnlineChanged(online=True)], "it was never offline"
            await agent_life.__aexit__(None, None, None)

    run(test())


def test_a_coordinator_that_comes_back_is_found_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with coordinator(tmp_path, A.node_id) as first:
            port = first.port
            agent_life = member(A, [address(first)], held=[SMALL])
            agent = await agent_life.__aenter__()
            await agent.swap(SMALL)
            await until(lambda: agents_with(first, "small"))
        await until(lambda: agent.traced(OnlineChanged)[-1] == OnlineChanged(online=False))
        async with coordinator(tmp_path, A.node_id, port=port) as again:
            await until(lambda: agents_with(again, "small"))
            assert agent.traced(OnlineChanged)[-1] == OnlineChanged(online=True)
            await agent_life.__aexit__(None, None, None)

    run(test())


def test_a_token_lets_one_node_in_for_good(tmp_path: Path) -> None:
    async def test() -> None:
        async with coordinator(tmp_path) as hub:
            token, port = hub.admission.invite(), hub.port
            async with member(A, [address(hub)], tokens=["another", token]):
                await until(lambda: hub.links == (1, 0))
                async with member(B, [address(hub)], tokens=["another", token]) as late:
                    await until(lambda: _refused(late, Reason.UNKNOWN_SENDER))
            async with member(A, [address(hub)]):
                await until(lambda: hub.links == (1, 0))
        async with coordinator(tmp_path, port=port) as again, member(A, [address(again)]):
            await until(lambda: again.links == (1, 0))

    run(test())


def test_a_token_for_a_member_makes_no_coordinator(tmp_path: Path) -> None:
    async def test() -> None:
        async with coordinator(tmp_path / "one") as hub:
            token = hub.admission.invite(Kind.MEMBER)
            async with member(A, [address(hub)], tokens=[token], role=Role.COORDINATOR) as liar:
                await until(lambda: _refused(liar, Reason.UNKNOWN_SENDER))
            assert hub.links == (0, 0)

    run(test())


def test_a_listed_member_is_no_coordinator(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            coordinator(tmp_path, A.node_id) as hub,
            member(A, [address(hub)], role=Role.COORDINATOR) as liar,
        ):
            await until(lambda: _refused(liar, Reason.UNKNOWN_SENDER))
            assert hub.links == (0, 0)

    run(test())


def test_who_is_not_listed_is_told_so_and_gets_no_link(tmp_path: Path) -> None:
    async def test() -> None:
        async with coordinator(tmp_path, A.node_id) as hub, member(C, [address(hub)]) as stranger:
            await until(lambda: _refused(stranger, Reason.UNKNOWN_SENDER))
            assert hub.links == (0, 0)
            assert await _counted(hub, 0)

    run(test())


def test_a_node_does_not_take_another_for_its_coordinator(tmp_path: Path) -> None:
    async def test() -> None:
        async with coordinator(tmp_path, A.node_id) as hub:
            wrong = f"{B.node_id.hex()}@127.0.0.1:{hub.port}"
            async with member(A, [wrong]) as agent:
                await until(lambda: agent.traced(UplinkChanged)[-1:] and agent.traced(UplinkChanged)[-1].reason)
                assert agent.traced(UplinkChanged)[-1].reason is Reason.UNKNOWN_SENDER
                assert hub.links == (0, 0)

    run(test())


def _refused(node: Any, reason: Reason) -> bool:
    changes = node.traced(UplinkChanged)
    return bool(changes) and changes[-1].reason is reason


def test_the_journal_of_a_coordinator_is_lived_again(tmp_path: Path) -> None:
    journal = tmp_path / "life.journal"

    async def test() -> None:
        async with (
            coordinator(tmp_path, A.node_id, B.node_id, journal=journal) as hub,
            member(A, [address(hub)]) as asks,
            member(B, [address(hub)], held=[LARGE]) as serves,
        ):
            await serves.swap(LARGE)
            await until(lambda: agents_with(hub, "large"))
            assert as_kind((await asks.task(prompt="add", model="large"))[0], TaskResult).reason is None

    run(test())
    (replayed,) = replay(journal)
    assert replayed.difference is None
    assert replayed.events > 10


def test_over_tls_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    """On all addresses of this machine, so with TLS: also for those who dial over loopback."""

    async def test() -> None:
        async with coordinator(tmp_path, A.node_id, B.node_id, host="0.0.0.0") as hub:
            assert not hub.is_plain
            own = socket.gethostbyname(socket.gethostname())
            async with member(A, [address(hub)]), member(B, [address(hub, own)]):
                await until(lambda: hub.links == (2, 0))

    run(test())


@pytest.mark.parametrize("has_tls", [True, False])
def test_somebody_in_between_is_found_out(tmp_path: Path, has_tls: bool) -> None:
    """Who passes everything on, over a certificate of his own or over none, is no way to the coordinator."""
    tls = None
    if has_tls:
        pem = own_certificate(tmp_path, ("hub.example",))
        tls = server_context(pem, pem)[0]

    async def test() -> None:
        async with coordinator(tmp_path / "hub", A.node_id, host="0.0.0.0") as hub:
            passed: list[bytes] = []

            async def between(near: ServerConnection) -> None:
                async with connect(f"wss://127.0.0.1:{hub.port}{PATH}", ssl=client_context(), proxy=None) as far:
                    for source, target in ((near, far), (far, near), (near, far), (far, near)):
                        message = await source.recv()
                        assert isinstance(message, bytes)
                        passed.append(message)
                        await target.send(message)

            async with serve(between, "127.0.0.1", 0, ssl=tls) as server:
                port = server.sockets[0].getsockname()[1]
                async with member(A, [f"{hub.node_id.hex()}@127.0.0.1:{port}"]) as agent:
                    await until(lambda: _refused(agent, Reason.BAD_SIGNATURE))
                    assert len(passed) == 2, "a hello and a challenge; the agent proves nothing then"
                    assert hub.links == (0, 0)

    run(test())
