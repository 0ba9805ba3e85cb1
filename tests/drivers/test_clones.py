"""Two machines with one key at a coordinator, over real sockets: what is noticed, who is told, and who stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgecoder.core.events import QueryStatus
from edgecoder.core.ids import LinkId
from edgecoder.errors import Reason
from edgecoder.trace import IdentityShared, OnlineChanged
from edgecoder_drivers.links.dial import PING_S
from edgecoder_drivers.links.driver import LinksDriver
from tests.drivers.mesh_rig import Member, address, coordinator, get, identity, identity_of, member, run, until
from tests.drivers.test_mesh import _counted

A = identity(1)


async def clones(hub: Any) -> list[dict[str, Any]]:
    """What a coordinator says of copied keys."""
    status, _, body = await get(hub.port, "/healthz")
    assert status == 200
    found: list[dict[str, Any]] = json.loads(body).get("clones", [])
    return found


async def counter(hub: Any, name: str) -> float:
    _, _, body = await get(hub.port, "/metrics")
    return next(float(line.split()[-1]) for line in body.decode().splitlines() if line.startswith(f"{name}_total"))


def stays(node: Member) -> list[bool]:
    return [record.stays for record in node.traced(IdentityShared)]


def test_two_at_once_are_noticed_said_to_all_three_and_the_first_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with coordinator(tmp_path, A.node_id) as hub, member(A, [address(hub)]) as first:
            await until(lambda: _counted(hub, 1))
            assert await clones(hub) == []
            async with member(A, [address(hub)]) as second:
                await until(lambda: stays(second))
                await until(lambda: stays(first))
                assert (stays(first), stays(second)) == ([True], [False])
                (row,) = await until(lambda: clones(hub))
                assert (row["nodeId"], row["stays"], row["other"]) == (A.node_id.hex(), "127.0.0.1", "127.0.0.1")
                assert "node.key" in row["detail"]
                await until(lambda: times(hub, 4))
                assert stays(second) == [False], "and not each time that it comes"
                assert await counter(hub, "edgecoder_clone_seen") == 1
                status: Any = await second.host.ask(QueryStatus)
                assert status.uplinks[0].reason is Reason.CLONED
                assert first.traced(OnlineChanged) == [OnlineChanged(online=True)], "it was never offline"
                assert second.traced(OnlineChanged) == []
                assert await _counted(hub, 1)

    run(test())
    told = [record.message for record in caplog.records if "node.key" in record.message]
    assert sum("clone.seen" in line for line in told) == 1
    assert sum("identity.shared" in line for line in told) == 2


async def times(hub: Any, count: int) -> bool:
    return bool((await clones(hub))[0]["times"] >= count)


def test_when_the_first_ends_the_second_is_let_in(tmp_path: Path) -> None:
    async def test() -> None:
        async with coordinator(tmp_path, A.node_id) as hub:
            async with member(A, [address(hub)]) as first:
                await until(lambda: _counted(hub, 1))
                second_life = member(A, [address(hub)])
                second = await second_life.__aenter__()
                await until(lambda: stays(second))
                assert first.traced(OnlineChanged) == [OnlineChanged(online=True)]
            await until(lambda: second.traced(OnlineChanged))
            assert await _counted(hub, 1)
            await second_life.__aexit__(None, None, None)

    run(test())


def test_a_reconnect_is_no_clone(tmp_path: Path) -> None:
    """Of a link that broke, and of one that the coordinator still takes for alive."""

    async def test() -> None:
        async with coordinator(tmp_path, A.node_id) as hub, member(A, [address(hub)]) as node:
            await until(lambda: _counted(hub, 1))
            for number in range(4):
                (link,) = node.links.open_links.values()
                if number % 2:
                    link.connection.transport.abort()
                else:
                    lose(node.links)
                await until(partial(has_later, node, link.link))
                await until(lambda: online(node))
            await asyncio.sleep(1.5)
            assert await clones(hub) == []
            assert stays(node) == []

    run(test())


def has_later(node: Member, link: LinkId) -> bool:
    return any(each > link for each in node.links.open_links)


def lose(links: LinksDriver) -> None:
    """This end of its only link is lost, and the other hears nothing of it: what is left reads and answers nothing."""
    (link,) = links.open_links.values()
    link.connection.transport.pause_reading()
    link.connection.connection_lost(None)


def online(node: Member) -> bool:
    return node.traced(OnlineChanged)[-1] == OnlineChanged(online=True)


@pytest.mark.parametrize("is_crash", [True, False])
def test_a_restart_is_no_clone(tmp_path: Path, is_crash: bool) -> None:
    """Also of a machine that lost its power, whose link lives on until a ping fails."""
    assert PING_S > 10, "a ping does not find out first"

    async def test() -> None:
        async with coordinator(tmp_path, A.node_id) as hub:
            kept: dict[str, bytes] = {}
            lives: list[Any] = []
            for _ in range(3):
                life = member(A, [address(hub)], kept=kept)
                node = await life.__aenter__()
                await until(partial(node.traced, OnlineChanged))
                kept = dict(node.engine.disk)
                if is_crash:  # nobody reads, writes or closes any more
                    freeze(node)
                    lives.append(life)
                else:
                    await life.__aexit__(None, None, None)
            async with member(A, [address(hub)], kept=kept) as node:
                await until(lambda: node.traced(OnlineChanged))
                assert await clones(hub) == []
                assert await _counted(hub, 1)
            for life in lives:
                await life.__aexit__(None, None, None)

    run(test())


def freeze(node: Member) -> None:
    """As if its machine had no power: nothing is answered, and no socket is closed."""
    for link in node.links.open_links.values():
        link.connection.transport.pause_reading()
    node.host.post = lambda event: None  # type: ignore[method-assign]
    node.links.open(lambda event: None)


def test_a_copied_coordinator_is_noticed_by_another(tmp_path: Path) -> None:
    async def test() -> None:
        copied = identity_of(tmp_path / "one")
        (tmp_path / "copy").mkdir()
        for source in (tmp_path / "one").iterdir():
            target = tmp_path / "copy" / source.name
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
        async with coordinator(tmp_path / "hub", trusted=[copied]) as hub:
            neighbours: Sequence[str] = [address(hub)]
            async with coordinator(tmp_path / "one", neighbours=neighbours):
                await until(lambda: hub.links == (0, 1))
                async with coordinator(tmp_path / "copy", neighbours=neighbours):
                    (row,) = await until(lambda: clones(hub))
                    assert row["nodeId"] == copied.hex()

    run(test())
