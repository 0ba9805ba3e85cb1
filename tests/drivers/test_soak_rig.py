"""What the soak measures with: wires that can be cut, slopes, and what the system says of a process."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress

import pytest

from benchmarks.soak import COUNTS, wrong_of
from tests.drivers.cutting import Relay
from tests.drivers.procfs import children_of, is_running, use_of
from tests.drivers.soak_gauges import BLOCKS, Slope, mean_slope, slope_of


def test_a_wire_that_is_cut_ends_and_one_that_stalls_does_not() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def live() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        relay = Relay(server.sockets[0].getsockname()[1])
        await relay.start()
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            writer.write(b"a")
            assert await reader.read(1) == b"a"
            assert relay.stall(1.0, random.Random(1)) == 1
            writer.write(b"b")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.1)
            assert relay.cut(1.0, random.Random(1)) == 1
            with suppress(ConnectionError):
                assert await reader.read(1) == b""
            writer.close()
            await relay.stop()
            server.close()
            await server.wait_closed()

    asyncio.run(live())


def test_a_slope_is_told_with_its_interval() -> None:
    rng = random.Random(1)
    points = [(second, 50 + 3 * second / 3600 + rng.gauss(0, 0.1)) for second in range(0, 3600, 15)]
    slope = slope_of([(float(at), value) for at, value in points])
    assert slope is not None
    assert slope.low < 3 < slope.high
    assert slope.high - slope.low < 0.5
    assert slope_of([(float(at), 1.0) for at in range(2 * BLOCKS - 1)]) is None
    assert mean_slope([Slope(1, 0, 2), Slope(3, 2, 4)]) == Slope(2, -10.71, 14.71)


def test_the_system_tells_of_a_process() -> None:
    use = use_of(os.getpid())
    assert use is not None
    assert use.pss_mib >= use.private_mib > 1
    assert use.files > 2
    with os.fdopen(os.open(os.devnull, os.O_RDONLY)):
        more = use_of(os.getpid())
        assert more is not None
        assert more.files == use.files + 1
    child = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    assert child in children_of(os.getpid())
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert not is_running(child)
    assert use_of(child) is None


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("count", [1, None])
def test_a_soak_is_judged_by_each_of_its_counts(name: str, count: int | None) -> None:
    well = {**dict.fromkeys(COUNTS, 0), "agent_files": -2, "tasks_done_share": 0.9, "killed": 7, "agent_threads": 3}
    assert wrong_of(well) == []
    assert wrong_of({**well, name: count}) == [f"{name} is {count}, not 0"]


def test_a_soak_that_got_nothing_done_is_wrong() -> None:
    assert wrong_of({**dict.fromkeys(COUNTS, 0), "tasks_done_share": 0.0}) == ["no task was done"]
