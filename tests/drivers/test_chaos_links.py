"""Members and coordinators, and two coordinators, over a network of bad will: heartbeats come back, each task has one
answer, and nothing is left over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from edgecoder.core.effects import Result, TaskResult
from edgecoder.trace import SenderBanned
from edgecoder_drivers.coordinator import Coordinator
from edgecoder_drivers.links import dial
from tests.catalogs import LARGE, SMALL
from tests.drivers.chaos_proxy import ChaosProxy, Faults, between
from tests.drivers.mesh_rig import Member, agents_with, coordinator, identity, identity_of, member, run, until
from tests.drivers.rig import as_kind

A, B = identity(1), identity(2)
TASKS = 6
NETWORKS = {
    "slow": Faults(delay_s=(0.01, 0.2)),
    "narrow": Faults(bytes_per_s=20_000),
    "cuts": Faults(cut_bytes=3_000),
    "half closes": Faults(half_bytes=3_000),
    "turns bits": Faults(flip_bytes=1_500),
    "refuses": Faults(refuses=0.5, cut_bytes=5_000),
    "all at once": Faults(
        delay_s=(0.0, 0.05), bytes_per_s=200_000, refuses=0.2, cut_bytes=8_000, half_bytes=8_000, flip_bytes=8_000
    ),
}


@pytest.fixture(autouse=True)
def quick_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is dead is found out within what a test can wait for."""
    for name, value in {"ping_interval": 1.0, "ping_timeout": 1.0, "close_timeout": 0.5}.items():
        monkeypatch.setitem(dial.COMMON, name, value)


def through(hub: Coordinator, proxy: ChaosProxy) -> str:
    """Where a coordinator is found behind a proxy."""
    return f"{hub.node_id.hex()}@127.0.0.1:{proxy.port}"


async def ask(asks: Member, count: int) -> list[Result]:
    """Ask so many tasks, one after the other; each has one answer, and its parts are those of the answer."""
    results = []
    for number in range(count):
        result, parts = await asks.task(prompt=f"task {number}", model="large", deadline_ms=3_000)
        answer = as_kind(result, TaskResult)
        if answer.reason is None:
            assert (answer.text, "".join(parts)) == ("def add", "def add")
        results.append(result)
    return results


async def answered(asks: Member) -> bool:
    """Whether a task is answered."""
    return as_kind((await ask(asks, 1))[0], TaskResult).reason is None


async def ask_through(proxy: ChaosProxy, name: str, asks: Member) -> None:
    """Ask over one of `NETWORKS`, until it has struck if that is its way."""
    proxy.faults = NETWORKS[name]
    if NETWORKS[name].refuses:
        proxy.cut()
    await ask(asks, TASKS)
    if name not in ("slow", "narrow"):
        await until(lambda: proxy.counts.strikes)


@asynccontextmanager
async def meshed(folder: Path, rng_seed: int) -> AsyncIterator[tuple[Coordinator, Member, Member, ChaosProxy]]:
    """A coordinator; one member behind a proxy that asks, and one that is linked as one should be and answers."""
    async with (
        coordinator(folder, A.node_id, B.node_id) as hub,
        between(hub.port, rng_seed=rng_seed) as proxy,
        member(A, [through(hub, proxy)], held=[SMALL]) as asks,
        member(B, [f"{hub.node_id.hex()}@127.0.0.1:{hub.port}"], held=[LARGE]) as serves,
    ):
        await asks.swap(SMALL)
        await serves.swap(LARGE)
        await until(lambda: agents_with(hub, "large"))
        await until(lambda: agents_with(hub, "small"))
        yield hub, asks, serves, proxy


@pytest.mark.parametrize("name", NETWORKS)
def test_an_agent_behind_a_bad_network(tmp_path: Path, name: str) -> None:
    async def test() -> None:
        async with meshed(tmp_path, rng_seed=7) as (hub, asks, serves, proxy):
            before = proxy.counts.passed_bytes
            await ask_through(proxy, name, asks)
            assert proxy.counts.passed_bytes > before
            proxy.faults = Faults()
            await until(lambda: hub.links == (2, 0))
            await until(lambda: agents_with(hub, "small"))
            await until(lambda: answered(asks))
            await until(lambda: agents_with(hub, "large"))
            assert not any(isinstance(record, SenderBanned) for one in (asks, serves) for record in one.seen.records)

    run(test())


def test_a_cable_that_is_pulled_and_put_back(tmp_path: Path) -> None:
    """Nothing passes and no socket ends: the agent leaves every answer by its silence, and is back after it."""

    async def test() -> None:
        async with meshed(tmp_path, rng_seed=7) as (hub, asks, _, proxy):
            proxy.faults = Faults(is_mute=True)
            asking = asyncio.ensure_future(ask(asks, 2))

            async def is_gone() -> bool:
                return await agents_with(hub, "small") == 0

            await until(is_gone)
            assert all(as_kind(result, TaskResult).reason is not None for result in await asking)
            await until(lambda: hub.links == (1, 0))
            proxy.faults = Faults()
            await until(lambda: agents_with(hub, "small"))
            await until(lambda: answered(asks))
            await until(lambda: hub.links == (2, 0))

    run(test())


@pytest.mark.parametrize("rng_seed", range(3))
def test_links_that_are_cut_again_and_again_leave_nothing(tmp_path: Path, rng_seed: int) -> None:
    async def test() -> None:
        async with meshed(tmp_path, rng_seed) as (hub, asks, _, proxy):

            def has_cut(times: int) -> bool:
                proxy.cut()
                return proxy.counts.cut >= times

            for times in range(1, 11):
                await until(partial(has_cut, times))
            await until(lambda: hub.links == (2, 0))
            await until(lambda: len(asks.links.open_links) == 1)
            await until(lambda: answered(asks))

    run(test())


@pytest.mark.parametrize("name", NETWORKS)
def test_two_coordinators_with_a_bad_network_between(tmp_path: Path, name: str) -> None:
    names = [tmp_path / number for number in ("one", "two")]
    two_id = identity_of(names[1])

    async def test() -> None:
        async with (
            coordinator(names[0], A.node_id, trusted=[two_id]) as one,
            between(one.port, rng_seed=11) as proxy,
            coordinator(names[1], B.node_id, neighbours=[through(one, proxy)]) as two,
            member(A, [f"{one.node_id.hex()}@127.0.0.1:{one.port}"], held=[SMALL]) as asks,
            member(B, [f"{two.node_id.hex()}@127.0.0.1:{two.port}"], held=[LARGE]) as serves,
        ):
            await asks.swap(SMALL)
            await serves.swap(LARGE)
            await until(lambda: answered(asks))
            await ask_through(proxy, name, asks)
            proxy.faults = Faults()
            await until(lambda: one.links == two.links == (1, 1))
            await until(lambda: answered(asks))

    run(test())
