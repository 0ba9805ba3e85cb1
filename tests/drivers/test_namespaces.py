"""Nodes on networks of their own: a coordinator on the internet, and devices in homes whose router lets nobody in.

Each node is a process as its user begins it, on a host with an address of its own, so that links are TLS and nothing is
on loopback. Not collected where such networks cannot be made (`namespaces.why_not`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.identity import load_identity
from tests.drivers.coordinator_process import QUICK, CoordinatorProcess
from tests.drivers.device_process import DeviceProcess, make_models
from tests.drivers.namespaces import HOME, ROAD, Host, Network, network
from tests.drivers.test_coordinator_process import edgecoder, eventually
from tests.files import hashes_of

HUB = f"{ROAD}.1"


class Coordinator:
    """A coordinator on a host."""

    def __init__(self, host: Host, address: str, folder: Path, *more: str) -> None:
        self._host = host
        options = ("--host", address, "--catalog", str(folder / "catalog.json"), *more)
        self._process = host.do(lambda: CoordinatorProcess(folder / "hub", *options))
        self.node = self._process.wait().node
        self.address = f"{self.node}@{address}:{self._process.port}"
        self.invite = self._process.invite
        self.end = self._process.kill
        self.log = self._process.log


class Device:
    """A device on a host."""

    def __init__(self, host: Host, folder: Path, towards: str, *more: str) -> None:
        self.host = host
        options = (*QUICK, "--coordinator", towards, *more)
        self._process = host.do(lambda: DeviceProcess(folder, *options)).wait()
        self.node = load_identity(folder / "data" / "node.key").node_id.hex()
        self.import_model = self._within(self._process.import_model)
        self.swap = self._within(self._process.swap)
        self.status = self._within(self._process.status)
        self.metrics = self._within(self._process.metrics)
        self.end = self._process.kill

    def _within(self, what: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: self.host.do(partial(what, *given))

    def task(self, model: str) -> tuple[int, Any]:
        """Ask it for something of a model."""
        value = {"prompt": "add", "model": model, "maxTokens": 4}
        return self.host.do(lambda: self._process.ask("POST", "/task", value))

    def pull(self, model: str) -> Future[tuple[int, Any]]:
        """Begin to fetch a model."""
        return self.host.begin(lambda: self._process.ask("POST", "/model/pull", {"model": model}))

    def pieces(self, source: str) -> tuple[int, int]:
        """How many it has kept, and their bytes that came from there."""
        said = self.metrics()
        return int(said["edgecoder_piece_kept_total"]), int(said[f'edgecoder_piece_bytes_total{{source="{source}"}}'])

    def is_linked(self) -> bool:
        """Whether it has a home coordinator."""
        return bool(self.status()["online"])


class World:
    """What a test has on its road."""

    def __init__(self, road: Network, folder: Path, stack: ExitStack) -> None:
        self.road = road
        self.folder = folder
        self.stack = stack
        self.hub = road.on_road("hub", 1)
        self.router = road.home("router", 10)

    def make_models(self, count: int, shape: str = "nano") -> list[CatalogEntry]:
        """Models that can be exchanged piece by piece."""
        entries = make_models(self.folder, count, shape)
        files = [(self.folder / f"{entry.model_id}.gguf").read_bytes() for entry in entries]
        roots = [hashes_of(entry.layout, file).root.hex() for entry, file in zip(entries, files, strict=True)]
        whole = [msgspec.structs.replace(entry, piece_root=root) for entry, root in zip(entries, roots, strict=True)]
        (self.folder / "catalog.json").write_bytes(msgspec.json.encode(whole))
        return whole

    def coordinator(self, host: Host, address: str, *more: str) -> Coordinator:
        """Begin a coordinator."""
        begun = Coordinator(host, address, self.folder, *more)
        self.stack.callback(begun.end)
        return begun

    def device(self, host: Host, hub: Coordinator, *more: str, towards: str = "") -> Device:
        """Begin a device that the coordinator lets in, and wait for its link."""
        folder = self.folder / host.name
        folder.mkdir()
        for path in (self.folder / "catalog.json", *self.folder.glob("*.gguf")):
            shutil.copy(path, folder)
        begun = Device(host, folder, towards or hub.address, "--join", hub.invite(), *more)
        self.stack.callback(begun.end)
        eventually(begun.is_linked)
        return begun


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with network() as road, ExitStack() as stack:
        yield World(road, tmp_path, stack)


def test_behind_a_router_with_nat_a_device_asks_and_answers(world: World) -> None:
    """It dials; tasks of others come over its own link."""
    world.make_models(2)
    hub = world.coordinator(world.hub, HUB)
    home = world.device(world.road.at_home(world.router, "laptop", 2), hub)
    street = world.device(world.road.on_road("phone", 20), hub)
    for number, each in enumerate((home, street)):
        assert each.import_model(number)[0] == 200
        assert each.swap(number)[0] == 200
    for asking, model, answering in ((home, "tiny-1", street), (street, "tiny-0", home)):
        status, answer = eventually(partial(answered, asking, model))
        assert (status, answer["servedBy"]) == (200, answering.node)


def answered(device: Device, model: str) -> tuple[int, Any] | None:
    """The answer of a task, once somebody is known who can give it."""
    status, answer = device.task(model)
    return (status, answer) if status == 200 else None


def test_a_model_leaves_a_home_that_lets_nobody_in(world: World) -> None:
    """Who wants it cannot dial who has it; so it is dialled by it. There is no origin."""
    (entry,) = world.make_models(1, "small")
    hub = world.coordinator(world.hub, HUB)
    home = world.device(world.road.at_home(world.router, "laptop", 2), hub)
    street = world.device(world.road.on_road("phone", 20), hub)
    assert home.import_model(0)[0] == 200
    status, answer = street.pull(entry.model_id).result()
    assert status == 200, answer
    assert street.pieces("mesh")[1] == entry.file_size_bytes
    assert home.metrics()['edgecoder_peer_dialled_total{reason="none"}'] == 1


def test_two_behind_one_router_reach_each_other(world: World) -> None:
    """The addresses that they tell are those of their home."""
    (entry,) = world.make_models(1)
    hub = world.coordinator(world.hub, HUB)
    first = world.device(world.road.at_home(world.router, "laptop", 2), hub)
    assert first.import_model(0)[0] == 200
    second = world.device(world.road.at_home(world.router, "desk", 3), hub)
    status, answer = second.pull(entry.model_id).result()
    assert status == 200, answer
    assert second.pieces("mesh")[1] == entry.file_size_bytes


def test_a_cable_that_is_pulled_in_the_middle_costs_no_piece_twice(world: World) -> None:
    """Nobody is told: what is sent is lost, and no connection is closed. What came and was right is kept."""
    (entry,) = world.make_models(1, "medium")
    hub = world.coordinator(world.hub, HUB)
    home = world.device(world.road.at_home(world.router, "laptop", 2), hub, "--set", "node.upload_kbit_per_s=20000")
    street = world.device(world.road.on_road("phone", 20), hub)
    assert home.import_model(0)[0] == 200
    pulling = street.pull(entry.model_id)
    eventually(lambda: street.pieces("mesh")[0] > 3)
    world.road.cut(home.host, "eth0")
    before, _ = street.pieces("mesh")
    assert before < entry.layout.piece_count, "there is no middle"
    eventually(lambda: not home.is_linked())
    world.road.cut(home.host, "eth0", on=False)
    eventually(home.is_linked)
    status, answer = pulling.result()
    assert status == 200, answer
    assert street.pieces("mesh") == (entry.layout.piece_count, entry.file_size_bytes)


def test_a_router_that_gets_another_address_costs_a_link_and_nothing_else(world: World) -> None:
    """As many get one every night. The old connection is not closed: its packets lead nowhere."""
    world.make_models(1)
    hub = world.coordinator(world.hub, HUB)
    home = world.device(world.road.at_home(world.router, "laptop", 2), hub)
    street = world.device(world.road.on_road("phone", 20), hub)
    assert home.import_model(0)[0] == 200
    assert home.swap(0)[0] == 200
    world.router.ip("address", "del", f"{ROAD}.10/24", "dev", "wan")
    eventually(lambda: not home.is_linked())
    world.router.ip("address", "add", f"{ROAD}.11/24", "dev", "wan")
    eventually(home.is_linked)
    status, answer = eventually(partial(answered, street, "tiny-0"))
    assert (status, answer["servedBy"]) == (200, home.node)


def test_at_home_a_coordinator_is_found_by_its_id_alone(world: World) -> None:
    """By the multicast of a network, without anything of loopback; and not from outside."""
    world.make_models(1)
    desk = world.road.at_home(world.router, "desk", 3)
    hub = world.coordinator(desk, f"{HOME}.3")
    home = world.device(world.road.at_home(world.router, "laptop", 2), hub, towards=hub.node)
    assert home.status()["coordinators"][0]["endpoint"] == hub.address.partition("@")[2]
    find = partial(edgecoder, "coordinator", "find")
    assert home.host.do(find).stdout == f"{hub.address}\n"
    assert world.road.on_road("phone", 20).do(find).returncode == 1
