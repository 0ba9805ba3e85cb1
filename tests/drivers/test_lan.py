"""Coordinators on a network: announced, heard, and nothing believed that a stranger could gain by. Over the multicast
of loopback; each test has a network name of its own, since all that run at once hear each other."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import ServiceInfo
from zeroconf._dns import DNSQuestion
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from edgecoder.core.effects import Browse
from edgecoder.core.events import CoordinatorSeen
from edgecoder.core.ids import NodeId
from edgecoder.protocol import ENDPOINTS_MAX
from edgecoder_drivers.lan import browse, networks
from edgecoder_drivers.lan.announce import announced
from edgecoder_drivers.lan.browse import HEARD_MAX, BrowseDriver, _Names
from edgecoder_drivers.lan.find import find
from edgecoder_drivers.lan.health import check_seen, checks
from edgecoder_drivers.lan.networks import Interface, is_near, own_interfaces, speaking_at
from edgecoder_drivers.lan.records import SERVICE, Announced, made, read
from tests.drivers.links_rig import Post
from tests.drivers.mesh_rig import identity, run, until

LOOPBACK = ("127.0.0.1",)
NODE, OTHER = identity(1).node_id, identity(2).node_id
OFFICE: Sequence[Interface] = (ipaddress.ip_interface("10.0.0.2/24"), ipaddress.ip_interface("fd00::2/64"))


def network() -> str:
    return f"test-{secrets.token_hex(8)}"


class Listening:
    """A driver that listens at loopback."""

    def __init__(self, network_id: str, *wanted: NodeId) -> None:
        self.post = Post()
        self.driver = BrowseDriver(network_id, LOOPBACK)
        self.driver.open(self.post.events.append)
        if wanted:
            self.browse(*wanted)

    def browse(self, *wanted: NodeId) -> None:
        self.driver.effects()[Browse](Browse(wanted))

    def has_seen(self, event: CoordinatorSeen) -> bool:
        return event in self.seen()

    def seen(self) -> list[CoordinatorSeen]:
        return self.post.of(CoordinatorSeen)


# -- what is announced is heard ----------------------------------------------------------------------------------------


def test_who_is_announced_is_seen_and_who_ends_is_found_no_more() -> None:
    async def test() -> None:
        name = network()
        listening = Listening(name, NODE)
        async with announced(NODE, name, "127.0.0.1", 4301):
            await until(listening.seen)
            assert listening.seen()[0] == CoordinatorSeen(NODE, ("127.0.0.1:4301",))
            assert await find(name, LOOPBACK, 3.0) == [Announced(NODE, name, ("127.0.0.1:4301",))]
        assert await find(name, LOOPBACK, 0.5) == []
        await listening.driver.close()

    run(test())


def test_whoever_begins_to_listen_later_hears_of_those_that_are_there() -> None:
    async def test() -> None:
        name = network()
        async with announced(NODE, name, "127.0.0.1", 4301), announced(OTHER, name, "127.0.0.1", 4302):
            await until(lambda: find(name, LOOPBACK, 0.5))
            listening = Listening(name, NODE, OTHER)
            await until(lambda: len({event.coordinator for event in listening.seen()}) == 2)
            await listening.driver.close()

    run(test())


def test_one_that_comes_back_elsewhere_is_seen_there() -> None:
    async def test() -> None:
        name = network()
        listening = Listening(name, NODE)
        for port in (4301, 4302):
            async with announced(NODE, name, "127.0.0.1", port):
                there = CoordinatorSeen(NODE, (f"127.0.0.1:{port}",))
                await until(partial(listening.has_seen, there))
        await listening.driver.close()

    run(test())


def test_what_is_not_wanted_is_not_posted_until_it_is() -> None:
    async def test() -> None:
        name = network()
        listening = Listening(name, OTHER)
        async with announced(NODE, name, "127.0.0.1", 4301):
            await until(lambda: NODE in listening.driver._heard)
            assert listening.seen() == []
            listening.browse(OTHER, NODE)
            assert listening.seen() == [CoordinatorSeen(NODE, ("127.0.0.1:4301",))]
        await listening.driver.close()

    run(test())


def test_another_network_is_not_heard() -> None:
    async def test() -> None:
        name = network()
        listening = Listening(name, NODE)
        async with (
            announced(NODE, network(), "127.0.0.1", 4301),
            announced(OTHER, name, "127.0.0.1", 4302),
        ):
            await until(lambda: OTHER in listening.driver._heard)
            assert await find(name, LOOPBACK, 3.0) == [Announced(OTHER, name, ("127.0.0.1:4302",))]
            assert NODE not in listening.driver._heard
        await listening.driver.close()

    run(test())


def test_answers_are_wanted_by_all_since_one_to_this_machine_may_reach_another_socket_on_it() -> None:
    """An answer to a question with the unicast bit is delivered to one socket of those that are bound to the port."""

    async def test() -> None:
        name, loop = network(), asyncio.get_running_loop()
        asked: list[DNSQuestion] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as group:
            group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            group.bind(("224.0.0.251", 5353))
            membership = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
            group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            group.setblocking(False)
            finding = asyncio.create_task(find(name, LOOPBACK, 3.0))
            while not asked:
                packet = DNSIncoming(await loop.sock_recv(group, 9_000))
                asked += [question for question in packet.questions if question.name == SERVICE]
            await finding
        assert not any(question.unicast for question in asked)

    run(test())


def test_nobody_listens_before_the_core_wants_it() -> None:
    async def test() -> None:
        listening = Listening(network())
        assert listening.driver._task is None
        await listening.driver.close()

    run(test())


def no_multicast(interfaces: list[str]) -> AsyncZeroconf:
    raise OSError(19, f"No such device: {interfaces}")


def test_a_machine_without_a_network_goes_on_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        name = network()
        here: list[Interface] = []
        monkeypatch.setattr("edgecoder_drivers.lan.presence.LOOK_S", 0.02)
        monkeypatch.setattr("edgecoder_drivers.lan.presence.speaking_at", lambda chosen: list(here))
        listening = Listening(name, NODE)
        async with announced(NODE, name, "127.0.0.1", 4301):
            await asyncio.sleep(0.1)
            assert listening.seen() == []
            with monkeypatch.context() as broken:
                broken.setattr("edgecoder_drivers.lan.presence.AsyncZeroconf", no_multicast)
                here[:] = speaking_at(LOOPBACK)
                await asyncio.sleep(0.1)
                assert listening.seen() == []
            here[:] = speaking_at(LOOPBACK)
            await until(listening.seen)
        await listening.driver.close()

    run(test())


# -- what strangers say ------------------------------------------------------------------------------------------------


def info(
    properties: dict[Any, Any] | None = None, addresses: Sequence[str] = ("10.0.0.7",), port: int = 4301
) -> AsyncServiceInfo:
    said = {"id": NODE.hex(), "net": "edgecoder"} if properties is None else properties
    packed = [ipaddress.ip_address(address).packed for address in addresses]
    return AsyncServiceInfo(SERVICE, f"x.{SERVICE}", port=port, addresses=packed, properties=said, server="x.local.")


def test_what_is_made_can_be_read() -> None:
    assert read(made(NODE, "edgecoder", 4301, "0000", OFFICE), OFFICE) == Announced(
        NODE, "edgecoder", ("10.0.0.2:4301", "[fd00::2]:4301")
    )


@pytest.mark.parametrize(
    "false",
    [
        info({}),
        info({"id": NODE.hex()}),
        info({"id": None, "net": None}),
        info({"id": "zz" * 32, "net": "edgecoder"}),
        info({"id": NODE.hex()[:-2], "net": "edgecoder"}),
        info({"id": b"\xff" * 64, "net": "edgecoder"}),
        info({"id": NODE.hex(), "net": b"\xff\xfe"}),
        info({"id": NODE.hex(), "net": "x" * 33}),
        info(port=0),
        info(addresses=()),
    ],
)
def test_records_that_name_no_coordinator_say_nothing(false: AsyncServiceInfo) -> None:
    assert read(false, OFFICE) is None


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "0.0.0.0", "255.255.255.255", "224.0.0.251", "93.184.216.34", "10.0.1.7", "fe80::1"]
)
def test_an_address_of_another_network_is_not_believed(address: str) -> None:
    """Nobody has this machine dial its own services, or somebody who is far away."""
    assert read(info(addresses=(address,)), OFFICE) is None
    found = read(info(addresses=(address, "10.0.0.7")), OFFICE)
    assert found is not None
    assert found.endpoints == ("10.0.0.7:4301",)


def test_loopback_is_believed_where_one_listens_there_alone() -> None:
    here = speaking_at(LOOPBACK)
    assert [str(each.ip) for each in here] == ["127.0.0.1"]
    assert is_near("127.0.0.1", here)
    assert not is_near("10.0.0.7", here)


def test_addresses_are_few() -> None:
    found = read(info(addresses=[f"10.0.0.{number}" for number in range(3, 90)]), OFFICE)
    assert found is not None
    assert len(found.endpoints) == ENDPOINTS_MAX


def test_where_nothing_is_chosen_it_is_all_but_loopback() -> None:
    for chosen in ((), ("0.0.0.0",), ("::",)):
        assert not any(each.ip.is_loopback for each in speaking_at(chosen))
    assert speaking_at(("192.0.2.250",)) == []
    assert "127.0.0.1" in [str(each.ip) for each in own_interfaces()]


@given(st.dictionaries(st.binary(max_size=9), st.none() | st.binary(max_size=80), max_size=4), st.integers(0, 65_535))
def test_any_record_is_read_or_refused(properties: dict[bytes, bytes | None], port: int) -> None:
    said = {key.replace(b"=", b"") or b"k": value for key, value in properties.items()}
    found = read(info(said, port=port), OFFICE)
    assert found is None or len(found.node) == 32


def test_one_coordinator_is_not_posted_often_and_few_of_its_addresses() -> None:
    async def test() -> None:
        listening = Listening("edgecoder", NODE)
        for number in range(5_000):
            listening.driver.seen(Announced(NODE, "edgecoder", (f"10.{number % 250}.0.1:1",)))
        assert len(listening.seen()) == 1
        await until(lambda: len(listening.seen()) == 2)
        assert all(len(event.endpoints) <= ENDPOINTS_MAX for event in listening.seen())
        await listening.driver.close()

    run(test())


def test_who_is_heard_is_remembered_to_a_bound_and_who_is_wanted_is_kept() -> None:
    async def test() -> None:
        listening = Listening("edgecoder", NODE)
        for number in range(3 * HEARD_MAX):
            node = NODE if number == 0 else number.to_bytes(32, "big")
            listening.driver.seen(Announced(node, "edgecoder", ("10.0.0.7:4301",)))
        assert len(listening.driver._heard) == HEARD_MAX
        assert NODE in listening.driver._heard
        assert len(listening.seen()) == 1
        await listening.driver.close()

    run(test())


def test_packets_that_are_none_and_names_that_nobody_answers_for_break_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of every kind at the port of multicast DNS, and a crowd of names without records."""
    monkeypatch.setattr(browse, "ANSWER_MS", 100)

    async def test() -> None:
        name = network()
        listening = Listening(name, NODE)
        stranger = AsyncZeroconf(interfaces=["127.0.0.1"])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            for number in range(200):
                raw.sendto(secrets.token_bytes(number), ("224.0.0.251", 5353))
        for number in range(40):
            lying = ServiceInfo(
                SERVICE,
                f"{name}-{number}.{SERVICE}",
                port=number,
                addresses=[socket.inet_aton("8.8.8.8")],
                properties={"id": NODE.hex() if number % 2 else "no id", "net": name},
                server=f"{name}-{number}.local.",
            )
            await stranger.async_register_service(lying, cooperating_responders=True)
        async with announced(NODE, name, "127.0.0.1", 4301):
            await until(listening.seen)
            assert listening.seen()[0].endpoints == ("127.0.0.1:4301",)
        await stranger.async_close()
        await listening.driver.close()

    run(test())


def test_more_names_than_may_wait_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers for them; one whose records are asked for in vain keeps no other from its turn."""
    monkeypatch.setattr(browse, "NAMES_MAX", 3)
    asked: list[str] = []

    async def nobody(self: AsyncServiceInfo, *_: Any, **__: Any) -> bool:
        asked.append(self.name)
        await asyncio.sleep(0)
        raise OSError("the network is gone")

    monkeypatch.setattr(AsyncServiceInfo, "async_request", nobody)

    async def test() -> None:
        zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"])
        names = browse._Names(OFFICE, lambda info, at: None)
        for number in range(100):
            names.add_service(zeroconf.zeroconf, SERVICE, f"{number}.{SERVICE}")
        names.update_service(zeroconf.zeroconf, SERVICE, "x._other._tcp.local.")
        asking = asyncio.create_task(names.ask(zeroconf.zeroconf))
        await until(lambda: len(asked) == 3)
        await asyncio.sleep(0.1)
        assert asked == [f"{number}.{SERVICE}" for number in range(3)]
        asking.cancel()
        await asyncio.wait({asking})
        await zeroconf.async_close()

    run(test())


# -- for its user ------------------------------------------------------------------------------------------------------


def test_doctor_says_who_is_seen() -> None:
    async def test() -> None:
        name = network()
        async with announced(NODE, name, "127.0.0.1", 4301):
            await until(lambda: find(name, LOOPBACK, 0.5))
            here, gone = await check_seen([NODE, OTHER], name, LOOPBACK)
        assert (here.ok, here.detail) == (True, "announced at 127.0.0.1:4301")
        assert not gone.ok
        assert "coordinator find" in gone.hint
        (alone,) = await check_seen([NODE], name, ("192.0.2.250",))
        assert "no network" in alone.detail

    run(test())


def test_doctor_listens_only_where_an_address_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("EDGECODER_CONFIG", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("edgecoder_drivers.lan.health.speaking_at", lambda chosen: [])
    assert checks() == []
    monkeypatch.setenv("EDGECODER_NODE_COORDINATORS", f"[{'0' * 64}@127.0.0.1:1]")
    assert checks() == []
    monkeypatch.setenv("EDGECODER_NODE_COORDINATORS", f"[{'ab' * 32}]")
    assert [check.ok for check in checks()] == [False]
    monkeypatch.setenv("EDGECODER_NODE_COORDINATORS", "[nonsense]")
    assert checks() == [], "the links' checks say it"


def test_networks_of_ipv6_have_a_length() -> None:
    assert networks._interface("fe80::1%eth0", "ffff:ffff:ffff:ffff::") == ipaddress.ip_interface("fe80::1/64")


@pytest.mark.parametrize("name", [f"x{SERVICE}", f"a\x01b.{SERVICE}", f"{'a' * 64}.{SERVICE}", f"{'é' * 40}.{SERVICE}"])
def test_a_name_that_is_none_ends_nothing(name: str) -> None:
    """Zeroconf would hand it on again with each packet that follows."""

    async def test() -> None:
        zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"])
        names = _Names((), lambda info, at: None)
        names.add_service(zeroconf.zeroconf, SERVICE, name)
        names.names.put_nowait(name)
        asking = asyncio.create_task(names.ask(zeroconf.zeroconf))
        await until(names.names.empty)
        await asyncio.sleep(0)
        assert not asking.done()
        asking.cancel()
        await asyncio.wait({asking})
        await zeroconf.async_close()

    run(test())
