"""The mesh of a demo: an origin, two coordinators, and four agents, two of which run llama.cpp themselves and two speak
Ollama's protocol to a stand-in. All are the commands that a user starts, each a process of its own, on loopback.

Decides who is there, and how each is told of the others; what happens then is `story`'s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from edgecoder_drivers.demo.asks import Place
from edgecoder_drivers.demo.processes import Part, Processes, free_port
from edgecoder_drivers.identity import load_identity

HUBS: Final = ("north", "south")


class Member(NamedTuple):
    """An agent or a device, before it runs."""

    name: str
    hub: str
    """Its home; the other coordinator is its spare."""
    is_ollama: bool
    first: str
    """The model that it has first."""

    @property
    def runs_on(self) -> str:
        """Its engine, for people."""
        return "Ollama's protocol" if self.is_ollama else "llama.cpp"


MEMBERS: Final = (
    Member("llama-1", "north", is_ollama=False, first="acorn"),
    Member("ollama-1", "north", is_ollama=True, first="birch"),
    Member("llama-2", "south", is_ollama=False, first="acorn"),
    Member("ollama-2", "south", is_ollama=True, first="cedar"),
)
ORIGIN_KBIT_PER_S: Final = 40_000
PERIOD_MS: Final = 1_000
MISSES_MAX: Final = 30
"""Of anything periodic, before it counts: a machine that has much else to do keeps nodes waiting for seconds."""
CLUSTER: Final = {
    "heartbeat_interval_ms": PERIOD_MS,  # a minute, as in life, would be as long as the whole demo
    "agent_alive_ms": MISSES_MAX * PERIOD_MS,
    "missed_heartbeats_max": MISSES_MAX,
    "summary_interval_ms": PERIOD_MS,
    "summary_periods_max": MISSES_MAX,
    "cdn_kbit_per_s": ORIGIN_KBIT_PER_S,  # nodes are told of a slow origin, so that peers are worth asking
    "cdn_egress_kbit_per_s": ORIGIN_KBIT_PER_S,
}
NODE: Final = {"rehome_misses": MISSES_MAX, "dial_retry_max_ms": PERIOD_MS}


class Starter:
    """Starts the nodes of one demo."""

    def __init__(self, everything: Processes, catalog: Path) -> None:
        self._processes = everything
        self._catalog = catalog
        self.ids = {name: self._identify(name) for name in (*HUBS, *(member.name for member in MEMBERS))}
        """The nodes' ids, in hexadecimal. Keys are made before nodes run, so that coordinators can list them."""
        listed = [f"coordinator {self.ids[name]}" for name in HUBS]
        listed += [f"member {self.ids[member.name]}" for member in MEMBERS]
        self._ports = {name: free_port() for name in HUBS}
        """Nodes have to be told of them before they are up."""
        for name in HUBS:
            (self._folder(name) / "members.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")

    async def hub(self, name: str) -> Place:
        """Start a coordinator; the later dials the earlier."""
        others = HUBS[: HUBS.index(name)]
        options = self._options(name, "server", self._ports[name], others)
        part = self._processes.start(name, ["-m", "edgecoder", "coordinator", *options])
        return await self._place(name, part)

    def stand_in(self, member: Member) -> Part:
        """Start what speaks Ollama's protocol for a member."""
        module = "edgecoder_drivers.demo.ollama_stand_in"
        return self._processes.start(f"stand-in-of-{member.name}", ["-m", module, str(self._models(member))])

    async def member(self, member: Member, cdn: str, stand_in: Part | None) -> Place:
        """Start an agent, beside its stand-in, or a device; `cdn` is the origin's address."""
        hubs = sorted(HUBS, key=lambda hub: hub != member.hub)
        options = [*self._options(member.name, "laptop", 0, hubs), "--cdn", cdn, "--transfer-port", "0"]
        environ = {}
        if stand_in is None:
            command = ["device", "--threads", "1"]
        else:
            host = f"127.0.0.1:{(await stand_in.up())['port']}"
            command, environ = ["agent", "--ollama", host], {"OLLAMA_MODELS": str(self._models(member))}
        part = self._processes.start(member.name, ["-m", "edgecoder", *command, *options], environ)
        return await self._place(member.name, part)

    async def _place(self, name: str, part: Part) -> Place:
        return Place(name, self.ids[name], part, int((await part.up())["port"]))

    def _identify(self, name: str) -> str:
        self._folder(name).mkdir()
        return load_identity(self._folder(name) / "node.key").node_id.hex()

    def _options(self, name: str, preset: str, port: int, hubs: Sequence[str]) -> list[str]:
        """What each node is told: where its things lie, and a configuration of its own in place of its user's. The
        first of its coordinators is its home."""
        coordinators = [f"{self.ids[hub]}@127.0.0.1:{self._ports[hub]}" for hub in hubs]
        told = {"preset": preset, "cluster": CLUSTER, "node": {**NODE, "coordinators": coordinators}}
        file = self._folder(name) / "config.yaml"
        file.write_text(json.dumps(told), encoding="utf-8")
        where = ["--data", str(self._folder(name)), "--port", str(port)]
        return [*where, "--config", str(file), "--catalog", str(self._catalog)]

    def _folder(self, name: str) -> Path:
        return self._processes.folder / name

    def _models(self, member: Member) -> Path:
        return self._processes.folder / f"stand-in-of-{member.name}"
