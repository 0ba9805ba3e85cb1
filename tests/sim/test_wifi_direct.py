"""Wi-Fi Direct in a world: who opens links over it, what they carry, and how a channel is shared."""

from __future__ import annotations

from collections import Counter
from typing import cast

import pytest

from edgecoder.core.events import SubmitTask, SwapModel
from edgecoder_sim.checkers import make_checkers
from edgecoder_sim.host import SimNode
from edgecoder_sim.radio import Antennas
from edgecoder_sim.radio_model import Radio, System, WifiDirect
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.watch import TraceSink
from edgecoder_sim.wifi_direct import WifiDirectLink
from edgecoder_sim.world import World
from tests.sim.test_radio import NOTIFIED, SECOND_US, FakeNode, sealed

ROOM = (
    "agents.count=0",
    "coordinators={}",
    "workload={}",
    "phones.count=4",
    "radio.area_m=[5, 5]",
    "phones.devices={phone_mid: 1}",
    "phones.active={qwen2.5-coder-0.5b: 1}",
    "phones.installed={qwen2.5-coder-1.5b: 1, qwen2.5-coder-0.5b: 1}",
    "duration_s=400",
)


class Counts:
    """A sink that counts messages by type and medium."""

    def __init__(self) -> None:
        self.messages: Counter[tuple[str, str]] = Counter()

    def record(self, *_: object) -> None:
        """A trace record."""

    def message(self, type_name: str, medium: str, _: int) -> None:
        """A delivery."""
        self.messages[type_name, medium] += 1

    def command(self, *_: object) -> None:
        """A command."""


def ask(*sets: str, prompt_bytes: int = 100_000) -> tuple[World, Counts]:
    """A room in which one phone asks another, the only one that can, something long; some minutes later."""
    world = World(load_scenario("office", [*ROOM, *sets]), make_checkers(1, "reproduce"))
    counts = Counts()
    world.start_users(cast("TraceSink", counts))
    world.kernel.run(20 * SECOND_US)
    asks, serves, *_ = world.nodes
    serves.post(SwapModel(5, "qwen2.5-coder-1.5b"))
    world.kernel.run(60 * SECOND_US)
    asks.post(SubmitTask(7, prompt="x" * prompt_bytes, max_tokens=20, min_param_size=1.5, deadline_ms=200_000))
    world.kernel.run(400 * SECOND_US)
    world.watch.finish()
    return world, counts


@pytest.mark.parametrize("wire", ["reference", "encoded"])
def test_a_long_prompt_goes_over_wifi_direct_and_the_link_is_let_go(wire: str) -> None:
    world, counts = ask("radio.wifi_direct={}", "devices.phone_mid.systems={android: 1}", f"wire={wire}")
    assert counts.messages["taskRequest", "wifi_direct"] == 1
    assert counts.messages["taskResponse", "wifi_direct"] >= 2
    assert not counts.messages["taskRequest", "ble"]
    assert [sim.name for sim in world.nodes if sim.links] == []


@pytest.mark.parametrize(
    ("sets", "prompt_bytes"),
    [
        ((), 100_000),
        (("radio.wifi_direct={}", "devices.phone_mid.systems={ios: 1}"), 100_000),
        (("radio.wifi_direct={}", "devices.phone_mid.wifi_direct=false"), 100_000),
        (("radio.wifi_direct={}", "devices.phone_mid.systems={android: 1}"), 2_000),
    ],
    ids=["not in the scenario", "iOS", "not in the device", "a short prompt"],
)
def test_where_it_is_not_to_be_had_or_not_worth_it_bluetooth_carries(sets: tuple[str, ...], prompt_bytes: int) -> None:
    _, counts = ask(*sets, prompt_bytes=prompt_bytes)
    assert counts.messages["taskRequest", "ble"] == 1
    assert counts.messages["taskResponse", "ble"] >= 2
    assert {medium for _, medium in counts.messages} == {"ble"}


def test_links_in_range_take_turns_and_others_do_not() -> None:
    wifi = WifiDirect(latency_ms=1.0)
    nodes = [FakeNode(index) for index in range(6)]
    antennas = Antennas(Radio(wifi_direct=wifi), {"desktop": System(wifi_direct=True)})
    for node, near in zip(nodes, [(1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2), (5,), (4,)], strict=True):
        antennas.of(cast("SimNode", node)).near = near

    def link(a: int, b: int) -> WifiDirectLink:
        return WifiDirectLink(a, antennas, cast("SimNode", nodes[a]), cast("SimNode", nodes[b]), -50, wifi)

    arrivals_us = {}
    for pair in ((0, 1), (2, 3), (4, 5)):
        carrier = link(*pair)
        arrivals_us[pair] = carrier.send(cast("SimNode", nodes[pair[0]]), sealed(NOTIFIED, 4_000_000), SECOND_US)
    assert arrivals_us == {(0, 1): 1_101_000, (2, 3): 1_201_000, (4, 5): 1_101_000}  # 32 Mbit at 320 Mbit/s
